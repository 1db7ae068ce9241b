//! Models by name, downloaded from a local server that imitates the Hugging Face hub.
#![allow(clippy::unwrap_used)]

#[path = "../common/hub.rs"]
mod server;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{EN, EN_TEXT, Run, Running, Sandbox, clip, model, run};
use server::{COMMIT, Fault, Request, Server, checksum};

const BASE: &str = "home/.cache/huggingface/hub/models--openai--whisper-base";

/// Files of a 1 MB model that is never opened, and files that must not be downloaded.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("config.json", text(r#"{"model_type": "whisper"}"#)),
        ("generation_config.json", text("{}")),
        ("tokenizer.json", text(r#"{"a": 1}"#)),
        ("vocab.json", text(r#"{"b": 2}"#)),
        ("model.safetensors", weights()),
        ("model.fp32-00001-of-00002.safetensors", weights()),
        ("pytorch_model.bin", weights()),
        ("flax_model.msgpack", text("flax")),
        ("README.md", text("readme")),
    ]
}

fn weights() -> Vec<u8> {
    (0..1_000_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn command(sandbox: &Sandbox, server: &Server, arguments: &[&str]) -> Command {
    let mut command = sandbox.command(arguments);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command
        .env_remove("HF_HUB_OFFLINE")
        .env_remove("OVERHEAR_MODELS")
        .env("HF_ENDPOINT", &server.endpoint);
    command
}

fn pull(sandbox: &Sandbox, server: &Server) -> Run {
    run(command(sandbox, server, &["models", "pull", "base"]))
}

/// Asserts that the weights are complete, stored under their checksum, and that no incomplete file remains.
fn assert_whole(sandbox: &Sandbox) {
    let snapshot = sandbox.path(&format!("{BASE}/snapshots/{COMMIT}"));
    assert!(fs::read(snapshot.join("model.safetensors")).unwrap() == weights());
    let blobs = sandbox.names(&format!("{BASE}/blobs"));
    assert!(
        blobs.iter().all(|name| !name.ends_with("incomplete")),
        "{blobs:?}"
    );
}

#[test]
fn without_a_model_turbo_is_downloaded_and_then_found_without_a_network() {
    let sandbox = Sandbox::new();
    let nano: Vec<_> = fs::read_dir(model())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let mut files: Vec<(&str, Vec<u8>)> = nano
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            (name, fs::read(path).unwrap())
        })
        .collect();
    files.push(("pytorch_model.bin", vec![1; 100]));
    let server = Server::start(&files, |_| Fault::No);
    let clip = clip(EN);
    let arguments = [clip.to_str().unwrap(), "-f", "txt"];
    // The executable is in a checkout, but its model nano is not turbo.
    let mut first = command(&sandbox, &server, &arguments);
    first.env("HF_TOKEN", "secret");
    let first = run(first);
    first.assert(0);
    assert_eq!(sandbox.read("synth-en-05.txt").trim_end(), EN_TEXT);
    let told = "downloading openai/whisper-large-v3-turbo (2";
    assert!(first.stderr.contains(told), "{}", first.stderr);
    for request in server.log() {
        let sent = request.headers.get("authorization").map(String::as_str);
        let expected = (!request.is_cdn).then_some("Bearer secret");
        assert_eq!(sent, expected, "{request:?}");
        assert!(!request.path.contains("pytorch_model"), "{request:?}");
    }
    let n_requests = server.log().len();
    let mut second = command(&sandbox, &server, &arguments);
    second.env("HF_HUB_OFFLINE", "1");
    run(second).assert(0);
    assert_eq!(server.log().len(), n_requests, "not one request");
}

#[test]
fn an_adapter_is_downloaded_and_its_base_model_is_found_by_name() {
    let sandbox = Sandbox::new();
    // Zeros, which leave nano as it is.
    let module = "base_model.model.model.decoder.layers.0.self_attn.q_proj";
    let header = format!(
        r#"{{"{module}.lora_A.weight":{{"dtype":"F32","shape":[8,128],"data_offsets":[0,4096]}},"{module}.lora_B.weight":{{"dtype":"F32","shape":[128,8],"data_offsets":[4096,8192]}}}}"#
    );
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend(header.bytes());
    weights.resize(weights.len() + 8192, 0);
    let config =
        br#"{"peft_type": "LORA", "r": 8, "lora_alpha": 8, "base_model_name_or_path": "nano"}"#;
    let files = [
        ("adapter_config.json", config.to_vec()),
        ("adapter_model.safetensors", weights),
        ("README.md", b"readme".to_vec()),
        ("optimizer.pt", b"optimizer".to_vec()),
    ];
    let server = Server::start(&files, |_| Fault::No);
    let clip = clip(EN);
    let model_dir = model().parent().unwrap().to_owned();
    let arguments = [
        clip.to_str().unwrap(),
        "-f",
        "txt",
        "--model",
        "me/adapter",
        "--model_dir",
        model_dir.to_str().unwrap(),
    ];
    run(command(&sandbox, &server, &arguments)).assert(0);
    assert_eq!(sandbox.read("synth-en-05.txt").trim_end(), EN_TEXT);
    let snapshot = format!("home/.cache/huggingface/hub/models--me--adapter/snapshots/{COMMIT}");
    let expected = ["adapter_config.json", "adapter_model.safetensors"];
    assert_eq!(sandbox.names(&snapshot), expected);
    let config = sandbox.path(&format!("{snapshot}/adapter_config.json"));
    fs::remove_file(&config).unwrap();
    fs::write(&config, br#"{"base_model_name_or_path": "no such model"}"#).unwrap();
    let failed = run(command(&sandbox, &server, &arguments));
    failed.assert_one_line(3, "an adapter whose base model is to be found");
}

#[test]
fn an_adapter_without_safetensors_is_downloaded_as_a_pytorch_file() {
    let sandbox = Sandbox::new();
    let files = [
        ("adapter_config.json", b"{}".to_vec()),
        ("adapter_model.bin", b"pickle".to_vec()),
    ];
    let server = Server::start(&files, |_| Fault::No);
    run(command(&sandbox, &server, &["models", "pull", "me/old"])).assert(0);
    let snapshot = format!("home/.cache/huggingface/hub/models--me--old/snapshots/{COMMIT}");
    let expected = ["adapter_config.json", "adapter_model.bin"];
    assert_eq!(sandbox.names(&snapshot), expected);
}

#[test]
fn the_cache_has_the_layout_of_huggingface_hub_and_only_needed_files() {
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |_| Fault::No);
    pull(&sandbox, &server).assert(0);
    assert_whole(&sandbox);
    assert_eq!(sandbox.read(&format!("{BASE}/refs/main")), COMMIT);
    let snapshot = format!("{BASE}/snapshots/{COMMIT}");
    let expected = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "vocab.json",
    ];
    assert_eq!(sandbox.names(&snapshot), expected);
    let target = fs::read_link(sandbox.path(&format!("{snapshot}/model.safetensors"))).unwrap();
    let blob = checksum("model.safetensors", &weights());
    assert_eq!(target.to_str().unwrap(), format!("../../blobs/{blob}"));
    // A second pull requests no file that exists.
    pull(&sandbox, &server).assert(0);
    assert_eq!(server.ranges().len(), 1);

    let models = |arguments: &[&str]| {
        let arguments = [&["models"], arguments].concat();
        run(command(&sandbox, &server, &arguments))
    };
    let list = models(&["list"]);
    list.assert(0);
    let line = list
        .stdout
        .lines()
        .find(|line| line.starts_with("openai/whisper-base\t1.00 MB\t"));
    assert!(line.is_some(), "{}", list.stdout);
    let verified = models(&["verify", "base"]);
    verified.assert(0);
    assert!(
        verified
            .stdout
            .contains("5 files match the hub's checksums"),
        "{}",
        verified.stdout
    );
    fs::write(sandbox.path(&format!("{BASE}/blobs/{blob}")), "damaged").unwrap();
    models(&["verify", "base"]).assert_one_line(3, "model.safetensors: is damaged");
    models(&["rm", "base"]).assert(0);
    assert!(!sandbox.path(BASE).exists());
    models(&["rm", "base"]).assert_one_line(3, "nothing to remove");
    models(&["pull", "bsae"]).assert_one_line(2, "`bsae`");
}

#[test]
fn refusals_have_advice() {
    for (status, code, token, part) in [
        (
            404,
            "RepoNotFound",
            None,
            "openai/whisper-base: not found on http",
        ),
        (401, "RepoNotFound", None, "set HF_TOKEN"),
        (401, "GatedRepo", None, "accept the terms on"),
        (
            403,
            "GatedRepo",
            Some("t"),
            "your token has no access: accept the terms on",
        ),
        (401, "", Some("t"), "does not accept your token"),
        (404, "RevisionNotFound", None, "has no revision main"),
        (403, "", None, "access is refused"),
        (418, "", None, "status 418"),
    ] {
        let sandbox = Sandbox::new();
        let server = Server::start(&files(), move |_| {
            Fault::Status(status, format!("X-Error-Code: {code}\r\n"))
        });
        let mut command = command(&sandbox, &server, &["info", "--model", "base"]);
        command.envs(token.map(|token| ("HF_TOKEN", token)));
        run(command).assert_one_line(3, part);
        assert_eq!(server.log().len(), 1, "a refusal is not tried again");
    }
    // Gated repositories require accepted terms only for the files, not for the listing.
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |request| match request.method.as_str() {
        "HEAD" => Fault::Status(401, "X-Error-Code: GatedRepo\r\n".into()),
        _ => Fault::No,
    });
    pull(&sandbox, &server).assert_one_line(3, "/openai/whisper-base, then set HF_TOKEN");
}

