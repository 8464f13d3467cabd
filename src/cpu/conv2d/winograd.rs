//! 3x3 convolution by Winograd's F(2x2, 3x3) ([`crate::ops::winograd`]), a strip of patches at a time.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::Task;
use crate::cpu::epilogue::{Epilogue, Target};
use crate::cpu::matrix::{Product, Tiling, load, load_unchecked, store_unchecked};
use crate::cpu::rows::Ring;
use crate::cpu::{bands, lanes, scratch};
use crate::ops::winograd::{POINTS, transform};

/// Transformed elements, before and after the products, that a second-level cache holds beside the weights.
const CACHED_ELEMENTS: usize = 64 << 10;
/// Elements that a vector may run over behind the last.
const SLACK: usize = 16;

/// At least `elements`, such that streams so far apart do not fall on the same places of a cache.
fn apart(elements: usize) -> usize {
    (elements.div_ceil(SLACK) | 1) * SLACK
}

/// The weight matrix `[9 * padded_in, width]` as 16 packed matrices `[channels, width]`: padding lanes are not multiplied.
pub(super) fn pack(tiling: Tiling, weight: &[f32], width: usize, channels: usize) -> Vec<f32> {
    transform(weight).iter().flat_map(|point| tiling.pack(&point[..channels * width], width)).collect()
}

pub(super) fn run(task: &Task<'_>, output: &mut [f32]) {
    let &Task { op, tiling, io, weight, ref epilogue, .. } = task;
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let (lanes_in, stride, lanes_out) = (lanes(from.channels), tiling.stride(), epilogue.lanes());
    // Outputs before the tile's own that complete its first patches.
    let [skip_y, skip_x] = io.output.origin.map(|origin| origin % 2);
    let [patches_y, patches_x] = [(to.height + skip_y).div_ceil(2), (to.width + skip_x).div_ceil(2)];
    let source = task.source(-((op.padding[1][0] + skip_x) as i64), 2 * patches_x + 2);
    let start = tiling.pad(epilogue.bias());
    let zeros = vec![0.0; stride];

    // A strip is what is transformed together: part of a row of patches, or several short rows.
    let strip = (CACHED_ELEMENTS / (POINTS * (lanes_in + stride))).max(8);
    let strip = strip.next_multiple_of(tiling.pixels());
    let strip_x = patches_x.div_ceil(patches_x.div_ceil(strip)).next_multiple_of(tiling.pixels()).min(patches_x);
    let rows = bands::rows(patches_y, 4 * to.width * stride);
    let strip_y = (strip / patches_x).clamp(1, rows);
    let patches = strip_x * strip_y;
    let (point_in, point_out) = (apart(patches * lanes_in + SLACK), apart(patches * stride));

    let heights = (0..patches_y).step_by(rows).map(|first| {
        let last = (first + rows).min(patches_y);
        let height = (2 * last - skip_y).min(to.height) - (2 * first).saturating_sub(skip_y);
        (first..last, height * to.width * lanes_out)
    });
    bands::split(output, heights).into_par_iter().for_each(|(band, output)| {
        let sizes =
            [(2 * strip_y + 2) * source.row_elements(), POINTS * point_in, POINTS * point_out, 4 * strip_x * stride];
        scratch::with(sizes, |[padded, transformed, products, results]| {
            let mut ring = Ring::new(&source, padded);
            // The first row that `output` holds.
            let first_row = (2 * band.start).saturating_sub(skip_y);
            for top in band.clone().step_by(strip_y) {
                let height = strip_y.min(band.end - top);
                let first_input = 2 * top as i64 - (skip_y + op.padding[0][0]) as i64;
                (0..2 * height as i64 + 2).for_each(|row| ring.load(first_input + row));
                for left in (0..patches_x).step_by(strip_x) {
                    let width = strip_x.min(patches_x - left);
                    for y in 0..height {
                        let rows = [0, 1, 2, 3].map(|row| {
                            let row = ring.row(first_input + (2 * y + row) as i64);
                            &row[2 * left * lanes_in..]
                        });
                        let target = &mut transformed[y * width * lanes_in..];
                        tiling.arch().dispatch(TransformInput {
                            rows,
                            lanes: lanes_in,
                            width,
                            point: point_in,
                            target,
                        });
                    }
                    let count = height * width;
                    let point_weights = weight.chunks_exact(weight.len() / POINTS);
                    let point_products = products.chunks_exact_mut(point_out);
                    for (point, (weight, output)) in point_weights.zip(point_products).enumerate() {
                        let output = &mut output[..count * stride];
                        let segments = &[&transformed[point * point_in..][..count * lanes_in]];
                        let (length, step) = (from.channels, lanes_in);
                        Product { tiling, segments, length, step, weight, start: &zeros, output }.run();
                    }
                    for y in 0..height {
                        let source = &products[y * width * stride..];
                        // The first result may stand before the tile, the last behind it.
                        let before = if left == 0 { skip_x } else { 0 };
                        let first = 2 * left + before - skip_x;
                        let count = (2 * width - before).min(to.width - first);
                        let line = LineOfPatches { source, point: point_out, stride, width, bias: &start };
                        let place = |row: usize| (row * to.width + first) * lanes_out;
                        let base = first_row * to.width * lanes_out;
                        if let Some(upper) = (2 * (top + y)).checked_sub(skip_y)
                            && upper + 1 < to.height
                            && count == 2 * width
                            && epilogue.is_simple(stride)
                        {
                            let (a, b) = output[place(upper) - base..].split_at_mut(to.width * lanes_out);
                            let finish = Some((epilogue, [place(upper), place(upper + 1)]));
                            tiling.arch().dispatch(TransformOutput { line, finish, rows: [a, b] });
                            continue;
                        }
                        let (a, b) = results[..4 * width * stride].split_at_mut(2 * width * stride);
                        tiling.arch().dispatch(TransformOutput { line, finish: None, rows: [&mut *a, &mut *b] });
                        for (index, result) in [a, b].into_iter().enumerate() {
                            let row = (2 * (top + y) + index).checked_sub(skip_y).filter(|&row| row < to.height);
                            if let Some(row) = row {
                                let at = row * to.width * lanes_out;
                                let line = &mut output[at - base..][..to.width * lanes_out];
                                let result = &result[before * stride..][..count * stride];
                                epilogue.store(tiling.arch(), result, stride, Target { line, first, at });
                            }
                        }
                    }
                }
            }
        });
    });
}

