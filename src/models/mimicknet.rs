//! MimickNet: an ultrasound U-Net, published with five levels of two convolutions of 16 channels each.
//!
//! Huang et al., "MimickNet, mimicking clinical image post-processing under black-box constraints", 2020. Keras layer
//! names: `conv2d`, `conv2d_1`, ... in the order of execution and `conv2d_transpose`, ... for the way up. Only the order
//! of the numbers counts: a model that was made second in its program starts at a higher one, and the first models have
//! gaps. Those also have one more convolution at the start. Skips are concatenated as `[up, skip]`; the output is linear.
//!
//! What the shapes do not tell, the published training scripts do: 3x3 kernels go with LeakyReLU 0.2 on the way down and
//! ReLU on the way up, 7x3 kernels (the first release) and the additional convolution with ReLU everywhere. Metadata that
//! `weights/convert.py` takes from the Keras file, `mimicknet.down_slope` and `mimicknet.up_slope`, go before that.
//! Sizes that are no multiples of 16 are padded by reflection at the bottom and right, as the authors' `mat2model`.

use super::ValueRange;
use super::builder::{Builder, Window};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::ops::Border;
use crate::ops::activation::Function;
use crate::ops::pool2d::PoolKind;
use crate::weights::Weights;

/// What people call it.
pub const NAME: &str = "MimickNet";
/// Its tensors' names.
pub const SIGNATURE: &[&str] = &["conv2d.weight|conv2d_#.weight:4", "?conv2d.bias|conv2d_#.bias", "conv2d_transpose.weight|conv2d_transpose_#.weight:4", "?conv2d_transpose.bias|conv2d_transpose_#.bias"];
/// The values it takes and gives.
pub const RANGE: ValueRange = ValueRange::Unit;

/// Far more halvings than any image allows.
const MOST_LEVELS: usize = 16;

/// The metadata's keys for the factors of negative values.
const DOWN_SLOPE: &str = "mimicknet.down_slope";
const UP_SLOPE: &str = "mimicknet.up_slope";

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Times the image is halved.
    pub levels: usize,
    /// True if there is a convolution before the first level's.
    pub stem: bool,
    /// Factor of negative values on the way down; zero is ReLU.
    pub down_slope: f32,
    /// Factor of negative values on the way up.
    pub up_slope: f32,
}

impl Config {
    /// Recognises the weights by their names and shapes.
    pub fn detect(weights: &Weights) -> Option<Self> {
        let convs = layers(weights, "conv2d");
        let levels = layers(weights, "conv2d_transpose").len();
        if !(1..=MOST_LEVELS).contains(&levels) || !(4 * levels + 3..=4 * levels + 4).contains(&convs.len()) {
            return None;
        }
        let &[_, _, height, width] = weights.shape(&format!("{}.weight", convs[0]))? else { return None };
        let stem = convs.len() == 4 * levels + 4;
        let slope = |key: &str, otherwise: f32| {
            let noted = weights.metadata().get(key).and_then(|text| text.parse().ok());
            noted.filter(|slope: &f32| slope.is_finite()).unwrap_or(otherwise)
        };
        let leaky = !stem && height == width;
        let down_slope = slope(DOWN_SLOPE, if leaky { 0.2 } else { 0.0 });
        let up_slope = slope(UP_SLOPE, 0.0);
        (height % 2 == 1 && width % 2 == 1).then_some(Self { levels, stem, down_slope, up_slope })
    }

    /// Builds the generator.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or does not fit.
    pub fn build(&self, weights: &mut Weights) -> Result<Graph> {
        let mut convs = layers(weights, "conv2d").into_iter();
        let ups = layers(weights, "conv2d_transpose");
        let first = convs.as_slice().first().and_then(|name| weights.shape(&format!("{name}.weight")));
        let channels = first.and_then(|shape| shape.get(1).copied()).unwrap_or(1);
        for (key, slope) in [(DOWN_SLOPE, self.down_slope), (UP_SLOPE, self.up_slope)] {
            if let Some(text) = weights.metadata().get(key).filter(|text| text.parse() != Ok(slope)) {
                return Err(Error::Weights(format!("the file's metadata says `{key}` is `{text}`; a number is expected")));
            }
            weights.assume(key, slope);
        }
        let mut b = Builder::new(weights);
        let image = b.input(channels);
        let mut block = |b: &mut Builder, mut x: Value, convolutions: usize, function: Function| -> Result<Value> {
            for _ in 0..convolutions {
                let name = convs.next().ok_or_else(|| Error::Weights("too few `conv2d` layers".into()))?;
                x = b.conv(&name, x, Window::default())?;
                x = b.activation(x, function)?;
            }
            Ok(x)
        };

        let (down, up) = (leaky(self.down_slope), leaky(self.up_slope));
        let mut x = b.pad_to_multiple(image, 1 << self.levels, Border::Reflect)?;
        x = block(&mut b, x, usize::from(self.stem), down)?;
        let mut skips = Vec::new();
        for _ in 0..self.levels {
            x = block(&mut b, x, 2, down)?;
            skips.push(x);
            x = b.pool(x, 2, PoolKind::Max)?;
        }
        x = block(&mut b, x, 2, down)?;
        for (skip, name) in skips.into_iter().rev().zip(ups) {
            x = b.conv_transpose(&name, x, 2, 0, 0)?;
            x = b.concat(x, skip)?;
            x = block(&mut b, x, 2, up)?;
        }
        x = block(&mut b, x, 1, Function::Identity)?;
        x = b.crop_like(x, image)?;
        Ok(b.finish(x))
    }
}

fn leaky(slope: f32) -> Function {
    if slope == 0.0 { Function::Relu } else { Function::LeakyRelu { slope } }
}

/// The layers of a kind in the order of their numbers; Keras gives the first one none.
fn layers(weights: &Weights, kind: &str) -> Vec<String> {
    let number = |name: &str| -> Option<(usize, String)> {
        let layer = name.strip_suffix(".weight")?;
        match layer.strip_prefix(kind)? {
            "" => Some((0, layer.to_owned())),
            rest => Some((rest.strip_prefix('_')?.parse().ok()?, layer.to_owned())),
        }
    };
    let mut found: Vec<(usize, String)> = weights.names().filter_map(number).collect();
    found.sort();
    found.into_iter().map(|(_, layer)| layer).collect()
}
