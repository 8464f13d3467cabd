//! Mean and reciprocal standard deviation over all pixels and the channels of a group.
//!
//! `src` is `[channels, height, width]`, the result `[2 * channels, 1, 1]`: for each channel in turn its mean and its
//! `1 / sqrt(variance + eps)`, with the biased variance. With groups of one channel these are the statistics of
//! `torch.nn.functional.instance_norm`, else of `torch.nn.functional.group_norm`; [`super::normalize`] applies them.

use super::dispatch::{self, Binding, Dispatch, Shader, Traits, params};
use super::{Axis, Io, Operator, Scale, Span, to_u32};
use crate::error::{Error, Result};
use crate::tensor::LANES;

/// The operator; it depends on the whole image.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Number of channels.
    pub channels: usize,
    /// Number of groups that the channels divide into, each with one mean and one variance.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
}

params! {
    struct Params { pixels: u32, src_groups: u32, channels: u32, group_channels: u32, eps: f32 }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader = Shader {
    name: "moments",
    source: include_str!("../../shaders/moments.wgsl"),
    library: &[dispatch::LANES],
    params: Params::FIELDS,
};

impl Operator for Moments {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        let divides = self.groups > 0 && self.channels > 0 && self.channels.is_multiple_of(self.groups);
        match inputs {
            [channels] if *channels == self.channels && divides => {
                channels.checked_mul(2).ok_or_else(|| Error::shape("moments: too many channels"))
            }
            _ => Err(Error::shape(format!(
                "moments of {} channels in {} groups cannot take {inputs:?}",
                self.channels, self.groups
            ))),
        }
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

    fn flops(&self, io: &Io) -> u64 {
        let shape = io.inputs[0].shape;
        4 * (shape.channels * shape.height * shape.width) as u64
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let shape = io.inputs[0].shape;
        let per_channel = self.groups == self.channels;
        // Single channels are served four at a time, as they are stored.
        let group_channels = if per_channel { LANES } else { self.channels / self.groups };
        let params = Params {
            pixels: to_u32(shape.pixels()?)?,
            src_groups: to_u32(shape.channel_groups())?,
            channels: to_u32(shape.channels)?,
            group_channels: to_u32(group_channels)?,
            eps: self.eps,
        };
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: vec![("PER_CHANNEL", f64::from(u32::from(per_channel)))],
            params: params.bytes(),
            bindings: vec![Binding::Input(0), Binding::Output],
            workgroups: [params.channels.div_ceil(params.group_channels), 1, 1],
        }])
    }
}
