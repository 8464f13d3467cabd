//! Compiled kernels, kept for the life of the device.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::device::Context;
use crate::error::{Result, lock};
use crate::ops::dispatch::{PRELUDE_F16, PRELUDE_F32};
use crate::ops::{Dispatch, Shader};
use crate::tensor::{HostTensor, PIECE, Shape};

/// How activations and weights are stored on the device; sums are f32 in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits: half the memory traffic, about three decimal digits. Weights of convolutions keep 32 unless they are multiplied on
    /// tensor cores.
    F16,
}

impl Precision {
    /// Bytes of one element.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// The kernels' prelude.
    pub const fn prelude(self) -> &'static str {
        match self {
            Self::F32 => PRELUDE_F32,
            Self::F16 => PRELUDE_F16,
        }
    }

    /// Numbers as the device has them, in whole words.
    pub(super) fn encode(self, values: &[f32]) -> Cow<'_, [u8]> {
        match self {
            Self::F32 => bytemuck::cast_slice(values).into(),
            Self::F16 => {
                let mut bytes = Vec::with_capacity(2 * values.len() + 2);
                self.encode_runs(values, |run| bytes.extend_from_slice(run));
                bytes.into()
            }
        }
    }

    /// The same, run by run, for memory that is only written.
    pub(super) fn encode_runs(self, values: &[f32], mut write: impl FnMut(&[u8])) {
        match self {
            Self::F32 => write(bytemuck::cast_slice(values)),
            Self::F16 => {
                // In runs, which `half` converts in vectors.
                let (mut kept, mut halves) = ([0.0; RUN], [f16::ZERO; RUN]);
                for values in values.chunks(RUN) {
                    for (kept, &value) in kept.iter_mut().zip(values) {
                        // What exceeds f16 saturates, as in the kernels.
                        *kept = value.clamp(-65504.0, 65504.0);
                    }
                    halves.convert_from_f32_slice(&kept);
                    write(bytemuck::cast_slice(&halves[..values.len().next_multiple_of(2)]));
                }
            }
        }
    }

    /// The inverse of [`Precision::encode`], for a tensor. Large ones are read by all cores: no lock may be held.
    pub(super) fn decode(self, bytes: &[u8], shape: Shape) -> Result<HostTensor> {
        let elements = shape.elements()?;
        let mut values = vec![0.0; elements];
        let bytes = &bytes[..elements * self.bytes() as usize];
        if elements <= PIECE {
            self.decode_runs(bytes, &mut values);
        } else {
            let pieces = values.par_chunks_mut(PIECE).zip(bytes.par_chunks(PIECE * self.bytes() as usize));
            pieces.for_each(|(values, bytes)| self.decode_runs(bytes, values));
        }
        HostTensor::new(shape, values)
    }

    fn decode_runs(self, bytes: &[u8], values: &mut [f32]) {
        match self {
            Self::F32 => bytemuck::cast_slice_mut(values).copy_from_slice(bytes),
            Self::F16 => {
                let mut halves = [f16::ZERO; RUN];
                for (values, bytes) in values.chunks_mut(RUN).zip(bytes.chunks(2 * RUN)) {
                    let halves = &mut halves[..values.len()];
                    bytemuck::cast_slice_mut(halves).copy_from_slice(bytes);
                    halves.convert_to_f32_slice(values);
                }
            }
        }
    }
}

/// Values converted at a time.
const RUN: usize = 1024;

/// One kernel with its overrides fixed.
pub(super) struct Pipeline {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

impl Pipeline {
    pub(super) fn raw(&self) -> &wgpu::ComputePipeline {
        &self.pipeline
    }

