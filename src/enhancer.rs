//! The API people use: a picture in, an enhanced picture out.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use web_time::Instant;

use crate::error::{Error, Result};
use crate::gpu::{Context, DeviceInfo, DeviceKind, Precision, Surface, Transfer};
use crate::image::Frame;
use crate::models::{DEFAULT_MODEL, Model, ValueRange};
use crate::tensor::HostTensor;
use crate::weights::Weights;

mod engine;
mod event_loop;
mod job;
mod run;

pub use engine::Device;
pub use job::{CancelToken, Enhanced, Generated, Job, Progress, Report};
pub use run::TileSize;

use engine::Engine;

/// Memory that activations may take on a device of this kind unless the builder says otherwise. 2 GiB on the CPU and on
/// cards with memory of their own, where small tiles would compute most pixels twice; 512 MiB on other GPUs and in
/// browsers, enough for a 1024x768 frame of the default generator in one piece.
pub const fn default_memory_limit_bytes(kind: DeviceKind) -> u64 {
    match kind {
        DeviceKind::Cpu | DeviceKind::Software | DeviceKind::Discrete if cfg!(not(target_arch = "wasm32")) => 2 << 30,
        _ => 512 << 20,
    }
}

/// Where a generator comes from.
#[derive(Clone, Debug)]
pub enum ModelSource {
    /// The generator built into the library (feature `default-weights`).
    Default,
    /// A safetensors file.
    File(PathBuf),
    /// A safetensors file in memory, and what to call it.
    Bytes {
        /// What reports call it.
        name: String,
        /// The file's content.
        bytes: Vec<u8>,
    },
    /// A generator that is already loaded.
    Loaded(Box<Model>),
}

impl ModelSource {
    /// The built-in generator if `text` is its name or `default`, else a file's path.
    pub fn parse(text: &str) -> Self {
        if text == DEFAULT_MODEL || text == "default" { Self::Default } else { Self::File(text.into()) }
    }

    /// Loads the generator.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read, [`Error::Weights`] if no architecture fits it.
    pub fn load(self) -> Result<Model> {
        match self {
            #[cfg(feature = "default-weights")]
            Self::Default => Model::built_in(),
            #[cfg(not(feature = "default-weights"))]
            Self::Default => Err(Error::Options(
                "this build has no generator inside: name a weights file, or build with the feature default-weights"
                    .into(),
            )),
            #[cfg(not(target_arch = "wasm32"))]
            Self::File(path) => {
                let name =
                    path.file_stem().map_or_else(|| path.display().to_string(), |stem| stem.to_string_lossy().into());
                let in_file = |message: String| Error::Weights(format!("{}: {message}", path.display()));
                Model::load(name, Weights::open(&path)?).map_err(|error| match error {
                    Error::Weights(message) => in_file(message),
                    Error::Shape(message) => in_file(message),
                    other => other,
                })
            }
            #[cfg(target_arch = "wasm32")]
            Self::File(_) => Err(Error::Options("a browser opens no files: hand the bytes over".into())),
            Self::Bytes { name, bytes } => Model::load(name, Weights::from_bytes(bytes)?),
            Self::Loaded(model) => Ok(*model),
        }
    }
}

/// Options of an [`Enhancer`].
#[derive(Clone, Debug)]
#[must_use]
pub struct EnhancerBuilder {
    models: Vec<ModelSource>,
    device: Device,
    precision: Precision,
    tile: TileSize,
    strength: f32,
    memory_limit_bytes: Option<u64>,
    cache_dir: Option<PathBuf>,
}

impl EnhancerBuilder {
    /// The generator; the default is the built-in one. Called again, the generators run one after the other, the first
    /// one's output being the second one's input.
    pub fn model(mut self, model: ModelSource) -> Self {
        self.models.push(model);
        self
    }

    /// The device; the default is the best GPU, or the CPU without one.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// How a GPU stores activations and weights; the default is f32.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// How large tiles are; results are the same bits for every size. The default is by memory.
    pub fn tile(mut self, tile: TileSize) -> Self {
        self.tile = tile;
        self
    }

    /// Share of the generator's result in the output, 0 (the input, bit for bit) to 1, the default.
    pub fn strength(mut self, strength: f32) -> Self {
        self.strength = strength;
        self
    }

