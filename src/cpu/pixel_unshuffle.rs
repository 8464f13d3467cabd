//! Reference of [`crate::ops::pixel_unshuffle`].

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{lanes, row_elements};
use crate::ops::Io;
use crate::ops::pixel_unshuffle::PixelUnshuffle;

pub(super) fn run(op: &PixelUnshuffle, io: &Io, _: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let (factor, area) = (op.factor, op.factor * op.factor);
    let (lanes_in, lanes_out) = (lanes(from.channels), lanes(to.channels));
    output.par_chunks_mut(row_elements(to)).enumerate().for_each(|(y, output)| {
        for i in 0..factor {
            let row = &inputs[0][(y * factor + i) * row_elements(from)..][..row_elements(from)];
            let pixels = output.chunks_exact_mut(lanes_out).zip(row.chunks_exact(factor * lanes_in));
            if lanes_in == 1 {
                // Copies of a known size take an instruction, others a call.
                match factor {
                    2 => pixels.for_each(|(pixel, sources)| pixel[2 * i..2 * i + 2].copy_from_slice(&sources[..2])),
                    _ => pixels.for_each(|(pixel, sources)| pixel[i * factor..][..factor].copy_from_slice(sources)),
                }
                continue;
            }
            for (pixel, sources) in pixels {
                for (j, source) in sources.chunks_exact(lanes_in).enumerate() {
                    let values = pixel[i * factor + j..].iter_mut().step_by(area);
                    values.zip(&source[..from.channels]).for_each(|(value, source)| *value = *source);
                }
            }
        }
        output.chunks_exact_mut(lanes_out).for_each(|pixel| pixel[to.channels..].fill(0.0));
    });
}
