//! RRDBNet: the generator of ESRGAN, Real-ESRGAN and BSRGAN.
//!
//! Wang et al., "ESRGAN: enhanced super-resolution generative adversarial networks", 2018. Residual-in-residual dense
//! blocks with LeakyReLU 0.2 and residuals scaled by 0.2, then nearest-neighbour enlargements, each followed by a
//! convolution. Three generations of key names are known. Generators for x2 and x1 (Real-ESRGAN) take the image by pixel
//! unshuffle and enlarge four times; sizes are then padded by reflection at the bottom and right. The oldest names also come
//! with pixel shuffles in place of enlargements.
//!
//! ESRGAN+ (Rakotonirina and Rasoanaivo, 2020) adds residuals inside of the dense blocks: `conv1x1` of a block's input to
//! its second convolution's result, and that to the fourth's.

use super::ValueRange;
use super::builder::{Builder, Window, check_unshuffle};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::ops::Border;
use crate::ops::activation::Function;
use crate::ops::upsample::Interpolation;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "RRDBNet";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &["conv_first.weight|model.0.weight:4", "body.0.rdb1.conv1.weight|RRDB_trunk.0.RDB1.conv1.weight|model.1.sub.0.RDB1.conv1.0.weight:4", "conv_body.weight|trunk_conv.weight|model.1.sub.#.weight:4", "conv_hr.weight|HRconv.weight|model.#.weight:4", "conv_last.weight|model.#.weight:4", "?conv_first.bias|conv_body.bias|conv_up#.@|conv_hr.bias|conv_last.bias|body.#.rdb#.conv#.@|body.#.rdb#.conv1x1.weight", "?RRDB_trunk.#.RDB#.conv#.@|RRDB_trunk.#.RDB#.conv1x1.weight|trunk_conv.bias|upconv#.@|HRconv.bias", "?model.#.bias|model.1.sub.#.RDB#.conv#.0.@|model.1.sub.#.bias|model.1.sub.#.RDB#.conv1x1.weight"];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Unit;

const LEAKY: Function = Function::LeakyRelu { slope: 0.2 };
/// The factor of every residual.
const RESIDUAL: f32 = 0.2;
/// What the metadata can say of a single enlargement.
const FACTORS: &[&str] = &["2", "3"];
/// Far more enlargements than any device holds.
const MOST_ENLARGEMENTS: usize = 6;

/// How the tensors are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// `conv_first`, `body.0.rdb1.conv1`, `conv_up1`: BasicSR and Real-ESRGAN.
    Body,
    /// `conv_first`, `RRDB_trunk.0.RDB1.conv1`, `upconv1`: ESRGAN of 2020 and BSRGAN.
    Trunk,
    /// `model.0`, `model.1.sub.0.RDB1.conv1.0`, `model.3`: ESRGAN of 2018.
    Sequential,
}

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How the tensors are named.
    pub names: Names,
    /// Residual-in-residual dense blocks.
    pub blocks: usize,
    /// Times the features are enlarged.
    pub enlargements: usize,
    /// The factor of every enlargement. One enlargement of nearest neighbours is by 2 or by 3, which no tensor tells: by 3
    /// only if the file's metadata says `enlargement: 3`.
    pub factor: usize,
    /// True if features are enlarged by pixel shuffles, false if by their nearest neighbours.
    pub shuffles: bool,
    /// Pixels of the image, on each axis, that share one pixel of the features.
    pub unshuffle: usize,
    /// Whether the dense blocks have residuals inside: ESRGAN+.
    pub plus: bool,
}

impl Config {
    /// Recognises the weights by their names and shapes.
    pub fn detect(weights: &Weights) -> Option<Self> {
        [Names::Body, Names::Trunk, Names::Sequential].into_iter().find_map(|names| Self::with(names, weights))
    }

