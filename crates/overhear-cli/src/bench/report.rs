//! Report of the measurements and its output formats.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use overhear::bench::MachineLimits;
use overhear::{ComputeType, Model};
use serde::{Deserialize, Serialize};

use super::compare::Change;
use crate::failure::printable;

/// Number of bytes read to measure memory bandwidth: more than any cache holds.
const MEMORY_BYTES: usize = 512 << 20;

/// Report of one run of the benchmark.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    /// Version of overhear.
    pub(super) overhear: String,
    pub(super) setting: Setting,
    pub(super) limits: Limits,
    pub(super) figures: Vec<Figure>,
    /// Peak memory from loading the model to the end of a window, in MB; absent where the system does not report it.
    pub(super) peak_memory_mb: Option<f64>,
    /// Comparison with an earlier run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) compared: Option<Vec<Change>>,
}

/// Conditions that must be equal for two runs to be comparable.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Setting {
    pub(super) cpu: String,
    pub(super) kernels: String,
    pub(super) threads: usize,
    /// Name of the model's folder.
    pub(super) model: String,
    pub(super) dtype: String,
    pub(super) compute_type: String,
    pub(super) repeats: usize,
}

/// Limits of the machine; a field is absent if the machine has no such instructions.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Limits {
    pub(super) f32_gflop_s: Option<f64>,
    pub(super) bf16_gflop_s: Option<f64>,
    pub(super) int8_gop_s: Option<f64>,
    /// Read bandwidth of memory.
    pub(super) memory_gb_s: f64,
    /// Bandwidth of repeatedly reading as many bytes as a step of the decoder reads.
    pub(super) step_gb_s: f64,
    /// Time to start a kernel on all threads and to wait for the last of them.
    pub(super) fork_join_us: f64,
}

/// Measurement of one stage.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) median_ms: f64,
    pub(super) min_ms: f64,
    pub(super) max_ms: f64,
    /// Throughput: operations or bytes per second, or times faster than real time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rate_unit: Option<String>,
    /// Share of the machine's limit of that throughput.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) share: Option<f64>,
}

impl Limits {
    /// Measures all limits except `step_gb_s`, which depends on the model.
    pub(super) fn measure(machine: &MachineLimits) -> Self {
        let giga = |rate: Option<f64>| rate.map(|rate| rate / 1e9);
        Self {
            f32_gflop_s: giga(machine.f32_ops()),
            bf16_gflop_s: giga(machine.bf16_ops()),
            int8_gop_s: giga(machine.int8_ops()),
            memory_gb_s: machine.read_bandwidth(MEMORY_BYTES) / 1e9,
            step_gb_s: 0.0,
            fork_join_us: machine.fork_join_s() * 1e6,
        }
    }

    /// Returns the operations per second of the unit that `compute_type` uses, if the machine has it.
    pub(super) fn arithmetic(&self, compute_type: ComputeType) -> Option<f64> {
        let giga = match compute_type {
            ComputeType::Bf16 | ComputeType::Int8Bfloat16 => self.bf16_gflop_s,
            ComputeType::Int8 | ComputeType::Q5 | ComputeType::Q4 => self.int8_gop_s,
            _ => self.f32_gflop_s,
        };
        giga.or(self.f32_gflop_s).map(|giga| giga * 1e9)
    }

    fn lines(&self) -> [(&'static str, Option<f64>, &'static str); 6] {
        [
            ("f32 arithmetic", self.f32_gflop_s, "GFLOP/s"),
            ("bf16 dot products", self.bf16_gflop_s, "GFLOP/s"),
            ("int8 dot products", self.int8_gop_s, "GOP/s"),
            ("reading memory", Some(self.memory_gb_s), "GB/s"),
            ("reading a step's bytes", Some(self.step_gb_s), "GB/s"),
            ("fork and join", Some(self.fork_join_us), "us"),
        ]
    }
}

