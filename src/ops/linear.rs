//! A linear map of the channels of every pixel, with bias, activation and residual fused into its store.
//!
//! `src` is `[in, h, w]`, `weight` is `[out, in]` or, from a 1x1 convolution, `[out, in, 1, 1]`, `bias` and PReLU's
//! `slope` are `[out]`, `residual` is the output's size. The result is `[out, h, w]`, as `torch.nn.functional.linear`
//! over the channel axis.

use super::activation::{self, Function};
use super::around::Around;
use super::blocks::{self, Blocks, block_shaders};
use super::conv2d::{Conv2d, Residual};
use super::dispatch::{self, Binding, Dispatch, Packed, Shader, Traits, params};
use super::matrices::MatrixConvolution;
use super::{Axis, Io, Operator, Param, extents, to_u32};
use crate::error::{Error, Result};
use crate::tensor::LANES;

/// The operator.
///
/// Parameters: `weight`; `bias` if [`bias`](Self::bias); the slopes if the activation is PReLU. Inputs: `src`, then the
/// residual if there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Function applied to the result.
    pub activation: Function,
    /// Whether and where a second input is added.
    pub residual: Option<Residual>,
}

/// Bias, then slopes, each padded to whole groups: what a store needs, in one buffer.
pub(crate) fn pack_epilogue(bias: Option<&Param>, slopes: Option<&Param>, channels: usize) -> Result<Vec<f32>> {
    let padded = channels.next_multiple_of(LANES);
    let mut epilogue = vec![0.0; 2 * padded];
    if let Some(bias) = bias {
        bias.expect(&[channels])?;
        epilogue[..channels].copy_from_slice(&bias.data);
    }
    if let Some(slopes) = slopes {
        epilogue[padded..].copy_from_slice(&activation::pack_slopes(slopes, channels)?);
    }
    Ok(epilogue)
}

