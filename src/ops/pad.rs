//! Pads an image, as `torch.nn.functional.pad`.
//!
//! `src` is `[channels, h, w]`, the result `[channels, top + h + bottom, left + w + right]` with
//! `dst[c, y, x] = src[c, y - top, x - left]`, pixels outside `src` by the rule of [`Border`].

use super::dispatch::{self, Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::{Axis, Border, Io, Operator, Span, to_u32};
use crate::error::{Error, Result};

/// How many pixels are added. Pairs are `[vertical, horizontal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadAmount {
    /// Before and after, `[[top, bottom], [left, right]]`.
    Fixed([[usize; 2]; 2]),
    /// At the bottom and right, up to the next multiple.
    ToMultiple([usize; 2]),
}

/// The operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// How many pixels are added.
    pub amount: PadAmount,
    /// What they are made of.
    pub border: Border,
}

impl Pad {
    /// Pixels added before the image on an axis.
    pub(crate) fn before(&self, axis: usize) -> usize {
        match self.amount {
            PadAmount::Fixed(sides) => sides[axis][0],
            PadAmount::ToMultiple(_) => 0,
        }
    }
}

params! {
    struct Params {
        src_width: u32, src_height: u32, dst_width: u32, dst_height: u32, groups: u32,
        pad_left: i32, pad_top: i32,
    }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader = Shader {
    name: "pad",
    source: include_str!("../../shaders/pad.wgsl"),
    library: &[dispatch::BORDER],
    params: Params::FIELDS,
};

impl Operator for Pad {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        let is_valid = !matches!(self.amount, PadAmount::ToMultiple(multiple) if multiple.contains(&0));
        match inputs {
            [channels] if is_valid => Ok(*channels),
            _ => Err(Error::shape(format!("padding by {:?} cannot take {} inputs", self.amount, inputs.len()))),
        }
    }

    fn is_copy(&self, io: &Io) -> bool {
        io.inputs[0].shape == io.output.shape
    }

    fn size(&self, axis: Axis, inputs: &[usize]) -> Result<usize> {
        let size = inputs[0];
        match self.amount {
            PadAmount::Fixed(sides) => {
                let [before, after] = sides[axis as usize];
                size.checked_add(before).and_then(|sum| sum.checked_add(after))
            }
            PadAmount::ToMultiple(multiple) => size.checked_next_multiple_of(multiple[axis as usize]),
        }
        .filter(|_| size > 0)
        .ok_or_else(|| Error::shape(format!("padding: {size} pixels cannot be padded by {:?}", self.amount)))
    }

    fn reads(&self, axis: Axis, _: usize, wanted: Span, size: usize) -> Span {
        let before = self.before(axis as usize) as i64;
        let last = size as i64 - 1;
        let mut reads = self.border.widen(Span::new(wanted.start - before, wanted.end - before), size);
        // Zeros are read nowhere, but a tile must reach the border that they lie beyond.
        reads.start = reads.start.min(last);
        reads.end = reads.end.max(1);
        reads
    }

    fn alignment(&self, axis: Axis) -> usize {
        match self.amount {
            PadAmount::Fixed(_) => 1,
            // So that a tile inside the image needs no padding.
            PadAmount::ToMultiple(multiple) => multiple[axis as usize],
        }
    }

    fn flops(&self, _: &Io) -> u64 {
        0
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let (src, dst) = (io.inputs[0].shape, io.output.shape);
        // The kernel's positions are signed, and twice a size must fit.
        to_u32(dst.width.max(dst.height).saturating_mul(2))?;
        let params = Params {
            src_width: to_u32(src.width)?,
            src_height: to_u32(src.height)?,
            dst_width: to_u32(dst.width)?,
            dst_height: to_u32(dst.height)?,
            groups: to_u32(dst.channel_groups())?,
            pad_left: to_u32(self.before(1))? as i32,
            pad_top: to_u32(self.before(0))? as i32,
        };
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: vec![("BORDER", f64::from(self.border as u32))],
            params: params.bytes(),
            bindings: vec![Binding::Input(0), Binding::Output],
            workgroups: [params.dst_width.div_ceil(WORKGROUP), params.dst_height.div_ceil(WORKGROUP), params.groups],
        }])
    }
}
