//! Reference of [`crate::ops::scale_shift`].

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{activation, affine, clear_padding, lanes, row_elements};
use crate::ops::Io;
use crate::ops::scale_shift::ScaleShift;

pub(super) fn run(op: &ScaleShift, io: &Io, weights: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let shape = io.output.shape;
    let (row, lanes) = (row_elements(shape), lanes(shape.channels));
    let (scale, shift, slopes) = affine(&weights[0], op.channels);
    output.par_chunks_mut(row).zip(inputs[0].par_chunks(row)).for_each(|(output, input)| {
        for (output, input) in output.chunks_exact_mut(lanes).zip(input.chunks_exact(lanes)) {
            for (((output, x), scale), shift) in output.iter_mut().zip(input).zip(scale).zip(shift) {
                *output = x * scale + shift;
            }
        }
        activation::apply(op.activation, output, slopes);
        clear_padding(output, op.channels);
    });
}
