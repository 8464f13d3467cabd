//! 2-D convolution with bias, activation and residual fused into its store.
//!
//! `src` is `[in, h, w]`, `weight` is `[out, in / groups, kh, kw]`, `bias` and PReLU's `slope` are `[out]`, `residual` is
//! the output's size. The result is `[out, h', w']` with
//! `h' = (h + pad_top + pad_bottom - dilation * (kh - 1) - 1) / stride + 1`, as `torch.nn.functional.conv2d` after
//! `torch.nn.functional.pad`.

use super::activation::Function;
use super::around::Around;
use super::blocks::{self, Blocks, block_shaders};
use super::dispatch::{self, Binding, Dispatch, Packed, Shader, Traits, WORKGROUP, params};
use super::linear::pack_epilogue;
use super::matrices::{self, MatrixConvolution};
use super::winograd;
use super::{Axis, Border, Io, Operator, Param, Scale, Span, extents, to_u32};
use crate::error::{Error, Result};
use crate::tensor::LANES;

/// Where a residual input is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// `f(conv + residual)`.
    BeforeActivation,
    /// `f(conv) + residual`.
    AfterActivation,
}

/// The operator. Pairs are `[vertical, horizontal]`.
///
/// Parameters: `weight`; `bias` if [`bias`](Self::bias); the slopes if the activation is PReLU. Inputs: `src`, then the
/// residual if there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2d {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Kernel size.
    pub kernel: [usize; 2],
    /// Step between outputs.
    pub stride: [usize; 2],
    /// Padding before and after, `[[top, bottom], [left, right]]`.
    pub padding: [[usize; 2]; 2],
    /// What the padding is made of.
    pub border: Border,
    /// Distance between the kernel's elements.
    pub dilation: [usize; 2],
    /// Number of channel groups that do not see each other.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Function applied to the result.
    pub activation: Function,
    /// Whether and where a second input is added.
    pub residual: Option<Residual>,
}

impl Conv2d {
    /// A convolution of stride 1 without padding, bias or activation.
    pub fn new(in_channels: usize, out_channels: usize, kernel: [usize; 2]) -> Self {
        Self {
            in_channels,
            out_channels,
            kernel,
            stride: [1, 1],
            padding: [[0, 0], [0, 0]],
            border: Border::Zero,
            dilation: [1, 1],
            groups: 1,
            bias: false,
            activation: Function::Identity,
            residual: None,
        }
    }

    /// A square kernel of odd `size` padded with `border` so that the image's size stays.
    pub fn same(in_channels: usize, out_channels: usize, size: usize, border: Border) -> Self {
        let padding = [[size / 2, size / 2]; 2];
        Self { padding, border, ..Self::new(in_channels, out_channels, [size, size]) }
    }

