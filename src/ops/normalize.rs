//! Applies the statistics of [`super::moments`]: the second half of an instance or group norm.
//!
//! `src`, `residual` and the result are `[channels, height, width]`, `moments` is `[2 * channels, 1, 1]`, `weight` and
//! `bias` are `[channels]`: `f((x - mean) * rstd * weight + bias) + residual`. After `moments` this is
//! `torch.nn.functional.instance_norm` or `group_norm`.

use super::activation::Function;
use super::dispatch::{self, Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::layer_norm::pack_affine;
use super::scale_shift::pack_slopes;
use super::{Axis, Io, Operator, Param, Span, to_u32};
use crate::error::{Error, Result};

/// The operator.
///
/// Parameters: the weight and the bias, each if there is one; the slopes if the activation is PReLU. Inputs: `src`, the
/// moments, then the residual if there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalize {
    /// Number of channels.
    pub channels: usize,
    /// Whether there is a weight.
    pub weight: bool,
    /// Whether there is a bias.
    pub bias: bool,
    /// Function applied to the normalised values.
    pub activation: Function,
    /// Whether a third input is added after the activation.
    pub residual: bool,
}

params! {
    struct Params { width: u32, height: u32, groups: u32, channels: u32 }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader = Shader {
    name: "normalize",
    source: include_str!("../../shaders/normalize.wgsl"),
    library: &[dispatch::ACTIVATION, dispatch::LANES],
    params: Params::FIELDS,
};

impl Operator for Normalize {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        let fits = match inputs {
            [src, moments, residual @ ..] => {
                let residuals: &[usize] = if self.residual { &[self.channels] } else { &[] };
                *src > 0 && *src == self.channels && src.checked_mul(2) == Some(*moments) && residual == residuals
            }
            _ => false,
        };
        if !fits {
            return Err(Error::shape(format!(
                "normalize of {} channels cannot take inputs of {inputs:?} channels",
                self.channels
            )));
        }
        Ok(self.channels)
    }

    fn size(&self, _: Axis, inputs: &[usize]) -> Result<usize> {
        match inputs {
            [size, 1] => Ok(*size),
            [size, 1, residual] if residual == size => Ok(*size),
            _ => {
                Err(Error::shape(format!("normalize: inputs of {inputs:?} pixels do not fit: the second must be one")))
            }
        }
    }

    fn reads(&self, _: Axis, index: usize, wanted: Span, size: usize) -> Span {
        if index == 1 { Span::all(size) } else { wanted }
    }

    fn pack(&self, params: &[Param]) -> Result<Vec<Vec<f32>>> {
        let mut params = params.iter();
        let mut affine = pack_affine("normalize", params.by_ref(), self.channels, self.weight, self.bias)?;
        affine.extend(pack_slopes(self.activation, params, self.channels)?);
        Ok(vec![affine])
    }

    fn flops(&self, io: &Io) -> u64 {
        let shape = io.output.shape;
        let each = 4 + self.activation.flops() + u64::from(self.residual);
        each * (shape.channels * shape.height * shape.width) as u64
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let shape = io.output.shape;
        let params = Params {
            width: to_u32(shape.width)?,
            height: to_u32(shape.height)?,
            groups: to_u32(shape.channel_groups())?,
            channels: to_u32(shape.channels)?,
        };
        let mut constants = vec![("RESIDUAL", f64::from(u32::from(self.residual)))];
        constants.extend(self.activation.constants());
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants,
            params: params.bytes(),
            // Without a residual its binding reads the source, which the kernel then never does.
            bindings: vec![
                Binding::Input(0),
                Binding::Input(1),
                Binding::Weight(0),
                Binding::Input(if self.residual { 2 } else { 0 }),
                Binding::Output,
            ],
            workgroups: [params.width.div_ceil(WORKGROUP), params.height.div_ceil(WORKGROUP), params.groups],
        }])
    }
}
