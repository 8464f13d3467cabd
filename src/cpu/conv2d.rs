//! Reference of [`crate::ops::conv2d`]: by patches, by Winograd's algorithm, or channel by channel if depthwise.

use super::buffer::Buffer;
use super::epilogue::Epilogue;
use super::matrix::Tiling;
use super::rows::{Source, pixel_elements};
use crate::ops::Io;
use crate::ops::activation::Function;
use crate::ops::conv2d::Conv2d;
use crate::ops::layer_norm::LayerNorm;
use crate::tensor::LANES;

mod depthwise;
mod direct;
mod narrow;
mod winograd;

/// What is fused into a convolution.
#[derive(Default)]
pub(super) struct Fused<'a> {
    /// Layer norm of the source, with its packed weights.
    pub(super) norm: Option<(&'a LayerNorm, &'a [f32])>,
    /// An image whose channels, of this number, follow those of the first input in the source.
    pub(super) second: Option<(&'a [f32], usize)>,
    /// A gate of the result: its channels, its function and the slopes of that.
    pub(super) gate: Option<(usize, Function, &'a [f32])>,
    /// The factor of a pixel shuffle of the result, which has whole groups of channels.
    pub(super) shuffle: Option<usize>,
}

/// One convolution to compute, whichever the algorithm. `norm` and `second` are those of [`Fused`].
struct Task<'a> {
    op: &'a Conv2d,
    tiling: Tiling,
    io: &'a Io,
    weight: &'a [f32],
    src: &'a [f32],
    norm: Option<(&'a LayerNorm, &'a [f32])>,
    second: Option<(&'a [f32], usize)>,
    epilogue: Epilogue<'a>,
}

impl Task<'_> {
    /// The source's rows as they are read, from column `left` on.
    fn source(&self, left: i64, columns: usize) -> Source<'_> {
        let &Task { op, tiling, io, src, norm, second, .. } = self;
        let (arch, shape) = (tiling.arch(), io.inputs[0].shape);
        Source { arch, shape, values: src, border: op.border, left, columns, norm, second }
    }
}

/// Lays out the packed weights for the algorithm that [`run`] will take.
pub(super) fn prepare(op: &Conv2d, mut weights: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    if !op.is_depthwise() {
        let (tiling, width) = (tiling(op), op.out_channels.next_multiple_of(LANES));
        // The rows of the matrix for the channels that a padded row holds.
        let held = pixel_elements(op.in_channels) * width;
        if held < LANES * width {
            weights[0] = weights[0].chunks_exact(LANES * width).flat_map(|tap| &tap[..held]).copied().collect();
        }
        weights[0] = if suits_winograd(op) {
            winograd::pack(tiling, &weights[0], width, op.in_channels)
        } else if is_narrow(op) {
            narrow::pack(&weights[0], segment_elements(op), op.out_channels)
        } else {
            tiling.pack(&weights[0], width)
        };
    }
    weights
}

pub(super) fn run(op: &Conv2d, io: &Io, weights: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    run_fused(op, io, weights, inputs, Fused::default(), output);
}

pub(super) fn run_fused(
    op: &Conv2d,
    io: &Io,
    weights: &[Buffer],
    inputs: &[&[f32]],
    fused: Fused<'_>,
    output: &mut [f32],
) {
    let residual = op.residual.map(|when| (when, inputs[1]));
    let Fused { gate, shuffle, .. } = fused;
    let (activation, channels) = (op.activation, op.out_channels);
    let epilogue = Epilogue { activation, channels, values: &weights[1], residual, gate, shuffle };
    let (weight, src) = (&weights[0], inputs[0]);
    if op.is_depthwise() {
        return depthwise::run(op, io, weight, src, &epilogue, output);
    }
    let task = Task { op, tiling: tiling(op), io, weight, src, norm: fused.norm, second: fused.second, epilogue };
    if suits_winograd(op) {
        winograd::run(&task, output);
    } else {
        direct::run(&task, output);
    }
}

fn tiling(op: &Conv2d) -> Tiling {
    Tiling::new(op.out_channels.next_multiple_of(LANES))
}

/// The taps of a row lie side by side unless the kernel has gaps: the elements that do.
fn segment_elements(op: &Conv2d) -> usize {
    let taps = if op.dilation[1] == 1 { op.kernel[1] } else { 1 };
    taps * pixel_elements(op.in_channels)
}

/// True if vectors along the output's channels would be mostly empty.
fn is_narrow(op: &Conv2d) -> bool {
    op.out_channels < LANES
}

/// True if neighbouring pixels of the source's one channel are one vector. As the choice of Winograd's algorithm, this depends on
/// nothing but the operator.
fn is_planar(op: &Conv2d) -> bool {
    is_narrow(op) && op.in_channels == 1 && op.stride[1] == 1
}

/// With fewer channels the transforms take longer than the multiplications that they save.
const WINOGRAD_CHANNELS: usize = 8;

/// Depends on nothing but the operator: a tile must get the bits of the whole image.
fn suits_winograd(op: &Conv2d) -> bool {
    op.kernel == [3, 3]
        && op.stride == [1, 1]
        && op.dilation == [1, 1]
        && op.groups == 1
        && op.in_channels.min(op.out_channels) >= WINOGRAD_CHANNELS
}
