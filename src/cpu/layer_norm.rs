//! Reference of [`crate::ops::layer_norm`].

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::buffer::Buffer;
use super::matrix::{load, store};
use super::{lanes, row_elements};
use crate::ops::Io;
use crate::ops::layer_norm::LayerNorm;
use crate::tensor::LANES;

pub(super) fn run(op: &LayerNorm, io: &Io, weights: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let row = row_elements(io.output.shape);
    let arch = Arch::new();
    output.par_chunks_mut(row).zip(inputs[0].par_chunks(row)).for_each(|(output, input)| {
        arch.dispatch(Normalize { op, affine: &weights[0], input, output });
    });
}

/// Normalises whole pixels.
pub(super) struct Normalize<'a> {
    pub(super) op: &'a LayerNorm,
    /// The packed weights.
    pub(super) affine: &'a [f32],
    pub(super) input: &'a [f32],
    pub(super) output: &'a mut [f32],
}

impl WithSimd for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Without padding lanes.
        if self.op.channels.is_multiple_of(S::F32_LANES.max(LANES)) {
            self.by_vectors(simd)
        } else {
            self.by_elements()
        }
    }
}

impl Normalize<'_> {
    #[inline(always)]
    fn by_vectors<S: Simd>(self, simd: S) {
        let Self { op, affine, input, output } = self;
        let channels = op.channels;
        let (scale, shift) = affine.split_at(channels);
        let count = channels as f32;
        for (output, input) in output.chunks_exact_mut(channels).zip(input.chunks_exact(channels)) {
            let mut sum = simd.splat_f32s(0.0);
            for at in (0..channels).step_by(S::F32_LANES) {
                sum = simd.add_f32s(sum, load::<S>(input, at));
            }
            let mean = simd.reduce_sum_f32s(sum) / count;
            let means = simd.splat_f32s(mean);
            let mut squares = simd.splat_f32s(0.0);
            for at in (0..channels).step_by(S::F32_LANES) {
                let x = simd.sub_f32s(load::<S>(input, at), means);
                squares = simd.mul_add_e_f32s(x, x, squares);
            }
            let variance = simd.reduce_sum_f32s(squares) / count;
            let factor = simd.splat_f32s(1.0 / (variance + op.eps).sqrt());
            let center = simd.splat_f32s(if op.center { mean } else { 0.0 });
            for at in (0..channels).step_by(S::F32_LANES) {
                let x = simd.mul_f32s(simd.sub_f32s(load::<S>(input, at), center), factor);
                store::<S>(output, at, simd.mul_add_e_f32s(x, load::<S>(scale, at), load::<S>(shift, at)));
            }
        }
    }

    #[inline(always)]
    fn by_elements(self) {
        let Self { op, affine, input, output } = self;
        let (scale, shift) = affine.split_at(affine.len() / 2);
        let lanes = lanes(op.channels);
        let count = op.channels as f32;
        for (output, input) in output.chunks_exact_mut(lanes).zip(input.chunks_exact(lanes)) {
            let (output, padding) = output.split_at_mut(op.channels);
            let input = &input[..op.channels];
            let mean = sum(input, |x| x) / count;
            let variance = sum(input, |x| (x - mean) * (x - mean)) / count;
            let factor = 1.0 / (variance + op.eps).sqrt();
            let center = if op.center { mean } else { 0.0 };
            for (((output, x), scale), shift) in output.iter_mut().zip(input).zip(scale).zip(shift) {
                *output = (x - center) * factor * scale + shift;
            }
            padding.fill(0.0);
        }
    }
}

/// Sum of `term` over `values`, in eight interleaved sums that the compiler can vectorise.
#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += term(value);
        }
    }
    for (sum, &value) in sums.iter_mut().zip(rest) {
        *sum += term(value);
    }
    sums.iter().sum()
}
