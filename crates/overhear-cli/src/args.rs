//! Definition of the command line.
//!
//! Names, values and defaults are openai/whisper's (`whisper/transcribe.py::cli`), so that its command lines work
//! unchanged. Long names are shown in kebab case; [`crate::values`] adds the snake_case aliases.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use overhear::model::Isa;
use overhear::output::Format;
use overhear::vad::VadMethod;

use crate::shard::ShardArg;
use crate::spelling;
use crate::values::{
    BatchSize, Optional, Verbosity, batch_size, optional, verbosity, whisper_style,
};

const EXAMPLES: &str = "\
Examples:
  overhear talk.flac                               all formats into this directory
  overhear --model ~/whisper-turbo -f srt -o out *.mp3
  overhear -f txt -o - --quiet - < talk.opus       text on standard output

Options are also accepted in snake_case (--output_dir), and abbreviated where unambiguous; of repeated ones the last
counts. A switch takes no value, True or False (or yes, no, on, off, 1, 0).
Exit codes: 0 success, 1 some inputs failed, 2 usage, 3 model, 4 all inputs failed, 69 model not
downloaded for lack of a network, 71 out of memory or threads, 74 output or cache not written, 129, 130 and 143 interrupted by SIGHUP, SIGINT and SIGTERM, 141 standard output closed.";

/// Options in the short help `-h` of the commands that share them, with short descriptions.
const COMMON: &[(&str, &str)] = &[
    ("output-dir", "Folder of the outputs; - for standard output"),
    (
        "output-format",
        "txt, vtt, srt, tsv, json, ass, lrc, csv or all",
    ),
    ("recursive", "Descend into subdirectories"),
    ("skip-existing", "Skip inputs whose outputs all exist"),
    ("quiet", "Show errors only"),
    ("model", "A folder, or a name like tiny.en or turbo"),
    ("compute-type", "auto, f32 (exact), f16, bf16 or int8"),
    (
        "threads",
        "Number of threads; 0: all that the machine offers",
    ),
    ("task", "transcribe, or translate to English"),
    ("language", "Language spoken; None: detected"),
    ("initial-prompt", "Prompt of the first window"),
    ("beam-size", "Number of beams; None: greedy search"),
    ("word-timestamps", "Extract word timestamps"),
];

const BRIEF: &str = "\
Example: overhear --model nano talk.flac -f srt -o out
All options, examples and exit codes: overhear --help";

const EVAL_HELP: &str = "\
The manifest is a file of JSON lines {\"file\", \"text\", \"lang\"}, or a .csv or .tsv table with these columns;
audio, audio_filepath or path, sentence, and language or locale are accepted, too. Files are relative to
the manifest. With --task translate the field \"translation\" is compared. A file is transcribed in
--language, or else in the manifest's language, or else in the detected one.

With --compute_types every file is transcribed in each type, one type after the other; the last table relates
them to the first, for each \"set\" of the manifest's lines (or else each language): difference of the word
error rate with its standard error (paired), files whose text is the same to the letter, time, and times real
time. --json and --csv have all files in all types.

  overhear eval --model tiny.en crates/overhear/tests/fixtures/audio/manifest.jsonl
  overhear eval --model turbo --json test.tsv > report.json
  overhear eval --model base --compute_types f32,bf16,int8,q4 test.jsonl";

