//! The command line: which flags there are and what they mean to the library.
//!
//! Names, values and defaults are openai/whisper's (`whisper/transcribe.py::cli`), so that its command lines
//! work unchanged. Long names are shown in kebab case; [`crate::values`] adds the snake_case twins.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use overhear::output::Format;

use crate::spelling;
use crate::values::{Optional, Verbosity, optional, verbosity, whisper_style};

const EXAMPLES: &str = "\
Examples:
  overhear talk.flac                               all formats into this directory
  overhear --model ~/whisper-turbo -f srt -o out *.mp3
  overhear -f txt -o - --quiet - < talk.opus       text on standard output

Every option also goes by its snake_case name (--output_dir), may be cut short where that leaves one, and counts as it
is given last. A switch takes nothing, True or False (or yes, no, on, off, 1, 0).
Exit codes: 0 all done, 1 some inputs failed, 2 usage, 3 model, 4 every input failed, 69 model not
downloaded for want of a network, 71 out of memory or threads, 74 output or cache not written, 129, 130 and 143 interrupted by SIGHUP, SIGINT and SIGTERM, 141 standard output closed.";

/// What `-h` shows of the options that commands share, and says of them in half a line.
const COMMON: &[(&str, &str)] = &[
    (
        "output-dir",
        "Where to put the outputs; - for standard output",
    ),
    (
        "output-format",
        "txt, vtt, srt, tsv, json, ass, lrc, csv or all",
    ),
    ("recursive", "Descend into subdirectories"),
    (
        "skip-existing",
        "Leave inputs alone whose outputs are there",
    ),
    ("quiet", "Show nothing but errors"),
    ("model", "A folder, or a name as tiny.en or turbo"),
    ("compute-type", "auto, f32 (exact), f16, bf16 or int8"),
    ("threads", "0 takes what the machine gives"),
    ("task", "transcribe, or translate to English"),
    ("language", "The language spoken; None detects it"),
    ("initial-prompt", "Text put before the first window"),
    ("beam-size", "Beams; None: the greedy search"),
    ("word-timestamps", "Tell when each word is said"),
];

const BRIEF: &str = "\
Example: overhear --model nano talk.flac -f srt -o out
All options, examples and exit codes: overhear --help";

const EVAL_HELP: &str = "\
The manifest is a file of JSON lines {\"file\", \"text\", \"lang\"}, or a .csv or .tsv table with these columns;
audio, audio_filepath or path, sentence, and language or locale are understood, too. Files are relative to
the manifest. With --task translate the field \"translation\" is compared. A file is transcribed in
--language, or else in the manifest's, or else in the one detected.

  overhear eval --model tiny.en crates/overhear/tests/fixtures/audio/manifest.jsonl
  overhear eval --model turbo --json test.tsv > report.json";

/// Transcribe audio files with Whisper models.
#[derive(Debug, Parser)]
#[command(
    name = "overhear",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) transcribe: TranscribeArgs,
}

