//! What the generators share: weights by name, and layers that burn has no module for.

use burn::tensor::module::{conv2d, interpolate};
use burn::tensor::ops::{ConvOptions, InterpolateMode, InterpolateOptions, PadMode};
use burn::tensor::{Device, Tensor, TensorData};
use protocol::Result;
use safetensors::SafeTensors;

/// A generator with its weights.
pub trait Generator {
    /// One image through it, `[1, channels, height, width]`.
    fn run(&self, image: Tensor<4>) -> Tensor<4>;
}

/// The tensors of a safetensors file in f32.
pub struct Weights {
    bytes: Vec<u8>,
    device: Device,
}

impl Weights {
    pub fn open(path: &str, device: &Device) -> Result<Self> {
        Ok(Self { bytes: std::fs::read(path)?, device: device.clone() })
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    pub fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.bytes).is_ok_and(|file| file.tensor(name).is_ok())
    }

    /// Shape and values of a tensor.
    pub fn values(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let file = SafeTensors::deserialize(&self.bytes)?;
        let tensor = file.tensor(name).map_err(|error| format!("{name}: {error}"))?;
        let values = tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        Ok((tensor.shape().to_vec(), values))
    }

    pub fn tensor<const D: usize>(&self, name: &str) -> Result<Tensor<D>> {
        let (shape, values) = self.values(name)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), &self.device))
    }

    pub fn conv(&self, name: &str) -> Result<Conv> {
        Ok(Conv { weight: self.tensor(&format!("{name}.weight"))?, bias: self.tensor(&format!("{name}.bias"))? })
    }

    pub fn norm(&self, name: &str) -> Result<Norm> {
        let part = |part: &str| -> Result<Tensor<4>> {
            let values: Tensor<1> = self.tensor(&format!("{name}.{part}"))?;
            let channels = values.dims()[0];
            Ok(values.reshape([1, channels, 1, 1]))
        };
        Ok(Norm { weight: part("weight")?, bias: part("bias")? })
    }
}

/// A convolution.
pub struct Conv {
    weight: Tensor<4>,
    bias: Tensor<1>,
}

impl Conv {
    /// With a stride, padded by zeros on all sides.
    pub fn run(&self, x: Tensor<4>, stride: usize, padding: usize) -> Tensor<4> {
        let options = ConvOptions::new([stride; 2], [padding; 2], [1, 1], 1);
        conv2d(x, self.weight.clone(), Some(self.bias.clone()), options)
    }

    /// 3x3, padded by replication.
    pub fn replicated(&self, x: Tensor<4>) -> Tensor<4> {
        self.run(x.pad((1, 1, 1, 1), PadMode::Edge), 1, 0)
    }
}

/// Layer norm over the channels of every pixel.
pub struct Norm {
    weight: Tensor<4>,
    bias: Tensor<4>,
}

impl Norm {
    pub fn run(&self, x: Tensor<4>) -> Tensor<4> {
        let mean = x.clone().mean_dim(1);
        let x = x - mean;
        let variance = (x.clone() * x.clone()).mean_dim(1);
        x / (variance + 1e-5).sqrt() * self.weight.clone() + self.bias.clone()
    }
}

/// Enlarges by a whole factor.
pub fn enlarge(x: Tensor<4>, mode: InterpolateMode, factor: usize) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let options =
        InterpolateOptions::new(mode).with_align_corners(false).with_output_size([height * factor, width * factor]);
    interpolate(x, options)
}

/// Depth to space, as PyTorch's `pixel_shuffle`.
pub fn pixel_shuffle(x: Tensor<4>, factor: usize) -> Tensor<4> {
    let [images, channels, height, width] = x.dims();
    let channels = channels / (factor * factor);
    x.reshape([images, channels, factor, factor, height, width]).permute([0, 1, 4, 2, 5, 3]).reshape([
        images,
        channels,
        height * factor,
        width * factor,
    ])
}

/// Space to depth, the inverse.
pub fn pixel_unshuffle(x: Tensor<4>, factor: usize) -> Tensor<4> {
    let [images, channels, height, width] = x.dims();
    let (height, width) = (height / factor, width / factor);
    x.reshape([images, channels, height, factor, width, factor]).permute([0, 1, 3, 5, 2, 4]).reshape([
        images,
        channels * factor * factor,
        height,
        width,
    ])
}
