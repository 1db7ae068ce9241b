//! Conversion of parsed flags to the library's options, and rejection of values that are not supported yet.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use overhear::audio::{AudioOptions, Ffmpeg};
use overhear::decode::{BoostPhrase, DecodingRules, Suppress};
use overhear::output::CaptionOptions;
use overhear::tokenizer::TokenId;
use overhear::transcribe::{LanguageOptions, Thresholds, WordOptions};
use overhear::vad::VadOptions;
use overhear::{ComputeType, Error, ModelOptions, Task, TranscribeOptions};

use crate::args::{
    AudioArgs, DecodingArgs, DetectionArgs, ModelArgs, TaskName, TranscribeArgs, VadArgs,
    VadFilterArgs, WordArgs,
};
use crate::failure::Failure;
use crate::values::{Optional, is_none, list};

/// Minimum increment; a smaller one gives an unreasonably long list of temperatures.
const MIN_TEMPERATURE_INCREMENT: f64 = 0.01;

/// Returns the library's options for a transcription of the whole file, without words.
pub(crate) fn transcribe_options(args: &DecodingArgs) -> Result<TranscribeOptions, Failure> {
    Ok(TranscribeOptions {
        task: match args.task {
            TaskName::Transcribe => Task::Transcribe,
            TaskName::Translate => Task::Translate,
        },
        language: match args.language.as_str() {
            name if is_none(name) => None,
            name => Some(parsed("language", name)?),
        },
        temperatures: temperatures(args.temperature, args.temperature_increment_on_fallback.0)?,
        best_of: match args.best_of.0 {
            Some(0) => return Err(bad("best-of", "must be 1 or more")),
            best_of => best_of,
        },
        rules: decoding_rules(args)?,
        thresholds: Thresholds {
            compression_ratio: args.compression_ratio_threshold.0,
            logprob: args.logprob_threshold.0,
            no_speech: args.no_speech_threshold.0,
        },
        condition_on_previous_text: args.condition_on_previous_text,
        initial_prompt: args.initial_prompt.clone(),
        carry_initial_prompt: args.carry_initial_prompt,
        prefix: args.prefix.clone(),
        hotwords: args.hotwords.clone(),
        words: None,
        clip_timestamps: clips(&args.clip_timestamps).map_err(|e| bad("clip-timestamps", &e))?,
        vad: None,
        hallucination_guard: args.hallucination_guard,
        batched: args.batched,
        n_best: args.n_best,
        languages: LanguageOptions {
            multilingual: args.multilingual,
            ..language_options(&args.detection)?
        },
    })
}

fn decoding_rules(args: &DecodingArgs) -> Result<DecodingRules, Failure> {
    Ok(DecodingRules {
        beam_size: match args.beam_size.0 {
            Some(0) => return Err(bad("beam-size", "must be 1 or more")),
            beam_size => beam_size,
        },
        // As in the reference, 0 stands for the default.
        patience: args.patience.0.map(|p| if p == 0.0 { 1.0 } else { p }),
        length_penalty: args.length_penalty.0,
        sample_len: None,
        boost: boosts(&args.boost, args.boost_file.as_deref())?,
        suppress_tokens: suppress(&args.suppress_tokens)?,
        suppress_blank: args.suppress_blank,
        without_timestamps: args.without_timestamps,
        // As in the reference, 0 is no limit.
        max_initial_timestamp: args.max_initial_timestamp.0.filter(|&s| s != 0.0),
        seed: args.seed,
        alternatives: args.alternatives,
        loop_guard: args.loop_guard,
    })
}

/// Returns the library's options for language detection.
pub(crate) fn language_options(args: &DetectionArgs) -> Result<LanguageOptions, Failure> {
    Ok(LanguageOptions {
        allowed: (args.languages.iter())
            .map(|name| parsed("languages", name))
            .collect::<Result<_, _>>()?,
        detection_segments: match args.language_detection_segments {
            0 => return Err(bad("language-detection-segments", "must be 1 or more")),
            n_segments => n_segments,
        },
        detection_threshold: args.language_detection_threshold.0,
        ..LanguageOptions::default()
    })
}

