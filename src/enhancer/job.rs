//! What a caller says of one piece of work, and what it is told afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use web_time::Instant;
use wgpu::WasmNotSend;

use crate::error::Result;
use crate::gpu::{DeviceInfo, Precision};
use crate::image::Frame;
use crate::tensor::HostTensor;

/// Stops work from another thread, in a browser from another task of the event loop: between tiles, the call returns
/// [`Error::Cancelled`](crate::Error::Cancelled).
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that nobody has used yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the work that carries this token to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True once [`CancelToken::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How far the work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Input pixels done; on a GPU handed to it, which computes the last tile while the callback runs.
    pub done: usize,
    /// Input pixels in all.
    pub total: usize,
}

#[cfg(not(target_arch = "wasm32"))]
type Callback<'a> = Box<dyn FnMut(Progress) + Send + 'a>;
/// A browser's callbacks belong to their thread, and the work stays on it.
#[cfg(target_arch = "wasm32")]
type Callback<'a> = Box<dyn FnMut(Progress) + 'a>;

/// Options of one call. `Job::default()` is silent and runs to the end.
#[derive(Default)]
pub struct Job<'a> {
    pub(super) progress: Option<Callback<'a>>,
    pub(super) cancel: Option<CancelToken>,
    pub(super) strength: Option<f32>,
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("cancel", &self.cancel).field("strength", &self.strength).finish_non_exhaustive()
    }
}

impl<'a> Job<'a> {
    /// A job without options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `callback` after every tile, on a GPU once the device has it; in a browser it need not be `Send`.
    #[must_use]
    pub fn progress(mut self, callback: impl FnMut(Progress) + WasmNotSend + 'a) -> Self {
        self.progress = Some(Box::new(callback));
        self
    }

    /// Lets `token` stop the job between tiles.
    #[must_use]
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = Some(token.clone());
        self
    }

    /// Overrides the enhancer's strength, 0 (the input, bit for bit) to 1 (the generator's result).
    #[must_use]
    pub fn strength(mut self, strength: f32) -> Self {
        self.strength = Some(strength);
        self
    }
}

/// A record of what was done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The device that did the work.
    pub device: DeviceInfo,
    /// How activations were stored.
    pub precision: Precision,
    /// The generator's name.
    pub model: String,
    /// The generator's architecture.
    pub architecture: String,
    /// SHA-256 of the generator's weights.
    pub model_sha256: String,
    /// Height and width of the input.
    pub input_size: [usize; 2],
    /// Height and width of the output.
    pub output_size: [usize; 2],
    /// Output pixels for each input pixel, on each axis.
    pub scale: usize,
    /// What an enlarged result is not; `None` at scale 1.
    pub caveat: Option<String>,
    /// Share of the generator's result in the output.
    pub strength: f32,
    /// Number of tiles.
    pub tiles: usize,
    /// Height and width of the largest tile's core.
    pub tile_size: [usize; 2],
    /// Memory for the activations of the largest tile.
    pub activation_bytes: u64,
    /// Floating-point operations of all tiles, halos included.
    pub flops: u64,
    /// Wall time of the generator, transfers included.
    pub generator_time: Duration,
    /// Wall time of the whole call.
    pub total_time: Duration,
}

/// What a picture that was enlarged `scale` times is not.
pub(super) fn caveat(scale: usize) -> Option<String> {
    (scale > 1).then(|| {
        format!(
            "{scale} times as many pixels on each axis, but no more echoes: what is finer than the input's pixels is the \
             generator's guess, in the manner of what it was trained on (photographs, for most that enlarge); speckle may \
             come out as texture or edges that are not in the tissue. Pixel spacing is now 1/{scale} of the input's"
        )
    })
}

/// An enhanced picture, and how it came about.
#[derive(Clone, Debug)]
pub struct Enhanced {
    /// The picture.
    pub frame: Frame,
    /// What was done.
    pub report: Report,
}

/// A generator's answer to a picture, to be blended with it at any strength.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The answer, `[channels, height, width]`, 0 is black and 1 is white; not clamped.
    pub output: HostTensor,
    /// What was done.
    pub report: Report,
}

impl Generated {
    /// `frame`, the picture that was asked about, with this answer, as [`Frame::with_luma`] and [`Frame::with_rgb`] say.
    ///
    /// # Errors
    /// [`Error::Options`](crate::Error::Options) for a strength out of range, [`Error::Shape`](crate::Error::Shape) if the
    /// frame has another size.
    pub fn blend(&self, frame: &Frame, strength: f32) -> Result<Frame> {
        if self.output.shape().channels == 1 {
            frame.with_luma(&self.output, strength)
        } else {
            frame.with_rgb(&self.output, strength)
        }
    }

    /// The blended picture with its report, for a call that began at `started`.
    pub(super) fn into_enhanced(self, frame: &Frame, started: Instant) -> Result<Enhanced> {
        let frame = self.blend(frame, self.report.strength)?;
        Ok(Enhanced { frame, report: Report { total_time: started.elapsed(), ..self.report } })
    }
}
