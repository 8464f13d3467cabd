//! DnCNN: a stack of 3x3 convolutions that predicts the noise, which is subtracted.
//!
//! Zhang et al., "Beyond a Gaussian denoiser: residual learning of deep CNN for image denoising", 2017, in the key layout
//! of the KAIR repository (`model.N`) and in that of the authors' and others' earlier code (`dncnn.N`), in both of which norms
//! and activations count as modules. FDnCNN, whose last input channel is the noise level, gives the image itself.
//!
//! ReLU and LeakyReLU (0.2) look the same; LeakyReLU is taken only if the file's metadata says `activation: leakyrelu`.

use super::ValueRange;
use super::builder::{Builder, Window, noted_activation, settle_activation};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ops::activation::Function;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "DnCNN";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &["model.0.weight|dncnn.0.weight:4", "model.2.weight|dncnn.2.weight:4", "?model.#.@|dncnn.#.@"];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Unit;

/// The epsilon of the authors' batch norms, and PyTorch's of all norms.
const BATCH_EPS: f32 = 1e-4;
const EPS: f32 = 1e-5;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Convolutions.
    pub convs: usize,
    /// True if all convolutions but the first and the last are followed by a norm.
    pub norm: bool,
    /// The activation.
    pub activation: Function,
    /// What the names start with: `model` or `dncnn`.
    prefix: &'static str,
}

impl Config {
    /// Recognises the weights by their names and shapes.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let prefix = ["model", "dncnn"].into_iter().find(|prefix| weights.has(&format!("{prefix}.0.weight")))?;
        let name = |index: usize| format!("{prefix}.{index}.weight");
        let norm = ["weight", "running_mean"].iter().any(|part| {
            weights.shape(&format!("{prefix}.3.{part}")).is_some_and(|shape| shape.len() == 1)
        });
        let convs = 1 + weights.count(|index| name(place(index + 1, norm)));
        let activation = noted_activation(weights, 0.2);
        let fits = convs > 2 && !weights.has(&name(1));
        fits.then_some(Self { convs, norm, activation, prefix })
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        let name = |index: usize| format!("{}.{index}", self.prefix);
        let first = format!("{}.weight", name(0));
        let Some(&[_, channels, ..]) = weights.shape(&first) else {
            return Err(Error::Weights(format!("tensor `{first}` is missing")));
        };
        // Code that spells out an epsilon also gives the first convolution a bias.
        let is_batch = weights.has(&format!("{}.running_mean", name(3)));
        let eps = if is_batch && weights.has(&format!("{}.bias", name(0))) { BATCH_EPS } else { EPS };
        settle_activation(weights, self.activation)?;
        let mut b = Builder::new(weights);
        let image = b.input(channels);
        let mut x = image;
        for index in 0..self.convs {
            let place = place(index, self.norm);
            x = b.conv(&name(place), x, Window::default())?;
            if index + 1 == self.convs {
                break;
            }
            if self.norm && index > 0 {
                x = b.any_norm(&name(place + 1), x, eps)?;
            }
            x = b.activation(x, self.activation)?;
        }
        if b.channels(x) + 1 == channels {
            return Ok(b.finish(x));
        }
        if b.channels(x) != channels {
            let name = name(place(self.convs - 1, self.norm));
            return Err(Error::Weights(format!(
                "tensor `{name}.weight` makes {} channels; {channels} are expected, as many as go in",
                b.channels(x)
            )));
        }
        x = b.scaled_add(image, 1.0, x, -1.0)?;
        Ok(b.finish(x))
    }
}

/// The module that is convolution `index`.
fn place(index: usize, norm: bool) -> usize {
    match (index, norm) {
        (0, _) => 0,
        (_, false) => 2 * index,
        (_, true) => 3 * index - 1,
    }
}