    /// The most memory that activations should take; the default is [`default_memory_limit_bytes`].
    pub fn memory_limit_bytes(mut self, bytes: u64) -> Self {
        self.memory_limit_bytes = Some(bytes);
        self
    }

    /// Keeps compiled kernels in this directory, so that the next process starts faster; no effect where the driver offers
    /// no cache, and on a [`Device::Shared`]. Damaged files are ignored and written anew.
    pub fn cache_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(path.into());
        self
    }

    /// Loads the generator and opens the device. Blocks; not in a browser.
    ///
    /// # Errors
    /// [`Error::Weights`] and [`Error::File`] of the generator, [`Error::NoDevice`], [`Error::Options`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn build(self) -> Result<Enhancer> {
        pollster::block_on(self.build_async())
    }

    /// As `build`, without blocking.
    ///
    /// # Errors
    /// As `build`.
    pub async fn build_async(self) -> Result<Enhancer> {
        check_strength(self.strength)?;
        let mut models = self.models.into_iter();
        let mut model = models.next().unwrap_or(ModelSource::Default).load()?;
        for next in models {
            model = model.then(next.load()?)?;
        }
        let engine = Engine::new(model.graph.clone(), self.device, self.precision, self.cache_dir).await?;
        let memory_limit_bytes =
            self.memory_limit_bytes.unwrap_or_else(|| default_memory_limit_bytes(engine.info().kind));
        Ok(Enhancer {
            inner: Arc::new(Inner { engine, model, tile: self.tile, strength: self.strength, memory_limit_bytes }),
        })
    }
}

fn check_strength(strength: f32) -> Result<()> {
    if (0.0..=1.0).contains(&strength) {
        Ok(())
    } else {
        Err(Error::Options(format!("a strength of {strength} is not between 0 and 1")))
    }
}

/// A generator on a device, ready for any number of pictures. Clones share both.
///
/// ```no_run
/// use sonolume::{Enhancer, Frame};
///
/// let enhancer = Enhancer::builder().build()?;
/// let enhanced = enhancer.enhance(&Frame::open("scan.png")?)?;
/// enhanced.frame.save("enhanced.png")?;
/// println!("{} on {}", enhanced.report.model, enhanced.report.device.name);
/// # Ok::<(), sonolume::Error>(())
/// ```
#[derive(Clone)]
pub struct Enhancer {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    model: Model,
    tile: TileSize,
    strength: f32,
    memory_limit_bytes: u64,
}

impl std::fmt::Debug for Enhancer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enhancer")
            .field("model", &self.inner.model.name)
            .field("device", &self.device().name)
            .finish_non_exhaustive()
    }
}

impl Enhancer {
    /// Options, each with its default.
    pub fn builder() -> EnhancerBuilder {
        EnhancerBuilder {
            models: Vec::new(),
            device: Device::Auto,
            precision: Precision::F32,
            tile: TileSize::Auto,
            strength: 1.0,
            memory_limit_bytes: None,
            cache_dir: None,
        }
    }

    /// The device that does the work.
    pub fn device(&self) -> DeviceInfo {
        self.inner.engine.info()
    }

    /// The opened GPU, whose device and queue other work can share; `None` on the CPU. After a loss the next run opens another.
    pub fn context(&self) -> Option<Arc<Context>> {
        self.inner.engine.context()
    }

    /// The generator.
    pub fn model(&self) -> &Model {
        &self.inner.model
    }

