//! Reference of [`crate::ops::upsample`]: two rows become one between them, which is then stretched.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{clear_padding, row_elements, scratch, vectorized};
use crate::ops::binary::BinaryKind;
use crate::ops::upsample::{Interpolation, Upsample};
use crate::ops::{Axis, Io};
use crate::tensor::LANES;

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
    let arch = Arch::new();
    let row_out = row_elements(to);
    output.par_chunks_mut(row_out).zip(&rows).enumerate().for_each(|(y, (output, row))| {
        let (top, bottom) = (&inputs[0][row.low * row_in..][..row_in], &inputs[0][row.high * row_in..][..row_in]);
        if op.mode == Interpolation::Nearest {
            for (pixel, column) in output.chunks_exact_mut(lanes).zip(&columns) {
                let (pixel, _) = pixel.as_chunks_mut::<LANES>();
                let (source, _) = top[column.low * lanes..].as_chunks::<LANES>();
                pixel.iter_mut().zip(source).for_each(|(value, source)| *value = *source);
            }
        } else {
            scratch::with([row_in], |[blended]| {
                vectorized(
                    arch,
                    #[inline(always)]
                    || {
                        for ((value, a), b) in blended.iter_mut().zip(top).zip(bottom) {
                            *value = (1.0 - row.weight) * a + row.weight * b;
                        }
                    },
                );
                arch.dispatch(Stretch { input: blended, lanes, columns: &columns, output });
            });
        }
        if let Some(kind) = op.combine {
            let other = &inputs[1][y * row_out..][..row_out];
            vectorized(
                arch,
                #[inline(always)]
                || match kind {
                    BinaryKind::Add { alpha, beta } => combine(output, other, |a, b| alpha * a + beta * b),
                    BinaryKind::Multiply => combine(output, other, |a, b| a * b),
                },
            );
            clear_padding(output, to.channels);
        }
    });
}

/// `function(other, output)` instead of `output`.
#[inline(always)]
fn combine(output: &mut [f32], other: &[f32], function: impl Fn(f32, f32) -> f32) {
    for (value, other) in output.iter_mut().zip(other) {
        *value = function(*other, *value);
    }
}

/// Interpolates along a row.
struct Stretch<'a> {
    input: &'a [f32],
    lanes: usize,
    columns: &'a [Taps],
    output: &'a mut [f32],
}

impl WithSimd for Stretch<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { input, lanes, columns, output } = self;
        for (pixel, column) in output.chunks_exact_mut(lanes).zip(columns) {
            let (left, right) = (&input[column.low * lanes..][..lanes], &input[column.high * lanes..][..lanes]);
            let (pixel, pixel_rest) = S::as_mut_simd_f32s(pixel);
            let (left, left_rest) = S::as_simd_f32s(left);
            let (right, right_rest) = S::as_simd_f32s(right);
            let weights = [1.0 - column.weight, column.weight];
            let [far, near] = weights.map(|weight| simd.splat_f32s(weight));
            for ((value, a), b) in pixel.iter_mut().zip(left).zip(right) {
                *value = simd.add_f32s(simd.mul_f32s(far, *a), simd.mul_f32s(near, *b));
            }
            for ((value, a), b) in pixel_rest.iter_mut().zip(left_rest).zip(right_rest) {
                *value = weights[0] * a + weights[1] * b;
            }
        }
    }
}
