//! Convolution to very few channels: vectors run along the patch instead of along the output's channels, or, if there is but one
//! channel to read, along the row.

use bytemuck::cast_slice;
use pulp::{Simd, WithSimd};

use crate::cpu::lanes;
use crate::cpu::matrix::load;
use crate::tensor::LANES;

/// Segments of weights are filled up to whole vectors of any width.
const FILL: usize = 16;
/// Pixels that are computed together.
const PIXELS: usize = 4;

/// The weight matrix `[segments * length, LANES]` as `[channels, segments, length]`, each segment filled up with zeros.
pub(super) fn pack(weight: &[f32], length: usize, channels: usize) -> Vec<f32> {
    let filled = length.next_multiple_of(FILL);
    let segments = weight.len() / LANES / length;
    let mut packed = vec![0.0; channels * segments * filled];
    for (index, packed) in packed.chunks_exact_mut(filled).enumerate() {
        let (channel, segment) = (index / segments, index % segments);
        for (k, value) in packed[..length].iter_mut().enumerate() {
            *value = weight[(segment * length + k) * LANES + channel];
        }
    }
    packed
}

/// `output[pixel] = bias + sum of segment(pixel) * weight` for a line of pixels.
pub(super) struct Narrow<'a> {
    /// As those of [`Product`](crate::cpu::matrix::Product), with a vector to read behind the last pixel.
    pub(super) segments: &'a [&'a [f32]],
    pub(super) length: usize,
    pub(super) step: usize,
    /// What [`pack`] answered.
    pub(super) weight: &'a [f32],
    pub(super) channels: usize,
    pub(super) bias: &'a [f32],
    /// Stored pixels.
    pub(super) output: &'a mut [f32],
}

impl WithSimd for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { segments, length, step, weight, channels, bias, output } = self;
        let sums = Sums { segments, length, step, weight };
        let lanes = lanes(channels);
        let (blocks, rest) = output.split_at_mut(output.len() / (PIXELS * lanes) * (PIXELS * lanes));
        let first = blocks.len() / lanes;
        for (block, output) in blocks.chunks_exact_mut(PIXELS * lanes).enumerate() {
            for channel in 0..lanes {
                let bias = if channel < channels { bias[channel] } else { 0.0 };
                let values = sums.of::<S, PIXELS>(simd, block * PIXELS, channel, channel < channels);
                for (pixel, value) in values.into_iter().enumerate() {
                    output[pixel * lanes + channel] = bias + value;
                }
            }
        }
        for (index, output) in rest.chunks_exact_mut(lanes).enumerate() {
            for (channel, output) in output.iter_mut().enumerate() {
                let bias = if channel < channels { bias[channel] } else { 0.0 };
                let [value] = sums.of::<S, 1>(simd, first + index, channel, channel < channels);
                *output = bias + value;
            }
        }
    }
}

/// The same from one channel: neighbouring pixels, one element apart, are one vector.
pub(super) struct Planar<'a>(pub(super) Narrow<'a>);

/// Vectors of pixels that are computed together.
const VECTORS: usize = 4;

impl WithSimd for Planar<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        debug_assert_eq!(self.0.step, 1);
        let lanes = lanes(self.0.channels);
        if lanes > 1 {
            self.0.output.fill(0.0);
        }
        let pixels = self.0.output.len() / lanes;
        for channel in 0..self.0.channels {
            let mut first = 0;
            while first < pixels {
                let size = if pixels - first < VECTORS * S::F32_LANES { 1 } else { VECTORS };
                if size == 1 {
                    self.vectors::<S, 1>(simd, channel, first);
                } else {
                    self.vectors::<S, VECTORS>(simd, channel, first);
                }
                first += size * S::F32_LANES;
            }
        }
    }
}

impl Planar<'_> {
    /// One channel of `N` vectors of pixels from `first` on; what is behind the last pixel is not written.
    #[inline(always)]
    fn vectors<S: Simd, const N: usize>(&mut self, simd: S, channel: usize, first: usize) {
        let Self(Narrow { segments, length, weight, channels, bias, output, .. }) = self;
        let lanes = lanes(*channels);
        let filled = length.next_multiple_of(FILL);
        let mut sums = [simd.splat_f32s(bias[channel]); N];
        for (index, segment) in segments.iter().enumerate() {
            let weight = &weight[(channel * segments.len() + index) * filled..][..*length];
            for (k, weight) in weight.iter().enumerate() {
                let weight = simd.splat_f32s(*weight);
                for (vector, sum) in sums.iter_mut().enumerate() {
                    // The last vector may read what follows the row.
                    let value = load::<S>(segment, first + vector * S::F32_LANES + k);
                    *sum = simd.mul_add_e_f32s(value, weight, *sum);
                }
            }
        }
        let values: &[f32] = cast_slice(&sums);
        let output = &mut output[first * lanes..];
        if lanes == 1 {
            let count = values.len().min(output.len());
            output[..count].copy_from_slice(&values[..count]);
        } else {
            for (pixel, value) in output.chunks_exact_mut(lanes).zip(values) {
                pixel[channel] = *value;
            }
        }
    }
}

struct Sums<'a> {
    segments: &'a [&'a [f32]],
    length: usize,
    step: usize,
    weight: &'a [f32],
}

impl Sums<'_> {
    /// One channel of `P` pixels without its bias; zero if there is no such channel.
    #[inline(always)]
    fn of<S: Simd, const P: usize>(&self, simd: S, first: usize, channel: usize, exists: bool) -> [f32; P] {
        let mut values = [0.0; P];
        if !exists {
            return values;
        }
        let filled = self.length.next_multiple_of(FILL);
        let mut sums = [simd.splat_f32s(0.0); P];
        for (index, segment) in self.segments.iter().enumerate() {
            let weight = &self.weight[(channel * self.segments.len() + index) * filled..][..filled];
            for k in (0..self.length).step_by(S::F32_LANES) {
                let weight = load::<S>(weight, k);
                for (p, sum) in sums.iter_mut().enumerate() {
                    // What follows the segment meets weights of zero.
                    let value = load::<S>(segment, (first + p) * self.step + k);
                    *sum = simd.mul_add_e_f32s(value, weight, *sum);
                }
            }
        }
        for (value, sum) in values.iter_mut().zip(sums) {
            *value = simd.reduce_sum_f32s(sum);
        }
        values
    }
}
