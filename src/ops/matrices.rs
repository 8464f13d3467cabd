//! Convolutions as products of matrices that the lanes of a subgroup hold together (`conv2d_matrix.wgsl`).

use super::activation::Function;
use super::around::Around;
use super::conv2d::{Conv2d, Residual};
use super::dispatch::{self, Binding, Dispatch, Library, Matrices, Packed, Shader, Traits, library, params};
use super::{Border, Io, extents, to_u32};
use crate::error::Result;
use crate::tensor::{LANES, Shape};

/// Rows of pixels of a subgroup.
const ROWS: usize = 2;
/// The most subgroups of a workgroup.
const MOST_SUBGROUPS: usize = 8;
/// The most matrices of output channels that a subgroup sums.
const MOST_COLUMNS: usize = 5;
/// The most matrices of input channels that are in workgroup memory at once.
const MOST_DEPTH: usize = 4;
/// Groups to spare from row to row there.
const SPARE: usize = 2;
/// How far taps may lie apart, on each axis.
const MOST_APART: usize = 4;
/// The largest step.
const MOST_STRIDE: usize = 2;
/// The fewest channels: with fewer most of a matrix is empty.
const FEWEST_CHANNELS: usize = 8;
/// Workgroups that fill a large graphics card well enough; where there would be fewer they are made smaller. (On an H200, 132 cores,
/// 96 workgroups of half as many columns were faster than 48, and 192 of half as many subgroups no faster than 96.)
const MANY_WORKGROUPS: usize = 90;

