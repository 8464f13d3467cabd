//! NAFNet: a U-shaped network without activation functions; gates, and attention by each channel's mean.
//!
//! Chen et al., "Simple Baselines for Image Restoration", 2022, in the key layout of its reference code. Every level halves
//! the size and doubles the channels; the way up has one more 1x1 convolution and a pixel shuffle, and adds the skip. Sizes
//! are padded with zeros, as the reference's forward does. Its attention takes the mean of the whole image (the reference's
//! `NAFNet`; its `NAFNetLocal` takes local means instead, which the weights do not tell).

use super::ValueRange;
use super::builder::{Builder, Window};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::ops::Border;
use crate::ops::activation::Function;
use crate::ops::pool2d::PoolKind;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "NAFNet";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &["intro.weight:4", "?intro.bias", "downs.#.weight:4", "?downs.#.bias", "?encoders.#.#.*.@|middle_blks.#.*.@|decoders.#.#.*.@", "?encoders.#.#.beta|encoders.#.#.gamma|middle_blks.#.beta|middle_blks.#.gamma|decoders.#.#.beta|decoders.#.#.gamma", "ups.#.0.weight:4", "ending.weight:4", "?ending.bias"];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Unit;

/// `LayerNorm2d`'s epsilon.
const EPS: f32 = 1e-6;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Channels at full size.
    pub width: usize,
    /// Blocks at every level on the way down.
    pub encoders: Vec<usize>,
    /// Blocks at the coarsest size.
    pub middle: usize,
    /// Blocks at every level on the way up, coarsest first.
    pub decoders: Vec<usize>,
}

impl Config {
    /// Recognises the weights by their names.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let [width, _, _, _] = *weights.shape("intro.weight")? else { return None };
        let levels = weights.count(|level| format!("downs.{level}.weight"));
        let blocks = |part: String| weights.count(|index| format!("{part}.{index}.beta"));
        let config = Self {
            width,
            encoders: (0..levels).map(|level| blocks(format!("encoders.{level}"))).collect(),
            middle: blocks("middle_blks".into()),
            decoders: (0..levels).map(|level| blocks(format!("decoders.{level}"))).collect(),
        };
        // The multiple that sizes are padded to doubles with every level.
        let is_whole = (1..16).contains(&levels) && weights.has("ending.weight");
        let has_blocks = config.middle + config.encoders.iter().chain(&config.decoders).sum::<usize>() > 0;
        (is_whole && has_blocks).then_some(config)
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights) if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        let channels = weights.shape("intro.weight").and_then(|shape| shape.get(1).copied()).unwrap_or(0);
        let mut b = Builder::new(weights);
        let image = b.input(channels);
        let padded = b.pad_to_multiple(image, 1 << self.encoders.len(), Border::Zero)?;
        let mut x = b.conv("intro", padded, Window::default())?;

        let mut skips = Vec::new();
        for (level, &blocks) in self.encoders.iter().enumerate() {
            x = sequence(&mut b, &format!("encoders.{level}"), blocks, x)?;
            skips.push(x);
            x = b.conv(&format!("downs.{level}"), x, Window::strided(2, 0))?;
        }
        x = sequence(&mut b, "middle_blks", self.middle, x)?;
        for (level, (&blocks, skip)) in self.decoders.iter().zip(skips.into_iter().rev()).enumerate() {
            x = b.conv(&format!("ups.{level}.0"), x, Window::default())?;
            x = b.pixel_shuffle(x, 2)?;
            x = b.add(x, skip)?;
            x = sequence(&mut b, &format!("decoders.{level}"), blocks, x)?;
        }
        x = b.conv("ending", x, Window::default())?;
        x = b.add(x, padded)?;
        x = b.crop_like(x, image)?;
        Ok(b.finish(x))
    }
}

fn sequence(b: &mut Builder, name: &str, blocks: usize, mut x: Value) -> Result<Value> {
    for index in 0..blocks {
        x = block(b, &format!("{name}.{index}"), x)?;
    }
    Ok(x)
}

fn block(b: &mut Builder, name: &str, x: Value) -> Result<Value> {
    let part = |part: &str| format!("{name}.{part}");
    let mut y = b.layer_norm(&part("norm1"), x, EPS)?;
    y = b.conv(&part("conv1"), y, Window::default())?;
    y = b.depthwise(&part("conv2"), y, Border::Zero)?;
    y = b.gate(y, Function::Identity)?;
    let mut attention = b.global_pool(y, PoolKind::Average)?;
    attention = b.conv(&part("sca.1"), attention, Window::default())?;
    y = b.multiply(y, attention)?;
    y = b.conv(&part("conv3"), y, Window::default())?;
    y = b.channel_scale(&part("beta"), y)?;
    let x = b.add(x, y)?;

    y = b.layer_norm(&part("norm2"), x, EPS)?;
    y = b.conv(&part("conv4"), y, Window::default())?;
    y = b.gate(y, Function::Identity)?;
    y = b.conv(&part("conv5"), y, Window::default())?;
    y = b.channel_scale(&part("gamma"), y)?;
    b.add(x, y)
}