#[test]
fn requests_to_a_busy_server_are_retried_and_to_a_broken_one_given_up() {
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |request| match request.nth {
        0 => Fault::Status(429, "Retry-After: 0\r\n".into()),
        1 => Fault::Status(503, "Retry-After: 0\r\n".into()),
        _ => Fault::No,
    });
    let busy = pull(&sandbox, &server);
    busy.assert(0);
    assert!(busy.stderr.contains("answers 429"), "{}", busy.stderr);
    assert_whole(&sandbox);

    let server = Server::start(&files(), |_| {
        Fault::Status(500, "Retry-After: 0\r\n".into())
    });
    let broken = run(command(&sandbox, &server, &["info", "--model", "small"]));
    broken.assert(69);
    let last = broken.stderr.lines().last().unwrap();
    assert!(
        last.contains("answers 500") && last.contains("--model tiny.en"),
        "{last}"
    );
    assert_eq!(server.log().len(), 5);
}

#[test]
fn a_cut_connection_is_resumed_where_it_was_cut() {
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |request| match request.nth {
        0..3 if request.is_weights() => Fault::Cut(300_000),
        _ => Fault::No,
    });
    pull(&sandbox, &server).assert(0);
    assert_whole(&sandbox);
    let ranges = server.ranges();
    assert_eq!(ranges.len(), 4, "{ranges:?}");
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[3].as_deref(), Some("bytes=900000-"));
}

