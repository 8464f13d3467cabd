//! Reference of [`crate::ops::pixel_shuffle`].

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{lanes, row_elements};
use crate::ops::Io;
use crate::ops::pixel_shuffle::PixelShuffle;

pub(super) fn run(op: &PixelShuffle, io: &Io, _: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let (factor, area) = (op.factor, op.factor * op.factor);
    let (lanes_in, lanes_out) = (lanes(from.channels), lanes(to.channels));
    output.par_chunks_mut(row_elements(to)).enumerate().for_each(|(y, output)| {
        let row = &inputs[0][y / factor * row_elements(from)..][..row_elements(from)];
        for (x, pixel) in output.chunks_exact_mut(lanes_out).enumerate() {
            let source = &row[x / factor * lanes_in..][..lanes_in];
            let phase = y % factor * factor + x % factor;
            let (values, padding) = pixel.split_at_mut(to.channels);
            for (value, channels) in values.iter_mut().zip(source.chunks_exact(area)) {
                *value = channels[phase];
            }
            padding.fill(0.0);
        }
    });
}
