//! Reference of [`crate::ops::window_attention`]: window by window, head by head, query by query.

use std::collections::BTreeSet;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::buffer::Buffer;
use super::elementary::exp;
use super::matrix::{load, store};
use super::{clear_padding, lanes, row_elements, vectorized};
use crate::ops::window_attention::WindowAttention;
use crate::ops::{Axis, Io};
use crate::tensor::Shape;

pub(super) fn run(op: &WindowAttention, io: &Io, weights: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let shape = io.output.shape;
    let columns = op.windows(Axis::Horizontal, &io.output);
    // One row of windows is one thread's work.
    let mut bands = Vec::new();
    let mut rest = output;
    for rows in op.windows(Axis::Vertical, &io.output) {
        let (band, below) = rest.split_at_mut(rows.len() * row_elements(shape));
        bands.push((rows, band));
        rest = below;
    }
    // Windows are whole, or cut off at either end of an axis.
    let heights: BTreeSet<usize> = bands.iter().map(|(rows, _)| rows.len()).collect();
    let widths: BTreeSet<usize> = columns.iter().map(Range::len).collect();
    let sizes: Vec<[usize; 2]> =
        heights.iter().flat_map(|height| widths.iter().map(|width| [*height, *width])).collect();
    let biases: Vec<Vec<f32>> = sizes.par_iter().map(|size| expand(op, &weights[0], *size)).collect();
    let arch = Arch::new();
    bands.into_par_iter().for_each_init(Scratch::default, |scratch, (rows, band)| {
        for columns in &columns {
            let window = [&rows, columns];
            let size = window.map(Range::len);
            let biases = sizes.iter().position(|known| *known == size).map_or(&[][..], |index| &biases[index]);
            scratch.fit(op, size);
            vectorized(
                arch,
                #[inline(always)]
                || scratch.gather(op, io, inputs[0], &weights[0], window),
            );
            for head in 0..op.heads {
                arch.dispatch(Head { op, shape, head, columns, biases, scratch, band });
            }
        }
        clear_padding(band, shape.channels);
    });
}

/// Numbers that are summed side by side: a vector or several of any instruction set.
const SIDE_BY_SIDE: usize = 16;
/// Queries that share what is read of the keys and values.
const QUERIES: usize = 2;

/// One window. `tokens` stands for its pixels, filled up to whole vectors.
#[derive(Default)]
struct Scratch {
    /// Rows and columns of the window.
    size: [usize; 2],
    /// Queries times the scale, `[heads, pixels, head_channels]`.
    queries: Vec<f32>,
    /// Keys, `[heads, head_channels, tokens]`.
    keys: Vec<f32>,
    /// Values, `[heads, pixels, head_channels]`, the channels filled up to whole vectors with zeros.
    values: Vec<f32>,
    /// Scores of some queries, then their exponentials, `[QUERIES, tokens]`.
    scores: Vec<f32>,
}

/// The position biases of windows of `height` rows and `width` columns, `[heads, pixels, tokens]`: of all keys for each query,
/// minus infinity for what is filled up.
fn expand(op: &WindowAttention, weights: &[f32], [height, width]: [usize; 2]) -> Vec<f32> {
    let [window_height, window_width] = op.window;
    let table_width = 2 * window_width - 1;
    let mut biases = Vec::new();
    for table in weights[op.heads..].chunks_exact((2 * window_height - 1) * table_width) {
        for pixel in 0..height * width {
            let (y, x) = (pixel / width, pixel % width);
            for key_y in 0..height {
                // Towards the left as the key goes to the right.
                let row = &table[(y + window_height - 1 - key_y) * table_width..][..x + window_width];
                biases.extend(row.iter().rev().take(width));
            }
            biases.resize(biases.len().next_multiple_of(SIDE_BY_SIDE), f32::NEG_INFINITY);
        }
    }
    biases
}

