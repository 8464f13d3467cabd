//! What is fused into the store of a matrix product: bias, activation, residual, gate.

use pulp::Arch;

use super::activation;
use crate::ops::activation::Function;
use crate::ops::conv2d::Residual;
use crate::tensor::LANES;

/// Activation and residual, or a gate.
pub(super) struct Epilogue<'a> {
    pub(super) activation: Function,
    /// Bias, then PReLU's slopes, each one for each stored channel.
    pub(super) values: &'a [f32],
    pub(super) residual: Option<(Residual, &'a [f32])>,
    /// Channels of a gate's result and its function: the first half of the product, activated, times the second.
    pub(super) gate: Option<(usize, Function, &'a [f32])>,
}

impl Epilogue<'_> {
    pub(super) fn bias(&self) -> &[f32] {
        &self.values[..self.values.len() / 2]
    }

    /// Stored channels of the result.
    pub(super) fn lanes(&self) -> usize {
        self.gate.map_or(self.values.len() / 2, |(channels, _, _)| channels.next_multiple_of(LANES))
    }

    /// Stores the products of a line of pixels, `stride` elements apart and with the bias in them, as whole pixels at
    /// element `at` of the output.
    pub(super) fn store(&self, arch: Arch, product: &[f32], stride: usize, output: &mut [f32], at: usize) {
        let lanes = self.lanes();
        arch.dispatch(
            #[inline(always)]
            || {
                let pixels = output.chunks_exact_mut(lanes).zip(product.chunks_exact(stride));
                match self.gate {
                    Some((channels, Function::Identity, _)) => {
                        for (output, product) in pixels {
                            let (first, second) = (&product[..channels], &product[channels..][..channels]);
                            for ((output, a), b) in output.iter_mut().zip(first).zip(second) {
                                *output = a * b;
                            }
                            for value in &mut output[channels..] {
                                *value = 0.0;
                            }
                        }
                    }
                    Some((channels, function, slopes)) => {
                        for (output, product) in pixels {
                            output[..channels].copy_from_slice(&product[..channels]);
                            output[channels..].fill(0.0);
                            activation::apply(function, output, slopes);
                            for (output, b) in output[..channels].iter_mut().zip(&product[channels..]) {
                                *output *= b;
                            }
                        }
                    }
                    None if stride == lanes => output.copy_from_slice(product),
                    None => {
                        for (output, product) in pixels {
                            let (output, _) = output.as_chunks_mut::<LANES>();
                            let (product, _) = product.as_chunks::<LANES>();
                            for (output, product) in output.iter_mut().zip(product) {
                                *output = *product;
                            }
                        }
                    }
                }
                if self.gate.is_none() {
                    self.apply(output, at);
                }
            },
        );
    }

    /// Residual and activation, on whole pixels at element `at` of the output that have their bias already.
    pub(super) fn finish(&self, arch: Arch, values: &mut [f32], at: usize) {
        arch.dispatch(
            #[inline(always)]
            || self.apply(values, at),
        );
    }

    #[inline(always)]
    fn apply(&self, values: &mut [f32], at: usize) {
        let slopes = &self.values[self.values.len() / 2..];
        if let Some((Residual::BeforeActivation, residual)) = self.residual {
            add(values, &residual[at..]);
        }
        activation::apply(self.activation, values, slopes);
        if let Some((Residual::AfterActivation, residual)) = self.residual {
            add(values, &residual[at..]);
        }
    }
}

#[inline(always)]
fn add(values: &mut [f32], residual: &[f32]) {
    for (value, residual) in values.iter_mut().zip(residual) {
        *value += residual;
    }
}
