//! The options that choose the generator and the device, and what the user is told about the choice.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use sonolume::gpu::{Context, DeviceKind};
use sonolume::models::DEFAULT_MODEL;
use sonolume::{Device, DeviceInfo, Enhancer, ModelSource, Precision, TileSize};

use super::console::Console;
use super::failure::{Failure, Kind, Result};

/// Options of every command that runs a generator.
#[derive(Args)]
pub struct EngineOptions {
    /// The generator: a built-in one's name (see `sonolume models`) or a safetensors file. Given again, the generators
    /// run one after the other, each on the result of the one before.
    #[arg(short, long = "model", value_name = "NAME_OR_PATH")]
    pub models: Vec<OsString>,

    #[command(flatten)]
    pub device: DeviceOptions,
}

/// Options of every command that uses a device.
#[derive(Args)]
pub struct DeviceOptions {
    /// `auto`: the best GPU, without one the CPU; `cpu`; `gpu`: the best GPU or nothing; else a part of a device's name
    /// (see `sonolume devices`).
    #[arg(long, default_value = "auto", value_parser = device)]
    device: Device,

    /// How a GPU stores activations and weights; the CPU always computes in f32.
    #[arg(long, value_enum, default_value_t = PrecisionName::F32)]
    precision: PrecisionName,

    /// Side of a tile in pixels, or `auto`: as large as the memory limit allows. The result is the same bits for every
    /// size.
    #[arg(long, default_value = "auto", value_name = "auto|PIXELS")]
    tile: Tile,

    /// The most memory that activations should take, in MiB; the default is 2048 on the CPU and on cards with memory of
    /// their own, else 512.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..1 << 40))]
    memory_limit: Option<u64>,

    /// Where a GPU's compiled kernels are kept, so that the next run starts faster; the default is a folder among the
    /// user's caches.
    #[arg(long, value_name = "FOLDER")]
    kernel_cache: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionName {
    F32,
    F16,
}

/// `auto` or a side in pixels.
#[derive(Clone, Copy)]
struct Tile(TileSize);

impl FromStr for Tile {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            _ if text.eq_ignore_ascii_case("auto") => Ok(Self(TileSize::Auto)),
            Ok(side @ 1..=0xFFFF_FFFF) => Ok(Self(TileSize::Square(side))),
            _ => Err("write `auto`, or the side of a tile in pixels, at least 1"),
        }
    }
}

fn device(text: &str) -> Result<Device, &'static str> {
    if text.trim().is_empty() {
        return Err("write `auto`, `cpu`, `gpu` or a part of a device's name");
    }
    Ok(Device::parse(text))
}

impl EngineOptions {
    /// Loads the generator and opens the device; says so if there is only the CPU.
    pub fn open(&self, console: &Console) -> Result<Enhancer> {
        self.device.open(&self.models, console)
    }

    /// Why the CPU does the work, if nobody asked for it.
    pub fn fallback(&self, device: &DeviceInfo) -> Option<&'static str> {
        self.device.fallback(device)
    }
}

impl DeviceOptions {
    /// Loads generators, which run one after the other, and opens the device; says so if there is only the CPU.
    pub fn open(&self, models: &[OsString], console: &Console) -> Result<Enhancer> {
        self.open_on(self.device.clone(), models, console)
    }

    /// The device itself; the CPU is none.
    pub fn context(&self) -> Result<Option<Arc<Context>>> {
        let cache = self.kernel_cache.clone().or_else(kernel_cache);
        let automatic = || pollster::block_on(Context::automatic_with_cache(cache.as_deref()));
        Ok(match &self.device {
            Device::Cpu => None,
            Device::Auto => automatic()?,
            Device::Gpu => Some(automatic()?.ok_or_else(|| {
                Failure::new(Kind::NoDevice, "this machine has no GPU that wgpu can use: try --device auto")
            })?),
            Device::Named(name) => Some(pollster::block_on(Context::named_with_cache(name, cache.as_deref()))?),
            Device::Shared(context) => Some(context.clone()),
        })
    }

    /// As `open`, on a device that is open already.
    pub fn open_on(&self, device: Device, models: &[OsString], console: &Console) -> Result<Enhancer> {
        let precision = self.precision();
        let mut builder = Enhancer::builder().device(device).precision(precision).tile(self.tile.0);
        if let Some(mebibytes) = self.memory_limit {
            builder = builder.memory_limit_bytes(mebibytes << 20);
        }
        if let Some(folder) = self.kernel_cache.clone().or_else(kernel_cache) {
            builder = builder.cache_dir(folder);
        }
        for model in models {
            builder = builder.model(source(model)?);
        }
        let enhancer = builder.build()?;
        let device = enhancer.device();
        tracing::info!(model = enhancer.model().name, device = device.name, "ready");
        if let Some(reason) = self.fallback(&device) {
            console.note(reason);
        }
        if precision == Precision::F16 && device.kind == DeviceKind::Cpu {
            console.note("the CPU computes in f32: --precision f16 changes nothing");
        }
        Ok(enhancer)
    }

    /// What a GPU is asked to store.
    pub fn precision(&self) -> Precision {
        match self.precision {
            PrecisionName::F32 => Precision::F32,
            PrecisionName::F16 => Precision::F16,
        }
    }

    /// Why the CPU does the work, if nobody asked for it.
    pub fn fallback(&self, device: &DeviceInfo) -> Option<&'static str> {
        let fell_back = matches!(self.device, Device::Auto) && device.kind == DeviceKind::Cpu;
        fell_back.then_some("there is no GPU that wgpu can use: the CPU does the work")
    }
}

/// The folder among the user's caches, where the system says which that is.
fn kernel_cache() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library/Caches"))
    } else {
        folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
    };
    caches.map(|caches| caches.join("sonolume"))
}

/// Where a generator comes from: a built-in one's name or a file that exists.
pub fn source(text: &OsString) -> Result<ModelSource> {
    if let Some(name) = text.to_str()
        && let built_in @ ModelSource::Default = ModelSource::parse(name)
    {
        return Ok(built_in);
    }
    let path = PathBuf::from(text);
    if !path.exists() {
        let message =
            format!("no generator of this name is built in (`{DEFAULT_MODEL}` is), and there is no such file");
        return Err(Failure::new(Kind::File, message).at(&path));
    }
    Ok(ModelSource::File(path))
}

/// The weights files among `models`.
pub fn weights_files(models: &[OsString]) -> impl Iterator<Item = PathBuf> {
    models.iter().map(PathBuf::from).filter(|path| path.is_file())
}

/// What reports say of a device.
pub fn device_record(device: &DeviceInfo) -> Value {
    json!({
        "name": device.name,
        "kind": kind_name(device.kind),
        "backend": device.backend,
        "driver": device.driver,
        "f16": device.f16,
    })
}

/// What people call a kind of device.
pub fn kind_name(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Discrete => "discrete",
        DeviceKind::Integrated => "integrated",
        DeviceKind::Virtual => "virtual",
        DeviceKind::Software => "software",
        DeviceKind::Cpu => "cpu",
        _ => "other",
    }
}

/// What reports say of a precision.
pub fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::F16 => "f16",
    }
}
