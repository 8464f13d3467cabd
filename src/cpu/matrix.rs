//! Matrix products in registers: the inner loops of every operator with dense weights.
//!
//! A block of pixels meets a panel of weights: their products are summed up in vector registers, one vector for each
//! pixel and each group of output channels. An output is a chain of multiply-adds in the order of the depth, whatever
//! the width of the vectors and wherever a block starts, so that a pixel gets the same bits in every tile.

use pulp::{Arch, Simd, WithSimd};

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
use super::wide;

/// How the columns of a weight matrix are laid out for the vector instructions that will read them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiling {
    arch: Arch,
    lanes: usize,
    /// Vectors of a panel.
    vectors: usize,
    panels: usize,
}

/// What reading a pixel costs beside one of its multiply-adds, in a panel's inner loop.
const READ_COST: f32 = 0.35;

impl Tiling {
    /// For a matrix of `width` columns. Depends on nothing else but the machine.
    pub(super) fn new(width: usize) -> Self {
        Self::with(arch(width), width)
    }

    fn with(arch: Arch, width: usize) -> Self {
        let (lanes, is_roomy) = arch.dispatch(Query);
        let most = if is_roomy { WIDE.len() } else { SMALL.len() };
        let vectors = width.div_ceil(lanes);
        let cost = |size: usize| vectors.div_ceil(size) as f32 * (size as f32 + READ_COST);
        let best = (1..=most).min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(1);
        Self { arch, lanes, vectors: best, panels: vectors.div_ceil(best) }
    }

    /// The instructions to use.
    pub(super) fn arch(&self) -> Arch {
        self.arch
    }

    /// Columns, filled up to whole panels: the elements of a pixel's product.
    pub(super) fn stride(&self) -> usize {
        self.panels * self.panel_width()
    }

    /// Pixels that are computed together; a line of a multiple of it leaves no gaps.
    pub(super) fn pixels(&self) -> usize {
        self.arch.dispatch(Pixels(self.vectors))
    }

    fn panel_width(&self) -> usize {
        self.vectors * self.lanes
    }

    /// Lays the matrix `[depth, width]` out panel by panel, each `[depth, panel_width]`.
    pub(super) fn pack(&self, weight: &[f32], width: usize) -> Vec<f32> {
        let (depth, panel_width) = (weight.len() / width.max(1), self.panel_width());
        let mut packed = vec![0.0; depth * self.stride()];
        for (panel, packed) in packed.chunks_exact_mut((depth * panel_width).max(1)).enumerate() {
            let columns = panel * panel_width..width.min((panel + 1) * panel_width);
            for (packed, row) in packed.chunks_exact_mut(panel_width).zip(weight.chunks_exact(width)) {
                packed[..columns.len()].copy_from_slice(&row[columns.clone()]);
            }
        }
        packed
    }

    /// A vector of one value for each column, filled up with zeros.
    pub(super) fn pad(&self, values: &[f32]) -> Vec<f32> {
        let mut padded = vec![0.0; self.stride()];
        padded[..values.len()].copy_from_slice(values);
        padded
    }
}

/// The instructions for `width` columns: wide vectors, unless narrow ones need no more of them or multiply sooner.
fn arch(width: usize) -> Arch {
    let arch = Arch::new();
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if let Arch::V4(wide) = arch
        && let Some(narrow) = pulp::x86::V3::try_new()
    {
        let (few, many) = (width.div_ceil(16), width.div_ceil(8));
        if many == few || many < 2 * few && wide::takes_two_turns(wide, narrow) {
            return Arch::V3(narrow);
        }
    }
    let _ = width;
    arch
}

/// True if there are 32 vector registers. WebAssembly claims them, but runs on what the machine has.
#[inline(always)]
fn is_roomy<S: Simd>() -> bool {
    S::REGISTER_COUNT >= 32 && !cfg!(target_arch = "wasm32")
}

/// Lanes of the vectors, and whether there are many registers.
struct Query;

impl WithSimd for Query {
    type Output = (usize, bool);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        (S::F32_LANES, is_roomy::<S>())
    }
}

