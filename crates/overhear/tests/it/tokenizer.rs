//! The tokenizer, compared with openai/whisper's (`tests/fixtures/tokenizer/make.py`), and with files that do not fit.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use overhear::tokenizer::{TokenId, Tokenizer};
use overhear::{Language, Task};
use proptest::prelude::*;
use serde::Deserialize;

type Word = (String, Vec<TokenId>);

#[derive(Deserialize)]
struct Golden {
    n_vocab: usize,
    encode: Vec<(String, Vec<TokenId>)>,
    special: std::collections::HashMap<String, TokenId>,
    non_speech_tokens: Vec<TokenId>,
    languages: std::collections::HashMap<String, TokenId>,
    all_characters_crc32: u32,
    decode: Vec<(Vec<TokenId>, String, String)>,
    special_text: Vec<String>,
    sot_sequence: Vec<(String, String, Vec<TokenId>)>,
    words: Vec<(String, Vec<Word>, Vec<TokenId>)>,
}

fn nano() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano")
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer")
}

/// Returns a folder with nano's `vocab.json` only, which does not contain special tokens.
fn text_tokens_only() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(nano().join("vocab.json"), folder.path().join("vocab.json")).unwrap();
    folder
}

/// Every golden with the tokenizer of its vocabulary. The text tokens of large-v3 are those of the older models.
fn goldens() -> Vec<(Golden, Tokenizer)> {
    let text_tokens = text_tokens_only();
    let goldens: Vec<Golden> =
        serde_json::from_slice(&fs::read(fixtures().join("golden.json")).unwrap()).unwrap();
    assert_eq!(
        goldens.iter().map(|g| g.n_vocab).collect::<Vec<_>>(),
        [51864, 51865, 51866]
    );
    let folder = |n_vocab| match n_vocab {
        51864 => fixtures().join("en"),
        51865 => nano(),
        _ => text_tokens.path().to_owned(),
    };
    goldens
        .into_iter()
        .map(|g| (Tokenizer::open(&folder(g.n_vocab), g.n_vocab).unwrap(), g))
        .map(|(t, g)| (g, t))
        .collect()
}

#[test]
fn encode_equals_the_reference_on_every_script_and_edge() {
    for (golden, tokenizer) in goldens() {
        assert!(golden.encode.len() > 500);
        for (text, tokens) in &golden.encode {
            assert_eq!(
                &tokenizer.encode(text),
                tokens,
                "{text:?} with {} tokens",
                golden.n_vocab
            );
            assert_eq!(&tokenizer.decode(tokens), text);
            assert!(tokens.iter().all(|&t| t < tokenizer.eot()));
        }
    }
}

#[test]
fn every_character_of_unicode_is_encoded_as_by_the_reference() {
    for (golden, tokenizer) in goldens() {
        let mut crc = flate2::Crc::new();
        for c in char::MIN..=char::MAX {
            let tokens = tokenizer.encode(&format!("a{c}{c}1 {c}b"));
            tokens
                .iter()
                .for_each(|token| crc.update(&token.to_le_bytes()));
        }
        assert_eq!(
            crc.sum(),
            golden.all_characters_crc32,
            "{} tokens",
            golden.n_vocab
        );
    }
}

#[test]
fn decode_equals_the_reference_on_broken_utf8_and_special_tokens() {
    for (golden, tokenizer) in goldens() {
        for (tokens, text, text_with_timestamps) in &golden.decode {
            assert_eq!(&tokenizer.decode(tokens), text, "{tokens:?}");
            assert_eq!(
                &tokenizer.decode_with_timestamps(tokens),
                text_with_timestamps,
                "{tokens:?}"
            );
        }
        for (token, text) in (tokenizer.eot()..).zip(&golden.special_text) {
            assert_eq!(&tokenizer.decode_with_timestamps(&[token]), text);
        }
        assert_eq!(
            tokenizer.eot() as usize + golden.special_text.len(),
            golden.n_vocab
        );
        assert_eq!(
            tokenizer.decode_with_timestamps(&[golden.n_vocab as TokenId, TokenId::MAX]),
            ""
        );
    }
}

