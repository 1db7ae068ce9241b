# The project's tasks. `just check` is what CI runs and what a change must pass.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Clips, goldens and models beyond the ones in the repository, for `sweep`.
shared := env("OVERHEAR_SHARED", justfile_directory() / ".." / "shared")

# Checkpoints made by `inflate`, a folder a size.
inflated := env("OVERHEAR_INFLATED", justfile_directory() / "target" / "inflated")

# Published checkpoints, a folder a name.
published := env("OVERHEAR_PUBLISHED", justfile_directory() / "target" / "published")

# The model that `inflate` makes checkpoints from.
nano := if path_exists(shared / "models/nano/v3") == "true" { shared / "models/nano" } else { "models/nano" }

python := env("PYTHON", "python3")
fixtures := "crates/overhear/tests/fixtures"
formats_packages := "ctranslate2 gguf ml_dtypes openai-whisper peft pywhispercpp safetensors soundfile torch transformers"
turbo_clips := "synth-en-05,synth-es-00,real-digits-0"

# List the recipes.
default:
    @just --list

# Everything a change must pass.
check: lint nextest

# What needs no test to run.
lint: fmt clippy minimal typos deny doc

# Formatting.
fmt:
    cargo fmt --all --check

# Lints, warnings denied.
clippy:
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

# The library without its default features: samples and uncompressed audio.
minimal:
    cargo clippy --package overhear --no-default-features --locked -- -D warnings

# Spelling.
typos:
    typos

# Licences, sources and banned crates of the dependency tree.
deny:
    cargo deny --locked check --hide-inclusion-graph bans licenses sources

# The documentation builds without a warning.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# Every test, a process each.
nextest *ARGS:
    cargo nextest run --workspace --locked {{ARGS}}

# The tests as the README names them: nothing needed but cargo.
test *ARGS:
    cargo test --workspace --locked {{ARGS}}

# Kills of a run with a journal, at random moments: `just kills 500 200`.
kills KILLS="500" FILES="200":
    OVERHEAR_KILLS={{KILLS}} OVERHEAR_FILES={{FILES}} cargo test --locked --package overhear-cli --test it -- \
        --nocapture journal::a_run_that_is_killed

# The kernels' tests with the standard library's checks of pointers, which the test profile leaves out: minutes to compile.
kernels-checked:
    cargo test --locked --package overhear-kernels --target-dir target/checked \
        --config profile.test.package.overhear-kernels.debug-assertions=true

# The kernels' tests for aarch64, emulated: a processor with all there is, one without BF16, one without DotProd too.
aarch64 *ARGS: _aarch64-tools
    #!/usr/bin/env bash
    set -euo pipefail
    export RUSTC=$PWD/target/aarch64/rustc CARGO_TARGET_DIR=$PWD/target/aarch64/build
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    run() { # PROCESSOR [TESTS]
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $1 -L /usr/aarch64-linux-gnu" \
        OVERHEAR_REQUIRE_ISA=neon \
            cargo test --locked --package overhear-kernels --lib --test it --target aarch64-unknown-linux-gnu -- "${@:2}"
    }
    run max {{ARGS}}
    for processor in neoverse-n1 cortex-a72; do run $processor gemm_packed:: packing:: gemm_f32_int8:: attention_int8:: attention_bf16:: exp2::; done

