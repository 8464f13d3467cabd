//! The kind of generator that came second in the USenhance challenge (2023): additive skips and a branch that sees all.
//!
//! Its weights were not published, so the names are this crate's own:
//!
//! | tensors | shape | what |
//! |---|---|---|
//! | `stem.conv` | `[c, in, 7, 7]` | padded by reflection, then `stem.norm` and ReLU; kept as skip 0 |
//! | `down.I.conv` | `[2c, c, 3, 3]` | stride 2, padding 1 of zeros, `down.I.norm`, ReLU; kept as skip `I + 1`, but for the last |
//! | `side.conv` | `[m, c, 3, 3]` | the branch, from the coarsest features: zeros around, ReLU, mean over the image |
//! | `side.project` | `[c, m, 1, 1]` | the mean's projection, added to every pixel of the trunk |
//! | `blocks.N.conv1`, `blocks.N.conv2` | `[c, c, 3, 3]` | padded by reflection, each followed by `norm1` and `norm2`; ReLU between |
//! | `up.I.conv` | `[c, c / 2, 3, 3]` | transposed, stride 2, `up.I.norm`, ReLU, then the skip of that size is added |
//! | `head.conv` | `[out, c, 7, 7]` | padded by reflection, then tanh |
//!
//! All norms are affine instance norms (`weight` and `bias`, eps 1e-5); biases of convolutions may be absent. Sizes are
//! padded by reflection, at the bottom and right, to multiples of two to the number of `down`.

use super::ValueRange;
use super::builder::{Builder, Window};
use super::usenhance_shuffle::{norm, norm_relu};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ops::Border;
use crate::ops::activation::Function;
use crate::ops::pool2d::PoolKind;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "USenhance side-branch generator";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &[
    "stem.conv.*",
    "stem.norm.*",
    "down.*.conv.*",
    "down.*.norm.*",
    "side.conv.*",
    "side.project.*",
    "blocks.*.conv*.*",
    "blocks.*.norm*.*",
    "up.*.conv.*",
    "up.*.norm.*",
    "head.conv.*",
];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Signed;

/// Far more halvings than any image allows.
const MOST_LEVELS: usize = 16;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Residual blocks.
    pub blocks: usize,
    /// Times the image is halved.
    pub levels: usize,
}

impl Config {
    /// Recognises the weights by their names.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let levels = weights.count(|index| format!("up.{index}.conv.weight"));
        let blocks = weights.count(|index| format!("blocks.{index}.conv1.weight"));
        let needed = ["stem.conv", "stem.norm", "side.conv", "side.project", "head.conv"];
        let fits = (1..=MOST_LEVELS).contains(&levels) && needed.iter().all(|name| weights.has(&format!("{name}.weight")));
        fits.then_some(Self { blocks, levels })
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
        let mut side = b.conv("side.conv", x, Window::default())?;
        side = b.activation(side, Function::Relu)?;
        side = b.global_pool(side, PoolKind::Average)?;
        side = b.conv("side.project", side, Window::default())?;
        x = b.add(x, side)?;
        for index in 0..self.blocks {
            let mut y = b.conv(&format!("blocks.{index}.conv1"), x, Window::same(Border::Reflect))?;
            y = norm_relu(&mut b, &format!("blocks.{index}.norm1"), y)?;
            y = b.conv(&format!("blocks.{index}.conv2"), y, Window::same(Border::Reflect))?;
            y = norm(&mut b, &format!("blocks.{index}.norm2"), y)?;
            x = b.add(x, y)?;
        }
        for (level, skip) in skips.into_iter().rev().enumerate() {
            x = b.conv_transpose(&format!("up.{level}.conv"), x, 2, 1, 1)?;
            x = norm_relu(&mut b, &format!("up.{level}.norm"), x)?;
            x = b.add(x, skip)?;
        }
        x = b.conv("head.conv", x, Window::same(Border::Reflect))?;
        x = b.activation(x, Function::Tanh)?;
        x = b.crop_like(x, image)?;
        Ok(b.finish(x))
    }
}
