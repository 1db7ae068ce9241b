//! Windows decoded in the same steps, on the bundled model: each is decoded as it is alone, whatever the others do.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use proptest::prelude::*;

use super::drafter::Drafter;
use super::{DraftStatistics, Engine};
use crate::decode::{
    BoostPhrase, BoostTrie, DecodingResult, DecodingRules, DecodingTask, MAX_DRAFT,
};
use crate::mel::MelWindow;
use crate::mel::log_mel_spectrogram;
use crate::{Audio, ComputeType, DecodingOptions, Error, Language, Model, ModelOptions};

const N_SEATS: usize = 4;
const N_ROWS: usize = 5;
const CLIPS: [&str; 4] = [
    "synth-en-05.flac",
    "jfk.flac",
    "real-digits-0.flac",
    "synth-es-00.flac",
];

/// What every window is decoded with, in turn. Prompts of so many tokens do not fit into one step together.
fn options() -> [DecodingOptions; 7] {
    let english = DecodingOptions {
        language: Some(Language::ENGLISH),
        ..DecodingOptions::default()
    };
    let beams = |beam_size| DecodingOptions {
        rules: DecodingRules {
            beam_size: Some(beam_size),
            ..english.rules.clone()
        },
        ..english.clone()
    };
    let prompted = DecodingOptions {
        prompt: (1000..1300).collect(),
        ..english.clone()
    };
    let samples = DecodingOptions {
        temperature: 0.8,
        best_of: Some(4),
        rules: DecodingRules {
            seed: 3,
            ..english.rules.clone()
        },
        ..english.clone()
    };
    let patient = DecodingOptions {
        prompt: (2000..2300).collect(),
        rules: DecodingRules {
            patience: Some(2.0),
            ..beams(3).rules
        },
        ..beams(3)
    };
    let sampled = DecodingOptions {
        best_of: None,
        rules: DecodingRules {
            boost: vec![BoostPhrase::new("country"), BoostPhrase::new("twenty")],
            loop_guard: true,
            alternatives: 2,
            ..samples.rules.clone()
        },
        ..samples.clone()
    };
    [
        beams(5),
        prompted,
        samples,
        beams(2),
        english,
        patient,
        sampled,
    ]
}

/// A model, models that draft for it with and without an encoder, windows, and what each decodes to alone with each of the options.
struct Fixture {
    model: Model,
    drafts: [Model; 2],
    mels: Vec<MelWindow>,
    alone: Vec<Vec<DecodingResult>>,
}

impl Fixture {
    fn of(compute_type: ComputeType) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let model_options = ModelOptions {
            compute_type,
            threads: std::num::NonZeroUsize::new(2),
            ..ModelOptions::default()
        };
        let model = Model::open(folder.join("../../models/nano"), &model_options).unwrap();
        let int8 = ModelOptions {
            compute_type: ComputeType::Int8,
            ..model_options
        };
        let drafts = [
            Model::open(folder.join("../../models/nano"), &int8).unwrap(),
            model.open_draft(None, ComputeType::Q4).unwrap(),
        ];
        assert_eq!(drafts.each_ref().map(Model::shares_encoder), [false, true]);
        let (mut mels, mut alone) = (Vec::new(), Vec::new());
        for clip in CLIPS {
            let audio = Audio::open(folder.join("tests/fixtures/audio").join(clip)).unwrap();
            let mut samples = audio.samples().unwrap();
            samples.resize(480_000, 0.0);
            let mel = log_mel_spectrogram(&samples, 80, 0);
            let decode = |options| model.decode(&mel, options).unwrap();
            alone.push(options().iter().map(decode).collect());
            mels.push(MelWindow::of(&mel, 80).unwrap());
        }
        Self {
            model,
            drafts,
            mels,
            alone,
        }
    }

    fn task(&self, options: usize) -> DecodingTask {
        let options = options_at(options);
        let boosts = BoostTrie::new(self.model.tokenizer(), &options.rules.boost).unwrap();
        let boosts = boosts.map(Arc::new);
        DecodingTask::new(&self.model, Language::ENGLISH, boosts, &options).unwrap()
    }
}

/// Drafters, of drafts of any length.
fn drafter(fixture: &Fixture, kind: usize, length: usize) -> Option<Drafter> {
    let drafter = match kind {
        0 => return None,
        1 => Drafter::lookup(),
        2 => Drafter::noise(),
        _ => Drafter::model(&fixture.drafts[kind - 3], N_SEATS).unwrap(),
    };
    Some(drafter.with_length(length))
}

