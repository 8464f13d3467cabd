//! Matrix products in blocks of fixed size, and what is fused into their store: shared by the operators with weights.

use rayon::prelude::*;

use super::activation;
use crate::ops::activation::Function;
use crate::ops::conv2d::Residual;

/// Pixels of one matrix product. Always this many, junk at the end of an image included: a product of another size may
/// round differently, and a pixel must get the same bits in every tile.
pub(super) const BLOCK: usize = 64;

/// Bias, activation and residual.
pub(super) struct Epilogue<'a> {
    pub(super) activation: Function,
    /// Bias, then PReLU's slopes, each one for each stored channel.
    pub(super) values: &'a [f32],
    pub(super) residual: Option<(Residual, &'a [f32])>,
}

impl Epilogue<'_> {
    pub(super) fn bias(&self) -> &[f32] {
        &self.values[..self.values.len() / 2]
    }

    /// Bias is already in `values`; adds the residual and applies the activation. `at` is the first element's index.
    pub(super) fn finish(&self, values: &mut [f32], at: usize) {
        let slopes = &self.values[self.values.len() / 2..];
        let add = |values: &mut [f32], residual: &[f32]| {
            for (value, residual) in values.iter_mut().zip(&residual[at..]) {
                *value += residual;
            }
        };
        if let Some((Residual::BeforeActivation, residual)) = self.residual {
            add(values, residual);
        }
        activation::apply(self.activation, values, slopes);
        if let Some((Residual::AfterActivation, residual)) = self.residual {
            add(values, residual);
        }
    }
}

/// `output[pixel] = f(bias + patch(pixel) * weight)` for all pixels of `output`, with patches of `depth` elements.
///
/// `patch(pixel, row)` writes a pixel's patch; `image` is all patches in a row where they lie in memory already.
pub(super) fn product(
    depth: usize,
    image: Option<&[f32]>,
    patch: impl Fn(usize, &mut [f32]) + Sync,
    weight: &[f32],
    epilogue: &Epilogue<'_>,
    output: &mut [f32],
) {
    let lanes = epilogue.bias().len();
    output.par_chunks_mut(BLOCK * lanes).enumerate().for_each_init(
        || (vec![0.0f32; BLOCK * depth], vec![0.0f32; BLOCK * lanes]),
        |(patches, tail), (block, output)| {
            let first = block * BLOCK;
            let count = output.len() / lanes;
            let matrix: &[f32] = match image {
                Some(image) if count == BLOCK => &image[first * depth..][..BLOCK * depth],
                _ => {
                    for (row, pixel) in patches.chunks_exact_mut(depth).zip(first..first + count) {
                        patch(pixel, row);
                    }
                    // Stale patches behind the last pixel are finite and their products are thrown away.
                    patches
                }
            };
            let product: &mut [f32] = if count == BLOCK { &mut *output } else { tail };
            for pixel in product.chunks_exact_mut(lanes) {
                pixel.copy_from_slice(epilogue.bias());
            }
            multiply(matrix, weight, product, depth, lanes);
            if count < BLOCK {
                output.copy_from_slice(&tail[..count * lanes]);
            }
            epilogue.finish(output, first * lanes);
        },
    );
}

/// `product += matrix * weight`: `[BLOCK, depth]` times `[depth, width]`.
pub(super) fn multiply(matrix: &[f32], weight: &[f32], product: &mut [f32], depth: usize, width: usize) {
    assert!(matrix.len() == BLOCK * depth && weight.len() == depth * width && product.len() == BLOCK * width);
    // SAFETY: the three pointers cover exactly the strided ranges, as asserted, and `product` aliases neither operand.
    unsafe {
        gemm::gemm(
            BLOCK,
            width,
            depth,
            product.as_mut_ptr(),
            1,
            width as isize,
            true,
            matrix.as_ptr(),
            1,
            depth as isize,
            weight.as_ptr(),
            1,
            width as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
