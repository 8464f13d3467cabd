//! SRVGGNetCompact: a plain stack of 3x3 convolutions, pixel shuffle, and the enlarged input added.
//!
//! Wang et al., "Real-ESRGAN: training real-world blind super-resolution with pure synthetic data", 2021 (the compact
//! models of its repository). `body.0`, `body.2`, ... are the convolutions and `body.1`, `body.3`, ... the slopes of PReLU.

use super::ValueRange;
use super::builder::{Builder, Window, noted_activation, settle_activation};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ops::activation::Function;
use crate::ops::upsample::Interpolation;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "SRVGGNetCompact";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &["body.0.weight:4", "body.2.weight:4", "?body.#.weight|body.#.bias"];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Unit;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Convolutions, the first and the last included.
    pub convs: usize,
    /// Enlargement.
    pub scale: usize,
    /// The activation. Files with slopes have PReLU; ReLU and LeakyReLU look the same, and LeakyReLU is taken only if the
    /// file's metadata says `activation: leakyrelu`.
    pub activation: Function,
}

impl Config {
    /// Recognises the weights by their names and shapes.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let [_, channels, ..] = *weights.shape("body.0.weight").filter(|shape| shape.len() == 4)? else { return None };
        let convs = weights.count(|index| format!("body.{}.weight", 2 * index));
        let [outputs, _, _, _] = *weights.shape(&last(convs))? else { return None };
        let whole = |&channels: &usize| {
            let scale = outputs.checked_div(channels)?.isqrt();
            (scale > 0 && (scale * scale).checked_mul(channels) == Some(outputs)).then_some(scale)
        };
        // Grey images may become colour ones: PyTorch then adds the one channel to all.
        let made = if channels == 1 { &[1, 3][..] } else { &[channels] };
        let scale = made.iter().find_map(whole).unwrap_or(1);
        let activation = if weights.has("body.1.weight") {
            Function::PRelu
        } else {
            noted_activation(weights, 0.1)
        };
        (convs > 1).then_some(Self { convs, scale, activation })
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        let Some(&[_, channels, ..]) = weights.shape("body.0.weight") else {
            return Err(Error::Weights("tensor `body.0.weight` is missing".into()));
        };
        if self.activation != Function::PRelu {
            settle_activation(weights, self.activation)?;
        }
        let mut b = Builder::new(weights);
        let image = b.input(channels);
        let mut x = image;
        for index in 0..self.convs {
            x = b.conv(&format!("body.{}", 2 * index), x, Window::default())?;
            if index + 1 < self.convs {
                x = match self.activation {
                    Function::PRelu => b.prelu(&format!("body.{}.weight", 2 * index + 1), x)?,
                    function => b.activation(x, function)?,
                };
            }
        }
        let outputs = b.channels(x) / (self.scale * self.scale);
        if outputs != channels && channels != 1 {
            return Err(Error::Weights(format!(
                "tensor `{}` makes {} channels; {channels} times the square of a scale are expected",
                last(self.convs),
                b.channels(x)
            )));
        }
        let mut base = image;
        if self.scale > 1 {
            x = b.pixel_shuffle(x, self.scale)?;
            base = b.upsample(image, self.scale, Interpolation::Nearest)?;
        }
        x = b.add(x, base)?;
        Ok(b.finish(x))
    }
}

/// The weight of the last convolution.
fn last(convs: usize) -> String {
    format!("body.{}.weight", 2 * convs - 2)
}
