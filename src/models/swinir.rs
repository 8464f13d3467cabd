//! SwinIR: a transformer with attention inside shifted windows, and four ways to give the image back.
//!
//! Liang et al., "SwinIR: Image Restoration Using Swin Transformer", 2021, in the key layout of its reference code: classical
//! and light-weight super-resolution, the real-world one, and restoration at the same size. Sizes are padded by reflection to
//! multiples of the window, as its forward does. What the shapes do not tell is as in the published configurations: the mean
//! of the training images is subtracted from colour images, and restoration with windows of 7 (JPEG artefacts) works on
//! values up to 255. A network may take the image by pixel unshuffle; windows are then of what that gives.

use super::ValueRange;
use super::builder::{Builder, Window, bias_window, check_unshuffle};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::ops::Border;
use crate::ops::activation::Function;
use crate::ops::upsample::Interpolation;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "SwinIR";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &["conv_first.weight|conv_first.1.weight:4", "layers.0.residual_group.blocks.0.norm1.weight:1", "layers.0.residual_group.blocks.0.attn.relative_position_bias_table:2", "?layers.#.residual_group.blocks.#.norm#.@|layers.#.residual_group.blocks.#.attn.*.@|layers.#.residual_group.blocks.#.mlp.fc#.@", "?layers.#.residual_group.blocks.#.attn.relative_position_bias_table|layers.#.residual_group.blocks.#.attn.relative_position_index|layers.#.residual_group.blocks.#.attn_mask", "?layers.#.conv.@|layers.#.conv.#.@", "norm.weight:1", "conv_after_body.weight|conv_after_body.0.weight:4", "conv_last.weight|upsample.0.weight:4", "?conv_first.bias|conv_first.1.bias|patch_embed.norm.@|norm.bias|conv_after_body.@|conv_after_body.#.@|conv_before_upsample.0.@|upsample.#.@|conv_up#.@|conv_hr.@|conv_last.bias"];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Unit;

/// Layer norm's epsilon.
const EPS: f32 = 1e-5;
/// What the metadata can say of the largest value that restoration with windows of 7 works on.
const RANGES: &[&str] = &["255", "1"];
/// Mean red, green and blue of the images it was trained with.
const MEAN: [f32; 3] = [0.4488, 0.4371, 0.4040];

/// How features become an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// Pixel shuffles by these factors, a convolution before each and after all (`pixelshuffle`).
    Shuffle(Vec<usize>),
    /// One convolution and one pixel shuffle (`pixelshuffledirect`).
    Direct(usize),
    /// Enlarged this many times by two, each followed by a convolution (`nearest+conv`).
    Nearest(usize),
    /// One convolution, whose result is added to the input.
    Residual,
}

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Side of an attention window.
    pub window: usize,
    /// Blocks of every layer.
    pub depths: Vec<usize>,
    /// Whether every other block's windows are shifted by half.
    pub shifted: bool,
    /// The largest value it works on. Restoration with windows of 7 works on 255, unless the file's metadata says
    /// `image_range: 1`.
    pub image_range: u16,
    /// Pixels of the image, on each axis, that share one pixel of the features.
    pub unshuffle: usize,
    /// How features become an image.
    pub head: Head,
}

