//! How a runtime is driven by the comparison: arguments, turns on stdin, times on stdout.
//!
//! A worker is called as `WORKER MODEL INPUT OUTPUT CHANNELS HEIGHT WIDTH [OPTION=VALUE ...]`. `INPUT` and `OUTPUT` are raw
//! little-endian f32, `[channels, height, width]`. It answers `loading` before it loads the model, so that the memory of
//! the bare process can be read, then `ready FIRST_MS NAME` after the first run, whose result it has written to `OUTPUT`.
//! Each line with a count on stdin is one turn: so many runs, back to back, whose times in milliseconds it answers on one
//! line. `report` answers whatever the runtime can tell, as one line of JSON. It ends with stdin.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

/// What can go wrong in a worker.
pub type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// The arguments of a worker.
pub struct Arguments {
    /// The model's file.
    pub model: String,
    /// The input, planar.
    pub input: Vec<f32>,
    /// Channels, height and width of the input.
    pub shape: [usize; 3],
    /// What else was asked for.
    pub options: HashMap<String, String>,
    output: String,
}

/// A loaded model.
pub trait Runtime {
    /// What it calls itself and its device.
    fn name(&self) -> String;
    /// One run, from host memory to host memory.
    fn run(&mut self) -> Result<Vec<f32>>;
    /// What it can tell of itself, as JSON.
    fn report(&self) -> String {
        "{}".into()
    }
}

/// Runs a worker to its end.
pub fn serve<R: Runtime>(load: impl FnOnce(&Arguments) -> Result<R>) -> Result<()> {
    let arguments = Arguments::parse()?;
    say("loading")?;
    let started = Instant::now();
    let mut runtime = load(&arguments)?;
    let result = runtime.run()?;
    let first = milliseconds(started);
    let bytes: Vec<u8> = result.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(&arguments.output, bytes)?;
    say(&format!("ready {first} {}", runtime.name()))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line == "report" {
            say(&runtime.report())?;
            continue;
        }
        let mut times = Vec::new();
        for _ in 0..line.trim().parse::<usize>()? {
            let started = Instant::now();
            std::hint::black_box(runtime.run()?);
            times.push(milliseconds(started).to_string());
        }
        say(&times.join(" "))?;
    }
    Ok(())
}

impl Arguments {
    fn parse() -> Result<Self> {
        let mut rest = std::env::args().skip(1);
        let mut next = |what: &str| rest.next().ok_or_else(|| format!("{what} is missing"));
        let (model, input, output) = (next("MODEL")?, next("INPUT")?, next("OUTPUT")?);
        let shape = [next("CHANNELS")?.parse()?, next("HEIGHT")?.parse()?, next("WIDTH")?.parse()?];
        let input: Vec<f32> =
            std::fs::read(input)?.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        if input.len() != shape.iter().product() {
            return Err(format!("the input holds {} values, not {shape:?}", input.len()).into());
        }
        let options =
            rest.filter_map(|text| Some((text.split_once('=')?.0.to_owned(), text.split_once('=')?.1.to_owned())));
        Ok(Self { model, input, shape, options: options.collect(), output })
    }

    /// An option, or what holds without it.
    pub fn option<'a>(&'a self, name: &str, otherwise: &'a str) -> &'a str {
        self.options.get(name).map_or(otherwise, String::as_str)
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
