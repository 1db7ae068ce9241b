//! The writers, compared with files of openai/whisper's writers (fixtures/output/make.py, make_words.py); other
//! formats, compared with their specifications.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use overhear::audio::AudioWarning;
use overhear::decode::Hypothesis;
use overhear::output::{CaptionOptions, Format, write, write_with};
use overhear::transcribe::{Alternative, WindowHypotheses};
use overhear::{Segment, Transcript, Word};
use serde_json::Value;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

#[test]
fn every_format_equals_the_references_file() {
    let transcript = reference();
    for &format in Format::REFERENCE {
        let expected = std::fs::read_to_string(fixture(format.extension())).unwrap();
        assert_eq!(written(format, &transcript), expected, "{format}");
        assert_eq!(transcript.to_string_in(format), expected, "{format}");
    }
}

#[test]
fn an_empty_transcript_gives_valid_files() {
    let mut transcript = Transcript::default();
    transcript.language = reference().language;
    let cases = [
        (Format::Txt, ""),
        (Format::Vtt, "WEBVTT\n\n"),
        (Format::Srt, ""),
        (Format::Tsv, "start\tend\ttext\n"),
        (
            Format::Json,
            r#"{"text": "", "segments": [], "language": "es"}"#,
        ),
        (Format::Lrc, ""),
        (Format::Csv, "start,end,text\n"),
    ];
    for (format, expected) in cases {
        assert_eq!(written(format, &transcript), expected, "{format}");
    }
}

#[test]
fn captions_stay_valid_whatever_the_text() {
    let mut transcript = reference();
    transcript.segments.truncate(1);
    let segment = &mut transcript.segments[0];
    segment.text = " a <b> & c\n\n5\r\n00:00:01,000 --> 00:00:02,000\0".to_owned();
    (segment.start, segment.end) = (2.0, 1.0);

    let text = "5\n00:00:01,000 -> 00:00:02,000\u{fffd}";
    let srt = format!("1\n00:00:02,000 --> 00:00:02,001\na <b> & c\n{text}\n\n");
    assert_eq!(written(Format::Srt, &transcript), srt);
    let vtt = format!("WEBVTT\n\n00:02.000 --> 00:02.001\na &lt;b> & c\n{text}\n\n");
    assert_eq!(written(Format::Vtt, &transcript), vtt);
    let tsv = written(Format::Tsv, &transcript);
    assert_eq!(
        tsv.lines().count(),
        2,
        "a line break in the text must not make a row: {tsv:?}"
    );
    let json: Value = serde_json::from_str(&written(Format::Json, &transcript)).unwrap();
    assert_eq!(
        json["segments"][0]["text"],
        transcript.segments[0].text.as_str()
    );
}

#[test]
fn json_has_a_field_for_truncated_audio() {
    let mut transcript = reference();
    transcript.warnings = vec![AudioWarning::Truncated];
    let json: Value = serde_json::from_str(&written(Format::Json, &transcript)).unwrap();
    assert_eq!(json["truncated"], true);
}

#[test]
fn json_has_hypotheses_and_alternatives_where_there_are_some() {
    let mut transcript = reference();
    transcript.segments.truncate(1);
    let segment = &mut transcript.segments[0];
    segment.token_probabilities = vec![0.25; segment.tokens.len()];
    segment.alternatives = vec![Vec::new(); segment.tokens.len()];
    let mut alternative = Alternative::default();
    alternative.token = 7;
    alternative.text = " \"é".to_owned();
    alternative.probability = 0.5;
    segment.alternatives[0] = vec![alternative];
    let mut hypothesis = Hypothesis::default();
    hypothesis.tokens = vec![1, 2];
    hypothesis.token_logprobs = vec![-1.0, -0.5];
    hypothesis.text = "so".to_owned();
    hypothesis.score = -0.75;
    hypothesis.avg_logprob = -0.5;
    let mut window = WindowHypotheses::default();
    window.seek = 3000;
    window.hypotheses = vec![hypothesis];
    transcript.n_best = vec![window];
    let json: Value = serde_json::from_str(&written(Format::Json, &transcript)).unwrap();
    let found = &json["segments"][0];
    assert_eq!(found["token_probabilities"][0], 0.25);
    let alternatives = found["alternatives"].as_array().unwrap();
    assert_eq!(
        alternatives.len(),
        found["tokens"].as_array().unwrap().len()
    );
    assert_eq!(
        alternatives[0],
        serde_json::json!([{"token": 7, "text": " \"é", "probability": 0.5}])
    );
    let hypothesis =
        serde_json::json!({"text": "so", "tokens": [1, 2], "score": -0.75, "avg_logprob": -0.5});
    assert_eq!(
        json["n_best"],
        serde_json::json!([{"seek": 3000, "hypotheses": [hypothesis]}])
    );
}

