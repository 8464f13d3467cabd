//! The weights of channel ("transposed") attention: how alike the channels of a head are over the whole image.
//!
//! `src` holds queries, keys and values, `[3 * heads * head_channels, h, w]`. For each head, with sums over all pixels,
//! `w[i, j] = softmax over j of temperature * <q_i, k_j> / (max(|q_i|, 1e-12) max(|k_j|, 1e-12))`: the attention matrix of
//! Restormer's `Attention` (MDTA), with `torch.nn.functional.normalize`. [`super::channel_attention`] applies it.
//!
//! The result is `[padded * head_channels, 1, 1]`, `padded` being `heads * head_channels` rounded up to whole groups of
//! four: row `c = head * head_channels + i`, column `j` is at `(c / 4 * head_channels + j) * 4 + c % 4`, so that a vector
//! on the device holds one column of four rows. Rows that are padding are zero.

use super::dispatch::{self, Binding, Dispatch, Shader, Traits, params};
use super::window_attention::qkv_channels;
use super::{Axis, Io, Operator, Param, Scale, Span, to_u32};
use crate::error::{Error, Result};
use crate::tensor::LANES;

/// The operator; it depends on the whole image. Parameters: `temperature`, `[heads, 1, 1]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Gram {
    /// Number of heads.
    pub heads: usize,
    /// Channels of each head, at most 256.
    pub head_channels: usize,
}

/// What the kernel's workgroup memory holds.
const MAX_HEAD_CHANNELS: usize = 256;

params! {
    struct Params { pixels: u32, src_groups: u32 }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader = Shader {
    name: "gram",
    source: include_str!("../../shaders/gram.wgsl"),
    library: &[dispatch::LANES],
    params: Params::FIELDS,
};

/// Elements of the weights of `channels` channels in heads of `head_channels`.
pub(crate) fn weight_channels(channels: usize, head_channels: usize) -> Result<usize> {
    let elements = channels.checked_next_multiple_of(LANES).and_then(|padded| padded.checked_mul(head_channels));
    elements.ok_or_else(|| Error::shape("channel attention: too many channels"))
}

impl Operator for Gram {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        if self.head_channels > MAX_HEAD_CHANNELS {
            return Err(Error::shape(format!(
                "channel attention: heads of {} channels; at most {MAX_HEAD_CHANNELS} are supported",
                self.head_channels
            )));
        }
        let channels = qkv_channels("channel attention", self.heads, self.head_channels, inputs)?;
        weight_channels(channels, self.head_channels)
    }

    fn size(&self, _: Axis, _: &[usize]) -> Result<usize> {
        Ok(1)
    }

    fn scale(&self, _: Axis) -> Scale {
        Scale::new(0, 1)
    }

    fn reads(&self, _: Axis, _: usize, _: Span, size: usize) -> Span {
        Span::all(size)
    }

    fn is_global(&self) -> bool {
        true
    }

    fn pack(&self, params: &[Param]) -> Result<Vec<Vec<f32>>> {
        let temperature = params.first().ok_or_else(|| Error::Weights("channel attention: no temperature".into()))?;
        temperature.expect(&[self.heads, 1, 1])?;
        let mut packed = temperature.data.clone();
        packed.resize(self.heads.next_multiple_of(LANES), 0.0);
        Ok(vec![packed])
    }

    fn flops(&self, io: &Io) -> u64 {
        let pixels = (io.inputs[0].shape.height * io.inputs[0].shape.width) as u64;
        let each = (self.head_channels * (2 * self.head_channels + 4)) as u64;
        pixels.saturating_mul(self.heads as u64).saturating_mul(each)
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let shape = io.inputs[0].shape;
        let params = Params { pixels: to_u32(shape.pixels()?)?, src_groups: to_u32(shape.channel_groups())? };
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: vec![("HEADS", self.heads as f64), ("HEAD_CHANNELS", self.head_channels as f64)],
            params: params.bytes(),
            bindings: vec![Binding::Input(0), Binding::Weight(0), Binding::Output],
            workgroups: [to_u32(self.head_channels.div_ceil(LANES))?, to_u32(self.heads)?, 1],
        }])
    }
}
