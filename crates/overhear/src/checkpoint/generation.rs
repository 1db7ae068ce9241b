//! The part of `generation_config.json` that is read: where special tokens are, and alignment heads.
//!
//! What it says of suppressed and forced tokens does not matter: the rules are openai/whisper's.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::json::read_json_if_any;
use crate::{Result, TokenId};

/// `generation_config.json`, all fields as they are.
#[derive(Debug, Default)]
pub(crate) struct GenerationConfig(Value);

impl GenerationConfig {
    /// Reads that of `folder`; nothing is in one that is missing or empty.
    ///
    /// # Errors
    /// [`crate::Error::Model`] if it is not JSON.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let config = read_json_if_any(&folder.join("generation_config.json"))?;
        Ok(Self(config.unwrap_or_default()))
    }

    /// `alignment_heads`, whatever it is.
    pub(crate) fn alignment_heads(&self) -> Option<&Value> {
        self.0.get("alignment_heads").filter(|list| !list.is_null())
    }

    /// Special tokens by the names that openai/whisper gives them.
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
