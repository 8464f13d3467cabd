//! Transposed 2-D convolution with bias and activation fused into its store.
//!
//! `src` is `[in, h, w]`, `weight` is `[in, out / groups, kh, kw]`, `bias` and PReLU's `slope` are `[out]`. The result is
//! `[out, h', w']` with `h' = (h - 1) * stride - 2 * padding + dilation * (kh - 1) + output_padding + 1`, as
//! `torch.nn.functional.conv_transpose2d`. Output pixel `y` gathers the source pixels `i` and taps `k` with
//! `i * stride + k * dilation - padding = y`.

use super::activation::Function;
use super::around::Around;
use super::blocks::{self, Blocks, block_shaders};
use super::dispatch::{self, Binding, Dispatch, Packed, Shader, Traits, params};
use super::linear::pack_epilogue;
use super::{Axis, Io, Operator, Param, Scale, Span, extents, to_u32};
use crate::error::{Error, Result};
use crate::tensor::LANES;

/// The operator. Pairs are `[vertical, horizontal]`.
///
/// Parameters: `weight`; `bias` if [`bias`](Self::bias); the slopes if the activation is PReLU.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvTranspose2d {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Kernel size.
    pub kernel: [usize; 2],
    /// Output pixels from one input pixel to the next.
    pub stride: [usize; 2],
    /// Output pixels cut off on either side.
    pub padding: [usize; 2],
    /// Output pixels added at the bottom and right.
    pub output_padding: [usize; 2],
    /// Distance between the kernel's elements.
    pub dilation: [usize; 2],
    /// Number of channel groups that do not see each other.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Function applied to the result.
    pub activation: Function,
}

impl ConvTranspose2d {
    /// A transposed convolution of stride 1 without padding, bias or activation.
    pub fn new(in_channels: usize, out_channels: usize, kernel: [usize; 2]) -> Self {
        Self {
            in_channels,
            out_channels,
            kernel,
            stride: [1, 1],
            padding: [0, 0],
            output_padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
            bias: false,
            activation: Function::Identity,
        }
    }

    /// Length of the kernel on one axis less one, its gaps included. [`Operator::channels`] has checked it.
    fn extent(&self, axis: Axis) -> usize {
        self.dilation[axis as usize] * (self.kernel[axis as usize] - 1)
    }

    fn check(&self) -> Result<()> {
        let positive = [self.in_channels, self.out_channels, self.groups];
        let sizes = [self.kernel, self.stride, self.dilation].concat();
        if positive.iter().chain(&sizes).any(|&value| value == 0) {
            return Err(Error::shape(
                "transposed convolution: channels, groups, kernel, stride and dilation must be at least 1",
            ));
        }
        // Larger ones are nobody's, and sums of them then fit.
        if sizes.iter().chain(&self.padding).any(|&value| value > 1 << 15) {
            return Err(Error::shape("transposed convolution: kernel, stride, dilation or padding is absurdly large"));
        }
        if !self.in_channels.is_multiple_of(self.groups) || !self.out_channels.is_multiple_of(self.groups) {
            return Err(Error::shape(format!(
                "transposed convolution: {} and {} channels do not divide into {} groups",
                self.in_channels, self.out_channels, self.groups
            )));
        }
        for axis in 0..2 {
            if self.output_padding[axis] >= self.stride[axis].max(self.dilation[axis]) {
                return Err(Error::shape(format!(
                    "transposed convolution: output padding {} must be smaller than stride or dilation",
                    self.output_padding[axis]
                )));
            }
        }
        Ok(())
    }

    /// Lays the weight out as the matrix `[kh * kw * padded_in, padded_out]`. Groups become blocks of a dense matrix.
    fn pack_weight(&self, weight: &[f32]) -> Vec<f32> {
        let taps = self.kernel[0] * self.kernel[1];
        let group_in = self.in_channels / self.groups;
        let group_out = self.out_channels / self.groups;
        let padded_out = self.out_channels.next_multiple_of(LANES);
        let padded_in = self.in_channels.next_multiple_of(LANES);
        let mut packed = vec![0.0; taps * padded_in * padded_out];
        for row in 0..self.in_channels {
            for inner in 0..group_out {
                let out = row / group_in * group_out + inner;
                for tap in 0..taps {
                    packed[(tap * padded_in + row) * padded_out + out] = weight[(row * group_out + inner) * taps + tap];
                }
            }
        }
        packed
    }
}

