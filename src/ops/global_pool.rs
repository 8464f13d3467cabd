//! Global pooling: the largest value or the mean of each channel over the whole image.
//!
//! `src` is `[channels, h, w]`, the result `[channels, 1, 1]`, as `torch.nn.functional.adaptive_avg_pool2d(src, 1)` and
//! `adaptive_max_pool2d(src, 1)`.
//!
//! # Accuracy
//! Means are sums in a fixed order; on the device in three levels (up to 64 pixels, each invocation's chunks, the
//! workgroup's tree), so that errors do not grow with the image.

use super::dispatch::{Binding, Dispatch, Shader, Traits, params};
use super::pool2d::PoolKind;
use super::{Axis, Io, Operator, Scale, Span, to_u32};
use crate::error::{Error, Result};

/// The operator.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalPool {
    /// What a channel becomes.
    pub kind: PoolKind,
}

params! {
    struct Params { pixels: u32, groups: u32 }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader = Shader {
    name: "global_pool",
    source: include_str!("../../shaders/global_pool.wgsl"),
    library: &[],
    params: Params::FIELDS,
};

impl Operator for GlobalPool {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        match inputs {
            [channels] => Ok(*channels),
            _ => Err(Error::shape(format!("global pooling takes one input, not {}", inputs.len()))),
        }
    }

    fn size(&self, _: Axis, inputs: &[usize]) -> Result<usize> {
        if inputs[0] == 0 {
            return Err(Error::shape("global pooling: an image without pixels has no mean"));
        }
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

    fn flops(&self, io: &Io) -> u64 {
        let shape = io.inputs[0].shape;
        (shape.channels * shape.height * shape.width) as u64
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let shape = io.inputs[0].shape;
        let params = Params { pixels: to_u32(shape.pixels()?)?, groups: to_u32(shape.channel_groups())? };
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: vec![("IS_MAX", f64::from(u8::from(self.kind == PoolKind::Max)))],
            params: params.bytes(),
            bindings: vec![Binding::Input(0), Binding::Output],
            workgroups: [params.groups, 1, 1],
        }])
    }
}
