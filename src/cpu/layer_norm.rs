//! Reference of [`crate::ops::layer_norm`].

use rayon::prelude::*;

use super::row_elements;
use crate::ops::Io;
use crate::ops::layer_norm::LayerNorm;

pub(super) fn run(op: &LayerNorm, io: &Io, weights: &[Vec<f32>], inputs: &[&[f32]], output: &mut [f32]) {
    let shape = io.output.shape;
    let (row, lanes) = (row_elements(shape), shape.padded_channels());
    let (scale, shift) = weights[0].split_at(lanes);
    let count = op.channels as f32;
    output.par_chunks_mut(row).zip(inputs[0].par_chunks(row)).for_each(|(output, input)| {
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
    });
}

/// Sum of `term` over `values`, in eight interleaved sums that the compiler can vectorise.
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; 8];
    let chunks = values.chunks_exact(sums.len());
    let rest = chunks.remainder();
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
