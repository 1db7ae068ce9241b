//! Comparison of a run with an earlier one.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::report::{Report, Setting};
use crate::failure::{Failure, say};

/// Change of one stage.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) name: String,
    pub(super) earlier_ms: f64,
    /// Earlier time divided by the current one: above 1 means faster.
    pub(super) ratio: f64,
}

/// Reads the report of an earlier run.
pub(super) fn read(path: &Path) -> Result<Report, Failure> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string());
    text.and_then(|text| {
        serde_json::from_str(&text)
            .map_err(|error| format!("not a report of overhear bench --json: {error}"))
    })
    .map_err(|reason| Failure::Usage(format!("--compare: {}: {reason}", path.display())))
}

impl Report {
    /// Adds the changes since `earlier` of the stages that both runs have.
    pub(super) fn compare(&mut self, earlier: &Report) {
        let differences = self.setting.differences(&earlier.setting);
        if !differences.is_empty() {
            let differences = differences.join(", ");
            say(&format!(
                "the earlier run had other settings: {differences}"
            ));
        }
        let change = |name: &str, now_ms: f64| {
            let before = earlier.figures.iter().find(|figure| figure.name == name)?;
            Some(Change {
                name: name.to_owned(),
                earlier_ms: before.median_ms,
                ratio: before.median_ms / now_ms,
            })
        };
        let changes = self
            .figures
            .iter()
            .filter_map(|figure| change(&figure.name, figure.median_ms));
        self.compared = Some(changes.collect());
    }
}

impl Setting {
    /// Describes what was different in an earlier run: `threads 1 (now 2)`.
    fn differences(&self, earlier: &Self) -> Vec<String> {
        let fields = |setting: &Self| {
            [
                ("processor", setting.cpu.clone()),
                ("kernels", setting.kernels.clone()),
                ("threads", setting.threads.to_string()),
                ("model", setting.model.clone()),
                ("dtype", setting.dtype.clone()),
                ("compute type", setting.compute_type.clone()),
                ("repeats", setting.repeats.to_string()),
            ]
        };
        fields(earlier)
            .into_iter()
            .zip(fields(self))
            .filter(|((_, then), (_, now))| then != now)
            .map(|((name, then), (_, now))| format!("{name} {then} (now {now})"))
            .collect()
    }
}