impl Cli {
    /// Whether what was asked for goes to standard output, and not only what is shown meanwhile.
    pub(crate) fn writes_to_stdout(&self) -> bool {
        match &self.command {
            None => self.transcribe.writes_to_stdout(),
            Some(Command::Transcribe(args)) => args.writes_to_stdout(),
            Some(_) => true,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Transcribe audio files (also without the word: `overhear FILES...`).
    #[command(after_help = EXAMPLES)]
    Transcribe(Box<TranscribeArgs>),
    /// Tell the language spoken in audio files, and its probability.
    Detect(DetectArgs),
    /// Measure word and character error rates on recordings whose words are known.
    #[command(after_help = EVAL_HELP)]
    Eval(Box<EvalArgs>),
    /// Describe a model and how it would run on this machine.
    Info(ModelArgs),
    /// List, download, remove and verify models.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Measure how fast a model runs here, and how near to what is possible.
    Bench(BenchArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page of overhear, or of one of its commands.
    Man {
        /// The command.
        #[arg(value_name = "COMMAND")]
        command: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the models of this machine: name, size and folder, separated by tabs.
    List,
    /// Download a model, or what has changed of it, into the Hugging Face cache, and print its folder.
    Pull {
        /// turbo, ORG/NAME, ORG/NAME@REVISION, ...
        model: String,
    },
    /// Remove a model from the Hugging Face cache, with all its revisions.
    Rm {
        /// turbo, ORG/NAME, ...
        model: String,
    },
    /// Describe a model and how it would run on this machine.
    Info {
        /// A folder or a name.
        model: OsString,
    },
    /// Compare a downloaded model with the hub's checksums.
    Verify {
        /// turbo, ORG/NAME, ORG/NAME@REVISION, ...
        model: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DetectArgs {
    /// Audio files, directories, quoted patterns, or `-` for standard input.
    #[arg(required = true, value_name = "FILES")]
    pub(crate) files: Vec<OsString>,
    /// Descend into subdirectories.
    #[arg(long, short)]
    pub(crate) recursive: bool,
    #[command(flatten)]
    pub(crate) detection: DetectionArgs,
    #[command(flatten)]
    pub(crate) audio: AudioArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// How languages are detected.
#[derive(Debug, Args)]
pub(crate) struct DetectionArgs {
    /// Languages that detection may choose from, separated by commas; none: all.
    #[arg(long, action = ArgAction::Set, num_args = 1, value_delimiter = ',', value_name = "LANGUAGES")]
    pub(crate) languages: Vec<String>,
    /// Windows of 30 seconds to detect the language from: the first sure one decides, or else the majority.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) language_detection_segments: usize,
    /// A window is sure of a language likelier than this; None: never.
    #[arg(long, default_value = "0.5", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "P")]
    pub(crate) language_detection_threshold: Optional<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// The list of files and what is said in them.
    #[arg(value_name = "MANIFEST")]
    pub(crate) manifest: PathBuf,
    /// What to even out before comparing: auto is english for English and basic for the rest.
    #[arg(long, default_value = "auto", value_name = "NORMALIZER")]
    pub(crate) normalizer: NormalizerName,
    /// Detect languages though the manifest names them.
    #[arg(long)]
    pub(crate) detect_language: bool,
    /// Print the whole report as JSON.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Print a row a file as CSV.
    #[arg(long)]
    pub(crate) csv: bool,
    /// How many of the worst files to show.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) worst: usize,
    /// How many of the most frequent substitutions to tell.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) confusions: usize,
    #[command(flatten)]
    pub(crate) audio: AudioArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) decoding: DecodingArgs,
    #[command(flatten)]
    pub(crate) not_yet: NotYetArgs,
}

/// How texts are made comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NormalizerName {
    Auto,
    English,
    Basic,
    None,
}

impl NormalizerName {
    pub(crate) fn name(self) -> &'static str {
        match self {
            NormalizerName::Auto => "auto",
            NormalizerName::English => "english",
            NormalizerName::Basic => "basic",
            NormalizerName::None => "none",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Times that each figure is measured; the median counts.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) repeats: usize,
    /// Write JSON, for programs and for --compare.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Write comma-separated values.
    #[arg(long)]
    pub(crate) csv: bool,
    /// Show what has become faster or slower since an earlier --json.
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// How audio is read.
#[derive(Debug, Args)]
pub(crate) struct AudioArgs {
    /// The audio track to take of a file with several, 1 being the first; without it, the one marked as the default.
    #[arg(long, value_name = "N")]
    pub(crate) audio_track: Option<usize>,
    /// What decodes formats that are not built in: auto (the ffmpeg on the PATH, if there is one), off, or a program.
    #[arg(long, default_value = "auto", value_name = "PROGRAM")]
    pub(crate) ffmpeg: OsString,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// The model: a folder, or a name (tiny, base.en, large-v3, turbo, distil-large-v3.5, ORG/NAME, ORG/NAME@REVISION, ...).
    /// What is not on this machine is downloaded from the Hugging Face hub.
    #[arg(long, default_value = "turbo", value_name = "MODEL")]
    pub(crate) model: OsString,
    /// Where to look for the model first.
    #[arg(long, value_name = "DIR")]
    pub(crate) model_dir: Option<PathBuf>,
    /// Where to compute: cpu.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub(crate) device: String,
    /// Arithmetic: auto (bf16 where the processor has it, else f16), f32 (exact), f16 (f32 on rounded weights), bf16,
    /// int8, int8_float32 (f32, the decoder's weights in bytes) or int8_bfloat16 (likewise, the encoder in bf16).
    #[arg(long, default_value = "auto", value_name = "TYPE")]
    pub(crate) compute_type: String,
    /// Threads; 0 takes what the machine gives.
    #[arg(long, default_value = "0", value_parser = optional::<i64>, allow_negative_numbers = true, value_name = "N")]
    pub(crate) threads: Optional<i64>,
    /// Accepted for openai/whisper's sake; on a CPU it changes nothing.
    #[arg(long, default_value = "True", hide = true)]
    pub(crate) fp16: bool,
}

impl ModelArgs {
    /// The model `name`, everything else by default.
    pub(crate) fn named(name: &OsStr) -> Self {
        Self {
            model: name.to_owned(),
            model_dir: None,
            device: "cpu".to_owned(),
            compute_type: "auto".to_owned(),
            threads: Optional(Some(0)),
            fp16: true,
        }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Input and output")]
pub(crate) struct TranscribeArgs {
    /// Audio files, directories, quoted patterns, or `-` for standard input.
    #[arg(required = true, value_name = "FILES")]
    pub(crate) files: Vec<OsString>,
    /// Descend into subdirectories; outputs are put into the same tree.
    #[arg(long, short)]
    pub(crate) recursive: bool,
    /// Where to put the outputs; `-` writes the one chosen format to standard output.
    #[arg(long, short, default_value = ".", value_name = "DIR")]
    pub(crate) output_dir: PathBuf,
    /// Formats of the outputs, separated by commas; all stands for txt, vtt, srt, tsv and json.
    #[arg(
        long,
        short = 'f',
        action = ArgAction::Set,
        num_args = 1,
        default_value = "all",
        value_delimiter = ',',
        value_name = "FORMAT"
    )]
    pub(crate) output_format: Vec<OutputFormat>,
    /// Leave inputs alone whose outputs are all there.
    #[arg(long)]
    pub(crate) skip_existing: bool,
    /// Show segments on standard output as they appear; False: progress only; None: neither.
    #[arg(
        long,
        default_value = "True",
        default_missing_value = "True",
        num_args = 0..=1,
        require_equals = true,
        value_parser = verbosity,
        value_name = "True|False|None"
    )]
    pub(crate) verbose: Verbosity,
    /// Show neither segments nor progress nor warnings.
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Colour the words of segments by how sure the model is: red, yellow, green. NO_COLOR turns it off.
    #[arg(long)]
    pub(crate) print_colors: bool,
    #[command(flatten)]
    pub(crate) audio: AudioArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) decoding: DecodingArgs,
    #[command(flatten)]
    pub(crate) words: WordArgs,
    #[command(flatten)]
    pub(crate) not_yet: NotYetArgs,
}

impl TranscribeArgs {
    /// Whether outputs go to standard output.
    pub(crate) fn writes_to_stdout(&self) -> bool {
        self.output_dir.as_os_str() == "-"
    }
}

/// One format, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Txt,
    Vtt,
    Srt,
    Tsv,
    Json,
    Ass,
    Lrc,
    Csv,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TaskName {
    Transcribe,
    Translate,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Decoding")]
pub(crate) struct DecodingArgs {
    /// Write down what is said, or translate it to English.
    #[arg(long, default_value = "transcribe", value_name = "TASK")]
    pub(crate) task: TaskName,
    /// The language spoken, by code or name; None detects it from the first 30 seconds.
    #[arg(long, default_value = "None", value_name = "LANGUAGE")]
    pub(crate) language: String,
    #[command(flatten)]
    pub(crate) detection: DetectionArgs,
    /// Several languages are spoken: transcribe each segment in its own, and name it.
    #[arg(long)]
    pub(crate) multilingual: bool,
    /// Temperature of the first try; 0 takes the likeliest token.
    #[arg(
        long,
        default_value = "0",
        allow_negative_numbers = true,
        value_name = "T"
    )]
    pub(crate) temperature: f64,
    /// How much hotter each retry is when a window fails a threshold; None: no retry.
    #[arg(long, default_value = "0.2", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "T")]
    pub(crate) temperature_increment_on_fallback: Optional<f64>,
    /// Candidates sampled above temperature 0.
    #[arg(long, default_value = "5", value_parser = optional::<usize>, value_name = "N")]
    pub(crate) best_of: Optional<usize>,
    /// Beams at temperature 0; None: the greedy search.
    #[arg(long, default_value = "5", value_parser = optional::<usize>, value_name = "N")]
    pub(crate) beam_size: Optional<usize>,
    /// Beam search ends with patience times beam_size texts; None: 1.
    #[arg(long, default_value = "None", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "FACTOR")]
    pub(crate) patience: Optional<f64>,
    /// Exponent, 0 to 1, of the length that texts are compared by; None: the plain mean.
    #[arg(long, default_value = "None", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "ALPHA")]
    pub(crate) length_penalty: Optional<f64>,
    /// Seed of the sampling above temperature 0.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub(crate) seed: u64,
    /// Text put before the first window as if it had been said.
    #[arg(long, allow_hyphen_values = true, value_name = "TEXT")]
    pub(crate) initial_prompt: Option<String>,
    /// Words put before the prompt of every window.
    #[arg(long, allow_hyphen_values = true, value_name = "WORDS")]
    pub(crate) hotwords: Option<String>,
    /// A phrase to make likelier without a part in the prompt; may be given several times.
    #[arg(long, allow_hyphen_values = true, value_name = "PHRASE")]
    pub(crate) boost: Vec<String>,
    /// A file of phrases to make likelier: one a line, after it perhaps a tab and its weight, up to 20 (default: 2).
    #[arg(long, value_name = "FILE")]
    pub(crate) boost_file: Option<PathBuf>,
    /// Put the initial prompt before every window.
    #[arg(long)]
    pub(crate) carry_initial_prompt: bool,
    /// Take the text so far as the prompt of the next window.
    #[arg(long, default_value = "True")]
    pub(crate) condition_on_previous_text: bool,
    /// Text that every window is taken to begin with; as in openai/whisper it is no part of the transcript.
    #[arg(long, allow_hyphen_values = true, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
    /// Token ids never to be sampled; -1 stands for symbols that are not speech.
    #[arg(
        long,
        default_value = "-1",
        allow_hyphen_values = true,
        value_name = "IDS"
    )]
    pub(crate) suppress_tokens: String,
    /// Forbid windows that begin with a blank or end at once.
    #[arg(long, default_value = "True")]
    pub(crate) suppress_blank: bool,
    /// Decode without timestamps.
    #[arg(long)]
    pub(crate) without_timestamps: bool,
    /// Cut repetition loops as they form, and go on from there at the next temperature.
    #[arg(long)]
    pub(crate) loop_guard: bool,
    /// Drop segments that were made up over silence; the JSON tells what speaks for it, of every segment.
    #[arg(long)]
    pub(crate) hallucination_guard: bool,
    /// Hypotheses of every window to write into the JSON, with their scores; the greedy search has one.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) n_best: usize,
    /// Likeliest tokens at every position to write into the JSON, with their probabilities.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) alternatives: usize,
    /// Latest first timestamp of a window, in seconds; None: no limit.
    #[arg(long, default_value = "1.0", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "SECONDS")]
    pub(crate) max_initial_timestamp: Optional<f64>,
    /// Clips to process, as start,end,start,end,... in seconds.
    #[arg(
        long,
        default_value = "0",
        allow_hyphen_values = true,
        value_name = "SECONDS"
    )]
    pub(crate) clip_timestamps: String,
    /// A window whose text compresses better than this has failed; None: no test.
    #[arg(long, default_value = "2.4", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "RATIO")]
    pub(crate) compression_ratio_threshold: Optional<f64>,
    /// A window whose mean log-probability is below this has failed; None: no test.
    #[arg(long, default_value = "-1.0", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "LOGPROB")]
    pub(crate) logprob_threshold: Optional<f64>,
    /// A failed window likelier than this to hold no speech is silence; None: no test.
    #[arg(long, default_value = "0.6", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "P")]
    pub(crate) no_speech_threshold: Optional<f64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Words")]