/// Returns the options that a name in fixtures/output/words stands for, as in make_words.py.
fn caption_options(name: &str) -> CaptionOptions {
    let (highlight_words, width, count, words) = match name {
        "default" => (false, None, None, None),
        "highlight" => (true, None, None, None),
        "width" => (false, Some(24), None, None),
        "count" => (false, None, Some(1), None),
        "width-count" => (false, Some(20), Some(2), None),
        "width-count-highlight" => (true, Some(16), Some(1), None),
        "words" => (false, None, None, Some(3)),
        "zero" => (false, Some(0), Some(0), Some(0)),
        _ => panic!("options {name}"),
    };
    CaptionOptions {
        highlight_words,
        max_line_width: width,
        max_line_count: count,
        max_words_per_line: words,
    }
}

#[test]
fn captions_of_words_equal_the_references_files() {
    let folder = Path::new(FIXTURES).join("output/words");
    let mut n_tested = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let [clip, options, extension] = name.split('.').collect::<Vec<_>>()[..] else {
            panic!("{name}")
        };
        let golden = Path::new(FIXTURES).join(format!("golden/{clip}.json"));
        let golden: Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
        let transcript = transcript(&golden["transcribe"]["words"]);
        let mut found = Vec::new();
        let format = extension.parse().unwrap();
        write_with(format, &transcript, &caption_options(options), &mut found).unwrap();
        let expected = std::fs::read_to_string(&path).unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), expected, "{name}");
        n_tested += 1;
    }
    assert_eq!(n_tested, 18);
}

/// Returns two segments with words and a cleared one.
fn with_words() -> Transcript {
    let word = |text: &str, start, end| {
        let mut word = Word::default();
        word.word = text.to_owned();
        (word.start, word.end) = (start, end);
        word.probability = 0.5;
        word
    };
    let mut transcript = reference();
    transcript.segments.truncate(3);
    let [first, cleared, second] = &mut transcript.segments[..] else {
        panic!("three segments")
    };
    first.words = Some(vec![word(" Oh,", 0.0, 0.5), word(" {well}", 0.74, 1.002)]);
    cleared.words = Some(Vec::new());
    second.words = Some(vec![
        word("--> \\N <b>", 4.02, 4.02),
        word(" \"&", 4.0, 4.5),
        word(" a\n\nb", 5.0, 3600.0),
    ]);
    transcript
}

#[test]
fn karaoke_has_the_duration_of_each_word() {
    let found = written(Format::Ass, &with_words());
    let (header, events) = found.split_once("[Events]\n").unwrap();
    assert!(header.starts_with("[Script Info]\nScriptType: v4.00+\n"));
    let expected = "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n\
        Dialogue: 0,0:00:00.00,0:00:01.00,Default,,0,0,0,,{\\k50}Oh, {\\k24}{\\k26}\\{well\\}\n\
        Dialogue: 0,0:00:04.02,1:00:00.00,Default,,0,0,0,,\
        {\\k0}--> \\\u{2060}N <b> {\\k48}\"& {\\k50}{\\k359500}a\\N\\Nb\n";
    assert_eq!(events, expected);
    // Styles and events have as many fields as their formats declare.
    let n_fields = |line: &str| line.split(',').count();
    let lines: Vec<&str> = header.lines().collect();
    let style = lines
        .iter()
        .position(|line| line.starts_with("Style: "))
        .unwrap();
    assert_eq!(n_fields(lines[style]), n_fields(lines[style - 1]));

    let mut without = with_words();
    without
        .segments
        .iter_mut()
        .for_each(|segment| segment.words = None);
    let found = written(Format::Ass, &without);
    assert!(found.ends_with(
        ",,Él dijo --> “¿qué?” 日本語 😀 \x7f\u{2028} back\\\u{2060}slash \"q\"\ttab\n"
    ));
    assert!(!found.contains("\\k"), "{found}");
}

