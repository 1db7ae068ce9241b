//! Divergence of the faster compute types from f32, token by token: unlike word error rates, it is hardly affected by
//! near ties.
//!
//! `cargo run --release --example divergence -- MODEL_FOLDER CLIP..`: each type is given the tokens that f32 decodes in
//! windows of 30 s. The output is the mean Kullback-Leibler divergence of the type's distributions from those of f32,
//! with the standard error over windows, and the share of positions at which another token is the most probable; *where
//! sure* counts only positions at which the most probable token of f32 leads the second by 0.2 nats.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::error::Error;

use overhear::decode::{DecodingOptions, Session, log_mel_spectrogram};
use overhear::tokenizer::TokenId;
use overhear::{Audio, ComputeType, Language, Model, ModelOptions, Task};

const TYPES: [ComputeType; 7] = [
    ComputeType::F16,
    ComputeType::Bf16,
    ComputeType::Int8,
    ComputeType::Int8Float32,
    ComputeType::Int8Bfloat16,
    ComputeType::Q5,
    ComputeType::Q4,
];
/// Number of samples of a window, and of the shortest window that is compared.
const WINDOW: usize = 30 * 16_000;
const SHORTEST: usize = 5 * 16_000;
/// Lead from which a token of f32 counts as sure, in nats.
const SURE: f64 = 0.2;

/// Sums of one type.
#[derive(Default)]
struct Sums {
    /// Sum of divergences and number of positions of each window.
    windows: Vec<(f64, usize)>,
    n_flips: usize,
    n_sure_flips: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((folder, clips)) = arguments
        .split_first()
        .filter(|(_, clips)| !clips.is_empty())
    else {
        return Err("usage: divergence MODEL_FOLDER CLIP..".into());
    };
    let open = |compute_type| {
        let options = ModelOptions {
            compute_type,
            ..ModelOptions::default()
        };
        Model::open(folder, &options)
    };
    let exact = open(ComputeType::F32)?;
    let models = TYPES.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let mut sums: Vec<Sums> = TYPES.iter().map(|_| Sums::default()).collect();
    for clip in clips {
        for samples in Audio::open(clip)?.samples()?.chunks(WINDOW) {
            if samples.len() >= SHORTEST {
                let mut window = samples.to_vec();
                window.resize(WINDOW, 0.0);
                compare(&exact, &models, &window, &mut sums)?;
            }
        }
    }
    println!("type           divergence  +-        other token  where sure  tokens");
    for (compute_type, sums) in TYPES.iter().zip(&sums) {
        let n: usize = sums.windows.iter().map(|(_, n)| n).sum();
        let mean = sums.windows.iter().map(|(sum, _)| sum).sum::<f64>() / n as f64;
        let deviation = |&(sum, n): &(f64, usize)| (sum - mean * n as f64).powi(2);
        let error = sums.windows.iter().map(deviation).sum::<f64>().sqrt() / n as f64;
        let percent = |count: usize| 100.0 * count as f64 / n as f64;
        println!(
            "{:<14} {mean:.6}    {error:.6}  {:>9.2} %  {:>8.2} %  {n}",
            compute_type.name(),
            percent(sums.n_flips),
            percent(sums.n_sure_flips),
        );
    }
    Ok(())
}

/// Adds the comparison of all `models` with `exact` on one window to `sums`.
fn compare(
    exact: &Model,
    models: &[Model],
    samples: &[f32],
    sums: &mut [Sums],
) -> Result<(), Box<dyn Error>> {
    let mel = log_mel_spectrogram(samples, exact.dims().n_mels, 0);
    let mut reference = exact.session(1)?;
    reference.encode(&mel)?;
    let options = DecodingOptions {
        language: Some(Language::ENGLISH),
        ..DecodingOptions::default()
    };
    let tokens = reference.decode(&options)?.tokens;
    reference.truncate(0, 0);
    let sessions = models.iter().map(|model| model.session(1));
    let mut sessions: Vec<Session> = sessions.collect::<Result<_, _>>()?;
    for (session, sums) in sessions.iter_mut().zip(&mut *sums) {
        session.encode(&mel)?;
        sums.windows.push((0.0, 0));
    }
    let sot = exact
        .tokenizer()
        .sot_sequence(Language::ENGLISH, Task::Transcribe);
    let fed: Vec<TokenId> = sot.iter().chain(&tokens).copied().collect();
    for (position, token) in fed.iter().enumerate() {
        let p = log_probabilities(reference.step(&[*token])?);
        let (first, lead) = likeliest(&p);
        for (session, sums) in sessions.iter_mut().zip(&mut *sums) {
            let q = log_probabilities(session.step(&[*token])?);
            // The tokens of the prompt are given, not predicted.
            if position + 1 < sot.len() {
                continue;
            }
            let divergence: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
            if let Some((sum, n)) = sums.windows.last_mut() {
                (*sum, *n) = (*sum + divergence, *n + 1);
            }
            if likeliest(&q).0 != first {
                sums.n_flips += 1;
                sums.n_sure_flips += usize::from(lead > SURE);
            }
        }
    }
    Ok(())
}

fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().fold(f32::NEG_INFINITY, |max, x| max.max(*x));
    let terms = logits.iter().map(|x| f64::from(x - max).exp());
    let log_sum = f64::from(max) + terms.sum::<f64>().ln();
    logits.iter().map(|x| f64::from(*x) - log_sum).collect()
}

/// Returns the most probable token, and its lead over the second.
fn likeliest(log_probabilities: &[f64]) -> (usize, f64) {
    let (mut first, mut second) = ((0, f64::NEG_INFINITY), f64::NEG_INFINITY);
    for (token, &p) in log_probabilities.iter().enumerate() {
        if p > first.1 {
            (first, second) = ((token, p), first.1);
        } else {
            second = second.max(p);
        }
    }
    (first.0, first.1 - second)
}
