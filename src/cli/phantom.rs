//! `sonolume phantom`: a simulated picture, for demonstrations and tests.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use sonolume::image::Format;
use sonolume::phantom::{Geometry, Phantom, PhantomOptions, Scene};

use super::console::Console;
use super::failure::{Failure, Result};
use super::files;
use super::size::Size;

/// Simulate an ultrasound picture.
///
/// Writes the low-quality picture, the one to enhance, unless --quality high is given; with --low-output both pictures of the same
/// scene, the high-quality one to OUT. The same options give the same bits everywhere. Files that exist are replaced.
#[derive(Args)]
pub struct Options {
    /// Where to: a file, or `-` for stdout.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,

    /// Write the low-quality picture here and the high-quality one to OUT.
    #[arg(long, value_name = "PATH", conflicts_with = "quality")]
    low_output: Option<PathBuf>,

    /// The picture's size, 16 pixels a side at least.
    #[arg(long, value_name = "WxH", default_value = "512x384")]
    size: Size,

    /// How scan lines lie.
    #[arg(long, value_enum, default_value_t = GeometryName::Linear)]
    geometry: GeometryName,

    /// What is looked at.
    #[arg(long, value_enum, default_value_t = SceneName::Anatomy)]
    scene: SceneName,

    /// Chooses the scene's details and the speckle.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Which picture to write.
    #[arg(long, value_enum, default_value_t = Quality::Low)]
    quality: Quality,
}

#[derive(Clone, Copy, ValueEnum)]
enum GeometryName {
    /// Parallel lines straight down.
    Linear,
    /// Lines fanning out, black outside the sector.
    Fan,
}

#[derive(Clone, Copy, ValueEnum)]
enum SceneName {
    /// Layers, vessels, cysts and a lesion.
    Anatomy,
    /// A test phantom: cysts, grey targets, a grid of points.
    Targets,
    /// Speckle and nothing else.
    Uniform,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Quality {
    /// As from a handheld device.
    Low,
    /// As from a good device.
    High,
}

pub fn run(options: &Options, console: &Console) -> Result<u8> {
    let outputs: Vec<&Path> =
        [Some(&options.output), options.low_output.as_ref()].into_iter().flatten().map(|path| &**path).collect();
    if outputs.iter().filter(|path| files::is_stream(path)).count() + usize::from(console.json()) > 1 {
        return Err(Failure::usage("stdout can carry only one picture, or JSON: name files"));
    }
    files::check_distinct([], &outputs)?;
    let formats = outputs.iter().map(|path| format(path)).collect::<Result<Vec<_>>>()?;
    for path in &outputs {
        files::check_writable(path, false)?;
    }

    let phantom = Phantom::new(PhantomOptions {
        width: options.size.width,
        height: options.size.height,
        geometry: match options.geometry {
            GeometryName::Linear => Geometry::Linear,
            GeometryName::Fan => Geometry::Fan,
        },
        scene: match options.scene {
            SceneName::Anatomy => Scene::Anatomy,
            SceneName::Targets => Scene::Targets,
            SceneName::Uniform => Scene::Uniform,
        },
        seed: options.seed,
        ..Default::default()
    })?;
    let pair = phantom.pair();
    let high_first = options.low_output.is_some() || options.quality == Quality::High;
    let frames = if high_first { [pair.high, pair.low] } else { [pair.low, pair.high] };
    let encoded =
        frames.iter().zip(&formats).map(|(frame, &format)| Ok(frame.encode(format)?)).collect::<Result<Vec<_>>>()?;
    for (path, bytes) in outputs.iter().zip(encoded) {
        files::write(path, &bytes)?;
    }
    if console.json() {
        console.record(&record(options, &phantom))?;
    }
    Ok(0)
}

fn format(path: &Path) -> Result<Format> {
    match Format::from_path(path) {
        Some(format) => Ok(format),
        None if files::is_stream(path) || (path.exists() && !path.is_file()) => Ok(Format::Png),
        None => {
            let message = "the name ends in no picture format: use .png, .tif, .jpg, .bmp or .webp";
            Err(Failure::usage(message).at(path))
        }
    }
}

/// The truth about the scene, in pixels.
fn record(options: &Options, phantom: &Phantom) -> Value {
    let cysts: Vec<Value> = phantom.cysts().iter().map(|c| json!({ "x": c.x, "y": c.y, "radius": c.radius })).collect();
    let points: Vec<Value> = phantom.points().iter().map(|point| json!({ "x": point.x, "y": point.y })).collect();
    json!({
        "status": "done",
        "output": options.output.to_string_lossy(),
        "low_output": options.low_output.as_ref().map(|path| path.to_string_lossy()),
        "size": { "width": options.size.width, "height": options.size.height },
        "seed": options.seed,
        "cysts": cysts,
        "points": points,
    })
}