#[test]
fn special_ids_equal_the_reference_in_every_vocabulary() {
    for (golden, tokenizer) in goldens() {
        let ids = [
            ("eot", tokenizer.eot()),
            ("sot", tokenizer.sot()),
            ("translate", tokenizer.translate()),
            ("transcribe", tokenizer.transcribe()),
            ("sot_lm", tokenizer.sot_lm()),
            ("sot_prev", tokenizer.sot_prev()),
            ("no_speech", tokenizer.no_speech()),
            ("no_timestamps", tokenizer.no_timestamps()),
            ("timestamp_begin", tokenizer.timestamp_begin()),
        ];
        assert_eq!(ids.len(), golden.special.len());
        for (name, id) in ids {
            assert_eq!(id, golden.special[name], "{name}");
        }
        assert_eq!(tokenizer.n_vocab(), golden.n_vocab);
        assert_eq!(tokenizer.is_multilingual(), golden.n_vocab != 51864);
        assert_eq!(tokenizer.non_speech_tokens(), golden.non_speech_tokens);
        let n_languages = if tokenizer.is_multilingual() {
            golden.languages.len()
        } else {
            0
        };
        assert_eq!(tokenizer.num_languages(), n_languages);
        for language in Language::all() {
            let expected = golden
                .languages
                .get(language.code())
                .filter(|_| tokenizer.is_multilingual());
            assert_eq!(tokenizer.language_token(language), expected.copied());
        }
        for (code, task, tokens) in &golden.sot_sequence {
            let task = if task == "translate" {
                Task::Translate
            } else {
                Task::Transcribe
            };
            assert_eq!(&tokenizer.sot_sequence(code.parse().unwrap(), task), tokens);
        }
    }
}

#[test]
fn words_equal_the_reference_in_every_kind_of_language() {
    for (golden, tokenizer) in goldens() {
        assert!(golden.words.len() > 700);
        for (code, words, tokens) in &golden.words {
            let split = tokenizer.split_to_word_tokens(tokens, code.parse().unwrap());
            assert_eq!(&split, words, "{code}, {} tokens", golden.n_vocab);
        }
    }
}

#[test]
fn tokenizer_json_alone_gives_the_same_tokens_as_vocab_json() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(
        nano().join("tokenizer.json"),
        folder.path().join("tokenizer.json"),
    )
    .unwrap();
    let tokenizer = Tokenizer::open(folder.path(), 51865).unwrap();
    let (golden, _) = goldens().swap_remove(1);
    for (text, tokens) in &golden.encode {
        assert_eq!(&tokenizer.encode(text), tokens, "{text:?}");
    }
}

#[test]
fn a_megabyte_without_a_space_is_encoded_in_time() {
    let tokenizer = Tokenizer::open(&nano(), 51865).unwrap();
    let text: String = (0..1 << 20)
        .map(|i: u32| char::from(b'a' + (i.wrapping_mul(2_654_435_761) >> 27) as u8 % 26))
        .collect();
    assert_eq!(tokenizer.decode(&tokenizer.encode(&text)), text);
}

fn error(folder: &Path, n_vocab: usize) -> String {
    let message = Tokenizer::open(folder, n_vocab).unwrap_err().to_string();
    assert!(
        !message.contains('\n') && message.len() < 400,
        "one clear line: {message}"
    );
    message.replace(&folder.display().to_string(), "DIR")
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    assert_eq!(
        error(&nano(), 51864),
        "DIR/vocab.json: does not fit the model: <|endoftext|> is token 50257 here (multilingual) and 50256 in the model \
         (English-only)"
    );
    for n_vocab in [0, 1, 50257, 50363, 51863] {
        assert_eq!(
            error(&nano(), n_vocab),
            format!(
                "DIR/vocab.json: does not fit the model: after <|endoftext|>, which is token 50257 (multilingual), \
                 Whisper's special tokens do not fit into a vocabulary of {n_vocab} tokens"
            )
        );
    }
    // A size of 51865 also fits an English-only model with one added token, unless the model's files contradict.
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::copy(fixtures().join("en/vocab.json"), path("vocab.json")).unwrap();
    fs::copy(
        nano().join("generation_config.json"),
        path("generation_config.json"),
    )
    .unwrap();
    assert_eq!(
        error(folder.path(), 51865),
        "DIR/vocab.json: does not fit generation_config.json: <|endoftext|> is token 50256 here (English-only) and 50257 \
         there (multilingual)"
    );
    // A size of 51864 does not fit a multilingual model: generation_config.json is another model's.
    let english = Tokenizer::open(folder.path(), 51864).unwrap();
    assert!(!english.is_multilingual());
}

/// Content of a folder besides the text tokens, and its expected special tokens.
struct Layout {
    n_vocab: usize,
    files: &'static [(&'static str, &'static str)],
    n_languages: usize,
    timestamp_begin: TokenId,
    has_timestamps: bool,
    n_known: usize,
}

