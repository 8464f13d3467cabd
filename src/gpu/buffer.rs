//! Buffers: weights, kernel parameters, and the arena of activation slots that runs share.

use super::device::Context;
use super::pipeline::Precision;
use crate::error::{Error, Result};
use crate::graph::Plan;
use crate::ops::{Binding, Dispatch};
use crate::tensor::{HostTensor, Shape};

/// Memory around every activation, filled before each run, to catch kernels that read or write outside their tensors.
/// Empty except in tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guard {
    /// Bytes before and after each activation; a multiple of 256.
    pub bytes: u64,
}

impl Guard {
    /// What an activation and the zone around it hold before a run: a NaN, so that an element that is read from outside
    /// or never written shows in the result.
    pub(super) const PATTERN: u8 = 0xff;
}

/// The activation slots, and what operators use between their launches.
pub(super) struct Arena {
    slots: Vec<wgpu::Buffer>,
    /// By index; those that no operator named yet are missing.
    scratch: Vec<Option<wgpu::Buffer>>,
    guard: Guard,
}

impl Arena {
    pub(super) fn new(guard: Guard) -> Self {
        Self { slots: Vec::new(), scratch: Vec::new(), guard }
    }

    /// Makes every slot large enough for `plan`; true if a buffer changed.
    pub(super) fn fit(&mut self, context: &Context, plan: &Plan, precision: Precision) -> bool {
        let mut changed = false;
        for (index, &elements) in plan.slots.iter().enumerate() {
            let bytes = (elements as u64 * precision.bytes()).next_multiple_of(256) + 2 * self.guard.bytes;
            match self.slots.get(index) {
                Some(slot) if slot.size() >= bytes => continue,
                Some(_) => self.slots[index].destroy(),
                None => {}
            }
            let buffer = context.create_buffer(
                "activation slot",
                bytes,
                wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            );
            changed = true;
            if index < self.slots.len() {
                self.slots[index] = buffer;
            } else {
                self.slots.push(buffer);
            }
        }
        changed
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.scratch.clear();
    }

    /// Makes the scratch memory large enough for `dispatches`; true if a buffer changed.
    pub(super) fn fit_scratch<'d>(
        &mut self,
        context: &Context,
        dispatches: impl IntoIterator<Item = &'d Dispatch>,
        precision: Precision,
    ) -> bool {
        let mut changed = false;
        for binding in dispatches.into_iter().flat_map(|dispatch| &dispatch.bindings) {
            let Binding::Scratch { index, elements } = *binding else { continue };
            let bytes = (elements * precision.bytes()).next_multiple_of(256);
            if self.scratch.len() <= index {
                self.scratch.resize(index + 1, None);
            }
            if self.scratch[index].as_ref().is_some_and(|buffer| buffer.size() >= bytes) {
                continue;
            }
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
            let buffer = context.create_buffer("scratch", bytes, usage);
            if let Some(small) = self.scratch[index].replace(buffer) {
                small.destroy();
            }
            changed = true;
        }
        changed
    }

    /// # Errors
    /// [`Error::Device`] if [`Arena::fit_scratch`] was not told of it.
    pub(super) fn scratch(
        &self,
        index: usize,
        elements: u64,
        precision: Precision,
    ) -> Result<wgpu::BindingResource<'_>> {
        let buffer = self.scratch.get(index).and_then(Option::as_ref);
        Ok(wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: buffer.ok_or_else(|| Error::Device("a kernel asks for scratch memory that is not there".into()))?,
            offset: 0,
            size: wgpu::BufferSize::new(elements * precision.bytes()),
        }))
    }

    pub(super) fn binding(&self, slot: usize, shape: Shape, precision: Precision) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.slots[slot],
            offset: self.guard.bytes,
            size: wgpu::BufferSize::new(stored_bytes(shape, precision)),
        })
    }

    pub(super) fn slot(&self, slot: usize) -> (&wgpu::Buffer, u64) {
        (&self.slots[slot], self.guard.bytes)
    }

    pub(super) fn upload(
        &self,
        context: &Context,
        slot: usize,
        shape: Shape,
        tensor: &HostTensor,
        precision: Precision,
    ) {
        // With a guard the padding lanes are huge: a kernel that depends on them gives itself away.
        let padding = if self.guard.bytes > 0 { 6e4 } else { 0.0 };
        let bytes = precision.pack(tensor, padding);
        debug_assert_eq!(bytes.len() as u64, stored_bytes(shape, precision));
        context.queue().write_buffer(&self.slots[slot], self.guard.bytes, &bytes);
    }

    /// Copies of the zones before and after each of `plan`'s slots, ready to be mapped.
    pub(super) fn copy_guards(&self, context: &Context, plan: &Plan) -> (Vec<wgpu::Buffer>, wgpu::SubmissionIndex) {
        let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut copies = Vec::new();
        for slot in &self.slots[..plan.slots.len()] {
            for offset in [0, slot.size() - self.guard.bytes] {
                let copy = context.create_buffer(
                    "guard zone",
                    self.guard.bytes,
                    wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                );
                encoder.copy_buffer_to_buffer(slot, offset, &copy, 0, self.guard.bytes);
                copies.push(copy);
            }
        }
        let submission = context.queue().submit([encoder.finish()]);
        (copies, submission)
    }

    /// Fills slots, guard zones and scratch memory; nothing to do without a guard.
    pub(super) fn fill_guards(&self, context: &Context, plan: &Plan) {
        if self.guard.bytes > 0 {
            for slot in self.slots[..plan.slots.len()].iter().chain(self.scratch.iter().flatten()) {
                context.queue().write_buffer(slot, 0, &vec![Guard::PATTERN; slot.size() as usize]);
            }
        }
    }
}

