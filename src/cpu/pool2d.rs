//! Reference of [`crate::ops::pool2d`].

use std::ops::Range;

use rayon::prelude::*;

use super::buffer::Buffer;
use super::elementary::larger;
use super::{lanes, row_elements};
use crate::ops::Io;
use crate::ops::pool2d::{Pool2d, PoolKind};

/// The window of output `position`, cut to a line of `size` pixels; never empty.
fn window(op: &Pool2d, axis: usize, position: usize, size: usize) -> Range<usize> {
    let (start, before) = (position * op.stride[axis], op.padding[axis][0]);
    start.saturating_sub(before)..(start + op.kernel[axis] - before).min(size)
}

pub(super) fn run(op: &Pool2d, io: &Io, _: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let lanes = lanes(to.channels);
    let row = row_elements(from);
    output.par_chunks_mut(row_elements(to)).enumerate().for_each(|(y, output)| {
        let rows = window(op, 0, y, from.height);
        for (x, pixel) in output.chunks_exact_mut(lanes).enumerate() {
            let columns = window(op, 1, x, from.width);
            let values = rows
                .clone()
                .flat_map(|y| inputs[0][y * row..][columns.start * lanes..columns.end * lanes].chunks_exact(lanes));
            match op.kind {
                PoolKind::Max => {
                    pixel.fill(f32::NEG_INFINITY);
                    for values in values {
                        for (best, value) in pixel.iter_mut().zip(values) {
                            *best = larger(*value, *best);
                        }
                    }
                }
                PoolKind::Average => {
                    pixel.fill(0.0);
                    for values in values {
                        for (sum, value) in pixel.iter_mut().zip(values) {
                            *sum += value;
                        }
                    }
                    let count =
                        if op.count_include_pad { op.kernel[0] * op.kernel[1] } else { rows.len() * columns.len() };
                    for sum in pixel.iter_mut() {
                        *sum /= count as f32;
                    }
                }
            }
        }
    });
}
