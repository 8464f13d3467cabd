//! Reference of [`crate::ops::conv_transpose2d`]: output pixels of one phase (their position modulo the stride) meet the
//! same taps, so each phase is rows of patches times its part of the weight matrix.

use rayon::prelude::*;

use super::epilogue::Epilogue;
use super::matrix::{Product, Tiling};
use super::{lanes, row_elements};
use crate::ops::Io;
use crate::ops::conv_transpose2d::ConvTranspose2d;
use crate::tensor::LANES;

/// Pixels of one matrix product.
const BLOCK: usize = 64;

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

pub(super) fn run(op: &ConvTranspose2d, io: &Io, weights: &[Vec<f32>], inputs: &[&[f32]], output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let (lanes_in, lanes_out) = (lanes(from.channels), lanes(to.channels));
    let src = inputs[0];
    let channels = op.out_channels;
    let epilogue = Epilogue {
        activation: op.activation,
        channels,
        values: &weights[1],
        residual: None,
        gate: None,
        shuffle: None,
    };
    let width = channels.next_multiple_of(LANES);
    let tiling = Tiling::new(width);
    let (stride, start) = (tiling.stride(), tiling.pad(epilogue.bias()));
    let [stride_y, stride_x] = op.stride;
    let (row_phases, column_phases) = (phases(op, 0), phases(op, 1));

    // Each phase's part of the weight matrix; a tap belongs to exactly one. Rows for lanes that are not stored are left out.
    let tap_elements = op.in_channels.next_multiple_of(LANES) * width;
    let part = |rows: &[Tap], columns: &[Tap]| -> Vec<f32> {
        let taps = rows.iter().flat_map(|row| columns.iter().map(|column| row.index * op.kernel[1] + column.index));
        let weight: Vec<f32> =
            taps.flat_map(|tap| &weights[0][tap * tap_elements..][..lanes_in * width]).copied().collect();
        tiling.pack(&weight, width)
    };
    let parts: Vec<Vec<Vec<f32>>> =
        row_phases.iter().map(|rows| column_phases.iter().map(|columns| part(rows, columns)).collect()).collect();
    let deepest = parts.iter().flatten().map(Vec::len).max().unwrap_or(0) / stride;

    // So many rows of a phase that narrow images fill the blocks too.
    let rows_together = BLOCK.div_ceil(to.width.div_ceil(stride_x));
    output.par_chunks_mut(rows_together * stride_y * row_elements(to)).enumerate().for_each_init(
        || (vec![0.0f32; BLOCK * deepest], vec![0.0f32; BLOCK * stride]),
        |(patches, product), (chunk, output)| {
            let height = output.len() / row_elements(to);
            for (phase_y, rows) in row_phases.iter().enumerate().take(height) {
                for (phase_x, columns) in column_phases.iter().enumerate().take(to.width) {
                    let weight = &parts[phase_y][phase_x];
                    let depth = weight.len() / stride;
                    let patches = &mut patches[..BLOCK * depth];
                    let width = (to.width - phase_x).div_ceil(stride_x);
                    let pixels = (height - phase_y).div_ceil(stride_y) * width;
                    for first in (0..pixels).step_by(BLOCK) {
                        let block = first..pixels.min(first + BLOCK);
                        if depth > 0 {
                            for (patch, pixel) in patches.chunks_exact_mut(depth).zip(block.clone()) {
                                let (y, x) = ((chunk * rows_together + pixel / width) as i64, (pixel % width) as i64);
                                let taps = rows.iter().flat_map(|row| {
                                    columns.iter().map(move |column| (y + row.shift, x + column.shift))
                                });
                                for (part, (y, x)) in patch.chunks_exact_mut(lanes_in).zip(taps) {
                                    if (0..from.height as i64).contains(&y) && (0..from.width as i64).contains(&x) {
                                        let at = (y as usize * from.width + x as usize) * lanes_in;
                                        part.copy_from_slice(&src[at..][..lanes_in]);
                                    } else {
                                        part.fill(0.0);
                                    }
                                }
                            }
                        }
                        let product = &mut product[..block.len() * stride];
                        let segments: &[&[f32]] = if depth > 0 { &[&*patches] } else { &[] };
                        let (length, step) = (depth, depth);
                        Product { tiling, segments, length, step, weight, start: &start, output: product }.run();
                        for (value, pixel) in product.chunks_exact(stride).zip(block) {
                            let (y, x) = (pixel / width * stride_y + phase_y, pixel % width * stride_x + phase_x);
                            output[(y * to.width + x) * lanes_out..][..lanes_out].copy_from_slice(&value[..lanes_out]);
                        }
                    }
                }
            }
            epilogue.finish(tiling.arch(), output, 0);
        },
    );
}