params! {
    struct Params {
        pixels: u32, src_groups: u32, dst_groups: u32,
        group: u32, block: u32, row: u32,
        matrix: u32, matrix_pixels: u32, line: u32,
    }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &LIST;

block_shaders!(
    LIST,
    VARIANTS,
    "linear",
    Params::FIELDS,
    [dispatch::ACTIVATION, dispatch::LANES, dispatch::SOURCE, dispatch::STORE]
);

/// Pixels that eight neighbouring invocations compute together: those of one matrix are a multiple of it.
pub(super) const RUN: usize = 64;

/// Products of `matrices` matrices in [`Blocks::stored`], each with `pixels` pixels of its own, a multiple of [`RUN`]. `bindings`
/// are the source, zeros for a bias, and the result.
pub(super) fn products(
    blocks: &Blocks,
    matrices: usize,
    pixels: usize,
    [src_groups, dst_groups]: [u32; 2],
    [source, zeros, result]: [Binding; 3],
) -> Result<Dispatch> {
    let matrix_pixels = to_u32(pixels)?;
    let pixels = to_u32(matrices * pixels)?;
    let constants = constants(&Around::default(), None, Function::Identity);
    blocks.products(&VARIANTS, matrices, pixels.div_ceil(blocks::PIXELS), |shader, [block, matrix], row, weight| {
        Dispatch {
            shader,
            constants: constants.clone(),
            params: Params {
                pixels,
                src_groups,
                dst_groups,
                group: 0,
                block,
                row,
                matrix,
                matrix_pixels,
                line: pixels,
            }
            .bytes(),
            bindings: vec![source, weight, zeros, source, source, source, result],
            workgroups: [0; 3],
        }
    })
}

/// The overrides of `linear.wgsl`.
fn constants(around: &Around, residual: Option<Residual>, activation: Function) -> Vec<(&'static str, f64)> {
    around.source_constants().into_iter().chain(around.store_constants(residual, activation)).collect()
}

impl Linear {
    /// The same map as a convolution of one tap.
    pub(crate) fn as_conv(&self) -> Conv2d {
        Conv2d {
            bias: self.bias,
            activation: self.activation,
            residual: self.residual,
            ..Conv2d::new(self.in_channels, self.out_channels, [1, 1])
        }
    }

    /// As a convolution of one tap.
    fn with_matrices(&self, traits: Traits) -> Option<MatrixConvolution> {
        MatrixConvolution::new(traits, &self.as_conv())
    }

    fn blocks(&self, gate: bool) -> Blocks {
        let blocks = Blocks::new(self.in_channels.next_multiple_of(LANES), self.out_channels);
        if gate { blocks.paired() } else { blocks }
    }

    /// As [`Operator::pack_device`]; with a gate the channels are those of [`Around::gate`].
    pub(super) fn pack_around(&self, params: &[Param], traits: Traits, gate: bool) -> Result<Vec<Packed>> {
        let mut packed = self.pack(params)?.into_iter();
        let matrix = packed.next().unwrap_or_default();
        let weight = match self.with_matrices(traits) {
            Some(convolution) => convolution.pack(&matrix),
            None => self.blocks(gate).pack(&matrix, |row| row),
        };
        Ok(std::iter::once(weight).chain(packed.map(Packed::Stored)).collect())
    }

    /// As [`Operator::dispatches`], with what is around the sums; `io` has their channels.
    pub(super) fn dispatches_around(&self, io: &Io, traits: Traits, around: &Around) -> Result<Vec<Dispatch>> {
        if let Some(convolution) = self.with_matrices(traits) {
            return Ok(vec![convolution.dispatch(io, around, self.residual, self.activation)?]);
        }
        let pixels = to_u32(io.output.shape.pixels()?)?;
        let src_groups = to_u32(io.inputs[0].shape.channel_groups())?;
        let [line, _, dst_groups] = extents(io.output.shape)?;
        let constants = constants(around, self.residual, self.activation);
        let runs = pixels.div_ceil(blocks::PIXELS);
        self.blocks(around.gate.is_some()).dispatches(&VARIANTS, runs, 1, |shader, group, block, row, weight| {
            Dispatch {
                shader,
                constants: constants.clone(),
                params: Params {
                    pixels,
                    src_groups,
                    dst_groups,
                    group,
                    block,
                    row,
                    matrix: 0,
                    matrix_pixels: pixels,
                    line,
                }
                .bytes(),
                bindings: around.bindings(weight, self.residual),
                workgroups: [0; 3],
            }
        })
    }
}

impl Operator for Linear {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        let fits = match (self.residual, inputs) {
            (None, [src]) => *src == self.in_channels,
            (Some(_), [src, residual]) => *src == self.in_channels && *residual == self.out_channels,
            _ => false,
        };
        if !fits || self.in_channels == 0 || self.out_channels == 0 {
            return Err(Error::shape(format!(
                "linear from {} to {} channels cannot take inputs of {inputs:?} channels",
                self.in_channels, self.out_channels
            )));
        }
        Ok(self.out_channels)
    }

    fn size(&self, _: Axis, inputs: &[usize]) -> Result<usize> {
        match inputs.get(1) {
            Some(&residual) if residual != inputs[0] => {
                Err(Error::shape(format!("linear: a residual of {residual} pixels does not fit {} pixels", inputs[0])))
            }
            _ => Ok(inputs[0]),
        }
    }

    fn pack(&self, params: &[Param]) -> Result<Vec<Vec<f32>>> {
        let mut params = params.iter();
        let mut next = |what: &str| params.next().ok_or_else(|| Error::Weights(format!("linear: no {what}")));
        let weight = next("weight")?;
        if weight.shape != [self.out_channels, self.in_channels, 1, 1] {
            weight.expect(&[self.out_channels, self.in_channels])?;
        }
        let bias = if self.bias { Some(next("bias")?) } else { None };
        let slopes = if self.activation == Function::PRelu { Some(next("PReLU slopes")?) } else { None };

        // The matrix [padded_in, padded_out].
        let padded_out = self.out_channels.next_multiple_of(LANES);
        let mut packed = vec![0.0; self.in_channels.next_multiple_of(LANES) * padded_out];
        for (out, row) in weight.data.chunks_exact(self.in_channels).enumerate() {
            for (inner, value) in row.iter().enumerate() {
                packed[inner * padded_out + out] = *value;
            }
        }
        Ok(vec![packed, pack_epilogue(bias, slopes, self.out_channels)?])
    }

    fn pack_device(&self, params: &[Param], traits: Traits) -> Result<Vec<Packed>> {
        self.pack_around(params, traits, false)
    }

    fn flops(&self, io: &Io) -> u64 {
        let shape = io.output.shape;
        let store = u64::from(self.bias) + u64::from(self.residual.is_some()) + self.activation.flops();
        (shape.channels * shape.height * shape.width) as u64 * (2 * self.in_channels as u64 + store)
    }

    fn dispatches(&self, io: &Io, traits: Traits) -> Result<Vec<Dispatch>> {
        self.dispatches_around(io, traits, &Around::default())
    }
}
