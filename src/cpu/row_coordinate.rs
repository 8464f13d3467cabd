//! Reference of [`crate::ops::row_coordinate`].

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{lanes, row_elements};
use crate::ops::Io;
use crate::ops::row_coordinate::RowCoordinate;

pub(super) fn run(op: &RowCoordinate, io: &Io, _: &[Buffer], _: &[&[f32]], output: &mut [f32]) {
    let shape = io.output.shape;
    let last = io.inputs[0].full[0] - 1;
    output.par_chunks_mut(row_elements(shape)).enumerate().for_each(|(y, output)| {
        let first = (io.output.origin[0] + y) * op.factor;
        let mut pixel = vec![0.0; lanes(shape.channels)];
        for (channel, value) in pixel[..shape.channels].iter_mut().enumerate() {
            *value = (first + channel / op.factor).min(last) as f32 / last.max(1) as f32;
        }
        output.chunks_exact_mut(pixel.len()).for_each(|to| to.copy_from_slice(&pixel));
    });
}
