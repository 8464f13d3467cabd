//! Reference of [`crate::ops::pad`].

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{lanes, row_elements};
use crate::ops::Io;
use crate::ops::pad::Pad;

pub(super) fn run(op: &Pad, io: &Io, _: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let lanes = lanes(to.channels);
    let [top, left] = [op.before(0) as i64, op.before(1) as i64];
    let columns: Vec<Option<usize>> = (0..to.width).map(|x| op.border.resolve(x as i64 - left, from.width)).collect();
    output.par_chunks_mut(row_elements(to)).enumerate().for_each(|(y, output)| {
        let Some(row) = op.border.resolve(y as i64 - top, from.height) else {
            output.fill(0.0);
            return;
        };
        let row = &inputs[0][row * row_elements(from)..][..row_elements(from)];
        for (pixel, column) in output.chunks_exact_mut(lanes).zip(&columns) {
            match column {
                Some(column) => pixel.copy_from_slice(&row[column * lanes..][..lanes]),
                None => pixel.fill(0.0),
            }
        }
    });
}
