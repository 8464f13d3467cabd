//! Reference of [`crate::ops::normalize`].

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{activation, affine, clear_padding, lanes, row_elements};
use crate::ops::Io;
use crate::ops::normalize::Normalize;

pub(super) fn run(op: &Normalize, io: &Io, weights: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let shape = io.output.shape;
    let (row, lanes) = (row_elements(shape), lanes(shape.channels));
    let (scale, shift, slopes) = affine(&weights[0], op.channels);
    let (mut means, mut factors) = (vec![0.0; lanes], vec![0.0; lanes]);
    for (channel, moments) in inputs[1].chunks_exact(2).take(op.channels).enumerate() {
        means[channel] = moments[0];
        factors[channel] = moments[1] * scale[channel];
    }
    output.par_chunks_mut(row).zip(inputs[0].par_chunks(row)).enumerate().for_each(|(y, (output, input))| {
        for (output, input) in output.chunks_exact_mut(lanes).zip(input.chunks_exact(lanes)) {
            let constants = means.iter().zip(&factors).zip(shift);
            for ((output, x), ((mean, factor), shift)) in output.iter_mut().zip(input).zip(constants) {
                *output = (x - mean) * factor + shift;
            }
        }
        activation::apply(op.activation, output, slopes);
        if op.residual {
            for (output, residual) in output.iter_mut().zip(&inputs[2][y * row..]) {
                *output += residual;
            }
        }
        clear_padding(output, op.channels);
    });
}
