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
/// The most matrices of output channels that a workgroup sums.
const MOST_COLUMNS: usize = 4;
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

    /// Matrices of input channels.
    fn chunks(&self) -> usize {
        self.in_channels.div_ceil(self.matrices.edge())
    }

    /// Workgroups for all output channels, and the matrices of each.
    fn columns(&self) -> (usize, usize) {
        let all = self.out_channels.div_ceil(self.matrices.edge());
        let workgroups = all.div_ceil(MOST_COLUMNS);
        (workgroups, all.div_ceil(workgroups))
    }

    /// Cuts `matrix`, `[kh * kw * padded_in, padded_out]`, into matrices `[in][kh * kw][out]`; what is beyond the channels
    /// is zero.
    pub(super) fn pack(&self, matrix: &[f32]) -> Packed {
        let edge = self.matrices.edge();
        let taps = self.kernel[0] * self.kernel[1];
        let padded_in = self.in_channels.next_multiple_of(LANES);
        let padded_out = self.out_channels.next_multiple_of(LANES);
        let (workgroups, columns) = self.columns();
        let across = workgroups * columns;
        let mut packed = vec![0.0; self.chunks() * taps * across * edge * edge];
        for (index, row) in packed.chunks_exact_mut(edge).enumerate() {
            let (place, inner) = (index / edge, index % edge);
            let (chunk, tap, column) = (place / (taps * across), place / across % taps, place % across);
            let (channel, start) = (chunk * edge + inner, column * edge);
            if channel < padded_in && start < padded_out {
                let end = (start + edge).min(padded_out);
                let values = &matrix[(tap * padded_in + channel) * padded_out..][start..end];
                row[..values.len()].copy_from_slice(values);
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
        let mut constants = vec![
            ("KERNEL_HEIGHT", self.kernel[0] as f64),
            ("KERNEL_WIDTH", self.kernel[1] as f64),
            ("DILATION_Y", self.dilation[0] as f64),
            ("DILATION_X", self.dilation[1] as f64),
            ("BORDER", f64::from(self.border as u32)),
            ("COLUMNS", columns as f64),
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