#[test]
fn special_tokens_follow_the_folder_or_else_the_vocabulary_size() {
    const V2: (&str, &str) = (
        "generation_config.json",
        r#"{"no_timestamps_token_id": 50363}"#,
    );
    const V3: (&str, &str) = (
        "generation_config.json",
        r#"{"no_timestamps_token_id": 50364}"#,
    );
    const TASKS: (&str, &str) = (
        "generation_config.json",
        r#"{"task_to_id": {"transcribe": 50360, "translate": 50359}}"#,
    );
    const ADDED_V2: (&str, &str) = (
        "added_tokens.json",
        r#"{"<|notimestamps|>": 50363, "<|nocaptions|>": 50362, "<|startoftranscript|>": 50258}"#,
    );
    const ADDED_V3: (&str, &str) = ("added_tokens.json", r#"{"<|0.00|>": 50365}"#);
    const WHOLE: (&str, &str) = (
        "tokenizer.json",
        r#"{"added_tokens": [{"id": 50363, "content": "<|notimestamps|>", "special": true}]}"#,
    );
    const EMPTY: (&str, &str) = ("generation_config.json", "");
    let layout = |n_vocab, files, n_languages, has_timestamps| Layout {
        n_vocab,
        files,
        n_languages,
        timestamp_begin: 50265 + n_languages as TokenId,
        has_timestamps,
        n_known: 50265 + n_languages + if has_timestamps { 1501 } else { 0 },
    };
    let cases = [
        // Published sizes, with files that contradict them.
        layout(51865, &[], 99, true),
        layout(51866, &[], 100, true),
        layout(51865, &[V3], 99, true),
        layout(51865, &[ADDED_V3], 99, true),
        layout(51865, &[EMPTY], 99, true),
        layout(51866, &[V3], 100, true),
        // One added token, eight, and a round size.
        layout(51866, &[V2], 99, true),
        layout(51867, &[V3], 100, true),
        layout(51867, &[TASKS], 100, true),
        layout(51873, &[V2], 99, true),
        layout(51873, &[ADDED_V2], 99, true),
        layout(51873, &[WHOLE], 99, true),
        layout(51873, &[EMPTY, ADDED_V3], 100, true),
        layout(51873, &[V2, ADDED_V3], 99, true),
        layout(51873, &[], 99, true),
        layout(51968, &[], 99, true),
        layout(51968, &[ADDED_V3], 100, true),
        // Without timestamps, and the same with padding.
        layout(50364, &[], 99, false),
        layout(50365, &[V3], 100, false),
        layout(50365, &[V2], 99, false),
        layout(50432, &[ADDED_V2], 99, false),
    ];
    for case in cases {
        let folder = text_tokens_only();
        for (name, contents) in case.files {
            fs::write(folder.path().join(name), contents).unwrap();
        }
        let tokenizer = Tokenizer::open(folder.path(), case.n_vocab).unwrap();
        let name = format!("{} {:?}", case.n_vocab, case.files);
        assert_eq!(tokenizer.num_languages(), case.n_languages, "{name}");
        assert_eq!(tokenizer.timestamp_begin(), case.timestamp_begin, "{name}");
        assert_eq!(
            tokenizer.no_timestamps() + 1,
            case.timestamp_begin,
            "{name}"
        );
        assert_eq!(tokenizer.has_timestamps(), case.has_timestamps, "{name}");
        assert_eq!(tokenizer.n_vocab(), case.n_known, "{name}");
    }
    // An English-only model with one added token has the size of a multilingual one.
    for n_vocab in [51864, 51865, 51872, 51968] {
        let tokenizer = Tokenizer::open(&fixtures().join("en"), n_vocab).unwrap();
        assert!(!tokenizer.is_multilingual());
        assert_eq!((tokenizer.num_languages(), tokenizer.n_vocab()), (0, 51864));
    }
}

#[test]
fn words_that_a_fine_tune_added_are_text_and_its_marks_are_not() {
    let folder = text_tokens_only();
    fs::write(
        folder.path().join("added_tokens.json"),
        r#"{"<|notimestamps|>": 50363, "<|30.00|>": 51864, " ceftriaxone": 51865, "<|speaker|>": 51866, "far": 60000}"#,
    )
    .unwrap();
    let tokenizer = Tokenizer::open(folder.path(), 51968).unwrap();
    assert_eq!(tokenizer.n_vocab(), 51867);
    let is_text = [50256, 50257, 51864, 51865, 51866, 51867].map(|token| tokenizer.is_text(token));
    assert_eq!(is_text, [true, false, false, true, false, false]);
    let tokens = [tokenizer.encode(" give")[0], 51865, 51864, 51867];
    assert_eq!(tokenizer.decode(&tokens), " give ceftriaxone");
    let words = tokenizer.split_to_word_tokens(&tokens[..2], Language::ENGLISH);
    assert_eq!(words.len(), 2);
}

#[test]
fn missing_and_malformed_tokenizer_files_are_one_clear_error() {
    let cases: &[(&str, &str)] = &[
        (
            "",
            "malformed: EOF while parsing a value at line 1 column 0",
        ),
        (
            "[]",
            "malformed: invalid type: sequence, expected an object of tokens and their ids at line 1 column 0",
        ),
        (
            "{\"a\": -1}",
            "malformed: invalid value: integer `-1`, expected u32 at line 1 column 8",
        ),
        (
            "{\"a\": 1.5}",
            "malformed: invalid type: floating point `1.5`, expected u32 at line 1 column 9",
        ),
        (
            "{\"a\": 0",
            "malformed: EOF while parsing an object at line 1 column 7",
        ),
        (
            "{\"a\": 0}",
            "does not fit the model: it needs 50257 text tokens, and token 1 is missing",
        ),
        ("{\"a\": 0, \"b\": 0}", "two tokens have id 0"),
        (
            "{\"a b\": 0}",
            "token 0, \"a b\", is not written in the byte-level alphabet",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        error(folder.path(), 51865),
        "DIR: no vocab.json or tokenizer.json in this folder"
    );
    for (json, reason) in cases {
        fs::write(folder.path().join("vocab.json"), json).unwrap();
        assert_eq!(
            error(folder.path(), 51865),
            format!("DIR/vocab.json: {reason}"),
            "{json}"
        );
    }
    fs::remove_file(folder.path().join("vocab.json")).unwrap();
    fs::write(folder.path().join("tokenizer.json"), "{\"model\": {}}").unwrap();
    assert_eq!(
        error(folder.path(), 51865),
        "DIR/tokenizer.json: malformed: missing field `vocab` at line 1 column 12"
    );
    fs::create_dir(folder.path().join("vocab.json")).unwrap();
    assert_eq!(error(folder.path(), 51865), "DIR/vocab.json: not a file");
}

#[test]
fn a_vocabulary_that_cannot_write_every_byte_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let entries: Vec<String> = (0..50257).map(|id| format!("\"t{id}\": {id}")).collect();
    fs::write(
        folder.path().join("vocab.json"),
        format!("{{{}}}", entries.join(",")),
    )
    .unwrap();
    assert_eq!(
        error(folder.path(), 51865),
        "DIR/vocab.json: no token for byte 0x00: not a byte-level vocabulary"
    );
    let twice = entries
        .iter()
        .map(|e| e.replace("\"t1\"", "\"t0\""))
        .collect::<Vec<_>>()
        .join(",");
    fs::write(folder.path().join("vocab.json"), format!("{{{twice}}}")).unwrap();
    assert_eq!(
        error(folder.path(), 51865),
        "DIR/vocab.json: token 1 has the same text as another"
    );
}

/// Opened once for all cases.
fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: std::sync::OnceLock<Tokenizer> = std::sync::OnceLock::new();
    TOKENIZER.get_or_init(|| Tokenizer::open(&nano(), 51865).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_survives_encode_and_decode(text in any::<String>()) {
        prop_assert_eq!(tokenizer().decode(&tokenizer().encode(&text)), text);
    }

    #[test]
    fn any_tokens_split_into_words_in_their_order(
        tokens in prop::collection::vec(0..52_000u32, 0..30),
        language in 0..100usize,
    ) {
        let words = tokenizer().split_to_word_tokens(&tokens, Language::all().nth(language).unwrap());
        let split: Vec<TokenId> = words.into_iter().flat_map(|(_, tokens)| tokens).collect();
        prop_assert!(tokens.starts_with(&split));
    }
}

/// `cargo test --release -p overhear --test it -- tokenizer --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn time_of_opening() {
    let alone = tempfile::tempdir().unwrap();
    fs::copy(
        nano().join("tokenizer.json"),
        alone.path().join("tokenizer.json"),
    )
    .unwrap();
    for (name, folder) in [
        ("vocab.json", nano()),
        ("tokenizer.json", alone.path().to_owned()),
    ] {
        let mut times: Vec<_> = (0..20)
            .map(|_| {
                let start = std::time::Instant::now();
                Tokenizer::open(&folder, 51865).unwrap();
                start.elapsed()
            })
            .collect();
        times.sort();
        eprintln!("{name}: median {:?}, least {:?}", times[10], times[0]);
    }
}
