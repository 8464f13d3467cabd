//! Reference of [`crate::ops::gate`].

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{activation, clear_padding, lanes, of_pixel, row_elements};
use crate::ops::Io;
use crate::ops::gate::Gate;

pub(super) fn run(op: &Gate, io: &Io, weights: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let (lanes_in, lanes_out) = (lanes(from.channels), lanes(to.channels));
    let rows = output.par_chunks_mut(row_elements(to)).zip(inputs[0].par_chunks(row_elements(from)));
    rows.for_each(|(output, input)| {
        for (output, input) in output.chunks_exact_mut(lanes_out).zip(input.chunks_exact(lanes_in)) {
            output[..op.channels].copy_from_slice(&input[..op.channels]);
        }
        clear_padding(output, op.channels);
        activation::apply(op.activation, output, of_pixel(&weights[0], op.channels));
        for (output, input) in output.chunks_exact_mut(lanes_out).zip(input.chunks_exact(lanes_in)) {
            for (output, factor) in output[..op.channels].iter_mut().zip(&input[op.channels..]) {
                *output *= factor;
            }
        }
    });
}