impl Config {
    /// Recognises the weights by their names and shapes.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let table = "layers.0.residual_group.blocks.0.attn.relative_position_bias_table";
        let (window, _) = bias_window(weights.shape(table)?)?;
        let layers = weights.count(|layer| format!("{}.norm1.weight", block(layer, 0)));
        let depths = (0..layers).map(|l| weights.count(|index| format!("{}.norm1.weight", block(l, index)))).collect();
        let (head, unshuffle) = detect_ends(weights)?;
        // Images that are one window are not shifted, and then there is no mask. A file without any of the buffers does
        // not tell; generators are trained on larger images.
        let has_buffer = |name: &str| weights.names().any(|tensor| tensor.ends_with(name));
        let shifted = has_buffer(".attn_mask") || !has_buffer(".relative_position_index");
        let is_jpeg = head == Head::Residual && window == 7;
        let image_range = if is_jpeg && weights.noted("image_range", RANGES) != Some("1") { 255 } else { 1 };
        Some(Self { window, depths, shifted, image_range, unshuffle, head })
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        if weights.has("absolute_pos_embed") {
            let shape = weights.stored_shape("absolute_pos_embed").unwrap_or_default();
            return Err(Error::Weights(format!(
                "tensor `absolute_pos_embed` {shape:?} holds a number for each place of the training's images: such a network \
                 works at that size alone, which is not supported; train it with `ape=False`, as the published ones are"
            )));
        }
        let (scale, unshuffle) = (self.head.scale(), self.unshuffle);
        check_unshuffle(first_conv(weights), unshuffle, scale)?;
        if self.head == Head::Residual && self.window == 7 {
            weights.settle("image_range", &self.image_range.to_string(), RANGES)?;
        }
        let first = first_conv(weights);
        let inputs = weights.shape(&format!("{first}.weight")).and_then(|shape| shape.get(1).copied()).unwrap_or(0);
        let channels = inputs / (unshuffle * unshuffle);
        let mean = if channels == 3 { MEAN.to_vec() } else { vec![0.0; channels] };
        let range = f32::from(self.image_range);
        let is_plain = channels != 3 && self.image_range == 1;
        let mut b = Builder::new(weights);
        let image = b.input(channels);
        let mut padded = b.pad_to_multiple(image, self.window * unshuffle, Border::Reflect)?;
        if !is_plain {
            let shift = mean.iter().map(|mean| -mean * range).collect();
            padded = b.scale_shift("image range", padded, vec![range; channels], shift)?;
        }
        let mut x = padded;
        if unshuffle > 1 {
            x = b.pixel_unshuffle(x, unshuffle)?;
        }
        let first = b.conv(first, x, Window::default())?;
        x = self.features(&mut b, first)?;
        x = convs(&mut b, "conv_after_body", x)?;
        x = b.add(x, first)?;
        x = self.reconstruct(&mut b, x)?;
        if self.head == Head::Residual {
            x = b.add(x, padded)?;
        }
        if !is_plain {
            let out_channels = b.channels(x);
            if out_channels != channels {
                return Err(Error::Weights(format!("it takes {channels} channels, but gives {out_channels}")));
            }
            x = b.scale_shift("image range", x, vec![range.recip(); channels], mean)?;
        }
        x = b.crop_like(x, image)?;
        Ok(b.finish(x))
    }

    fn features(&self, b: &mut Builder, mut x: Value) -> Result<Value> {
        if b.weights().has("patch_embed.norm.weight") {
            x = b.layer_norm("patch_embed.norm", x, EPS)?;
        }
        for (layer, &depth) in self.depths.iter().enumerate() {
            let shortcut = x;
            for index in 0..depth {
                x = transformer(b, &block(layer, index), x, self.shifted && index % 2 == 1)?;
            }
            x = convs(b, &format!("layers.{layer}.conv"), x)?;
            x = b.add(x, shortcut)?;
        }
        b.layer_norm("norm", x, EPS)
    }

    fn reconstruct(&self, b: &mut Builder, mut x: Value) -> Result<Value> {
        let leaky = Function::LeakyRelu { slope: 0.2 };
        if let Head::Shuffle(_) | Head::Nearest(_) = self.head {
            x = b.conv("conv_before_upsample.0", x, Window::default())?;
            x = b.activation(x, Function::LeakyRelu { slope: 0.01 })?;
        }
        match &self.head {
            Head::Shuffle(factors) => {
                for (step, &factor) in factors.iter().enumerate() {
                    x = b.conv(&format!("upsample.{}", 2 * step), x, Window::default())?;
                    x = b.pixel_shuffle(x, factor)?;
                }
            }
            Head::Direct(factor) => {
                x = b.conv("upsample.0", x, Window::default())?;
                return b.pixel_shuffle(x, *factor);
            }
            Head::Nearest(steps) => {
                for step in 1..=*steps {
                    x = b.upsample(x, 2, Interpolation::Nearest)?;
                    x = b.conv(&format!("conv_up{step}"), x, Window::default())?;
                    x = b.activation(x, leaky)?;
                }
                x = b.conv("conv_hr", x, Window::default())?;
                x = b.activation(x, leaky)?;
            }
            Head::Residual => {}
        }
        b.conv("conv_last", x, Window::default())
    }
}

