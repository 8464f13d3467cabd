//! Channel ("transposed") attention: every pixel's values, mixed by weights that hold for the whole image.
//!
//! `src` holds queries, keys and values, `[3 * heads * head_channels, h, w]`, of which the values are read; `weights` is
//! what [`super::gram`] makes of them. The result is `[heads * head_channels, h, w]`: for each head
//! `out_i = sum over j of w[i, j] v_j`, the product `attn @ v` of Restormer's `Attention` (MDTA).

use super::dispatch::{self, Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::gram::weight_channels;
use super::window_attention::qkv_channels;
use super::{Axis, Io, Operator, Span, to_u32};
use crate::error::{Error, Result};

/// The operator. Inputs: queries, keys and values; the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelAttention {
    /// Number of heads.
    pub heads: usize,
    /// Channels of each head.
    pub head_channels: usize,
}

params! {
    struct Params { width: u32, height: u32, src_groups: u32, dst_groups: u32 }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader = Shader {
    name: "channel_attention",
    source: include_str!("../../shaders/channel_attention.wgsl"),
    library: &[dispatch::LANES],
    params: Params::FIELDS,
};

/// Pixels along the row that one invocation computes.
const PIXELS: u32 = 4;

impl Operator for ChannelAttention {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        let [qkv, weights] = inputs else {
            return Err(Error::shape(format!("channel attention takes two inputs, not {}", inputs.len())));
        };
        let channels = qkv_channels("channel attention", self.heads, self.head_channels, &[*qkv])?;
        let expected = weight_channels(channels, self.head_channels)?;
        if *weights != expected {
            return Err(Error::shape(format!("channel attention: {weights} weights, {expected} are expected")));
        }
        Ok(channels)
    }

    fn size(&self, _: Axis, inputs: &[usize]) -> Result<usize> {
        match inputs {
            [size, 1] => Ok(*size),
            _ => Err(Error::shape(format!("channel attention: inputs of {inputs:?} pixels: the weights must be one"))),
        }
    }

    fn reads(&self, _: Axis, index: usize, wanted: Span, size: usize) -> Span {
        if index == 1 { Span::all(size) } else { wanted }
    }

    fn flops(&self, io: &Io) -> u64 {
        let shape = io.output.shape;
        let elements = (shape.channels * shape.height * shape.width) as u64;
        elements.saturating_mul(2).saturating_mul(self.head_channels as u64)
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let (src, dst) = (io.inputs[0].shape, io.output.shape);
        let params = Params {
            width: to_u32(dst.width)?,
            height: to_u32(dst.height)?,
            src_groups: to_u32(src.channel_groups())?,
            dst_groups: to_u32(dst.channel_groups())?,
        };
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: vec![("HEADS", self.heads as f64), ("HEAD_CHANNELS", self.head_channels as f64)],
            params: params.bytes(),
            bindings: vec![Binding::Input(0), Binding::Input(1), Binding::Output],
            workgroups: [
                params.width.div_ceil(PIXELS * WORKGROUP),
                params.height.div_ceil(WORKGROUP),
                params.dst_groups,
            ],
        }])
    }
}