/// Returns `options` with words according to `words`.
pub(crate) fn with_words(
    options: TranscribeOptions,
    words: &WordArgs,
) -> Result<TranscribeOptions, Failure> {
    let threshold = words.hallucination_silence_threshold.0;
    if threshold.is_some_and(f64::is_nan) {
        return Err(bad("hallucination-silence-threshold", "must be a number"));
    }
    let words = words.word_timestamps.then(|| WordOptions {
        prepend_punctuations: words.prepend_punctuations.clone(),
        append_punctuations: words.append_punctuations.clone(),
        hallucination_silence_threshold: threshold,
    });
    Ok(TranscribeOptions { words, ..options })
}

/// Returns `options` with voice activity detection according to `filter`.
pub(crate) fn with_vad(
    options: TranscribeOptions,
    filter: &VadFilterArgs,
) -> Result<TranscribeOptions, Failure> {
    let vad = vad_options(&filter.vad)?;
    if filter.vad_filter && options.clip_timestamps != [0.0] {
        let reason = "cannot be combined with --clip-timestamps: both choose the audio";
        return Err(bad("vad-filter", reason));
    }
    let vad = filter.vad_filter.then_some(vad);
    Ok(TranscribeOptions { vad, ..options })
}

/// Returns the library's options for voice activity detection.
pub(crate) fn vad_options(args: &VadArgs) -> Result<VadOptions, Failure> {
    let mut options = VadOptions::default();
    options.method = args.vad_method;
    options.threshold = args.vad_threshold;
    options.min_speech_duration_ms = args.vad_min_speech_duration_ms;
    options.max_speech_duration_s = args.vad_max_speech_duration_s;
    options.min_silence_duration_ms = args.vad_min_silence_duration_ms;
    options.speech_pad_ms = args.vad_speech_pad_ms;
    match options.verify() {
        Err(Error::Option { name, reason }) => {
            Err(bad(&format!("vad-{}", name.replace('_', "-")), &reason))
        }
        verified => verified.map(|()| options).map_err(Failure::from),
    }
}

/// Returns the library's options for captions. As the reference, refuses options that need words if there are none; 0
/// counts as absent.
pub(crate) fn caption_options(args: &WordArgs) -> Result<CaptionOptions, Failure> {
    let given = |option: Optional<usize>| option.0.filter(|&n| n > 0);
    let options = CaptionOptions {
        highlight_words: args.highlight_words,
        max_line_width: given(args.max_line_width),
        max_line_count: given(args.max_line_count),
        max_words_per_line: given(args.max_words_per_line),
    };
    let asked_for = [
        ("highlight-words", options.highlight_words),
        ("max-line-count", options.max_line_count.is_some()),
        ("max-line-width", options.max_line_width.is_some()),
        ("max-words-per-line", options.max_words_per_line.is_some()),
    ];
    match asked_for.iter().find(|(_, asked)| *asked) {
        Some((name, _)) if !args.word_timestamps => {
            Err(bad(name, "requires --word-timestamps True"))
        }
        _ => Ok(options),
    }
}