const VAD_HELP: &str = "\
A region is speech with short silences in it, extended at both sides; overhear --vad_filter transcribes these regions.
Formats: text and audacity (a label track) have times, csv and json also --probabilities, one for every 32 ms.
With a folder of outputs, several may be given: text,csv. Files have the ending .vad.FORMAT (text: .vad.txt, audacity: .labels.txt).

  overhear vad talk.mp3
  overhear vad recordings/ -f audacity -o labels --vad_min_silence_duration_ms 500
  overhear vad talk.mp3 -f csv --probabilities > talk.csv";

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
    /// Returns whether the result goes to standard output, as opposed to progress and segments shown meanwhile.
    pub(crate) fn writes_to_stdout(&self) -> bool {
        match &self.command {
            None => self.transcribe.writes_to_stdout(),
            Some(Command::Transcribe(args)) => args.writes_to_stdout(),
            Some(Command::Vad(args)) => is_stdout(&args.output_dir),
            Some(_) => true,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Transcribe audio files (the word may be omitted: `overhear FILES...`).
    #[command(after_help = EXAMPLES)]
    Transcribe(Box<TranscribeArgs>),
    /// Detect the language of audio files, and its probability.
    Detect(DetectArgs),
    /// Detect where audio files have speech (Silero VAD, or by energy).
    #[command(after_help = VAD_HELP)]
    Vad(VadCommandArgs),
    /// Measure word and character error rates on recordings with known transcripts.
    #[command(after_help = EVAL_HELP)]
    Eval(Box<EvalArgs>),
    /// Describe a model and how it runs on this machine.
    Info(ModelArgs),
    /// List, download, remove, verify and convert models.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Measure the speed of a model on this machine, in relation to the machine's limits.
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
    /// Download a model, or its changed files, into the Hugging Face cache, and print its folder.
    Pull {
        /// turbo, ORG/NAME, ORG/NAME@REVISION, ...
        model: String,
    },
    /// Remove a model from the Hugging Face cache, with all its revisions.
    Rm {
        /// turbo, ORG/NAME, ...
        model: String,
    },
    /// Describe a model and how it runs on this machine.
    Info {
        /// A folder or a name.
        model: OsString,
    },
    /// Write a model in another format: a Hugging Face folder, or a ggml file of whisper.cpp.
    Convert {
        /// A folder, a file or a name.
        model: OsString,
        /// The folder or file to write, which must not exist.
        out: PathBuf,
        /// Format: safetensors (a Hugging Face folder) or ggml; default: ggml if OUT ends with .bin, else safetensors.
        #[arg(long, value_name = "FORMAT")]
        to: Option<String>,
        /// Type of the weights: f32, f16, bf16, and for ggml q8_0, q5_0, q5_1, q4_0, q4_1; default: the model's, for
        /// ggml f16.
        #[arg(long, value_name = "TYPE")]
        dtype: Option<String>,
    },
    /// Verify a downloaded model against the hub's checksums.
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

/// Options of language detection.
#[derive(Debug, Args)]
pub(crate) struct DetectionArgs {
    /// Languages that detection may choose from, separated by commas; default: all.
    #[arg(long, action = ArgAction::Set, num_args = 1, value_delimiter = ',', value_name = "LANGUAGES")]
    pub(crate) languages: Vec<String>,
    /// Windows of 30 seconds to detect the language from: the first confident one decides, or else the majority.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) language_detection_segments: usize,
    /// Probability above which a window's language is confident; None: never.
    #[arg(long, default_value = "0.5", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "P")]
    pub(crate) language_detection_threshold: Optional<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct VadCommandArgs {
    /// Audio files, directories, quoted patterns, or `-` for standard input.
    #[arg(required = true, value_name = "FILES")]
    pub(crate) files: Vec<OsString>,
    /// Descend into subdirectories; outputs are written to the same tree.
    #[arg(long, short)]
    pub(crate) recursive: bool,
    /// Folder of the outputs; `-` for standard output.
    #[arg(long, short, default_value = "-", value_name = "DIR")]
    pub(crate) output_dir: PathBuf,
    /// Formats of the outputs, separated by commas; to standard output, one.
    #[arg(
        long,
        short = 'f',
        alias = "format",
        action = ArgAction::Set,
        num_args = 1,
        default_value = "text",
        value_delimiter = ',',
        value_name = "FORMAT"
    )]
    pub(crate) output_format: Vec<RegionFormat>,
    /// Show no warnings.
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Write the probability of speech of every 32 ms: in csv instead of the regions, in json beside them.
    #[arg(long)]
    pub(crate) probabilities: bool,
    /// Number of threads; 0: all that the machine offers.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) threads: usize,
    #[command(flatten)]
    pub(crate) vad: VadArgs,
    #[command(flatten)]
    pub(crate) audio: AudioArgs,
}

/// Format of regions of speech.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, ValueEnum)]
pub(crate) enum RegionFormat {
    #[value(alias = "txt")]
    Text,
    Json,
    Csv,
    Audacity,
}

/// Options of voice activity detection, with faster-whisper's meanings and defaults.
#[derive(Debug, Args)]
pub(crate) struct VadArgs {
    /// Voice activity by Silero VAD, or by energy: the level above the noise floor, light, for clean recordings (music and
    /// other sounds count as speech).
    #[arg(long, default_value = "silero", value_name = "silero|energy")]
    pub(crate) vad_method: VadMethod,
    /// Probability from which a frame is speech.
    #[arg(
        long,
        default_value_t = 0.5,
        allow_negative_numbers = true,
        value_name = "P"
    )]
    pub(crate) vad_threshold: f64,
    /// Minimum duration of speech, in milliseconds; shorter regions are dropped.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub(crate) vad_min_speech_duration_ms: u32,
    /// Maximum duration of a region, in seconds; longer ones are cut at a silence, if there is one.
    #[arg(
        long,
        default_value_t = f64::INFINITY,
        allow_negative_numbers = true,
        value_name = "SECONDS"
    )]
    pub(crate) vad_max_speech_duration_s: f64,
    /// Minimum duration of the silence between two regions, in milliseconds.
    #[arg(long, default_value_t = 2000, value_name = "MS")]
    pub(crate) vad_min_silence_duration_ms: u32,
    /// Duration by which regions are extended at both sides, in milliseconds.
    #[arg(long, default_value_t = 400, value_name = "MS")]
    pub(crate) vad_speech_pad_ms: u32,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// List of files and their transcripts.
    #[arg(value_name = "MANIFEST")]
    pub(crate) manifest: PathBuf,
    /// Normaliser to apply before comparing: auto is english for English and basic for other languages.
    #[arg(long, default_value = "auto", value_name = "NORMALIZER")]
    pub(crate) normalizer: NormalizerName,
    /// Detect languages even if the manifest names them.
    #[arg(long)]
    pub(crate) detect_language: bool,
    /// Compute types to compare, separated by commas; the others are compared with the first.
    #[arg(
        long,
        action = ArgAction::Set,
        num_args = 1,
        value_delimiter = ',',
        conflicts_with = "compute_type",
        value_name = "TYPES"
    )]
    pub(crate) compute_types: Vec<String>,
    /// Print the whole report as JSON.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Print one row per file as CSV.
    #[arg(long)]
    pub(crate) csv: bool,
    /// Number of the worst files to show.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) worst: usize,
    /// Number of the most frequent substitutions to show.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) confusions: usize,
    #[command(flatten)]
    pub(crate) audio: AudioArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) decoding: DecodingArgs,
    #[command(flatten)]
    pub(crate) filter: VadFilterArgs,
}

