//! `sonolume enhance`: pictures in, enhanced pictures out.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use sonolume::image::{Format, difference};
use sonolume::{CancelToken, Enhanced, Enhancer, Frame, Job, Report};

use super::console::{Console, say};
use super::engine::{EngineOptions, device_record, precision_name, weights_files};
use super::failure::{Failure, Kind, Result, outcome};
use super::files::{self, Listed};
use super::progress::Bar;
use super::size;

/// Enhance pictures.
///
/// One picture: OUT is a file, a folder, or `-` for stdout; a file of that name is replaced. Several pictures, or a folder of
/// them: OUT is a folder, created if need be; pictures that are there already are skipped unless --overwrite is given, so
/// that a batch can be continued. Names are kept, and formats too, but for JPEG, which becomes PNG because JPEG would
/// alter the pixels that must stay as they are. An original is never replaced. Files appear whole or not at all.
#[derive(Args)]
pub struct Options {
    /// Pictures (PNG, JPEG, TIFF, BMP, WebP), folders of pictures, or `-` for stdin.
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<PathBuf>,

    /// Where to: a file, a folder, or `-` for stdout.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,

    #[command(flatten)]
    engine: EngineOptions,

    /// Share of the generator's result in the output, 0 (the input, bit for bit) to 1.
    #[arg(long, default_value_t = 1.0, value_name = "0..1", value_parser = strength)]
    strength: f32,

    /// Also write what changed: grey where nothing did, brighter and darker where the output is. A file, for several pictures
    /// a folder.
    #[arg(long, value_name = "PATH")]
    diff: Option<PathBuf>,

    /// The output's format; by default what its name says, and PNG for stdout.
    #[arg(long, value_enum)]
    format: Option<FormatName>,

    /// Look into the folders of folders, too; their structure is kept.
    #[arg(short, long)]
    recursive: bool,

    /// Replace pictures that exist in the output folder.
    #[arg(long)]
    overwrite: bool,

    /// Skip a picture whose output exists also if OUT is a file.
    #[arg(long, conflicts_with = "overwrite")]
    skip_existing: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum FormatName {
    Png,
    #[value(alias = "jpg")]
    Jpeg,
    #[value(alias = "tif")]
    Tiff,
    Bmp,
    #[value(name = "webp")]
    WebP,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Png => Self::Png,
            FormatName::Jpeg => Self::Jpeg,
            FormatName::Tiff => Self::Tiff,
            FormatName::Bmp => Self::Bmp,
            FormatName::WebP => Self::WebP,
        }
    }
}

fn strength(text: &str) -> Result<f32, &'static str> {
    let strength = text.parse().map_err(|_| "write a number from 0 to 1")?;
    if (0.0..=1.0).contains(&strength) { Ok(strength) } else { Err("the strength lies between 0 and 1") }
}

/// One picture's way.
struct Task {
    input: PathBuf,
    output: Target,
    diff: Option<Target>,
}

struct Target {
    path: PathBuf,
    format: Format,
}

pub fn run(options: &Options, console: &Console) -> Result<u8> {
    let stop = stop_on_signals();
    let mut failures = Vec::new();
    let several = options.writes_a_folder()?;
    let mut tasks = Vec::new();
    for input in &options.inputs {
        match files::list(input, options.recursive, several.then_some(&options.output)) {
            Ok(found) => {
                for listed in found {
                    tasks.push(options.task(listed, several)?);
                }
            }
            Err(failure) => {
                console.fail(&failure);
                failures.push(failure.kind);
            }
        }
    }
    check(options, &tasks)?;
    if console.json() && files::is_stream(&options.output) {
        return Err(Failure::usage("stdout cannot carry the picture and JSON: name a file"));
    }

    let skipping = options.skip_existing || (several && !options.overwrite);
    let exists = |target: &Target| !files::is_stream(&target.path) && target.path.exists();
    let (skipped, waiting): (Vec<Task>, Vec<Task>) =
        tasks.into_iter().partition(|task| skipping && exists(&task.output) && task.diff.as_ref().is_none_or(exists));
    for task in &skipped {
        console.note(format_args!("{} exists, skipped; --overwrite replaces it", task.output.path.display()));
        if console.json() {
            console.record(&task.record("skipped", Map::new()))?;
        }
    }
    for target in waiting.iter().flat_map(Task::targets) {
        files::check_writable(&target.path, several)?;
    }
    if waiting.is_empty() {
        return Ok(outcome(skipped.len(), &failures));
    }

    let enhancer = options.engine.open(console)?;
    let work = Work { options, console, enhancer: &enhancer, stop: &stop };
    let mut done = 0;
    for (index, task) in waiting.iter().enumerate() {
        let label = if waiting.len() > 1 { format!("{}/{} ", index + 1, waiting.len()) } else { String::new() };
        match work.one(task, label) {
            Ok(record) => {
                done += 1;
                if console.json() {
                    console.record(&record)?;
                }
            }
            Err(failure) => {
                let failure = failure.at(&task.input);
                say(&failure);
                if console.json() {
                    let more = Map::from_iter([("error".to_owned(), failure.error())]);
                    console.record(&task.record("failed", more))?;
                }
                failures.push(failure.kind);
                if failure.kind == Kind::Interrupted {
                    break;
                }
            }
        }
    }
    if done + skipped.len() + failures.len() > 1 {
        console.note(format_args!("{done} done, {} skipped, {} failed", skipped.len(), failures.len()));
    }
    Ok(outcome(done + skipped.len(), &failures))
}