    pub(super) fn layout(&self) -> &wgpu::BindGroupLayout {
        &self.layout
    }
}

/// A kernel's identity: where its description stands, as variants share a name; precision, and the bits of its overrides.
pub(super) type Key = (usize, Precision, Vec<(&'static str, u64)>);

fn key(dispatch: &Dispatch, precision: Precision) -> Key {
    let bits = dispatch.constants.iter().map(|&(name, value)| (name, value.to_bits())).collect();
    (std::ptr::from_ref(dispatch.shader).addr(), precision, bits)
}

impl Context {
    /// The compiled kernel of a dispatch; compiles it at first use.
    pub(super) fn pipeline(&self, dispatch: &Dispatch, precision: Precision) -> Result<Arc<Pipeline>> {
        let key = key(dispatch, precision);
        if let Some(pipeline) = self.pipelines()?.get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = Arc::new(self.compile(dispatch, precision));
        self.pipelines()?.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// Compiles all kernels of `dispatches` that are not compiled yet, on all cores.
    ///
    /// # Errors
    /// [`Error::Device`] with the driver's message.
    pub(super) fn compile_all<'d>(
        &self,
        dispatches: impl IntoIterator<Item = &'d Dispatch>,
        precision: Precision,
    ) -> Result<()> {
        let mut missing: HashMap<Key, &Dispatch> = HashMap::new();
        {
            let known = self.pipelines()?;
            for dispatch in dispatches {
                let key = key(dispatch, precision);
                if !known.contains_key(&key) {
                    missing.insert(key, dispatch);
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        #[cfg(target_arch = "wasm32")]
        let compiled = missing
            .into_iter()
            .map(|(key, dispatch)| -> Result<(Key, Pipeline)> { Ok((key, self.compile(dispatch, precision))) });
        #[cfg(not(target_arch = "wasm32"))]
        let compiled = {
            let compiled: Vec<Result<(Key, Pipeline)>> = missing
                .into_par_iter()
                .map(|(key, dispatch)| {
                    // wgpu's error scopes belong to a thread.
                    let scopes = self.push_scopes();
                    let pipeline = self.compile(dispatch, precision);
                    pollster::block_on(scopes.pop(0))?;
                    Ok((key, pipeline))
                })
                .collect();
            compiled.into_iter()
        };
        for compiled in compiled {
            let (key, pipeline) = compiled?;
            self.pipelines()?.insert(key, Arc::new(pipeline));
        }
        if let Some(cache) = &self.cache {
            cache.save();
        }
        Ok(())
    }

    fn pipelines(&self) -> Result<MutexGuard<'_, HashMap<Key, Arc<Pipeline>>>> {
        lock(&self.pipelines)
    }

    fn compile(&self, dispatch: &Dispatch, precision: Precision) -> Pipeline {
        self.created.pipelines.fetch_add(1, Ordering::Relaxed);
        let shader = dispatch.shader;
        let source = source(shader, precision, self.eight_lanes());
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(shader.name), source: wgpu::ShaderSource::Wgsl(source.into()) };
        // SAFETY: no kernel leaves its bindings: the parity tests run every kernel with NaN zones around its tensors,
        // and loops are bounded by sizes. The checks cost a third of the arithmetic in the inner loops.
        let module =
            unsafe { self.device().create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
        let pipeline = self.device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(shader.name),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &dispatch.constants,
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache: self.cache.as_ref().map(|cache| &cache.raw),
        });
        let layout = pipeline.get_bind_group_layout(0);
        Pipeline { pipeline, layout }
    }
}

/// A kernel's whole text: prelude, library, kernel; `eight_lanes` for devices whose subgroups are eight consecutive
/// invocations.
pub fn source(shader: &Shader, precision: Precision, eight_lanes: bool) -> String {
    let library = shader.library.iter().map(|library| {
        let other = library.eight_lanes.filter(|_| eight_lanes);
        other.unwrap_or(library.source)
    });
    let parts: Vec<&str> = [precision.prelude()].into_iter().chain(library).chain([shader.source]).collect();
    // Directives come before all else, whatever part asks for them.
    let lines = || parts.iter().flat_map(|part| part.lines());
    let is_directive = |line: &&str| line.starts_with("enable ");
    let sorted = lines().filter(is_directive).chain(lines().filter(|line| !is_directive(line)));
    sorted.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_are_the_nearest_saturated_and_in_whole_words() {
        // More than a run, odd, with ends that do not fit.
        let mut values: Vec<f32> = (0..2 * RUN + 7).map(|i| (i as f32 - 900.0) * 0.37).collect();
        let ends = [1e9, f32::NEG_INFINITY, 65519.9, -0.0, 1e-8, f32::INFINITY];
        values[RUN - 3..RUN + 3].copy_from_slice(&ends);
        let bytes = Precision::F16.encode(&values);
        assert_eq!(bytes.len(), (2 * values.len()).next_multiple_of(4));
        let expected: Vec<f16> = values.iter().map(|value| f16::from_f32(value.clamp(-65504.0, 65504.0))).collect();
        assert_eq!(bytes[..2 * values.len()], *bytemuck::cast_slice::<f16, u8>(&expected));
        let back = Precision::F16.decode(&bytes, Shape::new(1, 1, values.len())).unwrap();
        assert!(back.data().iter().zip(&expected).all(|(back, expected)| *back == expected.to_f32()));
        assert!(
            Precision::F16.decode(&Precision::F16.encode(&[f32::NAN]), Shape::new(1, 1, 1)).unwrap().data()[0].is_nan()
        );
    }
}
