//! Time on the device, operator by operator, by timestamp queries.

use super::device::Context;
use super::submit::{self, Launch};
use crate::error::{Error, Result};

/// What one operator of a plan took on the device.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Timing {
    /// Index in [`Graph::nodes`](crate::graph::Graph::nodes).
    pub node: usize,
    /// The operator's stem.
    pub operator: &'static str,
    /// The name of the kernel, of the last one if there are several.
    pub kernel: &'static str,
    /// Time between the start of its first launch and the end of its last.
    pub nanoseconds: u64,
    /// Floating-point operations; a multiply-add counts two.
    pub flops: u64,
    /// Bytes of the activations that it reads and writes, each tensor once.
    pub bytes: u64,
}

/// A set of queries for `steps` operators, with what brings the answers to the host.
pub(super) struct Queries {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
}

/// Bytes of one answer.
const ANSWER_BYTES: u64 = 8;

impl Queries {
    /// # Errors
    /// [`Error::Options`] if the device has no timestamps or the plan has too many operators for one set.
    pub(super) fn new(context: &Context, steps: usize) -> Result<Self> {
        let device = context.device();
        if !device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(Error::Options(format!("{} measures no time on the device", context.info().name)));
        }
        let count = u32::try_from(2 * steps).ok().filter(|&count| count > 0 && count <= wgpu::QUERY_SET_MAX_QUERIES);
        let count = count.ok_or_else(|| Error::Options(format!("{steps} operators cannot be timed in one run")))?;
        let bytes = u64::from(count) * ANSWER_BYTES;
        let buffer = |usage| context.create_buffer("timestamps", bytes, usage);
        Ok(Self {
            set: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count,
            }),
            resolved: buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            staging: buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
        })
    }

    /// Submits `steps`, each in a pass of its own between two timestamps.
    pub(super) fn submit<'l>(
        &self,
        context: &Context,
        steps: impl IntoIterator<Item = &'l [Launch]>,
    ) -> wgpu::SubmissionIndex {
        let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (index, launches) in (0u32..).zip(steps) {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &self.set,
                    beginning_of_pass_write_index: Some(2 * index),
                    end_of_pass_write_index: Some(2 * index + 1),
                }),
            });
            submit::record_launches(&mut pass, launches);
        }
        let bytes = self.resolved.size();
        encoder.resolve_query_set(&self.set, 0..(bytes / ANSWER_BYTES) as u32, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, bytes);
        context.queue().submit([encoder.finish()])
    }

    /// Waits for the work; nanoseconds of every step.
    pub(super) async fn read(&self, context: &Context, submission: &wgpu::SubmissionIndex) -> Result<Vec<u64>> {
        let period = f64::from(context.queue().get_timestamp_period());
        submit::read_bytes(context, &self.staging, self.staging.size(), submission, |bytes| {
            let ticks: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|ticks| u64::from_le_bytes(*ticks)).collect();
            ticks
                .as_chunks::<2>()
                .0
                .iter()
                .map(|[start, end]| (end.saturating_sub(*start) as f64 * period) as u64)
                .collect()
        })
        .await
    }
}
