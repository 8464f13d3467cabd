//! Reference of [`crate::ops::upsample`].

use rayon::prelude::*;

use super::row_elements;
use crate::ops::upsample::{Interpolation, Upsample};
use crate::ops::{Axis, Io};

/// Two source pixels, as indices into the tile, and the weight of the second.
struct Taps {
    low: usize,
    high: usize,
    weight: f32,
}

/// The taps of every output pixel of an axis.
fn taps(op: &Upsample, io: &Io, axis: Axis) -> Vec<Taps> {
    let at = axis as usize;
    let (from, to) = (io.inputs[0], io.output);
    let (size, count) = match axis {
        Axis::Vertical => (from.shape.height, to.shape.height),
        Axis::Horizontal => (from.shape.width, to.shape.width),
    };
    let (full, origin) = (from.full[at], from.origin[at]);
    // Pixels that the tile does not hold are asked for by junk pixels only.
    let local = |pixel: usize| pixel.min(full - 1).saturating_sub(origin).min(size - 1);
    (0..count)
        .map(|local_position| {
            let position = (to.origin[at] + local_position) as u64;
            let (pixel, numerator, denominator) = op.position(axis, position, full as u64);
            let pixel = pixel as usize;
            Taps { low: local(pixel), high: local(pixel + 1), weight: numerator as f32 / denominator as f32 }
        })
        .collect()
}

pub(super) fn run(op: &Upsample, io: &Io, _: &[Vec<f32>], inputs: &[&[f32]], output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let lanes = to.padded_channels();
    let (rows, columns) = (taps(op, io, Axis::Vertical), taps(op, io, Axis::Horizontal));
    let row_in = row_elements(from);
    output.par_chunks_mut(row_elements(to)).zip(&rows).for_each(|(output, row)| {
        let (top, bottom) = (&inputs[0][row.low * row_in..][..row_in], &inputs[0][row.high * row_in..][..row_in]);
        for (pixel, column) in output.chunks_exact_mut(lanes).zip(&columns) {
            let (left, right) = (column.low * lanes, column.high * lanes);
            if op.mode == Interpolation::Nearest {
                pixel.copy_from_slice(&top[left..][..lanes]);
                continue;
            }
            let upper = top[left..][..lanes].iter().zip(&top[right..][..lanes]);
            let lower = bottom[left..][..lanes].iter().zip(&bottom[right..][..lanes]);
            for ((value, (a, b)), (c, d)) in pixel.iter_mut().zip(upper).zip(lower) {
                let upper = (1.0 - column.weight) * a + column.weight * b;
                let lower = (1.0 - column.weight) * c + column.weight * d;
                *value = (1.0 - row.weight) * upper + row.weight * lower;
            }
        }
    });
}
