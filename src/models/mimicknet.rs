//! MimickNet: an ultrasound U-Net of five levels with two convolutions of 16 channels each.
//!
//! Huang et al., "MimickNet, mimicking clinical image post-processing under black-box constraints", 2020. Keras layer
//! names: `conv2d`, `conv2d_1`, ... in the order of execution and `conv2d_transpose`, ... for the way up. LeakyReLU 0.2 on
//! the way down, ReLU on the way up; skips are concatenated as `[up, skip]`; the output is linear.

use super::ValueRange;
use super::builder::{Builder, Window};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::ops::Border;
use crate::ops::activation::Function;
use crate::ops::pool2d::PoolKind;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "MimickNet";
/// Its tensors' names.
pub const SIGNATURE: &[&str] =
    &["conv2d.weight", "conv2d.bias", "conv2d_*.weight", "conv2d_*.bias", "conv2d_transpose.weight", "conv2d_transpose.bias"];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Unit;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Times the image is halved.
    pub levels: usize,
}

impl Config {
    /// Recognises the weights by their names.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let levels = weights.count(|index| format!("{}.weight", layer("conv2d_transpose", index)));
        let last = format!("{}.weight", layer("conv2d", 4 * levels + 2));
        (levels > 0 && weights.has("conv2d.weight") && weights.has(&last)).then_some(Self { levels })
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights) if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        let channels = weights.shape("conv2d.weight").and_then(|shape| shape.get(1).copied()).unwrap_or(1);
        let mut b = Builder::new(weights);
        let image = b.input(channels);
        let mut next = 0;
        let mut block = |b: &mut Builder, mut x: Value, function: Function| -> Result<Value> {
            for _ in 0..2 {
                x = b.conv(&layer("conv2d", next), x, Window::default())?;
                x = b.activation(x, function)?;
                next += 1;
            }
            Ok(x)
        };

        let mut x = b.pad_to_multiple(image, 1 << self.levels, Border::Reflect)?;
        let mut skips = Vec::new();
        for _ in 0..self.levels {
            x = block(&mut b, x, Function::LeakyRelu { slope: 0.2 })?;
            skips.push(x);
            x = b.pool(x, 2, PoolKind::Max)?;
        }
        x = block(&mut b, x, Function::LeakyRelu { slope: 0.2 })?;
        for (level, skip) in skips.into_iter().rev().enumerate() {
            x = b.conv_transpose(&layer("conv2d_transpose", level), x, 2, 0, 0)?;
            x = b.concat(x, skip)?;
            x = block(&mut b, x, Function::Relu)?;
        }
        x = b.conv(&layer("conv2d", 4 * self.levels + 2), x, Window::default())?;
        x = b.crop_like(x, image)?;
        Ok(b.finish(x))
    }
}

/// Keras names the first layer of a kind without a number.
fn layer(kind: &str, index: usize) -> String {
    if index == 0 { kind.to_owned() } else { format!("{kind}_{index}") }
}
