//! Report of an evaluation, as a table, as JSON and as CSV.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use overhear::eval::score::Errors;
use serde::Serialize;

use crate::failure::printable;

/// Score of one file of the manifest.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct FileScore {
    pub(super) file: String,
    /// Language in the manifest, or else the one it was transcribed in.
    pub(super) language: String,
    /// Language it was transcribed in.
    pub(super) transcribed_in: String,
    pub(super) duration_s: f64,
    pub(super) wer: Option<f64>,
    pub(super) cer: Option<f64>,
    pub(super) words: Errors,
    pub(super) characters: Errors,
    /// Normalised reference.
    pub(super) reference: String,
    /// Normalised hypothesis.
    pub(super) hypothesis: String,
    /// Reason for which the file has no score.
    pub(super) error: Option<String>,
    /// What only a comparison of compute types reports.
    #[serde(flatten)]
    pub(super) compared: Option<Compared>,
    /// Substituted words.
    #[serde(skip)]
    pub(super) confusions: Vec<(String, String)>,
    /// Set of the manifest, or else the language.
    #[serde(skip)]
    pub(super) set: String,
    /// Transcript as it is.
    #[serde(skip)]
    pub(super) text: String,
    /// Time of the transcription in seconds.
    #[serde(skip)]
    pub(super) elapsed_s: f64,
}

/// Properties of a file's transcript in one of several compute types.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Compared {
    pub(super) elapsed_s: f64,
    /// Whether the text is that of the first type, to the letter.
    pub(super) same_text: bool,
}

/// Sum over all files, or over those of one language, without files that failed.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Total {
    language: String,
    files: usize,
    duration_s: f64,
    wer: Option<f64>,
    cer: Option<f64>,
    words: Errors,
    characters: Errors,
}

/// Number of times that one word was substituted by another.
#[derive(Debug, Serialize)]
struct Confusion<'a> {
    reference: &'a str,
    hypothesis: &'a str,
    count: usize,
}

/// Complete report.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    model: &'a str,
    normalizer: &'a str,
    n_failed: usize,
    total: Total,
    languages: Vec<Total>,
    files: &'a [FileScore],
    substitutions: Vec<Confusion<'a>>,
}

impl Total {
    fn of<'a>(language: &str, scores: impl Iterator<Item = &'a FileScore>) -> Self {
        let mut total = Total {
            language: language.to_owned(),
            ..Total::default()
        };
        for score in scores {
            total.files += 1;
            total.duration_s += score.duration_s;
            total.words += score.words;
            total.characters += score.characters;
        }
        total.wer = total.words.rate();
        total.cer = total.characters.rate();
        total
    }
}

impl<'a> Report<'a> {
    /// Summarises the scores. `n_confusions`: number of the most frequent substitutions to list.
    pub(super) fn new(
        model: &'a str,
        normalizer: &'a str,
        files: &'a [FileScore],
        n_confusions: usize,
    ) -> Self {
        let scored = || files.iter().filter(|score| score.error.is_none());
        let mut by_language: BTreeMap<&str, Vec<&FileScore>> = BTreeMap::new();
        for score in scored() {
            by_language.entry(&score.language).or_default().push(score);
        }
        let of_language =
            |(language, scores): (&str, Vec<&FileScore>)| Total::of(language, scores.into_iter());
        Self {
            model,
            normalizer,
            n_failed: files.len() - scored().count(),
            total: Total::of("all", scored()),
            languages: by_language.into_iter().map(of_language).collect(),
            files,
            substitutions: confusions(files, n_confusions),
        }
    }

    pub(super) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// Writes one row per file.
    pub(super) fn write_csv(&self, out: &mut impl Write) -> io::Result<()> {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(CSV_COLUMNS)?;
        for score in self.files {
            csv.write_record(csv_row(score))?;
        }
        csv.flush()
    }