/// Returns one sentence for each option without effect in combination with the others.
pub(crate) fn without_effect(args: &TranscribeArgs) -> Vec<&'static str> {
    let TranscribeArgs {
        words: args,
        decoding,
        filter,
        draft,
        ..
    } = args;
    let is_given = |option: Optional<usize>| option.0.is_some_and(|n| n > 0);
    let is_wide = is_given(args.max_line_width);
    let is_guarded = args.hallucination_silence_threshold.0.is_some();
    [
        (
            is_given(args.max_line_count) && !is_wide,
            "--max-line-count has no effect without --max-line-width",
        ),
        (
            is_given(args.max_words_per_line) && is_wide,
            "--max-words-per-line has no effect with --max-line-width",
        ),
        (
            is_guarded && !args.word_timestamps,
            "--hallucination-silence-threshold has no effect without --word-timestamps",
        ),
        (
            args.word_timestamps && decoding.task == TaskName::Translate,
            "word timestamps of translations may not be reliable",
        ),
        (
            decoding.n_best > 1
                && decoding.beam_size.0.unwrap_or(1) == 1
                && decoding.temperature == 0.0,
            "--n-best gives one hypothesis per window in greedy search; --beam-size gives more",
        ),
        (
            draft != "off"
                && match decoding.temperature == 0.0 {
                    true => decoding.beam_size.0.is_some(),
                    false => is_given(decoding.best_of) && decoding.best_of.0 != Some(1),
                },
            "--draft has no effect with several beams or samples; --beam-size None is greedy search, --best-of None one sample",
        ),
        (
            !filter.vad_filter
                && vad_options(&filter.vad).is_ok_and(|vad| vad != VadOptions::default()),
            "the options of voice activity detection have no effect without --vad-filter",
        ),
    ]
    .into_iter()
    .filter_map(|(applies, warning)| applies.then_some(warning))
    .collect()
}

/// Returns the library's options for opening audio.
pub(crate) fn audio_options(args: &AudioArgs) -> AudioOptions {
    let mut options = AudioOptions::default();
    options.track = args.audio_track;
    options.ffmpeg = match args.ffmpeg.to_str() {
        Some("auto") => Ffmpeg::Auto,
        Some("off") => Ffmpeg::Off,
        _ => Ffmpeg::Program(PathBuf::from(&args.ffmpeg)),
    };
    options
}

/// Returns the library's options for opening a model.
pub(crate) fn model_options(args: &ModelArgs) -> Result<ModelOptions, Failure> {
    if args.device != "cpu" {
        let reason = format!("`{}` is not yet supported: --device cpu", args.device);
        return Err(bad("device", &reason));
    }
    let compute_type = parsed("compute-type", &args.compute_type)?;
    // As in the reference, None and values below 1 leave the choice to the engine.
    let threads = args.threads.0.and_then(|n| usize::try_from(n).ok());
    Ok(ModelOptions {
        compute_type,
        threads: threads.and_then(NonZeroUsize::new),
        ..ModelOptions::default()
    })
}

/// Returns the compute types of these names.
pub(crate) fn compute_types(names: &[String]) -> Result<Vec<ComputeType>, Failure> {
    let types = names.iter().map(|name| parsed("compute-types", name));
    types.collect()
}

/// Returns the phrases of the command line, and those of the file: one per line, optionally with a tab and a weight.
fn boosts(phrases: &[String], file: Option<&Path>) -> Result<Vec<BoostPhrase>, Failure> {
    let mut boosts: Vec<BoostPhrase> = phrases.iter().map(BoostPhrase::new).collect();
    let Some(path) = file else {
        return Ok(boosts);
    };
    let text = fs::read_to_string(path).map_err(|e| {
        bad(
            "boost-file",
            &format!("cannot read {}: {e}", path.display()),
        )
    })?;
    for (i, line) in text.lines().enumerate() {
        let (phrase, weight) = line.split_once('\t').unwrap_or((line, ""));
        let mut boost = BoostPhrase::new(phrase.trim().trim_start_matches('\u{feff}'));
        if !weight.trim().is_empty() {
            let parsed = weight.trim().parse().ok();
            boost.weight = parsed
                .filter(|weight: &f32| *weight > 0.0 && *weight <= BoostPhrase::MAX_WEIGHT)
                .ok_or_else(|| {
                    let place = format!("{} line {}", path.display(), i + 1);
                    let most = BoostPhrase::MAX_WEIGHT;
                    let reason =
                        format!("{place}: `{weight}` is not a weight above 0 and up to {most}");
                    bad("boost-file", &reason)
                })?;
        }
        if !boost.text.is_empty() {
            boosts.push(boost);
        }
    }
    Ok(boosts)
}

