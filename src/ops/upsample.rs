//! Enlarges an image by whole factors, as `torch.nn.functional.interpolate` with an integer `scale_factor`.
//!
//! `src` is `[channels, h, w]`, the result `[channels, h * scale, w * scale]`, perhaps combined with an image of that size as
//! by [`binary`](super::binary), and that with a second source enlarged in the same way: `other * gain + offset`.
//! Output pixel `i` of an axis stands at
//! - nearest: source pixel `i / scale`, rounded down;
//! - bilinear: `max((i + 0.5) / scale - 0.5, 0)`, between the two pixels around it;
//! - bilinear with aligned corners: `i (n - 1) / (n scale - 1)`, `n` the source's whole size on the axis.
//!
//! # Accuracy
//! Positions are exact fractions of integers, so they do not lose digits far from the origin as PyTorch's f32 ones do,
//! and in a tile they are those of the whole image.

use super::binary::BinaryKind;
use super::dispatch::{self, Binding, Dispatch, Shader, Traits, WORKGROUP, params};
use super::{Axis, Io, Operator, Scale, Span, to_u32};
use crate::error::{Error, Result};
use crate::tensor::LANES;

/// How pixels between those of the source are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// The source pixel is repeated.
    Nearest,
    /// Linear on both axes.
    Bilinear {
        /// Whether the first and last pixels of source and result fall together.
        align_corners: bool,
    },
}

/// The operator. Pairs are `[vertical, horizontal]`. Inputs: `src`, then what it is combined with if it is, then the second
/// source if there is one and it is not [`joined`](Self::joined).
#[derive(Clone, Debug, PartialEq)]
pub struct Upsample {
    /// Output pixels for each input pixel.
    pub scale: [usize; 2],
    /// The rule.
    pub mode: Interpolation,
    /// What is made of the second input, as the function's `a`, and the enlarged image, its `b`.
    pub combine: Option<BinaryKind>,
    /// What is made of that, as the function's `a`, and the second source enlarged, its `b`. Not without
    /// [`combine`](Self::combine).
    pub then: Option<BinaryKind>,
    /// Whether the second source is the latter half of the first input's channels. They are then whole groups.
    pub joined: bool,
}

impl Upsample {
    /// The position of output pixel `position` in a source line of `size`, both of the whole image: pixel and the
    /// fraction of the way to the next one, as numerator and denominator.
    pub(crate) fn position(&self, axis: Axis, position: u64, size: u64) -> (u64, u64, u64) {
        let scale = self.scale[axis as usize] as u64;
        let (numerator, denominator) = match self.mode {
            Interpolation::Nearest => (position, scale),
            Interpolation::Bilinear { align_corners: false } => ((2 * position + 1).saturating_sub(scale), 2 * scale),
            Interpolation::Bilinear { align_corners: true } => (position * (size - 1), (size * scale - 1).max(1)),
        };
        (numerator / denominator, numerator % denominator, denominator)
    }

    fn code(&self) -> u32 {
        match self.mode {
            Interpolation::Nearest => 0,
            Interpolation::Bilinear { align_corners: false } => 1,
            Interpolation::Bilinear { align_corners: true } => 2,
        }
    }
}

