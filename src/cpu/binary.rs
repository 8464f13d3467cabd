//! Reference of [`crate::ops::binary`].

use pulp::Arch;
use rayon::prelude::*;

use super::buffer::Buffer;
use super::{activation, clear_padding, lanes, of_pixel, row_elements, scratch, vectorized};
use crate::ops::Io;
use crate::ops::activation::Function;
use crate::ops::binary::{Binary, BinaryKind, Broadcast};
use crate::tensor::LANES;

pub(super) fn run(op: &Binary, io: &Io, weights: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let shape = io.output.shape;
    let (row, slopes) = (row_elements(shape), of_pixel(&weights[0], op.channels));
    let arch = Arch::new();
    output.par_chunks_mut(row).zip(inputs[0].par_chunks(row)).enumerate().for_each(|(y, (output, a))| {
        let b = match op.broadcast {
            Broadcast::None => &inputs[1][y * row..][..row],
            Broadcast::Pooled => inputs[1],
            Broadcast::Channel => &inputs[1][y * shape.width..][..shape.width],
        };
        let finish = |b: &[f32], output: &mut [f32]| {
            vectorized(
                arch,
                #[inline(always)]
                || {
                    broadcast(op, lanes(shape.channels), a, b, output);
                    if let Some(then) = op.then {
                        combine(then, output, &inputs[2][y * row..][..row]);
                    }
                    activation::apply(op.activation, output, slopes);
                },
            );
        };
        if op.second == Function::Identity {
            finish(b, output);
        } else {
            scratch::with([b.len()], |[changed]| {
                vectorized(
                    arch,
                    #[inline(always)]
                    || {
                        changed.copy_from_slice(b);
                        activation::apply(op.second, changed, &[]);
                    },
                );
                finish(changed, output);
            });
        }
        clear_padding(output, op.channels);
    });
}

/// The function of a row and of what `b` has for it.
#[inline(always)]
fn broadcast(op: &Binary, lanes: usize, a: &[f32], b: &[f32], output: &mut [f32]) {
    output.copy_from_slice(a);
    match op.broadcast {
        Broadcast::None => combine(op.kind, output, b),
        Broadcast::Pooled => output.chunks_exact_mut(lanes).for_each(|pixel| combine(op.kind, pixel, b)),
        // One value for a pixel of one channel.
        Broadcast::Channel if lanes == 1 => combine(op.kind, output, b),
        Broadcast::Channel => {
            for (pixel, b) in output.chunks_exact_mut(lanes).zip(b) {
                pixel.chunks_exact_mut(LANES).for_each(|group| combine(op.kind, group, &[*b; LANES]));
            }
        }
    }
}

/// `kind` of `a`, where the result goes, and `b`.
#[inline(always)]
pub(super) fn combine(kind: BinaryKind, a: &mut [f32], b: &[f32]) {
    match kind {
        BinaryKind::Add { alpha, beta } => a.iter_mut().zip(b).for_each(|(a, b)| *a = alpha * *a + beta * b),
        BinaryKind::Multiply => a.iter_mut().zip(b).for_each(|(a, b)| *a *= b),
    }
}
