//! Gate: the first half of the channels, activated, times the second half.
//!
//! `src` is `[2 * channels, height, width]`, the result `[channels, height, width]`: `f(x1) * x2` with
//! `x1, x2 = torch.chunk(x, 2, dim=1)`. NAFNet's `SimpleGate` has no activation, Restormer's feed-forward has GELU.

use super::activation::Function;
use super::dispatch::{self, Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::scale_shift::pack_slopes;
use super::{Io, Operator, Param, to_u32};
use crate::error::{Error, Result};

/// The operator. Parameters: the slopes if the activation is PReLU.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// Channels of the output, half of the input's.
    pub channels: usize,
    /// Function applied to the first half.
    pub activation: Function,
}

params! {
    struct Params { width: u32, height: u32, src_groups: u32, dst_groups: u32, channels: u32 }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader = Shader {
    name: "gate",
    source: include_str!("../../shaders/gate.wgsl"),
    library: &[dispatch::ACTIVATION, dispatch::LANES],
    params: Params::FIELDS,
};

impl Operator for Gate {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        match inputs {
            [channels] if self.channels > 0 && self.channels.checked_mul(2) == Some(*channels) => Ok(self.channels),
            _ => Err(Error::shape(format!("a gate to {} channels cannot take {inputs:?}", self.channels))),
        }
    }

    fn pack(&self, params: &[Param]) -> Result<Vec<Vec<f32>>> {
        Ok(vec![pack_slopes(self.activation, params.iter(), self.channels)?])
    }

    fn flops(&self, io: &Io) -> u64 {
        let shape = io.output.shape;
        (1 + self.activation.flops()) * (shape.channels * shape.height * shape.width) as u64
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let (src, dst) = (io.inputs[0].shape, io.output.shape);
        let params = Params {
            width: to_u32(dst.width)?,
            height: to_u32(dst.height)?,
            src_groups: to_u32(src.channel_groups())?,
            dst_groups: to_u32(dst.channel_groups())?,
            channels: to_u32(dst.channels)?,
        };
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: self.activation.constants().to_vec(),
            params: params.bytes(),
            bindings: vec![Binding::Input(0), Binding::Weight(0), Binding::Output],
            workgroups: [params.width.div_ceil(WORKGROUP), params.height.div_ceil(WORKGROUP), 1],
        }])
    }
}