/// Parses the value of `option`, under whose name the library's reason is reported.
pub(crate) fn parsed<T: FromStr<Err = Error>>(option: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|error| match error {
        Error::Option { reason, .. } => bad(option, &reason),
        error => bad(option, &error.to_string()),
    })
}

/// `np.arange(temperature, 1.0 + 1e-6, increment)`.
fn temperatures(first: f64, increment: Option<f64>) -> Result<Vec<f32>, Failure> {
    if !(first.is_finite() && first >= 0.0) {
        return Err(bad("temperature", "must be 0 or more"));
    }
    let Some(increment) = increment else {
        return Ok(vec![first as f32]);
    };
    if !(increment.is_finite() && increment >= MIN_TEMPERATURE_INCREMENT) {
        let reason = format!("must be None, or {MIN_TEMPERATURE_INCREMENT} or more");
        return Err(bad("temperature-increment-on-fallback", &reason));
    }
    // Above 1 the reference's list is empty, and it fails; here the first temperature is kept.
    let n_temperatures = ((1.0 + 1e-6 - first) / increment).ceil().max(1.0) as usize;
    Ok((0..n_temperatures)
        .map(|i| (first + i as f64 * increment) as f32)
        .collect())
}

/// Converts a list of tokens to suppress; -1 stands for tokens that are not speech, as in openai/whisper.
fn suppress(text: &str) -> Result<Suppress, Failure> {
    let listed: Vec<i64> = list(text).map_err(|e| bad("suppress-tokens", &e))?;
    let is_non_speech = |&token: &i64| token == -1;
    let has_non_speech = listed.iter().any(is_non_speech);
    let tokens = listed.iter().filter(|token| !is_non_speech(token));
    let tokens: Vec<TokenId> = tokens
        .map(|&token| {
            let reason = || bad("suppress-tokens", &format!("{token} is not a token"));
            TokenId::try_from(token).map_err(|_| reason())
        })
        .collect::<Result<_, _>>()?;
    Ok(match (has_non_speech, tokens.is_empty()) {
        (true, true) => Suppress::NonSpeech,
        (true, false) => Suppress::NonSpeechAnd(tokens),
        (false, true) => Suppress::Nothing,
        (false, false) => Suppress::Tokens(tokens),
    })
}

pub(crate) fn clips(text: &str) -> Result<Vec<f64>, String> {
    let times: Vec<f64> = list(text)?;
    match times.iter().all(|time| time.is_finite() && *time >= 0.0) {
        false => Err("times must be 0 or more".to_owned()),
        true if times.is_empty() => Ok(vec![0.0]),
        true => Ok(times),
    }
}

