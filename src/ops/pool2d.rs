//! Pooling: the largest value or the mean of each window, as `torch.nn.functional.max_pool2d` and `avg_pool2d`.
//!
//! `src` is `[channels, h, w]`, the result `[channels, h', w']` with
//! `h' = (h + pad_top + pad_bottom - kernel) / stride + 1`, rounded down. The padding is never the largest value; in a
//! mean it counts as zeros, or not at all without `count_include_pad`. Padding must be smaller than the kernel, so that
//! every window holds a pixel (PyTorch allows half the kernel).

use super::dispatch::{Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::{Axis, Io, Operator, Scale, Span, to_u32};
use crate::error::{Error, Result};

/// What a window becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// Its largest value.
    Max,
    /// Its mean.
    Average,
}

/// The operator. Pairs are `[vertical, horizontal]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool2d {
    /// What a window becomes.
    pub kind: PoolKind,
    /// Size of a window.
    pub kernel: [usize; 2],
    /// Step between windows.
    pub stride: [usize; 2],
    /// Padding before and after, `[[top, bottom], [left, right]]`.
    pub padding: [[usize; 2]; 2],
    /// Whether a mean counts the padding.
    pub count_include_pad: bool,
}

params! {
    struct Params {
        src_width: u32, src_height: u32, dst_width: u32, dst_height: u32, groups: u32,
        pad_left: u32, pad_top: u32,
    }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader =
    Shader { name: "pool2d", source: include_str!("../../shaders/pool2d.wgsl"), library: &[], params: Params::FIELDS };

impl Operator for Pool2d {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        let [channels] = inputs else {
            return Err(Error::shape(format!("pooling takes one input, not {}", inputs.len())));
        };
        for axis in 0..2 {
            let (kernel, stride, padding) = (self.kernel[axis], self.stride[axis], self.padding[axis]);
            if kernel == 0 || stride == 0 || padding[0] >= kernel || padding[1] >= kernel {
                return Err(Error::shape(format!(
                    "pooling: kernel {kernel} and stride {stride} must be at least 1, padding {padding:?} smaller than the kernel"
                )));
            }
        }
        Ok(*channels)
    }

    fn size(&self, axis: Axis, inputs: &[usize]) -> Result<usize> {
        let at = axis as usize;
        let [before, after] = self.padding[at];
        let padded = inputs[0].checked_add(before).and_then(|sum| sum.checked_add(after));
        padded
            .filter(|_| inputs[0] > 0)
            .and_then(|padded| padded.checked_sub(self.kernel[at]))
            .map(|rest| rest / self.stride[at] + 1)
            .ok_or_else(|| {
                Error::shape(format!(
                    "pooling: a window of {} pixels exceeds the padded image of {}",
                    self.kernel[at], inputs[0]
                ))
            })
    }

    fn scale(&self, axis: Axis) -> Scale {
        Scale::new(1, self.stride[axis as usize])
    }

    fn reads(&self, axis: Axis, _: usize, wanted: Span, _: usize) -> Span {
        let at = axis as usize;
        let (stride, before) = (self.stride[at] as i64, self.padding[at][0] as i64);
        Span::new(wanted.start * stride - before, (wanted.end - 1) * stride - before + self.kernel[at] as i64)
    }

    fn alignment(&self, axis: Axis) -> usize {
        self.stride[axis as usize]
    }

    fn flops(&self, io: &Io) -> u64 {
        let shape = io.output.shape;
        (shape.channels * shape.height * shape.width) as u64 * (self.kernel[0] * self.kernel[1]) as u64
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let (src, dst) = (io.inputs[0].shape, io.output.shape);
        let params = Params {
            src_width: to_u32(src.width)?,
            src_height: to_u32(src.height)?,
            dst_width: to_u32(dst.width)?,
            dst_height: to_u32(dst.height)?,
            groups: to_u32(dst.channel_groups())?,
            pad_left: to_u32(self.padding[1][0])?,
            pad_top: to_u32(self.padding[0][0])?,
        };
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: vec![
                ("KERNEL_HEIGHT", self.kernel[0] as f64),
                ("KERNEL_WIDTH", self.kernel[1] as f64),
                ("STRIDE_Y", self.stride[0] as f64),
                ("STRIDE_X", self.stride[1] as f64),
                ("IS_MAX", f64::from(u8::from(self.kind == PoolKind::Max))),
                ("COUNT_INCLUDE_PAD", f64::from(u8::from(self.count_include_pad))),
            ],
            params: params.bytes(),
            bindings: vec![Binding::Input(0), Binding::Output],
            workgroups: [params.dst_width.div_ceil(WORKGROUP), params.dst_height.div_ceil(WORKGROUP), params.groups],
        }])
    }
}
