//! The operator contract: what each operator computes, reads and costs, and how it is dispatched on a device.
//!
//! An operator is one stem everywhere: `ops/<stem>.rs` (this contract), `cpu/<stem>.rs` (its reference),
//! `shaders/<stem>.wgsl` (its kernel) and `tests/ops/<stem>.txt` (its cases). `for_each_operator` is the one list.
//!
//! Activations are stored channels-last with the channels padded to whole groups of four: element `(c, y, x)` of a
//! `[channels, height, width]` tensor is at `(y * width + x) * padded_channels + c`. The padding lanes hold any finite
//! value: who writes a tensor writes them too, who reads it must not depend on them. (The CPU stores a single channel without
//! padding.)

use crate::error::{Error, Result};
pub use crate::tensor::Param;
use crate::tensor::Shape;

mod around;
pub mod blocks;
pub mod dispatch;
mod matrices;
pub mod span;
pub(crate) mod winograd;

pub use dispatch::{Binding, Dispatch, Matrices, Packed, Shader, Traits};
pub use span::{Axis, Scale, Span};

/// Calls `$callback!` with every operator as `Variant => stem`: the one list of operators.
macro_rules! for_each_operator {
    ($callback:ident) => {
        $callback! {
            Activation => activation,
            Binary => binary,
            ChannelAttention => channel_attention,
            Concat => concat,
            Conv2d => conv2d,
            ConvTranspose2d => conv_transpose2d,
            Crop => crop,
            FusedConv => fused_conv,
            Gate => gate,
            GlobalPool => global_pool,
            Gram => gram,
            LayerNorm => layer_norm,
            Linear => linear,
            Moments => moments,
            Normalize => normalize,
            Pad => pad,
            PixelShuffle => pixel_shuffle,
            PixelUnshuffle => pixel_unshuffle,
            Pool2d => pool2d,
            RowCoordinate => row_coordinate,
            ScaleShift => scale_shift,
            Upsample => upsample,
            WindowAttention => window_attention,
        }
    };
}
pub(crate) use for_each_operator;

/// Where a tensor stands in the whole image, and how large it is here.
///
/// An untiled run has `origin` zero and `full` equal to the shape's size; in a tile, `full` is what the tensor's size
/// would be for the whole image, and `origin` the whole-image coordinates of the tile's first pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The size of the tensor that is computed.
    pub shape: Shape,
    /// Row and column of its first pixel in the whole image's tensor.
    pub origin: [usize; 2],
    /// Height and width of the whole image's tensor.
    pub full: [usize; 2],
}

impl Place {
    /// A tensor that is the whole image.
    pub const fn whole(shape: Shape) -> Self {
        Self { shape, origin: [0, 0], full: [shape.height, shape.width] }
    }
}

/// The tensors that one execution of an operator reads and writes.
#[derive(Clone, Debug)]
pub struct Io {
    /// One for each input, in the operator's order.
    pub inputs: Vec<Place>,
    /// The result.
    pub output: Place,
}

/// What an operator is: its shape rule, what it reads, what it costs, and how a device runs it.
pub trait Operator: Send + Sync {
    /// Channels of the output, from the channels of the inputs.
    ///
    /// # Errors
    /// [`Error::Shape`] if they do not fit the operator.
    fn channels(&self, inputs: &[usize]) -> Result<usize>;

    /// Rows or columns of the output, from those of the inputs.
    ///
    /// # Errors
    /// [`Error::Shape`] if they do not fit the operator.
    fn size(&self, axis: Axis, inputs: &[usize]) -> Result<usize> {
        let _ = axis;
        Ok(inputs[0])
    }

    /// Output pixels for each pixel of input 0.
    fn scale(&self, axis: Axis) -> Scale {
        let _ = axis;
        Scale::ONE
    }

    /// The rows or columns of input `index` that the outputs in `wanted` depend on.
    ///
    /// `size` is the input's size in the whole image; the answer may run over its borders and is clipped by the caller.
    fn reads(&self, axis: Axis, index: usize, wanted: Span, size: usize) -> Span {
        let _ = (axis, index, size);
        wanted
    }

    /// False if of input `index` only the size counts.
    fn is_read(&self, index: usize) -> bool {
        let _ = index;
        true
    }