    /// Enhances a picture. Blocks; not in a browser.
    ///
    /// # Errors
    /// [`Error::Image`] if the picture does not suit the generator, [`Error::OutOfMemory`], [`Error::DeviceLost`] and
    /// [`Error::Device`] as the device reports them, [`Error::NonFinite`] if the result is not a picture.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn enhance(&self, frame: &Frame) -> Result<Enhanced> {
        self.enhance_with(frame, Job::new())
    }

    /// As [`Enhancer::enhance`], with progress, cancellation and a strength of its own.
    ///
    /// # Errors
    /// As [`Enhancer::enhance`], [`Error::Cancelled`], and [`Error::Options`] for a strength out of range.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn enhance_with(&self, frame: &Frame, job: Job<'_>) -> Result<Enhanced> {
        pollster::block_on(self.inner.enhance(frame, job))
    }

    /// Enhances pictures in their order; one that fails does not stop the others. While a GPU computes a picture, the next
    /// one is already taken from `frames` and uploaded.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn enhance_batch<'f>(
        &self,
        frames: impl IntoIterator<Item = &'f Frame>,
    ) -> impl Iterator<Item = Result<Enhanced>> {
        let inner = &*self.inner;
        let mut frames = frames.into_iter();
        let begin = |frame: &'f Frame| (frame, pollster::block_on(inner.begin(frame, Job::new())));
        let mut ahead = None;
        std::iter::from_fn(move || {
            let (frame, begun) = ahead.take().or_else(|| frames.next().map(begin))?;
            if inner.engine.computes_while_waiting() {
                ahead = frames.next().map(begin);
            }
            Some(pollster::block_on(async { inner.deliver(begun?, frame).await }))
        })
    }

    /// As [`Enhancer::enhance_with`] without blocking the caller: natively a thread does the work, in a browser the
    /// event loop.
    ///
    /// # Errors
    /// As [`Enhancer::enhance_with`].
    pub async fn enhance_async(&self, frame: Frame, job: Job<'static>) -> Result<Enhanced> {
        #[cfg(target_arch = "wasm32")]
        return self.inner.enhance(&frame, job).await;
        #[cfg(not(target_arch = "wasm32"))]
        {
            let (sender, receiver) = futures_channel::oneshot::channel();
            let inner = self.inner.clone();
            let work = move || {
                // Nobody listens if the future was dropped.
                let _ = sender.send(pollster::block_on(inner.enhance(&frame, job)));
            };
            std::thread::Builder::new()
                .name("sonolume".into())
                .spawn(work)
                .map_err(|error| Error::Device(format!("no thread could be started: {error}")))?;
            receiver.await.unwrap_or_else(|_| Err(Error::Device("the work was given up".into())))
        }
    }

    /// Runs the generator and keeps its answer apart from the picture, so that another strength costs no second run. Blocks
    /// natively; see [`Enhancer::enhance_async`] for what does not.
    ///
    /// # Errors
    /// As [`Enhancer::enhance_with`].
    pub async fn generate(&self, frame: &Frame, job: Job<'_>) -> Result<Generated> {
        self.inner.generate(frame, job).await
    }

    /// Runs the generator on a tensor, `[channels, height, width]` in the generator's own range of values, without
    /// anything that belongs to pictures. Blocks; not in a browser.
    ///
    /// # Errors
    /// As [`Enhancer::enhance`]; [`Error::Shape`] if the channels differ from the generator's.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run(&self, input: &HostTensor) -> Result<HostTensor> {
        pollster::block_on(self.run_async(input))
    }

    /// As `run`, without blocking in a browser.
    ///
    /// # Errors
    /// As `run`.
    pub async fn run_async(&self, input: &HostTensor) -> Result<HostTensor> {
        let inner = &*self.inner;
        let (output, _) =
            run::run_host(&inner.engine, input, inner.tile, inner.memory_limit_bytes, &mut Job::new()).await?;
        finite(output, &inner.model.name)
    }

    /// Enhances an image that is on the device and leaves the result there, in the order of the queue: no round trip
    /// through host memory and no wait. Both must be of the device that the enhancer runs on ([`Device::Shared`], or
    /// [`Enhancer::context`]): what is of another is an error, and of another `wgpu::Instance` cannot be told apart.
    ///
    /// Values are 0 to 1 whatever the generator's own range; the result is clamped, blended by the strength, and not
    /// checked for NaN.
    ///
    /// # Errors
    /// [`Error::Options`] if the surfaces do not suit, and as [`Enhancer::enhance`]; a lost device, of whoever, is not opened anew.
    pub async fn enhance_on_device(&self, input: Surface<'_>, output: Surface<'_>, mut job: Job<'_>) -> Result<Report> {
        let started = Instant::now();
        let inner = &*self.inner;
        let strength = job.strength.unwrap_or(inner.strength);
        check_strength(strength)?;
        let channels = inner.model.in_channels();
        if channels != inner.model.out_channels() || ![1, 3].contains(&channels) {
            return Err(Error::Options(
                "images on the device need a generator from 1 to 1 or from 3 to 3 channels".into(),
            ));
        }
        let black_white = if inner.model.range == ValueRange::Signed { [-1.0, 1.0] } else { [0.0, 1.0] };
        let factor = inner.model.graph.scale()?[0].up;
        let transfer = Transfer { input, output, factor, channels, black_white, strength };
        transfer.check()?;
        let outcome = run::run_device(&inner.engine, &transfer, inner.tile, inner.memory_limit_bytes, &mut job).await?;
        Ok(inner.report(strength, [input.size(), output.size()], &outcome, started.elapsed(), started))
    }
}