params! {
    struct Params {
        src_width: u32, src_height: u32, src_left: u32, src_top: u32, full_width: u32, full_height: u32,
        dst_width: u32, dst_height: u32, dst_left: u32, dst_top: u32, src_groups: u32, groups: u32, channels: u32,
        alpha: f32, beta: f32, then_alpha: f32, then_beta: f32,
    }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader = Shader {
    name: "upsample",
    source: include_str!("../../shaders/upsample.wgsl"),
    library: &[dispatch::COMBINE, dispatch::LANES],
    params: Params::FIELDS,
};

impl Operator for Upsample {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        let expected = 1 + usize::from(self.combine.is_some()) + usize::from(self.then.is_some() && !self.joined);
        let channels = inputs.get(usize::from(self.joined)).copied().unwrap_or(0);
        let first = if self.joined { channels.checked_mul(2) } else { Some(channels) };
        let whole = !self.joined || (self.then.is_some() && channels.is_multiple_of(LANES));
        let fits = inputs.len() == expected
            && inputs.first().copied() == first
            && inputs[1..].iter().all(|other| *other == channels);
        if !fits || !whole || self.scale.contains(&0) || (self.then.is_some() && self.combine.is_none()) {
            return Err(Error::shape(format!(
                "upsampling by {:?} cannot take inputs of {inputs:?} channels",
                self.scale
            )));
        }
        Ok(channels)
    }

    fn size(&self, axis: Axis, inputs: &[usize]) -> Result<usize> {
        let scale = self.scale[axis as usize];
        let size = inputs[0]
            .checked_mul(scale)
            .filter(|&size| size > 0)
            .ok_or_else(|| Error::shape(format!("{} pixels cannot be upsampled by {scale}", inputs[0])))?;
        match inputs {
            [_, other, ..] if *other != size => {
                Err(Error::shape(format!("upsampling to {size} pixels cannot be combined with {other} pixels")))
            }
            [first, _, second] if first != second => {
                Err(Error::shape(format!("upsampling {first} pixels cannot be combined with upsampling {second}")))
            }
            _ => Ok(size),
        }
    }

    fn scale(&self, axis: Axis) -> Scale {
        Scale::new(self.scale[axis as usize], 1)
    }

    fn reads(&self, axis: Axis, index: usize, wanted: Span, size: usize) -> Span {
        if index == 1 {
            return wanted;
        }
        let at = |position: i64| self.position(axis, position.max(0) as u64, size.max(1) as u64).0 as i64;
        let neighbour = i64::from(self.mode != Interpolation::Nearest);
        Span::new(at(wanted.start), at(wanted.end - 1) + 1 + neighbour)
    }

    fn flops(&self, io: &Io) -> u64 {
        let shape = io.output.shape;
        let each = if self.mode == Interpolation::Nearest { 0 } else { 9 };
        let sources = 1 + u64::from(self.then.is_some());
        let combined: u64 = [self.combine, self.then].into_iter().flatten().map(BinaryKind::flops).sum();
        (sources * each + combined) * (shape.channels * shape.height * shape.width) as u64
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let (from, to) = (io.inputs[0], io.output);
        if self.mode == (Interpolation::Bilinear { align_corners: true }) {
            // The kernel's numerator.
            for axis in 0..2 {
                if from.full[axis].checked_mul(to.full[axis]).is_none_or(|product| u32::try_from(product).is_err()) {
                    return Err(Error::shape(format!(
                        "upsampling {} to {} pixels with aligned corners exceeds the kernels' 32-bit arithmetic",
                        from.full[axis], to.full[axis]
                    )));
                }
            }
        }
        // Twice a position must fit.
        to_u32(to.full[0].max(to.full[1]).saturating_mul(4))?;
        let (combine, alpha, beta) = BinaryKind::optional(self.combine);
        let (then, then_alpha, then_beta) = BinaryKind::optional(self.then);
        let params = Params {
            src_width: to_u32(from.shape.width)?,
            src_height: to_u32(from.shape.height)?,
            src_left: to_u32(from.origin[1])?,
            src_top: to_u32(from.origin[0])?,
            full_width: to_u32(from.full[1])?,
            full_height: to_u32(from.full[0])?,
            dst_width: to_u32(to.shape.width)?,
            dst_height: to_u32(to.shape.height)?,
            dst_left: to_u32(to.origin[1])?,
            dst_top: to_u32(to.origin[0])?,
            src_groups: to_u32(from.shape.channel_groups())?,
            groups: to_u32(to.shape.channel_groups())?,
            channels: to_u32(to.shape.channels)?,
            alpha,
            beta,
            then_alpha,
            then_beta,
        };
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: vec![
                ("SCALE_Y", self.scale[0] as f64),
                ("SCALE_X", self.scale[1] as f64),
                ("MODE", f64::from(self.code())),
                ("COMBINE", f64::from(combine)),
                ("THEN", f64::from(then)),
                ("JOINED", f64::from(u8::from(self.joined))),
            ],
            params: params.bytes(),
            // What is not combined is not read by its binding.
            bindings: vec![
                Binding::Input(0),
                Binding::Input(usize::from(combine > 0)),
                Binding::Input(if then > 0 && !self.joined { 2 } else { 0 }),
                Binding::Output,
            ],
            workgroups: [params.dst_width.div_ceil(WORKGROUP), params.dst_height.div_ceil(WORKGROUP), 1],
        }])
    }
}
