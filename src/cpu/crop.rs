//! Reference of [`crate::ops::crop`].

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{lanes, row_elements};
use crate::ops::Io;
use crate::ops::crop::Crop;

pub(super) fn run(op: &Crop, io: &Io, _: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let (from, to) = (io.inputs[0].shape, io.output.shape);
    let left = op.before(1) * lanes(to.channels);
    let rows = inputs[0].par_chunks(row_elements(from)).skip(op.before(0));
    output.par_chunks_mut(row_elements(to)).zip(rows).for_each(|(output, input)| {
        output.copy_from_slice(&input[left..][..output.len()]);
    });
}
