//! `sonolume bench`: how fast generators are on this device, after checking that it computes them right.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};
use sonolume::gpu::{Context, DeviceKind, GpuRunner};
use sonolume::image::DECODE_LIMIT_BYTES;
use sonolume::models::DEFAULT_MODEL;
use sonolume::phantom::{Phantom, PhantomOptions};
use sonolume::{Device, Enhancer, Frame, HostTensor, ModelSource, Precision, Report, TileSize};

use super::console::Console;
use super::engine::{DeviceOptions, device_record, precision_name};
use super::failure::{Failure, Kind, Result, outcome};
use super::size::Size;

/// Side lengths of the picture that answers are checked on: no multiple of anything, and more than one tile.
const CHECKED: Size = Size { width: 83, height: 61 };
/// Side of a tile of the checks.
const CHECKED_TILE: usize = 32;

/// Measure generators on a device.
///
/// Before anything is timed, the device's answer on a small picture is compared with the CPU's, and the CPU's own with the
/// one it gives in tiles; a wrong one ends the command with code 1. Times are those of a whole call, from a picture in
/// memory to a picture in memory. `first ms` is the first call at its size; for a generator's first size it includes making
/// its kernels. `GPU ms` is what the operators take on the device by its own clock, for pictures that need no tiles.
#[derive(Args)]
pub struct Options {
    /// Built-in names or safetensors files; the built-in generator if there are none.
    #[arg(value_name = "NAME_OR_PATH")]
    models: Vec<OsString>,

    /// A picture's size; may be given again.
    #[arg(long = "size", value_name = "WxH", default_values = ["640x480", "1024x768", "2048x2048"])]
    sizes: Vec<Size>,

    /// How often each picture is enhanced after the first time.
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repetitions: u32,

    #[command(flatten)]
    device: DeviceOptions,
}

pub fn run(options: &Options, console: &Console) -> Result<u8> {
    let built_in = [OsString::from(DEFAULT_MODEL)];
    let names = if options.models.is_empty() { &built_in[..] } else { &options.models[..] };
    let context = options.device.context()?;
    let mut failures = Vec::new();
    let mut done = 0;
    let mut device = String::new();
    for name in names {
        let mut fail = |failure: Failure| {
            let failure = failure.at(name.as_ref());
            console.fail(&failure);
            failures.push(failure.kind);
        };
        let started = Instant::now();
        let shared = context.clone().map_or(Device::Cpu, Device::Shared);
        let enhancer = match options.device.open_on(shared, std::slice::from_ref(name), console) {
            Ok(enhancer) => enhancer,
            Err(failure) => {
                fail(failure);
                continue;
            }
        };
        let open_ms = milliseconds(started);
        let mut error = None;
        for &size in &options.sizes {
            // The first call comes before the check, which would make the kernels; a wrong answer discards it.
            let measured = Row::first(&enhancer, size).and_then(|row| {
                if error.is_none() {
                    error = Some(check(&enhancer, options.device.precision())?);
                }
                row.repeat(&enhancer, options.repetitions)?.on_device(&enhancer, context.as_ref())
            });
            match measured {
                Ok(row) => {
                    done += 1;
                    if console.json() {
                        console.record(&row.record(&enhancer, open_ms, error))?;
                        continue;
                    }
                    if device != row.device() {
                        device = row.device();
                        console.text(&format!("{device}\n{HEADER}\n"))?;
                    }
                    console.text(&row.text())?;
                }
                Err(failure) => {
                    fail(failure);
                    if error.is_none() {
                        break;
                    }
                }
            }
        }
    }
    Ok(outcome(done, &failures))
}

/// The largest difference of the device's answer from the CPU's, relative to the largest value; an error if it is too large.
fn check(enhancer: &Enhancer, precision: Precision) -> Result<f32> {
    let input = values(CHECKED, enhancer.model().in_channels())?;
    let cpu = |tile: TileSize| -> Result<HostTensor> {
        let model = ModelSource::Loaded(Box::new(enhancer.model().clone()));
        Ok(Enhancer::builder().model(model).device(Device::Cpu).tile(tile).build()?.run(&input)?)
    };
    let truth = cpu(TileSize::Auto)?;
    let (answer, limit) = match (enhancer.device().kind, precision) {
        // A tile's sums over the whole image are rounded in another order.
        (DeviceKind::Cpu, _) => {
            (cpu(TileSize::Square(CHECKED_TILE))?, if enhancer.model().graph.is_global() { 1e-5 } else { 0.0 })
        }
        (_, Precision::F32) => (enhancer.run(&input)?, 1e-4),
        (_, Precision::F16) => (enhancer.run(&input)?, 5e-2),
    };
    let largest = truth.data().iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let differences = truth.data().iter().zip(answer.data()).map(|(a, b)| (a - b).abs());
    let error = differences.fold(0.0, f32::max) / largest;
    // Written so that NaN fails.
    if error <= limit {
        Ok(error)
    } else {
        let name = enhancer.device().name;
        let message = format!("the answer of {name} is wrong by {error:.1e} of its range: it was not timed");
        Err(Failure::new(Kind::Failed, message))
    }
}

/// A picture's values for a generator of any number of channels.
fn values(size: Size, channels: usize) -> Result<HostTensor> {
    let luma = picture(size)?.luma();
    let mut shape = luma.shape();
    shape.channels = channels;
    Ok(HostTensor::new(shape, luma.data().repeat(channels))?)
}

