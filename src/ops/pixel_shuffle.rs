//! Pixel shuffle (depth to space), as `torch.nn.functional.pixel_shuffle`.
//!
//! `src` is `[c * r * r, h, w]`, the result `[c, h * r, w * r]` with
//! `dst[c, y, x] = src[c * r * r + (y % r) * r + x % r, y / r, x / r]`.

use super::dispatch::{Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::{Axis, Io, Operator, Scale, Span, to_u32};
use crate::error::{Error, Result};

/// The operator.
#[derive(Clone, Debug, PartialEq)]
pub struct PixelShuffle {
    /// The factor `r` of both sizes.
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
    name: "pixel_shuffle",
    source: include_str!("../../shaders/pixel_shuffle.wgsl"),
    library: &[],
    params: Params::FIELDS,
};

impl Operator for PixelShuffle {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        let area = self.factor.checked_mul(self.factor).filter(|&area| area > 0);
        match (area, inputs) {
            (Some(area), [channels]) if *channels > 0 && channels.is_multiple_of(area) => Ok(channels / area),
            _ => Err(Error::shape(format!(
                "pixel shuffle by {} needs a multiple of its square in channels, not {inputs:?}",
                self.factor
            ))),
        }
    }

    fn size(&self, _: Axis, inputs: &[usize]) -> Result<usize> {
        inputs[0]
            .checked_mul(self.factor)
            .ok_or_else(|| Error::shape(format!("pixel shuffle by {}: {} pixels are too many", self.factor, inputs[0])))
    }

    fn scale(&self, _: Axis) -> Scale {
        Scale::new(self.factor, 1)
    }

    fn reads(&self, _: Axis, _: usize, wanted: Span, _: usize) -> Span {
        let factor = self.factor as i64;
        Span::new(wanted.start.div_euclid(factor), (wanted.end - 1).div_euclid(factor) + 1)
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
