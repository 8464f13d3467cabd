//! Reference of [`crate::ops::fused_conv`]: what is between its parts stays in the caches.

use super::conv2d::{self, Fused};
use crate::ops::Io;
use crate::ops::fused_conv::{Before, FusedConv};

pub(super) fn prepare(op: &FusedConv, weights: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    conv2d::prepare(&op.dense.as_conv(), weights)
}

pub(super) fn run(op: &FusedConv, io: &Io, weights: &[Vec<f32>], inputs: &[&[f32]], output: &mut [f32]) {
    let conv = op.dense.as_conv();
    let (dense, mut rest) = (&weights[..2], weights[2..].iter());
    let mut fused = Fused::default();
    let mut inner = io.clone();
    let mut sources = inputs.to_vec();
    match &op.before {
        Before::Nothing => {}
        Before::Norm(norm) => fused.norm = rest.next().map(|affine| (norm, &affine[..])),
        Before::Join(first) => {
            fused.second = Some((sources.remove(1), conv.in_channels - first));
            inner.inputs.remove(1);
            inner.inputs[0].shape.channels = conv.in_channels;
        }
    }
    if let Some(gate) = &op.gate {
        fused.gate = rest.next().map(|slopes| (gate.channels, gate.activation, &slopes[..]));
    }
    inner.output.shape.channels = conv.out_channels;
    conv2d::run_fused(&conv, &inner, dense, &sources, fused, output);
}
