//! `overhear models convert` with the real binary: formats, exit codes.
#![allow(clippy::unwrap_used)]

use crate::common::{EN, EN_TEXT, Run, Sandbox, clip};

fn convert(sandbox: &Sandbox, words: &[&str]) -> Run {
    let arguments = ["models", "convert"].iter().chain(words);
    sandbox.run(arguments)
}

#[test]
fn a_converted_model_transcribes_as_its_source() {
    let sandbox = Sandbox::new();
    let q8 = ["nano", "nano-q8_0.bin", "--to", "ggml", "--dtype", "q8_0"];
    for words in [
        &["nano", "ggml-nano.bin", "--to", "ggml"][..],
        &["ggml-nano.bin", "again"],
        &q8,
    ] {
        let run = convert(&sandbox, words);
        run.assert(0);
        assert_eq!((&run.stdout[..], &run.stderr[..]), ("", ""));
        let audio = clip(EN);
        let options = ["--model", words[1], "-f", "txt", "-o", "-", "--quiet"];
        let run = sandbox.run(options.iter().chain(&[audio.to_str().unwrap()]));
        run.assert(0);
        assert_eq!(run.stdout.trim(), EN_TEXT, "{words:?}");
    }
    convert(&sandbox, &["nano", "again"]).assert_one_line(74, "again: it exists");
    convert(&sandbox, &["nano", "gone/x"]).assert_one_line(74, "gone/x: ");
}

#[test]
fn what_cannot_be_converted_is_one_line() {
    let sandbox = Sandbox::new();
    convert(&sandbox, &["nano", "x", "--to", "gguf"])
        .assert_one_line(2, "--to: unknown format `gguf`");
    convert(&sandbox, &["nano", "x", "--dtype", "q9"])
        .assert_one_line(2, "--dtype: unknown dtype `q9`");
    convert(&sandbox, &["nano", "x", "--dtype", "q5_0"])
        .assert_one_line(2, "dtype: a Hugging Face");
    convert(&sandbox, &["./none", "x"]).assert_one_line(3, "none");
    assert!(!sandbox.path("x").exists());
}
