//! Records a run's launches, submits them at once, and reads the result back.

use std::sync::Arc;

use super::buffer::Arena;
use super::device::Context;
use super::pipeline::{Pipeline, Precision};
use super::planes::Planes;
use super::upload::Written;
use crate::error::{Error, Result};
use crate::ops::Dispatch;
use crate::tensor::Shape;

/// One kernel launch with its buffers bound.
pub(super) struct Launch {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) group: wgpu::BindGroup,
    pub(super) workgroups: [u32; 3],
}

/// The launch of `dispatch` with its parameters at an offset of a buffer, and the buffers from `@binding(1)` on.
pub(super) fn launch<'b>(
    context: &Context,
    precision: Precision,
    dispatch: &Dispatch,
    (params, offset): (&'b wgpu::Buffer, u64),
    resources: impl IntoIterator<Item = wgpu::BindingResource<'b>>,
) -> Result<Launch> {
    let pipeline = context.pipeline(dispatch, precision)?;
    let size = wgpu::BufferSize::new(dispatch.params.len().next_multiple_of(16) as u64);
    let params = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: params, offset, size });
    let entries: Vec<wgpu::BindGroupEntry<'_>> = std::iter::once(params)
        .chain(resources)
        .enumerate()
        .map(|(index, resource)| wgpu::BindGroupEntry { binding: index as u32, resource })
        .collect();
    let group = context.create_bind_group(dispatch.shader.name, pipeline.layout(), &entries);
    Ok(Launch { pipeline, group, workgroups: dispatch.workgroups })
}

fn encoder(context: &Context) -> wgpu::CommandEncoder {
    context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("generator") })
}

/// All launches recorded, in one pass.
pub(super) fn record<'l>(context: &Context, launches: impl IntoIterator<Item = &'l Launch>) -> wgpu::CommandBuffer {
    let mut encoder = encoder(context);
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        record_launches(&mut pass, launches);
    }
    encoder.finish()
}

/// The copies recorded.
pub(super) fn record_copies(context: &Context, copies: &[Copied<'_>]) -> wgpu::CommandBuffer {
    let mut encoder = encoder(context);
    for Copied { source, target, start, bytes } in copies {
        encoder.copy_buffer_to_buffer(source.buffer(), 0, target, *start, *bytes);
    }
    encoder.finish()
}

/// Records launches into a pass.
pub(super) fn record_launches<'l>(pass: &mut wgpu::ComputePass<'_>, launches: impl IntoIterator<Item = &'l Launch>) {
    for launch in launches {
        pass.set_pipeline(launch.pipeline.raw());
        pass.set_bind_group(0, &launch.group, &[]);
        let [x, y, z] = launch.workgroups;
        pass.dispatch_workgroups(x, y, z);
    }
}

/// A run that was submitted and whose results were not read yet.
pub struct Pending {
    pub(super) results: Vec<Mapped>,
    pub(super) submission: wgpu::SubmissionIndex,
}

/// A result that the host can map.
pub(super) struct Mapped {
    pub(super) buffer: wgpu::Buffer,
    pub(super) bytes: u64,
    pub(super) shape: Shape,
}

/// Buffers that the host can map, kept from run to run.
#[derive(Default)]
pub(super) struct Staging(Vec<wgpu::Buffer>);

/// More are not kept: two runs of a generator with a few results.
const MOST_STAGING: usize = 8;

impl Staging {
    /// The smallest buffer that holds `bytes`; a new one if none does.
    fn take(&mut self, context: &Context, bytes: u64) -> wgpu::Buffer {
        let fitting = (0..self.0.len()).filter(|&i| self.0[i].size() >= bytes).min_by_key(|&i| self.0[i].size());
        match fitting {
            Some(index) => self.0.swap_remove(index),
            None => {
                context.create_buffer("read-back", bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
            }
        }
    }

    /// Keeps a buffer that is not mapped any more.
    pub(super) fn give_back(&mut self, buffer: wgpu::Buffer) {
        if self.0.len() == MOST_STAGING {
            let smallest = (0..self.0.len()).min_by_key(|&i| self.0[i].size()).unwrap_or(0);
            self.0.swap_remove(smallest);
        }
        self.0.push(buffer);
    }
}

/// What the device is to copy.
pub(super) struct Copied<'a> {
    pub(super) source: Written,
    pub(super) target: &'a wgpu::Buffer,
    /// First byte of the target.
    pub(super) start: u64,
    pub(super) bytes: u64,
}

/// Submits copies to the device, the recorded launches, and the copies of the results' planes into buffers the host can map.
pub(super) fn submit(
    context: &Context,
    copies: &[Copied<'_>],
    recorded: wgpu::CommandBuffer,
    arena: &Arena,
    staging: &mut Staging,
    outputs: &[Planes],
    precision: Precision,
) -> Result<Pending> {
    let mut encoder = encoder(context);
    let mut results = Vec::with_capacity(outputs.len());
    for planes in outputs {
        let (buffer, start, bytes) = planes.buffer(arena, precision)?;
        let copy = staging.take(context, bytes);
        encoder.copy_buffer_to_buffer(buffer, start, &copy, 0, bytes);
        results.push(Mapped { buffer: copy, bytes, shape: planes.shape });
    }
    // A browser has none.
    let before = (!copies.is_empty()).then(|| record_copies(context, copies));
    let submission = context.queue().submit(before.into_iter().chain([recorded, encoder.finish()]));
    Ok(Pending { results, submission })
}

/// Waits for `submission` and hands the first `bytes` bytes of `staging`, which it writes, to `decode`. Blocks natively,
/// yields to the event loop in a browser. Later submissions go on.
pub(super) async fn read_bytes<T>(
    context: &Context,
    staging: &wgpu::Buffer,
    bytes: u64,
    submission: &wgpu::SubmissionIndex,
    decode: impl FnOnce(&[u8]) -> T,
) -> Result<T> {
    let (sender, receiver) = futures_channel::oneshot::channel();
    // On a device that was lost unnoticed the buffer may not exist.
    let scopes = context.push_scopes();
    staging.map_async(wgpu::MapMode::Read, ..bytes, move |mapped| {
        // The receiver is gone if the caller dropped the future.
        let _ = sender.send(mapped);
    });
    scopes.pop(bytes).await?;
    context.wait(submission)?;
    match receiver.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(context.lost_or(Error::Device(error.to_string()))),
        Err(_) => return Err(context.lost_or(Error::Device("the device dropped the result".into()))),
    }
    let decoded = {
        let view = staging.get_mapped_range(..bytes).map_err(|error| Error::Device(error.to_string()))?;
        decode(&view)
    };
    staging.unmap();
    Ok(decoded)
}
