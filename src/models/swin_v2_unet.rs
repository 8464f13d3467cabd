//! A Swin V2 encoder with a convolutional decoder: how ultrasound foundation models are made to enhance images.
//!
//! Encoder: Liu et al., "Swin Transformer V2", 2022, under `encoder.`, with timm's names or those of the reference code
//! (`patch_embed`, `layers.N.blocks.M`, `layers.N.downsample`; timm's feature extractor writes `layers_N`). If there is
//! `encoder.norm`, it is applied to the coarsest features.
//!
//! Decoder, in a layout of our own, for `N` from 0 at the coarsest size: everything is enlarged twice by bilinear
//! interpolation (corners not aligned), then the encoder's features of that size, or at full size the image, are concatenated
//! behind if `decoder.N.conv1.weight` has room for them; then `conv1`, `norm1`, LeakyReLU 0.01, `conv2`, `norm2`, LeakyReLU
//! 0.01. The norms are instance norms, affine if they have weights. `head`, a convolution, makes the image; it is linear.
//!
//! Windows, shifts and position tables come from the encoder's buffers (`relative_coords_table`, `relative_position_index`,
//! `attn_mask`) where the file has them; else from its metadata `window`, `image_size` and `pretrained_window` (one number,
//! or one a level, separated by commas), else they are 8, 256 and 0, as published. A level of the configured image that is
//! not larger than a window is one window. Sizes are padded by reflection so that all levels are whole windows.

use std::sync::Arc;

use super::ValueRange;
use super::builder::{Builder, Window};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::ops::activation::Function;
use crate::ops::conv2d::Conv2d;
use crate::ops::linear::Linear;
use crate::ops::span::lcm;
use crate::ops::upsample::Interpolation;
use crate::ops::window_attention::WindowAttention;
use crate::ops::{Border, Param};
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "Swin V2 U-Net";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &["encoder.patch_embed.proj.weight:4", "encoder.layers.0.blocks.0.attn.logit_scale|encoder.layers_0.blocks.0.attn.logit_scale", "?encoder.patch_embed.proj.bias|encoder.patch_embed.norm.@", "?encoder.layers*.blocks.#.norm#.@|encoder.layers*.blocks.#.attn.*.@|encoder.layers*.blocks.#.mlp.fc#.@", "?encoder.layers*.blocks.#.attn.logit_scale|encoder.layers*.blocks.#.attn.q_bias|encoder.layers*.blocks.#.attn.k_bias|encoder.layers*.blocks.#.attn.v_bias", "?encoder.layers*.blocks.#.attn.relative_position_index|encoder.layers*.blocks.#.attn.relative_coords_table|encoder.layers*.blocks.#.attn_mask", "?encoder.layers*.downsample.*.@|encoder.norm.@", "decoder.0.conv1.weight:4", "?decoder.#.conv#.@|decoder.#.norm#.@", "head.weight:4", "?head.bias"];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Unit;

/// Epsilon of all norms.
const EPS: f32 = 1e-5;

/// Sizes are not padded to multiples above this: published encoders need 256.
const MAX_MULTIPLE: usize = 1 << 14;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Side of a patch.
    pub patch: usize,
    /// The encoder's levels, finest first.
    pub levels: Vec<Level>,
    /// The decoder's stages.
    pub stages: usize,
    /// What the names of the levels start with: `encoder.layers.` or `encoder.layers_`.
    prefix: &'static str,
}

/// One level of the encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Number of blocks.
    pub depth: usize,
    /// Side of an attention window.
    pub window: usize,
    /// Whether every other block's windows are shifted by half.
    pub shifted: bool,
    /// The window whose size the positions are relative to; 0 is its own.
    pub pretrained: usize,
}

