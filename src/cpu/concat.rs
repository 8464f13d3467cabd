//! Reference of [`crate::ops::concat`].

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{lanes, row_elements};
use crate::ops::Io;
use crate::ops::concat::Concat;
use crate::tensor::LANES;

pub(super) fn run(_: &Concat, io: &Io, _: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let (first, second, to) = (io.inputs[0].shape, io.inputs[1].shape, io.output.shape);
    let rows = inputs[0].par_chunks(row_elements(first)).zip(inputs[1].par_chunks(row_elements(second)));
    output.par_chunks_mut(row_elements(to)).zip(rows).for_each(|(output, (left, right))| {
        join(output, left, right, [first.channels, second.channels]);
    });
}

/// Writes whole pixels with the channels of `left` and then those of `right`, which may be longer than needed.
pub(super) fn join(output: &mut [f32], left: &[f32], right: &[f32], channels: [usize; 2]) {
    let [first, second] = channels;
    let lanes = lanes(first + second);
    if first.is_multiple_of(LANES) {
        // Whole groups, padding lanes too.
        place(output, lanes, 0, left, first);
        if second == 1 {
            let pixels = output.chunks_exact_mut(lanes).zip(right);
            pixels.for_each(|(output, value)| output[first..].copy_from_slice(&[*value, 0.0, 0.0, 0.0]));
        } else {
            place(output, lanes, first, right, lanes - first);
        }
        return;
    }
    if first + second < lanes {
        for pixel in output.chunks_exact_mut(lanes) {
            pixel[lanes - LANES..].copy_from_slice(&[0.0; LANES]);
        }
    }
    place(output, lanes, 0, left, first);
    place(output, lanes, first, right, second);
}

/// Copies the channels of every pixel of a row to channel `at` of another row's.
fn place(output: &mut [f32], lanes_out: usize, at: usize, input: &[f32], channels: usize) {
    let pixels = output.chunks_exact_mut(lanes_out).zip(input.chunks_exact(lanes(channels)));
    // Copies of a known size take an instruction, others a call.
    match channels {
        1 => pixels.for_each(|(output, input)| output[at] = input[0]),
        4 => pixels.for_each(|(output, input)| output[at..at + 4].copy_from_slice(&input[..4])),
        8 => pixels.for_each(|(output, input)| output[at..at + 8].copy_from_slice(&input[..8])),
        16 => pixels.for_each(|(output, input)| output[at..at + 16].copy_from_slice(&input[..16])),
        _ => pixels.for_each(|(output, input)| output[at..at + channels].copy_from_slice(&input[..channels])),
    }
}
