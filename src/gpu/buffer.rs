//! Buffers: weights, kernel parameters, and the arena of activation slots that runs share.

use super::device::Context;
use super::pipeline::Precision;
use std::collections::HashMap;

use super::planes;
use crate::error::{Error, Result};
use crate::graph::Plan;
use crate::ops::dispatch::scratch;
use crate::ops::{Binding, Dispatch, Place};
use crate::tensor::Shape;

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

/// Where planes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// An activation slot.
    Slot(usize),
    /// Scratch memory of this index.
    Scratch(usize),
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

    /// Bytes and number of the buffers.
    pub(super) fn held(&self) -> (u64, usize) {
        let sizes = self.slots.iter().chain(self.scratch.iter().flatten()).map(wgpu::Buffer::size);
        sizes.fold((0, 0), |(bytes, count), size| (bytes + size, count + 1))
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
            if let Binding::Scratch { index, elements } = *binding {
                changed |= self.fit_one(context, index, elements * precision.bytes());
            }
        }
        changed
    }

    /// Makes one scratch buffer large enough; true if it changed.
    fn fit_one(&mut self, context: &Context, index: usize, bytes: u64) -> bool {
        if self.scratch.len() <= index {
            self.scratch.resize(index + 1, None);
        }
        let bytes = bytes.next_multiple_of(256) + 2 * self.guard.bytes;
        if self.scratch[index].as_ref().is_some_and(|buffer| buffer.size() >= bytes) {
            return false;
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let buffer = context.create_buffer("scratch", bytes, usage);
        if let Some(small) = self.scratch[index].replace(buffer) {
            small.destroy();
        }
        true
    }

    /// # Errors
    /// As [`Arena::scratch_buffer`].
    pub(super) fn scratch(
        &self,
        index: usize,
        elements: u64,
        precision: Precision,
    ) -> Result<wgpu::BindingResource<'_>> {
        let buffer = self.scratch_buffer(index)?;
        let size = wgpu::BufferSize::new(elements * precision.bytes());
        Ok(wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: self.guard.bytes, size }))
    }

    /// # Errors
    /// [`Error::Device`] if it was never made.
    fn scratch_buffer(&self, index: usize) -> Result<&wgpu::Buffer> {
        let buffer = self.scratch.get(index).and_then(Option::as_ref);
        buffer.ok_or_else(|| Error::Device("a kernel asks for scratch memory that is not there".into()))
    }

    pub(super) fn binding(&self, slot: usize, shape: Shape, precision: Precision) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.slots[slot],
            offset: self.guard.bytes,
            size: wgpu::BufferSize::new(stored_bytes(shape, precision)),
        })
    }

    /// What padding lanes of uploaded tensors hold.
    pub(super) fn padding(&self) -> f32 {
        // With a guard they are huge: a kernel that depends on them gives itself away.
        if self.guard.bytes > 0 { 6e4 } else { 0.0 }
    }

    /// Makes memory for the planes of `plan`'s inputs and results where no slot can hold them; true if a buffer changed.
    pub(super) fn fit_planes(&mut self, context: &Context, plan: &Plan, precision: Precision) -> bool {
        let mut changed = false;
        for tensors in [&plan.inputs, &plan.outputs] {
            for (home, (_, place)) in self.homes(tensors, precision).into_iter().zip(tensors) {
                if let Home::Scratch(index) = home {
                    changed |= self.fit_one(context, index, planes::bytes(place.shape, precision));
                }
            }
        }
        changed
    }

    /// Where the planes of each of `tensors` are kept. With a guard never in a slot: those keep what they were filled with.
    pub(super) fn homes(&self, tensors: &[(usize, Place)], precision: Precision) -> Vec<Home> {
        let slots = if self.guard.bytes > 0 { &[] } else { &self.slots[..] };
        homes(slots.iter().map(wgpu::Buffer::size), tensors, precision)
    }

    /// The buffer that planes are in, and where they begin.
    ///
    /// # Errors
    /// [`Error::Device`] if [`Arena::fit_planes`] was not told of them.
    pub(super) fn home_buffer(&self, home: Home) -> Result<(&wgpu::Buffer, u64)> {
        match home {
            Home::Slot(slot) => Ok((&self.slots[slot], self.guard.bytes)),
            Home::Scratch(index) => Ok((self.scratch_buffer(index)?, self.guard.bytes)),
        }
    }

    /// Copies of the zones before and after each of `plan`'s slots and all scratch memory, ready to be mapped.
    pub(super) fn copy_guards(&self, context: &Context, plan: &Plan) -> (Vec<wgpu::Buffer>, wgpu::SubmissionIndex) {
        let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut copies = Vec::new();
        for slot in self.slots[..plan.slots.len()].iter().chain(self.scratch.iter().flatten()) {
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

/// Where the planes of each of `tensors` are kept: in the smallest slot that none of them needs and that holds them, else in
/// scratch memory.
fn homes(slots: impl Iterator<Item = u64>, tensors: &[(usize, Place)], precision: Precision) -> Vec<Home> {
    let is_free = |slot: &(usize, u64)| tensors.iter().all(|(taken, _)| *taken != slot.0);
    let mut free: Vec<(usize, u64)> = slots.enumerate().filter(is_free).collect();
    free.sort_by_key(|&(_, bytes)| bytes);
    let home = |(index, (_, place)): (usize, &(usize, Place))| {
        let needed = planes::bytes(place.shape, precision);
        let fitting = free.iter().position(|&(_, bytes)| bytes >= needed);
        fitting.map_or(Home::Scratch(scratch::PLANES + index), |at| Home::Slot(free.remove(at).0))
    };
    tensors.iter().enumerate().map(home).collect()
}

/// What an arena for nothing but `plan` and its `dispatches` takes: slots, scratch memory, and planes for which there is no slot.
pub(super) fn arena_bytes<'d>(
    plan: &Plan,
    dispatches: impl IntoIterator<Item = &'d Dispatch>,
    precision: Precision,
) -> u64 {
    let mut scratch: HashMap<usize, u64> = HashMap::new();
    let mut keep = |index, bytes: u64| {
        let largest = scratch.entry(index).or_default();
        *largest = (*largest).max(bytes);
    };
    for binding in dispatches.into_iter().flat_map(|dispatch| &dispatch.bindings) {
        if let Binding::Scratch { index, elements } = *binding {
            keep(index, elements * precision.bytes());
        }
    }
    let slots = || plan.slots.iter().map(|&elements| elements as u64 * precision.bytes());
    for tensors in [&plan.inputs, &plan.outputs] {
        for (home, (_, place)) in homes(slots(), tensors, precision).into_iter().zip(tensors) {
            if let Home::Scratch(index) = home {
                keep(index, planes::bytes(place.shape, precision));
            }
        }
    }
    slots().sum::<u64>() + scratch.into_values().sum::<u64>()
}

/// Bytes of a tensor as stored; a plan already checked that they can be addressed.
pub(super) fn stored_bytes(shape: Shape, precision: Precision) -> u64 {
    (shape.height * shape.width * shape.padded_channels()) as u64 * precision.bytes()
}

/// What is on its way to the device at a time.
const PIECE_BYTES: usize = 4 << 20;

/// Uploads weights. wgpu keeps a copy of what is written until the device has it: outside browsers, where it may wait, there is
/// never one of all weights.
pub(super) struct Upload<'a> {
    context: &'a Context,
    /// Bytes written since it last waited.
    pending: usize,
}