impl Config {
    /// Recognises the weights by their names and shapes.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let [_, _, patch, _] = *weights.shape("encoder.patch_embed.proj.weight")? else { return None };
        let prefix = ["encoder.layers.", "encoder.layers_"]
            .into_iter()
            .find(|prefix| weights.has(&format!("{prefix}0.blocks.0.attn.logit_scale")))?;
        let block = |level: usize, index: usize, part: &str| format!("{prefix}{level}.blocks.{index}.{part}");
        let count = weights.count(|level| block(level, 0, "attn.logit_scale"));
        let stages = weights.count(|stage| format!("decoder.{stage}.conv1.weight"));
        // All that was halved is doubled again; the bounds keep the sums below small.
        let fits = (1..=8).contains(&count) && (1..=64).contains(&patch) && stages <= 16;
        if !fits || patch << (count - 1) != 1 << stages || !weights.has("head.weight") {
            return None;
        }
        let number = |key: &str, level: usize, default: usize| {
            let Some(text) = weights.metadata().get(key) else { return Some(default) };
            let numbers: Vec<usize> = text.split(',').map(|part| part.trim().parse().ok()).collect::<Option<_>>()?;
            numbers.get(level).or(numbers.last()).copied()
        };
        let has_buffer = |name: &str| weights.names().any(|tensor| tensor.ends_with(name));
        let has_masks = has_buffer(".attn_mask") || has_buffer(".relative_position_index");
        let level = |level: usize| {
            let table = weights.shape(&block(level, 0, "attn.relative_coords_table")).and_then(|shape| shape.get(1));
            let index = weights.shape(&block(level, 0, "attn.relative_position_index")).and_then(|shape| shape.first());
            let size = number("image_size", 0, 256)? / (patch << level);
            let window = match (table, index) {
                (Some(side), _) => side.div_ceil(2),
                (None, Some(pixels)) => pixels.isqrt(),
                (None, None) => number("window", level, 8)?.min(size),
            };
            let shifted = if has_masks { weights.has(&block(level, 1, "attn_mask")) } else { size > window };
            let depth = weights.count(|index| block(level, index, "attn.logit_scale"));
            let pretrained = number("pretrained_window", level, 0)?;
            (1..=256).contains(&window).then_some(Level { depth, window, shifted, pretrained })
        };
        Some(Self { patch, levels: (0..count).map(level).collect::<Option<_>>()?, stages, prefix })
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        let shape = weights.shape("encoder.patch_embed.proj.weight");
        let channels = shape.and_then(|shape| shape.get(1).copied()).unwrap_or(0);
        let has_buffer = |name: &str| weights.names().any(|tensor| tensor.ends_with(name));
        let [tables, index, masks] =
            [".relative_coords_table", ".relative_position_index", ".attn_mask"].map(has_buffer);
        if !tables && !index {
            weights.assume("window", 8);
        }
        if !index && !masks {
            weights.assume("image_size", 256);
        }
        weights.assume("pretrained_window", 0);
        let mut b = Builder::new(weights);
        let image = b.input(channels);
        let mut multiple = self.patch;
        for (index, level) in self.levels.iter().enumerate() {
            multiple = lcm(multiple, self.patch * (level.window << index));
            if multiple > MAX_MULTIPLE {
                return Err(Error::Weights(format!("windows that fit only images of multiples of {multiple} pixels")));
            }
        }
        let padded = b.pad_to_multiple(image, multiple, Border::Reflect)?;
        // What the decoder concatenates at 1, 1/2, 1/4, ... of the size.
        let mut skips = vec![None; self.stages + 1];
        skips[0] = Some(padded);
        let mut x = b.conv("encoder.patch_embed.proj", padded, Window::strided(self.patch, 0))?;
        x = optional_norm(&mut b, "encoder.patch_embed.norm", x)?;
        for (index, level) in self.levels.iter().enumerate() {
            // The reference code halves at the end of a level, timm at the beginning of the next.
            if index > 0 {
                let ends = format!("{}{}.downsample", self.prefix, index - 1);
                let begins = format!("{}{index}.downsample", self.prefix);
                let is_reference = b.weights().has(&format!("{}0.downsample.reduction.weight", self.prefix));
                x = downsample(&mut b, if is_reference { &ends } else { &begins }, x)?;
            }
            for block in 0..level.depth {
                x = transformer(&mut b, &format!("{}{index}.blocks.{block}", self.prefix), x, level, block % 2 == 1)?;
            }
            skips[self.stages + 1 - self.levels.len() + index] = Some(x);
        }
        x = optional_norm(&mut b, "encoder.norm", x)?;