/// Bytes of a tensor as stored; a plan already checked that they can be addressed.
pub(super) fn stored_bytes(shape: Shape, precision: Precision) -> u64 {
    (shape.height * shape.width * shape.padded_channels()) as u64 * precision.bytes()
}

/// A buffer of packed weights.
///
/// # Errors
/// As [`write`].
pub(super) fn weights(context: &Context, label: &str, bytes: &[u8]) -> Result<wgpu::Buffer> {
    let buffer = context.create_buffer(
        label,
        bytes.len().next_multiple_of(16) as u64,
        wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
    );
    write(context, &buffer, bytes)?;
    Ok(buffer)
}

/// What is uploaded at a time.
pub(super) const PIECE_BYTES: usize = 4 << 20;

/// A buffer of blocks of weights.
///
/// # Errors
/// [`Error::OutOfMemory`] if the device has no buffers of that size, and as [`write`].
pub(super) fn blocks(context: &Context, bytes: &[u8]) -> Result<wgpu::Buffer> {
    let size = bytes.len() as u64;
    if size > context.device().limits().max_buffer_size {
        return Err(Error::OutOfMemory { bytes: size });
    }
    let buffer = context.create_buffer(
        "blocks of weights",
        size,
        wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
    );
    write(context, &buffer, bytes)?;
    Ok(buffer)
}

/// Writes weights. wgpu keeps a copy of what is written until the device has it: there is never one of all weights.
///
/// # Errors
/// [`Error::DeviceLost`] if the device is lost meanwhile.
fn write(context: &Context, buffer: &wgpu::Buffer, bytes: &[u8]) -> Result<()> {
    for (index, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
        context.queue().write_buffer(buffer, (index * PIECE_BYTES) as u64, piece);
        if piece.len() == PIECE_BYTES {
            context.flush()?;
        }
    }
    Ok(())
}

/// All launches' `Params` in one run of bytes, and the aligned offset of each.
pub(super) fn params_bytes<'d>(
    context: &Context,
    dispatches: impl IntoIterator<Item = &'d Dispatch>,
) -> (Vec<u8>, Vec<u64>) {
    let step = context.device().limits().min_uniform_buffer_offset_alignment as usize;
    let mut bytes = Vec::new();
    let mut offsets = Vec::new();
    for dispatch in dispatches {
        offsets.push(bytes.len() as u64);
        bytes.extend_from_slice(&dispatch.params);
        bytes.resize(bytes.len().next_multiple_of(step), 0);
    }
    bytes.resize(bytes.len().max(step), 0);
    (bytes, offsets)
}

/// A uniform buffer of all launches' `Params`, and the offset of each.
pub(super) fn params<'d>(
    context: &Context,
    dispatches: impl IntoIterator<Item = &'d Dispatch>,
) -> (wgpu::Buffer, Vec<u64>) {
    let (bytes, offsets) = params_bytes(context, dispatches);
    let buffer =
        context.create_buffer("params", bytes.len() as u64, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
    context.queue().write_buffer(&buffer, 0, &bytes);
    (buffer, offsets)
}
