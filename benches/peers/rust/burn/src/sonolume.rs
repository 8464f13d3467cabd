//! The sonolume generator, as its recipe defines it.

use burn::tensor::activation::softmax;
use burn::tensor::module::linear;
use burn::tensor::ops::{InterpolateMode, PadMode};
use burn::tensor::{Tensor, TensorData, s};
use protocol::Result;

use crate::generator::{Conv, Generator, Norm, Weights, enlarge, pixel_unshuffle};

const WINDOW: usize = 4;
const HEADS: usize = 5;

/// x + conv2(gate(conv1(norm(x)))).
struct Block {
    norm: Norm,
    conv1: Conv,
    conv2: Conv,
}

/// x + proj(attention(norm(x))) in windows, shifted or not.
struct Attention {
    norm: Norm,
    qkv: (Tensor<2>, Tensor<1>),
    proj: (Tensor<2>, Tensor<1>),
    /// Relative positions and the shift's mask, `[windows or 1, heads, tokens, tokens]`.
    bias: Tensor<4>,
    shift: usize,
}

/// An encoder-decoder for one image size.
pub struct Sonolume {
    rows: Tensor<4>,
    padding: [usize; 2],
    stem: Conv,
    encoder: Vec<Vec<Block>>,
    down: Vec<Conv>,
    middle: Vec<(Block, Attention)>,
    up: Vec<(Conv, Conv)>,
    decoder: Vec<Vec<Block>>,
    head: [Conv; 3],
}

impl Sonolume {
    pub fn new(weights: Weights, height: usize, width: usize) -> Result<Self> {
        let w = &weights;
        let count = |name: &dyn Fn(usize) -> String| (0..).take_while(|&i| w.has(&name(i))).count();
        let levels = count(&|i| format!("down.{i}.weight"));
        let multiple = WINDOW << (levels + 1);
        let padding = [height, width].map(|size| size.next_multiple_of(multiple) - size);
        let tokens = [(height + padding[0]) >> (levels + 1), (width + padding[1]) >> (levels + 1)];
        let stack = |name: &str| -> Result<Vec<Vec<Block>>> {
            (0..levels)
                .map(|level| {
                    let blocks = count(&|i| format!("{name}.{level}.{i}.conv1.weight"));
                    (0..blocks).map(|i| Block::new(w, &format!("{name}.{level}.{i}"))).collect()
                })
                .collect()
        };
        let pairs = count(&|i| format!("middle.{}.conv1.weight", 2 * i));
        let middle = (0..pairs).map(|i| {
            let shift = if i % 2 == 1 { WINDOW / 2 } else { 0 };
            Ok((
                Block::new(w, &format!("middle.{}", 2 * i))?,
                Attention::new(w, &format!("middle.{}", 2 * i + 1), tokens, shift)?,
            ))
        });
        let rows: Vec<f32> = (0..height * width).map(|i| (i / width) as f32 / (height.max(2) - 1) as f32).collect();
        Ok(Self {
            rows: Tensor::from_data(TensorData::new(rows, [1, 1, height, width]), w.device()),
            padding,
            stem: w.conv("stem")?,
            encoder: stack("encoder")?,
            down: (0..levels).map(|i| w.conv(&format!("down.{i}"))).collect::<Result<_>>()?,
            middle: middle.collect::<Result<_>>()?,
            up: (0..levels)
                .map(|i| Ok((w.conv(&format!("up.{i}.scale"))?, w.conv(&format!("up.{i}.shift"))?)))
                .collect::<Result<_>>()?,
            decoder: stack("decoder")?,
            head: [w.conv("head.reduce")?, w.conv("head.mix")?, w.conv("head.out")?],
        })
    }
}

impl Generator for Sonolume {
    fn run(&self, image: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = image.dims();
        let mut x = Tensor::cat(vec![image.clone(), self.rows.clone()], 1);
        if self.padding != [0, 0] {
            x = x.pad((0, self.padding[1], 0, self.padding[0]), PadMode::Edge);
        }
        let full = x.clone().slice(s![.., 0..1]);
        x = self.stem.replicated(pixel_unshuffle(x, 2));
        let mut skips = Vec::new();
        for (blocks, down) in self.encoder.iter().zip(&self.down) {
            x = blocks.iter().fold(x, |x, block| block.run(x));
            skips.push(x.clone());
            x = down.run(x, 2, 0);
        }
        for (block, attention) in &self.middle {
            x = attention.run(block.run(x));
        }
        for ((blocks, (scale, shift)), skip) in self.decoder.iter().zip(&self.up).rev().zip(skips.into_iter().rev()) {
            let double = |conv: &Conv| enlarge(conv.run(x.clone(), 1, 0), InterpolateMode::Bilinear, 2);
            x = blocks.iter().fold(skip * double(scale) + double(shift), |x, block| block.run(x));
        }
        let [reduce, mix, out] = &self.head;
        let x = Tensor::cat(vec![enlarge(reduce.replicated(x), InterpolateMode::Bilinear, 2), full], 1);
        let x = out.replicated(gate(mix.replicated(x)));
        image + x.slice(s![.., .., 0..height, 0..width])
    }
}

