//! `overhear eval` with the real binary: error rates, reports, exit codes.
#![allow(clippy::unwrap_used)]

use std::fs;

use crate::common::{EN, EN_TEXT, ES, Run, Sandbox, clip, nano};
use serde_json::{Value, json};

/// Writes a manifest of the two bundled clips with these texts, and copies of the clips.
fn manifest(sandbox: &Sandbox, english: &str, spanish: &str) {
    for name in [EN, ES] {
        fs::copy(clip(name), sandbox.path(name)).unwrap();
    }
    let rows = [
        json!({"file": EN, "text": english, "lang": "en", "translation": "x"}),
        json!({"file": ES, "text": spanish, "lang": "es"}),
    ];
    let lines = rows.map(|row| format!("{row}\n")).concat();
    fs::write(sandbox.path("manifest.jsonl"), lines).unwrap();
}

fn eval(sandbox: &Sandbox, flags: &[&str]) -> Run {
    let words = ["eval", "manifest.jsonl"].iter().chain(flags);
    let mut arguments: Vec<_> = words.map(Into::into).collect();
    let verb = arguments.remove(0);
    sandbox.run([vec![verb], nano(&arguments)].concat())
}

fn report(sandbox: &Sandbox, flags: &[&str]) -> Value {
    let run = eval(sandbox, &[&["--json"], flags].concat());
    run.assert(0);
    serde_json::from_str(&run.stdout).unwrap()
}

#[test]
fn right_texts_have_no_errors_and_wrong_ones_are_counted() {
    let sandbox = Sandbox::new();
    manifest(
        &sandbox,
        &EN_TEXT.to_uppercase(),
        "Quisiera ocho cafés, por favor.",
    );
    let right = report(&sandbox, &[]);
    assert_eq!(right["total"]["wer"], 0.0);
    assert_eq!(right["total"]["cer"], 0.0);
    assert_eq!(right["total"]["words"]["reference"], 11 + 5);
    assert_eq!(right["substitutions"], json!([]));

    // In English an insertion, a deletion and a substitution; in Spanish one letter.
    let english = "Every single cloud quietly hurried, and his cap closed the library.";
    manifest(&sandbox, english, "Quisiera ocho cafes, por favor.");
    let wrong = report(&sandbox, &[]);
    let [en, es] = [&wrong["files"][0], &wrong["files"][1]];
    let words = json!({"reference": 11, "substitutions": 1, "deletions": 1, "insertions": 1});
    assert_eq!(en["words"], words);
    assert_eq!(en["wer"], 3.0 / 11.0);
    assert_eq!(es["words"]["substitutions"], 1);
    assert_eq!(es["characters"]["substitutions"], 1);
    assert_eq!(wrong["languages"][0]["language"], "en");
    assert_eq!(wrong["languages"][1]["wer"], 0.2);
    assert_eq!(wrong["total"]["wer"], 4.0 / 16.0);
    let pairs = json!([
        {"reference": "cafes", "hypothesis": "cafés", "count": 1},
        {"reference": "cap", "hypothesis": "hat", "count": 1},
    ]);
    assert_eq!(wrong["substitutions"], pairs);

    let table = eval(&sandbox, &["--worst", "1"]);
    table.assert(0);
    let worst = "27.3 %  synth-en-05.flac\n        said   every single cloud";
    for part in [
        "    WER     CER  words  file\n",
        worst,
        "     1  cap -> hat",
        "  all\n",
    ] {
        assert!(table.stdout.contains(part), "{part:?} in\n{}", table.stdout);
    }
    assert!(!table.stdout.contains("said   quisiera"), "one worst file");

    let csv = eval(&sandbox, &["--csv"]);
    csv.assert(0);
    let row = "synth-en-05.flac,en,en,5.671,0.2727,11,1,1,1,";
    assert!(
        csv.stdout.lines().nth(1).unwrap().starts_with(row),
        "{}",
        csv.stdout
    );
}

/// Compute types whose texts of the two clips are the same.
const TYPES: [&str; 2] = ["--compute_types", "f32,f16,q4"];

#[test]
fn compute_types_are_compared_with_the_first_file_by_file() {
    let sandbox = Sandbox::new();
    let english = "Every single cloud quietly hurried, and his cap closed the library.";
    manifest(&sandbox, english, "Quisiera ocho cafés, por favor.");
    let alone = report(&sandbox, &["--compute_type", "f16"]);
    let mut compared = report(&sandbox, &TYPES);
    let types = compared["compute_types"].as_array_mut().unwrap();
    let names: Vec<_> = types.iter().map(|t| t["compute_type"].clone()).collect();
    assert_eq!(names, ["f32", "f16", "q4"]);
    assert_eq!(types[0]["compared"]["wer_difference"], Value::Null);
    let f16 = &types[1]["compared"];
    let none = json!({"mean": 0.0, "standard_error": 0.0});
    assert_eq!(f16["wer_difference"], none);
    assert_eq!(f16["cer_difference"], none);
    assert_eq!([&f16["files"], &f16["same_text"]], [&json!(2), &json!(2)]);
    assert_eq!(f16["wer"], 3.0 / 16.0);
    assert!(f16["elapsed_s"].as_f64().unwrap() > 0.0);
    assert!(f16["speed"].as_f64().unwrap() > 0.0);
    let sets = types[1]["sets"].as_array().unwrap();
    assert_eq!([&sets[0]["set"], &sets[1]["set"]], ["en", "es"]);
    assert_eq!([&sets[0]["wer"], &sets[1]["wer"]], [3.0 / 11.0, 0.0]);

    // Apart from what is compared, the report on a type is the one on this type alone.
    let f16 = types[1].as_object_mut().unwrap();
    for field in ["compute_type", "compared", "sets"] {
        f16.remove(field).unwrap();
    }
    for file in f16["files"].as_array_mut().unwrap() {
        let file = file.as_object_mut().unwrap();
        assert_eq!(file.remove("same_text").unwrap(), true);
        assert!(file.remove("elapsed_s").unwrap().as_f64().unwrap() > 0.0);
    }
    assert_eq!(types[1], alone);
}

