//! The `sonolume` command: arguments in, files out, an exit code that scripts can act on.
//!
//! One file per subcommand; each has its `Options` and a `run` that answers the exit code. What they share: `console` (what
//! goes to which stream), `failure` (exit codes), `files` (reading, listing, checks before work), `engine` (the options that
//! choose generator and device) and `progress`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod compare;
mod console;
mod devices;
mod engine;
mod enhance;
mod failure;
mod files;
mod models;
mod phantom;
mod progress;
mod size;
mod tensor;

use console::Console;
use failure::{Failure, Kind};

const AFTER_HELP: &str = "\
Exit codes:
  0    done; pictures skipped because their output exists count as done
  1    failed: a file could not be read or written, memory ran out, the result was not finite
  2    usage: an argument is unknown, out of its range, or contradicts another
  3    part of a batch failed, the rest is done
  4    the named device is not there, or cannot be opened
  5    the input or the weights are not valid
  130  interrupted (Ctrl-C, SIGTERM); finished pictures stay, none is half written
A batch in which everything failed ends with the code that all failures share, else 1.

Results go to stdout, messages and progress to stderr. RUST_LOG=info or debug tells more.
Not a medical device; not for diagnostic use.";

/// Turns low-quality ultrasound images into high-quality ones.
#[derive(Parser)]
#[command(name = "sonolume", version, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// Print results, and errors too, as JSON on stdout, one object per line.
    #[arg(long, global = true)]
    json: bool,

    /// Print nothing on stderr but errors.
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    Enhance(enhance::Options),
    Tensor(tensor::Options),
    Models(models::Options),
    Devices(devices::Options),
    Compare(compare::Options),
    Phantom(phantom::Options),
    Bench(bench::Options),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    log_to_stderr();
    let given: Vec<OsString> = std::env::args_os().collect();
    let arguments = match Arguments::try_parse_from(&given) {
        Ok(arguments) => arguments,
        Err(refusal) => return refuse(&refusal, &given),
    };
    let console = Console::new(arguments.json, arguments.quiet);
    let outcome = match arguments.command {
        Command::Enhance(options) => enhance::run(&options, &console),
        Command::Tensor(options) => tensor::run(&options, &console),
        Command::Models(options) => models::run(&options, &console),
        Command::Devices(options) => devices::run(&options, &console),
        Command::Compare(options) => compare::run(&options, &console),
        Command::Phantom(options) => phantom::run(&options, &console),
        Command::Bench(options) => bench::run(&options, &console),
    };
    ExitCode::from(outcome.unwrap_or_else(|failure| {
        console.fail(&failure);
        failure.kind.code()
    }))
}

/// Help, the version, or what is wrong with the arguments.
fn refuse(refusal: &clap::Error, given: &[OsString]) -> ExitCode {
    // Nobody reads: nothing to be done about it.
    let _ = refusal.print();
    if refusal.use_stderr() && given.iter().any(|argument| argument == "--json") {
        let failure = Failure::new(Kind::Usage, refusal.to_string().trim_end());
        let _ = Console::new(true, true).record(&failure.record());
    }
    ExitCode::from(if refusal.use_stderr() { Kind::Usage.code() } else { 0 })
}

/// What the crate, wgpu and the driver log, for those who ask with `RUST_LOG`.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::OFF.into())
        .from_env_lossy();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).with_ansi(colour).init();
}
