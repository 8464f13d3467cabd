//! A graph's weights on the device.

use super::buffer::Upload;
use super::device::Context;
use super::pipeline::Precision;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ops::blocks::UNIFORM_BYTES;
use crate::ops::{Packed, Traits};

/// Blocks of many operators share buffers of at most this many bytes: the portable limit of a storage binding.
const CHUNK_BYTES: usize = 128 << 20;
/// Uniform and storage bindings start at multiples of this everywhere.
const ALIGNMENT: usize = 256;

/// Where packed weights are.
enum Location {
    Own(wgpu::Buffer),
    Chunk { index: usize, offset: u64 },
}

/// The weights of every node.
pub(super) struct Weights {
    chunks: Vec<wgpu::Buffer>,
    /// By node and index.
    locations: Vec<Vec<Location>>,
    bytes: u64,
}

impl Weights {
    /// Packs and uploads the weights of `graph`.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor does not fit its operator, [`Error::OutOfMemory`] if one exceeds the device's limits.
    pub(super) fn upload(context: &Context, graph: &Graph, precision: Precision, traits: Traits) -> Result<Self> {
        let mut chunks: Vec<Vec<u8>> = Vec::new();
        let mut upload = Upload::new(context);
        let mut all = Self { chunks: Vec::new(), locations: Vec::new(), bytes: 0 };
        for node in graph.nodes() {
            let mut locations = Vec::new();
            for packed in node.pack_device(traits)? {
                locations.push(match packed {
                    Packed::Stored(values) => {
                        let bytes = precision.encode(&values);
                        context.check_binding(bytes.len() as u64)?;
                        all.bytes += bytes.len() as u64;
                        Location::Own(upload.weights(node.op.stem(), &bytes)?)
                    }
                    Packed::Blocks(values) => {
                        let bytes: &[u8] = bytemuck::cast_slice(&values);
                        context.check_binding(bytes.len() as u64)?;
                        if chunks.last().is_none_or(|chunk| chunk.len() + bytes.len() > CHUNK_BYTES) {
                            chunks.push(Vec::new());
                        }
                        let index = chunks.len() - 1;
                        let chunk = &mut chunks[index];
                        let offset = chunk.len() as u64;
                        chunk.extend_from_slice(bytes);
                        chunk.resize(chunk.len().next_multiple_of(ALIGNMENT), 0);
                        Location::Chunk { index, offset }
                    }
                });
            }
            all.locations.push(locations);
        }
        for mut chunk in chunks {
            // A uniform binding spans its whole window, wherever the weights in it end.
            chunk.resize(chunk.len() + UNIFORM_BYTES, 0);
            all.bytes += chunk.len() as u64;
            all.chunks.push(upload.blocks(&chunk)?);
        }
        upload.finish()?;
        Ok(all)
    }

    /// Device memory of all weights.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All of the packed weights `index` of `node`.
    ///
    /// # Errors
    /// [`Error::Device`] if a kernel asks for weights in another form than they were packed in.
    pub(super) fn whole(&self, node: usize, index: usize) -> Result<wgpu::BindingResource<'_>> {
        match &self.locations[node][index] {
            Location::Own(buffer) => Ok(buffer.as_entire_binding()),
            Location::Chunk { .. } => Err(Error::Device("a kernel binds blocks of weights as a whole".into())),
        }
    }

    /// `bytes` bytes from `start` of the packed weights `index` of `node`.
    ///
    /// # Errors
    /// As [`Weights::whole`].
    pub(super) fn block(&self, node: usize, index: usize, start: u64, bytes: u64) -> Result<wgpu::BindingResource<'_>> {
        match &self.locations[node][index] {
            Location::Own(_) => Err(Error::Device("a kernel binds a block of weights that has none".into())),
            Location::Chunk { index, offset } => Ok(wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &self.chunks[*index],
                offset: offset + start,
                size: wgpu::BufferSize::new(bytes),
            })),
        }
    }
}
