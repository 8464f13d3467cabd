//! Convolutions as products of matrices that the lanes of a subgroup hold together (`conv2d_matrix.wgsl`).

use super::activation::Function;
use super::around::Around;
use super::conv2d::Residual;
use super::dispatch::{self, Binding, Dispatch, Library, Matrices, Packed, Shader, Traits, library, params};
use super::{Border, Io, extents, to_u32};
use crate::error::Result;
use crate::tensor::{LANES, Shape};

/// Rows of pixels of a workgroup.
const ROWS: usize = 8;
/// The most matrices of output channels that a subgroup sums.
const MOST_COLUMNS: usize = 5;
/// The most matrices of input channels that are in workgroup memory at once.
const MOST_DEPTH: usize = 4;
/// Groups to spare from row to row there.
const SPARE: usize = 2;
/// How far taps may lie apart, on each axis: what the kernel's workgroup memory holds.
const MOST_APART: usize = 4;

params! {
    struct Params {
        src_width: u32, src_height: u32, src_groups: u32,
        dst_width: u32, dst_height: u32, dst_groups: u32,
        pad_left: i32, pad_top: i32,
        src_pixels: u32, dst_pixels: u32,
    }
}

/// The kernel for either size of matrices.
pub(super) const SHADERS: [&Shader; 2] = [&EIGHT, &SIXTEEN];

static EIGHT: Shader = shader(&[
    library!("matrix8"),
    dispatch::ACTIVATION,
    dispatch::BORDER,
    dispatch::LANES,
    dispatch::SOURCE,
    dispatch::STORE,
]);
static SIXTEEN: Shader = shader(&[
    library!("matrix16"),
    dispatch::ACTIVATION,
    dispatch::BORDER,
    dispatch::LANES,
    dispatch::SOURCE,
    dispatch::STORE,
]);

const fn shader(library: &'static [Library]) -> Shader {
    let source = include_str!("../../shaders/conv2d_matrix.wgsl");
    Shader { name: "conv2d_matrix", source, library, params: Params::FIELDS }
}

/// A convolution with a step of one, as the kernel needs to know it. Pairs are `[vertical, horizontal]`.
pub(super) struct MatrixConvolution {
    matrices: Matrices,
    in_channels: usize,
    out_channels: usize,
    kernel: [usize; 2],
    dilation: [usize; 2],
    /// Rows above and columns before the image.
    padding: [usize; 2],
    border: Border,
}

impl MatrixConvolution {
    /// `None` if the device has no such matrices or another kernel is better: one with few channels leaves most of a
    /// matrix empty.
    pub(super) fn new(
        traits: Traits,
        [in_channels, out_channels]: [usize; 2],
        kernel: [usize; 2],
        dilation: [usize; 2],
        padding: [usize; 2],
        border: Border,
    ) -> Option<Self> {
        let matrices = traits.matrices?;
        let near = kernel.iter().zip(dilation).all(|(kernel, dilation)| (kernel - 1) * dilation <= MOST_APART);
        let wide = in_channels.min(out_channels) >= matrices.edge();
        (near && wide).then_some(Self { matrices, in_channels, out_channels, kernel, dilation, padding, border })
    }

    /// Matrices of input channels, and those that are in workgroup memory at once: as few copies as possible where one tap is all
    /// that is done with what is copied.
    fn chunks(&self) -> (usize, usize) {
        let all = self.in_channels.div_ceil(self.matrices.edge());
        let most = if self.kernel == [1, 1] { MOST_DEPTH } else { 1 };
        let most = (1..=most).rev().find(|&depth| self.bytes(depth, 1) <= self.matrices.workgroup_bytes()).unwrap_or(1);
        let copies = all.div_ceil(most);
        let depth = all.div_ceil(copies);
        (copies * depth, depth)
    }

    /// Workgroups for all output channels, and the matrices of each.
    fn columns(&self) -> (usize, usize) {
        let all = self.out_channels.div_ceil(self.matrices.edge());
        let workgroups = all.div_ceil(MOST_COLUMNS);
        (workgroups, all.div_ceil(workgroups))
    }

