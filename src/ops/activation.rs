//! Activation functions, element by element; most are fused into the operator before them.
//!
//! `src` and the result are `[channels, height, width]`. Functions as `torch.nn.functional`.

use super::dispatch::{self, Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::{Io, Operator, Param, to_u32};
use crate::error::{Error, Result};

/// Which function.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Function {
    /// `x`.
    #[default]
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `x` where positive, else `slope * x`.
    LeakyRelu {
        /// The factor of negative values.
        slope: f32,
    },
    /// `x` where positive, else `slope[c] * x`; the slopes are a weight with one value, or one for each channel.
    PRelu,
    /// `x * sigmoid(x)`.
    Silu,
    /// `0.5 x (1 + erf(x / sqrt 2))`.
    Gelu,
    /// `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
}

impl Function {
    /// The number by which `shaders/lib/activation.wgsl` knows it.
    pub const fn code(self) -> u32 {
        match self {
            Self::Identity => 0,
            Self::Relu => 1,
            Self::LeakyRelu { .. } => 2,
            Self::PRelu => 3,
            Self::Silu => 4,
            Self::Gelu => 5,
            Self::GeluTanh => 6,
            Self::Sigmoid => 7,
            Self::Tanh => 8,
        }
    }

    /// The kernels' constants `ACTIVATION` and `ALPHA`.
    pub(crate) fn constants(self) -> [(&'static str, f64); 2] {
        let alpha = if let Self::LeakyRelu { slope } = self { slope } else { 0.0 };
        [("ACTIVATION", f64::from(self.code())), ("ALPHA", f64::from(alpha))]
    }

    /// Floating-point operations of one element, transcendental functions counted as one.
    pub(crate) const fn flops(self) -> u64 {
        match self {
            Self::Identity => 0,
            Self::Relu | Self::Tanh => 1,
            Self::LeakyRelu { .. } | Self::PRelu => 2,
            Self::Sigmoid => 3,
            Self::Silu | Self::Gelu => 4,
            Self::GeluTanh => 8,
        }
    }
}

/// The operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    /// Number of channels.
    pub channels: usize,
    /// The function. [`Function::PRelu`] takes one parameter, `[channels]` or `[1]`.
    pub function: Function,
}

/// PReLU's slopes for `channels` channels, padded to whole groups; a single slope serves all.
pub(crate) fn pack_slopes(param: &Param, channels: usize) -> Result<Vec<f32>> {
    let mut slopes = match param.data.len() {
        1 => vec![param.data[0]; channels],
        _ => {
            param.expect(&[channels])?;
            param.data.clone()
        }
    };
    slopes.resize(channels.next_multiple_of(4), 0.0);
    Ok(slopes)
}

params! {
    struct Params { width: u32, height: u32, groups: u32 }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader = Shader {
    name: "activation",
    source: include_str!("../../shaders/activation.wgsl"),
    library: &[dispatch::ACTIVATION],
    params: Params::FIELDS,
};

impl Operator for Activation {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        match inputs {
            [channels] if *channels == self.channels => Ok(*channels),
            _ => Err(Error::shape(format!("activation of {} channels cannot take {inputs:?}", self.channels))),
        }
    }

    fn pack(&self, params: &[Param]) -> Result<Vec<Vec<f32>>> {
        match (self.function, params) {
            (Function::PRelu, [slopes]) => Ok(vec![pack_slopes(slopes, self.channels)?]),
            (Function::PRelu, _) => Err(Error::Weights("PReLU needs its slopes".into())),
            // The kernel's slope binding is there whatever the function.
            _ => Ok(vec![vec![0.0; self.channels.next_multiple_of(4)]]),
        }
    }

    fn flops(&self, io: &Io) -> u64 {
        let shape = io.output.shape;
        self.function.flops() * (shape.channels * shape.height * shape.width) as u64
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let shape = io.output.shape;
        let params = Params {
            width: to_u32(shape.width)?,
            height: to_u32(shape.height)?,
            groups: to_u32(shape.channel_groups())?,
        };
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: self.function.constants().to_vec(),
            params: params.bytes(),
            bindings: vec![Binding::Input(0), Binding::Weight(0), Binding::Output],
            workgroups: [params.width.div_ceil(WORKGROUP), params.height.div_ceil(WORKGROUP), params.groups],
        }])
    }
}
