//! Weights of the matrix kernels in blocks of output channels: what one invocation sums side by side.
//!
//! A block holds, for every row of the weight matrix, up to four groups of four output channels. Blocks that fit uniform
//! memory are bound there, one launch for each: on lavapipe a 3x3 convolution of 64 channels ran at 32 GFLOP/s so, at 20
//! from storage buffers. Larger ones are read from a storage buffer in one launch, and so are all where one block's launch
//! would leave cores idle. Where lanes can share what they read (`rows_shared.wgsl`), they do.

use super::dispatch::{Binding, Dispatch, GRID_ROW, Library, Packed, Shader, library, library_text};
use super::to_u32;
use crate::error::Result;
use crate::tensor::LANES;

/// What every WebGPU device allows one uniform binding to hold.
pub const UNIFORM_BYTES: usize = 65536;
/// Blocks start at multiples of this many floats, the portable alignment of uniform bindings (256 bytes).
const ALIGNMENT: usize = 64;
/// The most groups of a block.
const MOST_GROUPS: usize = 4;
/// Invocations of a workgroup: few, so that a small image still gives every core one.
const INVOCATIONS: u32 = 32;
/// Pixels that one invocation computes.
pub(super) const PIXELS: u32 = 8;
/// Workgroups with which a launch is large enough for one block alone.
const MANY: u32 = 16;

macro_rules! rows {
    ($spread:literal) => {
        Library { eight_lanes: Some(concat!(library_text!($spread), library_text!("rows_shared"))), ..library!("rows") }
    };
}

/// `block`, `bias` and `store_block`, by the number of groups less one.
pub(super) const BLOCKS: [Library; MOST_GROUPS] =
    [library!("block1"), library!("block2"), library!("block3"), library!("block4")];
/// `weight` in a storage buffer, and in uniform memory.
pub(super) const WEIGHTS: [Library; 2] = [library!("weight_storage"), library!("weight_uniform")];
/// `four_rows`, `twelve_rows` and `row0` to `row11`, by the number of groups less one where lanes share them.
pub(super) const ROWS: [Library; MOST_GROUPS] =
    [rows!("spread1"), rows!("spread2"), rows!("spread3"), rows!("spread4")];

/// `Sums` and `Pixels` of a run, `begin`, `add_rows` and `store_run`.
pub(super) const RUN: Library = library!("run");

/// Declares the kernel `$name` for every number of groups and either memory, as `static VARIANTS` and its list `$list`.
macro_rules! block_shaders {
    ($list:ident, $variants:ident, $name:literal, $params:expr, [$($library:expr),*]) => {
        static $variants: [Shader; 8] = block_shaders!(@all $name, $params, [$($library),*],
            (0, 0) (1, 0) (2, 0) (3, 0) (0, 1) (1, 1) (2, 1) (3, 1));
        const $list: [&Shader; 8] = [
            &$variants[0], &$variants[1], &$variants[2], &$variants[3],
            &$variants[4], &$variants[5], &$variants[6], &$variants[7],
        ];
    };
    (@all $name:literal, $params:expr, $libraries:tt, $(($groups:literal, $memory:literal))*) => {
        [$(block_shaders!(@one $name, $params, $libraries, $groups, $memory)),*]
    };
    (@one $name:literal, $params:expr, [$($library:expr),*], $groups:literal, $memory:literal) => {
        Shader {
            name: $name,
            source: include_str!(concat!("../../shaders/", $name, ".wgsl")),
            library: &[
                $($library,)*
                crate::ops::blocks::BLOCKS[$groups],
                crate::ops::blocks::WEIGHTS[$memory],
                crate::ops::blocks::ROWS[$groups],
                crate::ops::blocks::RUN,
            ],
            params: $params,
        }
    };
}
pub(super) use block_shaders;

/// How a weight matrix is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    rows: usize,
    /// Groups of output channels in one block.
    groups: usize,
    /// Number of blocks.
    count: usize,
    /// Whether a block fits uniform memory.
    uniform: bool,
}

impl Blocks {
    /// Cuts a matrix of `rows` rows for `out_channels` channels.
    pub(super) fn new(rows: usize, out_channels: usize) -> Self {
        let out_groups = out_channels.div_ceil(LANES).max(1);
        let fitting = UNIFORM_BYTES / (rows * LANES * size_of::<f32>()).max(1);
        // Blocks of fewer groups load every pixel too often: storage is better.
        let uniform = fitting >= out_groups.min(MOST_GROUPS);
        let count = out_groups.div_ceil(MOST_GROUPS);
        Self { rows, groups: out_groups.div_ceil(count), count, uniform }
    }

    /// The same for a storage buffer whatever their size.
    pub(super) fn stored(self) -> Self {
        Self { uniform: false, ..self }
    }

    /// The same with an even number of groups in each block, for a gate.
    pub(super) fn paired(self) -> Self {
        let all = self.groups * self.count;
        let groups = if self.groups.is_multiple_of(2) { self.groups } else { 2 };
        Self { groups, count: all.div_ceil(groups), ..self }
    }

