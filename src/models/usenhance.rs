//! The kinds of generator that came first and second in the USenhance challenge (2023): CycleGAN's ResNet, enlarged by
//! pixel shuffle; and one with additive skips and a branch that sees the whole image.
//!
//! Their weights were not published, so the names are this crate's own:
//!
//! | tensors | shape | what |
//! |---|---|---|
//! | `stem.conv` | `[c, in, 7, 7]` | padded by reflection, then `stem.norm` and ReLU |
//! | `down.I.conv` | `[2c, c, 3, 3]` | stride 2, padding 1 of zeros, then `down.I.norm` and ReLU |
//! | `side.conv` | `[m, c, 3, 3]` | second: the branch, from the coarsest features: zeros around, ReLU, mean over the image |
//! | `side.project` | `[c, m, 1, 1]` | second: the mean's projection, added to every pixel |
//! | `blocks.N.conv1`, `blocks.N.conv2` | `[c, c, 3, 3]` | padded by reflection, each followed by `norm1` and `norm2`; ReLU between |
//! | `up.I.conv` | `[4 * c / 2, c, 3, 3]` | first: zeros around, pixel shuffle by 2, then `up.I.norm` and ReLU |
//! | `up.I.conv` | `[c, c / 2, 3, 3]` | second: transposed, stride 2, `up.I.norm`, ReLU, then what `down` or `stem` gave at that size is added |
//! | `head.conv` | `[out, c, 7, 7]` | padded by reflection, then tanh |
//!
//! All norms are affine instance norms (`weight` and `bias`, eps 1e-5); biases of convolutions may be absent. Sizes are
//! padded by reflection, at the bottom and right, to multiples of two to the number of `down`.

use super::ValueRange;
use super::builder::{Builder, Window};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::ops::Border;
use crate::ops::activation::Function;
use crate::ops::pool2d::PoolKind;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "USenhance ResNet";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &["stem.conv.weight:4", "stem.norm.weight:1", "up.0.conv.weight:4", "head.conv.weight:4", "?stem.conv.bias|stem.norm.bias|down.#.conv.@|down.#.norm.@|side.conv.@|side.project.@", "?blocks.#.conv#.@|blocks.#.norm#.@|up.#.conv.@|up.#.norm.@|head.conv.bias"];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Signed;

const EPS: f32 = 1e-5;
/// Far more halvings than any image allows.
const MOST_LEVELS: usize = 16;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Residual blocks.
    pub blocks: usize,
    /// Times the image is halved.
    pub levels: usize,
    /// True for the second's kind, with a side branch, transposed convolutions and skips.
    pub side: bool,
}

impl Config {
    /// Recognises the weights by their names.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let levels = weights.count(|index| format!("up.{index}.conv.weight"));
        let blocks = weights.count(|index| format!("blocks.{index}.conv1.weight"));
        let fits = (1..=MOST_LEVELS).contains(&levels)
            && ["stem.conv", "stem.norm", "head.conv"].iter().all(|name| weights.has(&format!("{name}.weight")));
        fits.then(|| Self { blocks, levels, side: weights.has("side.conv.weight") })
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        let Some(&[_, channels, ..]) = weights.shape("stem.conv.weight") else {
            return Err(Error::Weights("tensor `stem.conv.weight` is missing".into()));
        };
        let mut b = Builder::new(weights);
        let image = b.input(channels);
        let mut x = b.pad_to_multiple(image, 1 << self.levels, Border::Reflect)?;
        x = b.conv("stem.conv", x, Window::same(Border::Reflect))?;
        x = norm_relu(&mut b, "stem.norm", x)?;
        let mut skips = Vec::new();
        for level in 0..self.levels {
            skips.push(x);
            x = b.conv(&format!("down.{level}.conv"), x, Window::strided(2, 1))?;
            x = norm_relu(&mut b, &format!("down.{level}.norm"), x)?;
        }
        if self.side {
            let mut side = b.conv("side.conv", x, Window::default())?;
            side = b.activation(side, Function::Relu)?;
            side = b.global_pool(side, PoolKind::Average)?;
            side = b.conv("side.project", side, Window::default())?;
            x = b.add(x, side)?;
        }
        for index in 0..self.blocks {
            let mut y = b.conv(&format!("blocks.{index}.conv1"), x, Window::same(Border::Reflect))?;
            y = norm_relu(&mut b, &format!("blocks.{index}.norm1"), y)?;
            y = b.conv(&format!("blocks.{index}.conv2"), y, Window::same(Border::Reflect))?;
            y = norm(&mut b, &format!("blocks.{index}.norm2"), y)?;
            x = b.add(x, y)?;
        }
        for (level, skip) in skips.into_iter().rev().enumerate() {
            let name = format!("up.{level}");
            if self.side {
                x = b.conv_transpose(&format!("{name}.conv"), x, 2, 1, 1)?;
                x = norm_relu(&mut b, &format!("{name}.norm"), x)?;
                x = b.add(x, skip)?;
            } else {
                x = b.conv(&format!("{name}.conv"), x, Window::default())?;
                x = b.pixel_shuffle(x, 2)?;
                x = norm_relu(&mut b, &format!("{name}.norm"), x)?;
            }
        }
        x = b.conv("head.conv", x, Window::same(Border::Reflect))?;
        x = b.activation(x, Function::Tanh)?;
        x = b.crop_like(x, image)?;
        Ok(b.finish(x))
    }
}

/// Instance norm that must have weights.
fn norm(b: &mut Builder, name: &str, x: Value) -> Result<Value> {
    if !b.weights().has(&format!("{name}.weight")) {
        return Err(Error::Weights(format!("tensor `{name}.weight` is missing")));
    }
    b.instance_norm(name, x, EPS)
}

fn norm_relu(b: &mut Builder, name: &str, x: Value) -> Result<Value> {
    let x = norm(b, name, x)?;
    b.activation(x, Function::Relu)
}