#[test]
fn a_server_that_knows_no_ranges_begins_again() {
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |request| match request.nth {
        0 if request.is_weights() => Fault::Cut(300_000),
        _ => Fault::NoRange,
    });
    pull(&sandbox, &server).assert(0);
    assert_whole(&sandbox);
}

#[test]
fn a_wrong_checksum_is_loaded_anew_and_twice_wrong_is_refused() {
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |request| match request.nth {
        0 if request.is_weights() => Fault::Corrupt,
        _ => Fault::No,
    });
    pull(&sandbox, &server).assert(0);
    assert_whole(&sandbox);

    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |request| match request.is_weights() {
        true => Fault::Corrupt,
        false => Fault::No,
    });
    let damaged = pull(&sandbox, &server);
    damaged.assert(3);
    assert!(
        damaged.stderr.contains("arrived damaged"),
        "{}",
        damaged.stderr
    );
    assert_eq!(
        sandbox.names(&format!("{BASE}/blobs")).len(),
        4,
        "no weights"
    );
    // Small files are verified, too.
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |request: &Request| {
        match request.method == "GET" && request.path.ends_with("/config.json") {
            true => Fault::Corrupt,
            false => Fault::No,
        }
    });
    let damaged = pull(&sandbox, &server);
    assert!(
        damaged.stderr.contains("config.json arrived damaged"),
        "{}",
        damaged.stderr
    );
}

