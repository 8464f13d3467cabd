//! Reference of [`crate::ops::window_attention`]: window by window, head by head, query by query.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::{clear_padding, row_elements};
use crate::ops::window_attention::WindowAttention;
use crate::ops::{Axis, Io};

pub(super) fn run(op: &WindowAttention, io: &Io, weights: &[Vec<f32>], inputs: &[&[f32]], output: &mut [f32]) {
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
    let arch = Arch::new();
    bands.into_par_iter().for_each_init(Scratch::default, |scratch, (rows, band)| {
        for columns in &columns {
            for head in 0..op.heads {
                arch.dispatch(
                    #[inline(always)]
                    || {
                        scratch.gather(op, io, inputs[0], weights[0][head], head, [&rows, columns]);
                        attend(op, io, &weights[0], head, columns, scratch, band);
                    },
                );
            }
        }
        clear_padding(band, shape.channels);
    });
}

/// Numbers that are summed side by side: a vector or several of any instruction set.
const SIDE_BY_SIDE: usize = 16;

/// One head of one window.
#[derive(Default)]
struct Scratch {
    /// Pixels of a row of the window.
    columns: usize,
    /// Queries times the scale, `[tokens, head_channels]`.
    queries: Vec<f32>,
    /// Keys, `[head_channels, tokens]`.
    keys: Vec<f32>,
    /// Values, `[tokens, head_channels]`, the channels filled up to whole vectors with zeros.
    values: Vec<f32>,
    /// Scores of one query, then their exponentials.
    scores: Vec<f32>,
}

impl Scratch {
    #[inline(always)]
    fn gather(
        &mut self,
        op: &WindowAttention,
        io: &Io,
        src: &[f32],
        scale: f32,
        head: usize,
        [rows, columns]: [&Range<usize>; 2],
    ) {
        let shape = io.inputs[0].shape;
        let (size, channels, lanes) = (op.head_channels, op.heads * op.head_channels, shape.padded_channels());
        let tokens = rows.len() * columns.len();
        self.columns = columns.len();
        for buffer in [&mut self.queries, &mut self.keys] {
            buffer.resize(tokens * size, 0.0);
        }
        let filled = size.next_multiple_of(SIDE_BY_SIDE);
        self.values.resize(tokens * filled, 0.0);
        self.scores.resize(tokens, 0.0);
        let pixels = rows.clone().flat_map(|y| columns.clone().map(move |x| y * shape.width + x));
        for (token, pixel) in pixels.enumerate() {
            let pixel = &src[pixel * lanes..][..lanes];
            let [query, key, value] = [0, 1, 2].map(|part| &pixel[part * channels + head * size..][..size]);
            let factor = if op.cosine { scale / norm(query) } else { scale };
            for (to, from) in self.queries[token * size..].iter_mut().zip(query) {
                *to = from * factor;
            }
            let factor = if op.cosine { 1.0 / norm(key) } else { 1.0 };
            for (to, from) in self.keys[token..].iter_mut().step_by(tokens).zip(key) {
                *to = from * factor;
            }
            self.values[token * filled..][..size].copy_from_slice(value);
        }
    }
}

/// As `torch.nn.functional.normalize` divides by it.
#[inline(always)]
fn norm(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12)
}

/// The exponential of `x`, which is not positive, to two units in the last place; in steps that can be vectorised.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Added, it leaves a number rounded to an integer, in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = x.max(-87.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    let rest = (x - power * LN_2[0]) - power * LN_2[1];
    // The series, its coefficients adjusted to |rest| <= ln 2 / 2 (Cephes).
    let mut sum = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = sum * rest + coefficient;
    }
    let sum = sum * rest * rest + rest + 1.0;
    // Times two to the power: added to the exponent's bits.
    f32::from_bits(sum.to_bits().wrapping_add(rounded.to_bits() << 23))
}