fn options_at(i: usize) -> DecodingOptions {
    options()[i].clone()
}

fn fixtures() -> &'static [Fixture; 3] {
    static FIXTURES: OnceLock<[Fixture; 3]> = OnceLock::new();
    FIXTURES
        .get_or_init(|| [ComputeType::F32, ComputeType::Bf16, ComputeType::Int8].map(Fixture::of))
}

/// One window of a file: which clip, decoded how, and after how many steps it is given up.
#[derive(Clone, Debug)]
struct Job {
    clip: usize,
    options: usize,
    canceled_after: Option<usize>,
}

fn job() -> impl Strategy<Value = Job> {
    let canceled_after = prop::option::weighted(0.25, 0..12usize);
    (0..CLIPS.len(), 0..options().len(), canceled_after).prop_map(
        |(clip, options, canceled_after)| Job {
            clip,
            options,
            canceled_after,
        },
    )
}

/// Decodes the jobs of one file, one after the other, and compares each with what it gives alone.
fn run(fixture: &Fixture, engine: &Engine, jobs: &[Job]) {
    let mut seat = engine.seat();
    for job in jobs {
        let mel = &fixture.mels[job.clip];
        seat.encode(mel, &mut || ControlFlow::Continue(())).unwrap();
        let mut n_asked = 0;
        let result = seat.decode(fixture.task(job.options), &mut || {
            n_asked += 1;
            match job.canceled_after.is_some_and(|most| n_asked > most) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        match result {
            Err(Error::Canceled) => assert!(job.canceled_after.is_some()),
            result => assert_eq!(
                result.unwrap(),
                fixture.alone[job.clip][job.options],
                "{job:?}"
            ),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// More files than seats, so that seats are waited for too.
    #[test]
    fn a_window_does_not_depend_on_those_decoded_in_the_same_steps_nor_on_drafts(
        files in prop::collection::vec(prop::collection::vec(job(), 1..4), 1..7),
        kind in 0..5usize,
        length in 1..=MAX_DRAFT,
    ) {
        for fixture in fixtures() {
            let drafter = drafter(fixture, kind, length);
            let engine = Engine::with_drafter(&fixture.model, N_SEATS, N_ROWS, drafter).unwrap();
            std::thread::scope(|scope| {
                for jobs in &files {
                    let engine = engine.clone();
                    scope.spawn(move || run(fixture, &engine, jobs));
                }
            });
        }
    }
}

#[test]
fn drafts_of_every_source_are_verified_and_change_nothing() {
    for fixture in fixtures() {
        for kind in 1..5 {
            for length in [1, 4, MAX_DRAFT] {
                let drafter = drafter(fixture, kind, length);
                let engine = Engine::with_drafter(&fixture.model, N_SEATS, 1, drafter).unwrap();
                let drafted = |clip, options| Job {
                    clip,
                    options,
                    canceled_after: None,
                };
                let jobs: Vec<_> = (0..CLIPS.len())
                    .flat_map(|clip| [1 + 3 * (clip % 2), 6].map(|options| drafted(clip, options)))
                    .collect();
                run(fixture, &engine, &jobs);
                let statistics = engine.draft_statistics().unwrap();
                let DraftStatistics {
                    n_drafted,
                    n_accepted,
                    n_verified,
                    ..
                } = statistics;
                assert!(n_drafted <= length * n_verified && n_accepted <= n_drafted);
                match kind {
                    1 => {}
                    2 => assert!(
                        n_drafted > 0 && n_accepted < n_drafted / 10,
                        "{statistics:?}"
                    ),
                    _ => assert!(n_accepted > n_drafted / 2, "{statistics:?}"),
                }
            }
        }
    }
}

#[test]
fn the_others_go_on_when_a_caller_panics() {
    let fixture = &fixtures()[0];
    let engine = Engine::new(&fixture.model, 2, N_ROWS).unwrap();
    std::thread::scope(|scope| {
        for panics in [true, false, false] {
            let engine = engine.clone();
            scope.spawn(move || {
                let job = Job {
                    clip: 1,
                    options: 0,
                    canceled_after: None,
                };
                if !panics {
                    return run(fixture, &engine, &[job]);
                }
                let mut seat = engine.seat();
                let goes_on = &mut || ControlFlow::Continue(());
                seat.encode(&fixture.mels[0], goes_on).unwrap();
                let task = fixture.task(1);
                let end = catch_unwind(AssertUnwindSafe(move || {
                    let _ = seat.decode(task, &mut || panic!("a fault of the caller"));
                }));
                assert!(end.is_err());
            });
        }
    });
}
