//! The vertical position of every pixel as an image: for generators that are told how deep they look.
//!
//! `image` is `[channels, h, w]` and `like` `[channels', h', w']`, of which only the sizes count. The result is that of a channel
//! `y / (h - 1)` of the image's size, zero where `h` is 1, padded below by repeating its last row and then unshuffled by
//! `factor` to the size of `like`: `[factor * factor, h', w']` with
//! `dst[i * factor + j, y, x] = min(y * factor + i, h - 1) / (h - 1)`. `y` and `h` are those of the whole image in a tile too.

use super::dispatch::{Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::{Axis, Io, Operator, Scale, Span, to_u32};
use crate::error::{Error, Result};

/// The operator. Inputs: `image`, `like`.
#[derive(Clone, Debug, PartialEq)]
pub struct RowCoordinate {
    /// Rows and columns of the image for each of `like`.
    pub factor: usize,
}

params! {
    struct Params { width: u32, height: u32, top: u32, full_height: u32 }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader = Shader {
    name: "row_coordinate",
    source: include_str!("../../shaders/row_coordinate.wgsl"),
    library: &[],
    params: Params::FIELDS,
};

impl Operator for RowCoordinate {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        match (inputs, self.factor.checked_mul(self.factor)) {
            ([_, _], Some(area)) if area > 0 => Ok(area),
            _ => {
                Err(Error::shape(format!("the row coordinate by {} cannot take {} inputs", self.factor, inputs.len())))
            }
        }
    }

    fn size(&self, axis: Axis, inputs: &[usize]) -> Result<usize> {
        match inputs[1].checked_mul(self.factor) {
            Some(size) if size >= inputs[0] && inputs[0] > 0 => Ok(inputs[1]),
            _ => Err(Error::shape(format!(
                "the row coordinate by {}: {inputs:?} pixels on the {axis:?} axis do not fit each other",
                self.factor
            ))),
        }
    }

    fn scale(&self, _: Axis) -> Scale {
        Scale::new(1, self.factor)
    }

    fn is_read(&self, _: usize) -> bool {
        false
    }

    // Nothing is read, but the output has the pixels of the inputs' tiles and no others.
    fn reads(&self, _: Axis, index: usize, wanted: Span, _: usize) -> Span {
        let factor = if index == 0 { self.factor as i64 } else { 1 };
        Span::new(wanted.start * factor, wanted.end * factor)
    }

    fn alignment(&self, _: Axis) -> usize {
        self.factor
    }

    fn flops(&self, io: &Io) -> u64 {
        let shape = io.output.shape;
        (shape.channels * shape.height * shape.width) as u64
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let params = Params {
            width: to_u32(io.output.shape.width)?,
            height: to_u32(io.output.shape.height)?,
            top: to_u32(io.output.origin[0])?,
            full_height: to_u32(io.inputs[0].full[0])?,
        };
        // A row's place in the image must fit.
        to_u32((params.top as usize + params.height as usize).saturating_mul(self.factor))?;
        let groups = to_u32(io.output.shape.channel_groups())?;
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: vec![("FACTOR", self.factor as f64)],
            params: params.bytes(),
            bindings: vec![Binding::Output],
            workgroups: [params.width.div_ceil(WORKGROUP), params.height.div_ceil(WORKGROUP), groups],
        }])
    }
}
