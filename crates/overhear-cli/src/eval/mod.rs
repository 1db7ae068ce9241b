//! `overhear eval`: word and character error rates of a model on recordings with known transcripts.

mod manifest;
mod report;

use std::io::{self, Write};

use overhear::audio::AudioOptions;
use overhear::eval::normalize::{BasicTextNormalizer, EnglishTextNormalizer, comparable};
use overhear::eval::score::{Edit, Errors, align};
use overhear::{Audio, Language, Model, Task, TranscribeOptions, Transcript};

use crate::args::{EvalArgs, NormalizerName};
use crate::failure::{Failure, say};
use crate::interrupt::Interrupt;
use crate::models;
use crate::options::{audio_options, model_options, transcribe_options, with_vad};
use crate::warnings;
use manifest::Entry;
use report::{FileScore, Report};

/// Transcribes every file of the manifest and compares it with its reference.
pub(crate) fn run(args: &EvalArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    let options = with_vad(transcribe_options(&args.decoding)?, &args.filter)?;
    let model_options = model_options(&args.model)?;
    let entries = manifest::read(&args.manifest)?;
    let path = models::find(&args.model, interrupt)?;
    let evaluation = Evaluation {
        model: interrupt.run(move || path.open(model_options))??,
        options,
        audio_options: audio_options(&args.audio),
        detect_language: args.detect_language,
        scorer: Scorer::new(args.normalizer),
        interrupt,
    };
    let is_table = !args.json && !args.csv;
    let mut stdout = io::stdout().lock();
    let written = |result: io::Result<()>| result.map_err(|error| Failure::stdout(&error));
    if is_table {
        written(report::write_head(&mut stdout))?;
    }
    let mut scores = Vec::with_capacity(entries.len());
    for entry in entries {
        interrupt.check()?;
        let score = evaluation.one(entry)?;
        if is_table {
            written(report::write_row(&score, &mut stdout).and_then(|()| stdout.flush()))?;
        }
        scores.push(score);
    }
    let model = args.model.model.to_string_lossy();
    let report = Report::new(&model, args.normalizer.name(), &scores, args.confusions);
    written(match (args.json, args.csv) {
        (true, _) => report.write_json(&mut stdout),
        (_, true) => report.write_csv(&mut stdout),
        _ => report.write_summary(args.worst, &mut stdout),
    })?;
    written(stdout.flush())?;
    match scores.iter().filter(|score| score.error.is_some()).count() {
        0 => Ok(()),
        n_failed => Err(Failure::Inputs {
            all: n_failed == scores.len(),
        }),
    }
}

struct Evaluation<'a> {
    model: Model,
    options: TranscribeOptions,
    audio_options: AudioOptions,
    detect_language: bool,
    scorer: Scorer,
    interrupt: &'a Interrupt,
}

impl Evaluation<'_> {
    /// Scores one file. A failure of the file itself is reported and becomes part of the score; any other ends the run.
    fn one(&self, entry: Result<Entry, Failure>) -> Result<FileScore, Failure> {
        let name = entry
            .as_ref()
            .map_or_else(|_| String::new(), |entry| entry.name.clone());
        let message = match entry.and_then(|entry| self.score(&entry)) {
            Err(Failure::Input(message)) => message,
            score => return score,
        };
        say(&message);
        Ok(FileScore {
            file: name,
            error: Some(message),
            ..FileScore::default()
        })
    }

    fn score(&self, entry: &Entry) -> Result<FileScore, Failure> {
        let is_translation = self.options.task == Task::Translate;
        let reference = match is_translation {
            false => &entry.text,
            true => entry.translation.as_ref().ok_or_else(|| {
                Failure::Input(format!("{}: the manifest has no translation", entry.name))
            })?,
        };
        let transcript = self.transcribe(entry)?;
        let language = match entry.label {
            Some(_) => entry.language(),
            None => Some(transcript.language),
        };
        let label = match (language, &entry.label) {
            (Some(language), _) => language.code().to_owned(),
            (None, label) => label.clone().unwrap_or_default(),
        };
        let written_in = if is_translation {
            Some(Language::ENGLISH)
        } else {
            language
        };
        let score = self.scorer.score(reference, &transcript.text, written_in);
        Ok(FileScore {
            file: entry.name.clone(),
            language: label,
            transcribed_in: transcript.language.code().to_owned(),
            duration_s: transcript.duration_s,
            ..score
        })
    }

    /// Transcribes in the requested language, or else the manifest's, or else the detected one.
    fn transcribe(&self, entry: &Entry) -> Result<Transcript, Failure> {
        warnings::about(&entry.name);
        let (path, options) = (entry.path.clone(), self.audio_options.clone());
        let audio = self
            .interrupt
            .run(move || Audio::open_with(path, &options))??;
        let mut options = self.options.clone();
        if options.language.is_none() && !self.detect_language {
            options.language = entry.language();
        }
        let model = self.model.clone();
        let transcript = self
            .interrupt
            .run(move || model.transcribe(&audio, &options))??;
        warnings::warn_audio(&transcript.warnings);
        Ok(transcript)
    }
}