/// Pixels of the blocks that fill 32 registers, or 16, for each number of vectors of a panel.
const WIDE: [usize; 5] = [16, 8, 8, 6, 5];
// Three vectors of four pixels would fill 16 registers to the last, and the compiler then moves sums about.
#[cfg(not(target_arch = "wasm32"))]
const SMALL: [usize; 3] = [8, 6, 3];
// Browsers compile all of a step's reads before its products: sums, weights, pixels and one product must fit together.
#[cfg(target_arch = "wasm32")]
const SMALL: [usize; 2] = [6, 4];

/// Answers the pixels of a block for a panel of so many vectors.
struct Pixels(usize);

impl WithSimd for Pixels {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        let pixels: &[usize] = if is_roomy::<S>() { &WIDE } else { &SMALL };
        pixels[self.0 - 1]
    }
}

/// The vector at element `at`.
#[inline(always)]
pub(super) fn load<S: Simd>(values: &[f32], at: usize) -> S::f32s {
    S::as_simd_f32s(&values[at..at + S::F32_LANES]).0[0]
}

/// Writes a vector to element `at`.
#[inline(always)]
pub(super) fn store<S: Simd>(values: &mut [f32], at: usize, vector: S::f32s) {
    S::as_mut_simd_f32s(&mut values[at..at + S::F32_LANES]).0[0] = vector;
}

/// As [`load`].
///
/// # Safety
/// `at` and as many elements as a vector has must be within `values`.
#[inline(always)]
pub(super) unsafe fn load_unchecked<S: Simd>(values: &[f32], at: usize) -> S::f32s {
    debug_assert!(at + S::F32_LANES <= values.len());
    // SAFETY: the caller's promise.
    let part = unsafe { values.get_unchecked(at..at + S::F32_LANES) };
    S::as_simd_f32s(part).0[0]
}

/// As [`store`].
///
/// # Safety
/// As [`load_unchecked`].
#[inline(always)]
pub(super) unsafe fn store_unchecked<S: Simd>(values: &mut [f32], at: usize, vector: S::f32s) {
    debug_assert!(at + S::F32_LANES <= values.len());
    // SAFETY: the caller's promise.
    let part = unsafe { values.get_unchecked_mut(at..at + S::F32_LANES) };
    S::as_mut_simd_f32s(part).0[0] = vector;
}

/// Elements of the products that wait for what follows: half of a first-level cache.
pub(super) const PRODUCT_ELEMENTS: usize = 4096;

/// `output[pixel] = start + sum of segment(pixel) * weight` for a line of pixels.
pub(super) struct Product<'a> {
    pub(super) tiling: Tiling,
    /// Where each segment of the first pixel's patch begins. A patch is its segments one after the other.
    pub(super) segments: &'a [&'a [f32]],
    /// Elements of a segment.
    pub(super) length: usize,
    /// Elements from a pixel's segment to that of the next pixel.
    pub(super) step: usize,
    /// Packed weights, `segments * length` deep.
    pub(super) weight: &'a [f32],
    /// [`Tiling::stride`] values.
    pub(super) start: &'a [f32],
    /// [`Tiling::stride`] values for each pixel.
    pub(super) output: &'a mut [f32],
}

impl Product<'_> {
    /// Computes it.
    pub(super) fn run(self) {
        self.tiling.arch.dispatch(self);
    }
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (self.tiling.vectors, is_roomy::<S>()) {
            (1, true) => self.blocks::<S, { WIDE[0] }, 1>(simd),
            (2, true) => self.blocks::<S, { WIDE[1] }, 2>(simd),
            (3, true) => self.blocks::<S, { WIDE[2] }, 3>(simd),
            (4, true) => self.blocks::<S, { WIDE[3] }, 4>(simd),
            (5, true) => self.blocks::<S, { WIDE[4] }, 5>(simd),
            (1, _) => self.blocks::<S, { SMALL[0] }, 1>(simd),
            #[cfg(not(target_arch = "wasm32"))]
            (3, _) => self.blocks::<S, { SMALL[2] }, 3>(simd),
            _ => self.blocks::<S, { SMALL[1] }, 2>(simd),
        }
    }
}