impl<'a> Upload<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self { context, pending: 0 }
    }

    /// A buffer of packed weights.
    ///
    /// # Errors
    /// As [`Upload::finish`].
    pub(super) fn weights(&mut self, label: &str, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let size = bytes.len().next_multiple_of(16) as u64;
        self.buffer(label, size, wgpu::BufferUsages::STORAGE, bytes)
    }

    /// A buffer of blocks of weights.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the device has no buffers of that size, and as [`Upload::finish`].
    pub(super) fn blocks(&mut self, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let size = bytes.len() as u64;
        if size > self.context.device().limits().max_buffer_size {
            return Err(Error::OutOfMemory { bytes: size });
        }
        self.buffer("blocks of weights", size, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE, bytes)
    }

    /// Waits for the last of them.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and [`Error::Device`] as the device reports them.
    pub(super) fn finish(mut self) -> Result<()> {
        self.flush()
    }

    fn buffer(&mut self, label: &str, size: u64, usage: wgpu::BufferUsages, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let buffer = self.context.create_buffer(label, size, usage | wgpu::BufferUsages::COPY_DST);
        for (index, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
            if self.pending + piece.len() > PIECE_BYTES {
                self.flush()?;
            }
            self.context.queue().write_buffer(&buffer, (index * PIECE_BYTES) as u64, piece);
            self.pending += piece.len();
        }
        Ok(buffer)
    }

    fn flush(&mut self) -> Result<()> {
        self.pending = 0;
        self.context.flush()
    }
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
    (bytes, offsets)
}

/// A uniform buffer of all launches' `Params`, and the offset of each.
pub(super) fn params<'d>(
    context: &Context,
    dispatches: impl IntoIterator<Item = &'d Dispatch>,
) -> (wgpu::Buffer, Vec<u64>) {
    let (mut bytes, offsets) = params_bytes(context, dispatches);
    // No buffer is empty.
    bytes.resize(bytes.len().max(16), 0);
    let buffer =
        context.create_buffer("params", bytes.len() as u64, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
    context.queue().write_buffer(&buffer, 0, &bytes);
    (buffer, offsets)
}