/// Normaliser applied before texts are compared.
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
    /// Number of times that each figure is measured; the median is reported.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) repeats: usize,
    /// Write JSON, for programs and for --compare.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Write comma-separated values.
    #[arg(long)]
    pub(crate) csv: bool,
    /// Compare with the --json report of an earlier run.
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// Options of opening audio.
#[derive(Debug, Args)]
pub(crate) struct AudioArgs {
    /// Audio track to decode, counted from 1; default: the one marked as the default.
    #[arg(long, value_name = "N")]
    pub(crate) audio_track: Option<usize>,
    /// Decoder of formats that are not built in: auto (ffmpeg, if it is on the PATH), off, or a program.
    #[arg(long, default_value = "auto", value_name = "PROGRAM")]
    pub(crate) ffmpeg: OsString,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// The model: a folder (Hugging Face, CTranslate2, LoRA adapter), a .pt file of openai/whisper, a ggml or GGUF file, or a name (tiny,
    /// base.en, large-v3, turbo, distil-large-v3.5, ORG/NAME, ORG/NAME@REVISION, ...). A model that is not on this machine is downloaded
    /// from the Hugging Face hub.
    #[arg(long, default_value = "turbo", value_name = "MODEL")]
    pub(crate) model: OsString,
    /// Folder that is searched for the model first.
    #[arg(long, value_name = "DIR")]
    pub(crate) model_dir: Option<PathBuf>,
    /// Device: cpu.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub(crate) device: String,
    /// Compute type: auto (what keeps the weights of a q5_0, q4_0 or int8 file: q5, q4, int8; else bf16 if the processor has it, else
    /// f16), f32 (exact), f16 (f32 with rounded weights), bf16, int8, int8_float32 (f32 with int8 weights in the decoder),
    /// int8_bfloat16 (int8_float32 with a bf16 encoder), q5 or q4 (int8 with weights of 5 or 4 bits in the decoder: those of a q5_0 or
    /// q4_0 file as they are, those of any other file quantised anew, which may give another text).
    #[arg(long, default_value = "auto", value_name = "TYPE")]
    pub(crate) compute_type: String,
    /// Number of threads; 0: all that the machine offers.
    #[arg(long, default_value = "0", value_parser = optional::<i64>, allow_negative_numbers = true, value_name = "N")]
    pub(crate) threads: Optional<i64>,
    /// Accepted for compatibility with openai/whisper; without effect on a CPU.
    #[arg(long, default_value = "True", hide = true)]
    pub(crate) fp16: bool,
}

