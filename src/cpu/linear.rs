//! Reference of [`crate::ops::linear`]: the image times the weight matrix.

use super::matrix::{self, Epilogue};
use crate::ops::Io;
use crate::ops::linear::Linear;

pub(super) fn run(op: &Linear, io: &Io, weights: &[Vec<f32>], inputs: &[&[f32]], output: &mut [f32]) {
    let src = inputs[0];
    let lanes = io.inputs[0].shape.padded_channels();
    let residual = op.residual.map(|when| (when, inputs[1]));
    let epilogue = Epilogue { activation: op.activation, values: &weights[1], residual };
    let patch = |pixel: usize, row: &mut [f32]| row.copy_from_slice(&src[pixel * lanes..][..lanes]);
    matrix::product(lanes, Some(src), patch, &weights[0], &epilogue, output);
}