/// `B' d B` of a line of patches, for one group of channels after the other.
struct TransformInput<'a> {
    /// Four padded rows from the first patch's first pixel on.
    rows: [&'a [f32]; 4],
    lanes: usize,
    /// Patches.
    width: usize,
    /// Elements from one transformed element to the next.
    point: usize,
    /// `[16, width, lanes]`, the 16 parts `point` elements apart.
    target: &'a mut [f32],
}

impl WithSimd for TransformInput<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, lanes, width, point, target } = self;
        let [a, b, c, d] = rows;
        // What the last vectors reach.
        let last = lanes.next_multiple_of(S::F32_LANES);
        let read = (2 * width + 1) * lanes + last;
        assert!(rows.iter().all(|row| row.len() >= read) && target.len() >= 15 * point + (width - 1) * lanes + last);
        for patch in 0..width {
            // The last vector may run over into the next patch, which is written later.
            for channel in (0..lanes).step_by(S::F32_LANES) {
                let mut columns = [[simd.splat_f32s(0.0); 4]; 4];
                for (x, column) in columns.iter_mut().enumerate() {
                    let at = (2 * patch + x) * lanes + channel;
                    // SAFETY: patch < width, x < 4 and channel < lanes, so that the vector ends within `read`.
                    *column = unsafe {
                        let (a, b) = (load_unchecked::<S>(a, at), load_unchecked::<S>(b, at));
                        let (c, d) = (load_unchecked::<S>(c, at), load_unchecked::<S>(d, at));
                        input_line(simd, [a, b, c, d])
                    };
                }
                let [a, b, c, d] = columns;
                for y in 0..4 {
                    let values = input_line(simd, [a[y], b[y], c[y], d[y]]);
                    for (x, value) in values.into_iter().enumerate() {
                        let at = (4 * y + x) * point + patch * lanes + channel;
                        // SAFETY: 4 * y + x < 16 and the others as above, so that the vector ends within the target.
                        unsafe { store_unchecked::<S>(target, at, value) };
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn input_line<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
    [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(b, d)]
}

#[inline(always)]
fn output_line<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 2] {
    [simd.add_f32s(a, simd.add_f32s(b, c)), simd.sub_f32s(simd.sub_f32s(b, c), d)]
}

/// The products of a line of patches.
struct LineOfPatches<'a> {
    /// 16 parts, `point` elements apart, each `[width, stride]`.
    source: &'a [f32],
    point: usize,
    stride: usize,
    /// Patches.
    width: usize,
    bias: &'a [f32],
}

/// `A' m A` of a line of patches, plus the bias.
struct TransformOutput<'a> {
    line: LineOfPatches<'a>,
    /// The epilogue, if it is simple and the rows are the output's, and the elements at which they start there.
    finish: Option<(&'a Epilogue<'a>, [usize; 2])>,
    /// Two rows of `[2 * width, stride]`.
    rows: [&'a mut [f32]; 2],
}

impl WithSimd for TransformOutput<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { line: LineOfPatches { source, point, stride, width, bias }, finish, rows: [upper, lower] } = self;
        assert!(stride.is_multiple_of(S::F32_LANES) && source.len() >= 15 * point + width * stride);
        assert!(upper.len() >= 2 * width * stride && lower.len() >= 2 * width * stride);
        for patch in 0..width {
            for channel in (0..stride).step_by(S::F32_LANES) {
                let first = patch * stride + channel;
                let mut columns = [[simd.splat_f32s(0.0); 2]; 4];
                for (x, column) in columns.iter_mut().enumerate() {
                    // SAFETY: x + 12 < 16, patch < width and whole vectors fit the stride.
                    *column = unsafe {
                        let a = load_unchecked::<S>(source, first + x * point);
                        let b = load_unchecked::<S>(source, first + (4 + x) * point);
                        let c = load_unchecked::<S>(source, first + (8 + x) * point);
                        let d = load_unchecked::<S>(source, first + (12 + x) * point);
                        output_line(simd, [a, b, c, d])
                    };
                }
                let bias = load::<S>(bias, channel);
                let [a, b, c, d] = columns;
                for (y, row) in [&mut *upper, &mut *lower].into_iter().enumerate() {
                    let values = output_line(simd, [a[y], b[y], c[y], d[y]]);
                    for (x, value) in values.into_iter().enumerate() {
                        let at = (2 * patch + x) * stride + channel;
                        let mut value = simd.add_f32s(value, bias);
                        if let Some((epilogue, starts)) = finish {
                            value = epilogue.vector::<S>(simd, value, channel, starts[y] + at);
                        }
                        // SAFETY: patch < width and whole vectors fit the stride.
                        unsafe { store_unchecked::<S>(row, at, value) };
                    }
                }
            }
        }
    }
}
