//! Shapes with checked arithmetic, and tensors in host memory.

use std::fmt;

use rayon::prelude::*;

use crate::error::{Error, Result};

/// Activations are stored channels-last in groups of this many channels, a `vec4` on the device.
pub const LANES: usize = 4;

/// Elements of a large tensor that one of several cores looks at or copies at a time.
pub(crate) const PIECE: usize = 1 << 16;

/// The size of one activation, `[channels, height, width]`. Printed as `CxHxW`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape {
    /// Number of channels, without padding.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Shape {
    /// A shape from its three sizes.
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width }
    }

    /// Number of elements, `channels * height * width`.
    ///
    /// # Errors
    /// [`Error::Shape`] if no memory could hold as many 32-bit floats.
    pub fn elements(&self) -> Result<usize> {
        self.countable(self.channels)
    }

    fn countable(&self, channels: usize) -> Result<usize> {
        const MOST: usize = isize::MAX as usize / size_of::<f32>();
        self.pixels()?.checked_mul(channels).filter(|&elements| elements <= MOST).ok_or_else(|| self.too_large())
    }

    /// Number of pixels, `height * width`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the product does not fit a `usize`.
    pub fn pixels(&self) -> Result<usize> {
        self.height.checked_mul(self.width).ok_or_else(|| self.too_large())
    }

    /// Channels rounded up to whole groups of [`LANES`].
    pub const fn padded_channels(&self) -> usize {
        self.channel_groups() * LANES
    }

    /// Number of groups of [`LANES`] channels.
    pub const fn channel_groups(&self) -> usize {
        self.channels.div_ceil(LANES)
    }

    /// Number of elements as stored, the padding lanes included: `height * width * padded_channels`.
    ///
    /// # Errors
    /// As [`Shape::elements`].
    pub fn stored_elements(&self) -> Result<usize> {
        self.countable(self.padded_channels())
    }

    /// The same channels at another size.
    pub const fn resized(&self, height: usize, width: usize) -> Self {
        Self { channels: self.channels, height, width }
    }

    /// The same size with other channels.
    pub const fn with_channels(&self, channels: usize) -> Self {
        Self { channels, height: self.height, width: self.width }
    }

    fn too_large(&self) -> Error {
        Error::shape(format!("a tensor of {self} is larger than this machine can address"))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A tensor in host memory: planar `[channels, height, width]`, f32, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    shape: Shape,
    data: Vec<f32>,
}

impl HostTensor {
    /// Wraps `data`, which is `[channels, height, width]` in row-major order.
    ///
    /// # Errors
    /// [`Error::Shape`] if `data` does not hold exactly `shape`'s elements.
    pub fn new(shape: Shape, data: Vec<f32>) -> Result<Self> {
        let expected = shape.elements()?;
        if data.len() != expected {
            return Err(Error::shape(format!("a tensor of {shape} has {expected} elements, not {}", data.len())));
        }
        Ok(Self { shape, data })
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// [`Error::Shape`] if `shape` is too large to address.
    pub fn zeros(shape: Shape) -> Result<Self> {
        Ok(Self { shape, data: vec![0.0; shape.elements()?] })
    }

    /// The size.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The elements, `[channels, height, width]` in row-major order.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The elements for writing.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Gives the elements away.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// True if no element is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        // Of a run all are looked at, in vectors.
        let is_finite = |values: &[f32]| {
            values.chunks(1024).all(|run| run.iter().fold(true, |so_far, value| so_far & value.is_finite()))
        };
        match self.data.len() {
            ..=PIECE => is_finite(&self.data),
            _ => self.data.par_chunks(PIECE).all(is_finite),
        }
    }
}

/// Weights of one node as a checkpoint holds them: PyTorch's layout, f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// The tensor's name in the file, for messages.
    pub name: String,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// Row-major elements.
    pub data: Vec<f32>,
}

impl Param {
    /// A parameter; the shape must hold exactly `data`'s elements.
    ///
    /// # Errors
    /// [`Error::Weights`] if it does not.
    pub fn new(name: impl Into<String>, shape: Vec<usize>, data: Vec<f32>) -> Result<Self> {
        let name = name.into();
        let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if elements != Some(data.len()) {
            return Err(Error::Weights(format!(
                "tensor `{name}`: shape {shape:?} does not hold {} elements",
                data.len()
            )));
        }
        Ok(Self { name, shape, data })
    }

    /// Checks the shape.
    ///
    /// # Errors
    /// [`Error::Weights`] naming the tensor, the shape found and the shape expected.
    pub fn expect(&self, shape: &[usize]) -> Result<()> {
        if self.shape != shape {
            return Err(Error::Weights(format!(
                "tensor `{}` has shape {:?}; {:?} is expected",
                self.name, self.shape, shape
            )));
        }
        Ok(())
    }
}
