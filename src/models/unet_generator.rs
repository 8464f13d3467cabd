//! The U-Net generator of pix2pix and CycleGAN, "U-Net 128" and "U-Net 256".
//!
//! Isola et al., "Image-to-image translation with conditional adversarial networks", 2017, in the key layout of the
//! reference PyTorch repository: every level is an `nn.Sequential` that holds the next one. 4x4 convolutions of stride
//! 2 down, 4x4 transposed ones up, tanh. The reference's LeakyReLU works in place, so what a level concatenates is its
//! input *after* LeakyReLU, with that first and what comes from below second.
//!
//! The reference takes only multiples of two to the number of levels; other sizes are padded by reflection at the bottom and right.

use super::ValueRange;
use super::builder::{Builder, Norm, Window};
use crate::error::Result;
use crate::graph::Graph;
use crate::ops::Border;
use crate::ops::activation::Function;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "pix2pix U-Net generator";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &["model.model.0.weight:4", "model.model.1.model.1.weight:4", "model.model.3.weight:4", "?model.model.0.bias|model.model.3.bias|model.model.1.model.*.@|model.model.1.model.#.@"];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Signed;

const EPS: f32 = 1e-5;
const DOWN: Function = Function::LeakyRelu { slope: 0.2 };
/// Far more halvings than any image allows.
const MOST_LEVELS: usize = 16;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Times the image is halved: 7 for "U-Net 128", 8 for "U-Net 256".
    pub levels: usize,
    /// The norms. As in the reference, where norms have no tensors, biases before them mean instance norm, and no biases no
    /// norm, unless the metadata says `norm: instance` or `norm: none`.
    pub norm: Norm,
}

impl Config {
    /// Recognises the weights by their names and shapes.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let is_conv = |name: String| weights.shape(&name).is_some_and(|shape| shape.len() == 4);
        let mut name = level(1);
        let mut levels = 2;
        while levels < MOST_LEVELS && is_conv(format!("{name}.5.weight")) {
            name = level(levels);
            levels += 1;
        }
        let fits = ["model.model.0.weight".into(), "model.model.3.weight".into(), format!("{name}.3.weight")];
        let inner = level(1);
        let inner_norm = if levels > 2 { format!("{inner}.2") } else { format!("{inner}.4") };
        let hints = [format!("{inner}.1.bias"), format!("{inner}.5.bias"), format!("{inner}.3.bias")];
        let norm = Norm::detect(weights, Norm::is_stored(weights, &inner_norm), hints.iter().any(|bias| weights.has(bias)));
        fits.into_iter().all(is_conv).then_some(Self { levels, norm })
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights) if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        let channels = weights.shape("model.model.0.weight").and_then(|shape| shape.get(1).copied()).unwrap_or(1);
        self.norm.settle(weights)?;
        let mut b = Builder::new(weights);
        let image = b.input(channels);
        let mut x = b.pad_to_multiple(image, 1 << self.levels, Border::Reflect)?;
        x = b.conv("model.model.0", x, Window::strided(2, 1))?;
        let last = self.levels - 1;
        let mut skips = Vec::new();
        for depth in 1..=last {
            x = b.activation(x, DOWN)?;
            skips.push(x);
            x = b.conv(&format!("{}.1", level(depth)), x, Window::strided(2, 1))?;
            if depth < last {
                x = b.norm(self.norm, &format!("{}.2", level(depth)), x, EPS)?;
            }
        }
        for (depth, skip) in skips.into_iter().enumerate().map(|(index, skip)| (index + 1, skip)).rev() {
            let at = if depth < last { 5 } else { 3 };
            x = b.activation(x, Function::Relu)?;
            x = b.conv_transpose(&format!("{}.{at}", level(depth)), x, 2, 1, 0)?;
            x = b.norm(self.norm, &format!("{}.{}", level(depth), at + 1), x, EPS)?;
            x = b.concat(skip, x)?;
        }
        x = b.activation(x, Function::Relu)?;
        x = b.conv_transpose("model.model.3", x, 2, 1, 0)?;
        x = b.activation(x, Function::Tanh)?;
        x = b.crop_like(x, image)?;
        Ok(b.finish(x))
    }
}

/// The name of a level's modules; level 0 is the outermost.
fn level(depth: usize) -> String {
    match depth {
        0 => "model.model".into(),
        _ => format!("model.model.1.model{}", ".3.model".repeat(depth - 1)),
    }
}
