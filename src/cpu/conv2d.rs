//! Reference of [`crate::ops::conv2d`]: rows of patches times the weight matrix, or a plain loop if depthwise.

use rayon::prelude::*;

use super::{activation, row_elements};
use crate::ops::conv2d::{Conv2d, Residual};
use crate::ops::{Border, Io};
use crate::tensor::LANES;

/// Pixels of one matrix product. Always this many, junk at the end of an image included: a product of another size may
/// round differently, and a pixel must get the same bits in every tile.
const BLOCK: usize = 64;

pub(super) fn run(op: &Conv2d, io: &Io, weights: &[Vec<f32>], inputs: &[&[f32]], output: &mut [f32]) {
    let residual = op.residual.map(|when| (when, inputs[1]));
    if op.is_depthwise() {
        depthwise(op, io, weights, inputs[0], residual, output);
    } else {
        dense(op, io, weights, inputs[0], residual, output);
    }
}

/// Bias is already in `values`; adds the residual and applies the activation. `at` is the first element's index.
fn finish(op: &Conv2d, values: &mut [f32], at: usize, epilogue: &[f32], residual: Option<(Residual, &[f32])>) {
    let slopes = &epilogue[epilogue.len() / 2..];
    let add = |values: &mut [f32], residual: &[f32]| {
        for (value, residual) in values.iter_mut().zip(&residual[at..]) {
            *value += residual;
        }
    };
    if let Some((Residual::BeforeActivation, residual)) = residual {
        add(values, residual);
    }
    activation::apply(op.activation, values, slopes);
    if let Some((Residual::AfterActivation, residual)) = residual {
        add(values, residual);
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

fn dense(
    op: &Conv2d,
    io: &Io,
    weights: &[Vec<f32>],
    src: &[f32],
    residual: Option<(Residual, &[f32])>,
    output: &mut [f32],
) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let (lanes_in, lanes_out) = (from.padded_channels(), to.padded_channels());
    let [kernel_height, kernel_width] = op.kernel;
    let depth = kernel_height * kernel_width * lanes_in;
    let rows = taps(op, 0, to.height, from.height);
    let columns = taps(op, 1, to.width, from.width);
    let pixels = to.height * to.width;
    let (weight, epilogue) = (&weights[0], &weights[1]);
    // A 1x1 convolution's patches are the image itself.
    let pointwise = depth == lanes_in && from == to.with_channels(from.channels) && op.padding == [[0; 2]; 2];

    output.par_chunks_mut(BLOCK * lanes_out).enumerate().for_each_init(
        || (vec![0.0f32; BLOCK * depth], vec![0.0f32; BLOCK * lanes_out]),
        |(patches, tail), (block, output)| {
            let first = block * BLOCK;
            let count = (pixels - first).min(BLOCK);
            let matrix: &[f32] = if pointwise && count == BLOCK {
                &src[first * lanes_in..][..BLOCK * lanes_in]
            } else {
                for (patch, pixel) in patches.chunks_exact_mut(depth).zip(first..first + count) {
                    let (y, x) = (pixel / to.width, pixel % to.width);
                    let rows = &rows[y * kernel_height..][..kernel_height];
                    let columns = &columns[x * kernel_width..][..kernel_width];
                    let mut part = patch.chunks_exact_mut(lanes_in);
                    for row in rows {
                        for (column, part) in columns.iter().zip(&mut part) {
                            match (row, column) {
                                (Some(row), Some(column)) => {
                                    part.copy_from_slice(&src[(row * from.width + column) * lanes_in..][..lanes_in]);
                                }
                                _ => part.fill(0.0),
                            }
                        }
                    }
                }
                // Stale patches behind the last pixel are finite and their products are thrown away.
                patches
            };
            let product: &mut [f32] = if count == BLOCK { &mut *output } else { tail };
            for pixel in product.chunks_exact_mut(lanes_out) {
                pixel.copy_from_slice(&epilogue[..lanes_out]);
            }
            multiply(matrix, weight, product, depth, lanes_out);
            if count < BLOCK {
                output.copy_from_slice(&tail[..count * lanes_out]);
            }
            finish(op, output, first * lanes_out, epilogue, residual);
        },
    );
}

/// `product += matrix * weight`: `[BLOCK, depth]` times `[depth, width]`.
pub(super) fn multiply(matrix: &[f32], weight: &[f32], product: &mut [f32], depth: usize, width: usize) {
    assert!(matrix.len() == BLOCK * depth && weight.len() == depth * width && product.len() == BLOCK * width);
    // SAFETY: the three pointers cover exactly the strided ranges, as asserted, and `product` aliases neither operand.
    unsafe {
        gemm::gemm(
            BLOCK,
            width,
            depth,
            product.as_mut_ptr(),
            1,
            width as isize,
            true,
            matrix.as_ptr(),
            1,
            depth as isize,
            weight.as_ptr(),
            1,
            width as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

fn depthwise(
    op: &Conv2d,
    io: &Io,
    weights: &[Vec<f32>],
    src: &[f32],
    residual: Option<(Residual, &[f32])>,
    output: &mut [f32],
) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let lanes = to.padded_channels();
    debug_assert_eq!(lanes % LANES, 0);
    let [kernel_height, kernel_width] = op.kernel;
    let rows = taps(op, 0, to.height, from.height);
    let columns = taps(op, 1, to.width, from.width);
    let (weight, epilogue) = (&weights[0], &weights[1]);
    output.par_chunks_mut(row_elements(to)).enumerate().for_each(|(y, output)| {
        for (x, pixel) in output.chunks_exact_mut(lanes).enumerate() {
            pixel.copy_from_slice(&epilogue[..lanes]);
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
        finish(op, output, y * row_elements(to), epilogue, residual);
    });
}
