//! Reference of [`crate::ops::fused_conv`]: what is between its parts stays in the caches.

use super::buffer::Buffer;
use super::conv2d::{self, Fused};
use crate::ops::Io;
use crate::ops::fused_conv::{Before, Behind, FusedConv};

pub(super) fn prepare(op: &FusedConv, mut weights: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    if let Behind::Shuffle(shuffle) = &op.behind {
        // The channels of each place of the square that becomes of a pixel together: they are then copied as they are.
        let (area, all) = (shuffle.factor * shuffle.factor, op.dense.as_conv().out_channels);
        let channels = all / area;
        for packed in &mut weights[..2] {
            let order = (0..packed.len()).map(|to| {
                let (row, place) = (to / all, to % all);
                packed[row * all + place % channels * area + place / channels]
            });
            *packed = order.collect();
        }
    }
    conv2d::prepare(&op.dense.as_conv(), weights)
}

pub(super) fn run(op: &FusedConv, io: &Io, weights: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let conv = op.dense.as_conv();
    let (dense, mut rest) = (&weights[..2], weights[2..].iter());
    let mut fused = Fused::default();
    let inner = op.dense_io(io);
    let mut sources = inputs.to_vec();
    match &op.before {
        Before::Nothing => {}
        Before::Norm(norm) => fused.norm = rest.next().map(|affine| (norm, &affine[..])),
        Before::Join(first) => {
            fused.second = Some((sources.remove(1), conv.in_channels - first));
        }
    }
    match &op.behind {
        Behind::Nothing => {}
        Behind::Gate(gate) => {
            fused.gate = rest.next().map(|slopes| (gate.channels, gate.activation, &slopes[..]));
        }
        Behind::Shuffle(shuffle) => fused.shuffle = Some(shuffle.factor),
    }
    conv2d::run_fused(&conv, &inner, dense, &sources, fused, output);
}
