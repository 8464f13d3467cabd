//! What is fused into the store of a matrix product: bias, activation, residual, gate, pixel shuffle.

use pulp::{Arch, Simd, WithSimd};

use super::matrix::{load, store};
use super::{activation, lanes, of_pixel, vectorized};
use crate::ops::activation::Function;
use crate::ops::conv2d::Residual;
use crate::tensor::LANES;

/// Activation and residual, perhaps behind a pixel shuffle, or a gate.
pub(super) struct Epilogue<'a> {
    pub(super) activation: Function,
    /// Channels of the product.
    pub(super) channels: usize,
    /// Bias, then PReLU's slopes, each one for each channel, filled up to whole groups.
    pub(super) values: &'a [f32],
    pub(super) residual: Option<(Residual, &'a [f32])>,
    /// Channels of a gate's result and its function: the first half of the product, activated, times the second.
    pub(super) gate: Option<(usize, Function, &'a [f32])>,
    /// The factor of a pixel shuffle of the product, in which the channels of each place of the square that becomes of a pixel are
    /// together. The residual, after the activation, is then of the shuffled size.
    pub(super) shuffle: Option<usize>,
}

/// Where products go.
pub(super) struct Target<'a> {
    /// The output's line that a line of products becomes; behind a pixel shuffle its lines.
    pub(super) line: &'a mut [f32],
    /// The first product's pixel in its line.
    pub(super) first: usize,
    /// The line's first element in the whole output.
    pub(super) at: usize,
}

impl Epilogue<'_> {
    pub(super) fn bias(&self) -> &[f32] {
        &self.values[..self.values.len() / 2]
    }

    fn slopes(&self) -> &[f32] {
        of_pixel(&self.values[self.values.len() / 2..], self.channels)
    }

    /// Stored elements of the result for each pixel of the product.
    pub(super) fn lanes(&self) -> usize {
        lanes(self.gate.map_or(self.channels, |(channels, _, _)| channels))
    }

    /// Stores the products of some pixels of a line, `stride` elements apart and with the bias in them.
    pub(super) fn store(&self, arch: Arch, product: &[f32], stride: usize, target: Target<'_>) {
        if let Some(factor) = self.shuffle {
            return self.scatter(arch, product, stride, factor, target);
        }
        let Target { line, first, at } = target;
        let (first, count) = (first * self.lanes(), product.len() / stride * self.lanes());
        arch.dispatch(Store { epilogue: self, product, stride, output: &mut line[first..][..count], at: at + first });
    }

    /// The same behind a pixel shuffle.
    fn scatter(&self, arch: Arch, product: &[f32], stride: usize, factor: usize, target: Target<'_>) {
        let Target { line: lines, first, at } = target;
        let elements = lines.len() / factor;
        // Of the square that becomes of a pixel, a line.
        let part = self.lanes() / factor;
        let count = product.len() / stride;
        vectorized(
            arch,
            #[inline(always)]
            || {
                for (i, line) in lines.chunks_exact_mut(elements).enumerate() {
                    let output = &mut line[first * part..][..count * part];
                    for (pixels, product) in output.chunks_exact_mut(part).zip(product.chunks_exact(stride)) {
                        pixels.copy_from_slice(&product[i * part..][..part]);
                    }
                    self.apply(output, at + i * elements + first * part);
                }
            },
        );
    }

    /// Residual and activation, on whole pixels at element `at` of the output that have their bias already.
    pub(super) fn finish(&self, arch: Arch, values: &mut [f32], at: usize) {
        vectorized(
            arch,
            #[inline(always)]
            || self.apply(values, at),
        );
    }

    /// True if products `stride` elements apart lie as the results do, and [`Epilogue::vector`] computes these.
    pub(super) fn is_simple(&self, stride: usize) -> bool {
        use Function::{Identity, LeakyRelu, PRelu, Relu};
        let is_known = matches!(self.activation, Identity | Relu | LeakyRelu { .. } | PRelu);
        is_known && self.gate.is_none() && self.shuffle.is_none() && stride == self.lanes()
    }

    /// Residual and activation of one vector with its bias: from `channel` on, for element `at` of the output.
    #[inline(always)]
    pub(super) fn vector<S: Simd>(&self, simd: S, mut x: S::f32s, channel: usize, at: usize) -> S::f32s {
        if let Some((Residual::BeforeActivation, residual)) = self.residual {
            x = simd.add_f32s(x, load::<S>(residual, at));
        }
        x = match self.activation {
            Function::Relu => simd.max_f32s(x, simd.splat_f32s(0.0)),
            Function::LeakyRelu { slope } => leaky(simd, x, simd.splat_f32s(slope)),
            Function::PRelu => leaky(simd, x, load::<S>(self.slopes(), channel)),
            Function::Identity => x,
            _ => unreachable!("`is_simple` lets no other function through"),
        };
        if let Some((Residual::AfterActivation, residual)) = self.residual {
            x = simd.add_f32s(x, load::<S>(residual, at));
        }
        x
    }

    #[inline(always)]
    fn apply(&self, values: &mut [f32], at: usize) {
        if let Some((Residual::BeforeActivation, residual)) = self.residual {
            add(values, &residual[at..]);
        }
        activation::apply(self.activation, values, self.slopes());
        if let Some((Residual::AfterActivation, residual)) = self.residual {
            add(values, &residual[at..]);
        }
    }
}

