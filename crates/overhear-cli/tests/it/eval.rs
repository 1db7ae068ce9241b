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
