//! 3x3 convolution by Winograd's F(2x2, 3x3): 16 multiplications for four outputs instead of 36.
//!
//! Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016: `A' [(G g G') * (B' d B)] A` for each 4x4
//! patch `d` of the input and kernel `g`. Patches lie on the grid of the whole image's even outputs. Of the four outputs
//! of a patch each is computed from its own nine inputs only, to the last bit, so that a tile needs no more of its
//! surroundings than with any other algorithm. (F(4x4, 3x3) saves more but does not have this property.)
//!
//! On a device it takes three launches for each band of patches: `winograd_source.wgsl`, the 16 products by `linear.wgsl`,
//! `winograd_result.wgsl`. What is between them lies in scratch memory.

use super::around::Around;
use super::blocks::Blocks;
use super::conv2d::Conv2d;
use super::dispatch::{self, Binding, Dispatch, Packed, Shader, Traits, WORKGROUP, params, scratch};
use super::{Io, extents, linear, to_u32};
use crate::error::Result;
use crate::tensor::LANES;

/// Elements of a transformed patch.
pub(crate) const POINTS: usize = 16;
/// With 64 it took as long as without on one processor and three quarters of the time on another. With 40 it would still be faster there,
/// but the scratch memory for it is half of what a small generator takes.
const LEAST_CHANNELS: usize = 64;
/// What every device lets a storage binding hold.
const MOST_WEIGHT_BYTES: usize = 128 << 20;
/// The elements of either scratch buffer that a band is made for, before its patches are filled up to whole runs, and unless it is a
/// single row of patches.
const SCRATCH_ELEMENTS: usize = 1 << 20;

/// Transforms a weight matrix `[9 * rows, columns]` of taps into 16 matrices `[rows, columns]`.
pub(crate) fn transform(weight: &[f32]) -> Vec<Vec<f32>> {
    let part = weight.len() / 9;
    let transform = |[a, b, c]: [f64; 3]| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
    let mut points = vec![vec![0.0f32; part]; POINTS];
    for at in 0..part {
        let tap = |y: usize, x: usize| f64::from(weight[(3 * y + x) * part + at]);
        let rows = [0, 1, 2].map(|y| transform([tap(y, 0), tap(y, 1), tap(y, 2)]));
        for x in 0..4 {
            for (y, value) in transform([rows[0][x], rows[1][x], rows[2][x]]).into_iter().enumerate() {
                points[4 * y + x][at] = value as f32;
            }
        }
    }
    points
}

params! {
    struct SourceParams {
        src_width: u32, src_height: u32, src_groups: u32,
        left: i32, top: i32,
        patches_x: u32, patches: u32, matrix: u32,
    }
}

params! {
    struct ResultParams {
        dst_width: u32, dst_height: u32, dst_groups: u32,
        left: u32, top: u32,
        patches_x: u32, patches: u32, matrix: u32, line: u32,
    }
}

/// The kernels before and after the products.
pub(super) const SHADERS: [&Shader; 2] = [&SOURCE, &RESULT];

static SOURCE: Shader = Shader {
    name: "winograd_source",
    source: include_str!("../../shaders/winograd_source.wgsl"),
    library: &[dispatch::BORDER, dispatch::LANES, dispatch::SOURCE],
    params: SourceParams::FIELDS,
};

static RESULT: Shader = Shader {
    name: "winograd_result",
    source: include_str!("../../shaders/winograd_result.wgsl"),
    library: &[dispatch::ACTIVATION, dispatch::STORE],
    params: ResultParams::FIELDS,
};

/// True if a device with `traits` computes `op` this way: Mesa's software driver, the only one on which it was measured, and not in
/// 16 bits, as the products would be rounded before they are added up.
pub(super) fn suits(op: &Conv2d, traits: Traits) -> bool {
    let weight_bytes = POINTS * op.in_channels.next_multiple_of(LANES) * op.out_channels.next_multiple_of(LANES) * 4;
    traits.eight_lanes
        && !traits.halves
        && weight_bytes <= MOST_WEIGHT_BYTES
        && op.kernel == [3, 3]
        && op.stride == [1, 1]
        && op.dilation == [1, 1]
        && op.groups == 1
        && op.in_channels.min(op.out_channels) >= LEAST_CHANNELS
}

