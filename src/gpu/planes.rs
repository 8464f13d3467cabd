//! Tensors between the host and the kernels: they cross as planes, without padding lanes, and the device changes the layout. A
//! grey picture is a quarter of what is stored, and the host does not touch every pixel.

use super::buffer::{Arena, Home};
use super::device::Context;
use super::pipeline::Precision;
use super::submit::{Launch, launch};
use crate::error::Result;
use crate::ops::dispatch::{Dispatch, Shader, params};
use crate::ops::{Place, to_u32};
use crate::tensor::{HostTensor, Shape};

params! {
    struct Params { pixels: u32, groups: u32, channels: u32, row: u32, padding: f32 }
}

/// The kernels that change the layout.
pub(super) static IMPORT: Shader = Shader {
    name: "import_planes",
    source: include_str!("../../shaders/import_planes.wgsl"),
    library: &[],
    params: Params::FIELDS,
};
pub(super) static EXPORT: Shader = Shader {
    name: "export_planes",
    source: include_str!("../../shaders/export_planes.wgsl"),
    library: &[],
    params: Params::FIELDS,
};

/// Invocations of a workgroup.
const INVOCATIONS: u32 = 64;
/// Workgroups of a row of the grid.
const ROW: u32 = 32768;
/// Where tensors start in a buffer.
const ALIGNMENT: u64 = 256;

/// One tensor's planes.
pub(super) struct Part {
    /// Where it is as the kernels have it.
    slot: usize,
    pub(super) shape: Shape,
    /// First byte of its planes.
    pub(super) offset: u64,
}

impl Part {
    /// Bytes that are moved: whole words.
    pub(super) fn bytes(&self, precision: Precision) -> u64 {
        plane_bytes(self.shape, precision)
    }
}

fn plane_bytes(shape: Shape, precision: Precision) -> u64 {
    ((shape.channels * shape.height * shape.width) as u64 * precision.bytes()).next_multiple_of(4)
}

/// A plan's inputs or results as planes, one after another in a buffer that the kernels do not need then.
pub(super) struct Planes {
    pub(super) home: Home,
    pub(super) parts: Vec<Part>,
    /// For each tensor the launch that changes its layout.
    pub(super) launches: Vec<Launch>,
}

/// Bytes of all `tensors`, `(slot, place)`, together.
pub(super) fn total_bytes(tensors: &[(usize, Place)], precision: Precision) -> u64 {
    tensors.iter().map(|(_, place)| plane_bytes(place.shape, precision).next_multiple_of(ALIGNMENT)).sum()
}

/// What [`IMPORT`] or [`EXPORT`] is launched with for every tensor; `padding` is for padding lanes.
pub(super) fn dispatches(shader: &'static Shader, tensors: &[(usize, Place)], padding: f32) -> Result<Vec<Dispatch>> {
    let dispatch = |(_, place): &(usize, Place)| {
        let shape = place.shape;
        let (pixels, groups) = (to_u32(shape.pixels()?)?, to_u32(shape.channel_groups())?);
        let workgroups = pixels.div_ceil(INVOCATIONS);
        let row = workgroups.clamp(1, ROW);
        Ok(Dispatch {
            shader,
            constants: Vec::new(),
            params: Params { pixels, groups, channels: to_u32(shape.channels)?, row, padding }.bytes(),
            bindings: Vec::new(),
            workgroups: [row, workgroups.div_ceil(row), groups],
        })
    };
    tensors.iter().map(dispatch).collect()
}

impl Planes {
    /// Planes of `tensors` with their `dispatches`, whose parameters are at `offsets` of `params`.
    pub(super) fn new(
        context: &Context,
        precision: Precision,
        arena: &Arena,
        tensors: &[(usize, Place)],
        dispatches: &[Dispatch],
        (params, offsets): (&wgpu::Buffer, &[u64]),
    ) -> Result<Self> {
        let home = arena.home(tensors, precision);
        let (mut parts, mut launches, mut offset) = (Vec::new(), Vec::new(), 0);
        for (((slot, place), dispatch), at) in tensors.iter().zip(dispatches).zip(offsets) {
            let part = Part { slot: *slot, shape: place.shape, offset };
            let stored = arena.binding(part.slot, part.shape, precision);
            let planes = arena.planes(home, offset, part.bytes(precision))?;
            let is_import = std::ptr::eq(dispatch.shader, &IMPORT);
            let resources = if is_import { [planes, stored] } else { [stored, planes] };
            launches.push(launch(context, precision, dispatch, (params, *at), resources)?);
            offset += part.bytes(precision).next_multiple_of(ALIGNMENT);
            parts.push(part);
        }
        Ok(Self { home, parts, launches })
    }

    /// Writes the inputs' planes.
    pub(super) fn upload(
        &self,
        context: &Context,
        precision: Precision,
        arena: &Arena,
        tensors: &[HostTensor],
    ) -> Result<()> {
        for (part, tensor) in self.parts.iter().zip(tensors) {
            let (buffer, start) = arena.buffer(self.home)?;
            context.queue().write_buffer(buffer, start + part.offset, &precision.encode(tensor.data()));
        }
        Ok(())
    }
}
