//! What the seam promises, on the bundled model.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use overhear_kernels::{Dtype, Kernels, Pool, Storage, StoredMatrix};

use super::format::{Formats, Network};
use super::read::Reader;
use crate::backend::{AlignmentRequest, Backend, Batch, Capacity, Parts, State};
use crate::checkpoint::Checkpoint;
use crate::host::Host;
use crate::mel::MelWindow;
use crate::{ComputeType, Error, LogMel, TokenId};

/// Attention sums in another order when queries share a pass over the keys; logits are of the order of 10.
const TOLERANCE: f32 = 1e-4;

const COMPUTE_TYPES: [ComputeType; 8] = [
    ComputeType::F32,
    ComputeType::F16,
    ComputeType::Bf16,
    ComputeType::Int8,
    ComputeType::Int8Float32,
    ComputeType::Int8Bfloat16,
    ComputeType::Q5,
    ComputeType::Q4,
];

/// Start of transcript, English, transcribe, no timestamps, and some text.
const TOKENS: [TokenId; 9] = [50258, 50259, 50359, 50363, 440, 3440, 307, 322, 7776];

fn backend() -> Box<dyn Backend> {
    backend_of(ComputeType::F32)
}

/// The backend of a compute type.
fn backend_of(compute_type: ComputeType) -> Box<dyn Backend> {
    open(&nano(), compute_type, 2)
}

fn nano() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano")
}

fn host(n_threads: usize) -> Host {
    Host {
        kernels: Kernels::detect(),
        pool: Arc::new(Pool::new(n_threads)),
    }
}

fn open(folder: &Path, compute_type: ComputeType, n_threads: usize) -> Box<dyn Backend> {
    let checkpoint = Checkpoint::open(folder).expect("a model");
    let host = host(n_threads);
    super::open(
        &checkpoint,
        checkpoint.dims(),
        Parts::All,
        compute_type,
        &host,
    )
    .expect("a model")
}

/// Every compute type.
fn backends() -> impl Iterator<Item = Box<dyn Backend>> {
    COMPUTE_TYPES.into_iter().map(backend_of)
}

/// Something that is no speech, another for every `seed`.
fn mel(seed: usize) -> MelWindow {
    let value = |i: usize| ((i * (seed + 3)) as f32 * 0.37).sin();
    let mel = LogMel {
        n_mels: 80,
        n_frames: 3000,
        data: (0..80 * 3000).map(value).collect(),
    };
    MelWindow::of(&mel, 80).expect("a window")
}

fn encode(state: &mut dyn State, slot: usize, seed: usize) {
    let goes_on = &mut || ControlFlow::Continue(());
    let encoded = state.encode(&[(slot, &mel(seed))], goes_on);
    encoded.expect("room for the window");
}

/// A state of `n_slots` windows and `n_rows` rows, every slot encoded.
fn state(backend: &dyn Backend, n_slots: usize, n_rows: usize) -> Box<dyn State> {
    let mut state = empty_state(backend, n_slots, n_rows);
    for slot in 0..n_slots {
        encode(&mut *state, slot, slot);
    }
    state
}

/// The same, no slot encoded.
fn empty_state(backend: &dyn Backend, n_slots: usize, n_rows: usize) -> Box<dyn State> {
    let capacity = Capacity {
        slots: n_slots,
        rows: n_rows,
        tokens: 448,
        logits: n_rows + 1,
    };
    backend.new_state(capacity).expect("memory")
}

/// A state of one window and one row.
fn new_state(backend: &dyn Backend) -> Box<dyn State> {
    state(backend, 1, 1)
}

fn decode(state: &mut dyn State, rows: &[(usize, usize, &[TokenId])]) -> Vec<f32> {
    let mut batch = Batch::default();
    for (row, slot, tokens) in rows {
        batch.push(*row, *slot, tokens, &[tokens.len() - 1]);
    }
    state.decode(&batch).expect("room for the batch").to_vec()
}

fn assert_close(found: &[f32], expected: &[f32]) {
    let worst = found
        .iter()
        .zip(expected)
        .map(|(f, e)| (f - e).abs())
        .fold(0.0, f32::max);
    assert!(
        found.len() == expected.len() && worst < TOLERANCE,
        "{worst}"
    );
}

