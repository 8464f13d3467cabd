//! Reference of [`crate::ops::conv_transpose2d`]: output pixels of one phase (their position modulo the stride) meet the same taps,
//! so each phase is a convolution of its own, read from padded rows where they lie.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::epilogue::Epilogue;
use super::matrix::{PRODUCT_ELEMENTS, Product, Tiling};
use super::rows::{Ring, Source, pixel_elements};
use super::{bands, lanes, row_elements, scratch};
use crate::ops::conv_transpose2d::ConvTranspose2d;
use crate::ops::{Border, Io};
use crate::tensor::LANES;

/// A tap that the pixels of a phase meet: pixel number `n` of the phase reads source pixel `n + shift`.
struct Tap {
    index: usize,
    shift: i64,
}

/// The taps of every phase of an axis.
fn phases(op: &ConvTranspose2d, axis: usize) -> Vec<Vec<Tap>> {
    let stride = op.stride[axis] as i64;
    let tap = |phase: i64, index: usize| {
        let steps = phase + op.padding[axis] as i64 - (index * op.dilation[axis]) as i64;
        (steps % stride == 0).then_some(Tap { index, shift: steps / stride })
    };
    (0..stride).map(|phase| (0..op.kernel[axis]).filter_map(|index| tap(phase, index)).collect()).collect()
}

/// The least and the largest shift of an axis.
fn reach(phases: &[Vec<Tap>]) -> [i64; 2] {
    let shifts = || phases.iter().flatten().map(|tap| tap.shift);
    [shifts().min().unwrap_or(0), shifts().max().unwrap_or(0)]
}

fn tiling(op: &ConvTranspose2d) -> Tiling {
    Tiling::new(op.out_channels.next_multiple_of(LANES))
}

/// Lays out each phase's part of the packed weights, one after the other; a tap belongs to exactly one.
pub(super) fn prepare(op: &ConvTranspose2d, mut weights: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let (tiling, width) = (tiling(op), op.out_channels.next_multiple_of(LANES));
    let tap_elements = op.in_channels.next_multiple_of(LANES) * width;
    // The rows of a tap's matrix for the channels that a padded row holds.
    let held = pixel_elements(op.in_channels) * width;
    let (row_phases, column_phases) = (phases(op, 0), phases(op, 1));
    let part = |rows: &[Tap], columns: &[Tap]| {
        let taps = rows.iter().flat_map(|row| columns.iter().map(|column| row.index * op.kernel[1] + column.index));
        let matrix: Vec<f32> = taps.flat_map(|tap| &weights[0][tap * tap_elements..][..held]).copied().collect();
        tiling.pack(&matrix, width)
    };
    let parts = row_phases.iter().flat_map(|rows| column_phases.iter().map(|columns| part(rows, columns)));
    weights[0] = parts.collect::<Vec<_>>().concat();
    weights
}

pub(super) fn run(op: &ConvTranspose2d, io: &Io, weights: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let (activation, channels) = (op.activation, op.out_channels);
    let epilogue = Epilogue { activation, channels, values: &weights[1], residual: None, gate: None, shuffle: None };
    let tiling = tiling(op);
    let (stride, start) = (tiling.stride(), tiling.pad(epilogue.bias()));
    let [stride_y, stride_x] = op.stride;
    let (row_phases, column_phases) = (phases(op, 0), phases(op, 1));
    let ([top, bottom], [left, right]) = (reach(&row_phases), reach(&column_phases));
    // Pixels of the first phase, which has most.
    let most = to.width.div_ceil(stride_x);
    let source = Source {
        arch: tiling.arch(),
        shape: from,
        values: inputs[0],
        border: Border::Zero,
        left,
        columns: most + (right - left) as usize,
        norm: None,
        second: None,
    };
    let lanes_in = source.pixel_elements();
    let lanes_out = lanes(channels);
    let block = (PRODUCT_ELEMENTS / stride).clamp(1, most);

    let line_elements = row_elements(to);
    let together = bands::rows(to.height.div_ceil(stride_y), line_elements * stride_y);
    output.par_chunks_mut(together * stride_y * line_elements).enumerate().for_each(|(band, output)| {
        let rows = (bottom - top) as usize + 1;
        scratch::with([rows * source.row_elements(), block * stride], |[padded, product]| {
            let mut ring = Ring::new(&source, padded);
            for (y, lines) in (band * together..).zip(output.chunks_mut(stride_y * line_elements)) {
                let mut weights = &weights[0][..];
                for (index, taps_y) in row_phases.iter().enumerate() {
                    taps_y.iter().for_each(|tap| ring.load(y as i64 + tap.shift));
                    for (phase, taps_x) in column_phases.iter().enumerate() {
                        let depth = taps_y.len() * taps_x.len() * lanes_in;
                        let weight;
                        (weight, weights) = weights.split_at(depth * stride);
                        let Some(line) = lines.get_mut(index * line_elements..(index + 1) * line_elements) else {
                            continue;
                        };
                        let rows = taps_y.iter().map(|tap| ring.row(y as i64 + tap.shift));
                        let segments: Vec<&[f32]> = rows
                            .flat_map(|row| {
                                taps_x.iter().map(move |tap| &row[(tap.shift - left) as usize * lanes_in..])
                            })
                            .collect();
                        let pixels = to.width.saturating_sub(phase).div_ceil(stride_x);
                        for first in (0..pixels).step_by(block) {
                            let shifted: Vec<&[f32]> = segments.iter().map(|row| &row[first * lanes_in..]).collect();
                            let product = &mut product[..block.min(pixels - first) * stride];
                            let (segments, output_of) = (&shifted[..], &mut *product);
                            let (length, step) = (lanes_in, lanes_in);
                            Product { tiling, segments, length, step, weight, start: &start, output: output_of }.run();
                            let line = &mut line[(first * stride_x + phase) * lanes_out..];
                            spread(product, stride, line, stride_x * lanes_out, lanes_out);
                        }
                    }
                }
                epilogue.finish(tiling.arch(), lines, 0);
            }
        });
    });
}

/// Copies the first `lanes` elements of every `stride` of the products to every `step` of a line.
fn spread(product: &[f32], stride: usize, line: &mut [f32], step: usize, lanes: usize) {
    for (from, to) in product.chunks_exact(stride).zip(line.chunks_mut(step)) {
        if lanes == 1 {
            to[0] = from[0];
        } else {
            // Whole groups, for which no call of `memcpy` is made.
            let (to, _) = to[..lanes].as_chunks_mut::<LANES>();
            let (from, _) = from[..lanes].as_chunks::<LANES>();
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
    }
}
