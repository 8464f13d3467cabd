//! Builder methods for the operators without weights: the vocabulary in which architectures are written.

use super::{Graph, Value};
use crate::error::{Error, Result};
use crate::ops::activation::{Activation, Function};
use crate::ops::binary::{Binary, BinaryKind, Broadcast};
use crate::ops::concat::Concat;
use crate::ops::crop::{Crop, CropAmount};
use crate::ops::gate::Gate;
use crate::ops::global_pool::GlobalPool;
use crate::ops::pad::{Pad, PadAmount};
use crate::ops::pixel_shuffle::PixelShuffle;
use crate::ops::pixel_unshuffle::PixelUnshuffle;
use crate::ops::pool2d::{Pool2d, PoolKind};
use crate::ops::row_coordinate::RowCoordinate;
use crate::ops::upsample::{Interpolation, Upsample};
use crate::ops::{Axis, Border, Scale};

impl Graph {
    /// Applies `function` element by element; not for PReLU, which has weights.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn activation(&mut self, x: Value, function: Function) -> Result<Value> {
        let channels = self.channels(x);
        self.push(Activation { channels, function }, &[x], vec![])
    }

    /// `a + b`.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn add(&mut self, a: Value, b: Value) -> Result<Value> {
        self.scaled_add(a, 1.0, b, 1.0)
    }

    /// `alpha * a + beta * b`.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn scaled_add(&mut self, a: Value, alpha: f32, b: Value, beta: f32) -> Result<Value> {
        self.binary(a, b, BinaryKind::Add { alpha, beta })
    }

    /// `a * b`; `b` may have one channel, or one pixel if it is pooled.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn multiply(&mut self, a: Value, b: Value) -> Result<Value> {
        self.binary(a, b, BinaryKind::Multiply)
    }

    fn binary(&mut self, a: Value, b: Value, kind: BinaryKind) -> Result<Value> {
        let channels = self.channels(a);
        let pooled = |value| self.scale_of(value, Axis::Vertical).up == 0;
        let broadcast = if pooled(b) && !pooled(a) {
            Broadcast::Pooled
        } else if self.channels(b) == 1 && channels > 1 {
            Broadcast::Channel
        } else {
            Broadcast::None
        };
        self.push(Binary::new(channels, kind, broadcast), &[a, b], vec![])
    }

    /// The channels of `a`, then those of `b`.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn concat(&mut self, a: Value, b: Value) -> Result<Value> {
        self.push(Concat, &[a, b], vec![])
    }

    /// `function(first half of the channels) * second half`.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn gate(&mut self, x: Value, function: Function) -> Result<Value> {
        let channels = self.channels(x) / 2;
        self.push(Gate { channels, activation: function }, &[x], vec![])
    }

    /// Depth to space.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn pixel_shuffle(&mut self, x: Value, factor: usize) -> Result<Value> {
        self.push(PixelShuffle { factor }, &[x], vec![])
    }

    /// Space to depth.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn pixel_unshuffle(&mut self, x: Value, factor: usize) -> Result<Value> {
        self.push(PixelUnshuffle { factor }, &[x], vec![])
    }

    /// Enlarges by a whole factor.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn upsample(&mut self, x: Value, factor: usize, mode: Interpolation) -> Result<Value> {
        self.push(Upsample { scale: [factor; 2], mode, combine: None, then: None, joined: false }, &[x], vec![])
    }

    /// The largest or the mean value of non-overlapping squares.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn pool(&mut self, x: Value, size: usize, kind: PoolKind) -> Result<Value> {
        let pool = Pool2d { kind, kernel: [size; 2], stride: [size; 2], padding: [[0; 2]; 2], count_include_pad: true };
        self.push(pool, &[x], vec![])
    }

    /// One pixel for the whole image.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn global_pool(&mut self, x: Value, kind: PoolKind) -> Result<Value> {
        self.push(GlobalPool { kind }, &[x], vec![])
    }

    /// Pads right and bottom so that both sizes are multiples of `multiple`.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn pad_to_multiple(&mut self, x: Value, multiple: usize, border: Border) -> Result<Value> {
        self.push(Pad { amount: PadAmount::ToMultiple([multiple; 2]), border }, &[x], vec![])
    }

    /// Crops right and bottom to the size of `like` times their difference in scale.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn crop_like(&mut self, x: Value, like: Value) -> Result<Value> {
        let ratio = |axis| {
            let (of, to) = (self.scale_of(x, axis), self.scale_of(like, axis));
            Scale::new(of.up * to.down, of.down * to.up).up
        };
        let scale = Axis::BOTH.map(ratio);
        self.push(Crop { amount: CropAmount::Like { scale } }, &[x, like], vec![])
    }

    /// A channel that holds the row's place in the whole image `x`, 0 at the top and 1 at the bottom, unshuffled by `factor` to
    /// the size of `like`.
    ///
    /// # Errors
    /// As [`Graph::push`]; [`Error::Shape`] if `x` has not `factor` times the pixels of `like`.
    pub fn row_coordinate(&mut self, x: Value, like: Value, factor: usize) -> Result<Value> {
        let step = Scale::new(1, factor.max(1));
        if Axis::BOTH.iter().any(|&axis| self.scale_of(x, axis).then(step) != self.scale_of(like, axis)) {
            return Err(Error::shape(format!(
                "the row coordinate by {factor}: the images' scales do not fit each other"
            )));
        }
        self.push(RowCoordinate { factor }, &[x, like], vec![])
    }
}
