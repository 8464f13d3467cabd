//! One error type, split by who can act on it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// What went wrong, and with it who can do something about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The picture cannot be used: truncated, empty, of an unknown format.
    #[error("{message}")]
    Image {
        /// What is wrong and what to do about it.
        message: String,
        /// The decoder's own words, where there are any.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },

    /// The weights cannot be used: a tensor is missing, left over, of the wrong shape, or not finite.
    #[error("{0}")]
    Weights(String),

    /// An option is out of its range or contradicts another.
    #[error("{0}")]
    Options(String),

    /// Tensor sizes do not fit the operator.
    #[error("{0}")]
    Shape(String),

    /// No usable device answers to the name.
    #[error("{0}")]
    NoDevice(String),

    /// The device has too little memory, even for the smallest tile.
    #[error("the device ran out of memory ({bytes} bytes planned): use a smaller tile, or the CPU device")]
    OutOfMemory {
        /// Device memory that the plan asked for.
        bytes: u64,
    },

    /// The device was lost (driver reset, unplugged). The next call builds a new one.
    #[error("the device was lost: {0}; run again, or use the CPU device")]
    DeviceLost(String),

    /// The device refused the work: a driver or validation error.
    #[error("the device reported an error: {0}")]
    Device(String),

    /// The result holds NaN or infinity and was not delivered.
    #[error("the generator's output is not finite ({0}): use --precision f32, or other weights")]
    NonFinite(String),

    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },

    /// The caller stopped the work.
    #[error("cancelled")]
    Cancelled,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Image`] without an underlying cause.
    pub fn image(message: impl Into<String>) -> Self {
        Self::Image { message: message.into(), source: None }
    }

    /// An [`Error::File`] for `path`.
    pub fn file(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::File { path: path.as_ref().to_owned(), source }
    }

    pub(crate) fn shape(message: impl Into<String>) -> Self {
        Self::Shape(message.into())
    }
}

/// Locks `mutex`; a run that panicked while it held the lock is an error from then on.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    mutex.lock().map_err(|_| Error::Device("an earlier run panicked".into()))
}
