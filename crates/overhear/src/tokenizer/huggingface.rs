//! `tokenizer.json` of a vocabulary, as the package tokenizers reads it.

use serde_json::{Map, Value, json};

use super::vocabulary::byte_characters;
use super::{TokenId, Tokenizer, bpe};

impl Tokenizer {
    /// Returns `tokenizer.json`. Merges follow from the ids, which are their ranks: a token is the pair of tokens that its bytes
    /// are merged into by the tokens before it.
    pub(crate) fn to_json(&self) -> Value {
        let characters = byte_characters();
        let text = |id| -> String {
            let bytes = self.text_token(id).unwrap_or_default().iter();
            bytes.map(|&byte| characters[usize::from(byte)]).collect()
        };
        let mut vocabulary = Map::new();
        let mut merges = Vec::new();
        for id in 0..self.eot() {
            vocabulary.insert(text(id), id.into());
            if let [left, right] = bpe::merged_before(&self.vocabulary, id)[..] {
                merges.push(json!([text(left), text(right)]));
            }
        }
        let special = (self.eot()..self.layout.end() as TokenId).filter_map(|id| {
            let is_time = self.timestamps().contains(&id);
            Some((id, self.layout.name(id)?, !is_time))
        });
        let added = self
            .added
            .iter()
            .map(|(id, text)| (*id, text.clone(), false));
        let added: Vec<Value> = special
            .chain(added)
            .map(|(id, content, is_special)| {
                json!({
                    "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": !is_special, "special": is_special,
                })
            })
            .collect();
        let byte_level = |add_prefix_space: bool| {
            json!({
                "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": true,
            })
        };
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": byte_level(false),
            "post_processor": null,
            "decoder": byte_level(true),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocabulary, "merges": merges,
            },
        })
    }
}
