//! The kernels at Whisper's real shapes, as shares of what this machine can do.
//!
//! `cargo bench -p overhear-kernels [-- WORD..]`: only lines that contain all the words. `OVERHEAR_BENCH_THREADS`
//! is a list of thread counts (default: 1 and all cores). The limits are measured in the same run, beside the
//! kernel: arithmetic by independent fused multiply-adds in registers, memory by a plain sum over the same bytes.
//! Each figure is the median of 7 runs of at least 20 ms.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use half::f16;
use overhear_kernels::{
    AttentionShape, Dtype, Isa, Kernels, Matrix, MatrixData, Output, PackedActivations, PackedKv,
    Packing, Pool, PostOp, QuantizedKv, Rows, Source, Storage, StoredMatrix, probe,
};

const MODELS: &[(&str, usize, usize, usize)] = &[
    ("tiny", 384, 6, 51865),
    ("base", 512, 8, 51865),
    ("small", 768, 12, 51865),
    ("turbo", 1280, 20, 51866),
];
/// Audio positions of a window.
const N_AUDIO: usize = 1500;
/// Weights are taken in turn from so many bytes, as a decoder step does, so that no cache holds them.
const MEMORY: usize = 256 << 20;
const RUNS: usize = 7;
const RUN_SECONDS: f64 = 0.02;

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let threads = std::env::var("OVERHEAR_BENCH_THREADS").map_or_else(
        |_| vec![1, Pool::default_threads()],
        |list| {
            list.split(',')
                .map(|n| n.parse().expect("a list of thread counts"))
                .collect()
        },
    );
    println!(
        "{:8} {:>7}  {:38} {:>10}  {:>8}  {:>6}  limit",
        "set", "threads", "kernel", "us", "rate", "share"
    );
    for &isa in Isa::ALL.iter().filter(|&&isa| isa != Isa::Scalar) {
        let Some(kernels) = Kernels::new(isa) else {
            println!("{:8} not on this machine", isa.name());
            continue;
        };
        for &n in &threads {
            let bench = Bench {
                kernels,
                pool: Pool::new(n),
                words: &words,
            };
            if words
                .iter()
                .all(|word| "fork and join".contains(word.as_str()))
            {
                let micros = 1e6 * probe::fork_join(&bench.pool);
                println!(
                    "{:8} {n:>7}  {:38} {micros:10.2}",
                    isa.name(),
                    "fork and join"
                );
            }
            MODELS.iter().for_each(|model| bench.model(model));
            for packing in [Packing::Bf16, Packing::Int8] {
                if kernels.is_native(packing) {
                    let peak = match packing {
                        Packing::Bf16 => probe::bf16_dot(isa, &bench.pool),
                        Packing::Int8 => probe::int8_dot(isa, &bench.pool),
                    };
                    let peak = peak.unwrap_or(f64::NAN);
                    MODELS
                        .iter()
                        .for_each(|model| bench.packed(model, packing, peak));
                } else {
                    println!("{:8} no instructions for {packing:?}", isa.name());
                }
            }
        }
    }
}

struct Bench<'a> {
    kernels: Kernels,
    pool: Pool,
    words: &'a [String],
}