#[test]
fn a_prompt_at_once_equals_its_tokens_one_by_one() {
    let backend = backend();
    let mut state = state(&*backend, 1, 2);
    let at_once = decode(&mut *state, &[(0, 0, &TOKENS)]);
    let mut last = Vec::new();
    for token in TOKENS {
        last = decode(&mut *state, &[(1, 0, &[token])]);
    }
    assert_close(&last, &at_once);
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    backends().for_each(|backend| check_independence(&*backend));
}

fn check_independence(backend: &dyn Backend) {
    let n_vocab = 51865;
    let mut alone = state(backend, 2, 3);
    let expected: Vec<Vec<f32>> = [
        (0, 0, &TOKENS[..]),
        (1, 1, &TOKENS[..4]),
        (2, 0, &TOKENS[..6]),
    ]
    .iter()
    .map(|row| decode(&mut *alone, &[*row]))
    .collect();
    let mut together = state(backend, 2, 3);
    let found = decode(
        &mut *together,
        &[(2, 0, &TOKENS[..6]), (0, 0, &TOKENS), (1, 1, &TOKENS[..4])],
    );
    for (found, row) in found.chunks(n_vocab).zip([2, 0, 1]) {
        assert_eq!(found, expected[row], "row {row}");
    }
    // And a step further, one of them idle.
    let next = decode(&mut *together, &[(0, 0, &[11]), (2, 0, &[13])]);
    assert_eq!(next[..n_vocab], decode(&mut *alone, &[(0, 0, &[11])]));
    assert_eq!(next[n_vocab..], decode(&mut *alone, &[(2, 0, &[13])]));
}

#[test]
fn rearranged_rows_go_on_from_the_same_prompt_and_truncate_forgets() {
    let backend = backend();
    let mut state = state(&*backend, 1, 3);
    decode(&mut *state, &[(0, 0, &TOKENS)]);
    state.rearrange(&[0, 0, 0]);
    let next = decode(&mut *state, &[(0, 0, &[11]), (1, 0, &[11]), (2, 0, &[13])]);
    let rows: Vec<&[f32]> = next.chunks(51865).collect();
    assert_eq!(rows[0], rows[1]);
    assert_ne!(rows[0], rows[2]);
    state.truncate(2, TOKENS.len());
    assert_eq!(decode(&mut *state, &[(2, 0, &[11])]), rows[0]);
}

/// Rows that were rearranged many times, against rows that were given their tokens alone: swaps, rows that go on from
/// one, from each other, and from one given up before; rows of several lengths beside them.
#[test]
fn rearranged_rows_hold_what_their_sources_held() {
    const ROWS: usize = 5;
    let backend = backend();
    let mut state = state(&*backend, 1, ROWS + 1);
    let mut texts: Vec<Vec<TokenId>> = vec![TOKENS[..4].to_vec(); ROWS];
    decode(&mut *state, &[(0, 0, &TOKENS[..4])]);
    state.rearrange(&[0; ROWS]);
    decode(&mut *state, &[(ROWS, 0, &TOKENS)]);
    let mut random = 1u64;
    let mut below = |n: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) as usize % n
    };
    for step in 0..40 {
        let next: Vec<[TokenId; 1]> = (0..ROWS).map(|_| [below(5000) as TokenId]).collect();
        let rows: Vec<(usize, usize, &[TokenId])> = next
            .iter()
            .enumerate()
            .map(|(i, t)| (i, 0, &t[..]))
            .collect();
        decode(&mut *state, &rows);
        texts
            .iter_mut()
            .zip(&next)
            .for_each(|(text, token)| text.extend(token));
        let source: Vec<usize> = match step % 8 {
            0 => vec![1, 0, 2, 4, 3],
            1 => vec![4; ROWS],
            2 => (0..ROWS).collect(),
            3 => vec![2, 2, 0, 0, 1],
            _ => (0..ROWS).map(|_| below(ROWS)).collect(),
        };
        state.rearrange(&source);
        texts = source.iter().map(|&row| texts[row].clone()).collect();
        if step % 10 == 7 {
            state.truncate(step % ROWS, 6);
            texts[step % ROWS].truncate(6);
        }
    }
    let mut alone = new_state(&*backend);
    for (row, text) in texts.iter().enumerate() {
        alone.truncate(0, 0);
        decode(&mut *alone, &[(0, 0, &text[..4])]);
        for token in &text[4..] {
            decode(&mut *alone, &[(0, 0, &[*token])]);
        }
        let expected = decode(&mut *alone, &[(0, 0, &[11])]);
        assert_eq!(
            decode(&mut *state, &[(row, 0, &[11])]),
            expected,
            "row {row}"
        );
    }
    alone.truncate(0, 0);
    decode(&mut *alone, &[(0, 0, &TOKENS)]);
    let expected = decode(&mut *alone, &[(0, 0, &[11])]);
    assert_eq!(
        decode(&mut *state, &[(ROWS, 0, &[11])]),
        expected,
        "row beside"
    );
}

