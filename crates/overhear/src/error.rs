//! The one error type, sorted by what the user can do about it.

use std::path::PathBuf;

/// What `overhear` functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something could not be done. Messages are one line: what, where, and what to do where that is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input could not be read: a missing file, no permission, a directory.
    #[error("cannot read {name}: {source}")]
    Read {
        /// The input's name.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The input was read but holds no audio that can be decoded.
    #[error("{name}: {reason}")]
    Audio {
        /// The input's name.
        name: String,
        /// What is wrong, and what to do about it.
        reason: String,
    },
    /// Decoded samples could not be kept in a temporary file.
    #[error("cannot write decoded samples to a temporary file: {0}")]
    Spool(std::io::Error),
    /// A model file is missing, damaged, or does not fit.
    #[error("{}: {reason}", path.display())]
    Model {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The model computes what is no number: its weights are damaged, or too large.
    #[error(
        "{what} of the model are infinite or not numbers (NaN): its weights are damaged, or too large for f32"
    )]
    NotFinite {
        /// What was computed, and where.
        what: String,
    },
    /// A model's hub could not be reached, or the connection failed again and again.
    #[error("cannot download {name}: {reason}")]
    Network {
        /// The model, as on the hub.
        name: String,
        /// What failed, and where.
        reason: String,
    },
    /// A downloaded file could not be put into the cache.
    #[error("cannot write {}: {source}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An option has a value that cannot be used.
    #[error("{name}: {reason}")]
    Option {
        /// The option, by its field name.
        name: &'static str,
        /// What is wrong with the value.
        reason: String,
    },
    /// A window or a session needs more than it was made for.
    #[error("{wanted} {what} are too many: there is room for {capacity}")]
    Capacity {
        /// The kind of thing, in the plural.
        what: &'static str,
        /// How many there would be.
        wanted: usize,
        /// How many there can be.
        capacity: usize,
    },
    /// The device refused a call: it is out of memory, or gone.
    #[error("the device failed: {0}")]
    Device(String),
    /// The caller's event function asked to stop.
    #[error("canceled")]
    Canceled,
}