impl Product<'_> {
    /// Panel by panel, `P` pixels at a time; the last ones overlap those before.
    #[inline(always)]
    fn blocks<S: Simd, const P: usize, const N: usize>(self, simd: S) {
        let stride = self.tiling.stride();
        let pixels = self.output.len() / stride;
        let width = N * S::F32_LANES;
        let depth = self.segments.len() * self.length;
        for panel in 0..self.tiling.panels {
            let weight = &self.weight[panel * depth * width..][..depth * width];
            let start = &self.start[panel * width..][..width];
            let (segments, length, step) = (self.segments, self.length, self.step);
            if pixels >= P {
                for first in (0..pixels - P).step_by(P).chain([pixels - P]) {
                    let output = &mut self.output[first * stride + panel * width..][..(P - 1) * stride + width];
                    block::<S, P, N>(simd, segments, length, step, first, weight, start, output, stride);
                }
            } else {
                for first in 0..pixels {
                    let output = &mut self.output[first * stride + panel * width..][..width];
                    block::<S, 1, N>(simd, segments, length, step, first, weight, start, output, stride);
                }
            }
        }
    }
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the innermost loops, which take slices already cut")]
fn block<S: Simd, const P: usize, const N: usize>(
    simd: S,
    segments: &[&[f32]],
    length: usize,
    step: usize,
    first: usize,
    weight: &[f32],
    start: &[f32],
    output: &mut [f32],
    stride: usize,
) {
    let (start, _) = S::as_simd_f32s(start);
    let mut sums: [[S::f32s; N]; P] = [std::array::from_fn(|n| start[n]); P];
    let (mut weight, _) = S::as_simd_f32s(weight);
    for segment in segments {
        let pixels: [&[f32]; P] = std::array::from_fn(|p| &segment[(first + p) * step..][..length]);
        let (part, rest) = weight.split_at(length * N);
        weight = rest;
        for (k, columns) in part.chunks_exact(N).enumerate() {
            let columns: [S::f32s; N] = std::array::from_fn(|n| columns[n]);
            for p in 0..P {
                let value = simd.splat_f32s(pixels[p][k]);
                for n in 0..N {
                    sums[p][n] = simd.mul_add_e_f32s(value, columns[n], sums[p][n]);
                }
            }
        }
    }
    for (p, sums) in sums.into_iter().enumerate() {
        for (n, sum) in sums.into_iter().enumerate() {
            store::<S>(output, p * stride + n * S::F32_LANES, sum);
        }
    }
}

#[cfg(all(test, any(target_arch = "x86", target_arch = "x86_64")))]
mod tests {
    use pulp::x86::{V3, V4};

    use super::*;

    /// What is wide on one processor is narrow on another, and which it is here was measured: no result may tell.
    #[test]
    fn vectors_of_any_width_give_the_same_bits() {
        let values = |count: usize, step: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * step) % 1013) as f32 / 1013.0 - 0.4).collect()
        };
        let (depth, pixels) = (11, 19);
        for width in [4, 8, 12, 16, 24, 40, 80] {
            let (matrix, bias, patches) = (values(depth * width, 379), values(width, 17), values(depth * pixels, 101));
            let mut results = Vec::new();
            for arch in V3::try_new().map(Arch::V3).into_iter().chain(V4::try_new().map(Arch::V4)) {
                let tiling = Tiling::with(arch, width);
                let (weight, start) = (tiling.pack(&matrix, width), tiling.pad(&bias));
                let mut output = vec![0.0; pixels * tiling.stride()];
                let (segments, step) = (&[&patches[..]][..], depth);
                let output_of = &mut output[..];
                Product { tiling, segments, length: depth, step, weight: &weight, start: &start, output: output_of }
                    .run();
                let lines = output.chunks_exact(tiling.stride());
                results.push(lines.flat_map(|line| &line[..width]).map(|value| value.to_bits()).collect::<Vec<_>>());
            }
            let sum = |pixel: usize, column: usize| {
                (0..depth)
                    .fold(bias[column], |sum, k| patches[pixel * depth + k].mul_add(matrix[k * width + column], sum))
            };
            let expected = (0..pixels * width).map(|at| sum(at / width, at % width).to_bits()).collect::<Vec<_>>();
            assert!(results.iter().all(|result| *result == expected), "{width} columns");
        }
    }
}