impl ModelArgs {
    /// Options for the model `name`, with defaults for everything else.
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
    #[arg(required_unless_present = "manifest", value_name = "FILES")]
    pub(crate) files: Vec<OsString>,
    /// Descend into subdirectories; outputs are written to the same tree.
    #[arg(long, short)]
    pub(crate) recursive: bool,
    /// List of further files: JSON lines with file (or path, audio, audio_filepath), and optionally language (lang, locale),
    /// task, initial_prompt and clip_timestamps of that file, and output (its outputs' name, or path below the folder of
    /// outputs, without extension); or .csv or .tsv with these columns. May be repeated.
    #[arg(long, value_name = "MANIFEST")]
    pub(crate) manifest: Vec<PathBuf>,
    /// Transcribe share I of N of the files, which are dealt out in the order of their paths, as in 1/8; auto or auto/N: as the
    /// environment of a Slurm array, a Kubernetes indexed job or an AWS Batch array says. All processes must be given the same
    /// files.
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<ShardArg>,
    /// Folder of the outputs; `-` writes the one chosen format to standard output.
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
    /// Skip inputs whose outputs all exist.
    #[arg(long)]
    pub(crate) skip_existing: bool,
    /// Folder for the journal of the run: after a kill the same command goes on where it was, also in the middle of a file.
    /// Files whose outputs are complete are not transcribed again, nor are those that failed.
    #[arg(long, value_name = "DIR")]
    pub(crate) journal: Option<PathBuf>,
    /// Transcribe the files again that failed according to the journal.
    #[arg(long, requires = "journal")]
    pub(crate) retry_failed: bool,
    /// Number of files transcribed at the same time, or of pieces of one file with --batched: they share every pass over
    /// the decoder's weights, which is faster, with the same results; auto: 4 (8 with --batched), or fewer if memory is
    /// short. Long files come first, and are shown in this order; to standard output (-o -) files are written as listed.
    #[arg(long, default_value = "auto", value_parser = batch_size, value_name = "N")]
    pub(crate) batch_size: BatchSize,
    /// Speculative decoding: tokens are drafted by a smaller MODEL with the same vocabulary, by self (the model's decoder in
    /// q4), or by lookup (of repetitions in the text), and verified several at a time: the same result, sooner, in greedy
    /// search (--beam_size None) and at temperatures above 0 with --best_of None. auto: self for base and larger models in
    /// float32, float16 or bfloat16, off for others, which it does not speed up.
    #[arg(
        long,
        help_heading = "Decoding",
        default_value = "off",
        value_name = "MODEL|auto|self|lookup|off"
    )]
    pub(crate) draft: OsString,
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
    /// Show no segments, progress or warnings.
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Colour the words of segments by confidence: red, yellow, green. NO_COLOR turns it off.
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
    pub(crate) filter: VadFilterArgs,
}

impl TranscribeArgs {
    /// Returns whether outputs go to standard output.
    pub(crate) fn writes_to_stdout(&self) -> bool {
        is_stdout(&self.output_dir)
    }
}

