//! What goes to which stream: results to stdout, messages to stderr. A reader who went away is no error.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde_json::Value;

use super::failure::{Failure, Result};

/// How the user wants to be told.
#[derive(Clone, Copy)]
pub struct Console {
    json: bool,
    quiet: bool,
}

impl Console {
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    pub fn json(&self) -> bool {
        self.json
    }

    pub fn quiet(&self) -> bool {
        self.quiet
    }

    /// A message on stderr, which `--quiet` silences.
    pub fn note(&self, message: impl Display) {
        if !self.quiet {
            say(message);
        }
    }

    /// An error on stderr, and with `--json` on stdout.
    pub fn fail(&self, failure: &Failure) {
        say(failure);
        if self.json {
            // That stdout cannot be written is no news beside the failure.
            let _ = self.record(&failure.record());
        }
    }

    /// A result as text.
    pub fn text(&self, text: &str) -> Result<()> {
        print(text.as_bytes())
    }

    /// A result as one line of JSON.
    pub fn record(&self, value: &Value) -> Result<()> {
        print(format!("{value}\n").as_bytes())
    }
}

/// A line on stderr.
pub fn say(message: impl Display) {
    // Nowhere is left to complain to.
    let _ = writeln!(std::io::stderr(), "sonolume: {message}");
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::file(Path::new("stdout"), &error)),
        _ => Ok(()),
    }
}