/// Normalises and compares texts.
struct Scorer {
    normalizer: NormalizerName,
    english: EnglishTextNormalizer,
}

impl Scorer {
    fn new(normalizer: NormalizerName) -> Self {
        Self {
            normalizer,
            english: EnglishTextNormalizer::new(),
        }
    }

    /// Compares `reference` and `hypothesis` in `language`.
    fn score(&self, reference: &str, hypothesis: &str, language: Option<Language>) -> FileScore {
        let reference = self.normalize(reference, language);
        let hypothesis = self.normalize(hypothesis, language);
        let [said, heard] = [&reference, &hypothesis].map(|text| words(text));
        let edits = align(&said, &heard);
        let words = Errors::of(&edits);
        let [said_characters, heard_characters] = [&said, &heard].map(|words| {
            let is_joined = language.is_some_and(Language::is_written_without_spaces);
            let space = if is_joined { "" } else { " " };
            words.join(space).chars().collect::<Vec<_>>()
        });
        let characters = Errors::of(&align(&said_characters, &heard_characters));
        FileScore {
            wer: words.rate(),
            cer: characters.rate(),
            words,
            characters,
            confusions: substitutions(&said, &heard, &edits),
            reference: said.join(" "),
            hypothesis: heard.join(" "),
            ..FileScore::default()
        }
    }

    fn normalize(&self, text: &str, language: Option<Language>) -> String {
        match self.normalizer {
            NormalizerName::None => text.to_owned(),
            NormalizerName::English => self.english.normalize(text),
            NormalizerName::Auto => comparable(text, language),
            NormalizerName::Basic => BasicTextNormalizer::for_language(language).normalize(text),
        }
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Returns the pairs of words that were substituted.
fn substitutions(said: &[&str], heard: &[&str], edits: &[Edit]) -> Vec<(String, String)> {
    let (mut said, mut heard) = (said.iter(), heard.iter());
    let mut pairs = Vec::new();
    for edit in edits {
        let of_reference = if *edit == Edit::Insertion {
            None
        } else {
            said.next()
        };
        let of_hypothesis = if *edit == Edit::Deletion {
            None
        } else {
            heard.next()
        };
        if let (Edit::Substitution, Some(said), Some(heard)) = (edit, of_reference, of_hypothesis) {
            pairs.push(((*said).to_owned(), (*heard).to_owned()));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_is_compared_after_its_own_normaliser() {
        let scorer = Scorer::new(NormalizerName::Auto);
        let english = Some(Language::ENGLISH);
        let same = scorer.score(
            "Mr. Brown's twenty-one colours!",
            "mister brown is 21 colors",
            english,
        );
        assert_eq!((same.wer, same.cer), (Some(0.0), Some(0.0)));
        let german = scorer.score("Zwanzig Häuser.", "zwanzig Haeuser", "de".parse().ok());
        assert_eq!(german.wer, Some(0.5));
        assert_eq!(german.cer, Some(2.0 / 14.0));
        assert_eq!(
            german.confusions,
            [("häuser".to_owned(), "haeuser".to_owned())]
        );
    }

    #[test]
    fn letters_are_words_where_no_spaces_are_written() {
        let scorer = Scorer::new(NormalizerName::Auto);
        let score = scorer.score("日本語です。", "日本 語でし", "ja".parse().ok());
        assert_eq!((score.words.reference, score.words.substitutions), (5, 1));
        assert_eq!((score.wer, score.cer), (Some(0.2), Some(0.2)));
    }

    #[test]
    fn without_a_normaliser_texts_are_compared_as_written() {
        let scorer = Scorer::new(NormalizerName::None);
        let score = scorer.score("Hello, world", "hello world", Some(Language::ENGLISH));
        assert_eq!(score.words.substitutions, 1);
        assert_eq!(score.wer, Some(0.5));
    }
}
