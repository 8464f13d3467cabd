//! Reference of [`crate::ops::upsample`]: two rows become one between them, which is then stretched.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::binary::combine;
use super::buffer::Buffer;
use super::{clear_padding, lanes, row_elements, scratch, vectorized};
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

pub(super) fn run(op: &Upsample, io: &Io, _: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let (rows, columns) = (taps(op, io, Axis::Vertical), taps(op, io, Axis::Horizontal));
    let (row_in, row_out) = (row_elements(from), row_elements(to));
    let (stride, lanes) = (lanes(from.channels), lanes(to.channels));
    let line = Line { op, columns: &columns, stride, lanes, arch: Arch::new() };
    output.par_chunks_mut(row_out).zip(&rows).enumerate().for_each(|(y, (output, row))| {
        let pair = |input: usize| [row.low, row.high].map(|row| &inputs[input][row * row_in..][..row_in]);
        // The second source's row takes memory only where there is one.
        scratch::with([row_in, if op.then.is_some() { row_out } else { 0 }], |[blended, second]| {
            let first = line.blend(pair(0), row.weight, blended);
            line.stretch(first, output);
            if op.joined {
                line.stretch(&first[lanes..], second);
            } else if op.then.is_some() {
                line.stretch(line.blend(pair(2), row.weight, blended), second);
            }
            let Some(kind) = op.combine else { return };
            let other = &inputs[1][y * row_out..][..row_out];
            vectorized(
                line.arch,
                #[inline(always)]
                || {
                    combine(kind.swapped(), output, other);
                    if let Some(then) = op.then {
                        combine(then, output, second);
                    }
                },
            );
            clear_padding(output, to.channels);
        });
    });
}

/// What is the same for all rows.
struct Line<'a> {
    op: &'a Upsample,
    columns: &'a [Taps],
    /// Elements of a pixel of the source and of the result.
    stride: usize,
    lanes: usize,
    arch: Arch,
}

impl Line<'_> {
    /// The row between two of the source, of which the second has that weight.
    fn blend<'b>(&self, [top, bottom]: [&'b [f32]; 2], weight: f32, blended: &'b mut [f32]) -> &'b [f32] {
        if self.op.mode == Interpolation::Nearest {
            return top;
        }
        vectorized(
            self.arch,
            #[inline(always)]
            || {
                for ((value, a), b) in blended.iter_mut().zip(top).zip(bottom) {
                    *value = (1.0 - weight) * a + weight * b;
                }
            },
        );
        blended
    }

    /// A row enlarged along itself, of `stride` elements a pixel, the first `lanes` of them.
    fn stretch(&self, input: &[f32], output: &mut [f32]) {
        let Self { op, columns, stride, lanes, arch } = *self;
        if op.mode == Interpolation::Nearest {
            if lanes == 1 {
                output.iter_mut().zip(columns).for_each(|(value, column)| *value = input[column.low]);
                return;
            }
            for (pixel, column) in output.chunks_exact_mut(lanes).zip(columns) {
                let (pixel, _) = pixel.as_chunks_mut::<LANES>();
                let (source, _) = input[column.low * stride..].as_chunks::<LANES>();
                pixel.iter_mut().zip(source).for_each(|(value, source)| *value = *source);
            }
        } else {
            arch.dispatch(Stretch { input, stride, lanes, columns, output });
        }
    }
}

/// Interpolates along a row.
struct Stretch<'a> {
    input: &'a [f32],
    stride: usize,
    lanes: usize,
    columns: &'a [Taps],
    output: &'a mut [f32],
}

impl WithSimd for Stretch<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { input, stride, lanes, columns, output } = self;
        for (pixel, column) in output.chunks_exact_mut(lanes).zip(columns) {
            let (left, right) = (&input[column.low * stride..][..lanes], &input[column.high * stride..][..lanes]);
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