#[inline(always)]
fn attend(
    op: &WindowAttention,
    io: &Io,
    table: &[f32],
    head: usize,
    columns: &Range<usize>,
    scratch: &mut Scratch,
    band: &mut [f32],
) {
    let shape = io.output.shape;
    let size = op.head_channels;
    let [window_height, window_width] = op.window;
    let bias_width = 2 * window_width - 1;
    let bias = &table[op.heads + head * (2 * window_height - 1) * bias_width..];
    let Scratch { columns: width, queries, keys, values, scores } = scratch;
    let tokens = scores.len();
    for (token, query) in queries.chunks_exact(size).enumerate() {
        let (y, x) = (token / *width, token % *width);
        for (key_y, scores) in scores.chunks_exact_mut(*width).enumerate() {
            // Towards the left as the key goes to the right.
            let row = &bias[(y + window_height - 1 - key_y) * bias_width..][..x + window_width];
            for (score, bias) in scores.iter_mut().zip(row.iter().rev()) {
                *score = *bias;
            }
        }
        let (chunks, rest) = scores.as_chunks_mut::<{ 2 * SIDE_BY_SIDE }>();
        let first = tokens - rest.len();
        for (index, scores) in chunks.iter_mut().enumerate() {
            let mut sums = *scores;
            for (query, keys) in query.iter().zip(keys.chunks_exact(tokens)) {
                let keys = &keys[index * sums.len()..][..2 * SIDE_BY_SIDE];
                for lane in 0..2 * SIDE_BY_SIDE {
                    sums[lane] += query * keys[lane];
                }
            }
            *scores = sums;
        }
        for (query, keys) in query.iter().zip(keys.chunks_exact(tokens)) {
            for (score, key) in rest.iter_mut().zip(&keys[first..]) {
                *score += query * key;
            }
        }
        let peak = largest(scores);
        for score in scores.iter_mut() {
            *score = exp(*score - peak);
        }
        let total = sum(scores);
        let at = (y * shape.width + columns.start + x) * shape.padded_channels() + head * size;
        let output = &mut band[at..][..size];
        for (channel, output) in (0..).step_by(SIDE_BY_SIDE).zip(output.chunks_mut(SIDE_BY_SIDE)) {
            let mixed = mix(scores, &values[channel..], size.next_multiple_of(SIDE_BY_SIDE));
            for (output, value) in output.iter_mut().zip(mixed) {
                *output = value / total;
            }
        }
    }
}

/// The sum of `values` at every `stride`, each times its weight, for the first channels. Four sums take turns, so that one
/// addition need not wait for the last.
#[inline(always)]
fn mix(weights: &[f32], values: &[f32], stride: usize) -> [f32; SIDE_BY_SIDE] {
    let mut sums = [[0.0; SIDE_BY_SIDE]; 4];
    let (fours, rest) = weights.as_chunks::<4>();
    for (index, weights) in fours.iter().enumerate() {
        let values = &values[4 * index * stride..][..3 * stride + SIDE_BY_SIDE];
        for part in 0..4 {
            let values = &values[part * stride..][..SIDE_BY_SIDE];
            for lane in 0..SIDE_BY_SIDE {
                sums[part][lane] += weights[part] * values[lane];
            }
        }
    }
    for (index, weight) in rest.iter().enumerate() {
        let values = &values[(4 * fours.len() + index) * stride..][..SIDE_BY_SIDE];
        for lane in 0..SIDE_BY_SIDE {
            sums[index][lane] += weight * values[lane];
        }
    }
    let mut total = [0.0; SIDE_BY_SIDE];
    for lane in 0..SIDE_BY_SIDE {
        total[lane] = (sums[0][lane] + sums[1][lane]) + (sums[2][lane] + sums[3][lane]);
    }
    total
}

#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; SIDE_BY_SIDE];
    let (chunks, rest) = values.as_chunks::<SIDE_BY_SIDE>();
    for chunk in chunks {
        for lane in 0..SIDE_BY_SIDE {
            lanes[lane] = if lanes[lane] > chunk[lane] { lanes[lane] } else { chunk[lane] };
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = lane.max(value);
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0; SIDE_BY_SIDE];
    let (chunks, rest) = values.as_chunks::<SIDE_BY_SIDE>();
    for chunk in chunks {
        for lane in 0..SIDE_BY_SIDE {
            lanes[lane] += chunk[lane];
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += value;
    }
    lanes.into_iter().sum()
}