/// Ctrl-C ends the work after the current tile; again, at once.
fn stop_on_signals() -> CancelToken {
    let token = CancelToken::new();
    let shared = token.clone();
    let handled = ctrlc::set_handler(move || {
        if shared.is_cancelled() {
            std::process::exit(Kind::Interrupted.code().into());
        }
        shared.cancel();
        say("stopping after this tile; Ctrl-C again stops at once");
    });
    if let Err(error) = handled {
        tracing::warn!(%error, "Ctrl-C ends the process at once");
    }
    token
}

/// What must hold before any work is done.
fn check(options: &Options, tasks: &[Task]) -> Result<()> {
    let streams = tasks.iter().filter(|task| files::is_stream(&task.input)).count();
    if streams > 1 {
        return Err(Failure::usage("stdin (`-`) can be read only once"));
    }
    let outputs: Vec<&Path> = tasks.iter().flat_map(Task::targets).map(|target| target.path.as_path()).collect();
    let weights: Vec<PathBuf> = weights_files(&options.engine.models).collect();
    let inputs = tasks.iter().map(|task| task.input.as_path()).chain(weights.iter().map(PathBuf::as_path));
    files::check_distinct(inputs, &outputs)
}

impl Options {
    /// True if OUT is a folder.
    fn writes_a_folder(&self) -> Result<bool> {
        let needed = self.inputs.len() > 1 || self.inputs.iter().any(|input| input_is_folder(input));
        for path in [Some(&self.output), self.diff.as_ref()].into_iter().flatten() {
            if needed && (files::is_stream(path) || path.is_file()) {
                let message = format!("{} cannot hold several pictures: name a folder", path.display());
                return Err(Failure::usage(message));
            }
        }
        if self.diff.as_deref().is_some_and(files::is_stream) {
            return Err(Failure::usage("--diff needs a file: stdout is for the picture"));
        }
        Ok(needed || (!files::is_stream(&self.output) && files::names_a_folder(&self.output)))
    }

    fn task(&self, listed: Listed, into_folder: bool) -> Result<Task> {
        let Listed { path: input, relative } = listed;
        if into_folder && files::is_stream(&input) {
            return Err(Failure::usage("the picture from stdin has no name: give OUT as a file"));
        }
        let target = |to: &PathBuf, into_folder: bool| -> Result<Target> {
            let format = if into_folder { self.format_in_folder(&relative) } else { self.format_of_file(to)? };
            let path = if into_folder { to.join(renamed(&relative, format)) } else { to.clone() };
            Ok(Target { path, format })
        };
        let output = target(&self.output, into_folder)?;
        let diff = match &self.diff {
            // With one picture, OUT may be a folder and the difference a file, or the other way round.
            Some(to) if self.inputs.len() == 1 && !input_is_folder(&self.inputs[0]) && !files::names_a_folder(to) => {
                let format = Format::from_path(to).ok_or_else(|| unnamed(to))?;
                Some(Target { path: to.clone(), format })
            }
            Some(_) if files::is_stream(&input) => {
                return Err(Failure::usage("the picture from stdin has no name: give --diff as a file"));
            }
            Some(to) => Some(target(to, true)?),
            None => None,
        };
        Ok(Task { input, output, diff })
    }

    fn format_in_folder(&self, name: &Path) -> Format {
        match (self.format, Format::from_path(name)) {
            (Some(asked), _) => asked.into(),
            (None, None | Some(Format::Jpeg)) => Format::Png,
            (None, Some(format)) => format,
        }
    }

    fn format_of_file(&self, path: &Path) -> Result<Format> {
        let asked = self.format.map(Format::from);
        match (asked, Format::from_path(path)) {
            (Some(asked), Some(named)) if asked != named => Err(Failure::usage(format!(
                "the name says {} and --format says {}: change one of them",
                named.name(),
                asked.name()
            ))
            .at(path)),
            (Some(format), _) | (None, Some(format)) => Ok(format),
            // A stream, or a pipe with a name.
            (None, None) if files::is_stream(path) || (path.exists() && !path.is_file()) => Ok(Format::Png),
            (None, None) => Err(unnamed(path)),
        }
    }
}

fn input_is_folder(path: &Path) -> bool {
    !files::is_stream(path) && path.is_dir()
}