#[test]
fn compute_types_are_compared_in_a_table_and_in_csv_set_by_set() {
    let sandbox = Sandbox::new();
    manifest(&sandbox, EN_TEXT, "Quisiera ocho cafés, por favor.");
    let lines = sandbox.read("manifest.jsonl");
    let lines = lines.replacen('{', "{\"set\": \"quiet\", ", 1)
        + "{\"file\": \"gone.wav\", \"text\": \"gone\"}\n";
    fs::write(sandbox.path("manifest.jsonl"), lines).unwrap();
    let table = eval(&sandbox, &TYPES);
    table.assert(1);
    assert_eq!(table.stderr.lines().count(), 1, "reported once");
    let failed = table.stdout.matches("gone.wav").count();
    assert_eq!(failed, 1, "listed once: {}", table.stdout);
    let titles = table
        .stdout
        .lines()
        .filter(|line| TYPES[1].split(',').any(|t| t == *line));
    assert_eq!(titles.count(), 3);
    let rows: Vec<Vec<&str>> = (table
        .stdout
        .lines()
        .skip_while(|line| !line.contains("set")))
    .map(|line| line.split_whitespace().collect())
    .collect();
    let ends: Vec<_> = rows[1..]
        .iter()
        .map(|row| row[row.len() - 2..].join(" "))
        .collect();
    let expected = [
        "f32 es",
        "f16 es",
        "q4 es",
        "f32 quiet",
        "f16 quiet",
        "q4 quiet",
        "f32 all",
        "f16 all",
        "q4 all",
    ];
    assert_eq!(ends, expected, "{}", table.stdout);
    assert_eq!(rows[7][..6], ["0.00", "%", "0.00", "%", "2", "2"]);
    assert_eq!(rows[8][4..9], ["+0.00", "±", "0.00", "2", "2"]);

    let csv = eval(&sandbox, &[&TYPES[..], &["--csv"]].concat());
    csv.assert(1);
    let lines: Vec<&str> = csv.stdout.lines().collect();
    assert_eq!(lines.len(), 1 + 3 * 3);
    assert!(lines[0].starts_with("compute_type,set,elapsed_s,same_text,file,language,"));
    assert!(lines[4].starts_with("f16,quiet,") && lines[4].contains(",true,synth-en-05.flac,en,"));
    assert!(lines[9].starts_with("q4,,,,gone.wav,"), "{}", lines[9]);
}

#[test]
fn bad_compute_types_are_usage_errors() {
    let sandbox = Sandbox::new();
    manifest(&sandbox, EN_TEXT, "x");
    eval(&sandbox, &["--compute_types", "f32,f8"]).assert_one_line(2, "--compute-types: ");
    let both = ["--compute_types", "f32", "--compute_type", "f16"];
    eval(&sandbox, &both).assert_one_line(2, "--compute-type");
}

#[test]
fn the_normaliser_can_be_chosen() {
    let sandbox = Sandbox::new();
    manifest(&sandbox, "every cloud QUIETLY", "x");
    let [auto, none] = ["auto", "none"].map(|normalizer| {
        let report = report(&sandbox, &["--normalizer", normalizer]);
        assert_eq!(report["normalizer"], normalizer);
        report["files"][0]["hypothesis"]
            .as_str()
            .unwrap()
            .to_owned()
    });
    assert!(
        auto.starts_with("every cloud quietly hurried and"),
        "{auto}"
    );
    assert_eq!(none, EN_TEXT);
}

#[test]
fn failures_are_reported_and_counted_and_the_other_files_scored() {
    let sandbox = Sandbox::new();
    manifest(&sandbox, EN_TEXT, "Quisiera ocho cafés, por favor.");
    let mut lines = sandbox.read("manifest.jsonl");
    lines.push_str("{\"file\": \"gone.wav\", \"text\": \"gone\"}\n{\"file\": 5}\n");
    fs::write(sandbox.path("manifest.jsonl"), lines).unwrap();
    let run = eval(&sandbox, &["--json"]);
    run.assert(1);
    assert_eq!(run.stderr.lines().count(), 2, "{}", run.stderr);
    assert!(run.stderr.contains("gone.wav") && run.stderr.contains("manifest.jsonl:4: "));
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["n_failed"], 2);
    assert_eq!(report["total"]["files"], 2);
    assert_eq!(report["total"]["wer"], 0.0);

    // Only the English clip has a translation.
    let translated = eval(&sandbox, &["--task", "translate", "--csv"]);
    translated.assert(1);
    assert!(
        translated
            .stderr
            .contains("synth-es-00.flac: the manifest has no translation")
    );

    fs::write(
        sandbox.path("manifest.jsonl"),
        "{\"file\": \"gone.wav\", \"text\": \"\"}\n",
    )
    .unwrap();
    eval(&sandbox, &[]).assert_one_line(4, "gone.wav");
    fs::write(sandbox.path("manifest.jsonl"), "").unwrap();
    eval(&sandbox, &[]).assert_one_line(2, "lists no files");
    eval(&sandbox, &["--json", "--csv"]).assert_one_line(2, "--csv");
}
