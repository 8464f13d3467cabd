//! Depthwise convolution: every channel by itself.

use pulp::Arch;
use rayon::prelude::*;

use crate::cpu::epilogue::Epilogue;
use crate::cpu::{row_elements, scratch, vectorized};
use crate::ops::Io;
use crate::ops::conv2d::Conv2d;

/// For each output position of one axis and each tap, the input position; `None` reads a zero.
fn taps(op: &Conv2d, axis: usize, dst: usize, src: usize) -> Vec<Option<usize>> {
    let mut table = Vec::with_capacity(dst * op.kernel[axis]);
    for position in 0..dst {
        for tap in 0..op.kernel[axis] {
            let at = (position * op.stride[axis] + tap * op.dilation[axis]) as i64 - op.padding[axis][0] as i64;
            table.push(op.border.resolve(at, src));
        }
    }
    table
}

pub(super) fn run(op: &Conv2d, io: &Io, weight: &[f32], src: &[f32], epilogue: &Epilogue<'_>, output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let lanes = to.padded_channels();
    let [kernel_height, kernel_width] = op.kernel;
    let rows = taps(op, 0, to.height, from.height);
    let columns = taps(op, 1, to.width, from.width);
    let arch = Arch::new();
    // Rows of a gate's result are narrower than those of its halves.
    let elements = to.width * epilogue.lanes();
    output.par_chunks_mut(elements.max(1)).enumerate().for_each(|(y, output)| {
        let sum = |output: &mut [f32]| {
            vectorized(
                arch,
                #[inline(always)]
                || {
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
                },
            )
        };
        if epilogue.gate.is_some() {
            scratch::with([row_elements(to)], |[row]| {
                sum(row);
                epilogue.store(arch, row, lanes, output, y * elements);
            });
        } else {
            sum(output);
            epilogue.finish(arch, output, y * elements);
        }
    });
}
