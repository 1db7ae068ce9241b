//! Text tokens of openai/whisper, for its own checkpoints, which hold none: English-only (GPT-2's) and multilingual.
//!
//! `*.tokens` are `whisper/assets/*.tiktoken`, compressed with zlib: the length of each token in a byte, then the bytes of all
//! (`tools/tokens.py`; 0.4 MB for both, where the two `tokenizer.json` have 6). MIT, Copyright (c) 2022 OpenAI: `openai.LICENSE`.

use std::io::Read;

use flate2::read::ZlibDecoder;

/// Size of the smallest multilingual vocabulary: `whisper/model.py::is_multilingual`.
const MULTILINGUAL: usize = 51865;

/// Returns the bytes of the text tokens in the order of their ids, for a model whose vocabulary has `n_vocab` tokens.
pub(crate) fn published_tokens(n_vocab: usize) -> Vec<Vec<u8>> {
    let (n_tokens, compressed): (_, &[u8]) = match n_vocab {
        MULTILINGUAL.. => (50257, include_bytes!("multilingual.tokens")),
        _ => (50256, include_bytes!("gpt2.tokens")),
    };
    let mut bytes = Vec::new();
    ZlibDecoder::new(compressed)
        .read_to_end(&mut bytes)
        .expect("the bundled tokens are whole");
    let (lengths, mut rest) = bytes.split_at(n_tokens);
    let token = |&n: &u8| {
        let (token, others) = rest.split_at(usize::from(n));
        rest = others;
        token.to_vec()
    };
    lengths.iter().map(token).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::published_tokens;
    use crate::Tokenizer;

    #[test]
    fn the_tokens_are_those_of_the_published_folders() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
        for (model, n_vocab) in [("nano", 51865), ("tiny.en", 51864)] {
            let folder = Tokenizer::open(&models.join(model), n_vocab).unwrap();
            let tokens = published_tokens(n_vocab);
            assert_eq!(tokens.len(), if n_vocab == 51864 { 50256 } else { 50257 });
            let published = Tokenizer::of_tokens(Path::new("a.pt"), &tokens, n_vocab, 80).unwrap();
            assert_eq!(published.n_vocab(), folder.n_vocab());
            assert_eq!(published.non_speech_tokens(), folder.non_speech_tokens());
            for id in 0..n_vocab as u32 {
                assert_eq!(
                    published.decode(&[id]),
                    folder.decode(&[id]),
                    "{model} {id}"
                );
                assert_eq!(published.vocabulary.token(id), folder.vocabulary.token(id));
            }
        }
    }
}
