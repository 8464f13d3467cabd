//! Pixel unshuffle (space to depth), as `torch.nn.functional.pixel_unshuffle`.
//!
//! `src` is `[c, h * r, w * r]`, the result `[c * r * r, h, w]` with
//! `dst[c * r * r + i * r + j, y, x] = src[c, y * r + i, x * r + j]`. Sizes that `r` does not divide are an error.

use super::dispatch::{Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::{Axis, Io, Operator, Scale, Span, to_u32};
use crate::error::{Error, Result};

/// The operator.
#[derive(Clone, Debug, PartialEq)]
pub struct PixelUnshuffle {
    /// The divisor `r` of both sizes.
    pub factor: usize,
}

params! {
    struct Params {
        src_width: u32, src_groups: u32,
        dst_width: u32, dst_height: u32, dst_groups: u32, dst_channels: u32,
    }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader = Shader {
    name: "pixel_unshuffle",
    source: include_str!("../../shaders/pixel_unshuffle.wgsl"),
    library: &[],
    params: Params::FIELDS,
};

impl Operator for PixelUnshuffle {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        let [channels] = inputs else {
            return Err(Error::shape(format!("pixel unshuffle takes one input, not {}", inputs.len())));
        };
        self.factor
            .checked_mul(self.factor)
            .and_then(|area| area.checked_mul(*channels))
            .filter(|&product| product > 0)
            .ok_or_else(|| Error::shape(format!("pixel unshuffle by {} cannot take {channels} channels", self.factor)))
    }

    fn size(&self, _: Axis, inputs: &[usize]) -> Result<usize> {
        if self.factor == 0 || !inputs[0].is_multiple_of(self.factor) {
            return Err(Error::shape(format!(
                "pixel unshuffle: {} pixels are not a multiple of {}: pad the image",
                inputs[0], self.factor
            )));
        }
        Ok(inputs[0] / self.factor)
    }

    fn scale(&self, _: Axis) -> Scale {
        Scale::new(1, self.factor)
    }

    fn reads(&self, _: Axis, _: usize, wanted: Span, _: usize) -> Span {
        let factor = self.factor as i64;
        Span::new(wanted.start * factor, wanted.end * factor)
    }

    fn alignment(&self, _: Axis) -> usize {
        self.factor
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let (src, dst) = (io.inputs[0].shape, io.output.shape);
        let params = Params {
            src_width: to_u32(src.width)?,
            src_groups: to_u32(src.channel_groups())?,
            dst_width: to_u32(dst.width)?,
            dst_height: to_u32(dst.height)?,
            dst_groups: to_u32(dst.channel_groups())?,
            dst_channels: to_u32(dst.channels)?,
        };
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: vec![("FACTOR", self.factor as f64)],
            params: params.bytes(),
            bindings: vec![Binding::Input(0), Binding::Output],
            workgroups: [
                params.dst_width.div_ceil(WORKGROUP),
                params.dst_height.div_ceil(WORKGROUP),
                params.dst_groups,
            ],
        }])
    }
}
