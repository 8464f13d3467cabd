//! Cuts the borders off an image.
//!
//! `src` is `[channels, h, w]`, the result `[channels, h', w']` with `dst[c, y, x] = src[c, y + top, x + left]`, as
//! `torch.nn.functional.pad` with negative amounts.

use super::dispatch::{Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::{Axis, Io, Operator, Span, to_u32};
use crate::error::{Error, Result};

/// How many pixels are cut off. Pairs are `[vertical, horizontal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CropAmount {
    /// Before and after, `[[top, bottom], [left, right]]`.
    Fixed([[usize; 2]; 2]),
    /// At the bottom and right, down to the size of the second input times `scale`; its pixels are not read.
    Like {
        /// Output pixels for each pixel of the second input.
        scale: [usize; 2],
    },
}

/// The operator. Inputs: `src`; with [`CropAmount::Like`] also the image whose size is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Crop {
    /// How many pixels are cut off.
    pub amount: CropAmount,
}

impl Crop {
    /// Pixels cut off before the image on an axis.
    pub(crate) fn before(&self, axis: usize) -> usize {
        match self.amount {
            CropAmount::Fixed(sides) => sides[axis][0],
            CropAmount::Like { .. } => 0,
        }
    }
}

params! {
    struct Params { src_width: u32, dst_width: u32, dst_height: u32, groups: u32, left: u32, top: u32 }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader =
    Shader { name: "crop", source: include_str!("../../shaders/crop.wgsl"), library: &[], params: Params::FIELDS };

impl Operator for Crop {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        match (self.amount, inputs) {
            (CropAmount::Fixed(_), [channels]) => Ok(*channels),
            (CropAmount::Like { scale }, [channels, _]) if !scale.contains(&0) => Ok(*channels),
            _ => Err(Error::shape(format!("cropping by {:?} cannot take {} inputs", self.amount, inputs.len()))),
        }
    }

    fn is_copy(&self, io: &Io) -> bool {
        io.inputs[0].shape == io.output.shape
    }

    fn size(&self, axis: Axis, inputs: &[usize]) -> Result<usize> {
        let size = inputs[0];
        match self.amount {
            CropAmount::Fixed(sides) => {
                let [before, after] = sides[axis as usize];
                size.checked_sub(before).and_then(|rest| rest.checked_sub(after))
            }
            CropAmount::Like { scale } => inputs[1].checked_mul(scale[axis as usize]).filter(|&wanted| wanted <= size),
        }
        .filter(|&size| size > 0)
        .ok_or_else(|| Error::shape(format!("cropping by {:?} leaves nothing of {inputs:?} pixels", self.amount)))
    }

    fn is_read(&self, index: usize) -> bool {
        index == 0
    }

    fn reads(&self, axis: Axis, index: usize, wanted: Span, _: usize) -> Span {
        match self.amount {
            CropAmount::Fixed(sides) => {
                let [before, after] = sides[axis as usize];
                // The first `before` pixels and the last `after` of a tile are cut off, wherever it lies. The pixel at
                // its origin becomes its output's, so the tile starts where the output does, not `before` later.
                wanted.grow(0, (before + after) as i64)
            }
            CropAmount::Like { .. } if index == 0 => wanted,
            // Nothing of it is read, but its tile says how much of the output there is.
            CropAmount::Like { scale } => {
                let scale = scale[axis as usize] as i64;
                Span::new(wanted.start.div_euclid(scale), (wanted.end - 1).div_euclid(scale) + 1)
            }
        }
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let (src, dst) = (io.inputs[0].shape, io.output.shape);
        let params = Params {
            src_width: to_u32(src.width)?,
            dst_width: to_u32(dst.width)?,
            dst_height: to_u32(dst.height)?,
            groups: to_u32(dst.channel_groups())?,
            left: to_u32(self.before(1))?,
            top: to_u32(self.before(0))?,
        };
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: Vec::new(),
            params: params.bytes(),
            bindings: vec![Binding::Input(0), Binding::Output],
            workgroups: [params.dst_width.div_ceil(WORKGROUP), params.dst_height.div_ceil(WORKGROUP), params.groups],
        }])
    }
}