/// A picture that the device has.
struct Begun {
    running: run::Running,
    strength: f32,
    /// Height and width.
    input_size: [usize; 2],
    started: Instant,
    /// When the generator was started.
    generator: Instant,
}

impl Inner {
    async fn enhance(&self, frame: &Frame, job: Job<'_>) -> Result<Enhanced> {
        self.deliver(self.begin(frame, job).await?, frame).await
    }

    async fn generate(&self, frame: &Frame, job: Job<'_>) -> Result<Generated> {
        self.finish(self.begin(frame, job).await?).await
    }

    /// Hands a picture to the device.
    async fn begin(&self, frame: &Frame, mut job: Job<'_>) -> Result<Begun> {
        let started = Instant::now();
        let strength = job.strength.unwrap_or(self.strength);
        check_strength(strength)?;
        let mut input = match [self.model.in_channels(), self.model.out_channels()] {
            [1, 1] => frame.luma(),
            [3, 3] => frame.rgb(),
            [from, to] => {
                return Err(Error::Options(format!(
                    "{} turns {from} channels into {to}: pictures need a generator from 1 to 1 or from 3 to 3",
                    self.model.name
                )));
            }
        };
        if self.model.range == ValueRange::Signed {
            input.data_mut().iter_mut().for_each(|value| *value = 2.0 * *value - 1.0);
        }
        let generator = Instant::now();
        let running =
            run::start_host(&self.engine, Cow::Owned(input), self.tile, self.memory_limit_bytes, &mut job).await?;
        Ok(Begun { running, strength, input_size: [frame.height(), frame.width()], started, generator })
    }

    /// Waits for the generator's answer and blends it with the picture.
    async fn deliver(&self, begun: Begun, frame: &Frame) -> Result<Enhanced> {
        let started = begun.started;
        self.finish(begun).await?.into_enhanced(frame, started)
    }

    /// Waits for the generator's answer.
    async fn finish(&self, begun: Begun) -> Result<Generated> {
        let Begun { running, strength, input_size, started, generator } = begun;
        let (output, outcome) = running.finish().await?;
        let generator_time = generator.elapsed();
        let mut output = finite(output, &self.model.name)?;
        if self.model.range == ValueRange::Signed {
            output.data_mut().iter_mut().for_each(|value| *value = 0.5 * (*value + 1.0));
        }
        let sizes = [input_size, [output.shape().height, output.shape().width]];
        let report = self.report(strength, sizes, &outcome, generator_time, started);
        Ok(Generated { output, report })
    }

    fn report(
        &self,
        strength: f32,
        [input_size, output_size]: [[usize; 2]; 2],
        outcome: &run::Outcome,
        generator_time: Duration,
        started: Instant,
    ) -> Report {
        let scale = output_size[1] / input_size[1].max(1);
        Report {
            device: self.engine.info(),
            precision: self.engine.precision(),
            model: self.model.name.clone(),
            architecture: self.model.architecture.clone(),
            model_sha256: self.model.sha256.clone(),
            input_size,
            output_size,
            scale,
            caveat: job::caveat(scale),
            strength,
            tiles: outcome.tiles,
            tile_size: outcome.tile_size,
            activation_bytes: outcome.activation_bytes,
            flops: outcome.flops,
            generator_time,
            total_time: started.elapsed(),
        }
    }
}

/// The tensor, if it holds neither NaN nor infinity.
fn finite(tensor: HostTensor, model: &str) -> Result<HostTensor> {
    if tensor.is_finite() { Ok(tensor) } else { Err(Error::NonFinite(model.to_owned())) }
}