    /// The tensors of `io` that are read or written.
    fn moved<'i>(&self, io: &'i Io) -> Vec<&'i Place> {
        let read = io.inputs.iter().enumerate().filter(|(index, _)| self.is_read(*index)).map(|(_, place)| place);
        read.chain([&io.output]).collect()
    }

    /// Tiles of input 0 must start at multiples of this.
    fn alignment(&self, axis: Axis) -> usize {
        let _ = axis;
        1
    }

    /// True if an output depends on the whole image: [`Operator::reads`] then answers the whole of it.
    fn is_global(&self) -> bool {
        false
    }

    /// Checks the weights and lays them out for the kernels, one vector for each weight binding.
    ///
    /// # Errors
    /// [`Error::Weights`] naming the tensor that does not fit.
    fn pack(&self, params: &[Param]) -> Result<Vec<Vec<f32>>> {
        let _ = params;
        Ok(Vec::new())
    }

    /// The weights as the kernels of a device with these `traits` read them; as [`Operator::pack`] where both backends agree.
    ///
    /// # Errors
    /// As [`Operator::pack`].
    fn pack_device(&self, params: &[Param], traits: Traits) -> Result<Vec<Packed>> {
        let _ = traits;
        Ok(self.pack(params)?.into_iter().map(Packed::Stored).collect())
    }

    /// True if for these sizes the result is the first input as it is: nothing is run.
    fn is_copy(&self, _io: &Io) -> bool {
        false
    }

    /// Floating-point operations of one execution; a multiply-add counts two.
    fn flops(&self, io: &Io) -> u64;

    /// Whether what is computed begins at an odd row and column of the whole image, if the launches' number and size depend on it.
    fn parity(&self, io: &Io, traits: Traits) -> Option<[bool; 2]> {
        let _ = (io, traits);
        None
    }

    /// The kernel launches that compute `io.output` on a device with these `traits`, one after the other.
    ///
    /// # Errors
    /// [`Error::Shape`] if a size does not fit the kernel's 32-bit arithmetic.
    fn dispatches(&self, io: &Io, traits: Traits) -> Result<Vec<Dispatch>>;
}

macro_rules! define_operators {
    ($($variant:ident => $stem:ident),* $(,)?) => {
        $(pub mod $stem;)*

        /// Any operator.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op {
            $(#[doc = concat!("See [`mod@", stringify!($stem), "`].")] $variant($stem::$variant),)*
        }

        $(impl From<$stem::$variant> for Op {
            fn from(op: $stem::$variant) -> Self {
                Self::$variant(op)
            }
        })*

        impl std::ops::Deref for Op {
            type Target = dyn Operator;
            fn deref(&self) -> &Self::Target {
                match self {
                    $(Self::$variant(op) => op,)*
                }
            }
        }

        impl Op {
            /// The operator's stem: the name of its files.
            pub fn stem(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => stringify!($stem),)*
                }
            }
        }

        /// The stems of all operators.
        pub const STEMS: &[&str] = &[$(stringify!($stem)),*];

        /// Every kernel of every operator.
        pub fn shaders() -> Vec<&'static Shader> {
            [$($stem::SHADERS),*].concat()
        }
    };
}
for_each_operator!(define_operators);

/// How pixels outside the image are made up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Border {
    /// They are zero.
    #[default]
    Zero = 0,
    /// The image is mirrored without repeating its edge, again and again where it is smaller than the padding
    /// (`numpy.pad` mode `reflect`; PyTorch's `reflect`, which refuses that case).
    Reflect = 1,
    /// The edge is repeated.
    Replicate = 2,
}

impl Border {
    /// The pixel that stands for `position` of a line of `size` pixels; `None` is zero.
    pub fn resolve(self, position: i64, size: usize) -> Option<usize> {
        let last = size as i64 - 1;
        if (0..=last).contains(&position) {
            return Some(position as usize);
        }
        match self {
            Self::Zero => None,
            Self::Replicate => Some(position.clamp(0, last) as usize),
            Self::Reflect if last == 0 => Some(0),
            Self::Reflect => {
                let folded = position.rem_euclid(2 * last);
                Some(folded.min(2 * last - folded) as usize)
            }
        }
    }

    /// `span` together with the pixels that stand for those of it outside a line of `size` pixels.
    pub fn widen(self, span: Span, size: usize) -> Span {
        let size = size as i64;
        let last = size - 1;
        let mut all = span;
        match self {
            Self::Zero => {}
            // The nearest edge stands in for everything beyond it.
            Self::Replicate => {
                all.start = all.start.min(last);
                all.end = all.end.max(1);
            }
            Self::Reflect => {
                if span.start < 0 {
                    all.end = all.end.max(1 - span.start);
                }
                if span.end > size {
                    all.start = all.start.min(2 * last - (span.end - 1));
                }
                // Mirrored more than once: all of it.
                if span.start < -last || span.end - 1 > 2 * last {
                    all = Span::new(0, size);
                }
            }
        }
        all
    }
}

/// Width, height and groups of channels as the kernels' 32-bit integers.
pub(crate) fn extents(shape: Shape) -> Result<[u32; 3]> {
    Ok([to_u32(shape.width)?, to_u32(shape.height)?, to_u32(shape.channel_groups())?])
}

/// A size as the kernels' 32-bit integer.
pub(crate) fn to_u32(value: usize) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::shape(format!("a size of {value} exceeds the kernels' 32-bit arithmetic")))
}
