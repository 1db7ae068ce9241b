//! The text tokens of a model: their bytes by id, and ids by bytes.
//!
//! Read from `vocab.json`, or where that is missing from `tokenizer.json`. Merge lists are not needed: the ids
//! of a byte-level BPE vocabulary are its merge ranks, which is how the reference (tiktoken) merges.
//! `vocab.json` comes first because it is a fifth of `tokenizer.json`'s size and complete: 6.4 against
//! 9 ms to open.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::TokenId;
use crate::file::read_if_present;
use crate::{Error, Result};

/// Text tokens, ids `0..len`.
#[derive(Debug)]
pub(super) struct Vocabulary {
    /// The bytes of all tokens, one after the other.
    bytes: Vec<u8>,
    /// Where token `id` ends in `bytes`; it starts where the one before ends.
    ends: Vec<u32>,
    ids: HashMap<Box<[u8]>, TokenId>,
}

impl Vocabulary {
    /// Reads the tokens below `n_text` of a Hugging Face folder.
    ///
    /// # Errors
    /// [`Error::Model`] if no file is there, it is malformed, or its tokens are not those of such a vocabulary.
    pub(super) fn open(folder: &Path, n_text: usize) -> Result<Self> {
        let path = folder.join("vocab.json");
        if let Some(json) = read_if_present(&path)? {
            let entries = serde_json::from_slice(&json).map_err(|e| malformed(&path, &e))?;
            return Self::new(entries, n_text).map_err(|reason| Error::Model { path, reason });
        }
        let path = folder.join("tokenizer.json");
        if let Some(json) = read_if_present(&path)? {
            let file: TokenizerFile =
                serde_json::from_slice(&json).map_err(|e| malformed(&path, &e))?;
            return Self::new(file.model.vocab, n_text)
                .map_err(|reason| Error::Model { path, reason });
        }
        Err(Error::Model {
            path: folder.to_owned(),
            reason: "no vocab.json or tokenizer.json in this folder".into(),
        })
    }

    fn new(entries: Entries, n_text: usize) -> std::result::Result<Self, String> {
        if let Some(eot) = entries.end_of_text.filter(|&id| id as usize != n_text) {
            return Err(format!(
                "does not fit the model: <|endoftext|> is token {eot} here ({}) and {n_text} in the model ({})",
                flavour(eot as usize),
                flavour(n_text)
            ));
        }
        let spans = entries.by_id(n_text)?;
        let mut vocabulary = Self {
            bytes: Vec::with_capacity(entries.bytes.len()),
            ends: Vec::new(),
            ids: HashMap::with_capacity(n_text),
        };
        for (id, &(start, end)) in (0..).zip(&spans) {
            let token = &entries.bytes[start as usize..end as usize];
            vocabulary.bytes.extend_from_slice(token);
            vocabulary.ends.push(vocabulary.bytes.len() as u32);
            if vocabulary.ids.insert(token.into(), id).is_some() {
                return Err(format!("token {id} has the same text as another"));
            }
        }
        match (0..=u8::MAX).find(|&byte| vocabulary.id(&[byte]).is_none()) {
            Some(byte) => Err(format!(
                "no token for byte 0x{byte:02x}: not a byte-level vocabulary"
            )),
            None => Ok(vocabulary),
        }
    }

    /// The bytes of text token `id`; `None` beyond the last.
    pub(super) fn token(&self, id: TokenId) -> Option<&[u8]> {
        let end = *self.ends.get(id as usize)?;
        let start = if id == 0 {
            0
        } else {
            self.ends[id as usize - 1]
        };
        Some(&self.bytes[start as usize..end as usize])
    }

    /// The token with these bytes.
    pub(super) fn id(&self, bytes: &[u8]) -> Option<TokenId> {
        self.ids.get(bytes).copied()
    }
}

fn malformed(path: &Path, error: &serde_json::Error) -> Error {
    Error::Model {
        path: path.to_owned(),
        reason: format!("malformed: {error}"),
    }
}

fn flavour(n_text: usize) -> &'static str {
    match n_text {
        50256 => "English-only",
        50257 => "multilingual",
        _ => "neither English-only nor multilingual",
    }
}

/// The part of `tokenizer.json` that is read.
#[derive(Deserialize)]
struct TokenizerFile {
    model: BpeModel,
}

#[derive(Deserialize)]
struct BpeModel {
    vocab: Entries,
}

/// A `{"token": id}` object, its keys turned from GPT-2's printable alphabet into bytes as they are read.
#[derive(Default)]
struct Entries {
    bytes: Vec<u8>,
    /// Id, and start and end in `bytes`.
    spans: Vec<(TokenId, u32, u32)>,
    end_of_text: Option<TokenId>,
    /// The first token with a character outside of the alphabet.
    foreign: Option<(TokenId, String)>,
}

impl Entries {
    /// Start and end in `bytes` of each of the ids `0..n_text`.
    fn by_id(&self, n_text: usize) -> std::result::Result<Vec<(u32, u32)>, String> {
        if let Some((id, token)) = self
            .foreign
            .as_ref()
            .filter(|(id, _)| (*id as usize) < n_text)
        {
            return Err(format!(
                "token {id}, {token:?}, is not written in the byte-level alphabet"
            ));
        }
        let mut spans = vec![None; n_text];
        for &(id, start, end) in self.spans.iter().filter(|(id, ..)| (*id as usize) < n_text) {
            if spans[id as usize].replace((start, end)).is_some() {
                return Err(format!("two tokens have id {id}"));
            }
        }
        let missing = |id: usize| {
            format!(
                "does not fit the model: it needs {n_text} text tokens, and token {id} is missing"
            )
        };
        spans
            .iter()
            .enumerate()
            .map(|(id, span)| span.ok_or_else(|| missing(id)))
            .collect()
    }

    fn push(&mut self, token: &str, id: TokenId, alphabet: &[Option<u8>]) {
        if token == "<|endoftext|>" {
            self.end_of_text = Some(id);
            return;
        }
        let start = self.bytes.len();
        for c in token.chars() {
            match alphabet.get(c as usize).copied().flatten() {
                Some(byte) => self.bytes.push(byte),
                None => {
                    self.foreign
                        .get_or_insert_with(|| (id, token.chars().take(40).collect()));
                    break;
                }
            }
        }
        self.spans.push((id, start as u32, self.bytes.len() as u32));
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tokens and their ids")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Entries, A::Error> {
                let alphabet = byte_alphabet();
                let mut entries = Entries::default();
                while let Some((token, id)) = map.next_entry::<Cow<str>, TokenId>()? {
                    entries.push(&token, id, &alphabet);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// GPT-2's alphabet for bytes (`openai/gpt-2/src/encoder.py::bytes_to_unicode`): printable Latin-1 characters
/// stand for themselves, the other bytes are moved up to U+0100 and on. Indexed by character.
fn byte_alphabet() -> Vec<Option<u8>> {
    let mut alphabet = vec![None; 256];
    for byte in 0..=u8::MAX {
        if matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) {
            alphabet[byte as usize] = Some(byte);
        } else {
            alphabet.push(Some(byte));
        }
    }
    alphabet
}