        for stage in 0..self.stages {
            let name = format!("decoder.{stage}");
            x = b.upsample(x, 2, Interpolation::Bilinear { align_corners: false })?;
            let takes = b.weights().shape(&format!("{name}.conv1.weight")).and_then(|shape| shape.get(1).copied());
            if let Some(skip) = skips[self.stages - 1 - stage]
                && takes == Some(b.channels(x) + b.channels(skip))
            {
                x = b.concat(x, skip)?;
            }
            for part in 1..=2 {
                x = b.conv(&format!("{name}.conv{part}"), x, Window::default())?;
                x = b.instance_norm(&format!("{name}.norm{part}"), x, EPS)?;
                x = b.activation(x, Function::LeakyRelu { slope: 0.01 })?;
            }
        }
        x = b.conv("head", x, Window::default())?;
        x = b.crop_like(x, image)?;
        Ok(b.finish(x))
    }
}

fn optional_norm(b: &mut Builder, name: &str, x: Value) -> Result<Value> {
    if b.weights().has(&format!("{name}.weight")) { b.layer_norm(name, x, EPS) } else { Ok(x) }
}

/// Patch merging: a linear map of four neighbours' channels, then a norm. As a convolution it needs no copy.
fn downsample(b: &mut Builder, name: &str, x: Value) -> Result<Value> {
    let channels = b.channels(x);
    let reduction = b.weights().take_any(&format!("{name}.reduction.weight"))?;
    let out_channels = match reduction.shape[..] {
        [out_channels, inputs] if inputs == 4 * channels => out_channels,
        _ => return Err(misfit(&reduction, &format!("[out, {}]", 4 * channels))),
    };
    // Neighbours come column by column, and each has all channels: [out, dx, dy, channel].
    let data = (0..reduction.data.len()).map(|index| {
        let (out, within) = (index / (4 * channels), index % (4 * channels));
        let (channel, dy, dx) = (within / 4, within / 2 % 2, within % 2);
        reduction.data[out * 4 * channels + (2 * dx + dy) * channels + channel]
    });
    let kernel = Param::new(&reduction.name, vec![out_channels, channels, 2, 2], data.collect())?;
    let conv = Conv2d { stride: [2; 2], ..Conv2d::new(channels, out_channels, [2; 2]) };
    let x = b.push(conv, &[x], vec![Arc::new(kernel)])?;
    b.layer_norm(&format!("{name}.norm"), x, EPS)
}

/// Attention and a perceptron, each normalised before it is added.
fn transformer(b: &mut Builder, name: &str, x: Value, level: &Level, odd: bool) -> Result<Value> {
    let part = |part: &str| format!("{name}.{part}");
    b.weights().ignore(&part("attn_mask"));
    b.weights().ignore(&part("attn.relative_position_index"));
    let logit_scale = b.weights().take_any(&part("attn.logit_scale"))?;
    let (heads, channels) = (logit_scale.data.len(), b.channels(x));
    if heads == 0 || !channels.is_multiple_of(heads) {
        return Err(misfit(&logit_scale, &format!("as many heads as divide {channels} channels")));
    }
    let table = bias_table(b, &part("attn"), level, heads)?;
    let attention = WindowAttention {
        heads,
        head_channels: channels / heads,
        window: [level.window; 2],
        shift: [if level.shifted && odd { level.window / 2 } else { 0 }; 2],
        cosine: true,
    };
    let mut y = queries_keys_values(b, &part("attn"), x)?;
    y = b.push(attention, &[y], vec![table, logit_scale])?;
    y = b.linear(&part("attn.proj"), y)?;
    y = b.layer_norm(&part("norm1"), y, EPS)?;
    let x = b.add(x, y)?;

    y = b.linear(&part("mlp.fc1"), x)?;
    y = b.activation(y, Function::Gelu)?;
    y = b.linear(&part("mlp.fc2"), y)?;
    y = b.layer_norm(&part("norm2"), y, EPS)?;
    b.add(x, y)
}

