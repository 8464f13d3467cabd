//! DnCNN: a stack of 3x3 convolutions that predicts the noise, which is subtracted.
//!
//! Zhang et al., "Beyond a Gaussian denoiser: residual learning of deep CNN for image denoising", 2017, in the key layout
//! of the KAIR repository: `model.N`, in which norms and activations count as modules.

use super::ValueRange;
use super::builder::{Builder, Window};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ops::activation::Function;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "DnCNN";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &[
    "model.0.weight",
    "model.2.weight",
    "model.*.weight",
    "model.*.bias",
    "model.*.running_mean",
    "model.*.running_var",
    "model.*.num_batches_tracked",
];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Unit;

/// The epsilon of KAIR's batch norms, and PyTorch's of instance norms.
const BATCH_EPS: f32 = 1e-4;
const INSTANCE_EPS: f32 = 1e-5;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Convolutions.
    pub convs: usize,
    /// True if all convolutions but the first and the last are followed by a norm.
    pub norm: bool,
}

impl Config {
    /// Recognises the weights by their names and shapes.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let shape = |index: usize| weights.shape(&format!("model.{index}.weight"));
        let norm = shape(3).is_some_and(|shape| shape.len() == 1);
        let convs = 1 + weights.count(|index| format!("model.{}.weight", place(index + 1, norm)));
        let (&[_, inputs, _, _], &[outputs, _, _, _]) = (shape(0)?, shape(place(convs - 1, norm))?) else { return None };
        let fits = convs > 2 && inputs == outputs && !weights.has("model.1.weight");
        fits.then_some(Self { convs, norm })
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        let Some(&[_, channels, ..]) = weights.shape("model.0.weight") else {
            return Err(Error::Weights("tensor `model.0.weight` is missing".into()));
        };
        let eps = if weights.has("model.3.running_mean") { BATCH_EPS } else { INSTANCE_EPS };
        let mut b = Builder::new(weights);
        let image = b.input(channels);
        let mut x = image;
        for index in 0..self.convs {
            let place = place(index, self.norm);
            x = b.conv(&format!("model.{place}"), x, Window::default())?;
            if index + 1 == self.convs {
                break;
            }
            if self.norm && index > 0 {
                x = b.any_norm(&format!("model.{}", place + 1), x, eps)?;
            }
            x = b.activation(x, Function::Relu)?;
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