pub(crate) struct WordArgs {
    /// Find out when each word is said, and fit the segments to that.
    #[arg(long)]
    pub(crate) word_timestamps: bool,
    /// Punctuation that belongs to the word after it.
    #[arg(
        long,
        default_value = "\"'“¿([{-",
        allow_hyphen_values = true,
        value_name = "MARKS"
    )]
    pub(crate) prepend_punctuations: String,
    /// Punctuation that belongs to the word before it.
    #[arg(
        long,
        default_value = "\"'.。,，!！?？:：”)]}、",
        allow_hyphen_values = true,
        value_name = "MARKS"
    )]
    pub(crate) append_punctuations: String,
    /// Skip silence longer than this many seconds around a possible hallucination.
    #[arg(long, default_value = "None", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "SECONDS")]
    pub(crate) hallucination_silence_threshold: Optional<f64>,
    /// Underline each word as it is spoken, in srt and vtt.
    #[arg(long)]
    pub(crate) highlight_words: bool,
    /// Characters of a line, in srt, vtt, ass and lrc.
    #[arg(long, default_value = "None", value_parser = optional::<usize>, value_name = "N")]
    pub(crate) max_line_width: Optional<usize>,
    /// Lines of a caption, with --max-line-width.
    #[arg(long, default_value = "None", value_parser = optional::<usize>, value_name = "N")]
    pub(crate) max_line_count: Optional<usize>,
    /// Words of a caption, without --max-line-width.
    #[arg(long, default_value = "None", value_parser = optional::<usize>, value_name = "N")]
    pub(crate) max_words_per_line: Optional<usize>,
}

