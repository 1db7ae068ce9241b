//! `overhear bench` with the real binary on nano: its reports and its errors, not the measured speed.
#![allow(clippy::unwrap_used)]

use std::fs;

use crate::common::{Run, Sandbox};
use serde_json::Value;

/// Stages that are measured on every machine, in order.
const NAMES: [&str; 13] = [
    "load",
    "log-mel",
    "encoder",
    "prompt",
    "token",
    "first token",
    "window",
    "window, 5 beams",
    "step, 1 rows",
    "step, 5 rows",
    "step, 8 rows",
    "step, 16 rows",
    "step, 32 rows",
];

fn bench(sandbox: &Sandbox, flags: &[&str]) -> Run {
    let words = ["bench", "--model", "nano", "--repeats", "1"];
    sandbox.run(words.iter().chain(flags))
}

#[test]
fn a_run_is_json_that_a_later_run_is_compared_with() {
    let sandbox = Sandbox::new();
    let run = bench(&sandbox, &["--json", "--threads", "2"]);
    run.assert(0);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["setting"]["model"], "nano");
    assert_eq!(report["setting"]["threads"], 2);
    assert_eq!(report["setting"]["repeats"], 1);
    let figures = report["figures"].as_array().unwrap();
    let names: Vec<_> = figures
        .iter()
        .map(|f| f["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, NAMES);
    for figure in figures {
        let [min, median, max] =
            ["min_ms", "median_ms", "max_ms"].map(|name| figure[name].as_f64().unwrap());
        assert!(min <= median && median <= max && max > 0.0, "{figure}");
    }
    let share = figures[4]["share"].as_f64().unwrap();
    assert!(share.is_finite(), "{share}");
    for limit in ["memory_gb_s", "step_gb_s", "fork_join_us"] {
        assert!(report["limits"][limit].as_f64().unwrap() >= 0.0, "{limit}");
    }

    fs::write(sandbox.path("then.json"), &run.stdout).unwrap();
    let run = bench(
        &sandbox,
        &["--csv", "--threads", "2", "--compare", "then.json"],
    );
    run.assert(0);
    assert_eq!(run.stderr, "", "the settings are the same");
    let (header, rows) = run.stdout.split_once('\n').unwrap();
    let rows: Vec<(&str, Vec<&str>)> = rows
        .lines()
        .map(|line| line[1..].split_once("\",").expect("a quoted name"))
        .map(|(name, values)| (name, values.split(',').collect()))
        .collect();
    assert!(header.starts_with("name,"));
    for (name, values) in &rows {
        // "window, 5 beams" is one name.
        assert_eq!(1 + values.len(), header.split(',').count(), "{name}");
    }
    let (_, window) = rows.iter().find(|(name, _)| *name == "window").unwrap();
    let [now, earlier, ratio] = [0, 6, 7].map(|i| window[i].parse::<f64>().unwrap());
    assert_eq!(earlier, figures[6]["median_ms"].as_f64().unwrap());
    assert!((ratio - earlier / now).abs() < 1e-9 * ratio, "{window:?}");
}

#[test]
fn a_table_shows_the_measurements_and_that_the_earlier_run_differed() {
    let sandbox = Sandbox::new();
    let run = bench(&sandbox, &["--json", "--threads", "1"]);
    run.assert(0);
    let other = run
        .stdout
        .replace("\"model\": \"nano\"", "\"model\": \"turbo\"")
        .replace("\"repeats\": 1", "\"repeats\": 5");
    fs::write(sandbox.path("other.json"), other).unwrap();
    let run = bench(&sandbox, &["--threads", "1", "--compare", "other.json"]);
    let said = "the earlier run had other settings: model turbo (now nano), repeats 5 (now 1)\n";
    run.assert_one_line(0, said);
    for part in [
        "nano",
        "1 threads",
        "of limit",
        "earlier ms",
        "GFLOP/s",
        "x real time",
    ] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
}

#[test]
fn invalid_benchmark_options_are_errors_of_one_line_without_a_run() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("text.json"), "{\"figures\": []}").unwrap();
    for (flags, part) in [
        (&["--repeats", "0"][..], "--repeats"),
        (&["--repeats", "many"], "many"),
        (&["--json", "--csv"], "--csv"),
        (&["--compare", "no.json"], "--compare: no.json"),
        (
            &["--compare", "text.json"],
            "not a report of overhear bench --json",
        ),
        (&["--compute_type", "int3"], "unknown compute type"),
    ] {
        let words = ["bench", "--model", "nano"];
        let run = sandbox.run(words.iter().chain(flags));
        run.assert_one_line(2, part);
        assert_eq!(run.stdout, "");
    }
    let run = sandbox.run(["bench", "--model", "no-such-model"]);
    run.assert_one_line(3, "not found");
}