#[test]
fn of_two_at_once_one_downloads() {
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |request| match request.is_weights() {
        true => Fault::Pause(1000, Duration::from_millis(1500)),
        false => Fault::No,
    });
    let start = || {
        let mut command = command(&sandbox, &server, &["models", "pull", "base"]);
        Running(command.spawn().unwrap())
    };
    let both = [start(), start()].map(Running::end);
    both.iter().for_each(|run| run.assert(0));
    assert_eq!(server.ranges().len(), 1);
    assert!(
        both.iter()
            .any(|run| run.stderr.contains("another process is downloading")),
        "{both:?}"
    );
    assert_whole(&sandbox);
}

#[test]
fn a_killed_download_is_continued() {
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |request| match request.nth {
        0 if request.is_weights() => Fault::Pause(400_000, Duration::from_secs(60)),
        _ => Fault::No,
    });
    let mut first = command(&sandbox, &server, &["models", "pull", "base"]);
    let mut first = Running(first.spawn().unwrap());
    let blob = checksum("model.safetensors", &weights());
    let incomplete = sandbox.path(&format!("{BASE}/blobs/{blob}.incomplete"));
    let started = Instant::now();
    while fs::metadata(&incomplete).map_or(0, |metadata| metadata.len()) < 400_000 {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(10));
    }
    first.0.kill().unwrap();
    first.end();
    // An incomplete model is not found.
    let mut offline = command(&sandbox, &server, &["info", "--model", "base"]);
    offline.env("HF_HUB_OFFLINE", "1");
    run(offline).assert_one_line(3, "not found");
    let second = pull(&sandbox, &server);
    second.assert(0);
    assert!(
        second.stderr.contains("400.00 kB of it already present"),
        "{}",
        second.stderr
    );
    assert_eq!(server.ranges()[1].as_deref(), Some("bytes=400000-"));
    assert_whole(&sandbox);
}

#[test]
fn a_signal_ends_a_download_at_once() {
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |request| match request.is_weights() {
        true => Fault::Pause(1000, Duration::from_secs(60)),
        false => Fault::No,
    });
    let mut running = command(&sandbox, &server, &["models", "pull", "base"]);
    let running = Running(running.spawn().unwrap());
    let started = Instant::now();
    while server.ranges().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(10));
    }
    // Not SIGINT, which background processes of a script ignore, and so do their children.
    running.signal("TERM");
    running.end().assert(143);
}

#[test]
fn offline_opens_no_socket() {
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |_| Fault::No);
    let clip = clip(EN);
    for arguments in [
        &[clip.to_str().unwrap()][..],
        &["info", "--model", "base"],
        &["info", "--model", "org/name@v1"],
    ] {
        let mut command = command(&sandbox, &server, arguments);
        command.env("HF_HUB_OFFLINE", "1");
        run(command).assert_one_line(3, "--model tiny.en works without a network");
    }
    let mut command = command(&sandbox, &server, &["models", "pull", "base"]);
    command.env("HF_HUB_OFFLINE", "true");
    run(command).assert_one_line(69, "HF_HUB_OFFLINE forbids");
    assert!(server.log().is_empty());
}

