//! Reference of [`crate::ops::concat`].

use rayon::prelude::*;

use super::row_elements;
use crate::ops::Io;
use crate::ops::concat::Concat;

pub(super) fn run(_: &Concat, io: &Io, _: &[Vec<f32>], inputs: &[&[f32]], output: &mut [f32]) {
    let (first, second, to) = (io.inputs[0].shape, io.inputs[1].shape, io.output.shape);
    let rows = inputs[0].par_chunks(row_elements(first)).zip(inputs[1].par_chunks(row_elements(second)));
    output.par_chunks_mut(row_elements(to)).zip(rows).for_each(|(output, (left, right))| {
        let pixels = left.chunks_exact(first.padded_channels()).zip(right.chunks_exact(second.padded_channels()));
        for (pixel, (left, right)) in output.chunks_exact_mut(to.padded_channels()).zip(pixels) {
            pixel[..first.channels].copy_from_slice(&left[..first.channels]);
            pixel[first.channels..to.channels].copy_from_slice(&right[..second.channels]);
            pixel[to.channels..].fill(0.0);
        }
    });
}
