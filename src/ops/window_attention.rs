//! Self-attention inside the windows of a fixed grid, with a relative position bias (Swin, Swin V2).
//!
//! `src` holds the queries, the keys and the values, `[3 * heads * head_channels, h, w]` in the order of PyTorch's
//! `reshape(3, heads, head_channels)`; the result is `[heads * head_channels, h, w]`. Inside a window and for each head
//! it is `softmax(scale * Q K^T + bias) V`. Swin's scale is `head_channels ^ -0.5`; with [`cosine`](WindowAttention::cosine)
//! (Swin V2) `Q` and `K` are normalised as by `torch.nn.functional.normalize` and the scale is
//! `exp(min(logit_scale, ln 100))` of each head.
//!
//! The grid is that of the whole image, moved down and right by [`shift`](WindowAttention::shift), and its windows are
//! clipped at the image's border. That is Swin's cyclic shift without a copy: of a window that wraps around, the
//! attention mask separates the parts from the two sides of the image (it adds -100 to the scores, a weight of e^-100),
//! and inside each part positions differ as in the image. Swin asks for sizes that are multiples of the window; other
//! sizes are allowed here, and their last windows are clipped like the others.

use std::ops::Range;

use super::dispatch::{self, Binding, Dispatch, Library, Shader, Traits, library, library_text, params};
use super::{Axis, Io, Operator, Param, Place, Span, to_u32};
use crate::error::{Error, Result};
use crate::tensor::LANES;

/// The operator. Pairs are `[vertical, horizontal]`.
///
/// Parameters: the bias table, `[(2 * window[0] - 1) * (2 * window[1] - 1), heads]`, PyTorch's
/// `relative_position_bias_table` (of Swin V2, what its position network makes of the coordinates table); then
/// `logit_scale`, `[heads, 1, 1]`, if [`cosine`](Self::cosine).
#[derive(Clone, Debug, PartialEq)]
pub struct WindowAttention {
    /// Number of heads.
    pub heads: usize,
    /// Channels of each head, at most 64.
    pub head_channels: usize,
    /// Size of the windows.
    pub window: [usize; 2],
    /// How far the grid is moved, less than a window.
    pub shift: [usize; 2],
    /// Whether scores are cosines.
    pub cosine: bool,
}

/// Queries of one workgroup, one for each of its invocations: the fewest that hold a window, else the most.
pub const QUERIES: [usize; 3] = [16, 32, 64];
/// What the kernel's arrays hold.
const MAX_HEAD_CHANNELS: usize = 64;

impl WindowAttention {
    fn check(&self) -> Result<()> {
        let sizes_fit = self.heads > 0 && (1..=MAX_HEAD_CHANNELS).contains(&self.head_channels);
        // So large a window would be global attention, for which nothing here is made.
        let windows_fit = self.window.iter().all(|size| (1..=256).contains(size));
        let shifts_fit = self.shift.iter().zip(&self.window).all(|(shift, window)| shift < window);
        if !(sizes_fit && windows_fit && shifts_fit) {
            return Err(Error::shape(format!(
                "window attention: {} heads of {} channels, windows of {:?} shifted by {:?}: at least one head, 1 to \
                 {MAX_HEAD_CHANNELS} channels, windows of 1 to 256 pixels and shifts below them are supported",
                self.heads, self.head_channels, self.window, self.shift
            )));
        }
        Ok(())
    }

    /// Entries of the bias table for one head.
    fn positions(&self) -> usize {
        (2 * self.window[0] - 1) * (2 * self.window[1] - 1)
    }

    /// Where the grid's first window starts on an axis, at most zero.
    fn grid(&self, axis: Axis) -> i64 {
        let (window, shift) = (self.window[axis as usize] as i64, self.shift[axis as usize] as i64);
        if shift == 0 { 0 } else { shift - window }
    }

    /// Where the window that holds pixel `position` starts.
    fn start(&self, axis: Axis, position: i64) -> i64 {
        let (window, grid) = (self.window[axis as usize] as i64, self.grid(axis));
        (position - grid).div_euclid(window) * window + grid
    }

    /// The rows or columns of each window in a tile of `size` pixels from `origin` on, clipped to it.
    pub(crate) fn windows(&self, axis: Axis, place: &Place) -> Vec<Range<usize>> {
        let (origin, size) = match axis {
            Axis::Vertical => (place.origin[0], place.shape.height),
            Axis::Horizontal => (place.origin[1], place.shape.width),
        };
        let mut start = 0;
        let mut windows = Vec::new();
        while start < size {
            let position = (origin + start) as i64;
            let left = self.start(axis, position) + self.window[axis as usize] as i64 - position;
            let end = size.min(start + left as usize);
            windows.push(start..end);
            start = end;
        }
        windows
    }
}

params! {
    struct Params { width: u32, height: u32, src_groups: u32, dst_groups: u32, start_x: i32, start_y: i32 }
}

/// The kernels of this operator.
pub const SHADERS: &[&Shader] = &[&SHADER];

