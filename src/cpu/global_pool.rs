//! Reference of [`crate::ops::global_pool`]: rows by themselves, then together in their order, sums in f64.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{lanes, row_elements};
use crate::ops::Io;
use crate::ops::global_pool::GlobalPool;
use crate::ops::pool2d::PoolKind;

pub(super) fn run(op: &GlobalPool, io: &Io, _: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let shape = io.inputs[0].shape;
    let lanes = lanes(shape.channels);
    let combine = |a: f64, b: f64| match op.kind {
        PoolKind::Max => a.max(b),
        PoolKind::Average => a + b,
    };
    let neutral = match op.kind {
        PoolKind::Max => f64::NEG_INFINITY,
        PoolKind::Average => 0.0,
    };
    let rows: Vec<Vec<f64>> = inputs[0]
        .par_chunks(row_elements(shape))
        .map(|row| {
            let mut totals = vec![neutral; lanes];
            for pixel in row.chunks_exact(lanes) {
                for (total, value) in totals.iter_mut().zip(pixel) {
                    *total = combine(*total, f64::from(*value));
                }
            }
            totals
        })
        .collect();
    let divisor = match op.kind {
        PoolKind::Max => 1.0,
        PoolKind::Average => (shape.height * shape.width) as f64,
    };
    for (lane, value) in output.iter_mut().enumerate() {
        let total = rows.iter().fold(neutral, |total, row| combine(total, row[lane]));
        *value = (total / divisor) as f32;
    }
}
