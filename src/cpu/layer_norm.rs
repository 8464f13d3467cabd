//! Reference of [`crate::ops::layer_norm`].

use pulp::Arch;
use rayon::prelude::*;

use super::row_elements;
use crate::ops::Io;
use crate::ops::layer_norm::LayerNorm;

pub(super) fn run(op: &LayerNorm, io: &Io, weights: &[Vec<f32>], inputs: &[&[f32]], output: &mut [f32]) {
    let row = row_elements(io.output.shape);
    let arch = Arch::new();
    output.par_chunks_mut(row).zip(inputs[0].par_chunks(row)).for_each(|(output, input)| {
        arch.dispatch(
            #[inline(always)]
            || normalize(op, &weights[0], input, output),
        );
    });
}

/// Normalises whole pixels; `affine` are the packed weights.
#[inline(always)]
pub(super) fn normalize(op: &LayerNorm, affine: &[f32], input: &[f32], output: &mut [f32]) {
    let (scale, shift) = affine.split_at(affine.len() / 2);
    let lanes = scale.len();
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
        for value in padding {
            *value = 0.0;
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
