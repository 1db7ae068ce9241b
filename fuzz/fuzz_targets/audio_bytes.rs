//! Any bytes as an audio file: samples in [-1, 1], or an error.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use overhear::Audio;

/// Decoding stops here: a few bytes may rightly mean hours of silence.
const MAX_SAMPLES: usize = 16_000 * 600;

fuzz_target!(init: overhear_fuzz::initialize(), |bytes: &[u8]| {
    decode(Audio::from_bytes(bytes.to_vec(), "fuzz"));
    // The way of pipes, where nothing can be read twice. Short inputs only: it decodes to the end.
    if bytes.len() < 4096 {
        decode(Audio::from_reader(Cursor::new(bytes.to_vec()), "fuzz"));
    }
});

fn decode(audio: overhear::Result<Audio>) {
    let Ok(mut reader) = audio.and_then(|audio| audio.reader()) else {
        return;
    };
    let mut buffer = [0.0f32; 4000];
    let mut n_samples = 0;
    while n_samples < MAX_SAMPLES {
        let Ok(n) = reader.read(&mut buffer) else {
            return;
        };
        if n == 0 {
            return;
        }
        assert!(
            buffer[..n]
                .iter()
                .all(|sample| (-1.0..=1.0).contains(sample)),
            "a sample beyond full scale"
        );
        n_samples += n;
    }
}
