//! `generation_config.json`: positions of special tokens, and alignment heads. CTranslate2 writes the latter to
//! `config.json`.
//!
//! Its lists of suppressed and forced tokens are ignored, since decoding follows openai/whisper's rules.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::ctranslate2::is_ctranslate2;
use crate::json::read_json_if_any;
use crate::{Result, TokenId};

/// Content of `generation_config.json`.
#[derive(Debug, Default)]
pub(crate) struct GenerationConfig(Value);

impl GenerationConfig {
    /// Reads the file in `folder`; the content is empty if the file is missing or empty, or if `folder` is a file.
    ///
    /// # Errors
    /// [`crate::Error::Model`] if the file is not JSON.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        if folder.is_file() {
            return Ok(Self::default());
        }
        let mut config = read_json_if_any(&folder.join("generation_config.json"))?;
        if config.is_none() && is_ctranslate2(folder) {
            config = read_json_if_any(&folder.join("config.json"))?;
        }
        Ok(Self(config.unwrap_or_default()))
    }

    /// Returns the value of `alignment_heads`, of any form, unless it is null.
    pub(crate) fn alignment_heads(&self) -> Option<&Value> {
        self.0.get("alignment_heads").filter(|list| !list.is_null())
    }

    /// Returns the special tokens by their names in openai/whisper.
    pub(crate) fn special_tokens(&self) -> BTreeMap<String, TokenId> {
        let id = |value: &Value| value.as_u64().and_then(|id| TokenId::try_from(id).ok());
        let mut tokens = BTreeMap::new();
        for (field, name) in [
            ("decoder_start_token_id", "<|startoftranscript|>"),
            ("no_timestamps_token_id", "<|notimestamps|>"),
        ] {
            tokens.extend(self.0.get(field).and_then(id).map(|id| (name.into(), id)));
        }
        for (field, marks) in [("task_to_id", ("<|", "|>")), ("lang_to_id", ("", ""))] {
            let Some(Value::Object(ids)) = self.0.get(field) else {
                continue;
            };
            for (name, value) in ids {
                tokens.extend(id(value).map(|id| (format!("{}{name}{}", marks.0, marks.1), id)));
            }
        }
        tokens
    }
}
