//! Reference of [`crate::ops::conv2d`]: rows of patches times the weight matrix, or a plain loop if depthwise.

use rayon::prelude::*;

use super::matrix::{self, Epilogue};
use super::row_elements;
use crate::ops::conv2d::Conv2d;
use crate::ops::{Border, Io};
use crate::tensor::LANES;

pub(super) fn run(op: &Conv2d, io: &Io, weights: &[Vec<f32>], inputs: &[&[f32]], output: &mut [f32]) {
    let residual = op.residual.map(|when| (when, inputs[1]));
    let epilogue = Epilogue { activation: op.activation, values: &weights[1], residual };
    if op.is_depthwise() {
        depthwise(op, io, &weights[0], inputs[0], &epilogue, output);
    } else {
        dense(op, io, &weights[0], inputs[0], &epilogue, output);
    }
}

/// For each output position of one axis and each tap, the input position; `None` reads a zero.
fn taps(op: &Conv2d, axis: usize, dst: usize, src: usize) -> Vec<Option<usize>> {
    let (kernel, border): (usize, Border) = (op.kernel[axis], op.border);
    let mut table = Vec::with_capacity(dst * kernel);
    for position in 0..dst {
        for tap in 0..kernel {
            let at = (position * op.stride[axis] + tap * op.dilation[axis]) as i64 - op.padding[axis][0] as i64;
            table.push(border.resolve(at, src));
        }
    }
    table
}

fn dense(op: &Conv2d, io: &Io, weight: &[f32], src: &[f32], epilogue: &Epilogue<'_>, output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let lanes = from.padded_channels();
    let [kernel_height, kernel_width] = op.kernel;
    let depth = kernel_height * kernel_width * lanes;
    let rows = taps(op, 0, to.height, from.height);
    let columns = taps(op, 1, to.width, from.width);
    // A 1x1 convolution's patches are the image itself.
    let is_pointwise = depth == lanes && from == to.with_channels(from.channels) && op.padding == [[0; 2]; 2];
    let patch = |pixel: usize, patch: &mut [f32]| {
        let (y, x) = (pixel / to.width, pixel % to.width);
        let mut part = patch.chunks_exact_mut(lanes);
        for row in &rows[y * kernel_height..][..kernel_height] {
            for (column, part) in columns[x * kernel_width..][..kernel_width].iter().zip(&mut part) {
                match (row, column) {
                    (Some(row), Some(column)) => {
                        part.copy_from_slice(&src[(row * from.width + column) * lanes..][..lanes]);
                    }
                    _ => part.fill(0.0),
                }
            }
        }
    };
    matrix::product(depth, is_pointwise.then_some(src), patch, weight, epilogue, output);
}

fn depthwise(op: &Conv2d, io: &Io, weight: &[f32], src: &[f32], epilogue: &Epilogue<'_>, output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let lanes = to.padded_channels();
    debug_assert_eq!(lanes % LANES, 0);
    let [kernel_height, kernel_width] = op.kernel;
    let rows = taps(op, 0, to.height, from.height);
    let columns = taps(op, 1, to.width, from.width);
    output.par_chunks_mut(row_elements(to)).enumerate().for_each(|(y, output)| {
        for (x, pixel) in output.chunks_exact_mut(lanes).enumerate() {
            pixel.copy_from_slice(epilogue.bias());
            for (ky, row) in rows[y * kernel_height..][..kernel_height].iter().enumerate() {
                for (kx, column) in columns[x * kernel_width..][..kernel_width].iter().enumerate() {
                    if let (Some(row), Some(column)) = (row, column) {
                        let values = &src[(row * from.width + column) * lanes..][..lanes];
                        let weight = &weight[(ky * kernel_width + kx) * lanes..][..lanes];
                        for ((sum, value), weight) in pixel.iter_mut().zip(values).zip(weight) {
                            *sum += value * weight;
                        }
                    }
                }
            }
        }
        epilogue.finish(output, y * row_elements(to));
    });
}
