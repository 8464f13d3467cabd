//! Reference of [`crate::ops::linear`]: a convolution with a kernel of one pixel.

use super::buffer::Buffer;
use super::conv2d;
use crate::ops::Io;
use crate::ops::linear::Linear;

pub(super) fn prepare(op: &Linear, weights: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    conv2d::prepare(&op.as_conv(), weights)
}

pub(super) fn run(op: &Linear, io: &Io, weights: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    conv2d::run(&op.as_conv(), io, weights, inputs, output);
}
