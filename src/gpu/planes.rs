//! Tensors between the host and the kernels: they cross as planes, without padding lanes, and the device changes the layout. A
//! grey picture is a quarter of what is stored, and the host does not touch every pixel.

use super::buffer::{self, Arena, Home};
use super::device::Context;
use super::pipeline::Precision;
use super::submit::{Launch, launch};
use crate::error::Result;
use crate::ops::dispatch::{Dispatch, Shader, line_grid, params};
use crate::ops::{Place, to_u32};
use crate::tensor::Shape;

params! {
    struct Import { pixels: u32, groups: u32, channels: u32, row: u32, padding: f32 }
}
params! {
    struct Export { pixels: u32, groups: u32, channels: u32, row: u32 }
}

/// The kernels that change the layout.
pub(super) static IMPORT: Shader = Shader {
    name: "import_planes",
    source: include_str!("../../shaders/import_planes.wgsl"),
    library: &[],
    params: Import::FIELDS,
};
pub(super) static EXPORT: Shader = Shader {
    name: "export_planes",
    source: include_str!("../../shaders/export_planes.wgsl"),
    library: &[],
    params: Export::FIELDS,
};

/// Bytes of a tensor's planes, in whole words. No more than it takes as the kernels have it.
pub(super) fn bytes(shape: Shape, precision: Precision) -> u64 {
    ((shape.channels * shape.height * shape.width) as u64 * precision.bytes()).next_multiple_of(4)
}

/// One tensor's planes.
pub(super) struct Planes {
    home: Home,
    pub(super) shape: Shape,
}

impl Planes {
    /// The buffer that they are in, the first byte, and how many.
    ///
    /// # Errors
    /// As [`Arena::home_buffer`].
    pub(super) fn buffer<'a>(&self, arena: &'a Arena, precision: Precision) -> Result<(&'a wgpu::Buffer, u64, u64)> {
        let (buffer, start) = arena.home_buffer(self.home)?;
        Ok((buffer, start, bytes(self.shape, precision)))
    }
}

/// A plan's inputs or results as planes, and the launches that change their layout.
pub(super) struct Crossing {
    pub(super) planes: Vec<Planes>,
    pub(super) launches: Vec<Launch>,
}

/// What is compiled for either way.
pub(super) fn kernels() -> [Dispatch; 2] {
    [&IMPORT, &EXPORT].map(|shader| dispatch(shader, Vec::new(), [0; 3]))
}

fn dispatch(shader: &'static Shader, params: Vec<u8>, workgroups: [u32; 3]) -> Dispatch {
    Dispatch { shader, constants: Vec::new(), params, bindings: Vec::new(), workgroups }
}

impl Crossing {
    /// That of `tensors`, slots and places, to the device with [`IMPORT`] or back with [`EXPORT`]. [`Arena::fit_planes`] has made
    /// place for them.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if a size does not fit the kernels' 32-bit arithmetic.
    pub(super) fn new(
        context: &Context,
        precision: Precision,
        arena: &Arena,
        shader: &'static Shader,
        tensors: &[(usize, Place)],
    ) -> Result<Self> {
        let is_import = std::ptr::eq(shader, &IMPORT);
        let launched = |(_, place): &(usize, Place)| {
            let (pixels, groups) = (to_u32(place.shape.pixels()?)?, to_u32(place.shape.channel_groups())?);
            let channels = to_u32(place.shape.channels)?;
            let (row, workgroups) = line_grid(pixels, groups);
            let params = if is_import {
                Import { pixels, groups, channels, row, padding: arena.padding() }.bytes()
            } else {
                Export { pixels, groups, channels, row }.bytes()
            };
            Ok(dispatch(shader, params, workgroups))
        };
        let dispatches: Vec<Dispatch> = tensors.iter().map(launched).collect::<Result<_>>()?;
        let (params, offsets) = buffer::params(context, &dispatches);
        let (mut planes, mut launches) = (Vec::new(), Vec::new());
        for ((((slot, place), home), dispatch), offset) in
            tensors.iter().zip(arena.homes(tensors, precision)).zip(&dispatches).zip(offsets)
        {
            let one = Planes { home, shape: place.shape };
            let (buffer, start, bytes) = one.buffer(arena, precision)?;
            let binding = wgpu::BufferBinding { buffer, offset: start, size: wgpu::BufferSize::new(bytes) };
            let stored = arena.binding(*slot, place.shape, precision);
            let flat = wgpu::BindingResource::Buffer(binding);
            let resources = if is_import { [flat, stored] } else { [stored, flat] };
            launches.push(launch(context, precision, dispatch, (&params, offset), resources)?);
            planes.push(one);
        }
        Ok(Self { planes, launches })
    }
}
