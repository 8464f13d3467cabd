//! Convolution by patches: a patch is read from the padded rows where it lies, never copied.

use pulp::Arch;
use rayon::prelude::*;

use super::narrow::{Narrow, Planar};
use super::{Task, is_narrow, is_planar, segment_elements};
use crate::cpu::epilogue::Target;
use crate::cpu::matrix::{PRODUCT_ELEMENTS, Product};
use crate::cpu::rows::Ring;
use crate::cpu::{bands, lanes, row_elements, scratch};

pub(super) fn run(task: &Task<'_>, output: &mut [f32]) {
    let &Task { op, tiling, io, weight, ref epilogue, .. } = task;
    let to = io.output.shape;
    let [kernel_height, kernel_width] = op.kernel;
    let [extent_y, extent_x] = [0, 1].map(|axis: usize| op.dilation[axis] * (op.kernel[axis] - 1) + 1);
    let source = task.source(-(op.padding[1][0] as i64), (to.width - 1) * op.stride[1] + extent_x);
    let lanes_in = source.pixel_elements();
    let length = segment_elements(op);
    let segments = kernel_width * lanes_in / length;
    let lanes_out = epilogue.lanes();
    let stride = if is_narrow(op) { lanes(op.out_channels) } else { tiling.stride() };
    let start = tiling.pad(epilogue.bias());
    let block = (PRODUCT_ELEMENTS / stride).clamp(1, to.width);

    let rows = bands::rows(to.height, row_elements(to) * extent_y.max(op.stride[0]));
    output.par_chunks_mut(rows * to.width * lanes_out).enumerate().for_each(|(band, output)| {
        scratch::with([extent_y * source.row_elements(), block * stride], |[padded, product]| {
            let mut ring = Ring::new(&source, padded);
            for (y, output) in (band * rows..).zip(output.chunks_exact_mut(to.width * lanes_out)) {
                let top = (y * op.stride[0]) as i64 - op.padding[0][0] as i64;
                let taps = (0..kernel_height).map(|tap| top + (tap * op.dilation[0]) as i64);
                taps.clone().for_each(|row| ring.load(row));
                let rows: Vec<&[f32]> = taps
                    .flat_map(|row| {
                        let row = ring.row(row);
                        (0..segments).map(move |tap| &row[tap * op.dilation[1] * lanes_in..])
                    })
                    .collect();
                for first in (0..to.width).step_by(block) {
                    let shifted: Vec<&[f32]> = rows.iter().map(|row| &row[first * op.stride[1] * lanes_in..]).collect();
                    let product = &mut product[..block.min(to.width - first) * stride];
                    let step = op.stride[1] * lanes_in;
                    let (segments, output_of) = (&shifted[..], &mut *product);
                    if is_narrow(op) {
                        let (channels, bias) = (op.out_channels, epilogue.bias());
                        let narrow = Narrow { segments, length, step, weight, channels, bias, output: output_of };
                        if is_planar(op) {
                            // Vectors of pixels, which there are enough of for the widest.
                            Arch::new().dispatch(Planar(narrow));
                        } else {
                            tiling.arch().dispatch(narrow);
                        }
                    } else {
                        Product { tiling, segments, length, step, weight, start: &start, output: output_of }.run();
                    }
                    let target = Target { line: output, first, at: y * to.width * lanes_out };
                    epilogue.store(tiling.arch(), product, stride, target);
                }
            }
        });
    });
}