    fn with(names: Names, weights: &Weights) -> Option<Self> {
        let blocks = weights.count(|block| format!("{}.weight", names.dense(block, 1, 1)));
        let shuffled = |index: usize| {
            let &[to, from, _, _] = weights.shape(&format!("{}.weight", names.up(index, true)))? else { return None };
            [2, 3].into_iter().find(|factor| from.checked_mul(factor * factor) == Some(to))
        };
        let shuffle = shuffled(0).filter(|_| names == Names::Sequential);
        let enlargements = match shuffle {
            Some(factor) => (0..=MOST_ENLARGEMENTS).take_while(|&index| shuffled(index) == Some(factor)).count(),
            None => weights.count(|index| format!("{}.weight", names.up(index, false))),
        };
        let is_threefold = enlargements == 1 && weights.noted("enlargement", FACTORS) == Some("3");
        let factor = shuffle.unwrap_or(if is_threefold { 3 } else { 2 });
        if blocks == 0 || enlargements > MOST_ENLARGEMENTS || !weights.has(&format!("{}.weight", names.trunk(blocks))) {
            return None;
        }
        let shape = |name: String| weights.shape(&name).filter(|shape| shape.len() == 4);
        let inputs = shape(format!("{}.weight", names.first()))?[1];
        let outputs = shape(format!("{}.weight", names.last(enlargements)))?[0];
        let unshuffle = match inputs.checked_div(outputs) {
            Some(4) if inputs.is_multiple_of(outputs) => 2,
            Some(16) if inputs.is_multiple_of(outputs) => 4,
            _ => 1,
        };
        let plus = weights.has(&format!("{}.weight", names.plus(0, 1)));
        Some(Self { names, blocks, enlargements, factor, shuffles: shuffle.is_some(), unshuffle, plus })
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        let names = self.names;
        let Some(&[_, channels, ..]) = weights.shape(&format!("{}.weight", names.first())) else {
            return Err(Error::Weights(format!("tensor `{}.weight` is missing", names.first())));
        };
        if self.enlargements == 1 && !self.shuffles {
            weights.settle("enlargement", &self.factor.to_string(), FACTORS)?;
        }
        let scale = self.factor.pow(self.enlargements as u32);
        check_unshuffle(names.first(), self.unshuffle, scale)?;
        let mut b = Builder::new(weights);
        let image = b.input(channels / (self.unshuffle * self.unshuffle));
        let mut x = image;
        if self.unshuffle > 1 {
            x = b.pad_to_multiple(x, self.unshuffle, Border::Reflect)?;
            x = b.pixel_unshuffle(x, self.unshuffle)?;
        }
        let features = b.conv(names.first(), x, Window::default())?;
        x = features;
        for block in 0..self.blocks {
            x = self.block(&mut b, block, x)?;
        }
        x = b.conv(&names.trunk(self.blocks), x, Window::default())?;
        x = b.add(x, features)?;
        for index in 0..self.enlargements {
            if !self.shuffles {
                x = b.upsample(x, self.factor, Interpolation::Nearest)?;
            }
            x = b.conv(&names.up(index, self.shuffles), x, Window::default())?;
            if self.shuffles {
                x = b.pixel_shuffle(x, self.factor)?;
            }
            x = b.activation(x, LEAKY)?;
        }
        x = b.conv(&names.high_resolution(self.enlargements), x, Window::default())?;
        x = b.activation(x, LEAKY)?;
        x = b.conv(&names.last(self.enlargements), x, Window::default())?;
        if self.unshuffle > 1 {
            x = b.crop_like(x, image)?;
        }
        Ok(b.finish(x))
    }

    /// Three dense blocks, and a residual around each and around all.
    fn block(&self, b: &mut Builder, block: usize, input: Value) -> Result<Value> {
        let mut x = input;
        for dense in 1..=3 {
            let (mut seen, mut y, mut inner) = (x, x, None);
            for conv in 1..=5 {
                y = b.conv(&self.names.dense(block, dense, conv), seen, Window::default())?;
                if conv < 5 {
                    y = b.activation(y, LEAKY)?;
                }
                if let Some(inner) = inner.filter(|_| conv == 4) {
                    y = b.add(y, inner)?;
                }
                if self.plus && conv == 2 {
                    let input = b.conv(&self.names.plus(block, dense), x, Window::default())?;
                    y = b.add(y, input)?;
                    inner = Some(y);
                }
                if conv < 5 {
                    seen = b.concat(seen, y)?;
                }
            }
            x = b.scaled_add(y, RESIDUAL, x, 1.0)?;
        }
        b.scaled_add(x, RESIDUAL, input, 1.0)
    }
}

impl Names {
    fn first(self) -> &'static str {
        if self == Self::Sequential { "model.0" } else { "conv_first" }
    }

    fn dense(self, block: usize, dense: usize, conv: usize) -> String {
        match self {
            Self::Body => format!("body.{block}.rdb{dense}.conv{conv}"),
            Self::Trunk => format!("RRDB_trunk.{block}.RDB{dense}.conv{conv}"),
            Self::Sequential => format!("model.1.sub.{block}.RDB{dense}.conv{conv}.0"),
        }
    }

    fn plus(self, block: usize, dense: usize) -> String {
        match self {
            Self::Body => format!("body.{block}.rdb{dense}.conv1x1"),
            Self::Trunk => format!("RRDB_trunk.{block}.RDB{dense}.conv1x1"),
            Self::Sequential => format!("model.1.sub.{block}.RDB{dense}.conv1x1"),
        }
    }

    fn trunk(self, blocks: usize) -> String {
        match self {
            Self::Body => "conv_body".into(),
            Self::Trunk => "trunk_conv".into(),
            Self::Sequential => format!("model.1.sub.{blocks}"),
        }
    }

    /// The convolution of an enlargement; it comes before a pixel shuffle, and after any other.
    fn up(self, index: usize, shuffle: bool) -> String {
        match self {
            Self::Body => format!("conv_up{}", index + 1),
            Self::Trunk => format!("upconv{}", index + 1),
            Self::Sequential => format!("model.{}", 3 * index + if shuffle { 2 } else { 3 }),
        }
    }

    fn high_resolution(self, enlargements: usize) -> String {
        match self {
            Self::Body => "conv_hr".into(),
            Self::Trunk => "HRconv".into(),
            Self::Sequential => format!("model.{}", 3 * enlargements + 2),
        }
    }

    fn last(self, enlargements: usize) -> String {
        match self {
            Self::Body | Self::Trunk => "conv_last".into(),
            Self::Sequential => format!("model.{}", 3 * enlargements + 4),
        }
    }
}