fn bad(option: &str, reason: &str) -> Failure {
    Failure::Usage(format!("--{option}: {reason}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::args::{Cli, parse};
    use crate::values::Verbosity;

    fn cli(flags: &[&str]) -> Cli {
        let words = ["overhear"].iter().chain(flags).chain(&["a.wav"]);
        parse(words.map(Into::into)).unwrap_or_else(|e| panic!("{flags:?}: {e}"))
    }

    fn options(flags: &[&str]) -> TranscribeOptions {
        let args = cli(flags).transcribe;
        let options = with_words(transcribe_options(&args.decoding).unwrap(), &args.words);
        with_vad(options.unwrap(), &args.filter).unwrap()
    }

    fn is_refused(flags: &[&str]) -> bool {
        let args = cli(flags).transcribe;
        transcribe_options(&args.decoding)
            .and_then(|options| with_words(options, &args.words))
            .and_then(|options| with_vad(options, &args.filter))
            .is_err()
            || caption_options(&args.words).is_err()
            || model_options(&args.model).is_err()
    }

    #[test]
    fn without_flags_the_options_are_the_librarys_defaults_except_beam_size() {
        let (ours, mut theirs) = (options(&[]), TranscribeOptions::default());
        theirs.rules.beam_size = Some(5);
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        assert_eq!(cli(&[]).transcribe.model.model, "turbo");
    }

    #[test]
    fn a_full_whisper_command_line_works_in_both_cases() {
        let line = "--model_dir . --device cpu --output_dir out --output_format srt --verbose False \
            --task translate --temperature 0 --best_of 3 --beam_size 4 --patience 1.5 --length_penalty 0.25 --suppress_tokens -1,50257 \
            --initial_prompt -hello --carry_initial_prompt True --condition_on_previous_text False --batched True \
            --fp16 False --temperature_increment_on_fallback None --compression_ratio_threshold None \
            --logprob_threshold -2.5 --no_speech_threshold 0.1 --word_timestamps True \
            --highlight_words False --max_line_width None --max_line_count None \
            --max_words_per_line None --threads 4 --clip_timestamps 1,2.5 \
            --hallucination_silence_threshold None --prepend_punctuations -( --append_punctuations -)";
        let snake: Vec<_> = line.split_whitespace().collect();
        let kebab = line.replace('_', "-");
        for words in [snake, kebab.split_whitespace().collect()] {
            assert!(!is_refused(&words), "{words:?}");
            let options = options(&words);
            assert_eq!(options.task, Task::Translate);
            assert_eq!(options.temperatures, [0.0]);
            assert_eq!(options.best_of, Some(3));
            assert_eq!(options.rules.beam_size, Some(4));
            assert_eq!(options.rules.patience, Some(1.5));
            assert_eq!(options.rules.length_penalty, Some(0.25));
            assert_eq!(
                options.rules.suppress_tokens,
                Suppress::NonSpeechAnd(vec![50257])
            );
            assert_eq!(options.initial_prompt.as_deref(), Some("-hello"));
            assert!(options.carry_initial_prompt);
            assert!(!options.condition_on_previous_text && options.batched);
            assert_eq!(options.thresholds.compression_ratio, None);
            assert_eq!(options.thresholds.logprob, Some(-2.5));
            assert_eq!(options.thresholds.no_speech, Some(0.1));
            assert_eq!(options.clip_timestamps, [1.0, 2.5]);
            let words_options = options.words.unwrap();
            assert_eq!(words_options.prepend_punctuations, "-(");
            assert_eq!(words_options.append_punctuations, "-)");
            let args = cli(&words).transcribe;
            assert_eq!(args.verbose, Verbosity::Progress);
            assert_eq!(
                model_options(&args.model).unwrap().threads,
                NonZeroUsize::new(4)
            );
        }
    }

    #[test]
    fn switches_take_nothing_an_equals_sign_or_a_literal_word() {
        for (flags, expected) in [
            (&["--print-colors"][..], true),
            (&["--print_colors=True"], true),
            (&["--print-colors", "True"], true),
            (&["--print-colors", "False"], false),
            (&["--print_colors=False"], false),
            (&[], false),
        ] {
            let args = cli(flags).transcribe;
            assert_eq!(args.print_colors, expected, "{flags:?}");
            assert_eq!(args.files, ["a.wav"], "{flags:?}");
        }
        let words = [
            "overhear",
            "transcribe",
            "-q",
            "True",
            "--",
            "--quiet",
            "True",
        ];
        let Some(crate::args::Command::Transcribe(args)) =
            parse(words.map(Into::into)).unwrap().command
        else {
            panic!("not the subcommand")
        };
        assert!(args.quiet);
        assert_eq!(
            args.files,
            ["--quiet", "True"],
            "arguments after -- are files"
        );
        assert!(parse(["overhear", "--quiet=maybe", "a.wav"].map(Into::into)).is_err());
    }

    #[test]
    fn a_word_that_spells_a_boolean_is_the_value_of_a_switch_and_never_a_file() {
        for (word, expected) in [
            ("true", true),
            ("Yes", true),
            ("ON", true),
            ("1", true),
            ("false", false),
            ("no", false),
            ("Off", false),
            ("0", false),
        ] {
            let args = cli(&["--word_timestamps", word, "-q", word]).transcribe;
            assert_eq!(args.words.word_timestamps, expected, "{word}");
            assert_eq!(args.quiet, expected, "{word}");
            assert_eq!(args.files, ["a.wav"], "{word}");
        }
        let verbose = |flags: &[&str]| cli(flags).transcribe.verbose;
        assert_eq!(verbose(&["--verbose", "None"]), Verbosity::Nothing);
        assert_eq!(verbose(&["--verbose=none"]), Verbosity::Nothing);
        assert_eq!(verbose(&["--verbose", "-r"]), Verbosity::Segments);
        let only_a_boolean = ["overhear", "--word_timestamps", "1"];
        assert!(parse(only_a_boolean.map(Into::into)).is_err(), "no file");
    }

    #[test]
    fn a_word_that_is_neither_a_boolean_nor_a_file_is_refused_after_a_switch_with_a_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.mp3");
        fs::write(&path, "").unwrap();
        let file = path.to_str().unwrap();
        let refused = |words: &[&str]| {
            let words = ["overhear"].iter().chain(words).map(Into::into);
            parse(words).err().map(|error| error.to_string())
        };
        for switch in ["--word_timestamps", "--fp16", "--verb"] {
            assert_eq!(refused(&[switch, file]), None, "{switch}");
            assert_eq!(refused(&[switch, "*.mp3"]), None, "{switch}");
            assert_eq!(refused(&[switch, "-"]), None, "{switch}");
            for word in ["flase", "None.", "missing.mp3", "2"] {
                let message = refused(&[switch, word, file]).unwrap();
                assert!(message.contains(word), "{switch}: {message}");
            }
        }
        assert!(refused(&["--word_timestamps", "None", file]).is_some());
        assert_eq!(refused(&["--recursive", "missing.mp3"]), None);
        assert_eq!(refused(&["-q", "missing.mp3"]), None);
        assert_eq!(refused(&["--loop-guard", "missing.mp3"]), None);
    }

    #[test]
    fn the_last_of_repeated_options_wins() {
        let args = cli(&[
            "--threads=1",
            "--threads",
            "2",
            "-f",
            "srt,vtt",
            "-f",
            "txt",
            "--fp16",
            "--fp16=False",
            "--languages",
            "en,de",
            "--languages=fr",
            "--boost=a",
            "--boost=b",
        ])
        .transcribe;
        assert_eq!(args.model.threads, Optional(Some(2)));
        assert_eq!(args.output_format, [crate::args::OutputFormat::Txt]);
        assert!(!args.model.fp16);
        assert_eq!(args.decoding.detection.languages, ["fr"]);
        assert_eq!(
            args.decoding.boost,
            ["a", "b"],
            "a list, of which all count"
        );
    }

    #[test]
    fn unambiguous_abbreviations_are_accepted_and_openais_options_come_first() {
        let args = cli(&[
            "--lang",
            "de",
            "--output_f",
            "srt",
            "--thr=3",
            "--word",
            "--initial",
            "--lang",
        ])
        .transcribe;
        assert_eq!(args.decoding.language, "de");
        assert_eq!(args.output_format, [crate::args::OutputFormat::Srt]);
        assert_eq!(args.model.threads, Optional(Some(3)));
        assert!(args.words.word_timestamps);
        let error = |words: &[&str]| {
            let words = ["overhear"].iter().chain(words).map(Into::into);
            parse(words).unwrap_err().to_string()
        };
        let several = error(&["--max_l", "1", "a.wav"]);
        assert!(
            several.contains("--max_l may be any of --max-line-width, --max-line-count"),
            "{several}"
        );
        assert!(error(&["--zzz", "a.wav"]).contains("--zzz"));
        assert_eq!(cli(&["--", "--lang"]).transcribe.files[0], "--lang");
    }

    #[test]
    fn what_does_not_exist_yet_is_refused_and_its_off_is_not() {
        for flags in [&["--device", "cuda"][..], &["--compute_type", "int4"]] {
            assert!(is_refused(flags), "{flags:?}");
        }
        for flags in [
            &["--beam_size", "1"][..],
            &["--beam_size", "None"],
            &["--vad_filter", "False"],
            &["--compute_type", "f32"],
            &["--compute_type", "f16"],
            &["--compute_type", "bf16"],
            &["--compute_type", "int8"],
            &["--fp16", "True"],
        ] {
            assert!(!is_refused(flags), "{flags:?}");
        }
    }

    #[test]
    fn vad_options_are_faster_whispers_and_apply_with_the_filter() {
        assert_eq!(options(&["--vad_filter", "False"]).vad, None);
        assert_eq!(options(&["--vad-filter"]).vad, Some(VadOptions::default()));
        let line = "--vad_filter True --vad_threshold 0.3 --vad_min_speech_duration_ms 250 \
            --vad_max_speech_duration_s 30 --vad_min_silence_duration_ms 160 --vad_speech_pad_ms 100";
        let flags: Vec<&str> = line.split_whitespace().collect();
        let vad = options(&flags).vad.unwrap();
        assert_eq!((vad.threshold, vad.max_speech_duration_s), (0.3, 30.0));
        assert_eq!(vad.min_speech_duration_ms, 250);
        assert_eq!((vad.min_silence_duration_ms, vad.speech_pad_ms), (160, 100));
    }

    #[test]
    fn boost_files_have_one_phrase_per_line_and_an_optional_weight() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.txt");
        let file = |text: &str| {
            fs::write(&path, text).unwrap();
            boosts(&["Ann".to_owned()], Some(&path))
        };
        let found = file("\u{feff}Kubernetes\t3.5\r\n\nNew York\n zero \t\n").unwrap();
        let found: Vec<(&str, f32)> = found.iter().map(|b| (&b.text[..], b.weight)).collect();
        let weight = BoostPhrase::DEFAULT_WEIGHT;
        assert_eq!(
            found,
            [
                ("Ann", weight),
                ("Kubernetes", 3.5),
                ("New York", weight),
                ("zero", weight)
            ]
        );
        for bad in ["a\tb", "a\t0", "a\t-1", "a\tinf", "a\t1\t2"] {
            assert!(file(bad).is_err(), "{bad}");
        }
        assert!(boosts(&[], Some(&folder.path().join("missing"))).is_err());
    }

    #[test]
    fn options_that_need_words_are_refused_without_them() {
        for flags in [
            &["--highlight_words", "True"][..],
            &["--max_line_width", "40"],
            &["--max_line_count", "2"],
            &["--max_words_per_line", "3"],
        ] {
            assert!(is_refused(flags), "{flags:?}");
            let with_words = [flags, &["--word_timestamps", "True"]].concat();
            assert!(!is_refused(&with_words), "{flags:?}");
        }
        assert!(!is_refused(&["--max_line_width", "0"]));
        let flags = [
            "--word_timestamps",
            "--max-line-width=42",
            "--max-line-count=0",
        ];
        let options = caption_options(&cli(&flags).transcribe.words).unwrap();
        assert_eq!(
            (options.max_line_width, options.max_line_count),
            (Some(42), None)
        );
    }

    #[test]
    fn options_without_effect_are_named() {
        let cases: [(&[&str], &[&str]); 16] = [
            (&[], &[]),
            (&["--n_best", "3"], &[]),
            (
                &["--n_best", "3", "--beam_size", "None"],
                &["--n-best gives one"],
            ),
            (
                &["--n_best=3", "--beam_size=None", "--temperature=0.5"],
                &[],
            ),
            (&["--max_line_count", "2"], &["--max-line-count has"]),
            (&["--max_line_count", "2", "--max_line_width", "40"], &[]),
            (
                &["--max_words_per_line", "2", "--max_line_width", "40"],
                &["--max-words-per-line has"],
            ),
            (&["--task", "translate"], &["word timestamps of"]),
            (&["--hallucination_silence_threshold", "2"], &[]),
            (&["--draft", "lookup"], &["--draft has"]),
            (&["--draft", "off"], &[]),
            (&["--draft", "tiny", "--beam_size", "None"], &[]),
            (&["--draft", "self", "--temperature", "1"], &["--draft has"]),
            (&["--draft=self", "--temperature=1", "--best_of=None"], &[]),
            (&["--vad_threshold", "0.3"], &["the options of voice"]),
            (&["--vad_threshold", "0.3", "--vad_filter", "True"], &[]),
        ];
        let warnings = |flags: &[&str]| {
            let args = cli(flags).transcribe;
            without_effect(&args)
        };
        for (flags, expected) in cases {
            let found = warnings(&[flags, &["--word_timestamps=True"]].concat());
            assert_eq!(found.len(), expected.len(), "{flags:?}: {found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.starts_with(expected), "{flags:?}: {found}");
            }
        }
        assert_eq!(
            warnings(&["--hallucination_silence_threshold", "2"]).len(),
            1
        );
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for flags in [
            &["--temperature", "-1"][..],
            &["--temperature", "nan"],
            &["--temperature_increment_on_fallback", "0"],
            &["--temperature_increment_on_fallback", "1e-9"],
            &["--beam_size", "0"],
            &["--best_of", "0"],
            &["--clip_timestamps", "1,x"],
            &["--clip_timestamps", "-1"],
            &["--suppress_tokens", "1.5"],
            &["--suppress_tokens", "-2"],
            &["--languages", "en,klingon"],
            &["--language_detection_segments", "0"],
            &["--hallucination_silence_threshold", "nan"],
            &["--vad_threshold", "1.5"],
            &["--vad_threshold", "nan"],
            &["--vad_max_speech_duration_s", "0"],
            &["--vad_max_speech_duration_s", "-1"],
            &["--vad_filter", "True", "--clip_timestamps", "1,2"],
        ] {
            assert!(is_refused(flags), "{flags:?}");
        }
    }

    #[test]
    fn suppressed_tokens_and_zeros_have_the_same_meaning_as_in_openai_whisper() {
        for (text, expected) in [
            ("", Suppress::Nothing),
            ("-1", Suppress::NonSpeech),
            ("7,-1,8", Suppress::NonSpeechAnd(vec![7, 8])),
            ("7", Suppress::Tokens(vec![7])),
        ] {
            let found = options(&["--suppress_tokens", text]).rules.suppress_tokens;
            assert_eq!(found, expected, "{text:?}");
        }
        let zeros = options(&["--patience", "0", "--max_initial_timestamp", "0"]);
        assert_eq!(zeros.rules.patience, Some(1.0));
        assert_eq!(zeros.rules.max_initial_timestamp, None);
        for (threads, expected) in [("0", None), ("-3", None), ("2", NonZeroUsize::new(2))] {
            let args = cli(&["--threads", threads]).transcribe;
            assert_eq!(model_options(&args.model).unwrap().threads, expected);
        }
    }

    #[test]
    fn temperatures_are_numpys_arange() {
        let cases: [(f64, Option<f64>, &[f32]); 5] = [
            (0.0, Some(0.2), &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            (0.5, Some(0.2), &[0.5, 0.7, 0.9]),
            (0.0, Some(0.3), &[0.0, 0.3, 0.6, 0.9]),
            (0.4, None, &[0.4]),
            (1.5, Some(0.2), &[1.5]),
        ];
        for (first, increment, expected) in cases {
            assert_eq!(temperatures(first, increment).unwrap(), expected);
        }
    }
}
