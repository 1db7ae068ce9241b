//! Comparison of compute types on the same files.

use std::collections::BTreeSet;
use std::io::{self, Write};

use overhear::eval::compare::{Difference, paired_difference};
use overhear::eval::score::Errors;
use serde::Serialize;

use super::report::{CSV_COLUMNS, Compared, FileScore, Report, csv_row};
use crate::failure::printable;

/// Scores of all files in one compute type.
pub(super) struct InType {
    pub(super) compute_type: &'static str,
    pub(super) scores: Vec<FileScore>,
}

impl InType {
    /// Returns the number of files without a score.
    pub(super) fn n_failed(&self) -> usize {
        let failed = self.scores.iter().filter(|score| score.error.is_some());
        failed.count()
    }
}

/// Sum over the files of a set that were transcribed in a type and in the first one.
#[derive(Debug, Serialize)]
struct Line<'a> {
    set: &'a str,
    files: usize,
    wer: Option<f64>,
    cer: Option<f64>,
    /// Differences from the first type; absent for the first type itself.
    wer_difference: Option<Difference>,
    cer_difference: Option<Difference>,
    /// Number of files with the text of the first type, to the letter.
    same_text: usize,
    elapsed_s: f64,
    /// Duration of the audio by the time taken.
    speed: Option<f64>,
}

/// Report on one type: that of an evaluation in this type alone, and how it compares with the first type.
#[derive(Serialize)]
struct TypeReport<'a> {
    compute_type: &'a str,
    compared: Line<'a>,
    sets: Vec<Line<'a>>,
    #[serde(flatten)]
    report: Report<'a>,
}

/// Enters into each score how it compares with the first type's.
pub(super) fn compare(in_types: &mut [InType]) {
    let texts = |scores: &[FileScore]| scores.iter().map(|score| score.text.clone()).collect();
    let first: Vec<String> = in_types
        .first()
        .map_or_else(Vec::new, |first| texts(&first.scores));
    for in_type in in_types {
        for (score, first) in in_type.scores.iter_mut().zip(&first) {
            score.compared = score.error.is_none().then(|| Compared {
                elapsed_s: score.elapsed_s,
                same_text: score.text == *first,
            });
        }
    }
}

/// Sums the files of `set`, or all, of the type of index `i`.
fn line<'a>(in_types: &[InType], i: usize, set: Option<&'a str>) -> Line<'a> {
    let pairs = in_types[0].scores.iter().zip(&in_types[i].scores);
    let pairs: Vec<(&FileScore, &FileScore)> = pairs
        .filter(|(first, score)| first.error.is_none() && score.error.is_none())
        .filter(|(first, _)| set.is_none_or(|set| first.set == set))
        .collect();
    let scores = || pairs.iter().map(|(_, score)| *score);
    let sum = |errors: fn(&FileScore) -> Errors| {
        scores().fold(Errors::default(), |mut sum, score| {
            sum += errors(score);
            sum
        })
    };
    let difference = |errors: fn(&FileScore) -> Errors| {
        let errors: Vec<_> = pairs.iter().map(|(a, b)| (errors(a), errors(b))).collect();
        paired_difference(&errors).filter(|_| i > 0)
    };
    let is_same = |score: &&FileScore| score.compared.as_ref().is_some_and(|c| c.same_text);
    let elapsed_s: f64 = scores().map(|score| score.elapsed_s).sum();
    let duration_s: f64 = scores().map(|score| score.duration_s).sum();
    Line {
        set: set.unwrap_or("all"),
        files: pairs.len(),
        wer: sum(|score| score.words).rate(),
        cer: sum(|score| score.characters).rate(),
        wer_difference: difference(|score| score.words),
        cer_difference: difference(|score| score.characters),
        same_text: scores().filter(is_same).count(),
        elapsed_s,
        speed: (elapsed_s > 0.0).then(|| duration_s / elapsed_s),
    }
}

/// Returns the names of the sets, if there are several.
fn sets(in_types: &[InType]) -> Vec<&str> {
    let scored = in_types[0].scores.iter().filter(|s| s.error.is_none());
    let sets: BTreeSet<&str> = scored.map(|score| &score.set[..]).collect();
    match sets.len() {
        1 => Vec::new(),
        _ => sets.into_iter().collect(),
    }
}

/// Writes the table of all types, set by set, and of all files.
pub(super) fn write_table(in_types: &[InType], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "\n    WER     CER      difference  same text  files    seconds  real time  {:12}  set",
        "type"
    )?;
    let percent = |rate: Option<f64>| match rate {
        Some(rate) => format!("{:.2} %", 100.0 * rate),
        None => "-".to_owned(),
    };
    for set in sets(in_types).into_iter().map(Some).chain([None]) {
        for (i, in_type) in in_types.iter().enumerate() {
            let line = line(in_types, i, set);
            let difference = line.wer_difference.map_or_else(String::new, |difference| {
                let [mean, error] = [difference.mean, difference.standard_error];
                format!("{:+.2} ± {:.2}", 100.0 * mean, 100.0 * error)
            });
            let speed = line
                .speed
                .map_or_else(|| "-".to_owned(), |speed| format!("{speed:.1} x"));
            writeln!(
                out,
                "{:>7} {:>7}  {difference:>14}  {:>9}  {:>5}  {:>9.1}  {speed:>9}  {:12}  {}",
                percent(line.wer),
                percent(line.cer),
                line.same_text,
                line.files,
                line.elapsed_s,
                in_type.compute_type,
                printable(line.set),
            )?;
        }
    }
    Ok(())
}

/// Writes a report for each type.
pub(super) fn write_json<'a>(
    in_types: &'a [InType],
    report: impl Fn(&'a [FileScore]) -> Report<'a>,
    out: &mut impl Write,
) -> io::Result<()> {
    let report = |(i, in_type): (usize, &'a InType)| {
        let of_set = |set| line(in_types, i, Some(set));
        TypeReport {
            compute_type: in_type.compute_type,
            compared: line(in_types, i, None),
            sets: sets(in_types).into_iter().map(of_set).collect(),
            report: report(&in_type.scores),
        }
    };
    let reports: Vec<_> = in_types.iter().enumerate().map(report).collect();
    let document = serde_json::json!({ "compute_types": reports });
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}

/// Writes one row per file and type.
pub(super) fn write_csv(in_types: &[InType], out: &mut impl Write) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    let columns = ["compute_type", "set", "elapsed_s", "same_text"];
    csv.write_record(columns.iter().chain(&CSV_COLUMNS))?;
    for in_type in in_types {
        for score in &in_type.scores {
            let compared = score.compared.as_ref();
            let own = [
                in_type.compute_type.to_owned(),
                score.set.clone(),
                compared.map_or_else(String::new, |c| format!("{:.3}", c.elapsed_s)),
                compared.map_or_else(String::new, |c| c.same_text.to_string()),
            ];
            csv.write_record(own.iter().chain(&csv_row(score)))?;
        }
    }
    csv.flush()
}
