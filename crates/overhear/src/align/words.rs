//! Groups timed tokens into timed words, and attaches punctuation to words: the last part of
//! `whisper/timing.py::find_alignment`, and `merge_punctuations`.

use super::WordTiming;
use crate::{Language, TokenId, Tokenizer, python};

/// Returns the words of `text_tokens`. `jump_times`: start in seconds of each token, and of the end of text;
/// `probabilities`: one per token.
///
/// # Panics
/// If there are fewer probabilities than tokens, or fewer than one time more.
pub(super) fn timings(
    tokenizer: &Tokenizer,
    language: Language,
    text_tokens: &[TokenId],
    jump_times: &[f64],
    probabilities: &[f32],
) -> Vec<WordTiming> {
    let with_end = [text_tokens, &[tokenizer.eot()]].concat();
    let mut words = tokenizer.split_to_word_tokens(&with_end, language);
    // Removes the end of text. If the text ends within a character, its last word is joined with the end and removed,
    // too.
    words.pop();
    let mut first = 0;
    let timing = |(word, tokens): (String, Vec<TokenId>)| {
        let range = first..first + tokens.len();
        first = range.end;
        let sum: f64 = probabilities[range.clone()]
            .iter()
            .map(|&p| f64::from(p))
            .sum();
        WordTiming {
            start: jump_times[range.start],
            end: jump_times[range.end],
            probability: sum / range.len() as f64,
            word,
            tokens,
        }
    };
    words.into_iter().map(timing).collect()
}

/// Moves punctuation of `prepended` to the next word and that of `appended` to the previous word; an emptied word
/// stays, without text. Both tests are Python's `in`: any substring of the list matches, including the empty one.
pub(super) fn merge_punctuations(alignment: &mut [WordTiming], prepended: &str, appended: &str) {
    let mut following = alignment.len().saturating_sub(1);
    for previous in (0..following).rev() {
        let word = &alignment[previous].word;
        if word.starts_with(' ') && prepended.contains(python::strip(word)) {
            let (word, tokens) = alignment[previous].take();
            let following = &mut alignment[following];
            following.word.insert_str(0, &word);
            following.tokens.splice(0..0, tokens);
        } else {
            following = previous;
        }
    }
    let mut previous = 0;
    for following in 1..alignment.len() {
        if !alignment[previous].word.ends_with(' ')
            && appended.contains(&*alignment[following].word)
        {
            let (word, tokens) = alignment[following].take();
            let previous = &mut alignment[previous];
            previous.word.push_str(&word);
            previous.tokens.extend(tokens);
        } else {
            previous = following;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(words: &[&str], prepended: &str, appended: &str) -> Vec<String> {
        let timing = |(i, word): (usize, &&str)| WordTiming {
            word: (*word).to_owned(),
            tokens: vec![i as TokenId],
            start: i as f64,
            end: i as f64 + 1.0,
            probability: 1.0,
        };
        let mut alignment: Vec<_> = words.iter().enumerate().map(timing).collect();
        merge_punctuations(&mut alignment, prepended, appended);
        // No token is lost or moved.
        let tokens: Vec<TokenId> = alignment.iter().flat_map(|t| t.tokens.clone()).collect();
        assert_eq!(tokens, (0..words.len() as TokenId).collect::<Vec<_>>());
        alignment.into_iter().map(|timing| timing.word).collect()
    }

    #[test]
    fn punctuation_goes_to_its_word() {
        let (prepended, appended) = ("\"'“¿([{-", "\"'.。,，!！?？:：”)]}、");
        // Results of openai/whisper's merge_punctuations for the same words.
        let cases: [(&[&str], &[&str]); 9] = [
            (&[], &[]),
            (&[" a"], &[" a"]),
            (&[" \""], &[" \""]),
            (&[" a", ",", " b", "."], &[" a,", "", " b.", ""]),
            (&[" \"", "a", "\"", "."], &["", " \"a\".", "", ""]),
            (&[" (", " \"", "a"], &["", "", " ( \"a"]),
            (&["¿", "a", "?"], &["¿", "a?", ""]),
            (&[" a", "-", "b"], &[" a", "-", "b"]),
            (&[" a", " ", "."], &[" a", "", " ."]),
        ];
        for (words, expected) in cases {
            assert_eq!(merged(words, prepended, appended), expected, "{words:?}");
        }
        assert_eq!(merged(&[" (", "a", ","], "", ""), [" (", "a", ","]);
    }
}