impl Scratch {
    /// Makes room for a window of that size; what is filled up is zero.
    fn fit(&mut self, op: &WindowAttention, size: [usize; 2]) {
        if self.size == size {
            return;
        }
        self.size = size;
        let pixels = size[0] * size[1];
        let (tokens, filled) = (pixels.next_multiple_of(SIDE_BY_SIDE), op.head_channels.next_multiple_of(SIDE_BY_SIDE));
        self.keys.clear();
        self.keys.resize(op.heads * op.head_channels * tokens, 0.0);
        self.values.clear();
        self.values.resize(op.heads * pixels * filled, 0.0);
        self.queries.resize(op.heads * pixels * op.head_channels, 0.0);
        self.scores.resize(QUERIES * tokens, 0.0);
    }

    /// Reads a window's pixels, each with all heads, as they lie in memory.
    #[inline(always)]
    fn gather(&mut self, op: &WindowAttention, io: &Io, src: &[f32], scales: &[f32], window: [&Range<usize>; 2]) {
        let shape = io.inputs[0].shape;
        let [rows, columns] = window;
        let (size, channels, lanes) = (op.head_channels, op.heads * op.head_channels, lanes(shape.channels));
        let (tokens, filled) = (self.keys.len() / channels, size.next_multiple_of(SIDE_BY_SIDE));
        let count = rows.len() * columns.len();
        let pixels = rows.clone().flat_map(|y| columns.clone().map(move |x| y * shape.width + x));
        for (token, pixel) in pixels.enumerate() {
            let pixel = &src[pixel * lanes..][..lanes];
            for (head, scale) in scales[..op.heads].iter().enumerate() {
                let [query, key, value] = [0, 1, 2].map(|part| &pixel[part * channels + head * size..][..size]);
                let place = head * count + token;
                let factor = if op.cosine { scale / norm(query) } else { *scale };
                for (to, from) in self.queries[place * size..].iter_mut().zip(query) {
                    *to = from * factor;
                }
                let factor = if op.cosine { 1.0 / norm(key) } else { 1.0 };
                let keys = &mut self.keys[head * size * tokens + token..];
                for (to, from) in keys.iter_mut().step_by(tokens).zip(key) {
                    *to = from * factor;
                }
                for (to, from) in self.values[place * filled..].iter_mut().zip(value) {
                    *to = *from;
                }
            }
        }
    }
}

/// The work of one head on one window.
struct Head<'a> {
    op: &'a WindowAttention,
    /// Of the output.
    shape: Shape,
    head: usize,
    columns: &'a Range<usize>,
    /// As [`expand`] lays them out for this window's size.
    biases: &'a [f32],
    scratch: &'a mut Scratch,
    /// The output's rows of this window.
    band: &'a mut [f32],
}

impl WithSimd for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let pixels = self.scratch.size.iter().product();
        let paired = pixels - pixels % QUERIES;
        for first in (0..paired).step_by(QUERIES) {
            self.attend::<S, QUERIES>(simd, first);
        }
        for first in paired..pixels {
            self.attend::<S, 1>(simd, first);
        }
    }
}

impl Head<'_> {
    /// The `Q` queries from `first` on.
    #[inline(always)]
    fn attend<S: Simd, const Q: usize>(&mut self, simd: S, first: usize) {
        let Self { op, shape, head, columns, biases, .. } = *self;
        let Scratch { size: [height, width], queries, keys, values, scores } = &mut *self.scratch;
        let (size, pixels) = (op.head_channels, *height * *width);
        let (tokens, filled) = (scores.len() / QUERIES, size.next_multiple_of(SIDE_BY_SIDE));
        let biases = &biases[(head * pixels + first) * tokens..];
        let queries = &queries[(head * pixels + first) * size..];
        let keys = &keys[head * size * tokens..][..size * tokens];
        let values = &values[head * pixels * filled..][..pixels * filled];
        let mut at = 0;
        while at < tokens {
            // Four vectors at a time while there are as many.
            at += if at + 4 * S::F32_LANES <= tokens {
                products::<S, Q, 4>(simd, biases, queries, keys, scores, [size, tokens, at])
            } else {
                products::<S, Q, 1>(simd, biases, queries, keys, scores, [size, tokens, at])
            };
        }
        let mut totals = [0.0; Q];
        for (total, scores) in totals.iter_mut().zip(scores.chunks_exact_mut(tokens)) {
            let peak = reduce(scores, f32::NEG_INFINITY, |a, b| if a > b { a } else { b });
            for score in scores.iter_mut() {
                *score = exp(*score - peak);
            }
            *total = reduce(scores, 0.0, |a, b| a + b);
        }
        let places = std::array::from_fn::<_, Q, _>(|query| {
            let (y, x) = ((first + query) / columns.len(), (first + query) % columns.len());
            (y * shape.width + columns.start + x) * lanes(shape.channels) + head * size
        });
        let mut mixed = [[0.0; SIDE_BY_SIDE]; Q];
        for channel in (0..size).step_by(SIDE_BY_SIDE) {
            for part in (0..SIDE_BY_SIDE).step_by(S::F32_LANES) {
                let sums = mix::<S, Q>(simd, scores, &values[channel + part..], [pixels, tokens, filled]);
                for ((mixed, sum), total) in mixed.iter_mut().zip(sums).zip(totals) {
                    let share = simd.div_f32s(sum, simd.splat_f32s(total));
                    store::<S>(mixed, part, share);
                }
            }
            for (place, mixed) in places.iter().zip(&mixed) {
                let output = &mut self.band[place + channel..][..SIDE_BY_SIDE.min(size - channel)];
                for (output, value) in output.iter_mut().zip(mixed) {
                    *output = *value;
                }
            }
        }
    }
}

