//! Reference of [`crate::ops::pixel_unshuffle`].

use rayon::prelude::*;

use super::row_elements;
use crate::ops::Io;
use crate::ops::pixel_unshuffle::PixelUnshuffle;

pub(super) fn run(op: &PixelUnshuffle, io: &Io, _: &[Vec<f32>], inputs: &[&[f32]], output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let (factor, area) = (op.factor, op.factor * op.factor);
    let (lanes_in, lanes_out) = (from.padded_channels(), to.padded_channels());
    output.par_chunks_mut(row_elements(to)).enumerate().for_each(|(y, output)| {
        for (x, pixel) in output.chunks_exact_mut(lanes_out).enumerate() {
            pixel[to.channels..].fill(0.0);
            for phase in 0..area {
                let (row, column) = (y * factor + phase / factor, x * factor + phase % factor);
                let source = &inputs[0][(row * from.width + column) * lanes_in..][..from.channels];
                for (value, source) in pixel[phase..].iter_mut().step_by(area).zip(source) {
                    *value = *source;
                }
            }
        }
    });
}