    /// True if every channel is convolved by itself: a kernel of its own serves that case.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.in_channels && self.groups == self.out_channels && self.groups > 1
    }

    /// Length of the kernel on one axis, its gaps included.
    fn extent(&self, axis: Axis) -> usize {
        let axis = axis as usize;
        self.dilation[axis] * (self.kernel[axis] - 1) + 1
    }

    fn check(&self) -> Result<()> {
        let positive = [self.in_channels, self.out_channels, self.groups];
        let sizes = [self.kernel, self.stride, self.dilation].concat();
        if positive.iter().chain(&sizes).any(|&value| value == 0) {
            return Err(Error::shape("convolution: channels, groups, kernel, stride and dilation must be at least 1"));
        }
        if !self.in_channels.is_multiple_of(self.groups) || !self.out_channels.is_multiple_of(self.groups) {
            return Err(Error::shape(format!(
                "convolution: {} and {} channels do not divide into {} groups",
                self.in_channels, self.out_channels, self.groups
            )));
        }
        Ok(())
    }

    /// Lays the weight out as the matrix `[kh * kw * padded_in, padded_out]`, or `[kh * kw, padded_channels]` if
    /// depthwise. Groups become blocks of a dense matrix.
    fn pack_weight(&self, weight: &[f32]) -> Vec<f32> {
        let [kernel_height, kernel_width] = self.kernel;
        let taps = kernel_height * kernel_width;
        let group_in = self.in_channels / self.groups;
        let group_out = self.out_channels / self.groups;
        let padded_out = self.out_channels.next_multiple_of(LANES);
        let padded_in = if self.is_depthwise() { 1 } else { self.in_channels.next_multiple_of(LANES) };
        let mut packed = vec![0.0; taps * padded_in * padded_out];
        for out in 0..self.out_channels {
            for inner in 0..group_in {
                let row = if self.is_depthwise() { 0 } else { out / group_out * group_in + inner };
                for tap in 0..taps {
                    packed[(tap * padded_in + row) * padded_out + out] = weight[(out * group_in + inner) * taps + tap];
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
pub const SHADERS: &[&Shader] = &[
    DIRECT[0],
    DIRECT[1],
    DIRECT[2],
    DIRECT[3],
    DIRECT[4],
    DIRECT[5],
    DIRECT[6],
    DIRECT[7],
    ROW[0],
    ROW[1],
    ROW[2],
    ROW[3],
    ROW[4],
    ROW[5],
    ROW[6],
    ROW[7],
    SLIDE[0],
    SLIDE[1],
    SLIDE[2],
    SLIDE[3],
    SLIDE[4],
    SLIDE[5],
    SLIDE[6],
    SLIDE[7],
    &DEPTHWISE,
    matrices::SHADERS[0],
    matrices::SHADERS[1],
    winograd::SHADERS[0],
    winograd::SHADERS[1],
];

block_shaders!(
    DIRECT,
    DIRECT_VARIANTS,
    "conv2d",
    Params::FIELDS,
    [dispatch::ACTIVATION, dispatch::BORDER, dispatch::LANES, dispatch::SOURCE, dispatch::STORE]
);
block_shaders!(
    SLIDE,
    SLIDE_VARIANTS,
    "conv2d_slide",
    Params::FIELDS,
    [dispatch::ACTIVATION, dispatch::BORDER, dispatch::LANES, dispatch::SOURCE, dispatch::STORE]
);
block_shaders!(
    ROW,
    ROW_VARIANTS,
    "conv2d_row",
    Params::FIELDS,
    [dispatch::ACTIVATION, dispatch::BORDER, dispatch::LANES, dispatch::SOURCE, dispatch::STORE]
);

static DEPTHWISE: Shader = Shader {
    name: "conv2d_depthwise",
    source: include_str!("../../shaders/conv2d_depthwise.wgsl"),
    library: &[dispatch::ACTIVATION, dispatch::BORDER, dispatch::LANES, dispatch::STORE],
    params: Params::FIELDS,
};

/// How the kernels share pixels between a row's taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// Every tap reads its own.
    None,
    /// Three taps side by side, written out.
    Three,
    /// Any number of taps side by side.
    Slide,
}

impl Conv2d {
    fn sharing(&self) -> Sharing {
        match (self.kernel[1], self.stride[1], self.dilation[1]) {
            _ if self.is_depthwise() => Sharing::None,
            (3, 1, 1) => Sharing::Three,
            (width, 1, 1) if width > 3 => Sharing::Slide,
            _ => Sharing::None,
        }
    }

    fn with_matrices(&self, traits: Traits) -> Option<MatrixConvolution> {
        // Groups are blocks of a matrix that is mostly zero.
        (self.groups == 1).then(|| MatrixConvolution::new(traits, self)).flatten()
    }

    fn blocks(&self, gate: bool) -> Blocks {
        let rows = self.kernel[0] * self.kernel[1] * self.in_channels.next_multiple_of(LANES);
        let blocks = Blocks::new(rows, self.out_channels);
        if gate { blocks.paired() } else { blocks }
    }

    /// As [`Operator::pack_device`]; with a gate the channels are those of [`Around::gate`].
    pub(super) fn pack_around(&self, params: &[Param], traits: Traits, gate: bool) -> Result<Vec<Packed>> {
        let mut packed = self.pack(params)?.into_iter();
        let matrix = packed.next().unwrap_or_default();
        let weight = if self.is_depthwise() {
            Packed::Stored(matrix)
        } else if let Some(convolution) = self.with_matrices(traits) {
            convolution.pack(&matrix)
        } else if winograd::suits(self, traits) {
            let rest = packed.map(Packed::Stored).chain([winograd::no_bias(self)]);
            return Ok(std::iter::once(winograd::pack(self, &matrix)).chain(rest).collect());
        } else if self.sharing() == Sharing::None {
            self.blocks(gate).pack(&matrix, |row| row)
        } else {
            // From [ky][i][kx][lane] to [ky][kx][i][lane].
            let (groups, width) = (self.in_channels.div_ceil(LANES), self.kernel[1]);
            self.blocks(gate).pack(&matrix, |row| {
                let (line, kx, lane) = (row / (width * LANES), row / LANES % width, row % LANES);
                ((line / groups * width + kx) * groups + line % groups) * LANES + lane
            })
        };
        Ok(std::iter::once(weight).chain(packed.map(Packed::Stored)).collect())
    }

    /// As [`Operator::dispatches`], with what is around the sums; `io` has their channels.
    pub(super) fn dispatches_around(&self, io: &Io, traits: Traits, around: &Around) -> Result<Vec<Dispatch>> {
        if let Some(convolution) = self.with_matrices(traits) {
            return Ok(vec![convolution.dispatch(io, around, self.residual, self.activation)?]);
        }
        if winograd::suits(self, traits) {
            return winograd::dispatches(self, io, around);
        }
        let (src, dst) = (io.inputs[0].shape, io.output.shape);
        let [src_width, src_height, src_groups] = extents(src)?;
        let [dst_width, dst_height, dst_groups] = extents(dst)?;
        let params = Params {
            src_width,
            src_height,
            src_groups,
            dst_width,
            dst_height,
            dst_groups,
            pad_left: to_u32(self.padding[1][0])? as i32,
            pad_top: to_u32(self.padding[0][0])? as i32,
            group: 0,
            block: 0,
            row: 0,
            line: dst_width,
        };
        let constants = self.constants(around);
        let dispatch = |shader, params: Params, weight| Dispatch {
            shader,
            constants: constants.clone(),
            params: params.bytes(),
            bindings: around.bindings(weight, self.residual),
            workgroups: [0; 3],
        };
        if self.is_depthwise() {
            return Ok(vec![self.depthwise(params, around)]);
        }
        let variants = match self.sharing() {
            Sharing::None => &DIRECT_VARIANTS,
            Sharing::Three => &ROW_VARIANTS,
            Sharing::Slide => &SLIDE_VARIANTS,
        };
        let runs = to_u32(dst.width.div_ceil(blocks::PIXELS as usize) * dst.height)?;
        self.blocks(around.gate.is_some()).dispatches(variants, runs, 1, |shader, group, block, row, weight| {
            dispatch(shader, Params { group, block, row, ..params }, weight)
        })
    }

    /// The launch of the kernel without sums over channels.
    fn depthwise(&self, params: Params, around: &Around) -> Dispatch {
        let mut constants = vec![("HALF", around.gate.unwrap_or(0) as f64)];
        constants.extend(self.constants(around));
        let depth = if around.gate.is_some() { params.dst_groups / 2 } else { params.dst_groups };
        Dispatch {
            shader: &DEPTHWISE,
            constants,
            params: params.bytes(),
            bindings: vec![
                Binding::Input(0),
                Binding::Weight(0),
                Binding::Weight(1),
                around.residual(self.residual),
                Binding::Output,
            ],
            workgroups: [params.dst_width.div_ceil(WORKGROUP), params.dst_height.div_ceil(WORKGROUP), depth],
        }
    }

    fn constants(&self, around: &Around) -> Vec<(&'static str, f64)> {
        let mut constants = vec![
            ("KERNEL_HEIGHT", self.kernel[0] as f64),
            ("STRIDE_Y", self.stride[0] as f64),
            ("DILATION_Y", self.dilation[0] as f64),
            ("BORDER", f64::from(self.border as u32)),
        ];
        let width = ("KERNEL_WIDTH", self.kernel[1] as f64);
        match self.sharing() {
            Sharing::Slide => {
                constants.extend([width, ("IN_LANES", self.in_channels.min(LANES) as f64)]);
            }
            Sharing::Three => {}
            Sharing::None => {
                constants.extend([width, ("STRIDE_X", self.stride[1] as f64), ("DILATION_X", self.dilation[1] as f64)])
            }
        }
        if !self.is_depthwise() {
            constants.extend(around.source_constants());
        }
        constants.extend(around.store_constants(self.residual, self.activation));
        constants
    }
}

impl Operator for Conv2d {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        self.check()?;
        let fits = match (self.residual, inputs) {
            (None, [src]) => *src == self.in_channels,
            (Some(_), [src, residual]) => *src == self.in_channels && *residual == self.out_channels,
            _ => false,
        };
        if !fits {
            return Err(Error::shape(format!(
                "convolution from {} to {} channels cannot take inputs of {inputs:?} channels",
                self.in_channels, self.out_channels
            )));
        }
        Ok(self.out_channels)
    }

    fn size(&self, axis: Axis, inputs: &[usize]) -> Result<usize> {
        let [before, after] = self.padding[axis as usize];
        let padded = inputs[0] + before + after;
        let size = padded.checked_sub(self.extent(axis)).map(|rest| rest / self.stride[axis as usize] + 1);
        match (size, inputs.get(1)) {
            (Some(size), Some(&residual)) if residual != size => {
                Err(Error::shape(format!("convolution: a residual of {residual} pixels does not fit {size} pixels")))
            }
            (Some(size), _) if inputs[0] > 0 => Ok(size),
            _ => Err(Error::shape(format!(
                "convolution: a kernel of {} pixels exceeds the padded image of {padded}",
                self.extent(axis)
            ))),
        }
    }

    fn scale(&self, axis: Axis) -> Scale {
        Scale::new(1, self.stride[axis as usize])
    }

    fn reads(&self, axis: Axis, index: usize, wanted: Span, size: usize) -> Span {
        if index == 1 {
            return wanted;
        }
        let stride = self.stride[axis as usize] as i64;
        let before = self.padding[axis as usize][0] as i64;
        let start = wanted.start * stride - before;
        let end = (wanted.end - 1) * stride - before + self.extent(axis) as i64;
        self.border.widen(Span::new(start, end), size)
    }

    fn alignment(&self, axis: Axis) -> usize {
        self.stride[axis as usize]
    }

    fn pack(&self, params: &[Param]) -> Result<Vec<Vec<f32>>> {
        let mut params = params.iter();
        let mut next = |what: &str| params.next().ok_or_else(|| Error::Weights(format!("convolution: no {what}")));
        let weight = next("weight")?;
        weight.expect(&[self.out_channels, self.in_channels / self.groups, self.kernel[0], self.kernel[1]])?;

        let bias = if self.bias { Some(next("bias")?) } else { None };
        let slopes = if self.activation == Function::PRelu { Some(next("PReLU slopes")?) } else { None };
        let epilogue = pack_epilogue(bias, slopes, self.out_channels)?;
        Ok(vec![self.pack_weight(&weight.data), epilogue])
    }

    fn pack_device(&self, params: &[Param], traits: Traits) -> Result<Vec<Packed>> {
        self.pack_around(params, traits, false)
    }

    fn flops(&self, io: &Io) -> u64 {
        let shape = io.output.shape;
        let taps = self.kernel[0] * self.kernel[1] * self.in_channels / self.groups;
        let store = u64::from(self.bias) + u64::from(self.residual.is_some()) + self.activation.flops();
        (shape.channels * shape.height * shape.width) as u64 * (2 * taps as u64 + store)
    }

    fn parity(&self, io: &Io, traits: Traits) -> Option<[bool; 2]> {
        winograd::suits(self, traits).then(|| io.output.origin.map(|origin| origin % 2 == 1))
    }

    fn dispatches(&self, io: &Io, traits: Traits) -> Result<Vec<Dispatch>> {
        self.dispatches_around(io, traits, &Around::default())
    }
}
