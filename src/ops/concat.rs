//! Joins the channels of two images, as `torch.cat((first, second), 1)`.
//!
//! `first` is `[a, h, w]`, `second` `[b, h, w]`, the result `[a + b, h, w]`.

use super::dispatch::{Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::{Axis, Io, Operator, to_u32};
use crate::error::{Error, Result};
use crate::tensor::LANES;

/// The operator. Inputs: `first`, `second`.
#[derive(Clone, Debug, PartialEq)]
pub struct Concat;

params! {
    struct Params { width: u32, height: u32, first_channels: u32, first_groups: u32, second_groups: u32, dst_groups: u32 }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader =
    Shader { name: "concat", source: include_str!("../../shaders/concat.wgsl"), library: &[], params: Params::FIELDS };

impl Operator for Concat {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        match inputs {
            [first, second] if *first > 0 && *second > 0 => first.checked_add(*second),
            _ => None,
        }
        .ok_or_else(|| Error::shape(format!("concat takes two inputs with channels, not {inputs:?}")))
    }

    fn size(&self, axis: Axis, inputs: &[usize]) -> Result<usize> {
        match inputs {
            [first, second] if first == second => Ok(*first),
            _ => Err(Error::shape(format!("concat: sizes {inputs:?} differ on the {axis:?} axis"))),
        }
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let (first, second, dst) = (io.inputs[0].shape, io.inputs[1].shape, io.output.shape);
        let params = Params {
            width: to_u32(dst.width)?,
            height: to_u32(dst.height)?,
            first_channels: to_u32(first.channels)?,
            first_groups: to_u32(first.channel_groups())?,
            second_groups: to_u32(second.channel_groups())?,
            dst_groups: to_u32(dst.channel_groups())?,
        };
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: vec![("SHIFT", (first.channels % LANES) as f64)],
            params: params.bytes(),
            bindings: vec![Binding::Input(0), Binding::Input(1), Binding::Output],
            workgroups: [params.width.div_ceil(WORKGROUP), params.height.div_ceil(WORKGROUP), params.dst_groups],
        }])
    }
}