/// See [`Epilogue::store`].
struct Store<'a> {
    epilogue: &'a Epilogue<'a>,
    product: &'a [f32],
    stride: usize,
    output: &'a mut [f32],
    at: usize,
}

impl WithSimd for Store<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { epilogue, product, stride, output, at } = self;
        match (epilogue.gate, epilogue.activation) {
            (Some((channels, Function::Identity, _)), _) => gate::<S>(simd, channels, product, stride, output),
            (Some((channels, function, slopes)), _) => {
                let lanes = lanes(channels);
                for (output, product) in output.chunks_exact_mut(lanes).zip(product.chunks_exact(stride)) {
                    output[..channels].copy_from_slice(&product[..channels]);
                    output[channels..].fill(0.0);
                    activation::apply(function, output, of_pixel(slopes, channels));
                    for (output, b) in output[..channels].iter_mut().zip(&product[channels..]) {
                        *output *= b;
                    }
                }
            }
            _ if epilogue.is_simple(stride) && stride.is_multiple_of(S::F32_LANES) => {
                let (product, _) = S::as_simd_f32s(product);
                let (output, _) = S::as_mut_simd_f32s(output);
                let vectors = stride / S::F32_LANES;
                let mut place = at;
                for (output, product) in output.chunks_exact_mut(vectors).zip(product.chunks_exact(vectors)) {
                    for (index, (output, x)) in output.iter_mut().zip(product).enumerate() {
                        *output = epilogue.vector::<S>(simd, *x, index * S::F32_LANES, place);
                        place += S::F32_LANES;
                    }
                }
            }
            _ if stride == epilogue.lanes() => {
                output.copy_from_slice(product);
                epilogue.apply(output, at);
            }
            _ => {
                let lanes = epilogue.lanes();
                for (output, product) in output.chunks_exact_mut(lanes).zip(product.chunks_exact(stride)) {
                    let (output, _) = output.as_chunks_mut::<LANES>();
                    let (product, _) = product.as_chunks::<LANES>();
                    for (output, product) in output.iter_mut().zip(product) {
                        *output = *product;
                    }
                }
                epilogue.apply(output, at);
            }
        }
    }
}

#[inline(always)]
fn leaky<S: Simd>(simd: S, x: S::f32s, slope: S::f32s) -> S::f32s {
    simd.select_f32s(simd.greater_than_or_equal_f32s(x, simd.splat_f32s(0.0)), x, simd.mul_f32s(slope, x))
}

/// The product of the halves of each pixel.
#[inline(always)]
fn gate<S: Simd>(simd: S, channels: usize, product: &[f32], stride: usize, output: &mut [f32]) {
    let lanes = lanes(channels);
    // Vectors run over into the next pixel, which is written later; near the end there is none.
    let over = 2 * S::F32_LANES;
    let pixels = output.len() / lanes;
    let whole = pixels.saturating_sub(over.div_ceil(lanes));
    for pixel in 0..whole {
        let product = &product[pixel * stride..];
        for at in (0..channels).step_by(S::F32_LANES) {
            let result = simd.mul_f32s(load::<S>(product, at), load::<S>(product, channels + at));
            store::<S>(output, pixel * lanes + at, result);
        }
    }
    let rest = output.chunks_exact_mut(lanes).zip(product.chunks_exact(stride)).skip(whole);
    for (output, product) in rest {
        for ((output, a), b) in output.iter_mut().zip(&product[..channels]).zip(&product[channels..]) {
            *output = a * b;
        }
        output[channels..].fill(0.0);
    }
}

#[inline(always)]
fn add(values: &mut [f32], residual: &[f32]) {
    for (value, residual) in values.iter_mut().zip(residual) {
        *value += residual;
    }
}