params! {
    struct Params {
        src_width: u32, src_height: u32, src_groups: u32,
        dst_width: u32, dst_height: u32, dst_groups: u32,
        pad_left: i32, pad_top: i32,
        src_pixels: u32, dst_pixels: u32, weight_groups: u32, line: u32,
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

/// A convolution, as the kernel needs to know it. Pairs are `[vertical, horizontal]`.
pub(super) struct MatrixConvolution {
    matrices: Matrices,
    in_channels: usize,
    out_channels: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// Rows above and columns before the image.
    padding: [usize; 2],
    border: Border,
}

/// What a workgroup computes: the kernel's overrides.
#[derive(Clone, Copy, Debug)]
struct Tile {
    subgroups: usize,
    /// Matrices of output channels.
    columns: usize,
    /// Matrices of input channels in workgroup memory.
    depth: usize,
    /// Taps whose weights are there.
    taps: usize,
}

impl MatrixConvolution {
    /// `None` if the device has no such matrices or another kernel is better. `conv` has no groups.
    pub(super) fn new(traits: Traits, conv: &Conv2d) -> Option<Self> {
        let near =
            conv.kernel.iter().zip(conv.dilation).all(|(kernel, dilation)| (kernel - 1) * dilation <= MOST_APART);
        let wide = conv.in_channels.min(conv.out_channels) >= FEWEST_CHANNELS;
        let suits = near && wide && conv.stride.iter().all(|&stride| stride <= MOST_STRIDE);
        suits.then_some(Self {
            matrices: traits.matrices?,
            in_channels: conv.in_channels,
            out_channels: conv.out_channels,
            kernel: conv.kernel,
            stride: conv.stride,
            dilation: conv.dilation,
            padding: [conv.padding[0][0], conv.padding[1][0]],
            border: conv.border,
        })
    }

    /// Matrices of input channels, and those that are in workgroup memory at once: as few copies as possible where one tap is all
    /// that is done with what is copied.
    fn chunks(&self) -> (usize, usize) {
        let all = self.in_channels.div_ceil(self.matrices.edge());
        let largest = Tile { subgroups: MOST_SUBGROUPS, columns: self.columns()[0], depth: 1, taps: 1 };
        let fits = |&depth: &usize| self.fits(Tile { depth, ..largest });
        let most = if self.kernel == [1, 1] { (1..=MOST_DEPTH).rev().find(fits).unwrap_or(1) } else { 1 };
        let copies = all.div_ceil(most);
        let depth = all.div_ceil(copies);
        (copies * depth, depth)
    }

    /// Matrices of output channels, as many as make whole workgroups.
    fn across(&self) -> usize {
        let all = self.out_channels.div_ceil(self.matrices.edge());
        (all..)
            .find(|across| (MOST_COLUMNS - 2..=MOST_COLUMNS).any(|columns| across % columns == 0 || *across < columns))
            .unwrap_or(all)
    }

    /// How many of them a workgroup may compute, the most first.
    fn columns(&self) -> Vec<usize> {
        let across = self.across();
        (1..=MOST_COLUMNS).rev().filter(|columns| across.is_multiple_of(*columns)).collect()
    }

    /// The largest workgroup of which `rows` x `columns` matrices of pixels make enough.
    fn tile(&self, rows: usize, columns: usize) -> Tile {
        let (_, depth) = self.chunks();
        let [height, width] = self.kernel;
        let mut tiles = Vec::new();
        for subgroups in [MOST_SUBGROUPS, MOST_SUBGROUPS / 2, MOST_SUBGROUPS / 4] {
            for columns in self.columns() {
                let taps = [height * width, width, 1].map(|taps| Tile { subgroups, columns, depth, taps });
                tiles.extend(taps.into_iter().find(|&tile| self.fits(tile)));
            }
        }
        let workgroups = |tile: &Tile| rows.div_ceil(ROWS * tile.subgroups) * columns * (self.across() / tile.columns);
        let enough = tiles.iter().position(|tile| workgroups(tile) >= MANY_WORKGROUPS).unwrap_or(tiles.len() - 1);
        tiles[enough]
    }

    /// Whether there is enough workgroup memory for a tile.
    fn fits(&self, tile: Tile) -> bool {
        let edge = self.matrices.edge();
        let groups = edge / LANES;
        let cells = |axis: usize, results: usize| {
            (results - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
        };
        let pixels = cells(0, ROWS * tile.subgroups) * cells(1, edge) * (tile.depth * groups + SPARE);
        let weights = tile.taps * tile.depth * edge * (tile.columns * groups + SPARE);
        let [half, single] = [2, 4].map(|bytes| bytes * LANES);
        half * (pixels + weights) + single * tile.subgroups * edge * groups <= self.matrices.workgroup_bytes()
    }

    /// Lays `matrix`, `[kh * kw * padded_in, padded_out]`, out as `[in / edge][kh * kw][edge][out]`; what is beyond the channels is
    /// zero.
    pub(super) fn pack(&self, matrix: &[f32]) -> Packed {
        let edge = self.matrices.edge();
        let taps = self.kernel[0] * self.kernel[1];
        let padded_in = self.in_channels.next_multiple_of(LANES);
        let padded_out = self.out_channels.next_multiple_of(LANES);
        let across = self.across() * edge;
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
        let line = to_u32(dst.width)?;
        let [src_pixels, dst_pixels] = [to_u32(src.pixels()?)?, to_u32(dst.pixels()?)?];
        if self.kernel == [1, 1] && self.stride == [1, 1] && [src.height, src.width] == [dst.height, dst.width] {
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
            weight_groups: to_u32(self.across() * self.matrices.edge() / LANES)?,
            line,
        };
        let edge = self.matrices.edge();
        let columns = dst.width.div_ceil(edge);
        let tile = self.tile(dst.height, columns);
        let mut constants = vec![
            ("KERNEL_HEIGHT", self.kernel[0] as f64),
            ("KERNEL_WIDTH", self.kernel[1] as f64),
            ("STRIDE_Y", self.stride[0] as f64),
            ("STRIDE_X", self.stride[1] as f64),
            ("DILATION_Y", self.dilation[0] as f64),
            ("DILATION_X", self.dilation[1] as f64),
            ("BORDER", f64::from(self.border as u32)),
            ("SUBGROUPS", tile.subgroups as f64),
            ("COLUMNS", tile.columns as f64),
            ("DEPTH", tile.depth as f64),
            ("TAPS", tile.taps as f64),
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
                to_u32(columns)?,
                to_u32(dst.height.div_ceil(ROWS * tile.subgroups))?,
                to_u32(self.across() / tile.columns)?,
            ],
        })
    }
}