/// The linear map `qkv`, whose bias comes in two pieces: keys have none.
fn queries_keys_values(b: &mut Builder, name: &str, x: Value) -> Result<Value> {
    if !b.weights().has(&format!("{name}.q_bias")) {
        return b.linear(&format!("{name}.qkv"), x);
    }
    let channels = b.channels(x);
    let weight = b.weights().take(&format!("{name}.qkv.weight"), &[3 * channels, channels])?;
    let q = b.weights().take(&format!("{name}.q_bias"), &[channels])?;
    let v = b.weights().take(&format!("{name}.v_bias"), &[channels])?;
    b.weights().ignore(&format!("{name}.k_bias"));
    let bias = [&q.data[..], &vec![0.0; channels], &v.data].concat();
    let bias = Arc::new(Param::new(format!("{name}.qkv (bias)"), vec![3 * channels], bias)?);
    let linear = Linear {
        in_channels: channels,
        out_channels: 3 * channels,
        bias: true,
        activation: Function::Identity,
        residual: None,
    };
    b.push(linear, &[x], vec![weight, bias])
}

/// What the position network `cpb_mlp` makes of the log-spaced coordinates: `16 sigmoid(mlp(coordinates))`, in f64.
fn bias_table(b: &mut Builder, name: &str, level: &Level, heads: usize) -> Result<Arc<Param>> {
    let hidden_weight = b.weights().take_any(&format!("{name}.cpb_mlp.0.weight"))?;
    let [hidden, 2] = hidden_weight.shape[..] else { return Err(misfit(&hidden_weight, "[hidden, 2]")) };
    let hidden_bias = b.weights().take(&format!("{name}.cpb_mlp.0.bias"), &[hidden])?;
    let out_weight = b.weights().take(&format!("{name}.cpb_mlp.2.weight"), &[heads, hidden])?;
    let side = 2 * level.window - 1;
    let stored = format!("{name}.relative_coords_table");
    let coordinates: Vec<f32> = if b.weights().has(&stored) {
        b.weights().take(&stored, &[1, side, side, 2])?.data.clone()
    } else {
        let last = (if level.pretrained > 0 { level.pretrained } else { level.window }).max(2) - 1;
        let line: Vec<f32> = (0..side)
            .map(|index| {
                let position = 8.0 * (index as f64 - (level.window - 1) as f64) / last as f64;
                (position.signum() * (position.abs() + 1.0).log2() / 3.0) as f32
            })
            .collect();
        line.iter().flat_map(|&y| line.iter().flat_map(move |&x| [y, x])).collect()
    };
    let mut table = Vec::with_capacity(side * side * heads);
    for position in coordinates.chunks_exact(2) {
        let neuron = |(weight, &bias): (&[f32], &f32)| {
            let products = weight.iter().zip(position).map(|(&w, &p)| f64::from(w) * f64::from(p));
            (products.sum::<f64>() + f64::from(bias)).max(0.0)
        };
        let neurons: Vec<f64> = hidden_weight.data.chunks_exact(2).zip(&hidden_bias.data).map(neuron).collect();
        for head in 0..heads {
            let weights = &out_weight.data[head * hidden..][..hidden];
            let sum: f64 = weights.iter().zip(&neurons).map(|(&weight, neuron)| f64::from(weight) * neuron).sum();
            table.push((16.0 / (1.0 + (-sum).exp())) as f32);
        }
    }
    Ok(Arc::new(Param::new(format!("{name} (position bias)"), vec![side * side, heads], table)?))
}

fn misfit(param: &Param, expected: &str) -> Error {
    Error::Weights(format!("tensor `{}` has shape {:?}; {expected} is expected", param.name, param.shape))
}
