//! MONAI's attention U-Net: strided convolutions down, transposed ones up, skips weighted by gates.
//!
//! Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", 2018, in the key layout of MONAI's
//! `AttentionUnet`: `model.0` is the first block, `model.1` the outermost level, whose `submodule` holds the next one, and
//! `model.2` the last convolution, which is linear. Batch norm and ReLU, but after concatenation (`merge`, `[skip, up]`)
//! instance norm without weights and PReLU. Strides are 2, which no shape tells. MONAI takes only multiples of two to the
//! number of levels; other sizes are padded by reflection at the bottom and right.

use super::ValueRange;
use super::builder::{Builder, Window};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::ops::Border;
use crate::ops::activation::Function;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "MONAI attention U-Net";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &["model.0.conv.0.conv.weight:4", "model.1.attention.W_g.0.conv.weight:4", "model.1.merge.conv.weight:4", "model.2.conv.weight:4", "?model.0.conv.#.*.@|model.1.attention.*.@|model.1.upconv.up.*.@|model.1.merge.*.@|model.1.submodule.*.@|model.2.conv.bias"];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Unit;

const EPS: f32 = 1e-5;
/// Far more halvings than any image allows.
const MOST_LEVELS: usize = 16;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Times the image is halved.
    pub levels: usize,
}

impl Config {
    /// Recognises the weights by their names.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let levels = weights.count(|depth| format!("{}.attention.W_g.0.conv.weight", level(depth)));
        let fits = ["model.0.conv.0.conv.weight", "model.2.conv.weight"].iter().all(|name| weights.has(name));
        (fits && (1..=MOST_LEVELS).contains(&levels)).then_some(Self { levels })
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        let channels = weights.shape("model.0.conv.0.conv.weight").and_then(|shape| shape.get(1).copied()).unwrap_or(1);
        let mut b = Builder::new(weights);
        let image = b.input(channels);
        let padded = b.pad_to_multiple(image, 1 << self.levels, Border::Reflect)?;
        let mut x = block(&mut b, "model.0.conv", padded, 1)?;
        let mut skips = Vec::new();
        for depth in 0..self.levels {
            skips.push(x);
            // The coarsest level's submodule is its block, without a further level beside it.
            let place = if depth + 1 < self.levels { "submodule.0.conv" } else { "submodule.conv" };
            x = block(&mut b, &format!("{}.{place}", level(depth)), x, 2)?;
        }
        for (depth, skip) in skips.into_iter().enumerate().rev() {
            let name = level(depth);
            x = enlarge(&mut b, &format!("{name}.upconv.up"), x)?;
            let skip = gate(&mut b, &format!("{name}.attention"), x, skip)?;
            x = b.concat(skip, x)?;
            x = b.conv(&format!("{name}.merge.conv"), x, Window::default())?;
            x = b.instance_norm(&format!("{name}.merge.adn.N"), x, EPS)?;
            x = b.prelu(&format!("{name}.merge.adn.A.weight"), x)?;
        }
        x = b.conv("model.2.conv", x, Window::default())?;
        x = b.crop_like(x, image)?;
        Ok(b.finish(x))
    }
}

/// The name of a level's modules; level 0 is the outermost.
fn level(depth: usize) -> String {
    format!("model.1{}", ".submodule.1".repeat(depth))
}

fn block(b: &mut Builder, name: &str, mut x: Value, stride: usize) -> Result<Value> {
    for (index, stride) in [stride, 1].into_iter().enumerate() {
        let weight = format!("{name}.{index}.conv.weight");
        let kernel = b.weights().shape(&weight).and_then(|shape| shape.get(2).copied()).unwrap_or(1);
        x = b.conv(&format!("{name}.{index}.conv"), x, Window::strided(stride, kernel.saturating_sub(1) / 2))?;
        x = b.batch_norm(&format!("{name}.{index}.adn.N"), x, EPS)?;
        x = b.activation(x, Function::Relu)?;
    }
    Ok(x)
}

/// A transposed convolution that doubles the size exactly, whatever its kernel.
fn enlarge(b: &mut Builder, name: &str, x: Value) -> Result<Value> {
    let weight = format!("{name}.conv.weight");
    let kernel = b.weights().shape(&weight).and_then(|shape| shape.get(2).copied()).unwrap_or(0);
    if kernel % 2 == 0 {
        return Err(Error::Weights(format!("tensor `{weight}` is missing or has an even kernel; an odd one is expected")));
    }
    let x = b.conv_transpose(&format!("{name}.conv"), x, 2, (kernel - 1) / 2, 1)?;
    let x = b.batch_norm(&format!("{name}.adn.N"), x, EPS)?;
    b.activation(x, Function::Relu)
}

/// `skip` times one weight for each pixel, which `signal` and `skip` decide.
fn gate(b: &mut Builder, name: &str, signal: Value, skip: Value) -> Result<Value> {
    let mut layer = |part: &str, x: Value| -> Result<Value> {
        let x = b.conv(&format!("{name}.{part}.0.conv"), x, Window::default())?;
        b.batch_norm(&format!("{name}.{part}.1"), x, EPS)
    };
    let (of_signal, of_skip) = (layer("W_g", signal)?, layer("W_x", skip)?);
    let mut weight = b.add(of_signal, of_skip)?;
    weight = b.activation(weight, Function::Relu)?;
    weight = b.conv(&format!("{name}.psi.0.conv"), weight, Window::default())?;
    weight = b.batch_norm(&format!("{name}.psi.1"), weight, EPS)?;
    weight = b.activation(weight, Function::Sigmoid)?;
    b.multiply(skip, weight)
}