impl Block {
    fn new(weights: &Weights, name: &str) -> Result<Self> {
        Ok(Self {
            norm: weights.norm(&format!("{name}.norm"))?,
            conv1: weights.conv(&format!("{name}.conv1"))?,
            conv2: weights.conv(&format!("{name}.conv2"))?,
        })
    }

    fn run(&self, x: Tensor<4>) -> Tensor<4> {
        x.clone() + self.conv2.replicated(gate(self.conv1.replicated(self.norm.run(x))))
    }
}

/// The first half of the channels times the second half.
fn gate(x: Tensor<4>) -> Tensor<4> {
    let half = x.dims()[1] / 2;
    x.clone().slice(s![.., 0..half]) * x.slice(s![.., half..])
}

impl Attention {
    fn new(weights: &Weights, name: &str, size: [usize; 2], shift: usize) -> Result<Self> {
        let layer = |part: &str| -> Result<(Tensor<2>, Tensor<1>)> {
            let weight: Tensor<2> = weights.tensor(&format!("{name}.{part}.weight"))?;
            Ok((weight.transpose(), weights.tensor(&format!("{name}.{part}.bias"))?))
        };
        let (_, table) = weights.values(&format!("{name}.relative_position_bias_table"))?;
        let tokens = WINDOW * WINDOW;
        let windows = if shift == 0 { 1 } else { size[0] / WINDOW * (size[1] / WINDOW) };
        let region = |at: usize, size: usize| match at {
            at if at < size - WINDOW => 0,
            at if at < size - shift => 1,
            _ => 2,
        };
        let mut bias = Vec::with_capacity(windows * HEADS * tokens * tokens);
        for index in 0..windows * HEADS * tokens * tokens {
            let (j, i) = (index % tokens, index / tokens % tokens);
            let (head, window) = (index / (tokens * tokens) % HEADS, index / (tokens * tokens * HEADS));
            let [y, x] = [window / (size[1] / WINDOW), window % (size[1] / WINDOW)].map(|at| at * WINDOW);
            let place = |token: usize| [y + token / WINDOW, x + token % WINDOW];
            let neighbours = shift == 0
                || (0..2).all(|axis| region(place(i)[axis], size[axis]) == region(place(j)[axis], size[axis]));
            let row = (i / WINDOW + WINDOW - 1 - j / WINDOW) * (2 * WINDOW - 1) + i % WINDOW + WINDOW - 1 - j % WINDOW;
            bias.push(table[row * HEADS + head] - if neighbours { 0.0 } else { 100.0 });
        }
        Ok(Self {
            norm: weights.norm(&format!("{name}.norm"))?,
            qkv: layer("qkv")?,
            proj: layer("proj")?,
            bias: Tensor::from_data(TensorData::new(bias, [windows, HEADS, tokens, tokens]), weights.device()),
            shift,
        })
    }

    fn run(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, channels, height, width] = x.dims();
        let (down, across, tokens) = (height / WINDOW, width / WINDOW, WINDOW * WINDOW);
        let mut t = self.norm.run(x.clone()).permute([0, 2, 3, 1]);
        if self.shift > 0 {
            t = roll(t, [self.shift, self.shift]);
        }
        let t = t.reshape([down, WINDOW, across, WINDOW * channels]).permute([0, 2, 1, 3]).reshape([
            down * across,
            tokens,
            channels,
        ]);
        let qkv = linear(t, self.qkv.0.clone(), Some(self.qkv.1.clone()));
        let part = |at: usize| -> Tensor<4> {
            let part = qkv.clone().slice(s![.., .., at * channels..(at + 1) * channels]);
            part.reshape([down * across, tokens, HEADS, channels / HEADS]).permute([0, 2, 1, 3])
        };
        let scale = ((channels / HEADS) as f32).powf(-0.5);
        let scores = (part(0) * scale).matmul(part(1).swap_dims(2, 3)) + self.bias.clone();
        let t: Tensor<4> = softmax(scores, 3).matmul(part(2));
        let t: Tensor<3> = t.permute([0, 2, 1, 3]).reshape([down * across, tokens, channels]);
        let t = linear(t, self.proj.0.clone(), Some(self.proj.1.clone()));
        let mut t: Tensor<4> = t
            .reshape([down, across, WINDOW, WINDOW * channels])
            .permute([0, 2, 1, 3])
            .reshape([1, height, width, channels]);
        if self.shift > 0 {
            t = roll(t, [height - self.shift, width - self.shift]);
        }
        x + t.permute([0, 3, 1, 2])
    }
}

/// Moves `[1, height, width, channels]` up and to the left, around the border.
fn roll(t: Tensor<4>, [y, x]: [usize; 2]) -> Tensor<4> {
    let t = Tensor::cat(vec![t.clone().slice(s![.., y..]), t.slice(s![.., 0..y])], 1);
    Tensor::cat(vec![t.clone().slice(s![.., .., x..]), t.slice(s![.., .., 0..x])], 2)
}