impl Bench<'_> {
    fn model(&self, &(model, n_state, n_head, n_vocab): &(&str, usize, usize, usize)) {
        let peak = std::cell::LazyCell::new(|| {
            probe::f32_fma(self.kernels.isa(), &self.pool).unwrap_or(f64::NAN)
        });
        for (what, n_out, n_in, post_op) in [
            ("qkv", 3 * n_state, n_state, PostOp::Store),
            ("attn out", n_state, n_state, PostOp::Add),
            ("mlp in", 4 * n_state, n_state, PostOp::Gelu),
            ("mlp out", n_state, 4 * n_state, PostOp::Add),
        ] {
            self.report(
                format!("{model} encoder {what} {N_AUDIO}x{n_out}x{n_in}"),
                |_| {
                    let w = self.stored(n_out, n_in, 1);
                    let x = ramp(N_AUDIO * n_in);
                    let bias = vec![0.1; n_out];
                    let mut y = vec![0.0; N_AUDIO * n_out];
                    let x = Rows {
                        data: &x,
                        stride: n_in,
                    };
                    let seconds = median(|_| {
                        self.kernels
                            .linear(&self.pool, &mut y, x, &w[0], Some(&bias), post_op)
                    });
                    Figure::arithmetic(seconds, 2 * N_AUDIO * n_out * n_in, *peak)
                },
            );
        }
        self.report(
            format!("{model} encoder attention {N_AUDIO}x{N_AUDIO}x{n_head}"),
            |_| {
                let seconds = self.attention(
                    n_state,
                    n_head,
                    N_AUDIO,
                    3 * n_state,
                    &[ramp(3 * N_AUDIO * n_state)],
                );
                Figure::arithmetic(seconds, 4 * N_AUDIO * N_AUDIO * n_state, *peak)
            },
        );
        for n in [1, 5] {
            self.report(
                format!("{model} decoder cross attention {n}x{N_AUDIO}x{n_head}"),
                |_| {
                    let bytes = 2 * 4 * N_AUDIO * n_state;
                    let buffers: Vec<_> = (0..MEMORY / bytes)
                        .map(|_| ramp(3 * N_AUDIO * n_state))
                        .collect();
                    let seconds = self.attention(n_state, n_head, n, n_state, &buffers);
                    Figure::memory(seconds, bytes, self.read_rate(&buffers, bytes))
                },
            );
            self.report(
                format!("{model} decoder cross attention {n}x{N_AUDIO}x{n_head} f16"),
                |_| {
                    let bytes = 2 * 2 * N_AUDIO * n_state;
                    let buffers: Vec<_> = (0..MEMORY / bytes).map(|_| ramp(bytes / 4)).collect();
                    let seconds = self.attention_f16(n_state, n_head, n, MEMORY / bytes);
                    Figure::memory(seconds, bytes, self.read_rate(&buffers, bytes))
                },
            );
        }
        for (what, n_out, n_in) in [
            ("qkv", 3 * n_state, n_state),
            ("attn out", n_state, n_state),
            ("mlp in", 4 * n_state, n_state),
            ("mlp out", n_state, 4 * n_state),
            ("logits", n_vocab, n_state),
        ] {
            for n in [1, 5] {
                self.report(
                    format!("{model} decoder {what} {n}x{n_out}x{n_in} f16"),
                    |_| {
                        let bytes = 2 * n_out * n_in;
                        let w = self.stored(n_out, n_in, MEMORY.div_ceil(bytes));
                        let x = ramp(n * n_in);
                        let bias = vec![0.1; n_out];
                        let mut y = vec![0.0; n * n_out];
                        let x = Rows {
                            data: &x,
                            stride: n_in,
                        };
                        let seconds = median(|i| {
                            let w = &w[i % w.len()];
                            self.kernels.linear(
                                &self.pool,
                                &mut y,
                                x,
                                w,
                                Some(&bias),
                                PostOp::Store,
                            );
                        });
                        let buffers: Vec<_> = (0..w.len()).map(|_| ramp(bytes / 4)).collect();
                        Figure::memory(seconds, bytes, self.read_rate(&buffers, bytes))
                    },
                );
            }
        }
    }

    /// Copies of a layer's weights, in f16.
    fn stored(&self, n_out: usize, n_in: usize, n: usize) -> Vec<StoredMatrix> {
        let w = weights(n_out, n_in);
        vec![
            self.kernels
                .store_weights(&self.pool, &w, Storage::Float(Dtype::F16));
            n
        ]
    }

    /// The linear layers in `packing`, and attention in bfloat16.
    fn packed(
        &self,
        &(model, n_state, n_head, n_vocab): &(&str, usize, usize, usize),
        packing: Packing,
        peak: f64,
    ) {
        let (kernels, pool) = (&self.kernels, &self.pool);
        let name = format!("{packing:?}").to_lowercase();
        for (what, n_out, n_in, post_op) in [
            ("qkv", 3 * n_state, n_state, PostOp::Store),
            ("attn out", n_state, n_state, PostOp::Add),
            ("mlp in", 4 * n_state, n_state, PostOp::Gelu),
            ("mlp out", n_state, 4 * n_state, PostOp::Add),
            ("logits", n_vocab, n_state, PostOp::Store),
        ] {
            let is_encoders = what != "logits";
            for n in [N_AUDIO, 1, 5, 32] {
                if n == N_AUDIO && !is_encoders {
                    continue;
                }
                let line = format!("{model} {name} {what} {n}x{n_out}x{n_in}");
                self.report(line, |_| {
                    let w = kernels.pack_weights(pool, &weights(n_out, n_in), packing);
                    let bytes = w.n_bytes();
                    let copies = if n == N_AUDIO {
                        1
                    } else {
                        MEMORY.div_ceil(bytes)
                    };
                    let w = vec![w; copies];
                    let (x, bias) = (ramp(n * n_in), vec![0.1; n_out]);
                    let mut rows = PackedActivations::new(packing, n, n_in);
                    let source = Source::F32(Rows {
                        data: &x,
                        stride: n_in,
                    });
                    kernels.pack_rows(pool, &mut rows, source, (n, n_in), None);
                    let mut y = vec![0.0; n * n_out];
                    let mut rounded = PackedActivations::new(Packing::Bf16, n, n_out);
                    let seconds = median(|i| {
                        let y = match post_op {
                            // As the network has it: the encoder's queries, keys and values are rounded.
                            PostOp::Gelu => Output::Bf16(&mut rounded, 0),
                            PostOp::Store if n == N_AUDIO => Output::Bf16(&mut rounded, 0),
                            _ => Output::F32(&mut y),
                        };
                        let w = &w[i % copies];
                        kernels.linear_packed(pool, y, rows.rows(), n, w, Some(&bias), post_op);
                    });
                    if n == N_AUDIO {
                        Figure::arithmetic(seconds, 2 * n * n_out * n_in, peak)
                    } else {
                        let buffers: Vec<_> = (0..copies).map(|_| ramp(bytes / 4)).collect();
                        Figure::memory(seconds, bytes, self.read_rate(&buffers, bytes))
                    }
                });
            }
        }
        match packing {
            Packing::Bf16 => self.packed_attention(model, n_state, n_head, peak),
            Packing::Int8 => self.byte_attention(model, n_state, n_head),
        }
    }

    fn byte_attention(&self, model: &str, n_state: usize, n_head: usize) {
        let (kernels, pool) = (&self.kernels, &self.pool);
        for n in [1, 5] {
            let line = format!("{model} int8 attention {n}x{N_AUDIO}x{n_head}");
            self.report(line, |_| {
                let x = ramp(N_AUDIO * 2 * n_state);
                let mut rows = PackedActivations::new(Packing::Bf16, N_AUDIO, 2 * n_state);
                let source = Source::F32(Rows {
                    data: &x,
                    stride: 2 * n_state,
                });
                kernels.pack_rows(pool, &mut rows, source, (N_AUDIO, 2 * n_state), None);
                let part = |i: usize| rows.columns(i * n_state, n_state);
                let mut kv = QuantizedKv::new(n_head, n_state / n_head, N_AUDIO);
                kernels.quantize_kv(pool, &mut kv, part(0), part(1));
                let bytes = kv.n_bytes();
                let copies = MEMORY / bytes;
                let kv = vec![kv; copies];
                let mut out = vec![0.0; n * n_state];
                let seconds = median(|i| {
                    let kv = &kv[i % copies];
                    kernels.attention_int8(pool, &mut out, &x[..n * n_state], kv);
                });
                let buffers: Vec<_> = (0..copies).map(|_| ramp(bytes / 4)).collect();
                Figure::memory(seconds, bytes, self.read_rate(&buffers, bytes))
            });
        }
    }

    fn packed_attention(&self, model: &str, n_state: usize, n_head: usize, peak: f64) {
        let (kernels, pool) = (&self.kernels, &self.pool);
        for n in [N_AUDIO, 1, 5] {
            let line = format!("{model} bf16 attention {n}x{N_AUDIO}x{n_head}");
            self.report(line, |_| {
                let x = ramp(N_AUDIO * 3 * n_state);
                let mut qkv = PackedActivations::new(Packing::Bf16, N_AUDIO, 3 * n_state);
                let source = Source::F32(Rows {
                    data: &x,
                    stride: 3 * n_state,
                });
                kernels.pack_rows(pool, &mut qkv, source, (N_AUDIO, 3 * n_state), None);
                let part = |i: usize| qkv.columns(i * n_state, n_state);
                let mut kv = PackedKv::new(n_head, n_state / n_head, N_AUDIO);
                kernels.pack_kv(pool, &mut kv, part(1), part(2));
                let bytes = kv.n_bytes();
                let copies = if n == N_AUDIO { 1 } else { MEMORY / bytes };
                let kv = vec![kv; copies];
                let mut out = PackedActivations::new(Packing::Bf16, n, n_state);
                let seconds = median(|i| {
                    let kv = &kv[i % copies];
                    kernels.attention_bf16(pool, (&mut out, 0), (part(0), n), kv);
                });
                if n == N_AUDIO {
                    Figure::arithmetic(seconds, 4 * N_AUDIO * N_AUDIO * n_state, peak)
                } else {
                    let buffers: Vec<_> = (0..copies).map(|_| ramp(bytes / 4)).collect();
                    Figure::memory(seconds, bytes, self.read_rate(&buffers, bytes))
                }
            });
        }
    }

    /// Seconds of one attention on `buffers` in turn: fused rows of q, k and v, or keys followed by values.
    fn attention(
        &self,
        n_state: usize,
        n_head: usize,
        n_query: usize,
        stride: usize,
        buffers: &[Vec<f32>],
    ) -> f64 {
        let head_dim = n_state / n_head;
        let shape = AttentionShape {
            n_head,
            head_dim,
            n_query,
            n_key: N_AUDIO,
            causal: false,
            block: 0,
        };
        let starts = if stride == n_state {
            [0, 0, N_AUDIO * n_state]
        } else {
            [0, n_state, 2 * n_state]
        };
        let mut out = vec![0.0; n_query * n_state];
        median(|i| {
            let [q, k, v] = starts.map(|start| Rows {
                data: &buffers[i % buffers.len()][start..],
                stride,
            });
            self.kernels
                .attention(&self.pool, &mut out, q, k, v, &shape);
        })
    }

    /// Seconds of one cross-attention on the keys and values of `n_windows` windows in turn, in f16.
    fn attention_f16(
        &self,
        n_state: usize,
        n_head: usize,
        n_query: usize,
        n_windows: usize,
    ) -> f64 {
        let shape = AttentionShape {
            n_head,
            head_dim: n_state / n_head,
            n_query,
            n_key: N_AUDIO,
            causal: false,
            block: 0,
        };
        let halves = ramp(2 * N_AUDIO * n_state).into_iter().map(f16::from_f32);
        let windows = vec![halves.collect::<Vec<_>>(); n_windows];
        let q = ramp(n_query * n_state);
        let q = Rows {
            data: &q,
            stride: n_state,
        };
        let mut out = vec![0.0; n_query * n_state];
        median(|i| {
            let (k, v) = windows[i % n_windows].split_at(N_AUDIO * n_state);
            self.kernels
                .attention_f16(&self.pool, &mut out, q, k, v, &shape);
        })
    }

    /// Bytes per second of plain reads of `bytes` from each of `buffers` in turn, split evenly over the threads.
    fn read_rate(&self, buffers: &[Vec<f32>], bytes: usize) -> f64 {
        let (total, n) = (AtomicU64::new(0), self.pool.n_threads() * 4);
        let seconds = median(|i| {
            let buffer = &buffers[i % buffers.len()][..bytes / 4];
            self.pool.run(n, &|task| {
                let part = &buffer[task * buffer.len() / n..(task + 1) * buffer.len() / n];
                total.fetch_add(plain_read(part), Ordering::Relaxed);
            });
        });
        black_box(total);
        bytes as f64 / seconds
    }

    fn report(&self, kernel: String, measure: impl FnOnce(&Self) -> Figure) {
        let (set, threads) = (self.kernels.isa().name(), self.pool.n_threads());
        let line = format!("{set:8} {threads:>7}  {kernel:38}");
        if self.words.iter().all(|word| line.contains(word.as_str())) {
            let Figure {
                seconds,
                rate,
                limit,
                unit,
            } = measure(self);
            let (micros, share) = (1e6 * seconds, 100.0 * rate / limit);
            println!(
                "{line} {micros:10.1}  {:8.1}  {share:5.0}%  {:.1} {unit}",
                rate / 1e9,
                limit / 1e9
            );
        }
    }
}