# A compiler, libraries and an emulator for aarch64, all of Debian: rustup's toolchain has no libraries for it. The compiler
# is that of Debian's testing, in a folder of its own with the libraries that it needs itself.
_aarch64-tools:
    #!/usr/bin/env bash
    set -euo pipefail
    mkdir -p target/aarch64 && cd target/aarch64
    if ! type mmdebstrap aarch64-linux-gnu-gcc qemu-aarch64 > /dev/null 2>&1; then
        apt-get update --quiet=2
        apt-get install --quiet=2 --no-install-recommends \
            mmdebstrap gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
    fi
    if [ ! -d debian ]; then
        rm -rf debian.partial
        # A mirror may be older than its lists say they are good for.
        mmdebstrap --quiet --variant=extract --architectures=amd64,arm64 \
            --aptopt='Acquire::Check-Valid-Until "false"' \
            --include=rustc,libstd-rust-dev,libstd-rust-dev:arm64 forky debian.partial
        mv debian.partial debian
    fi
    cat > rustc <<END
    #!/bin/sh
    usr='$PWD/debian/usr'
    exec "\$usr/lib64/ld-linux-x86-64.so.2" --library-path "\$usr/lib/x86_64-linux-gnu" "\$usr/bin/rustc" --sysroot "\$usr" "\$@"
    END
    chmod +x rustc

# Kernel and end-to-end benchmarks.
bench *ARGS:
    cargo bench --workspace --locked {{ARGS}}

# The tests too large for every run: published base, all shared clips, checkpoints of true size, hours of audio.
sweep: (inflate "tiny") (inflate "small")
    #!/usr/bin/env bash
    set -euo pipefail
    export OVERHEAR_SHARED="$(realpath {{shared}})" OVERHEAR_INFLATED="$(realpath {{inflated}})"
    export OVERHEAR_PUBLISHED="{{published}}"
    left_out='test(turbo)'
    if ! just published base; then
        echo 'sweep: the tests of published base are left out, as the package registry cannot be reached'
        left_out+=' + test(/^parity::base::/)'
    fi
    cargo nextest run --workspace --locked --run-ignored only -E "not ($left_out)"

# Parity at the shape of turbo. The checkpoint takes 1.6 GB of disk, the run minutes per clip.
sweep-turbo: (inflate "turbo")
    OVERHEAR_INFLATED="$(realpath {{inflated}})" \
        cargo nextest run --workspace --locked --run-ignored only -E 'test(turbo)'

# Get the checkpoint target/published/NAME (base, tiny.en): openai's weights, out of packages that ship them.
published NAME: (_python "numpy safetensors")
    #!/usr/bin/env bash
    set -euo pipefail
    out={{published}}/{{NAME}}
    if [ ! -f "$out/model.safetensors" ]; then
        rm -rf "$out.partial"
        target/python/bin/python tools/published.py {{NAME}} "$out.partial" --ct2
        mv "$out.partial" "$out"
    fi

# Write published NAME (base, tiny.en) as PyTorch files into target/published/NAME/pytorch: openai/whisper's .pt, and Hugging
# Face folders with pytorch_model.bin, whole and in shards. Needs torch.
pytorch NAME: (published NAME) (_python "torch numpy safetensors")
    #!/usr/bin/env bash
    set -euo pipefail
    from={{published}}/{{NAME}}
    mkdir -p "$from/pytorch"
    target/python/bin/python tools/hf2openai.py "$from" "$from/pytorch/{{NAME}}.pt"
    target/python/bin/python tools/hf2bin.py "$from" "$from/pytorch/bin"
    target/python/bin/python tools/hf2bin.py "$from" "$from/pytorch/shards" 3

# Write published NAME in every format with the public converters, and see that overhear gives the same tokens; and that
# transformers and whisper.cpp read what overhear converts it to: the table of docs/formats.md, a quarter of an hour.
formats NAME="tiny.en": (published NAME) _whisper-cpp (_python formats_packages)
    cargo build --release --locked --package overhear-cli
    target/python/bin/python tools/formats.py target/release/overhear {{published}}/{{NAME}} target/whisper.cpp \
        {{fixtures}}/audio/jfk.flac {{fixtures}}/audio/real-{cvdelta,kathleen,librispeech,ljspeech,speechocean762}-0.flac

# Make the small model of the tests again, as the same converters write it.
golden-converted: _whisper-cpp (_python formats_packages)
    target/python/bin/python {{fixtures}}/converted/make.py target/whisper.cpp

