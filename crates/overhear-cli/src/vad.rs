//! `overhear vad`: the regions of speech of each input.

use std::collections::HashSet;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use overhear::audio::{AudioWarning, SAMPLE_RATE};
use overhear::output::format_timestamp;
use overhear::vad::{FRAME_SAMPLES, Region, SpeechProbabilities, Vad, VadMethod, VadOptions};
use overhear::{Audio, temporary};
use serde::Serialize;

use crate::args::{RegionFormat, VadCommandArgs};
use crate::failure::{Failure, printable};
use crate::inputs::{self, Input};
use crate::interrupt::Interrupt;
use crate::naming::targets;
use crate::options::{audio_options, vad_options};
use crate::outputs;
use crate::warnings;

/// Detects speech in the inputs that `args` name.
pub(crate) fn run(args: &VadCommandArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    if args.quiet {
        warnings::silence();
    }
    let options = vad_options(&args.vad)?;
    let mut formats = args.output_format.clone();
    let mut seen = HashSet::new();
    formats.retain(|&format| seen.insert(format));
    let usage = |message: &str| Err(Failure::Usage(message.to_owned()));
    let is_timed =
        |format: &RegionFormat| matches!(format, RegionFormat::Text | RegionFormat::Audacity);
    if args.probabilities && formats.iter().any(is_timed) {
        return usage("--probabilities: needs --output-format csv or json");
    }
    let audio_options = audio_options(&args.audio);
    let vad = match options.method {
        VadMethod::Energy => Vad::energy(),
        _ => Vad::new(NonZeroUsize::new(args.threads))?,
    };
    let folder = Some(&*args.output_dir).filter(|folder| folder.as_os_str() != "-");
    if folder.is_none() && formats.len() > 1 {
        return usage("standard output takes one format: choose a folder with --output-dir");
    }
    if let Some(folder) = folder {
        outputs::prepare(folder)?;
        temporary::remove_left_over_files(folder);
    }
    let (found, missing): (Vec<_>, Vec<_>) = inputs::expand(&args.files, args.recursive)
        .into_iter()
        .partition(Result::is_ok);
    let inputs: Vec<Input> = found.into_iter().flatten().collect();
    let n_inputs = inputs.len() + missing.len();
    let mut n_failed = missing.len();
    for failure in missing.into_iter().filter_map(Result::err) {
        failure.report();
    }
    let extensions: Vec<_> = formats.iter().copied().map(extension).collect();
    let targets = targets(&inputs, folder.unwrap_or(Path::new("")), &extensions);
    let mut is_first = true;
    for (input, target) in inputs.iter().zip(targets) {
        interrupt.check()?;
        let name = input.display();
        warnings::about(&name);
        let found = input
            .open(&audio_options, interrupt)
            .and_then(|audio| detect(&vad, audio, interrupt));
        let found = match found {
            Ok(found) => found,
            Err(failure @ Failure::Input(_)) => {
                failure.report();
                n_failed += 1;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        warnings::warn_audio(&found.warnings);
        let speech = Speech {
            name: &name,
            regions: found.regions(&options)?,
            found,
            model: vad.name(),
            options: &options,
            has_probabilities: args.probabilities,
        };
        for (&format, extension) in formats.iter().zip(&extensions) {
            let document = speech.document(format, folder.is_some() || is_first);
            match folder {
                Some(_) => outputs::write_file(&target, extension, &document)?,
                None => print(&document)?,
            }
        }
        is_first = false;
    }
    match n_failed {
        0 => Ok(()),
        _ => Err(Failure::Inputs {
            all: n_failed == n_inputs,
        }),
    }
}

fn print(document: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(document)
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::stdout(&error))
}

fn detect(vad: &Vad, audio: Audio, interrupt: &Interrupt) -> Result<SpeechProbabilities, Failure> {
    let vad = vad.clone();
    let found = interrupt.run(move || vad.probabilities(&audio))?;
    found.map_err(Failure::from)
}

/// Returns the extension of files of a format; none is that of a transcript.
fn extension(format: RegionFormat) -> &'static str {
    match format {
        RegionFormat::Text => "vad.txt",
        RegionFormat::Json => "vad.json",
        RegionFormat::Csv => "vad.csv",
        RegionFormat::Audacity => "labels.txt",
    }
}

/// Speech of one input.
struct Speech<'a> {
    name: &'a str,
    found: SpeechProbabilities,
    model: &'static str,
    regions: Vec<Region>,
    options: &'a VadOptions,
    has_probabilities: bool,
}