fn blocks(op: &Conv2d) -> Blocks {
    Blocks::new(op.in_channels.next_multiple_of(LANES), op.out_channels).stored()
}

/// The weight matrix `[9 * padded_in, padded_out]` as 16 matrices in blocks.
pub(super) fn pack(op: &Conv2d, matrix: &[f32]) -> Packed {
    Packed::Blocks(transform(matrix).iter().flat_map(|point| blocks(op).cut(point, |row| row)).collect())
}

/// The products' bias, which they have none of.
pub(super) fn no_bias(op: &Conv2d) -> Packed {
    Packed::Stored(vec![0.0; 2 * op.out_channels.next_multiple_of(LANES)])
}

/// The launches. Weights are those of [`pack`], the epilogue, and those of
/// [`no_bias`].
pub(super) fn dispatches(op: &Conv2d, io: &Io, around: &Around) -> Result<Vec<Dispatch>> {
    let (src, dst) = (io.inputs[0].shape, io.output.shape);
    let [src_width, src_height, src_groups] = extents(src)?;
    let [dst_width, dst_height, dst_groups] = extents(dst)?;
    let store = around.store_constants(op.residual, op.activation);
    let source: Vec<_> =
        [("BORDER", f64::from(op.border as u32))].into_iter().chain(around.source_constants()).collect();
    let [extra, statistics] = around.source_bindings();
    // Outputs before the tile's own that complete its first patches.
    let [skip_y, skip_x] = io.output.origin.map(|origin| origin % 2);
    let [patches_y, patches_x] = [(dst.height + skip_y).div_ceil(2), (dst.width + skip_x).div_ceil(2)];
    let channels = src.padded_channels().max(dst.padded_channels());
    let rows = (SCRATCH_ELEMENTS / (POINTS * channels * patches_x)).clamp(1, patches_y);
    let mut all = Vec::new();
    for first in (0..patches_y).step_by(rows) {
        let patches = rows.min(patches_y - first) * patches_x;
        let matrix = patches.next_multiple_of(linear::RUN);
        let memory = |index, channels: usize| Binding::Scratch { index, elements: (POINTS * matrix * channels) as u64 };
        let (transformed, products) =
            (memory(scratch::TRANSFORMED, src.padded_channels()), memory(scratch::PRODUCTS, dst.padded_channels()));
        let workgroups = |groups: u32| [groups.div_ceil(WORKGROUP), (patches as u32).div_ceil(WORKGROUP), 1];
        all.push(Dispatch {
            shader: &SOURCE,
            constants: source.clone(),
            params: SourceParams {
                src_width,
                src_height,
                src_groups,
                left: -(to_u32(op.padding[1][0] + skip_x)? as i32),
                top: to_u32(2 * first)? as i32 - to_u32(op.padding[0][0] + skip_y)? as i32,
                patches_x: to_u32(patches_x)?,
                patches: to_u32(patches)?,
                matrix: to_u32(matrix)?,
            }
            .bytes(),
            bindings: vec![Binding::Input(0), extra, statistics, transformed],
            workgroups: workgroups(src_groups),
        });
        let bindings = [transformed, Binding::Weight(2), products];
        all.push(linear::products(&blocks(op), POINTS, matrix, [src_groups, dst_groups], bindings)?);
        all.push(Dispatch {
            shader: &RESULT,
            constants: store.clone(),
            params: ResultParams {
                dst_width,
                dst_height,
                dst_groups,
                left: 0u32.wrapping_sub(skip_x as u32),
                top: to_u32(2 * first)?.wrapping_sub(skip_y as u32),
                patches_x: to_u32(patches_x)?,
                patches: to_u32(patches)?,
                matrix: to_u32(matrix)?,
                line: dst_width,
            }
            .bytes(),
            bindings: vec![products, Binding::Weight(1), around.residual(op.residual), Binding::Output],
            workgroups: workgroups(if around.gate.is_some() { dst_groups / 2 } else { dst_groups }),
        });
    }
    Ok(all)
}