#[test]
fn every_position_works() {
    backends().for_each(|backend| check_positions(&*backend));
}

fn check_positions(backend: &dyn Backend) {
    let mut state = state(backend, 1, 1);
    for position in 0..448 {
        let logits = decode(&mut *state, &[(0, 0, &[TOKENS[position % TOKENS.len()]])]);
        assert!(
            logits.iter().all(|logit| logit.is_finite()),
            "position {position}"
        );
    }
}

#[test]
fn what_exceeds_the_capacity_is_an_error_and_changes_nothing() {
    let backend = backend();
    let mut state = state(&*backend, 1, 2);
    let mut alone = new_state(&*backend);
    let error = |state: &mut dyn State, rows: &[(usize, usize, usize)], logits_at: &[usize]| {
        let mut batch = Batch::default();
        for &(row, slot, n_tokens) in rows {
            batch.push(row, slot, &[50258; 449][..n_tokens], logits_at);
        }
        match state.decode(&batch) {
            Err(error @ Error::Capacity { .. }) => error.to_string(),
            _ => panic!("{rows:?} fit"),
        }
    };
    decode(&mut *state, &[(0, 0, &TOKENS)]);
    let too_many = |n, what, most| format!("{n} {what} are too many: there is room for {most}");
    for (rows, logits_at, expected) in [
        (&[(2, 0, 1)][..], &[0][..], too_many(3, "rows", 2)),
        (&[(0, 1, 1)], &[0], too_many(2, "windows", 1)),
        (&[(0, 0, 440)], &[0], too_many(449, "positions", 448)),
        (
            &[(0, 0, 400), (1, 0, 49)],
            &[0],
            too_many(449, "tokens", 448),
        ),
        (&[(1, 0, 9)], &[0, 2, 4, 6], too_many(4, "logits", 3)),
    ] {
        assert_eq!(error(&mut *state, rows, logits_at), expected);
    }
    let goes_on = &mut || ControlFlow::Continue(());
    let encoded = state.encode(&[(1, &mel(0))], goes_on);
    assert!(matches!(encoded, Err(Error::Capacity { wanted: 2, .. })));
    decode(&mut *alone, &[(0, 0, &TOKENS)]);
    assert_eq!(
        decode(&mut *state, &[(0, 0, &[11])]),
        decode(&mut *alone, &[(0, 0, &[11])])
    );
}