/// Returns whether the folder of outputs stands for standard output.
fn is_stdout(output_dir: &Path) -> bool {
    output_dir.as_os_str() == "-"
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
    /// Transcribe the speech, or translate it to English.
    #[arg(long, default_value = "transcribe", value_name = "TASK")]
    pub(crate) task: TaskName,
    /// Language spoken in the audio, by code or name; None: detected, by default in the first 30 seconds.
    #[arg(long, default_value = "None", value_name = "LANGUAGE")]
    pub(crate) language: String,
    #[command(flatten)]
    pub(crate) detection: DetectionArgs,
    /// Transcribe each segment in its own language, and report it: for recordings in several languages.
    #[arg(long)]
    pub(crate) multilingual: bool,
    /// Temperature to use for sampling; 0 selects the most probable token.
    #[arg(
        long,
        default_value = "0",
        allow_negative_numbers = true,
        value_name = "T"
    )]
    pub(crate) temperature: f64,
    /// Temperature increase when falling back because decoding failed a threshold; None: no fallback.
    #[arg(long, default_value = "0.2", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "T")]
    pub(crate) temperature_increment_on_fallback: Optional<f64>,
    /// Number of candidates when sampling with non-zero temperature.
    #[arg(long, default_value = "5", value_parser = optional::<usize>, value_name = "N")]
    pub(crate) best_of: Optional<usize>,
    /// Number of beams in beam search at temperature 0; None: greedy search.
    #[arg(long, default_value = "5", value_parser = optional::<usize>, value_name = "N")]
    pub(crate) beam_size: Optional<usize>,
    /// Patience: beam search ends with patience times beam_size finished hypotheses; None: 1, conventional beam search.
    #[arg(long, default_value = "None", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "FACTOR")]
    pub(crate) patience: Optional<f64>,
    /// Token length penalty coefficient (alpha), 0 to 1; None: simple length normalisation.
    #[arg(long, default_value = "None", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "ALPHA")]
    pub(crate) length_penalty: Optional<f64>,
    /// Seed of sampling with non-zero temperature.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub(crate) seed: u64,
    /// Text to provide as a prompt for the first window.
    #[arg(long, allow_hyphen_values = true, value_name = "TEXT")]
    pub(crate) initial_prompt: Option<String>,
    /// Words to prepend to the prompt of every window.
    #[arg(long, allow_hyphen_values = true, value_name = "WORDS")]
    pub(crate) hotwords: Option<String>,
    /// Phrase whose probability is raised, without a prompt; may be repeated.
    #[arg(long, allow_hyphen_values = true, value_name = "PHRASE")]
    pub(crate) boost: Vec<String>,
    /// File of such phrases, one per line, optionally followed by a tab and a weight up to 20 (default: 2).
    #[arg(long, value_name = "FILE")]
    pub(crate) boost_file: Option<PathBuf>,
    /// Prepend the initial prompt to every window.
    #[arg(long)]
    pub(crate) carry_initial_prompt: bool,
    /// Transcribe a file in pieces of up to 30 s, several at the same time (--batch_size): faster, but no piece has the
    /// text before it as a prompt, as with --condition_on_previous_text False, and the last segment of a piece is
    /// transcribed although the model may take it for cut off.
    #[arg(long)]
    pub(crate) batched: bool,
    /// Provide the previous output of the model as a prompt for the next window.
    #[arg(long, default_value = "True")]
    pub(crate) condition_on_previous_text: bool,
    /// Text that every window begins with; as in openai/whisper, it is not part of the transcript.
    #[arg(long, allow_hyphen_values = true, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
    /// Comma-separated list of token ids to suppress during sampling; -1: symbols that are not speech.
    #[arg(
        long,
        default_value = "-1",
        allow_hyphen_values = true,
        value_name = "IDS"
    )]
    pub(crate) suppress_tokens: String,
    /// Forbid windows that begin with a blank or end immediately.
    #[arg(long, default_value = "True")]
    pub(crate) suppress_blank: bool,
    /// Decode without timestamps.
    #[arg(long)]
    pub(crate) without_timestamps: bool,
    /// Cut repetition loops as they form, and continue after them at the next temperature.
    #[arg(long)]
    pub(crate) loop_guard: bool,
    /// Drop segments that are hallucinated over silence; the JSON contains the evidence for each segment.
    #[arg(long)]
    pub(crate) hallucination_guard: bool,
    /// Number of hypotheses per window to write into the JSON, with their scores; greedy search has one.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) n_best: usize,
    /// Number of most probable tokens per position to write into the JSON, with their probabilities.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) alternatives: usize,
    /// Maximum of a window's first timestamp, in seconds; None: no maximum.
    #[arg(long, default_value = "1.0", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "SECONDS")]
    pub(crate) max_initial_timestamp: Optional<f64>,
    /// Comma-separated list start,end,start,end,... of clips to process, in seconds; the last end defaults to the end.
    #[arg(
        long,
        default_value = "0",
        allow_hyphen_values = true,
        value_name = "SECONDS"
    )]
    pub(crate) clip_timestamps: String,
    /// Treat decoding as failed if the compression ratio is above this value; None: no test.
    #[arg(long, default_value = "2.4", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "RATIO")]
    pub(crate) compression_ratio_threshold: Optional<f64>,
    /// Treat decoding as failed if the average log probability is below this value; None: no test.
    #[arg(long, default_value = "-1.0", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "LOGPROB")]
    pub(crate) logprob_threshold: Optional<f64>,
    /// Consider a window silence if the probability of no speech is above this value and decoding failed
    /// --logprob-threshold; None: no test.
    #[arg(long, default_value = "0.6", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "P")]
    pub(crate) no_speech_threshold: Optional<f64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Words")]