fn unnamed(path: &Path) -> Failure {
    let message = "the name ends in no picture format: use .png, .tif, .jpg, .bmp or .webp, or say --format";
    Failure::usage(message).at(path)
}

/// The name with the ending of `format`; one that already is stays.
fn renamed(name: &Path, format: Format) -> PathBuf {
    match Format::from_path(name) {
        Some(own) if own == format => name.to_owned(),
        Some(_) => name.with_extension(format.extensions()[0]),
        // Not an ending, but a part of the name: frames are often called `scan.001`.
        None => {
            let mut name = name.as_os_str().to_owned();
            name.push(".");
            name.push(format.extensions()[0]);
            name.into()
        }
    }
}

impl Task {
    fn targets(&self) -> impl Iterator<Item = &Target> {
        std::iter::once(&self.output).chain(&self.diff)
    }

    fn record(&self, status: &str, more: Map<String, Value>) -> Value {
        let mut record = json!({
            "input": self.input.to_string_lossy(),
            "output": self.output.path.to_string_lossy(),
            "status": status,
        });
        if let (Value::Object(record), Some(diff)) = (&mut record, &self.diff) {
            record.insert("diff".into(), diff.path.to_string_lossy().into());
        }
        if let Value::Object(record) = &mut record {
            record.extend(more);
        }
        record
    }
}

/// What all pictures share.
struct Work<'a> {
    options: &'a Options,
    console: &'a Console,
    enhancer: &'a Enhancer,
    stop: &'a CancelToken,
}

impl Work<'_> {
    /// Enhances one picture and writes it; answers its report.
    fn one(&self, task: &Task, label: String) -> Result<Value> {
        let started = Instant::now();
        let frame = files::read_picture(&task.input)?;
        frame.check_format(task.output.format)?;
        tracing::info!(input = %task.input.display(), width = frame.width(), height = frame.height(), "enhancing");
        let bar = Bar::new(label + &files::name(&task.input), self.console);
        let job =
            Job::new().progress(|progress| bar.update(progress)).cancel(self.stop).strength(self.options.strength);
        let enhanced = self.enhancer.enhance_with(&frame, job);
        drop(bar);
        let Enhanced { frame: result, report } = enhanced?;

        // Both are ready before the first is written; the picture comes last, since its presence says that all is done.
        let picture = result.encode(task.output.format)?;
        if let Some(diff) = &task.diff {
            files::write(&diff.path, &difference(&frame, &result)?.encode(diff.format)?)?;
        }
        files::write(&task.output.path, &picture)?;

        let warnings = self.warnings(&frame, task.output.format, &report);
        for warning in &warnings {
            self.console.note(format_args!("{}: {warning}", files::name(&task.input)));
        }
        if !files::is_stream(&task.output.path) {
            self.console.note(format_args!(
                "{} -> {} ({}x{}, {} on {}, {}, {:.2} s)",
                files::name(&task.input),
                task.output.path.display(),
                result.width(),
                result.height(),
                report.model,
                report.device.name,
                if report.tiles == 1 { "1 tile".to_owned() } else { format!("{} tiles", report.tiles) },
                started.elapsed().as_secs_f64()
            ));
        }
        let mut more = self.report(&report);
        more.insert("seconds".into(), started.elapsed().as_secs_f64().into());
        more.insert("warnings".into(), warnings.into());
        Ok(task.record("done", more))
    }

    /// What the user may not expect of the result.
    fn warnings(&self, frame: &Frame, format: Format, report: &Report) -> Vec<String> {
        let mut warnings = Vec::from_iter(report.caveat.clone());
        let coloured = if self.enhancer.model().in_channels() == 1 { frame.coloured_pixels() } else { 0 };
        if coloured == frame.width() * frame.height() {
            warnings.push("every pixel carries colour, so nothing was enhanced: colour passes unchanged".into());
        } else if coloured * 2 > frame.width() * frame.height() {
            warnings.push("most pixels carry colour and passed unchanged".into());
        }
        if format == Format::Jpeg {
            warnings.push("JPEG alters every pixel a little: write PNG or TIFF to keep the exact result".into());
        }
        warnings
    }

    fn report(&self, report: &Report) -> Map<String, Value> {
        let fallback = self.options.engine.fallback(&report.device);
        let report = json!({
            "device": device_record(&report.device),
            "device_fallback": fallback,
            "precision": precision_name(report.precision),
            "model": report.model,
            "architecture": report.architecture,
            "model_sha256": report.model_sha256,
            "scale": report.scale,
            "strength": report.strength,
            "input_size": size::record(report.input_size),
            "output_size": size::record(report.output_size),
            "tiles": report.tiles,
            "tile_size": size::record(report.tile_size),
            "activation_bytes": report.activation_bytes,
            "flops": report.flops,
            "generator_seconds": report.generator_time.as_secs_f64(),
            "enhance_seconds": report.total_time.as_secs_f64(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        match report {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
}