fn block(layer: usize, index: usize) -> String {
    format!("layers.{layer}.residual_group.blocks.{index}")
}

impl Head {
    /// The features' enlargement.
    fn scale(&self) -> usize {
        match self {
            Self::Shuffle(factors) => factors.iter().product(),
            Self::Direct(factor) => *factor,
            Self::Nearest(steps) => 1 << steps,
            Self::Residual => 1,
        }
    }
}

/// The first convolution's name: it is the second module where a pixel unshuffle comes first.
fn first_conv(weights: &Weights) -> &'static str {
    if weights.has("conv_first.1.weight") { "conv_first.1" } else { "conv_first" }
}

/// How features become an image, and the pixels on each axis that share one pixel of the features.
fn detect_ends(weights: &Weights) -> Option<(Head, usize)> {
    let first = first_conv(weights);
    let &[_, inputs, _, _] = weights.shape(&format!("{first}.weight"))? else { return None };
    // One convolution that makes the image of features tells its channels only with the factor of their enlargement.
    let unshuffle_of = |channels: usize| factor(inputs, channels);
    let unshuffled = unshuffle_of(3).map(|_| 3).or(unshuffle_of(1).map(|_| 1));
    let image_channels = unshuffled.filter(|_| first != "conv_first").unwrap_or(inputs);
    let head = detect_head(weights, image_channels)?;
    let image_channels = match head {
        Head::Shuffle(_) | Head::Nearest(_) => *weights.shape("conv_last.weight")?.first()?,
        Head::Direct(_) => image_channels,
        Head::Residual => inputs,
    };
    Some((head, unshuffle_of(image_channels).unwrap_or(1)))
}

fn detect_head(weights: &Weights, image_channels: usize) -> Option<Head> {
    let out_channels = |name: &str| weights.shape(name)?.first().copied();
    let steps = weights.count(|step| format!("conv_up{}.weight", step + 1));
    if weights.has("conv_hr.weight") {
        return (steps <= 3).then_some(Head::Nearest(steps));
    }
    if weights.has("conv_before_upsample.0.weight") {
        let steps = weights.count(|step| format!("upsample.{}.weight", 2 * step));
        let factors = (0..steps).map(|step| {
            let shape = weights.shape(&format!("upsample.{}.weight", 2 * step))?;
            factor(*shape.first()?, *shape.get(1)?)
        });
        return Some(Head::Shuffle(factors.collect::<Option<_>>()?));
    }
    match out_channels("upsample.0.weight") {
        Some(channels) => Some(Head::Direct(factor(channels, image_channels)?)),
        None => weights.has("conv_last.weight").then_some(Head::Residual),
    }
}

/// The pixel shuffle's factor that makes `to` channels of `from`.
fn factor(from: usize, to: usize) -> Option<usize> {
    (1..=8).find(|factor| to.checked_mul(factor * factor) == Some(from))
}

/// One convolution, or three with LeakyReLU between them.
fn convs(b: &mut Builder, name: &str, mut x: Value) -> Result<Value> {
    if b.weights().has(&format!("{name}.weight")) {
        return b.conv(name, x, Window::default());
    }
    for index in [0, 2] {
        x = b.conv(&format!("{name}.{index}"), x, Window::default())?;
        x = b.activation(x, Function::LeakyRelu { slope: 0.2 })?;
    }
    b.conv(&format!("{name}.4"), x, Window::default())
}

fn transformer(b: &mut Builder, name: &str, x: Value, shifted: bool) -> Result<Value> {
    let part = |part: &str| format!("{name}.{part}");
    b.weights().ignore(&part("attn_mask"));
    b.weights().ignore(&part("attn.relative_position_index"));
    let mut y = b.layer_norm(&part("norm1"), x, EPS)?;
    y = b.linear(&part("attn.qkv"), y)?;
    y = b.window_attention(&part("attn.relative_position_bias_table"), y, shifted)?;
    y = b.linear(&part("attn.proj"), y)?;
    let x = b.add(x, y)?;

    y = b.layer_norm(&part("norm2"), x, EPS)?;
    y = b.linear(&part("mlp.fc1"), y)?;
    y = b.activation(y, Function::Gelu)?;
    y = b.linear(&part("mlp.fc2"), y)?;
    b.add(x, y)
}