    /// Rows from one block to the next.
    fn stride_rows(&self) -> usize {
        // Of 4, 8, 12 or 16 floats each; that many always end at a multiple of the alignment.
        if self.uniform { self.rows.next_multiple_of(ALIGNMENT / LANES) } else { self.rows }
    }

    /// Floats from one block to the next.
    fn stride(&self) -> usize {
        self.stride_rows() * self.groups * LANES
    }

    /// Cuts `matrix`, `[rows, padded_out]`; row `r` of a block is the matrix's row `order(r)`.
    pub(super) fn pack(&self, matrix: &[f32], order: impl Fn(usize) -> usize) -> Packed {
        Packed::Blocks(self.cut(matrix, order))
    }

    /// As [`Blocks::pack`].
    pub(super) fn cut(&self, matrix: &[f32], order: impl Fn(usize) -> usize) -> Vec<f32> {
        let padded_out = matrix.len() / self.rows;
        let mut packed = vec![0.0; self.stride() * self.count];
        let width = self.groups * LANES;
        for (block, packed) in packed.chunks_exact_mut(self.stride()).enumerate() {
            let columns = block * width..((block + 1) * width).min(padded_out);
            for (row, values) in packed.chunks_exact_mut(width).take(self.rows).enumerate() {
                values[..columns.len()].copy_from_slice(&matrix[order(row) * padded_out..][columns.clone()]);
            }
        }
        packed
    }

    /// One launch for all blocks of `matrices` matrices that follow one another in a storage buffer, over `runs` of pixels.
    /// `dispatch` gets the kernel, the length of a block and of a matrix in blocks' rows, the workgroups of a grid's row, and
    /// the weights' binding.
    pub(super) fn products(
        &self,
        variants: &'static [Shader; 8],
        matrices: usize,
        runs: u32,
        dispatch: impl Fn(&'static Shader, [u32; 2], u32, Binding) -> Dispatch,
    ) -> Result<Dispatch> {
        let workgroups = runs.div_ceil(INVOCATIONS);
        let row = workgroups.min(GRID_ROW);
        let bytes = self.stride() * self.count * matrices * size_of::<f32>();
        let binding = Binding::Block { weight: 0, start: 0, bytes: bytes as u64 };
        let lengths = [to_u32(self.stride_rows())?, to_u32(self.stride_rows() * self.count)?];
        let workgroups = [row, workgroups.div_ceil(row.max(1)), to_u32(self.count)?];
        Ok(Dispatch { workgroups, ..dispatch(&variants[self.groups - 1], lengths, row, binding) })
    }

    /// One launch for each uniform block, or one for all, over `runs` of pixels in each of `phases`, with the kernel among
    /// `variants`. `dispatch` gets the kernel, the first group of output channels, the length of a block in blocks' rows,
    /// the workgroups of a grid's row, and the weights' binding.
    pub(super) fn dispatches(
        &self,
        variants: &'static [Shader; 8],
        runs: u32,
        phases: u32,
        dispatch: impl Fn(&'static Shader, u32, u32, u32, Binding) -> Dispatch,
    ) -> Result<Vec<Dispatch>> {
        let workgroups = runs.div_ceil(INVOCATIONS);
        let row = workgroups.min(GRID_ROW);
        let columns = workgroups.div_ceil(row.max(1));
        let uniform = self.uniform && (self.count == 1 || workgroups.saturating_mul(phases) >= MANY);
        let shader = &variants[self.groups - 1 + MOST_GROUPS * usize::from(uniform)];
        let (launches, layers) = if uniform { (self.count, 1) } else { (1, self.count) };
        let length = to_u32(self.stride_rows())?;
        let mut all = Vec::with_capacity(launches);
        for launch in 0..launches {
            let start = launch * self.stride() * size_of::<f32>();
            let bytes = if uniform { UNIFORM_BYTES } else { self.stride() * self.count * size_of::<f32>() };
            let binding = Binding::Block { weight: 0, start: start as u64, bytes: bytes as u64 };
            let group = to_u32(launch * self.groups)?;
            let workgroups = [row, columns, to_u32(layers)? * phases];
            all.push(Dispatch { workgroups, ..dispatch(shader, group, length, row, binding) });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_the_channels_and_fit_their_memory() {
        for rows in [4, 36, 180, 576, 1152, 4608, 16384] {
            for channels in [1, 4, 5, 12, 20, 24, 48, 64, 180, 1000] {
                let blocks = Blocks::new(rows, channels);
                assert!(blocks.groups * blocks.count * LANES >= channels, "{blocks:?}");
                assert!((blocks.count - 1) * blocks.groups * LANES < channels, "{blocks:?}");
                assert!(!blocks.uniform || rows * blocks.groups * LANES * 4 <= UNIFORM_BYTES, "{blocks:?}");
            }
        }
    }
}
