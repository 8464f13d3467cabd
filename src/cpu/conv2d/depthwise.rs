//! Depthwise convolution: every channel by itself.

use pulp::Arch;
use rayon::prelude::*;

use crate::cpu::epilogue::{Epilogue, Target};
use crate::cpu::{lanes, row_elements, scratch, vectorized};
use crate::ops::Io;
use crate::ops::conv2d::Conv2d;
use crate::tensor::LANES;

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

/// What one output pixel reads.
struct Window<'a> {
    src: &'a [f32],
    weight: &'a [f32],
    /// Pixels of a source row, and lanes of a pixel.
    width: usize,
    lanes: usize,
    /// For each tap of either axis the position, `None` reads a zero.
    rows: &'a [Option<usize>],
    columns: &'a [Option<usize>],
}

impl Window<'_> {
    /// Adds the products of all taps to `N` lanes of `pixel` from `first` on, whose sums stay in registers; answers `N`.
    #[inline(always)]
    fn add<const N: usize>(&self, pixel: &mut [f32], first: usize) -> usize {
        let lanes = |values: &[f32], at: usize| -> [f32; N] { std::array::from_fn(|lane| values[at..][..N][lane]) };
        let mut sums = lanes(pixel, first);
        for (ky, row) in self.rows.iter().enumerate() {
            let Some(row) = row else { continue };
            for (kx, column) in self.columns.iter().enumerate() {
                let Some(column) = column else { continue };
                let values = lanes(self.src, (row * self.width + column) * self.lanes + first);
                let weight = lanes(self.weight, (ky * self.columns.len() + kx) * self.lanes + first);
                for ((sum, value), weight) in sums.iter_mut().zip(values).zip(weight) {
                    *sum += value * weight;
                }
            }
        }
        pixel[first..][..N].copy_from_slice(&sums);
        N
    }
}

pub(super) fn run(op: &Conv2d, io: &Io, weight: &[f32], src: &[f32], epilogue: &Epilogue<'_>, output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let lanes = lanes(to.channels);
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
                        let rows = &rows[y * kernel_height..][..kernel_height];
                        let columns = &columns[x * kernel_width..][..kernel_width];
                        let window = Window { src, weight, width: from.width, lanes, rows, columns };
                        let mut first = 0;
                        while first < lanes {
                            first += match lanes - first {
                                64.. => window.add::<64>(pixel, first),
                                16.. => window.add::<16>(pixel, first),
                                _ => window.add::<LANES>(pixel, first),
                            };
                        }
                    }
                },
            )
        };
        if epilogue.gate.is_some() {
            scratch::with([row_elements(to)], |[row]| {
                sum(row);
                epilogue.store(arch, row, lanes, Target { line: output, first: 0, at: y * elements });
            });
        } else {
            sum(output);
            epilogue.finish(arch, output, y * elements);
        }
    });
}
