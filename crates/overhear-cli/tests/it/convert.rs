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
}

/// A ggml file is read with the heads of the published model that it is named after, which are not those of every model
/// that someone writes under this name.
#[test]
fn alignment_heads_that_a_ggml_file_loses_are_a_warning() {
    let sandbox = Sandbox::new();
    let to_ggml = |model: &str, out: &str| {
        let run = convert(&sandbox, &[model, out, "--to", "ggml", "--dtype", "q4_0"]);
        run.assert(0);
        run.stderr
    };
    for name in ["ggml-tiny.en.bin", "tiny.en-q4_0.bin"] {
        assert_eq!(to_ggml("tiny.en", name), "");
    }
    assert_eq!(
        to_ggml("tiny.en", "tiny.bin"),
        "overhear: warning: tiny.bin: the model's alignment heads have no place in ggml: word timestamps use those of the \
         published tiny and may be inaccurate; the name ggml-tiny.en.bin keeps them\n"
    );
    // nano's own are those of the last half of its layers.
    assert_eq!(to_ggml("nano", "nano.bin"), "");
    let config = "{\"alignment_heads\": [[1, 0]]}";
    convert(&sandbox, &["nano", "mine"]).assert(0);
    std::fs::write(sandbox.path("mine/generation_config.json"), config).unwrap();
    assert_eq!(
        to_ggml("mine", "mine.bin"),
        "overhear: warning: mine.bin: the model's alignment heads have no place in ggml: word timestamps use all heads of \
         the last half of the layers and may be inaccurate; a Hugging Face folder keeps them (--to safetensors)\n"
    );
    // Heads that were a guess before are the same guess.
    assert_eq!(to_ggml("mine.bin", "again.bin"), "");
}

#[test]
fn a_ggml_file_that_whisper_cpp_cannot_run_is_told() {
    let sandbox = Sandbox::new();
    let words = ["nano", "ggml-nano.bin", "--dtype", "f32"];
    let run = convert(&sandbox, &words);
    run.assert(0);
    assert_eq!(
        run.stderr,
        "overhear: warning: ggml-nano.bin: whisper.cpp aborts where it runs a ggml file in f32 on a CPU; one in f16 \
         (--dtype f16) runs everywhere\n"
    );
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

/// The name of the temporary file says nothing to whoever named another.
#[test]
fn an_output_that_cannot_be_written_is_named() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("file"), "").unwrap();
    for (out, folder) in [("gone/x", "gone"), ("file/x.bin", "file")] {
        let said = format!("cannot write {out}: there is no folder {folder}\n");
        convert(&sandbox, &["nano", out]).assert_one_line(74, &said);
    }
    if cfg!(target_os = "linux") {
        for out in ["/proc/x", "/proc/x.bin"] {
            let run = convert(&sandbox, &["nano", out]);
            run.assert_one_line(74, &format!("cannot write {out}: "));
            assert!(!run.stderr.contains(".tmp"), "{}", run.stderr);
        }
    }
}

#[test]
fn the_name_of_the_output_says_the_format() {
    let sandbox = Sandbox::new();
    convert(&sandbox, &["tiny.en", "ggml-tiny.en.bin"]).assert(0);
    let bytes = std::fs::read(sandbox.path("ggml-tiny.en.bin")).unwrap();
    assert_eq!(&bytes[..4], b"lmgg");
    for name in ["x.gguf", "x.pt", "x.safetensors"] {
        convert(&sandbox, &["nano", name]).assert_one_line(2, &format!("{name}: no ."));
    }
    convert(&sandbox, &["nano", "x.bin", "--to", "safetensors"]).assert(0);
    assert!(sandbox.path("x.bin").is_dir());
}

#[test]
#[cfg(unix)]
fn what_a_killed_conversion_left_is_removed_by_the_next() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path(".overhear-x.tmp")).unwrap();
    std::fs::write(sandbox.path(".overhear-x.tmp/config.json"), "{}").unwrap();
    std::fs::write(sandbox.path(".overhear-y.tmp"), "half").unwrap();
    convert(&sandbox, &["nano", "x"]).assert(0);
    assert_eq!(sandbox.names(""), ["x"]);
}
