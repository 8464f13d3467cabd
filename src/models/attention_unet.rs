//! Attention U-Net: a U-Net whose skips are weighted by gates, and the plain U-Net of the same key layout.
//!
//! Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", 2018, in the key layout that PyTorch users know
//! (`Conv1` to `Conv5`, `Up5`, `Att5`, `Up_conv5` and so on, `Conv_1x1` or `Conv`): batch norm, ReLU, nearest-neighbour up-sampling
//! before a convolution, concatenation as `[skip, up]`, and no function after the last convolution. The reference code does
//! not pad; here sizes are padded by reflection.

use super::ValueRange;
use super::builder::{Builder, Window};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::ops::Border;
use crate::ops::activation::Function;
use crate::ops::pool2d::PoolKind;
use crate::ops::upsample::Interpolation;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "attention U-Net";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &["Conv1.conv.0.weight:4", "Conv2.conv.0.weight:4", "Up2.up.1.weight:4", "?Conv#.conv.#.@|Up#.up.#.@|Att#.W_g.#.@|Att#.W_x.#.@|Att#.psi.#.@|Up_conv#.conv.#.@", "Conv_1x1.weight|Conv.weight:4", "?Conv_1x1.bias|Conv.bias"];
/// The values it takes and gives: the reference's loader normalises to -1 to 1.
pub const RANGE: ValueRange = ValueRange::Signed;

/// What people call the last convolution.
const LAST: [&str; 2] = ["Conv_1x1", "Conv"];
/// Batch norm's epsilon.
const EPS: f32 = 1e-5;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Sizes at which it works; each is half of the one before.
    pub levels: usize,
    /// Whether gates weight the skips.
    pub attention: bool,
}

impl Config {
    /// Recognises the weights by their names.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let levels = weights.count(|level| format!("Conv{}.conv.0.weight", level + 1));
        let is_whole = weights.has("Up2.up.1.weight") && LAST.iter().any(|name| weights.has(&format!("{name}.weight")));
        // The multiple that sizes are padded to doubles with every level.
        ((2..16).contains(&levels) && is_whole)
            .then(|| Self { levels, attention: weights.has("Att2.W_g.0.weight") })
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights) if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        let channels = weights.shape("Conv1.conv.0.weight").and_then(|shape| shape.get(1).copied()).unwrap_or(0);
        let mut b = Builder::new(weights);
        let image = b.input(channels);
        let mut x = b.pad_to_multiple(image, 1 << (self.levels - 1), Border::Reflect)?;
        x = block(&mut b, "Conv1.conv", x)?;
        let mut skips = Vec::new();
        for level in 2..=self.levels {
            skips.push((level, x));
            x = b.pool(x, 2, PoolKind::Max)?;
            x = block(&mut b, &format!("Conv{level}.conv"), x)?;
        }
        for (level, mut skip) in skips.into_iter().rev() {
            x = b.upsample(x, 2, Interpolation::Nearest)?;
            x = layer(&mut b, &format!("Up{level}.up"), 1, x)?;
            x = b.activation(x, Function::Relu)?;
            if self.attention {
                skip = gate(&mut b, &format!("Att{level}"), x, skip)?;
            }
            x = b.concat(skip, x)?;
            x = block(&mut b, &format!("Up_conv{level}.conv"), x)?;
        }
        let [usual, other] = LAST;
        let last = if b.weights().has(&format!("{usual}.weight")) { usual } else { other };
        x = b.conv(last, x, Window::default())?;
        x = b.crop_like(x, image)?;
        Ok(b.finish(x))
    }
}

/// A convolution and a batch norm, at places `index` and `index + 1` of the sequence `name`.
fn layer(b: &mut Builder, name: &str, index: usize, x: Value) -> Result<Value> {
    let x = b.conv(&format!("{name}.{index}"), x, Window::default())?;
    b.batch_norm(&format!("{name}.{}", index + 1), x, EPS)
}

fn block(b: &mut Builder, name: &str, mut x: Value) -> Result<Value> {
    for index in [0, 3] {
        x = layer(b, name, index, x)?;
        x = b.activation(x, Function::Relu)?;
    }
    Ok(x)
}

/// `skip` times one weight for each pixel, which `signal` and `skip` decide.
fn gate(b: &mut Builder, name: &str, signal: Value, skip: Value) -> Result<Value> {
    let of_signal = layer(b, &format!("{name}.W_g"), 0, signal)?;
    let of_skip = layer(b, &format!("{name}.W_x"), 0, skip)?;
    let mut weight = b.add(of_signal, of_skip)?;
    weight = b.activation(weight, Function::Relu)?;
    weight = layer(b, &format!("{name}.psi"), 0, weight)?;
    weight = b.activation(weight, Function::Sigmoid)?;
    b.multiply(skip, weight)
}
