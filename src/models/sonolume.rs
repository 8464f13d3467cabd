//! The generator of this crate: an encoder-decoder with gated convolutions and local window attention.
//!
//! Nothing looks at the whole image: an output pixel depends on a bounded neighbourhood and on its row's place in the
//! image. All enlarging is bilinear and followed by a convolution, so that no grid can be printed. The architecture and
//! its training are in `weights/recipe/model.py`.

use super::ValueRange;
use super::builder::{Builder, Window, bias_window};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::ops::Border;
use crate::ops::activation::Function;
use crate::ops::upsample::Interpolation;
use crate::ops::window_attention::WindowAttention;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "sonolume";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &["stem.weight:4", "?stem.bias", "down.#.weight:4", "?down.#.bias", "encoder.#.#.conv1.weight|middle.0.conv1.weight:4", "?encoder.#.#.*.@|decoder.#.#.*.@|middle.#.*.@|encoder.#.#.scale|decoder.#.#.scale|middle.#.scale", "middle.1.qkv.weight", "middle.1.relative_position_bias_table:2", "?middle.#.relative_position_bias_table", "?context.*.@", "up.#.scale.@", "up.#.shift.@", "head.mix.weight", "?head.mix.bias|head.reduce.@|head.out.@", "?signal.@|signal.columns.weight"];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Unit;

/// Layer norm's epsilon.
const EPS: f32 = 1e-5;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Channels at 1/2, 1/4, ... of the image's size.
    pub channels: Vec<usize>,
    /// Blocks at every level but the coarsest, each on the way down and on the way up.
    pub blocks: Vec<usize>,
    /// Pairs of a block and an attention at the coarsest level.
    pub pairs: usize,
    /// Attention heads.
    pub heads: usize,
    /// Side of an attention window.
    pub window: usize,
    /// With a depthwise convolution of a wide kernel in the middle.
    pub context: bool,
    /// The signal gate, if there is one: where there is no signal, nothing is added to the image.
    pub gate: Option<Gate>,
}

/// How a signal gate averages the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// With one kernel.
    Square,
    /// Along the columns, then along the rows.
    Separable,
}

impl Config {
    /// Recognises the weights by their names and shapes.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let out_channels = |name: String| weights.shape(&name).and_then(|shape| shape.first().copied());
        let levels = weights.count(|level| format!("down.{level}.weight"));
        let mut channels = vec![out_channels("stem.weight".into())?];
        for level in 0..levels {
            channels.push(out_channels(format!("down.{level}.weight"))?);
        }
        let blocks = (0..levels).map(|l| weights.count(|i| format!("encoder.{l}.{i}.conv1.weight"))).collect();
        let pairs = weights.count(|pair| format!("middle.{}.qkv.weight", 2 * pair + 1));
        let (window, heads) = bias_window(weights.shape("middle.1.relative_position_bias_table")?)?;
        let context = weights.has("context.conv1.weight");
        let gate = weights.shape("signal.weight").map(|shape| match shape {
            [_, _, 1, width] if *width > 1 => Gate::Separable,
            _ => Gate::Square,
        });
        (levels > 0 && pairs > 0 && weights.has("head.mix.weight"))
            .then_some(Self { channels, blocks, pairs, heads, window, context, gate })
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        let mut b = Builder::new(weights);
        let image = b.input(1);
        let multiple = self.window << self.channels.len();
        let full = b.pad_to_multiple(image, multiple, Border::Replicate)?;
        let mut x = b.pixel_unshuffle(full, 2)?;
        let rows = b.row_coordinate(image, x, 2)?;
        x = b.concat(x, rows)?;
        x = same(&mut b, "stem", x)?;