#[test]
fn lyrics_have_a_time_a_line_and_with_words_a_time_a_word() {
    let expected = "[00:00.00]<00:00.00>Oh, <00:00.74>{well}<00:01.00>\n\
        [00:04.02]<00:04.02>--> \\N <b> <00:04.00>\"& <00:05.00>a  b<60:00.00>\n";
    assert_eq!(written(Format::Lrc, &with_words()), expected);
    let found = written(Format::Lrc, &reference());
    assert!(found.starts_with("[00:00.00]Every cloud"), "{found}");
    assert!(found.contains("\n[600:00.02]ten hours\n"), "{found}");
    assert_eq!(
        found.lines().count(),
        6,
        "segments without text have no line"
    );
}

#[test]
fn csv_quotes_its_text() {
    let mut transcript = with_words();
    transcript.segments.truncate(1);
    transcript.segments[0].text = " a \"b\", c\nd ".to_owned();
    let expected = "start,end,text\n0,4000,\"a \"\"b\"\", c d\"\n";
    assert_eq!(written(Format::Csv, &transcript), expected);
}

#[test]
fn captions_of_words_stay_valid_whatever_the_words() {
    let options = CaptionOptions {
        highlight_words: true,
        ..CaptionOptions::default()
    };
    for format in [Format::Srt, Format::Vtt] {
        let mut found = Vec::new();
        write_with(format, &with_words(), &options, &mut found).unwrap();
        let found = String::from_utf8(found).unwrap();
        let is_cue = |line: &&str| line.contains(" --> ");
        // Two words and a gap; three words, one without duration and one that begins early, and two gaps.
        assert_eq!(found.lines().filter(is_cue).count(), 8, "{found}");
        assert_eq!(
            found.matches("\n\n").count(),
            8 + usize::from(format == Format::Vtt)
        );
        for line in found.lines().filter(is_cue) {
            let (start, end) = line.split_once(" --> ").unwrap();
            assert!(start.len() < end.len() || start < end, "{line}");
        }
        if format == Format::Vtt {
            assert!(found.contains("<u>-> \\N &lt;b></u> \"& a\nb"), "{found}");
        }
    }
}

#[test]
fn json_has_the_words_as_the_reference_writes_them() {
    let json = written(Format::Json, &with_words());
    let words = r#", "words": [{"word": " Oh,", "start": 0.0, "end": 0.5, "probability": 0.5}, {"word": " {well}","#;
    assert!(json.contains(words), "{json}");
    assert!(json.contains(r#", "words": []}"#), "{json}");
}

fn written(format: Format, transcript: &Transcript) -> String {
    let mut bytes = Vec::new();
    write(format, transcript, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn fixture(extension: &str) -> PathBuf {
    Path::new(FIXTURES)
        .join("output/reference")
        .with_extension(extension)
}

/// Returns the transcript in reference.json.
fn reference() -> Transcript {
    let json = serde_json::from_slice(&std::fs::read(fixture("json")).unwrap()).unwrap();
    transcript(&json)
}

fn transcript(json: &Value) -> Transcript {
    let segments = json["segments"].as_array().unwrap().iter();
    let mut transcript = Transcript::default();
    transcript.text = json["text"].as_str().unwrap().to_owned();
    transcript.segments = segments.map(segment).collect();
    transcript.language = json["language"].as_str().unwrap().parse().unwrap();
    transcript.duration_s = 360_002.0;
    transcript
}

fn segment(json: &Value) -> Segment {
    let float = |key: &str| json[key].as_f64().unwrap();
    let integer = |key: &str| usize::try_from(json[key].as_u64().unwrap()).unwrap();
    let tokens = json["tokens"].as_array().unwrap().iter();
    let words = json["words"].as_array();
    let mut segment = Segment::default();
    segment.id = integer("id");
    segment.seek = integer("seek");
    segment.start = float("start");
    segment.end = float("end");
    segment.text = json["text"].as_str().unwrap().to_owned();
    segment.tokens = tokens
        .map(|token| u32::try_from(token.as_u64().unwrap()).unwrap())
        .collect();
    segment.temperature = float("temperature") as f32;
    segment.avg_logprob = float("avg_logprob");
    segment.compression_ratio = float("compression_ratio");
    segment.no_speech_prob = float("no_speech_prob");
    segment.words = words.map(|words| words.iter().map(word).collect());
    segment
}

fn word(json: &Value) -> Word {
    let float = |key: &str| json[key].as_f64().unwrap();
    let mut word = Word::default();
    word.word = json["word"].as_str().unwrap().to_owned();
    word.start = float("start");
    word.end = float("end");
    word.probability = float("probability");
    word
}
