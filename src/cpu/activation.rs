//! Reference of [`crate::ops::activation`].

use pulp::Arch;
use rayon::prelude::*;

use super::buffer::Buffer;
use super::elementary::{gelu, gelu_tanh, larger, sigmoid, tanh};
use super::{of_pixel, row_elements, vectorized};
use crate::ops::Io;
use crate::ops::activation::{Activation, Function};

pub(super) fn run(op: &Activation, io: &Io, weights: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let shape = io.output.shape;
    let (row, slopes) = (row_elements(shape), of_pixel(&weights[0], shape.channels));
    let arch = Arch::new();
    output.par_chunks_mut(row).zip(inputs[0].par_chunks(row)).for_each(|(output, input)| {
        vectorized(
            arch,
            #[inline(always)]
            || {
                output.copy_from_slice(input);
                apply(op.function, output, slopes);
            },
        );
    });
}

/// Applies `function` in place to whole pixels; `slopes` are PReLU's, one for each lane of a pixel.
#[inline(always)]
pub(super) fn apply(function: Function, values: &mut [f32], slopes: &[f32]) {
    match function {
        Function::Identity => {}
        Function::Relu => map(values, |x| larger(x, 0.0)),
        Function::LeakyRelu { slope } => map(values, |x| if x >= 0.0 { x } else { slope * x }),
        Function::PRelu => {
            for pixel in values.chunks_exact_mut(slopes.len()) {
                for (x, slope) in pixel.iter_mut().zip(slopes) {
                    *x = if *x >= 0.0 { *x } else { slope * *x };
                }
            }
        }
        Function::Silu => map(values, |x| x * sigmoid(x)),
        Function::Gelu => map(values, gelu),
        Function::GeluTanh => map(values, gelu_tanh),
        Function::Sigmoid => map(values, sigmoid),
        Function::Tanh => map(values, tanh),
    }
}

#[inline(always)]
fn map(values: &mut [f32], function: impl Fn(f32) -> f32) {
    for value in values {
        *value = function(*value);
    }
}
