//! Transcription of a file's speech alone: faster-whisper's `vad_filter`.
//!
//! The regions of speech, joined, are transcribed as if they were the whole file, and all times are mapped back. A file without
//! speech is one without samples.

use std::ops::Range;

use super::{Event, OnEvent, Progress, TranscribeOptions, Transcript, measuring, transcribe_all};
use crate::engine::Seat;
use crate::vad::{Region, SpeechTimestampsMap, Vad, VadMethod, VadOptions};
use crate::{Audio, Model, Result};

/// Transcribes the speech of `audio` as [`super::transcribe`] does.
pub(super) fn transcribe_speech(
    model: &Model,
    seats: Vec<Seat>,
    audio: &Audio,
    (options, vad): (&TranscribeOptions, &VadOptions),
    progress: Progress,
    on_event: OnEvent<'_>,
) -> Result<Transcript> {
    let detector = match vad.method {
        VadMethod::Silero => model.vad().clone(),
        VadMethod::Energy => Vad::energy(),
    };
    let found = detector.probabilities_with(audio, &mut measuring(on_event))?;
    let duration_s = found.duration_s();
    let regions = found.regions(vad)?;
    let samples = |region: &Region| -> Range<usize> { region.start..region.end };
    let speech = audio.only(regions.iter().map(samples).collect());
    let map = SpeechTimestampsMap::new(regions, vad.speech_pad_samples());

    // Progress stays in the time of the joined regions.
    let mut on_speech = |event: Event<'_>| match event {
        Event::Segment(segment) => {
            let mut segment = segment.clone();
            map.restore(&mut segment);
            on_event(Event::Segment(&segment))
        }
        Event::Duration { .. } => on_event(Event::Duration { duration_s }),
        Event::Measuring { position_s } => on_event(Event::Measuring {
            position_s: map.end(position_s),
        }),
        Event::Progress { position_s } => on_event(Event::Progress {
            position_s: map.end(position_s),
        }),
        event => on_event(event),
    };
    let mut transcript = transcribe_all(model, seats, &speech, options, progress, &mut on_speech)?;
    for segment in &mut transcript.segments {
        map.restore(segment);
    }
    for window in &mut transcript.n_best {
        window.seek = map.frame(window.seek);
    }
    transcript.duration_s = duration_s;
    for warning in found.warnings {
        if !transcript.warnings.contains(&warning) {
            transcript.warnings.push(warning);
        }
    }
    Ok(transcript)
}
