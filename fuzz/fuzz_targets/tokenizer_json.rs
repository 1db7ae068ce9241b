//! Any bytes as `vocab.json` or `tokenizer.json`: a tokenizer that encodes and decodes, or an error.
//!
//! The first byte names the file; the rest is an input of `overhear_fuzz::splice`.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use overhear::tokenizer::Tokenizer;
use overhear_fuzz::{nano, splice, write};

static VOCAB: LazyLock<Vec<u8>> = LazyLock::new(|| nano("vocab.json"));
static TOKENIZER: LazyLock<Vec<u8>> = LazyLock::new(|| nano("tokenizer.json"));

fuzz_target!(init: initialize(), |bytes: &[u8]| {
    let Some((&which, bytes)) = bytes.split_first() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    if which & 1 == 0 {
        write(folder.path(), "vocab.json", &splice(&VOCAB, bytes));
    } else {
        write(folder.path(), "tokenizer.json", &splice(&TOKENIZER, bytes));
    }
    // The three vocabularies there are, and one that there is not.
    let n_vocab = 51863 + usize::from(which >> 6 ^ 2);
    if let Ok(tokenizer) = Tokenizer::open(folder.path(), n_vocab) {
        let tokens = tokenizer.encode(" the quick 123 brown\n\nf\u{f8}x, \u{4f60}\u{597d}");
        let _ = tokenizer.decode(&tokens);
        let tokens: Vec<u32> = (0..60_000).step_by(997).collect();
        let _ = tokenizer.decode_with_timestamps(&tokens);
    }
});

fn initialize() {
    overhear_fuzz::initialize();
    // Else nothing but the first check would ever be reached.
    for (name, file) in [("vocab.json", &VOCAB), ("tokenizer.json", &TOKENIZER)] {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        write(folder.path(), name, file);
        if let Err(error) = Tokenizer::open(folder.path(), 51865) {
            panic!("the valid tokenizer does not open: {error}");
        }
    }
}
