//! Reference of [`crate::ops::binary`].

use pulp::Arch;
use rayon::prelude::*;

use super::{activation, clear_padding, row_elements, vectorized};
use crate::ops::Io;
use crate::ops::binary::{Binary, BinaryKind, Broadcast};
use crate::tensor::LANES;

pub(super) fn run(op: &Binary, io: &Io, weights: &[Vec<f32>], inputs: &[&[f32]], output: &mut [f32]) {
    match op.kind {
        BinaryKind::Add { alpha, beta } => each(op, io, weights, inputs, output, move |a, b| alpha * a + beta * b),
        BinaryKind::Multiply => each(op, io, weights, inputs, output, |a, b| a * b),
    }
}

fn each(
    op: &Binary,
    io: &Io,
    weights: &[Vec<f32>],
    inputs: &[&[f32]],
    output: &mut [f32],
    function: impl Fn(f32, f32) -> f32 + Sync,
) {
    let shape = io.output.shape;
    let (row, lanes) = (row_elements(shape), shape.padded_channels());
    let (a, b) = (inputs[0], inputs[1]);
    let arch = Arch::new();
    output.par_chunks_mut(row).zip(a.par_chunks(row)).enumerate().for_each(|(y, (output, a))| {
        vectorized(
            arch,
            #[inline(always)]
            || {
                match op.broadcast {
                    Broadcast::None => map(output, a, &b[y * row..], &function),
                    Broadcast::Pooled => {
                        for (output, a) in output.chunks_exact_mut(lanes).zip(a.chunks_exact(lanes)) {
                            map(output, a, b, &function);
                        }
                    }
                    Broadcast::Channel => {
                        // One channel, stored in a group of lanes.
                        let b = b[y * shape.width * LANES..].iter().step_by(LANES);
                        for ((output, a), b) in output.chunks_exact_mut(lanes).zip(a.chunks_exact(lanes)).zip(b) {
                            for (output, a) in output.iter_mut().zip(a) {
                                *output = function(*a, *b);
                            }
                        }
                    }
                }
                activation::apply(op.activation, output, &weights[0]);
            },
        );
        clear_padding(output, op.channels);
    });
}

#[inline(always)]
fn map(output: &mut [f32], a: &[f32], b: &[f32], function: impl Fn(f32, f32) -> f32) {
    for ((output, a), b) in output.iter_mut().zip(a).zip(b) {
        *output = function(*a, *b);
    }
}