    /// Writes the part below the files' rows: totals, the `n_worst` worst files, the substitutions.
    pub(super) fn write_summary(&self, n_worst: usize, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "\n    WER     CER  files  words  subst  del  ins  language"
        )?;
        let all = (self.languages.len() != 1).then_some(&self.total);
        for total in self.languages.iter().chain(all) {
            writeln!(
                out,
                "{} {}  {:>5}  {:>5}  {:>5}  {:>3}  {:>3}  {}",
                percent(total.wer),
                percent(total.cer),
                total.files,
                total.words.reference,
                total.words.substitutions,
                total.words.deletions,
                total.words.insertions,
                printable(&total.language),
            )?;
        }
        let worst = worst(self.files);
        if n_worst > 0 && !worst.is_empty() {
            writeln!(out, "\nworst files")?;
        }
        for score in worst.into_iter().take(n_worst) {
            writeln!(out, "{}  {}", percent(score.wer), printable(&score.file))?;
            writeln!(out, "        said   {}", printable(&score.reference))?;
            writeln!(out, "        heard  {}", printable(&score.hypothesis))?;
        }
        if !self.substitutions.is_empty() {
            writeln!(out, "\nmost frequent substitutions")?;
        }
        for confusion in &self.substitutions {
            let (said, heard) = (
                printable(confusion.reference),
                printable(confusion.hypothesis),
            );
            writeln!(out, "{:>6}  {said} -> {heard}", confusion.count)?;
        }
        Ok(())
    }
}

/// Columns of a file's row in CSV.
pub(super) const CSV_COLUMNS: [&str; 14] = [
    "file",
    "language",
    "transcribed_in",
    "duration_s",
    "wer",
    "words",
    "substitutions",
    "deletions",
    "insertions",
    "cer",
    "characters",
    "reference",
    "hypothesis",
    "error",
];

/// Returns the values of [`CSV_COLUMNS`].
pub(super) fn csv_row(score: &FileScore) -> [String; 14] {
    let rate = |rate: Option<f64>| rate.map_or_else(String::new, |rate| format!("{rate:.4}"));
    [
        score.file.clone(),
        score.language.clone(),
        score.transcribed_in.clone(),
        format!("{:.3}", score.duration_s),
        rate(score.wer),
        score.words.reference.to_string(),
        score.words.substitutions.to_string(),
        score.words.deletions.to_string(),
        score.words.insertions.to_string(),
        rate(score.cer),
        score.characters.reference.to_string(),
        score.reference.clone(),
        score.hypothesis.clone(),
        score.error.clone().unwrap_or_default(),
    ]
}

/// Writes the header of the rows that [`write_row`] writes, below a title.
pub(super) fn write_head(title: Option<&str>, out: &mut impl Write) -> io::Result<()> {
    if let Some(title) = title {
        writeln!(out, "{title}")?;
    }
    writeln!(out, "    WER     CER  words  file")
}

/// Writes the row of a file.
pub(super) fn write_row(score: &FileScore, out: &mut impl Write) -> io::Result<()> {
    let file = printable(&score.file);
    match &score.error {
        // An unreadable line of the manifest names no file.
        Some(error) if file.is_empty() => {
            writeln!(out, "failed               -  {}", printable(error))
        }
        Some(_) => writeln!(out, "failed               -  {file}"),
        None => {
            let (wer, cer) = (percent(score.wer), percent(score.cer));
            writeln!(out, "{wer} {cer}  {:>5}  {file}", score.words.reference)
        }
    }
}

/// Formats seven characters: ` 12.5 %`. `-` if the reference is empty.
fn percent(rate: Option<f64>) -> String {
    match rate {
        Some(rate) => format!("{:>5.1} %", 100.0 * rate),
        None => format!("{:>7}", "-"),
    }
}

/// Returns the files with errors, the highest rate first; words against an empty reference are the worst.
fn worst(files: &[FileScore]) -> Vec<&FileScore> {
    let mut worst: Vec<_> = files
        .iter()
        .filter(|score| score.words.total() > 0)
        .collect();
    let rate = |score: &FileScore| score.wer.unwrap_or(f64::INFINITY);
    worst.sort_by(|a, b| {
        let by_rate = rate(b).total_cmp(&rate(a));
        by_rate.then(b.words.total().cmp(&a.words.total()))
    });
    worst
}

/// Returns the most frequent substitutions, equal counts in alphabetical order.
fn confusions(files: &[FileScore], n_confusions: usize) -> Vec<Confusion<'_>> {
    let mut counts: HashMap<&(String, String), usize> = HashMap::new();
    for pair in files.iter().flat_map(|score| &score.confusions) {
        *counts.entry(pair).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|(pair_a, a), (pair_b, b)| b.cmp(a).then(pair_a.cmp(pair_b)));
    counts.truncate(n_confusions);
    counts
        .into_iter()
        .map(|((reference, hypothesis), count)| Confusion {
            reference,
            hypothesis,
            count,
        })
        .collect()
}
