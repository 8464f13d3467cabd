//! Reference of [`crate::ops::gram`]: products of every row in f32, added up in f64 in the order of rows.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{lanes, row_elements};
use crate::ops::Io;
use crate::ops::gram::Gram;
use crate::tensor::LANES;

/// Bands of rows whose sums are kept apart: enough for any machine's threads, few enough to fit memory.
const BANDS: usize = 64;

pub(super) fn run(op: &Gram, io: &Io, weights: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let shape = io.inputs[0].shape;
    let (size, channels) = (op.head_channels, op.heads * op.head_channels);
    // Products of q and k of each head, then squares of q, then of k.
    let length = channels * size + 2 * channels;
    let row = row_elements(shape);
    let band_rows = shape.height.div_ceil(BANDS);

    let bands: Vec<Vec<f64>> = inputs[0]
        .par_chunks(row * band_rows)
        .map(|band| {
            let mut sums = vec![0.0f64; length];
            let mut part = vec![0.0f32; length];
            for row in band.chunks_exact(row) {
                part.fill(0.0);
                add_row(op, row, lanes(shape.channels), &mut part);
                for (sum, part) in sums.iter_mut().zip(&part) {
                    *sum += f64::from(*part);
                }
            }
            sums
        })
        .collect();
    let mut sums = vec![0.0f64; length];
    for band in bands {
        for (sum, band) in sums.iter_mut().zip(band) {
            *sum += band;
        }
    }

    let (products, squares) = sums.split_at(channels * size);
    let norms: Vec<f64> = squares.iter().map(|square| square.sqrt().max(1e-12)).collect();
    output.fill(0.0);
    for (row, products) in products.chunks_exact(size).enumerate() {
        let head = row / size;
        let temperature = f64::from(weights[0][head]);
        let keys = &norms[channels + head * size..][..size];
        let logits: Vec<f64> = products.iter().zip(keys).map(|(p, key)| temperature * p / (norms[row] * key)).collect();
        let peak = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let shares: Vec<f64> = logits.iter().map(|logit| libm::exp(logit - peak)).collect();
        let total: f64 = shares.iter().sum();
        for (column, share) in shares.iter().enumerate() {
            output[(row / LANES * size + column) * LANES + row % LANES] = (share / total) as f32;
        }
    }
}

/// Adds the products and squares of one row of pixels.
fn add_row(op: &Gram, row: &[f32], lanes: usize, sums: &mut [f32]) {
    let (size, channels) = (op.head_channels, op.heads * op.head_channels);
    let (products, squares) = sums.split_at_mut(channels * size);
    for pixel in row.chunks_exact(lanes) {
        let (queries, keys) = pixel[..2 * channels].split_at(channels);
        for (square, x) in squares.iter_mut().zip(&pixel[..2 * channels]) {
            *square += x * x;
        }
        let heads = queries.chunks_exact(size).zip(keys.chunks_exact(size));
        for ((queries, keys), products) in heads.zip(products.chunks_exact_mut(size * size)) {
            for (query, products) in queries.iter().zip(products.chunks_exact_mut(size)) {
                for (product, key) in products.iter_mut().zip(keys) {
                    *product += query * key;
                }
            }
        }
    }
}
