//! The vertical position of every pixel as an image: for generators that are told how deep they look.
//!
//! `src` is `[channels, h, w]` of which only the size counts; the result is `[1, h, w]` with `dst[y, x] = y / (h - 1)`,
//! zero where `h` is 1. `y` and `h` are those of the whole image in a tile too.

use super::dispatch::{Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::{Io, Operator, to_u32};
use crate::error::{Error, Result};

/// The operator.
#[derive(Clone, Debug, PartialEq)]
pub struct RowCoordinate;

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

// `reads` stays the default: nothing is read, but the output has the pixels of the input's tile and no others.
impl Operator for RowCoordinate {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        match inputs {
            [_] => Ok(1),
            _ => Err(Error::shape(format!("the row coordinate takes one input, not {}", inputs.len()))),
        }
    }

    fn flops(&self, io: &Io) -> u64 {
        (io.output.shape.height * io.output.shape.width) as u64
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let params = Params {
            width: to_u32(io.output.shape.width)?,
            height: to_u32(io.output.shape.height)?,
            top: to_u32(io.output.origin[0])?,
            full_height: to_u32(io.output.full[0])?,
        };
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: Vec::new(),
            params: params.bytes(),
            bindings: vec![Binding::Output],
            workgroups: [params.width.div_ceil(WORKGROUP), params.height.div_ceil(WORKGROUP), 1],
        }])
    }
}