#[test]
fn encoding_ends_between_layers_when_it_is_asked_to() {
    let backend = backend();
    let mut state = empty_state(&*backend, 1, 1);
    let mut n_asked = 0;
    let encoded = state.encode(&[(0, &mel(0))], &mut || {
        n_asked += 1;
        match n_asked {
            3 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    assert!(matches!(encoded, Err(Error::Canceled)) && n_asked == 3);
}

#[test]
fn states_of_one_backend_do_not_see_each_other() {
    let backend = backend();
    let mut first = state(&*backend, 1, 1);
    let mut second = empty_state(&*backend, 1, 1);
    let expected = decode(&mut *first, &[(0, 0, &TOKENS)]);
    encode(&mut *second, 0, 7);
    decode(&mut *second, &[(0, 0, &TOKENS[..5])]);
    first.truncate(0, 0);
    assert_eq!(decode(&mut *first, &[(0, 0, &TOKENS)]), expected);
}

/// Start of transcript, English, transcribe, no timestamps, some text, end of text.
const ALIGNED: [TokenId; 10] = [50258, 50259, 50359, 50363, 440, 3440, 307, 322, 7776, 50257];

/// Token probabilities, and the weights of each head.
fn align(
    state: &mut dyn State,
    slot: usize,
    heads: &[(usize, usize)],
    n_keys: usize,
) -> (Vec<f32>, Vec<Vec<f32>>) {
    align_tokens(state, slot, &ALIGNED, heads, n_keys)
}

/// The same of other tokens.
fn align_tokens(
    state: &mut dyn State,
    slot: usize,
    tokens: &[TokenId],
    heads: &[(usize, usize)],
    n_keys: usize,
) -> (Vec<f32>, Vec<Vec<f32>>) {
    let request = AlignmentRequest {
        slot,
        row: 0,
        tokens,
        text: 4..tokens.len() - 1,
        eot: 50257,
        n_keys,
        heads,
    };
    let mut weights = Vec::new();
    let probabilities = state.align(&request, &mut |head| weights.push(head.to_vec()));
    (probabilities.expect("room for the text"), weights)
}

#[test]
fn alignment_gives_the_probabilities_that_decoding_gives() {
    for compute_type in [ComputeType::F32, ComputeType::F16, ComputeType::Int8Float32] {
        check_alignment_gives_the_probabilities(&*backend_of(compute_type), &ALIGNED);
    }
    // The self-attention of more than eight tokens at once sums in another order than that of one, and that last bit can
    // turn a rounding over.
    let eight = [&ALIGNED[..7], &ALIGNED[9..]].concat();
    for compute_type in [
        ComputeType::Bf16,
        ComputeType::Int8,
        ComputeType::Int8Bfloat16,
        ComputeType::Q5,
        ComputeType::Q4,
    ] {
        check_alignment_gives_the_probabilities(&*backend_of(compute_type), &eight);
    }
}

fn check_alignment_gives_the_probabilities(backend: &dyn Backend, tokens: &[TokenId]) {
    let mut state = state(backend, 2, 2);
    let (found, _) = align_tokens(&mut *state, 1, tokens, &[(3, 1)], 1500);
    let mut batch = Batch::default();
    for (i, token) in tokens[4..tokens.len() - 1].iter().enumerate() {
        batch.clear();
        batch.push(
            1,
            1,
            if i == 0 {
                &tokens[..4]
            } else {
                &tokens[3 + i..4 + i]
            },
            &[if i == 0 { 3 } else { 0 }],
        );
        let logits = &state.decode(&batch).expect("room for the batch")[..50257];
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|logit| (logit - max).exp()).sum();
        let expected = (logits[*token as usize] - max).exp() / sum;
        assert!(
            (found[i] - expected).abs() < TOLERANCE,
            "{} {expected}",
            found[i]
        );
    }
}

#[test]
fn alignment_shows_the_heads_asked_for_over_the_keys_asked_for() {
    backends().for_each(|backend| check_alignment_shows_the_heads(&*backend));
}

fn check_alignment_shows_the_heads(backend: &dyn Backend) {
    let mut state = state(backend, 2, 1);
    let heads = [(0, 1), (2, 0), (2, 1), (3, 0)];
    let (_, all) = align(&mut *state, 0, &heads, 1500);
    assert_eq!(all.len(), heads.len());
    for (i, head) in heads.iter().enumerate() {
        for n_keys in [1, 2, 70, 1500] {
            let (_, alone) = align(&mut *state, 0, &[*head], n_keys);
            for (found, whole) in alone[0].chunks(n_keys).zip(all[i].chunks(1500)) {
                // The softmax over the first keys is the whole one's, scaled up to a sum of 1.
                let sum: f32 = whole[..n_keys].iter().sum();
                let expected: Vec<f32> = whole[..n_keys].iter().map(|x| x / sum).collect();
                assert_close(found, &expected);
            }
        }
    }
    assert_ne!(all[1], all[2]);
    assert_ne!(all, align(&mut *state, 1, &heads, 1500).1, "the other slot");
}

#[test]
fn alignment_leaves_nothing_behind() {
    backends().for_each(|backend| check_alignment_leaves_nothing_behind(&*backend));
}

fn check_alignment_leaves_nothing_behind(backend: &dyn Backend) {
    let mut state = state(backend, 1, 2);
    let expected = decode(&mut *state, &[(1, 0, &TOKENS)]);
    align(&mut *state, 0, &[(0, 0)], 10);
    assert_eq!(decode(&mut *state, &[(0, 0, &TOKENS)]), expected);
    // A row in the middle of its text goes on as if nothing had been.
    let mut other = super::tests::state(backend, 1, 1);
    decode(&mut *other, &[(0, 0, &TOKENS)]);
    assert_eq!(
        decode(&mut *state, &[(1, 0, &[11])]),
        decode(&mut *other, &[(0, 0, &[11])])
    );
}

/// Root mean square of the errors of all logits, relative to that of the logits: bfloat16 has 8 bits, int8 less than 7 of a row's
/// largest, over a dozen layers. f16 is what the checkpoint has, so only its cache rounds. Of int8's two roundings, weights
/// and activations, the mixed types have one. The largest error of all logits is no measure: numerators of the softmax that
/// differ in the last bit made it 0.028 or 0.031 of the largest logit in bfloat16.
const ROUNDED: [(ComputeType, f64); 7] = [
    (ComputeType::F16, 0.001),
    (ComputeType::Bf16, 0.011),
    (ComputeType::Int8, 0.08),
    (ComputeType::Int8Float32, 0.021),
    (ComputeType::Int8Bfloat16, 0.021),
    (ComputeType::Q5, 0.18),
    (ComputeType::Q4, 0.18),
];

#[test]
fn rounded_types_stay_close_to_the_exact_one_but_are_not_it() {
    let exact = decode(&mut *state(&*backend(), 1, 1), &[(0, 0, &TOKENS)]);
    let sum_of_squares = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
    for (compute_type, tolerance) in ROUNDED {
        let rounded = decode(
            &mut *state(&*backend_of(compute_type), 1, 1),
            &[(0, 0, &TOKENS)],
        );
        let errors: Vec<f32> = exact.iter().zip(&rounded).map(|(x, y)| x - y).collect();
        let error = (sum_of_squares(&errors) / sum_of_squares(&exact)).sqrt();
        assert!(
            error > 0.0 && error < tolerance,
            "{compute_type:?}: {error}"
        );
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for compute_type in COMPUTE_TYPES {
        let [one, three] = [1, 3].map(|n_threads| {
            let backend = open(&nano(), compute_type, n_threads);
            decode(&mut *state(&*backend, 1, 1), &[(0, 0, &TOKENS)])
        });
        assert_eq!(one, three, "{compute_type:?}");
    }
}

#[test]
fn f16_is_the_same_bits_whichever_dtype_the_checkpoint_stores_the_same_numbers_in() {
    let checkpoint = std::fs::read(nano().join("model.safetensors")).expect("the bundled model");
    let [expected, from_bf16, from_f32] = ["F16", "BF16", "F32"].map(|dtype| {
        let folder = tempfile::tempdir().expect("a folder");
        let config = std::fs::read(nano().join("config.json")).expect("the bundled model");
        std::fs::write(folder.path().join("config.json"), config).expect("a file");
        let bytes = rewritten(&checkpoint, dtype);
        std::fs::write(folder.path().join("model.safetensors"), bytes).expect("a file");
        let backend = open(folder.path(), ComputeType::F16, 2);
        let Network::Stored(Formats { decoder, .. }) = Network::of(ComputeType::F16) else {
            panic!("weights in f16 are stored");
        };
        let checkpoint = Checkpoint::open(folder.path()).expect("a model");
        let reader = Reader::<StoredMatrix> {
            checkpoint: &checkpoint,
            dims: checkpoint.dims(),
            host: &host(2),
            format: decoder,
        };
        let embedding = reader.decoder().expect("a model").token_embedding;
        assert_eq!(embedding.storage(), Storage::Float(Dtype::F16), "{dtype}");
        decode(&mut *state(&*backend, 1, 1), &[(0, 0, &TOKENS)])
    });
    assert_eq!(expected, from_bf16);
    assert_eq!(expected, from_f32);
}

/// A safetensors file of F16 in another dtype, its numbers rounded to what every dtype can hold.
fn rewritten(file: &[u8], dtype: &str) -> Vec<u8> {
    let (len, file) = file.split_at(8);
    let len = u64::from_le_bytes(len.try_into().expect("8 bytes"));
    let (header, data) = file.split_at(len as usize);
    let mut header: serde_json::Map<_, _> = serde_json::from_slice(header).expect("a header");
    header.remove("__metadata__");
    let scale = if dtype == "F32" { 2 } else { 1 };
    for tensor in header.values_mut() {
        tensor["dtype"] = dtype.into();
        for offset in tensor["data_offsets"].as_array_mut().expect("offsets") {
            *offset = (offset.as_u64().expect("an offset") * scale).into();
        }
    }
    let mut bytes = Vec::with_capacity(2 * data.len());
    for half in data.as_chunks::<2>().0 {
        let number = bf16::from_f32(f16::from_le_bytes(*half).to_f32()).to_f32();
        let number = f16::from_f32(number).to_f32();
        match dtype {
            "F16" => bytes.extend(f16::from_f32(number).to_le_bytes()),
            "BF16" => bytes.extend(bf16::from_f32(number).to_le_bytes()),
            _ => bytes.extend(number.to_le_bytes()),
        }
    }
    crate::checkpoint::testing::file(&serde_json::Value::Object(header).to_string(), &bytes)
}
