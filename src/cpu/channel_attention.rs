//! Reference of [`crate::ops::channel_attention`].

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{lanes, row_elements};
use crate::ops::Io;
use crate::ops::channel_attention::ChannelAttention;
use crate::tensor::LANES;

pub(super) fn run(op: &ChannelAttention, io: &Io, _weights: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let (size, channels) = (op.head_channels, op.heads * op.head_channels);
    // Column by column of each head: the inner loop then runs over a pixel's outputs.
    let mut columns = vec![0.0f32; channels * size];
    for row in 0..channels {
        let (head, i) = (row / size, row % size);
        for j in 0..size {
            columns[(head * size + j) * size + i] = inputs[1][(row / LANES * size + j) * LANES + row % LANES];
        }
    }
    let rows = output.par_chunks_mut(row_elements(to)).zip(inputs[0].par_chunks(row_elements(from)));
    rows.for_each(|(output, input)| {
        let pixels = output.chunks_exact_mut(lanes(to.channels)).zip(input.chunks_exact(lanes(from.channels)));
        for (output, input) in pixels {
            output.fill(0.0);
            let values = &input[2 * channels..3 * channels];
            for (head, output) in output[..channels].chunks_exact_mut(size).enumerate() {
                for j in head * size..(head + 1) * size {
                    for (output, weight) in output.iter_mut().zip(&columns[j * size..][..size]) {
                        *output += weight * values[j];
                    }
                }
            }
        }
    });
}
