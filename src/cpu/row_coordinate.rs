//! Reference of [`crate::ops::row_coordinate`].

use rayon::prelude::*;

use super::row_elements;
use crate::ops::Io;
use crate::ops::row_coordinate::RowCoordinate;
use crate::tensor::LANES;

pub(super) fn run(_: &RowCoordinate, io: &Io, _: &[Vec<f32>], _: &[&[f32]], output: &mut [f32]) {
    let last = (io.output.full[0].max(2) - 1) as f32;
    output.par_chunks_mut(row_elements(io.output.shape)).enumerate().for_each(|(y, output)| {
        let position = (io.output.origin[0] + y) as f32 / last;
        for pixel in output.chunks_exact_mut(LANES) {
            pixel.copy_from_slice(&[position, 0.0, 0.0, 0.0]);
        }
    });
}
