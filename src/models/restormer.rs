//! Restormer: a U-shaped transformer whose attention mixes channels, by how alike they are over the whole image.
//!
//! Zamir et al., "Restormer: Efficient Transformer for High-Resolution Image Restoration", 2022, in the key layout of its
//! reference code, with both of its norms, with and without biases, and its two-image task (`skip_conv`). Sizes are padded
//! by reflection to multiples of eight, as its test scripts do.

use super::ValueRange;
use super::builder::{Builder, Window};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::ops::Border;
use crate::ops::activation::Function;
use crate::ops::channel_attention::ChannelAttention;
use crate::ops::gram::Gram;
use crate::ops::layer_norm::LayerNorm;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "Restormer";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &["patch_embed.proj.weight:4", "encoder_level1.0.attn.temperature", "encoder_level1.0.ffn.project_in.weight:4", "?encoder_level#.#.*.@|latent.#.*.@|decoder_level#.#.*.@|refinement.#.*.@", "?encoder_level#.#.attn.temperature|latent.#.attn.temperature|decoder_level#.#.attn.temperature|refinement.#.attn.temperature", "down1_2.body.0.weight:4", "up2_1.body.0.weight:4", "?down#_#.body.0.@|up#_#.body.0.@|reduce_chan_level#.@|skip_conv.@|patch_embed.proj.bias", "output.weight:4", "?output.bias"];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Unit;

/// Layer norm's epsilon.
const EPS: f32 = 1e-5;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Channels at full size.
    pub width: usize,
    /// Blocks of the encoder's three levels and of the coarsest size.
    pub encoder: [usize; 4],
    /// Blocks of the decoder's levels, at full size first.
    pub decoder: [usize; 3],
    /// Blocks after them.
    pub refinement: usize,
    /// Whether the embedded input is added before the output convolution, instead of the input after it.
    pub dual_pixel: bool,
}

impl Config {
    /// Recognises the weights by their names.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let [width, _, _, _] = *weights.shape("patch_embed.proj.weight")? else { return None };
        let blocks = |part: &str| weights.count(|index| format!("{part}.{index}.attn.temperature"));
        let config = Self {
            width,
            encoder: ["encoder_level1", "encoder_level2", "encoder_level3", "latent"].map(blocks),
            decoder: ["decoder_level1", "decoder_level2", "decoder_level3"].map(blocks),
            refinement: blocks("refinement"),
            dual_pixel: weights.has("skip_conv.weight"),
        };
        (weights.has("encoder_level1.0.ffn.project_in.weight") && weights.has("output.weight")).then_some(config)
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        let channels = weights.shape("patch_embed.proj.weight").and_then(|shape| shape.get(1).copied()).unwrap_or(0);
        let mut b = Builder::new(weights);
        let image = b.input(channels);
        let padded = b.pad_to_multiple(image, 8, Border::Reflect)?;
        let embedded = b.conv("patch_embed.proj", padded, Window::default())?;

        let mut x = embedded;
        let mut skips = Vec::new();
        for level in 1..=3 {
            x = sequence(&mut b, &format!("encoder_level{level}"), self.encoder[level - 1], x)?;
            skips.push(x);
            x = b.conv(&format!("down{level}_{}.body.0", level + 1), x, Window::default())?;
            x = b.pixel_unshuffle(x, 2)?;
        }
        x = sequence(&mut b, "latent", self.encoder[3], x)?;
        for level in (1..=3).rev() {
            x = b.conv(&format!("up{}_{level}.body.0", level + 1), x, Window::default())?;
            x = b.pixel_shuffle(x, 2)?;
            x = b.concat(x, skips[level - 1])?;
            if level > 1 {
                x = b.conv(&format!("reduce_chan_level{level}"), x, Window::default())?;
            }
            x = sequence(&mut b, &format!("decoder_level{level}"), self.decoder[level - 1], x)?;
        }
        x = sequence(&mut b, "refinement", self.refinement, x)?;
        if self.dual_pixel {
            let skip = b.conv("skip_conv", embedded, Window::default())?;
            x = b.add(x, skip)?;
            x = b.conv("output", x, Window::default())?;
        } else {
            x = b.conv("output", x, Window::default())?;
            x = b.add(x, padded)?;
        }
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
    let mut y = norm(b, &part("norm1.body"), x)?;
    y = b.conv(&part("attn.qkv"), y, Window::default())?;
    y = b.depthwise(&part("attn.qkv_dwconv"), y, Border::Zero)?;
    y = attention(b, &part("attn.temperature"), y)?;
    y = b.conv(&part("attn.project_out"), y, Window::default())?;
    let x = b.add(x, y)?;

    y = norm(b, &part("norm2.body"), x)?;
    y = b.conv(&part("ffn.project_in"), y, Window::default())?;
    y = b.depthwise(&part("ffn.dwconv"), y, Border::Zero)?;
    y = b.gate(y, Function::Gelu)?;
    y = b.conv(&part("ffn.project_out"), y, Window::default())?;
    b.add(x, y)
}

/// Layer norm, which without a bias does not subtract the mean either.
fn norm(b: &mut Builder, name: &str, x: Value) -> Result<Value> {
    if b.weights().has(&format!("{name}.bias")) {
        return b.layer_norm(name, x, EPS);
    }
    let weight = b.weights().take_any(&format!("{name}.weight"))?;
    let norm = LayerNorm { channels: b.channels(x), eps: EPS, center: false, weight: true, bias: false };
    b.push(norm, &[x], vec![weight])
}

/// Mixes the channels of each head; `temperature` holds one number a head.
fn attention(b: &mut Builder, temperature: &str, qkv: Value) -> Result<Value> {
    let temperature = b.weights().take_any(temperature)?;
    let (heads, channels) = (temperature.data.len(), b.channels(qkv) / 3);
    if heads == 0 || !channels.is_multiple_of(heads) {
        let name = &temperature.name;
        return Err(Error::Weights(format!("tensor `{name}`: {channels} channels do not divide into {heads} heads")));
    }
    let head_channels = channels / heads;
    let weights = b.push(Gram { heads, head_channels }, &[qkv], vec![temperature])?;
    b.push(ChannelAttention { heads, head_channels }, &[qkv, weights], vec![])
}
