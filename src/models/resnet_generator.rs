//! The ResNet generator of CycleGAN and pix2pix.
//!
//! Zhu et al., "Unpaired image-to-image translation using cycle-consistent adversarial networks", 2017, in the key
//! layout of the reference PyTorch repository: one `nn.Sequential` in which padding, norm, activation and dropout count
//! as modules. A 7x7 stem, strided convolutions, residual blocks, transposed convolutions, a 7x7 head and tanh.
//!
//! Sizes that are no multiples of the strides are not padded, as in the reference: the result is then larger than the
//! image and is cropped at the bottom and right.

use super::ValueRange;
use super::builder::{Builder, Norm, Window};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::ops::Border;
use crate::ops::activation::Function;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "CycleGAN ResNet generator";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &["model.1.weight:4", "model.#.conv_block.#.weight", "?model.#.conv_block.#.@|model.#.@"];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Signed;

const EPS: f32 = 1e-5;
/// What the metadata can say of the blocks' padding.
const BORDERS: &[&str] = &["reflect", "replicate"];
/// Far more halvings than any image allows.
const MOST_DOWNSAMPLINGS: usize = 16;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Residual blocks.
    pub blocks: usize,
    /// Times the image is halved.
    pub downsamplings: usize,
    /// What surrounds the image in the residual blocks. Reflected and repeated edges look the same in the file; edges are
    /// repeated only if its metadata says `padding_type: replicate`, as the published generators reflect.
    pub border: Border,
    /// True if the blocks were trained with dropout, which shifts the names.
    pub dropout: bool,
    /// The norms. The reference gives biases to convolutions before instance norm, and to no others: where norms have no
    /// tensors, biases therefore mean instance norm, and no biases no norm, unless the metadata says `norm: instance` or
    /// `norm: none`.
    pub norm: Norm,
}

impl Config {
    /// Recognises the weights by their names and shapes.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let is_conv = |name: String| weights.shape(&name).is_some_and(|shape| shape.len() == 4);
        let block = |index: usize, inner: usize| format!("model.{index}.conv_block.{inner}.weight");
        let is_block = |halvings: usize| (0..2).any(|inner| is_conv(block(4 + 3 * halvings, inner)));
        let resampling = weights.count(|index| format!("model.{}.weight", 4 + 3 * index));
        let downsamplings = match (0..MOST_DOWNSAMPLINGS).find(|&halvings| is_block(halvings)) {
            Some(halvings) => halvings,
            // Without blocks, what halves the image is followed by as much that doubles it.
            None if resampling.is_multiple_of(2) && resampling < 2 * MOST_DOWNSAMPLINGS => resampling / 2,
            None => return None,
        };
        let first = 4 + 3 * downsamplings;
        let is_replicated = weights.noted("padding_type", BORDERS) == Some("replicate");
        let border = match (is_conv(block(first, 0)), is_replicated) {
            (true, _) => Border::Zero,
            (false, true) => Border::Replicate,
            (false, false) => Border::Reflect,
        };
        let [early, late] = if border == Border::Zero { [3, 4] } else { [5, 6] };
        let is_flat = !is_block(downsamplings);
        let dropout = !is_flat && !is_conv(block(first, early));
        let own = usize::from(border != Border::Zero);
        let blocks = weights.count(|index| block(first + index, own));
        let fits = is_conv("model.1.weight".into())
            && (is_flat || is_conv(block(first, if dropout { late } else { early })))
            && is_conv(format!("model.{}.weight", first + blocks + 3 * downsamplings + 1));
        let second = if downsamplings > 0 { "model.4.bias" } else { "model.1.bias" };
        let biased = ["model.1.bias", second].iter().any(|name| weights.has(name));
        let norm = Norm::detect(weights, Norm::is_stored(weights, "model.2"), biased);
        fits.then_some(Self { blocks, downsamplings, border, dropout, norm })
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights) if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        let channels = weights.shape("model.1.weight").and_then(|shape| shape.get(1).copied()).unwrap_or(1);
        self.norm.settle(weights)?;
        match self.border {
            _ if self.blocks == 0 => {}
            Border::Zero => {}
            Border::Replicate => weights.settle("padding_type", "replicate", BORDERS)?,
            Border::Reflect => weights.settle("padding_type", "reflect", BORDERS)?,
        }
        let mut b = Builder::new(weights);
        let image = b.input(channels);
        let mut x = b.conv("model.1", image, Window::same(Border::Reflect))?;
        x = self.norm_relu(&mut b, "model.2", x)?;
        let mut next = 4;
        for _ in 0..self.downsamplings {
            x = b.conv(&format!("model.{next}"), x, Window::strided(2, 1))?;
            x = self.norm_relu(&mut b, &format!("model.{}", next + 1), x)?;
            next += 3;
        }
        for _ in 0..self.blocks {
            x = self.block(&mut b, &format!("model.{next}.conv_block"), x)?;
            next += 1;
        }
        for _ in 0..self.downsamplings {
            x = b.conv_transpose(&format!("model.{next}"), x, 2, 1, 1)?;
            x = self.norm_relu(&mut b, &format!("model.{}", next + 1), x)?;
            next += 3;
        }
        x = b.conv(&format!("model.{}", next + 1), x, Window::same(Border::Reflect))?;
        x = b.activation(x, Function::Tanh)?;
        x = b.crop_like(x, image)?;
        Ok(b.finish(x))
    }

    /// `x + norm(conv(dropout(relu(norm(conv(x))))))`; dropout does nothing here but to count as a module.
    fn block(&self, b: &mut Builder, name: &str, x: Value) -> Result<Value> {
        let pad = usize::from(self.border != Border::Zero);
        let second = 3 + 2 * pad + usize::from(self.dropout);
        let mut y = b.conv(&format!("{name}.{pad}"), x, Window::same(self.border))?;
        y = self.norm_relu(b, &format!("{name}.{}", pad + 1), y)?;
        y = b.conv(&format!("{name}.{second}"), y, Window::same(self.border))?;
        y = b.norm(self.norm, &format!("{name}.{}", second + 1), y, EPS)?;
        b.add(x, y)
    }

    fn norm_relu(&self, b: &mut Builder, name: &str, x: Value) -> Result<Value> {
        let x = b.norm(self.norm, name, x, EPS)?;
        b.activation(x, Function::Relu)
    }
}
