//! Layer norm over the channels of every pixel.
//!
//! `src` and the result are `[channels, height, width]`, `weight` and `bias` are `[channels]`:
//! `(x - mean) / sqrt(variance + eps) * weight + bias` with the biased variance, as `torch.nn.functional.layer_norm` on the
//! channel axis (NAFNet's `LayerNorm2d`). Without [`center`](LayerNorm::center) the mean is not subtracted, though the
//! variance is still about it: Restormer's `BiasFree_LayerNorm`.

use super::dispatch::{self, Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::{Io, Operator, Param, to_u32};
use crate::error::{Error, Result};
use crate::tensor::LANES;

/// The operator. Parameters: the weight, then the bias, each if there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// Number of channels.
    pub channels: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Whether the mean is subtracted.
    pub center: bool,
    /// Whether there is a weight.
    pub weight: bool,
    /// Whether there is a bias.
    pub bias: bool,
}

/// Scale, then shift, from those of the two that `params` has, as `[channels]`; ones and zeros for those it has not.
/// Padding lanes get zeros.
pub(crate) fn pack_affine<'a>(
    what: &str,
    mut params: impl Iterator<Item = &'a Param>,
    channels: usize,
    weight: bool,
    bias: bool,
) -> Result<Vec<f32>> {
    let padded = channels.next_multiple_of(LANES);
    let mut affine = vec![0.0; 2 * padded];
    affine[..channels].fill(1.0);
    for (present, at, name) in [(weight, 0, "weight"), (bias, padded, "bias")] {
        if present {
            let param = params.next().ok_or_else(|| Error::Weights(format!("{what}: no {name}")))?;
            param.expect(&[channels])?;
            affine[at..][..channels].copy_from_slice(&param.data);
        }
    }
    Ok(affine)
}

params! {
    struct Params { width: u32, height: u32, groups: u32, channels: u32, eps: f32 }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader = Shader {
    name: "layer_norm",
    source: include_str!("../../shaders/layer_norm.wgsl"),
    library: &[dispatch::LANES, dispatch::PIXEL_MOMENTS],
    params: Params::FIELDS,
};

impl Operator for LayerNorm {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        match inputs {
            [channels] if *channels == self.channels && *channels > 0 => Ok(*channels),
            _ => Err(Error::shape(format!("layer norm of {} channels cannot take {inputs:?}", self.channels))),
        }
    }

    fn pack(&self, params: &[Param]) -> Result<Vec<Vec<f32>>> {
        Ok(vec![pack_affine("layer norm", params.iter(), self.channels, self.weight, self.bias)?])
    }

    fn flops(&self, io: &Io) -> u64 {
        let shape = io.output.shape;
        8 * (shape.channels * shape.height * shape.width) as u64
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let shape = io.output.shape;
        let params = Params {
            width: to_u32(shape.width)?,
            height: to_u32(shape.height)?,
            groups: to_u32(shape.channel_groups())?,
            channels: to_u32(shape.channels)?,
            eps: self.eps,
        };
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: vec![("CENTER", f64::from(u32::from(self.center)))],
            params: params.bytes(),
            bindings: vec![Binding::Input(0), Binding::Weight(0), Binding::Output],
            workgroups: [params.width.div_ceil(WORKGROUP), params.height.div_ceil(WORKGROUP), 1],
        }])
    }
}