# whisper.cpp's own converter, and its quantiser for the library of the wheel: the source package of pywhispercpp has both.
_whisper-cpp: (_python formats_packages)
    #!/usr/bin/env bash
    set -euo pipefail
    out=$PWD/target/whisper.cpp
    if [ ! -x "$out/quantize" ]; then
        rm -rf "$out" && mkdir -p "$out"
        version=$(sed -n 's/^pywhispercpp==//p' tools/requirements.txt)
        target/python/bin/pip download --quiet --no-deps --no-binary pywhispercpp --dest "$out" "pywhispercpp==$version"
        tar xzf "$out/pywhispercpp-$version.tar.gz" -C "$out" --strip-components 2 "pywhispercpp-$version/whisper.cpp"
        rm "$out/pywhispercpp-$version.tar.gz"
        libraries=$(target/python/bin/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
        c++ -O1 -I "$out/include" -I "$out/ggml/include" -I "$out/examples" -o "$out/quantize" \
            "$out"/examples/quantize/quantize.cpp "$out"/examples/common{,-ggml}.cpp \
            -L "$libraries" -lggml -lggml-base -Wl,-rpath,"$libraries"
    fi

# Make the text tokens of openai/whisper again that are part of the library, and the small PyTorch files of the tests.
tokens: (_python "-r tools/requirements.txt")
    target/python/bin/python tools/tokens.py crates/overhear/src/tokenizer
    target/python/bin/python {{fixtures}}/pytorch/make.py

# Make the checkpoint target/inflated/SIZE: a published shape that computes nano's function.
inflate SIZE: (_python "numpy safetensors")
    #!/usr/bin/env bash
    set -euo pipefail
    out={{inflated}}/{{SIZE}}
    if [ ! -f "$out/model.safetensors" ]; then
        rm -rf "$out.partial"
        target/python/bin/python tools/inflate.py {{nano}} "$out.partial" --size {{SIZE}}
        mv "$out.partial" "$out"
    fi
    # The goldens belong to one checkpoint: make sure that this is it.
    sums={{fixtures}}/golden-{{SIZE}}/SHA256
    if [ -f "$sums" ]; then (cd "$out" && sha256sum --check "{{justfile_directory()}}/$sums"); fi

# Make the goldens again with openai/whisper: a download of about 1 GB, ffmpeg on the PATH, half an hour.
golden: (_python "-r tools/requirements.txt") (inflate "tiny") (inflate "turbo") (published "base")
    #!/usr/bin/env bash
    set -euo pipefail
    python=target/python/bin/python
    golden() { # HF_FOLDER OUT_FOLDER [OPTIONS]
        $python tools/hf2openai.py "$1" target/golden.pt
        $python tools/dump_golden.py target/golden.pt {{fixtures}}/audio {{fixtures}}/"$2" "${@:3}"
        rm target/golden.pt
    }
    $python tools/dump_normalized.py {{fixtures}}/normalize/golden.jsonl
    golden models/nano golden --tensors synth-en-00,real-digits-0
    golden {{inflated}}/tiny golden-tiny --quick
    golden {{inflated}}/turbo golden-turbo --quick --only {{turbo_clips}}
    # People's speech: the English clips have no language but English in their names.
    golden models/tiny.en golden-tiny.en --quick --heads tiny.en --only jfk,real-cvdelta,real-digits,real-k,real-l,real-pauses,real-speech
    golden {{published}}/base golden-base --quick --heads base --only jfk,real-
    for size in tiny turbo; do
        (cd {{inflated}}/$size && sha256sum model.safetensors) > {{fixtures}}/golden-$size/SHA256
    done

# Make the captions of words, and what the rules about words give, again with openai/whisper's own code.
golden-words: (_python "-r tools/requirements.txt")
    target/python/bin/python {{fixtures}}/output/make_words.py
    target/python/bin/python {{fixtures}}/words/make.py

# Make the weights of Silero VAD again from its package, and the tests' goldens with onnxruntime and faster-whisper.
golden-vad: (_python "numpy safetensors soundfile onnx onnxruntime")
    target/python/bin/pip install --quiet --no-deps silero-vad==6.2.3 faster-whisper==1.2.1
    target/python/bin/python tools/silero.py crates/overhear/src/vad {{fixtures}}/audio {{fixtures}}/vad

# A virtual environment with pinned Python packages.
_python *PACKAGES:
    [ -x target/python/bin/pip ] || {{python}} -m venv target/python
    target/python/bin/pip install --quiet --constraint tools/requirements.txt {{PACKAGES}}

# Fuzz TARGET (audio_bytes, model_file, tokenizer_json) for SECONDS.
fuzz TARGET SECONDS="60" *ARGS: fuzz-build (_fuzz-seeds TARGET)
    cd fuzz && mkdir -p artifacts && target/$(rustc --print host-tuple)/release/{{TARGET}} corpus/{{TARGET}} \
        -max_total_time={{SECONDS}} -max_len=65536 -timeout=10 -rss_limit_mb=1024 \
        -artifact_prefix=artifacts/{{TARGET}}- {{ARGS}}

# Build the fuzz targets. fuzz/.cargo/config.toml has the coverage flags.
fuzz-build:
    cd fuzz && CARGO_TARGET_DIR=target cargo build --release --target $(rustc --print host-tuple)

# Inputs to begin with: the heads of the fixtures, and one of each layout that the targets know.
_fuzz-seeds TARGET:
    #!/usr/bin/env bash
    set -euo pipefail
    corpus=fuzz/corpus/{{TARGET}}
    mkdir -p "$corpus"
    case {{TARGET}} in
    audio_bytes)
        find clips {{fixtures}} -type f -size -2M ! -name '*.json*' ! -name '*.safetensors' ! -name '*.md' ! -name SHA256 |
            while read -r file; do head -c 12288 "$file" > "$corpus/$(basename "$file")"; done ;;
    model_file)
        # File, whole or splice, position, bytes removed, new bytes: see fuzz_targets/model_file.rs.
        for file in '\0' '\1' '\3' '\4' '\5' '\6' '\7' '\10' '\11' '\12' '\13'; do
            printf "$file"'\1\0\0\0\0\0\0' > "$corpus/valid-$(printf "$file" | od -An -tu1 | tr -d ' ')"
        done
        printf '\2\2\0\0\0\0\0\0\0{}' > "$corpus/empty-header"
        printf '\0\0{"model_type":"whisper","d_model":64}' > "$corpus/config" ;;
    tokenizer_json)
        for file in '\0' '\1' '\100' '\200'; do
            printf "$file"'\1\0\0\0\0\0\0' > "$corpus/valid-$(printf "$file" | od -An -tu1 | tr -d ' ')"
        done
        printf '\0\0{"a":0,"\304\240b":1}' > "$corpus/vocab"
        printf '\1\0{"model":{"vocab":{"a":0}}}' > "$corpus/tokenizer" ;;
    esac

# People's speech under other conditions, target/corpus, for `rounding`: 100 MB, a minute.
corpus: (_python "numpy soundfile")
    target/python/bin/python tools/speech_corpus.py {{shared}}/audio target/corpus

# What rounding costs: word error rates of compute types on target/corpus, set by set; `just rounding base f32,bf16,int8`.
# Previous text and fallback would amplify small differences. English-only models transcribe the English files.
rounding MODEL TYPES="f32,f16,bf16,int8,int8_float32,int8_bfloat16,q5,q4":
    #!/usr/bin/env bash
    set -euo pipefail
    manifest=target/corpus/manifest.jsonl
    case {{MODEL}} in *.en*)
        grep '"lang": "en' $manifest > target/corpus/english.jsonl
        manifest=target/corpus/english.jsonl ;;
    esac
    cargo run --release --locked --package overhear-cli -- eval --model {{MODEL}} --compute_types {{TYPES}} --beam_size None \
        --temperature_increment_on_fallback None --condition_on_previous_text False $manifest