impl Figure {
    pub(super) fn new(name: &str, seconds: &[f64]) -> Self {
        let mut ms: Vec<f64> = seconds.iter().map(|s| s * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        Self {
            name: name.to_owned(),
            median_ms: ms[ms.len() / 2],
            min_ms: ms[0],
            max_ms: ms[ms.len() - 1],
            rate: None,
            rate_unit: None,
            share: None,
        }
    }

    /// Adds the throughput of `n` operations, and its share of `limit` per second.
    pub(super) fn operations(self, n: f64, limit: Option<f64>) -> Self {
        self.rated(n, limit, "GFLOP/s")
    }

    /// Adds the throughput of `n` bytes, and its share of `limit` per second.
    pub(super) fn bytes(self, n: f64, limit: f64) -> Self {
        self.rated(n, Some(limit), "GB/s")
    }

    fn rated(mut self, n: f64, limit: Option<f64>, unit: &str) -> Self {
        let rate = n / (self.median_ms / 1e3);
        self.rate = Some(rate / 1e9);
        self.rate_unit = Some(unit.to_owned());
        self.share = limit.map(|limit| rate / limit);
        self
    }

    /// Adds the speed as a multiple of real time, for `seconds` of audio.
    pub(super) fn real_time(mut self, seconds: f64) -> Self {
        self.rate = Some(seconds / (self.median_ms / 1e3));
        self.rate_unit = Some("x real time".to_owned());
        self
    }
}

impl Report {
    pub(super) fn new(
        model: &Model,
        path: &Path,
        repeats: usize,
        limits: Limits,
        figures: Vec<Figure>,
        peak_memory_mb: Option<f64>,
    ) -> Self {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self {
            overhear: env!("CARGO_PKG_VERSION").to_owned(),
            setting: Setting {
                cpu: cpu().unwrap_or_else(|| "unknown".to_owned()),
                kernels: model.isa().to_string(),
                threads: model.threads(),
                model: name.to_string_lossy().into_owned(),
                dtype: model.dtype().to_string(),
                compute_type: model.compute_type().to_string(),
                repeats,
            },
            limits,
            figures,
            peak_memory_mb,
            compared: None,
        }
    }

    /// Formats for programs, and for `--compare`.
    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has string keys only") + "\n"
    }

    /// Formats one line per stage.
    pub(super) fn csv(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let mut text =
            "name,median_ms,min_ms,max_ms,rate,rate_unit,share,earlier_ms,ratio\n".to_owned();
        for figure in &self.figures {
            let change = self.change(figure);
            let _ = writeln!(
                text,
                "\"{}\",{},{},{},{},{},{},{},{}",
                figure.name,
                figure.median_ms,
                figure.min_ms,
                figure.max_ms,
                number(figure.rate),
                figure.rate_unit.as_deref().unwrap_or_default(),
                number(figure.share),
                number(change.map(|change| change.earlier_ms)),
                number(change.map(|change| change.ratio)),
            );
        }
        text
    }

    /// Formats a table for people.
    pub(super) fn table(&self) -> String {
        let s = &self.setting;
        let mut text = printable(&format!(
            "overhear {}: {} ({} weights) in {}, kernels {}, {} threads, {}; medians of {}",
            self.overhear, s.model, s.dtype, s.compute_type, s.kernels, s.threads, s.cpu, s.repeats
        ));
        text.push_str("\n\n");
        for (name, value, unit) in self.limits.lines() {
            let value = value.map_or_else(
                || "not available".to_owned(),
                |value| format!("{value:.2} {unit}"),
            );
            let _ = writeln!(text, "{name:24} {value}");
        }
        let _ = write!(
            text,
            "\n{:16} {:>10} {:>10} {:>10}  {:>18} {:>8}",
            "stage", "median ms", "min", "max", "rate", "of limit"
        );
        if self.compared.is_some() {
            let _ = write!(text, "  {:>10} {:>6}", "earlier ms", "ratio");
        }
        text.push('\n');
        for figure in &self.figures {
            text.push_str(self.line(figure).trim_end());
            text.push('\n');
        }
        if let Some(mb) = self.peak_memory_mb {
            let _ = writeln!(text, "\npeak memory {mb:.0} MB");
        }
        text
    }

    fn line(&self, figure: &Figure) -> String {
        let rate = figure.rate.map_or_else(String::new, |rate| {
            let unit = figure.rate_unit.as_deref().unwrap_or_default();
            format!("{rate:.1} {unit}")
        });
        let share = figure
            .share
            .map_or_else(String::new, |share| format!("{:.0}%", 100.0 * share));
        let mut line = format!(
            "{:16} {:>10.3} {:>10.3} {:>10.3}  {rate:>18} {share:>8}",
            figure.name, figure.median_ms, figure.min_ms, figure.max_ms
        );
        if let Some(change) = self.change(figure) {
            let _ = write!(line, "  {:>10.3} {:>6.2}", change.earlier_ms, change.ratio);
        }
        line
    }

    fn change(&self, figure: &Figure) -> Option<&Change> {
        let changes = self.compared.as_ref()?;
        changes.iter().find(|change| change.name == figure.name)
    }
}

/// Returns the processor's name, on Linux.
fn cpu() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_and_its_share_of_the_limit() {
        let figure = Figure::new("token", &[0.004, 0.001, 0.002]).bytes(1e8, 1e11);
        assert_eq!(
            (figure.median_ms, figure.min_ms, figure.max_ms),
            (2.0, 1.0, 4.0)
        );
        assert_eq!(figure.rate, Some(50.0));
        assert_eq!(figure.share, Some(0.5));
        let window = Figure::new("window", &[0.5]).real_time(30.0);
        assert_eq!((window.rate, window.share), (Some(60.0), None));
    }
}