    /// Taps whose weights are in workgroup memory at once: all, those of a row, or one.
    fn taps(&self, depth: usize) -> usize {
        let [height, width] = self.kernel;
        [height * width, width]
            .into_iter()
            .find(|&taps| self.bytes(depth, taps) <= self.matrices.workgroup_bytes())
            .unwrap_or(1)
    }

    /// Workgroup memory of the kernel.
    fn bytes(&self, depth: usize, taps: usize) -> usize {
        let edge = self.matrices.edge();
        let groups = edge / LANES;
        let [high, wide] = [0, 1].map(|axis| (self.kernel[axis] - 1) * self.dilation[axis]);
        let pixels = (ROWS + high) * (edge + wide) * (depth * groups + SPARE);
        let weights = taps * depth * edge * (self.columns().1 * groups + SPARE);
        let [half, single] = [2, 4].map(|bytes| bytes * LANES);
        half * (pixels + weights) + single * ROWS * edge * groups
    }

    /// Lays `matrix`, `[kh * kw * padded_in, padded_out]`, out as `[in / edge][kh * kw][edge][out]`; what is beyond the channels is
    /// zero.
    pub(super) fn pack(&self, matrix: &[f32]) -> Packed {
        let edge = self.matrices.edge();
        let taps = self.kernel[0] * self.kernel[1];
        let padded_in = self.in_channels.next_multiple_of(LANES);
        let padded_out = self.out_channels.next_multiple_of(LANES);
        let (workgroups, columns) = self.columns();
        let across = workgroups * columns * edge;
        let mut packed = vec![0.0; self.chunks().0 * taps * edge * across];
        for (index, row) in packed.chunks_exact_mut(across).enumerate() {
            let (chunk, tap, inner) = (index / (taps * edge), index / edge % taps, index % edge);
            let channel = chunk * edge + inner;
            if channel < padded_in {
                row[..padded_out].copy_from_slice(&matrix[(tap * padded_in + channel) * padded_out..][..padded_out]);
            }
        }
        Packed::Stored(packed)
    }

    /// The launch, with what is around the sums.
    pub(super) fn dispatch(
        &self,
        io: &Io,
        around: &Around,
        residual: Option<Residual>,
        activation: Function,
    ) -> Result<Dispatch> {
        let (mut src, mut dst) = (io.inputs[0].shape, io.output.shape);
        let [src_pixels, dst_pixels] = [to_u32(src.pixels()?)?, to_u32(dst.pixels()?)?];
        if self.kernel == [1, 1] && [src.height, src.width] == [dst.height, dst.width] {
            // One line of pixels: a narrow image leaves no part of a matrix empty.
            let width = self.matrices.edge();
            let height = (dst_pixels as usize).div_ceil(width);
            (src, dst) = (Shape::new(src.channels, height, width), Shape::new(dst.channels, height, width));
        }
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
            src_pixels,
            dst_pixels,
        };
        let (workgroups, columns) = self.columns();
        let (_, depth) = self.chunks();
        let mut constants = vec![
            ("KERNEL_HEIGHT", self.kernel[0] as f64),
            ("KERNEL_WIDTH", self.kernel[1] as f64),
            ("DILATION_Y", self.dilation[0] as f64),
            ("DILATION_X", self.dilation[1] as f64),
            ("BORDER", f64::from(self.border as u32)),
            ("COLUMNS", columns as f64),
            ("DEPTH", depth as f64),
            ("TAPS", self.taps(depth) as f64),
        ];
        constants.extend(around.source_constants());
        constants.extend(around.store_constants(residual, activation));
        Ok(Dispatch {
            shader: match self.matrices {
                Matrices::Eight => &EIGHT,
                Matrices::Sixteen => &SIXTEEN,
            },
            constants,
            params: params.bytes(),
            bindings: around.bindings(Binding::Weight(0), residual),
            workgroups: [
                to_u32(dst.width.div_ceil(self.matrices.edge()))?,
                to_u32(dst.height.div_ceil(ROWS))?,
                to_u32(workgroups)?,
            ],
        })
    }
}