/// A time, a rate and the machine's limit of that rate, per second.
struct Figure {
    seconds: f64,
    rate: f64,
    limit: f64,
    unit: &'static str,
}

impl Figure {
    fn arithmetic(seconds: f64, flops: usize, peak: f64) -> Self {
        Self {
            seconds,
            rate: flops as f64 / seconds,
            limit: peak,
            unit: "GFLOP/s",
        }
    }

    fn memory(seconds: f64, bytes: usize, limit: f64) -> Self {
        Self {
            seconds,
            rate: bytes as f64 / seconds,
            limit,
            unit: "GB/s",
        }
    }
}

/// Seconds of one call, the median of the runs; `f` gets the number of the call.
fn median(mut f: impl FnMut(usize)) -> f64 {
    let mut calls = 0;
    let mut run = |n: usize| {
        let start = Instant::now();
        (calls..calls + n).for_each(&mut f);
        calls += n;
        start.elapsed().as_secs_f64() / n as f64
    };
    let first = run(1).min(run(1));
    let n = (RUN_SECONDS / first).ceil().max(1.0) as usize;
    let mut seconds: Vec<f64> = (0..RUNS).map(|_| run(n)).collect();
    seconds.sort_by(f64::total_cmp);
    seconds[RUNS / 2]
}

fn ramp(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i % 97) as f32 / 97.0 - 0.5).collect()
}

fn weights(n_out: usize, n_in: usize) -> Matrix {
    let data = ramp(n_out * n_in).into_iter().map(f16::from_f32);
    Matrix::new(n_out, n_in, MatrixData::F16(data.collect()))
}

/// The sum of the words of a buffer, by the widest loads of the machine.
fn plain_read(data: &[f32]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn wide(data: &[f32]) -> u64 {
            sum(data)
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: detected above.
            return unsafe { wide(data) };
        }
    }
    sum(data)
}

#[inline(always)]
fn sum(data: &[f32]) -> u64 {
    let words = data
        .iter()
        .map(|x| x.to_bits())
        .fold(0u32, u32::wrapping_add);
    u64::from(words)
}
