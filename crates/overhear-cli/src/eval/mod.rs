//! `overhear eval`: word and character error rates of a model on recordings with known transcripts.

mod manifest;
mod report;
mod types;

use std::io::{self, Write};
use std::time::Instant;

use overhear::audio::AudioOptions;
use overhear::eval::normalize::{BasicTextNormalizer, EnglishTextNormalizer, comparable};
use overhear::eval::score::{Edit, Errors, align};
use overhear::{Audio, Language, Model, ModelOptions, Task, TranscribeOptions, Transcript};

use crate::args::{EvalArgs, NormalizerName};
use crate::failure::{Failure, say};
use crate::interrupt::Interrupt;
use crate::models;
use crate::options::{audio_options, compute_types, model_options, transcribe_options, with_vad};
use crate::warnings;
use manifest::Entry;
use report::{FileScore, Report};
use types::InType;

/// Transcribes every file of the manifest, in each compute type, and compares it with its reference.
pub(crate) fn run(args: &EvalArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    let options = with_vad(transcribe_options(&args.decoding)?, &args.filter)?;
    let model_options = model_options(&args.model)?;
    let compared = compute_types(&args.compute_types)?;
    let entries = manifest::read(&args.manifest)?;
    let path = models::find(&args.model, interrupt)?;
    let open = |compute_type| {
        let path = path.clone();
        let options = ModelOptions {
            compute_type,
            ..model_options.clone()
        };
        Ok::<_, Failure>(interrupt.run(move || path.open(options))??)
    };
    let evaluation = Evaluation {
        options,
        audio_options: audio_options(&args.audio),
        detect_language: args.detect_language,
        scorer: Scorer::new(args.normalizer),
        interrupt,
    };
    // A type that the model does not fit is an error now, and not after hours in other types.
    for &compute_type in &compared {
        open(compute_type)?;
    }
    let types = match compared.is_empty() {
        true => vec![model_options.compute_type],
        false => compared.clone(),
    };
    let is_table = !args.json && !args.csv;
    let mut stdout = io::stdout().lock();
    let mut in_types: Vec<InType> = Vec::with_capacity(types.len());
    for compute_type in types {
        let model = open(compute_type)?;
        if is_table {
            let title = (!compared.is_empty()).then(|| model.compute_type().name());
            written(report::write_head(title, &mut stdout))?;
        }
        let mut scores = Vec::with_capacity(entries.len());
        for (i, entry) in entries.iter().enumerate() {
            interrupt.check()?;
            let first = in_types.first().map(|first| &first.scores[i]);
            let failed = first.filter(|first| first.error.is_some());
            let score = match failed {
                // It has been reported, and would be for every type.
                Some(failed) => failed.clone(),
                None => evaluation.one(&model, entry)?,
            };
            if is_table && failed.is_none() {
                written(report::write_row(&score, &mut stdout).and_then(|()| stdout.flush()))?;
            }
            scores.push(score);
        }
        in_types.push(InType {
            compute_type: model.compute_type().name(),
            scores,
        });
    }
    let name = args.model.model.to_string_lossy();
    let report = |scores| Report::new(&name, args.normalizer.name(), scores, args.confusions);
    written(match (args.json, args.csv) {
        _ if !compared.is_empty() => {
            types::compare(&mut in_types);
            match (args.json, args.csv) {
                (true, _) => types::write_json(&in_types, report, &mut stdout),
                (_, true) => types::write_csv(&in_types, &mut stdout),
                _ => types::write_table(&in_types, &mut stdout),
            }
        }
        (true, _) => report(&in_types[0].scores).write_json(&mut stdout),
        (_, true) => report(&in_types[0].scores).write_csv(&mut stdout),
        _ => report(&in_types[0].scores).write_summary(args.worst, &mut stdout),
    })?;
    written(stdout.flush())?;
    match in_types.iter().map(InType::n_failed).max() {
        Some(n_failed @ 1..) => Err(Failure::Inputs {
            all: n_failed == entries.len(),
        }),
        _ => Ok(()),
    }
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| Failure::stdout(&error))
}

struct Evaluation<'a> {
    options: TranscribeOptions,
    audio_options: AudioOptions,
    detect_language: bool,
    scorer: Scorer,
    interrupt: &'a Interrupt,
}

impl Evaluation<'_> {
    /// Scores one file. A failure of the file itself is reported and becomes part of the score; any other ends the run.
    fn one(&self, model: &Model, entry: &Result<Entry, String>) -> Result<FileScore, Failure> {
        let (name, score) = match entry {
            Ok(entry) => (entry.name.clone(), self.score(model, entry)),
            Err(message) => (String::new(), Err(Failure::Input(message.clone()))),
        };
        let message = match score {
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

    fn score(&self, model: &Model, entry: &Entry) -> Result<FileScore, Failure> {
        let is_translation = self.options.task == Task::Translate;
        let reference = match is_translation {
            false => &entry.text,
            true => entry.translation.as_ref().ok_or_else(|| {
                Failure::Input(format!("{}: the manifest has no translation", entry.name))
            })?,
        };
        let (transcript, elapsed_s) = self.transcribe(model, entry)?;
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
            set: entry.set.clone().unwrap_or_else(|| label.clone()),
            language: label,
            transcribed_in: transcript.language.code().to_owned(),
            duration_s: transcript.duration_s,
            text: transcript.text,
            elapsed_s,
            ..score
        })
    }

    /// Transcribes in the requested language, or else the manifest's, or else the detected one. Returns the time that it
    /// took in seconds, too.
    fn transcribe(&self, model: &Model, entry: &Entry) -> Result<(Transcript, f64), Failure> {
        warnings::about(&entry.name);
        let (path, options) = (entry.path.clone(), self.audio_options.clone());
        let audio = self
            .interrupt
            .run(move || Audio::open_with(path, &options))??;
        let mut options = self.options.clone();
        if options.language.is_none() && !self.detect_language {
            options.language = entry.language();
        }
        let (model, start) = (model.clone(), Instant::now());
        let transcript = self
            .interrupt
            .run(move || model.transcribe(&audio, &options))??;
        let elapsed_s = start.elapsed().as_secs_f64();
        warnings::warn_audio(&transcript.warnings);
        Ok((transcript, elapsed_s))
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
