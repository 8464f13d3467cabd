//! Tensors of the host on their way to the device: written to mapped memory that is kept from run to run. (What wgpu's queue writes
//! passes through a buffer made for it.)

use std::sync::{Arc, Mutex, MutexGuard};

use rayon::prelude::*;

use super::device::Context;
use super::pipeline::Precision;
use super::submit::Copied;
use crate::error::{Error, Result, lock};
use crate::tensor::PIECE;

/// Runs that have something on its way at once: one is written while the device works on the one before.
const RUNS: usize = 2;

/// Buffers that the host writes and the device copies from, all of the size of the largest tensor so far.
pub(super) struct Uploads {
    pool: Arc<Mutex<Pool>>,
    /// Buffers of so many runs at once.
    usual: usize,
}

#[derive(Default)]
struct Pool {
    /// Mapped.
    ready: Vec<wgpu::Buffer>,
    /// Being written, copied from or mapped.
    away: usize,
    largest: u64,
}

/// A buffer that was written, until it is given back.
pub(super) struct Written {
    buffer: wgpu::Buffer,
    pool: Arc<Mutex<Pool>>,
}

impl Written {
    pub(super) fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Ok(mut pool) = self.pool.lock() {
            pool.away -= 1;
        }
    }
}

impl Uploads {
    /// For runs with so many inputs.
    pub(super) fn new(inputs: usize) -> Self {
        Self { pool: Arc::default(), usual: RUNS * inputs }
    }

    /// A buffer, no longer mapped, that begins with `values` as the device has them, `bytes` bytes. `None` in a browser. All cores write
    /// it, so no lock may be held: a thread that waits for the others may begin another run.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`] and [`Error::Device`] as the device reports them.
    pub(super) fn write(
        &self,
        context: &Context,
        precision: Precision,
        values: &[f32],
        bytes: u64,
    ) -> Result<Option<Written>> {
        let written = self.take(context, bytes)?;
        let buffer = &written.buffer;
        let step = PIECE * precision.bytes() as usize;
        let view = |start: u64| buffer.get_mapped_range_mut(start..bytes.min(start + step as u64));
        let views: Result<Vec<_>, _> = (0..bytes).step_by(step).map(view).collect();
        let views = views.map_err(|error| Error::Device(error.to_string()))?;
        let fill = |(mut view, values): (wgpu::BufferViewMut, &[f32])| {
            let mut start = 0;
            precision.encode_runs(values, |run| {
                view.slice(start..start + run.len()).copy_from_slice(run);
                start += run.len();
            });
        };
        if views.len() == 1 {
            views.into_iter().zip(values.chunks(PIECE)).for_each(fill);
        } else {
            views.into_par_iter().zip(values.par_chunks(PIECE)).for_each(fill);
        }
        buffer.unmap();
        Ok(Some(written))
    }

    /// A mapped buffer of at least `bytes` bytes. At first as many are made as two runs need, so that a later one makes none.
    fn take(&self, context: &Context, bytes: u64) -> Result<Written> {
        let lend = |buffer| Written { buffer, pool: self.pool.clone() };
        let mut pool = self.fitting(bytes)?;
        if pool.ready.is_empty() && pool.away >= self.usual {
            // One comes back when the device has done what it was given.
            drop(pool);
            context.flush()?;
            pool = self.fitting(bytes)?;
        }
        pool.away += 1;
        if let Some(buffer) = pool.ready.pop() {
            return Ok(lend(buffer));
        }
        let (count, size) = (1.max((self.usual + 1).saturating_sub(pool.away)), pool.largest);
        drop(pool);
        let make = || context.create_mapped("upload", size, wgpu::BufferUsages::COPY_SRC);
        let scopes = context.push_scopes();
        let first = lend(make());
        let others: Vec<wgpu::Buffer> = (1..count).map(|_| make()).collect();
        pollster::block_on(scopes.pop(count as u64 * size))?;
        lock(&self.pool)?.ready.extend(others);
        Ok(first)
    }

    /// The pool, without buffers that are too small for what was ever written.
    fn fitting(&self, bytes: u64) -> Result<MutexGuard<'_, Pool>> {
        let mut pool = lock(&self.pool)?;
        let largest = bytes.max(pool.largest);
        pool.largest = largest;
        pool.ready.retain(|buffer| buffer.size() >= largest);
        Ok(pool)
    }

    /// Maps the buffers of `copies` again once the device has copied: after the submission.
    pub(super) fn give_back(copies: Vec<Copied<'_>>) {
        for Copied { source, .. } in copies {
            let buffer = source.buffer.clone();
            buffer.map_async(wgpu::MapMode::Write, .., move |mapped| {
                let (buffer, pool) = (source.buffer.clone(), source.pool.clone());
                // No longer away.
                drop(source);
                if let (Ok(()), Ok(mut pool)) = (mapped, pool.lock()) {
                    pool.ready.push(buffer);
                }
            });
        }
    }
}