#[test]
fn without_a_network_the_error_names_the_bundled_model() {
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |_| Fault::No);
    let clip = clip(EN);
    for endpoint in ["http://127.0.0.1:1", "http://hub.invalid"] {
        let started = Instant::now();
        let mut command = command(&sandbox, &server, &[clip.to_str().unwrap()]);
        command.env("HF_ENDPOINT", endpoint);
        let run = run(command);
        run.assert_one_line(69, "cannot download openai/whisper-large-v3-turbo: ");
        assert!(run.stderr.contains("--model tiny.en"), "{}", run.stderr);
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_and_a_bad_cache_are_exit_74() {
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |_| Fault::No);
    // Limits files to 100 kB.
    let mut full = command(&sandbox, &server, &[]);
    let binary = env!("CARGO_BIN_EXE_overhear");
    let script = format!("trap '' XFSZ; ulimit -f 200; exec '{binary}' models pull base");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(sandbox.path(""));
    shell.env_clear().envs(
        full.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    shell
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    full.env_clear();
    let full = run(shell);
    full.assert(74);
    let last = full.stderr.lines().last().unwrap();
    assert!(
        last.contains("cannot write") && last.contains("incomplete"),
        "{last}"
    );

    fs::write(sandbox.path("file"), "").unwrap();
    let mut bad = command(&sandbox, &server, &["models", "pull", "base"]);
    bad.env("HF_HUB_CACHE", sandbox.path("file"));
    run(bad).assert_one_line(74, "cannot write");
    // With room on the disk, the download continues.
    pull(&sandbox, &server).assert(0);
    assert_whole(&sandbox);
}

#[test]
fn shards_come_with_their_index() {
    let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let mut files = files();
    files.retain(|(name, _)| *name != "model.safetensors");
    files.push(("model.safetensors.index.json", index.into()));
    files.push(("model-1.safetensors", vec![1; 1000]));
    files.push(("model-2.safetensors", vec![2; 1000]));
    let sandbox = Sandbox::new();
    let server = Server::start(&files, |_| Fault::No);
    pull(&sandbox, &server).assert(0);
    let names = sandbox.names(&format!("{BASE}/snapshots/{COMMIT}"));
    assert!(
        names.contains(&"model-2.safetensors".to_owned()),
        "{names:?}"
    );
    assert_eq!(server.ranges().len(), 2);

    files[0..].sort();
    for (name, bytes) in &mut files {
        if *name == "model.safetensors.index.json" {
            *bytes = br#"{"weight_map": {"a": "../../../../evil.safetensors"}}"#.to_vec();
        }
    }
    let sandbox = Sandbox::new();
    let server = Server::start(&files, |_| Fault::No);
    pull(&sandbox, &server).assert_one_line(3, "not plain .safetensors or .bin files");

    files.retain(|(name, _)| !name.ends_with("index.json") && *name != "pytorch_model.bin");
    let sandbox = Sandbox::new();
    let server = Server::start(&files, |_| Fault::No);
    let reason = "has no model.safetensors or pytorch_model.bin";
    pull(&sandbox, &server).assert_one_line(3, reason);
}

#[test]
fn a_repository_without_safetensors_gives_its_pytorch_files() {
    let index = r#"{"weight_map": {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}}"#;
    let mut files = files();
    files.retain(|(name, _)| !name.starts_with("model."));
    let whole = files.clone();
    files.retain(|(name, _)| *name != "pytorch_model.bin");
    files.push(("pytorch_model.bin.index.json", index.into()));
    files.push(("pytorch_model-1.bin", vec![1; 1000]));
    files.push(("pytorch_model-2.bin", vec![2; 1000]));
    for (files, expected) in [
        (whole, &["pytorch_model.bin"][..]),
        (
            files,
            &[
                "pytorch_model-1.bin",
                "pytorch_model-2.bin",
                "pytorch_model.bin.index.json",
            ],
        ),
    ] {
        let sandbox = Sandbox::new();
        let server = Server::start(&files, |_| Fault::No);
        pull(&sandbox, &server).assert(0);
        let mut names = sandbox.names(&format!("{BASE}/snapshots/{COMMIT}"));
        names.retain(|name| name.contains("pytorch"));
        assert_eq!(names, expected);
        let list = run(command(&sandbox, &server, &["models", "list"]));
        assert!(
            list.stdout.contains("openai/whisper-base"),
            "{}",
            list.stdout
        );
    }
}

#[test]
fn etags_of_every_kind_name_blobs() {
    for (etag, name) in [
        ("W/\"abc-1\"", "abc-1"),
        ("\"5f3e\"", "5f3e"),
        ("plain", "plain"),
    ] {
        let sandbox = Sandbox::new();
        let server = Server::start(&files(), move |request| {
            match request.path.ends_with("/config.json") {
                true => Fault::Etag(etag),
                false => Fault::No,
            }
        });
        pull(&sandbox, &server).assert(0);
        let blobs = sandbox.names(&format!("{BASE}/blobs"));
        assert!(blobs.iter().any(|blob| blob == name), "{blobs:?}");
    }
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |_| Fault::Etag("\"../../../evil\""));
    pull(&sandbox, &server).assert_one_line(69, "has no ETag");
    assert_eq!(sandbox.names(&format!("{BASE}/blobs")), [""; 0]);
}

