//! A factor and an offset for each channel, then an activation: a batch norm folded by the host, or an input's scaling.
//!
//! `src` and the result are `[channels, height, width]`, `scale` and `shift` are `[channels]`: `f(x * scale + shift)`.
//! `torch.nn.functional.batch_norm` in evaluation has `scale = weight / sqrt(variance + eps)` and
//! `shift = bias - mean * scale`.

use super::activation::{self, Function};
use super::dispatch::{self, Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::layer_norm::pack_affine;
use super::{Io, Operator, Param, to_u32};
use crate::error::{Error, Result};
use crate::tensor::LANES;

/// The operator. Parameters: the scale, the shift, then the slopes if the activation is PReLU.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleShift {
    /// Number of channels.
    pub channels: usize,
    /// Function applied to the result.
    pub activation: Function,
}

/// PReLU's slopes if `function` is PReLU, else as many zeros: the kernels' slope binding is always there.
pub(crate) fn pack_slopes<'a>(
    function: Function,
    mut params: impl Iterator<Item = &'a Param>,
    channels: usize,
) -> Result<Vec<f32>> {
    if function != Function::PRelu {
        return Ok(vec![0.0; channels.next_multiple_of(LANES)]);
    }
    let slopes = params.next().ok_or_else(|| Error::Weights("PReLU needs its slopes".into()))?;
    activation::pack_slopes(slopes, channels)
}

params! {
    struct Params { width: u32, height: u32, groups: u32 }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader = Shader {
    name: "scale_shift",
    source: include_str!("../../shaders/scale_shift.wgsl"),
    library: &[dispatch::ACTIVATION],
    params: Params::FIELDS,
};

impl Operator for ScaleShift {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        match inputs {
            [channels] if *channels == self.channels && *channels > 0 => Ok(*channels),
            _ => Err(Error::shape(format!("scale and shift of {} channels cannot take {inputs:?}", self.channels))),
        }
    }

    fn pack(&self, params: &[Param]) -> Result<Vec<Vec<f32>>> {
        let mut params = params.iter();
        let mut affine = pack_affine("scale and shift", params.by_ref(), self.channels, true, true)?;
        affine.extend(pack_slopes(self.activation, params, self.channels)?);
        Ok(vec![affine])
    }

    fn flops(&self, io: &Io) -> u64 {
        let shape = io.output.shape;
        (2 + self.activation.flops()) * (shape.channels * shape.height * shape.width) as u64
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
            constants: self.activation.constants().to_vec(),
            params: params.bytes(),
            bindings: vec![Binding::Input(0), Binding::Weight(0), Binding::Output],
            workgroups: [params.width.div_ceil(WORKGROUP), params.height.div_ceil(WORKGROUP), params.groups],
        }])
    }
}
