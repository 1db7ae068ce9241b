//! The error type of the library; its variants distinguish what the user can do.

use std::path::PathBuf;

/// Result of `overhear` functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Error of the library. Messages are one line: what, where, and what to do where that is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input could not be read: a missing file, no permission, a directory.
    #[error("cannot read {name}: {source}")]
    Read {
        /// Name of the input.
        name: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The input was read but holds no audio that can be decoded.
    #[error("{name}: {reason}")]
    Audio {
        /// Name of the input.
        name: String,
        /// The problem, and what to do about it.
        reason: String,
    },
    /// Decoded samples could not be written to a temporary file.
    #[error("cannot write decoded samples to a temporary file: {0}")]
    Spool(std::io::Error),
    /// A model file is missing, damaged, or does not fit the model.
    #[error("{}: {reason}", path.display())]
    Model {
        /// Path of the file or folder.
        path: PathBuf,
        /// The problem with it.
        reason: String,
    },
    /// The model computed a value that is not a finite number: its weights are damaged, or too large.
    #[error(
        "{what} of the model are infinite or not numbers (NaN): its weights are damaged, or too large for f32"
    )]
    NotFinite {
        /// The value, and where it was computed.
        what: String,
    },
    /// The hub could not be reached, or the connection failed repeatedly.
    #[error("cannot download {name}: {reason}")]
    Network {
        /// Name of the model on the hub.
        name: String,
        /// The failure, and where it occurred.
        reason: String,
    },
    /// A file of a model could not be written: to the cache, or converted.
    #[error("cannot write {}: {source}", path.display())]
    Cache {
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// An option has a value that cannot be used.
    #[error("{name}: {reason}")]
    Option {
        /// Field name of the option.
        name: &'static str,
        /// The problem with the value.
        reason: String,
    },
    /// A call exceeds the capacity that a session or an engine was made with.
    #[error("{wanted} {what} are too many: there is room for {capacity}")]
    Capacity {
        /// Kind of item, in the plural.
        what: &'static str,
        /// Number that the call would need.
        wanted: usize,
        /// Number that there is room for.
        capacity: usize,
    },
    /// The device refused a call: it is out of memory, or gone.
    #[error("the device failed: {0}")]
    Device(String),
    /// The caller's event function requested to stop.
    #[error("canceled")]
    Canceled,
}