#[test]
fn redirects_within_the_hub_are_followed_and_loops_end() {
    for to_root in ["", "../../../../../../../..", "./../../../../../../.."] {
        let sandbox = Sandbox::new();
        let server = Server::start(&files(), move |request| {
            match request
                .path
                .replace("/openai/whisper-base/", "/moved/base/")
            {
                moved if moved != request.path => {
                    Fault::Status(307, format!("Location: {to_root}{moved}\r\n"))
                }
                _ => Fault::No,
            }
        });
        pull(&sandbox, &server).assert(0);
        assert_whole(&sandbox);
    }

    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |request| {
        Fault::Status(302, format!("Location: {}\r\n", request.path))
    });
    let arguments = ["models", "pull", "small"];
    run(command(&sandbox, &server, &arguments)).assert_one_line(69, "redirects more than 10 times");
}

#[test]
fn a_revision_has_its_own_ref_and_an_unknown_one_is_an_error() {
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |request| {
        match request.path.contains("/revision/v2") {
            true => Fault::Status(404, "X-Error-Code: RevisionNotFound\r\n".into()),
            false => Fault::No,
        }
    });
    run(command(
        &sandbox,
        &server,
        &["models", "pull", "base@refs/pr/2"],
    ))
    .assert(0);
    assert_eq!(sandbox.read(&format!("{BASE}/refs/refs/pr/2")), COMMIT);
    assert!(server.log()[0].path.ends_with("/revision/refs%2Fpr%2F2"));
    run(command(&sandbox, &server, &["models", "pull", "base@v2"]))
        .assert_one_line(3, "openai/whisper-base@v2: has no revision v2");
}

#[test]
fn a_proxy_is_used_except_for_hosts_in_no_proxy() {
    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |_| Fault::No);
    let proxied = |server: &Server| {
        let log = server.log();
        log.iter()
            .filter(|request| request.headers.contains_key("proxied"))
            .count()
    };
    let mut through = command(&sandbox, &server, &["models", "pull", "base"]);
    // The proxy connects to the server whatever the name is; only the CDN's name must be resolvable.
    through
        .env("HF_ENDPOINT", "http://hub.invalid")
        .env("ALL_PROXY", &server.endpoint)
        .env("NO_PROXY", "localhost");
    run(through).assert(0);
    assert!(proxied(&server) > 5);
    assert_whole(&sandbox);

    let sandbox = Sandbox::new();
    let server = Server::start(&files(), |_| Fault::No);
    let mut past = command(&sandbox, &server, &["models", "pull", "base"]);
    past.env("ALL_PROXY", "http://127.0.0.1:1")
        .env("NO_PROXY", "localhost,127.0.0.1");
    run(past).assert(0);
    assert_eq!(proxied(&server), 0);
}
