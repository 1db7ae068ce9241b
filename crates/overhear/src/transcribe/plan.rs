//! What is known of a file before its first window: its language, and what of it is transcribed.

use serde::{Deserialize, Serialize};

use super::language::choose_language;
use super::progress::{Position, Progress};
use super::stretches::{Stretch, stretches};
use super::windows::Windows;
use super::{OnEvent, Segment, TranscribeOptions, send};
use crate::mel::{FRAMES_PER_SECOND, MelStream};
use crate::{Event, Language, Model, Result};

/// What is known before the first window.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Plan {
    pub(super) language: Language,
    /// Probability of the language, if it was detected.
    pub(super) detected: Option<f32>,
    /// Number of frames of the audio.
    pub(super) content_frames: usize,
    pub(super) stretches: Vec<Stretch>,
}

/// Returns the language of the file, and what is to be transcribed.
pub(super) fn plan(
    model: &Model,
    options: &TranscribeOptions,
    windows: &mut Windows<MelStream>,
    on_event: OnEvent<'_>,
) -> Result<Plan> {
    let (language, detected) = choose_language(model, options, windows, on_event)?;
    let content_frames = windows.mel.content_frames();
    let clips = clips(&options.clip_timestamps, content_frames);
    let plan = Plan {
        language,
        detected,
        content_frames,
        stretches: stretches(model, options, windows, language, &clips, on_event)?,
    };
    send(on_event, Event::Resumable(&Progress::planned(plan.clone())))?;
    Ok(plan)
}

/// Sends the events of what an earlier transcription has done.
pub(super) fn report_again(
    plan: &Plan,
    position: Position,
    segments: &[Segment],
    on_event: OnEvent<'_>,
) -> Result<()> {
    if let Some(probability) = plan.detected {
        let language = plan.language;
        send(
            on_event,
            Event::LanguageDetected {
                language,
                probability,
            },
        )?;
    }
    for segment in segments {
        send(on_event, Event::Segment(segment))?;
    }
    let position_s = position.seek.min(plan.content_frames) as f64 / FRAMES_PER_SECOND;
    send(on_event, Event::Progress { position_s })
}

/// Returns the range of frames of each clip that has any. Ends are clamped to the audio; beyond it, openai/whisper would
/// loop forever.
fn clips(clip_timestamps: &[f64], content_frames: usize) -> Vec<(usize, usize)> {
    let frame = |seconds: f64| (seconds * FRAMES_PER_SECOND).round_ties_even() as usize;
    let mut points: Vec<usize> = clip_timestamps
        .iter()
        .map(|&seconds| frame(seconds))
        .collect();
    if points.is_empty() {
        points.push(0);
    }
    if points.len() % 2 == 1 {
        points.push(content_frames);
    }
    points
        .chunks_exact(2)
        .map(|clip| (clip[0], clip[1].min(content_frames)))
        .filter(|(start, end)| start < end)
        .collect()
}
