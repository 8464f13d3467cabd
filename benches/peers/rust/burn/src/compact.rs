//! SRVGGNetCompact.

use burn::tensor::Tensor;
use burn::tensor::activation::prelu;
use burn::tensor::ops::InterpolateMode;
use protocol::Result;

use crate::generator::{Conv, Generator, Weights, enlarge, pixel_shuffle};

/// Convolutions with PReLU between them, a pixel shuffle, and the enlarged input added.
pub struct Compact {
    convs: Vec<Conv>,
    slopes: Vec<Tensor<1>>,
}

impl Compact {
    pub fn new(weights: Weights) -> Result<Self> {
        let mut made = Self { convs: Vec::new(), slopes: Vec::new() };
        for layer in (0..).step_by(2).take_while(|layer| weights.has(&format!("body.{layer}.weight"))) {
            made.convs.push(weights.conv(&format!("body.{layer}"))?);
            let slope = format!("body.{}.weight", layer + 1);
            if weights.has(&slope) {
                made.slopes.push(weights.tensor(&slope)?);
            }
        }
        Ok(made)
    }
}

impl Generator for Compact {
    fn run(&self, image: Tensor<4>) -> Tensor<4> {
        let mut x = image.clone();
        for (index, conv) in self.convs.iter().enumerate() {
            x = conv.run(x, 1, 1);
            if let Some(slope) = self.slopes.get(index) {
                x = prelu(x, slope.clone());
            }
        }
        let factor = (x.dims()[1] / image.dims()[1]).isqrt();
        pixel_shuffle(x, factor) + enlarge(image, InterpolateMode::Nearest, factor)
    }
}