params! {
    struct Params {
        src_width: u32, src_height: u32, src_groups: u32,
        dst_width: u32, dst_height: u32, dst_groups: u32,
        pad_left: i32, pad_top: i32,
        group: u32, block: u32, row: u32, line: u32,
    }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &LIST;

block_shaders!(LIST, VARIANTS, "conv_transpose2d", Params::FIELDS, [dispatch::ACTIVATION, dispatch::STORE]);

impl ConvTranspose2d {
    fn blocks(&self) -> Blocks {
        Blocks::new(self.kernel[0] * self.kernel[1] * self.in_channels.next_multiple_of(LANES), self.out_channels)
    }
}

impl Operator for ConvTranspose2d {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        self.check()?;
        if inputs != [self.in_channels] {
            return Err(Error::shape(format!(
                "transposed convolution from {} to {} channels cannot take inputs of {inputs:?} channels",
                self.in_channels, self.out_channels
            )));
        }
        Ok(self.out_channels)
    }

    fn size(&self, axis: Axis, inputs: &[usize]) -> Result<usize> {
        let at = axis as usize;
        inputs[0]
            .checked_sub(1)
            .and_then(|steps| steps.checked_mul(self.stride[at]))
            .and_then(|size| size.checked_add(self.extent(axis) + self.output_padding[at] + 1))
            .and_then(|size| size.checked_sub(2 * self.padding[at]))
            .filter(|&size| size > 0)
            .ok_or_else(|| {
                Error::shape(format!(
                    "transposed convolution: {} pixels with a padding of {} give no image",
                    inputs[0], self.padding[at]
                ))
            })
    }

    fn scale(&self, axis: Axis) -> Scale {
        Scale::new(self.stride[axis as usize], 1)
    }

    fn reads(&self, axis: Axis, _: usize, wanted: Span, size: usize) -> Span {
        let at = axis as usize;
        let (stride, padding) = (self.stride[at] as i64, self.padding[at] as i64);
        let (extent, extra) = (self.extent(axis) as i64, self.output_padding[at] as i64);
        // The smallest integer not below a / stride.
        let ceil = |a: i64| -(-a).div_euclid(stride);
        let last = wanted.end - 1;
        // The pixels with i * stride in wanted + padding - extent ..= wanted + padding ...
        let read = Span::new(ceil(wanted.start + padding - extent), (last + padding).div_euclid(stride) + 1);
        // ... and enough of them that the tile's output, of which `padding` is cut off, covers what is wanted. Output
        // padding may read nothing, but a tile must have pixels, and reach the border that they lie beyond.
        Span::new(
            read.start.min(wanted.start.div_euclid(stride)).min(size as i64 - 1),
            read.end.max(ceil(last + 2 * padding - extent - extra) + 1),
        )
    }

    fn pack(&self, params: &[Param]) -> Result<Vec<Vec<f32>>> {
        let mut params = params.iter();
        let mut next =
            |what: &str| params.next().ok_or_else(|| Error::Weights(format!("transposed convolution: no {what}")));
        let weight = next("weight")?;
        weight.expect(&[self.in_channels, self.out_channels / self.groups, self.kernel[0], self.kernel[1]])?;
        let bias = if self.bias { Some(next("bias")?) } else { None };
        let slopes = if self.activation == Function::PRelu { Some(next("PReLU slopes")?) } else { None };
        Ok(vec![self.pack_weight(&weight.data), pack_epilogue(bias, slopes, self.out_channels)?])
    }

    fn pack_device(&self, params: &[Param], _: Traits) -> Result<Vec<Packed>> {
        let mut packed = self.pack(params)?.into_iter();
        let matrix = packed.next().unwrap_or_default();
        let weight = self.blocks().pack(&matrix, |row| row);
        Ok(std::iter::once(weight).chain(packed.map(Packed::Stored)).collect())
    }

    fn flops(&self, io: &Io) -> u64 {
        let (src, dst) = (io.inputs[0].shape, io.output.shape);
        // Each source element meets every tap of every output channel of its group.
        let products = (src.height * src.width * self.in_channels) as u64
            * (self.kernel[0] * self.kernel[1] * self.out_channels / self.groups) as u64;
        let store = u64::from(self.bias) + self.activation.flops();
        2 * products + store * (dst.channels * dst.height * dst.width) as u64
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let (src, dst) = (io.inputs[0].shape, io.output.shape);
        // The kernel's positions are signed.
        to_u32(dst.width.max(dst.height).saturating_mul(2))?;
        let [src_width, src_height, src_groups] = extents(src)?;
        let [dst_width, dst_height, dst_groups] = extents(dst)?;
        let params = Params {
            src_width,
            src_height,
            src_groups,
            dst_width,
            dst_height,
            dst_groups,
            pad_left: to_u32(self.padding[1])? as i32,
            pad_top: to_u32(self.padding[0])? as i32,
            group: 0,
            block: 0,
            row: 0,
            line: dst_width,
        };
        let mut constants = vec![
            ("KERNEL_HEIGHT", self.kernel[0] as f64),
            ("KERNEL_WIDTH", self.kernel[1] as f64),
            ("STRIDE_Y", self.stride[0] as f64),
            ("STRIDE_X", self.stride[1] as f64),
            ("DILATION_Y", self.dilation[0] as f64),
            ("DILATION_X", self.dilation[1] as f64),
        ];
        constants.extend(Around::default().store_constants(None, self.activation));
        // Every phase, the pixels that are `stride` apart, has layers of its own, as many runs as the first one.
        let columns = dst.width.div_ceil(self.stride[1]).div_ceil(blocks::PIXELS as usize);
        let runs = to_u32(columns * dst.height.div_ceil(self.stride[0]))?;
        let phases = to_u32(self.stride[0] * self.stride[1])?;
        self.blocks().dispatches(&VARIANTS, runs, phases, |shader, group, block, row, weight| Dispatch {
            shader,
            constants: constants.clone(),
            params: Params { group, block, row, ..params }.bytes(),
            // The residual's binding reads the source, which the kernel then never does.
            bindings: vec![Binding::Input(0), weight, Binding::Weight(1), Binding::Input(0), Binding::Output],
            workgroups: [0; 3],
        })
    }
}
