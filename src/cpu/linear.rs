//! Reference of [`crate::ops::linear`]: a convolution with a kernel of one pixel.

use super::conv2d::{self, Fused};
use crate::ops::Io;
use crate::ops::conv2d::Conv2d;
use crate::ops::linear::Linear;

/// The same map as a convolution.
pub(super) fn as_conv(op: &Linear) -> Conv2d {
    Conv2d {
        bias: op.bias,
        activation: op.activation,
        residual: op.residual,
        ..Conv2d::new(op.in_channels, op.out_channels, [1, 1])
    }
}

pub(super) fn prepare(op: &Linear, weights: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    conv2d::prepare(&as_conv(op), weights)
}

pub(super) fn run(op: &Linear, io: &Io, weights: &[Vec<f32>], inputs: &[&[f32]], output: &mut [f32]) {
    conv2d::run_fused(&as_conv(op), io, weights, inputs, Fused::default(), output);
}