static SHADER: Shader = Shader {
    name: "window_attention",
    source: include_str!("../../shaders/window_attention.wgsl"),
    library: &[dispatch::LANES, FOUR],
    params: Params::FIELDS,
};

/// `four(at, step, local)`: vectors of workgroup memory.
const FOUR: Library = Library { eight_lanes: Some(library_text!("four_shared")), ..library!("four") };

impl Operator for WindowAttention {
    fn channels(&self, inputs: &[usize]) -> Result<usize> {
        self.check()?;
        qkv_channels("window attention", self.heads, self.head_channels, inputs)
    }

    fn reads(&self, axis: Axis, _: usize, wanted: Span, _: usize) -> Span {
        Span::new(self.start(axis, wanted.start), self.start(axis, wanted.end - 1) + self.window[axis as usize] as i64)
    }

    fn alignment(&self, axis: Axis) -> usize {
        self.window[axis as usize]
    }

    fn pack(&self, params: &[Param]) -> Result<Vec<Vec<f32>>> {
        let missing = || Error::Weights("window attention: no bias table or logit scale".into());
        let (heads, positions) = (self.heads, self.positions());
        let table = params.first().ok_or_else(missing)?;
        table.expect(&[positions, heads])?;
        // The scale of each head, then its biases.
        let mut packed = vec![(self.head_channels as f32).sqrt().recip(); heads];
        if self.cosine {
            let logit_scale = params.get(1).ok_or_else(missing)?;
            logit_scale.expect(&[heads, 1, 1])?;
            for (scale, logit) in packed.iter_mut().zip(&logit_scale.data) {
                *scale = logit.min(100f32.ln()).exp();
            }
        }
        for head in 0..heads {
            packed.extend(table.data.iter().skip(head).step_by(heads));
        }
        packed.resize(packed.len().next_multiple_of(LANES), 0.0);
        Ok(vec![packed])
    }

    fn flops(&self, io: &Io) -> u64 {
        let shape = io.output.shape;
        let keys = self.window[0] * self.window[1];
        // Two products with each key, and its weight: the exponential, the bias and the sum.
        let each = ((4 * self.head_channels + 4) * keys) as u64;
        (self.heads as u64).saturating_mul(each).saturating_mul((shape.height * shape.width) as u64)
    }

    fn dispatches(&self, io: &Io, _: Traits) -> Result<Vec<Dispatch>> {
        let (src, dst) = (io.inputs[0].shape, io.output.shape);
        // At most zero and above the window's negative: where the tile's first window starts in the tile.
        let [start_y, start_x] = Axis::BOTH.map(|axis| {
            let origin = io.output.origin[axis as usize] as i64;
            self.start(axis, origin) - origin
        });
        let windows =
            |start: i64, size: usize, window: usize| to_u32((size + start.unsigned_abs() as usize).div_ceil(window));
        let tokens = self.window[0] * self.window[1];
        let queries = QUERIES.into_iter().find(|&queries| queries >= tokens).unwrap_or(QUERIES[2]);
        let blocks = tokens.div_ceil(queries);
        // The kernel's coordinates are signed.
        if dst.width.max(dst.height) > i32::MAX as usize / 2 {
            return Err(Error::shape(format!(
                "window attention: a size of {dst} exceeds the kernel's 32-bit arithmetic"
            )));
        }
        let params = Params {
            width: to_u32(dst.width)?,
            height: to_u32(dst.height)?,
            src_groups: to_u32(src.channel_groups())?,
            dst_groups: to_u32(dst.channel_groups())?,
            start_x: start_x as i32,
            start_y: start_y as i32,
        };
        Ok(vec![Dispatch {
            shader: &SHADER,
            constants: vec![
                ("HEADS", self.heads as f64),
                ("HEAD_CHANNELS", self.head_channels as f64),
                ("WINDOW_HEIGHT", self.window[0] as f64),
                ("WINDOW_WIDTH", self.window[1] as f64),
                ("COSINE", f64::from(u32::from(self.cosine))),
                ("QUERIES", queries as f64),
            ],
            params: params.bytes(),
            bindings: vec![Binding::Input(0), Binding::Weight(0), Binding::Output],
            workgroups: [
                windows(start_x, dst.width, self.window[1])?,
                windows(start_y, dst.height, self.window[0])?,
                to_u32(self.heads * blocks)?,
            ],
        }])
    }
}

/// Checks that the one input holds queries, keys and values; answers the channels of one of them.
pub(crate) fn qkv_channels(what: &str, heads: usize, head_channels: usize, inputs: &[usize]) -> Result<usize> {
    let channels = heads.checked_mul(head_channels).filter(|&channels| channels > 0);
    match (channels, inputs) {
        (Some(channels), [qkv]) if channels.checked_mul(3) == Some(*qkv) => Ok(channels),
        _ => Err(Error::shape(format!(
            "{what}: {heads} heads of {head_channels} channels need three times their channels, not {inputs:?}"
        ))),
    }
}