/// The JSON of an input. Times are in seconds.
#[derive(Serialize)]
struct Json<'a> {
    file: &'a str,
    model: &'a str,
    duration: f64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    options: JsonOptions,
    regions: Vec<JsonRegion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probabilities: Option<JsonProbabilities<'a>>,
}

#[derive(Serialize)]
struct JsonOptions {
    threshold: f64,
    neg_threshold: Option<f64>,
    min_speech_duration_ms: u32,
    /// `null` if there is no maximum.
    max_speech_duration_s: Option<f64>,
    min_silence_duration_ms: u32,
    speech_pad_ms: u32,
}

#[derive(Serialize)]
struct JsonRegion {
    start: f64,
    end: f64,
}

#[derive(Serialize)]
struct JsonProbabilities<'a> {
    frame_duration: f64,
    speech: &'a [f32],
}

impl Speech<'_> {
    /// Returns the output. `has_head`: whether it begins with the names of its columns, if it has any.
    fn document(&self, format: RegionFormat, has_head: bool) -> Vec<u8> {
        match format {
            RegionFormat::Text => self.text().into_bytes(),
            RegionFormat::Json => self.json(),
            RegionFormat::Csv => self.csv(has_head).expect("memory takes all"),
            RegionFormat::Audacity => self.labels().into_bytes(),
        }
    }

    /// A line for the input, and one for each region.
    fn text(&self) -> String {
        let lengths = self.regions.iter().map(|r| r.end_s() - r.start_s());
        // The sum of no numbers is -0.
        let speech_s = 0.0 + lengths.sum::<f64>();
        let (name, duration_s) = (printable(self.name), self.found.duration_s());
        let mut text = format!(
            "{name}: {speech_s:.1} of {duration_s:.1} s are speech ({})\n",
            self.model
        );
        for region in &self.regions {
            let start = format_timestamp(region.start_s(), false, '.');
            let end = format_timestamp(region.end_s(), false, '.');
            let length_s = region.end_s() - region.start_s();
            text.push_str(&format!("[{start} --> {end}]  {length_s:.3} s\n"));
        }
        text
    }

    /// A label track of Audacity: start, end and label, separated by tabs.
    fn labels(&self) -> String {
        let label = |region: &Region| {
            let (start_s, end_s) = (region.start_s(), region.end_s());
            format!("{start_s:.6}\t{end_s:.6}\tspeech\n")
        };
        self.regions.iter().map(label).collect()
    }

    /// The regions as comma-separated values, or the probabilities with the start of their frames. Times are in seconds.
    fn csv(&self, has_head: bool) -> csv::Result<Vec<u8>> {
        let mut csv = csv::Writer::from_writer(Vec::new());
        if has_head {
            let last = if self.has_probabilities {
                "probability"
            } else {
                "end"
            };
            csv.write_record(["file", "start", last])?;
        }
        if self.has_probabilities {
            for (frame, p) in self.found.probabilities.iter().enumerate() {
                let start_s = (frame * FRAME_SAMPLES) as f64 / f64::from(SAMPLE_RATE);
                csv.serialize((self.name, start_s, p))?;
            }
        } else {
            for region in &self.regions {
                csv.serialize((self.name, region.start_s(), region.end_s()))?;
            }
        }
        csv.into_inner().map_err(|error| error.into_error().into())
    }

    /// One line, so that several inputs are JSON lines.
    fn json(&self) -> Vec<u8> {
        let VadOptions {
            threshold,
            neg_threshold,
            min_speech_duration_ms,
            max_speech_duration_s,
            min_silence_duration_ms,
            speech_pad_ms,
            ..
        } = *self.options;
        let region = |region: &Region| JsonRegion {
            start: region.start_s(),
            end: region.end_s(),
        };
        let json = Json {
            file: self.name,
            model: self.model,
            duration: self.found.duration_s(),
            truncated: self.found.warnings.contains(&AudioWarning::Truncated),
            options: JsonOptions {
                threshold,
                neg_threshold,
                min_speech_duration_ms,
                max_speech_duration_s: Some(max_speech_duration_s).filter(|s| s.is_finite()),
                min_silence_duration_ms,
                speech_pad_ms,
            },
            regions: self.regions.iter().map(region).collect(),
            probabilities: self.has_probabilities.then(|| JsonProbabilities {
                frame_duration: FRAME_SAMPLES as f64 / f64::from(SAMPLE_RATE),
                speech: &self.found.probabilities,
            }),
        };
        let mut line = serde_json::to_vec(&json).expect("numbers and text");
        line.push(b'\n');
        line
    }
}
