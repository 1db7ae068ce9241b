//! Tasks: transcription and translation.

use std::str::FromStr;

use crate::names::{by_name, display_name};
use crate::{Error, Result};

/// Task of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Task {
    /// Transcription of the words as spoken.
    #[default]
    Transcribe,
    /// Translation to English.
    Translate,
}

impl Task {
    /// All tasks.
    pub const ALL: &'static [Self] = &[Self::Transcribe, Self::Translate];

    /// Returns the name: `transcribe` or `translate`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Transcribe => "transcribe",
            Self::Translate => "translate",
        }
    }
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        by_name("task", "task", name, Self::ALL.iter().copied(), Self::name)
    }
}

display_name!(Task);
