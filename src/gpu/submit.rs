//! Records a run's launches, submits them at once, and reads the result back.

use std::sync::Arc;

use super::buffer::{Arena, stored_bytes};
use super::device::Context;
use super::pipeline::{Pipeline, Precision};
use crate::error::{Error, Result};
use crate::graph::Plan;
use crate::tensor::{HostTensor, Shape};

/// One kernel launch with its buffers bound.
pub(super) struct Launch {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) group: wgpu::BindGroup,
    pub(super) workgroups: [u32; 3],
}

/// A command encoder with all launches recorded, in one pass.
pub(super) fn record<'l>(context: &Context, launches: impl IntoIterator<Item = &'l Launch>) -> wgpu::CommandEncoder {
    let descriptor = wgpu::CommandEncoderDescriptor { label: Some("generator") };
    let mut encoder = context.device().create_command_encoder(&descriptor);
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        record_launches(&mut pass, launches);
    }
    encoder
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

/// Submits the launches and the copies of the results into buffers the host can map.
pub(super) fn submit(
    context: &Context,
    launches: &[Launch],
    arena: &Arena,
    plan: &Plan,
    precision: Precision,
) -> Vec<wgpu::Buffer> {
    let mut encoder = record(context, launches);
    let mut copies = Vec::with_capacity(plan.outputs.len());
    for (slot, place) in &plan.outputs {
        let bytes = stored_bytes(place.shape, precision);
        let staging = context.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("read-back"),
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let (buffer, offset) = arena.slot(*slot);
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
        copies.push(staging);
    }
    context.queue().submit([encoder.finish()]);
    copies
}

/// Waits for the work and reads the result; blocks natively, yields to the event loop in a browser.
pub(super) async fn read(
    context: &Context,
    staging: &wgpu::Buffer,
    precision: Precision,
    shape: Shape,
) -> Result<HostTensor> {
    read_bytes(context, staging, |bytes| precision.unpack(bytes, shape)).await?
}

/// Waits for the work and hands the bytes of `staging` to `decode`.
pub(super) async fn read_bytes<T>(
    context: &Context,
    staging: &wgpu::Buffer,
    decode: impl FnOnce(&[u8]) -> T,
) -> Result<T> {
    let (sender, receiver) = futures_channel::oneshot::channel();
    staging.map_async(wgpu::MapMode::Read, .., move |mapped| {
        // The receiver is gone if the caller dropped the future.
        let _ = sender.send(mapped);
    });
    #[cfg(not(target_arch = "wasm32"))]
    context
        .device()
        .poll(wgpu::PollType::wait_indefinitely())
        .map_err(|error| context.lost_or(Error::Device(error.to_string())))?;
    match receiver.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(context.lost_or(Error::Device(error.to_string()))),
        Err(_) => return Err(context.lost_or(Error::Device("the device dropped the result".into()))),
    }
    let decoded = {
        let view = staging.get_mapped_range(..).map_err(|error| Error::Device(error.to_string()))?;
        decode(&view)
    };
    staging.unmap();
    Ok(decoded)
}