/// Scores of `Q` queries and `V` vectors of keys from token `at` on, biases included. Returns the number of those tokens.
#[inline(always)]
fn products<S: Simd, const Q: usize, const V: usize>(
    simd: S,
    biases: &[f32],
    queries: &[f32],
    keys: &[f32],
    scores: &mut [f32],
    [size, tokens, at]: [usize; 3],
) -> usize {
    let place = |query: usize, vector: usize| query * tokens + at + vector * S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); V]; Q];
    for (query, sums) in sums.iter_mut().enumerate() {
        for (vector, sum) in sums.iter_mut().enumerate() {
            *sum = load::<S>(biases, place(query, vector));
        }
    }
    for channel in 0..size {
        let mut key = [simd.splat_f32s(0.0); V];
        for (vector, key) in key.iter_mut().enumerate() {
            *key = load::<S>(keys, channel * tokens + at + vector * S::F32_LANES);
        }
        for query in 0..Q {
            let value = simd.splat_f32s(queries[query * size + channel]);
            for vector in 0..V {
                sums[query][vector] = simd.mul_add_f32s(value, key[vector], sums[query][vector]);
            }
        }
    }
    for (query, sums) in sums.iter().enumerate() {
        for (vector, sum) in sums.iter().enumerate() {
            store::<S>(scores, place(query, vector), *sum);
        }
    }
    V * S::F32_LANES
}

/// The sum of a vector of `values`, `filled` apart, each times its weight, for `Q` queries. Two sums take turns, so that one
/// addition need not wait for the last.
#[inline(always)]
fn mix<S: Simd, const Q: usize>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    [pixels, tokens, filled]: [usize; 3],
) -> [S::f32s; Q] {
    let mut even = [simd.splat_f32s(0.0); Q];
    let mut odd = even;
    for pixel in 0..pixels {
        let value = load::<S>(values, pixel * filled);
        for (query, sum) in even.iter_mut().enumerate() {
            *sum = simd.mul_add_f32s(simd.splat_f32s(weights[query * tokens + pixel]), value, *sum);
        }
        std::mem::swap(&mut even, &mut odd);
    }
    for (sum, other) in even.iter_mut().zip(odd) {
        *sum = simd.add_f32s(*sum, other);
    }
    even
}

/// As `torch.nn.functional.normalize` divides by it.
#[inline(always)]
fn norm(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12)
}

/// Halves what is side by side until one is left: a chain of operations would wait for each of them.
#[inline(always)]
fn reduce(values: &[f32], start: f32, operation: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; SIDE_BY_SIDE];
    let (chunks, rest) = values.as_chunks::<SIDE_BY_SIDE>();
    for chunk in chunks {
        for lane in 0..SIDE_BY_SIDE {
            lanes[lane] = operation(lanes[lane], chunk[lane]);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = operation(*lane, value);
    }
    let mut width = SIDE_BY_SIDE / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = operation(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}