/// Options of openai/whisper (and one of whisper-ctranslate2) whose feature does not exist yet.
#[derive(Debug, Args)]
pub(crate) struct NotYetArgs {
    #[arg(long, hide = true)]
    pub(crate) vad_filter: bool,
}

/// The definition that parsing, help, completions and the manual page come from.
pub(crate) fn command() -> clap::Command {
    whisper_style(Cli::command()).version(version())
}

/// The definition as `-h` shows it, on one screen: without the options that few need.
fn brief(command: clap::Command) -> clap::Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    let command = command.mut_args(|arg| {
        let arg = match arg.get_value_names().is_some() && arg.is_require_equals_set() {
            true => arg.value_name("BOOL"),
            false => arg,
        };
        let common = COMMON
            .iter()
            .find(|(long, _)| arg.get_long() == Some(*long));
        let is_shared = arg.get_help_heading().is_some() && arg.get_long().is_some();
        match common {
            Some((_, help)) => arg.help(*help).help_heading(None::<&str>),
            None if is_shared => arg.hide(true),
            None => arg.help_heading(None::<&str>),
        }
        .hide_possible_values(true)
    });
    let command = command.after_help(BRIEF);
    names
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, brief))
}

/// Parses the arguments of this process, its name included.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let is_brief = arguments.len() < 2 || spelling::asks_for_brief_help(&arguments);
    let mut command = match is_brief {
        true => brief(command()),
        false => command(),
    };
    command.build();
    let arguments = spelling::in_full(&command, arguments)?;
    let mut matches = command.try_get_matches_from(arguments)?;
    Cli::from_arg_matches_mut(&mut matches)
}

fn version() -> String {
    let features = if cfg!(feature = "bundled-model") {
        "bundled-model"
    } else {
        "none"
    };
    let kernels =
        overhear::instruction_set().unwrap_or("none: OVERHEAR_ISA is not one of this machine");
    format!(
        "{}\nkernels: {kernels}\nfeatures: {features}",
        env!("CARGO_PKG_VERSION")
    )
}

/// The formats asked for, each once, in the library's order.
pub(crate) fn formats(names: &[OutputFormat]) -> Vec<Format> {
    let wanted = |format: &Format| {
        names.iter().any(|name| match name {
            OutputFormat::All => Format::REFERENCE.contains(format),
            OutputFormat::Txt => *format == Format::Txt,
            OutputFormat::Vtt => *format == Format::Vtt,
            OutputFormat::Srt => *format == Format::Srt,
            OutputFormat::Tsv => *format == Format::Tsv,
            OutputFormat::Json => *format == Format::Json,
            OutputFormat::Ass => *format == Format::Ass,
            OutputFormat::Lrc => *format == Format::Lrc,
            OutputFormat::Csv => *format == Format::Csv,
        })
    };
    Format::ALL.iter().copied().filter(wanted).collect()
}
