//! What went wrong, on the way to an exit code.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use serde_json::{Value, json};
use sonolume::Error;

/// Who can act on a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A file could not be read or written.
    File,
    /// The device's memory is too small.
    Memory,
    /// The device reported an error or was lost.
    Device,
    /// The result holds NaN or infinity.
    NonFinite,
    /// Anything else.
    Failed,
    /// The arguments.
    Usage,
    /// The named device is not usable.
    NoDevice,
    /// The input is not valid.
    Input,
    /// The weights are not valid.
    Weights,
    /// The user stopped the work.
    Interrupted,
}

impl Kind {
    /// The exit code, as the help lists them.
    pub const fn code(self) -> u8 {
        match self {
            Self::File | Self::Memory | Self::Device | Self::NonFinite | Self::Failed => 1,
            Self::Usage => 2,
            Self::NoDevice => 4,
            Self::Input | Self::Weights => 5,
            Self::Interrupted => 130,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Memory => "memory",
            Self::Device => "device",
            Self::NonFinite => "non-finite",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NoDevice => "no-device",
            Self::Input => "input",
            Self::Weights => "weights",
            Self::Interrupted => "interrupted",
        }
    }
}

/// The exit code of a part of a batch that failed.
pub const PARTLY: u8 = 3;

/// The exit code of a batch in which `done` things went well and others failed.
pub fn outcome(done: usize, failures: &[Kind]) -> u8 {
    if failures.contains(&Kind::Interrupted) {
        return Kind::Interrupted.code();
    }
    let codes: BTreeSet<u8> = failures.iter().map(|kind| kind.code()).collect();
    match (codes.len(), codes.first(), done) {
        (0, ..) => 0,
        (1, Some(&code), 0) => code,
        (_, _, 0) => Kind::Failed.code(),
        _ => PARTLY,
    }
}

/// What went wrong, and where. Printed as `path: message`.
#[derive(Debug)]
pub struct Failure {
    pub kind: Kind,
    path: Option<String>,
    message: String,
}

pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, path: None, message: message.into() }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The operating system refused a file.
    pub fn file(path: &Path, error: &std::io::Error) -> Self {
        Self::new(Kind::File, reason(error)).at(path)
    }

    /// Says which file the failure is about, unless that is known.
    pub fn at(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| super::files::name(path));
        self
    }

    /// The failure as an object of its own.
    pub fn record(&self) -> Value {
        json!({ "status": "failed", "path": self.path, "error": self.error() })
    }

    /// What goes under the key `error`.
    pub fn error(&self) -> Value {
        json!({ "kind": self.kind.name(), "code": self.kind.code(), "message": self.message })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{path}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::File { path, source } => return Self::file(path, source),
            Error::Image { .. } | Error::Shape(_) => Kind::Input,
            Error::Weights(_) => Kind::Weights,
            Error::Options(_) => Kind::Usage,
            Error::NoDevice(_) => Kind::NoDevice,
            Error::OutOfMemory { .. } => Kind::Memory,
            Error::DeviceLost(_) | Error::Device(_) => Kind::Device,
            Error::NonFinite(_) => Kind::NonFinite,
            Error::Cancelled => Kind::Interrupted,
            _ => Kind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}

/// The operating system's reason, and what to do about the usual ones.
fn reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "there is no such file or folder: check the path".into(),
        ErrorKind::PermissionDenied => {
            format!("access is denied ({error}): change its permissions, or use another place")
        }
        ErrorKind::StorageFull => format!("the disk is full ({error}): free some space, or write elsewhere"),
        ErrorKind::ReadOnlyFilesystem => format!("the disk is read-only ({error}): write elsewhere"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_with_the_code_that_tells_most() {
        assert_eq!(outcome(0, &[]), 0);
        assert_eq!(outcome(2, &[]), 0);
        assert_eq!(outcome(0, &[Kind::Input]), 5);
        assert_eq!(outcome(0, &[Kind::Input, Kind::Weights]), 5);
        assert_eq!(outcome(0, &[Kind::Input, Kind::File]), 1);
        assert_eq!(outcome(1, &[Kind::Input]), 3);
        assert_eq!(outcome(1, &[Kind::File, Kind::Interrupted]), 130);
    }
}