pub(crate) struct WordArgs {
    /// Extract word-level timestamps, and refine the segments based on them.
    #[arg(long)]
    pub(crate) word_timestamps: bool,
    /// Punctuation symbols to merge with the next word.
    #[arg(
        long,
        default_value = "\"'“¿([{-",
        allow_hyphen_values = true,
        value_name = "MARKS"
    )]
    pub(crate) prepend_punctuations: String,
    /// Punctuation symbols to merge with the previous word.
    #[arg(
        long,
        default_value = "\"'.。,，!！?？:：”)]}、",
        allow_hyphen_values = true,
        value_name = "MARKS"
    )]
    pub(crate) append_punctuations: String,
    /// Skip silent periods longer than this, in seconds, when a possible hallucination is detected.
    #[arg(long, default_value = "None", value_parser = optional::<f64>, allow_negative_numbers = true, value_name = "SECONDS")]
    pub(crate) hallucination_silence_threshold: Optional<f64>,
    /// Underline each word as it is spoken, in srt and vtt.
    #[arg(long)]
    pub(crate) highlight_words: bool,
    /// Maximum number of characters of a line, in srt, vtt, ass and lrc.
    #[arg(long, default_value = "None", value_parser = optional::<usize>, value_name = "N")]
    pub(crate) max_line_width: Optional<usize>,
    /// Maximum number of lines of a caption, with --max-line-width.
    #[arg(long, default_value = "None", value_parser = optional::<usize>, value_name = "N")]
    pub(crate) max_line_count: Optional<usize>,
    /// Maximum number of words of a caption, without --max-line-width.
    #[arg(long, default_value = "None", value_parser = optional::<usize>, value_name = "N")]
    pub(crate) max_words_per_line: Optional<usize>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Voice activity detection")]
pub(crate) struct VadFilterArgs {
    /// Transcribe the regions of speech only, joined; times are those of the file.
    #[arg(long)]
    pub(crate) vad_filter: bool,
    #[command(flatten)]
    pub(crate) vad: VadArgs,
}

/// Returns the clap definition for parsing, help, completions and the manual page.
pub(crate) fn command() -> clap::Command {
    whisper_style(Cli::command()).version(version())
}

/// Returns the definition as `-h` shows it, on one screen: without rarely used options.
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

/// Parses the arguments of this process, including the program's name.
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
    let kernels = match Isa::from_env() {
        Ok(isa) => isa.name(),
        Err(_) => "none: OVERHEAR_ISA names an instruction set that this machine lacks",
    };
    format!(
        "{}\nkernels: {kernels}\nfeatures: {features}",
        env!("CARGO_PKG_VERSION")
    )
}

/// Returns the requested formats without duplicates, in the library's order.
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
