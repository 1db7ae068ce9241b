//! Text tokens of a model: bytes by id, and ids by bytes.
//!
//! Read from `vocab.json`, or if that is missing from `tokenizer.json`, or from CTranslate2's `vocabulary.json` or `.txt`. Merge lists are not needed: the ids of a
//! byte-level BPE vocabulary are its merge ranks, which is how the reference (tiktoken) merges. `vocab.json` comes
//! first because it is complete and a fifth of `tokenizer.json`'s size: it opens in 6.4 ms instead of 9.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::TokenId;
use super::special::{Named, is_special};
use crate::excerpt::excerpt;
use crate::file::read_if_present;
use crate::json::{read_json, read_json_if_any};
use crate::{Error, Result};

/// Text tokens, ids `0..len`.
#[derive(Debug)]
pub(super) struct Vocabulary {
    /// Concatenated bytes of all tokens.
    bytes: Vec<u8>,
    /// End of token `id` in `bytes`; it starts at the end of the previous one.
    ends: Vec<u32>,
    ids: HashMap<Box<[u8]>, TokenId>,
}

/// Contents of the tokenizer's files in a folder.
pub(super) struct TokenizerFiles {
    /// File that contains the text tokens.
    pub(super) path: PathBuf,
    pub(super) vocabulary: Entries,
    /// Special and added tokens.
    pub(super) named: Named,
}

impl TokenizerFiles {
    /// Reads `vocab.json` and `added_tokens.json` of a Hugging Face folder, and takes the content of a missing one from
    /// `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Model`] if no file is there or one is malformed.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let whole = folder.join("tokenizer.json");
        let path = folder.join("vocab.json");
        if let Some(vocabulary) = read_json::<Entries>(&path)? {
            let added = match read_json_if_any::<Named>(&folder.join("added_tokens.json"))? {
                Some(added) => added,
                None => named(
                    read_json::<AddedTokens>(&whole)?
                        .unwrap_or_default()
                        .added_tokens,
                ),
            };
            let mut named = vocabulary.special.clone();
            named.extend(added);
            return Ok(Self {
                path,
                vocabulary,
                named,
            });
        }
        let Some(file) = read_json::<TokenizerFile>(&whole)? else {
            if let Some(files) = Self::read_list(folder)? {
                return Ok(files);
            }
            return Err(Error::Model {
                path: folder.to_owned(),
                reason: "no vocab.json or tokenizer.json in this folder".into(),
            });
        };
        let vocabulary = file.model.vocab;
        let mut all = vocabulary.special.clone();
        all.extend(named(file.added_tokens));
        Ok(Self {
            path: whole,
            vocabulary,
            named: all,
        })
    }

    /// Reads `vocabulary.json` or `vocabulary.txt` of a CTranslate2 folder: all tokens in the order of their ids.
    fn read_list(folder: &Path) -> Result<Option<Self>> {
        let (json, text) = (
            folder.join("vocabulary.json"),
            folder.join("vocabulary.txt"),
        );
        let (path, tokens) = match read_json::<Vec<String>>(&json)? {
            Some(tokens) => (json, tokens),
            None => match read_if_present(&text)? {
                Some(bytes) => {
                    let lines = String::from_utf8_lossy(&bytes);
                    (text, lines.lines().map(str::to_owned).collect())
                }
                None => return Ok(None),
            },
        };
        let alphabet = byte_alphabet();
        let mut vocabulary = Entries::default();
        for (id, token) in (0..).zip(&tokens) {
            vocabulary.push(token, id, &alphabet);
        }
        Ok(Some(Self {
            path,
            named: vocabulary.special.clone(),
            vocabulary,
        }))
    }
}

impl Vocabulary {
    /// Builds the vocabulary of the tokens below `n_text`.
    ///
    /// # Errors
    /// The reason if they do not form a byte-level vocabulary.
    pub(super) fn new(entries: Entries, n_text: usize) -> std::result::Result<Self, String> {
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

    /// Returns the bytes of text token `id`; `None` beyond the last.
    pub(super) fn token(&self, id: TokenId) -> Option<&[u8]> {
        let end = *self.ends.get(id as usize)?;
        let start = if id == 0 {
            0
        } else {
            self.ends[id as usize - 1]
        };
        Some(&self.bytes[start as usize..end as usize])
    }

    /// Returns the token with these bytes.
    pub(super) fn id(&self, bytes: &[u8]) -> Option<TokenId> {
        self.ids.get(bytes).copied()
    }
}

/// Fields of `tokenizer.json` that are read.
#[derive(Deserialize)]
struct TokenizerFile {
    model: BpeModel,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

/// Fields of `tokenizer.json` for tokens other than text tokens.
#[derive(Default, Deserialize)]
struct AddedTokens {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct AddedToken {
    id: TokenId,
    content: String,
}

fn named(added: Vec<AddedToken>) -> Named {
    added
        .into_iter()
        .map(|token| (token.content, token.id))
        .collect()
}

#[derive(Deserialize)]
struct BpeModel {
    vocab: Entries,
}

/// Entries of a `{"token": id}` object, whose keys are converted from GPT-2's printable alphabet to bytes while
/// parsing.
#[derive(Default)]
pub(super) struct Entries {
    bytes: Vec<u8>,
    /// Id, and start and end in `bytes`.
    spans: Vec<(TokenId, u32, u32)>,
    /// Entries whose text has the form of a special token.
    special: Named,
    /// The first token with a character outside of the alphabet.
    foreign: Option<(TokenId, String)>,
}

impl Entries {
    /// Entries of tokens whose ids are their indices.
    pub(super) fn of_tokens(tokens: &[Vec<u8>]) -> Self {
        let mut entries = Self::default();
        for (id, token) in (0..).zip(tokens) {
            let start = entries.bytes.len() as u32;
            entries.bytes.extend_from_slice(token);
            entries.spans.push((id, start, entries.bytes.len() as u32));
        }
        entries
    }

    /// Returns start and end in `bytes` of each of the ids `0..n_text`.
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
        if is_special(token) {
            self.special.insert(token.to_owned(), id);
            if token == "<|endoftext|>" {
                return;
            }
        }
        let start = self.bytes.len();
        for c in token.chars() {
            match alphabet.get(c as usize).copied().flatten() {
                Some(byte) => self.bytes.push(byte),
                None => {
                    self.foreign.get_or_insert_with(|| (id, excerpt(token)));
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

/// Builds GPT-2's alphabet for bytes (`openai/gpt-2/src/encoder.py::bytes_to_unicode`), indexed by character: printable
/// Latin-1 characters represent themselves, the other bytes are mapped to U+0100 and up.
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

/// Returns the characters of GPT-2's alphabet, by byte.
pub(super) fn byte_characters() -> [char; 256] {
    let mut characters = ['\0'; 256];
    for (c, byte) in ('\0'..).zip(byte_alphabet()) {
        if let Some(byte) = byte {
            characters[usize::from(byte)] = c;
        }
    }
    characters
}