        let mut skips = Vec::new();
        for (level, &blocks) in self.blocks.iter().enumerate() {
            for index in 0..blocks {
                x = block(&mut b, &format!("encoder.{level}.{index}"), x)?;
            }
            skips.push(x);
            x = b.conv(&format!("down.{level}"), x, Window::strided(2, 0))?;
        }
        for pair in 0..self.pairs {
            if self.context && pair == self.pairs / 2 {
                x = context(&mut b, "context", x)?;
            }
            x = block(&mut b, &format!("middle.{}", 2 * pair), x)?;
            let shift = if pair % 2 == 1 { self.window / 2 } else { 0 };
            x = self.attention(&mut b, &format!("middle.{}", 2 * pair + 1), x, shift)?;
        }
        for (level, skip) in skips.into_iter().enumerate().rev() {
            // What is seen coarsely sets gain and offset of what is seen finely.
            let gain = b.conv(&format!("up.{level}.scale"), x, Window::default())?;
            let gain = double(&mut b, gain)?;
            let offset = b.conv(&format!("up.{level}.shift"), x, Window::default())?;
            let offset = double(&mut b, offset)?;
            x = b.multiply(skip, gain)?;
            x = b.add(x, offset)?;
            for index in 0..self.blocks[level] {
                x = block(&mut b, &format!("decoder.{level}.{index}"), x)?;
            }
        }
        x = same(&mut b, "head.reduce", x)?;
        x = double(&mut b, x)?;
        x = b.concat(x, full)?;
        x = same(&mut b, "head.mix", x)?;
        x = b.gate(x, Function::Identity)?;
        x = same(&mut b, "head.out", x)?;
        x = b.crop_like(x, image)?;
        if let Some(gate) = self.gate {
            let mut signal = image;
            if gate == Gate::Separable {
                signal = same(&mut b, "signal.columns", signal)?;
            }
            signal = same(&mut b, "signal", signal)?;
            signal = b.activation(signal, Function::Relu)?;
            signal = b.activation(signal, Function::Tanh)?;
            x = b.multiply(x, signal)?;
        }
        x = b.add(image, x)?;
        Ok(b.finish(x))
    }

    fn attention(&self, b: &mut Builder, name: &str, x: Value, shift: usize) -> Result<Value> {
        let channels = b.channels(x);
        if !channels.is_multiple_of(self.heads) {
            return Err(Error::Weights(format!("`{name}`: {channels} channels do not divide into {} heads", self.heads)));
        }
        let normed = b.layer_norm(&format!("{name}.norm"), x, EPS)?;
        let qkv = b.linear(&format!("{name}.qkv"), normed)?;
        let table = b.weights().take_any(&format!("{name}.relative_position_bias_table"))?;
        let attention = WindowAttention {
            heads: self.heads,
            head_channels: channels / self.heads,
            window: [self.window; 2],
            shift: [shift; 2],
            cosine: false,
        };
        let mixed = b.push(attention, &[qkv], vec![table])?;
        let projected = b.linear(&format!("{name}.proj"), mixed)?;
        b.add(x, projected)
    }
}

/// Padded by repeating the border: a constant image gets no frame.
fn same(b: &mut Builder, name: &str, x: Value) -> Result<Value> {
    b.conv(name, x, Window::same(Border::Replicate))
}

/// `x + conv2(gate(conv1(norm(x))))`.
fn block(b: &mut Builder, name: &str, x: Value) -> Result<Value> {
    let mut y = b.layer_norm(&format!("{name}.norm"), x, EPS)?;
    y = same(b, &format!("{name}.conv1"), y)?;
    y = b.gate(y, Function::Identity)?;
    y = same(b, &format!("{name}.conv2"), y)?;
    b.add(x, y)
}

/// `x + conv2(gate(conv1(depthwise(norm(x)))))`: a block that sees far.
fn context(b: &mut Builder, name: &str, x: Value) -> Result<Value> {
    let mut y = b.layer_norm(&format!("{name}.norm"), x, EPS)?;
    y = b.depthwise(&format!("{name}.depthwise"), y, Border::Replicate)?;
    y = b.conv(&format!("{name}.conv1"), y, Window::default())?;
    y = b.gate(y, Function::Identity)?;
    y = b.conv(&format!("{name}.conv2"), y, Window::default())?;
    b.add(x, y)
}

fn double(b: &mut Builder, x: Value) -> Result<Value> {
    b.upsample(x, 2, Interpolation::Bilinear { align_corners: false })
}