/// A simulated picture of any size.
fn picture(size: Size) -> Result<Frame> {
    if size.width as u64 * size.height as u64 > DECODE_LIMIT_BYTES {
        let message = format!("{}x{} pixels are more than a picture may have here", size.width, size.height);
        return Err(Failure::usage(message));
    }
    // Simulating a large one takes longer than enhancing it, and times do not depend on what is seen.
    let options = PhantomOptions { width: 256, height: 192, ..PhantomOptions::default() };
    let scene = Phantom::new(options)?.pair().low;
    let samples = scene.as_u8().ok_or_else(|| Failure::new(Kind::Failed, "the phantom is not of 8 bits"))?;
    let at = |i: usize| samples[i / size.width % scene.height() * scene.width() + i % size.width % scene.width()];
    Ok(Frame::from_luma8(size.width, size.height, (0..size.width * size.height).map(at).collect())?)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

const HEADER: &str =
    "generator         size             ms (min to max)  GPU ms  frames/s    ms/Mpx  GFLOP/s  MiB  first ms";

/// One generator at one size.
struct Row {
    size: Size,
    frame: Frame,
    report: Report,
    first_ms: f64,
    /// Sorted.
    times_ms: Vec<f64>,
    /// What the operators take on a GPU that measures time, if the picture runs untiled.
    device_ms: Option<f64>,
    weight_bytes: u64,
}

impl Row {
    /// The first call.
    fn first(enhancer: &Enhancer, size: Size) -> Result<Self> {
        let frame = picture(size)?;
        let started = Instant::now();
        let report = enhancer.enhance(&frame)?.report;
        let first_ms = milliseconds(started);
        let bytes = if report.precision == Precision::F16 { 2 } else { 4 };
        let weight_bytes = enhancer.model().graph.parameters() as u64 * bytes;
        Ok(Self { size, frame, report, first_ms, times_ms: Vec::new(), device_ms: None, weight_bytes })
    }

    /// The calls that count.
    fn repeat(mut self, enhancer: &Enhancer, repetitions: u32) -> Result<Self> {
        for _ in 0..repetitions {
            let started = Instant::now();
            enhancer.enhance(&self.frame)?;
            self.times_ms.push(milliseconds(started));
        }
        self.times_ms.sort_by(f64::total_cmp);
        Ok(self)
    }

    /// The sum of the operators' times by timestamp queries, the least of three runs.
    fn on_device(mut self, enhancer: &Enhancer, context: Option<&Arc<Context>>) -> Result<Self> {
        let Some(context) = context.filter(|context| self.report.tiles == 1 && context.has_timestamps()) else {
            return Ok(self);
        };
        let model = enhancer.model();
        let plan = model.graph.plan_whole(self.size.height, self.size.width)?;
        let input = values(self.size, model.in_channels())?;
        let profile = async {
            let runner = GpuRunner::new(context.clone(), model.graph.clone(), self.report.precision).await?;
            let mut least = u64::MAX;
            for _ in 0..3 {
                let timings = runner.profile(&plan, std::slice::from_ref(&input)).await?;
                least = least.min(timings.iter().map(|timing| timing.nanoseconds).sum());
            }
            Ok::<_, sonolume::Error>(least)
        };
        self.device_ms = Some(pollster::block_on(profile)? as f64 / 1e6);
        Ok(self)
    }

    fn median_ms(&self) -> f64 {
        let times = &self.times_ms;
        (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2.0
    }

    fn ms_per_megapixel(&self) -> f64 {
        self.median_ms() * 1e6 / (self.size.width * self.size.height) as f64
    }

    fn gflops(&self) -> f64 {
        self.report.flops as f64 / 1e6 / self.median_ms()
    }

    /// What the table is about.
    fn device(&self) -> String {
        format!("{}, {}", self.report.device.name, precision_name(self.report.precision))
    }

    fn text(&self) -> String {
        let (first, last) = (self.times_ms[0], self.times_ms[self.times_ms.len() - 1]);
        format!(
            "{:<16}  {:<9}  {:>22}  {:>6}  {:>8.2}  {:>8.1}  {:>7.1}  {:>3.0}  {:>8.1}\n",
            self.report.model,
            format!("{}x{}", self.size.width, self.size.height),
            format!("{:.1} ({first:.1} to {last:.1})", self.median_ms()),
            self.device_ms.map_or("-".into(), |ms| format!("{ms:.1}")),
            1e3 / self.median_ms(),
            self.ms_per_megapixel(),
            self.gflops(),
            (self.report.activation_bytes + self.weight_bytes) as f64 / f64::from(1 << 20),
            self.first_ms,
        )
    }

    fn record(&self, enhancer: &Enhancer, open_ms: f64, error: Option<f32>) -> Value {
        json!({
            "model": self.report.model,
            "architecture": self.report.architecture,
            "model_sha256": self.report.model_sha256,
            "device": device_record(&enhancer.device()),
            "precision": precision_name(self.report.precision),
            "error": error,
            "size": { "width": self.size.width, "height": self.size.height },
            "ms": { "median": self.median_ms(), "min": self.times_ms[0], "max": self.times_ms[self.times_ms.len() - 1] },
            "device_ms": self.device_ms,
            "frames_per_second": 1e3 / self.median_ms(),
            "ms_per_megapixel": self.ms_per_megapixel(),
            "gflop": self.report.flops as f64 / 1e9,
            "gflops": self.gflops(),
            "activation_bytes": self.report.activation_bytes,
            "weight_bytes": self.weight_bytes,
            "tiles": self.report.tiles,
            "open_ms": open_ms,
            "first_ms": self.first_ms,
        })
    }
}
