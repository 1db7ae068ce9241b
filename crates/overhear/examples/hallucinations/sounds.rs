//! Generated sounds without speech: silence, noise, music, breathing, hum and clicks.

use std::f32::consts::TAU;

/// Sample rate in Hz.
pub(crate) const RATE: usize = 16_000;
/// Lengths in seconds of the recordings of each sound: a whole window, and a short one.
const LENGTHS_S: [usize; 2] = [30, 8];

/// Recordings of one kind.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) recordings: Vec<Vec<f32>>,
}

/// Returns the recordings of every kind of sound.
pub(crate) fn kinds() -> Vec<Kind> {
    let mut noise = Noise::new();
    let mut kinds = vec![Kind {
        name: "digital silence",
        recordings: [5, 10, 30, 60].map(|n| vec![0.0; n * RATE]).to_vec(),
    }];
    type Sample = fn(&mut Noise) -> f32;
    for (name, sample) in [
        ("white noise, -80 to -20 dB", Noise::white as Sample),
        ("pink noise, -80 to -20 dB", Noise::pink),
    ] {
        let mut recordings = Vec::new();
        for level_db in [-80, -60, -40, -20] {
            for length_s in LENGTHS_S {
                let sound = (0..length_s * RATE).map(|_| decibels(level_db) * sample(&mut noise));
                recordings.push(sound.collect());
            }
        }
        kinds.push(Kind { name, recordings });
    }
    for (name, sound) in [
        ("hum of the mains", hum as fn(Variant, &mut Noise) -> f32),
        ("clicks", clicks),
        ("breathing", breathing),
        ("tones", tones),
        ("chords", chords),
        ("a drum pattern", drums),
        ("an arpeggio", arpeggio),
        ("chords, arpeggio and drums", band),
    ] {
        let mut recordings = Vec::new();
        for number in 0..4 {
            for length_s in LENGTHS_S {
                let mut filter = [0.0; 2];
                let mut sample = |i| {
                    let time_s = i as f32 / RATE as f32;
                    let variant = Variant { number, time_s };
                    let raw = sound(variant, &mut noise);
                    if name != "breathing" {
                        return raw;
                    }
                    // Air through a throat: between about 400 and 2500 Hz.
                    filter[0] += 0.6 * (raw - filter[0]);
                    filter[1] += 0.15 * (filter[0] - filter[1]);
                    filter[0] - filter[1]
                };
                recordings.push((0..length_s * RATE).map(&mut sample).collect());
            }
        }
        kinds.push(Kind { name, recordings });
    }
    kinds
}

/// A time in one of the four sounds of a kind.
#[derive(Clone, Copy)]
struct Variant {
    number: usize,
    time_s: f32,
}

impl Variant {
    /// Returns the number of this variant, of four.
    fn of<T: Copy>(self, numbers: [T; 4]) -> T {
        numbers[self.number]
    }

    /// Returns the number of complete periods, and the seconds since the current one began.
    fn beat(self, period_s: f32) -> (usize, f32) {
        let n = (self.time_s / period_s).floor();
        (n as usize, self.time_s - n * period_s)
    }

    /// Returns a sample of a sine of amplitude 1.
    fn sine(self, hertz: f32) -> f32 {
        // In f64 until the fraction is taken: a tone of 2000 Hz has made 120,000 turns after a minute.
        let turns = f64::from(hertz) * f64::from(self.time_s);
        (turns.fract() as f32 * TAU).sin()
    }

    /// Returns a sample of a note with the overtones of a string.
    fn note(self, hertz: f32) -> f32 {
        let overtone = |n: usize| self.sine(hertz * n as f32) / (n * n) as f32;
        (1..=5).map(overtone).sum()
    }
}

fn hum(at: Variant, noise: &mut Noise) -> f32 {
    let hertz = at.of([50.0, 50.0, 60.0, 60.0]);
    let overtones = at.sine(hertz) + 0.5 * at.sine(2.0 * hertz) + 0.3 * at.sine(3.0 * hertz);
    decibels(at.of([-20, -40, -20, -40])) * overtones + decibels(-70) * noise.white()
}

fn clicks(at: Variant, noise: &mut Noise) -> f32 {
    let (_, since_s) = at.beat(at.of([0.25, 0.5, 1.0, 2.3]));
    0.3 * (-since_s * 600.0).exp() * noise.white() + decibels(-70) * noise.white()
}

fn breathing(at: Variant, noise: &mut Noise) -> f32 {
    let (n, since_s) = at.beat(at.of([1.2, 1.6, 2.0, 2.5]));
    let length_s = at.of([0.9, 1.2, 1.4, 1.6]);
    let swell = (since_s / length_s * TAU / 2.0).sin().max(0.0) * f32::from(since_s < length_s);
    // Breathing out is louder than breathing in.
    let level = at.of([-20, -26, -32, -20]) - 6 * (n % 2) as i32;
    (decibels(level) * swell + decibels(-70)) * noise.white()
}

fn tones(at: Variant, noise: &mut Noise) -> f32 {
    let sweep = 200.0 * 10f32.powf((at.time_s / 10.0).fract());
    let (n, _) = at.beat(0.5);
    let beeps = if n % 2 == 0 { 1000.0 } else { 0.0 };
    let hertz = at.of([440.0, 1000.0, beeps, sweep]);
    0.2 * at.sine(hertz) + decibels(-70) * noise.white()
}

/// Notes of four successive chords, in semitones above the keynote.
const CHORDS: [[i32; 3]; 4] = [[0, 4, 7], [9, 12, 16], [5, 9, 12], [7, 11, 14]];

fn pitch(at: Variant, semitones: i32) -> f32 {
    at.of([130.8, 164.8, 196.0, 220.0]) * 2f32.powf(semitones as f32 / 12.0)
}

fn chords(at: Variant, _: &mut Noise) -> f32 {
    let length_s = at.of([2.0, 1.5, 1.0, 3.0]);
    let (n, since_s) = at.beat(length_s);
    let notes = CHORDS[n % 4].map(|semitones| at.note(pitch(at, semitones)));
    let swell = (since_s * 20.0).min(1.0) * (-since_s / length_s).exp();
    0.1 * swell * notes.iter().sum::<f32>()
}

fn drums(at: Variant, noise: &mut Noise) -> f32 {
    let quaver_s = at.of([0.25, 0.2, 0.3, 0.17]);
    let (n, since_s) = at.beat(quaver_s);
    let kick = (-since_s * 20.0).exp()
        * (TAU * (50.0 * since_s + 1.5 * (1.0 - (-since_s * 40.0).exp()))).sin();
    let snare = (-since_s * 25.0).exp() * noise.white();
    let hat = (-since_s * 80.0).exp() * noise.white();
    let hit = match n % 8 {
        0 | 3 => 0.6 * kick,
        2 | 6 => 0.25 * snare,
        _ => 0.0,
    };
    hit + 0.05 * hat
}

fn arpeggio(at: Variant, _: &mut Noise) -> f32 {
    let length_s = at.of([0.25, 0.2, 0.3, 0.17]);
    let (n, since_s) = at.beat(length_s);
    let semitones = CHORDS[n / 8 % 4][n % 3] + 12 * (n / 3 % 2) as i32;
    let plucked = (since_s * 200.0).min(1.0) * (-since_s * 6.0).exp();
    0.3 * plucked * at.note(pitch(at, semitones + 12))
}

fn band(at: Variant, noise: &mut Noise) -> f32 {
    0.6 * (chords(at, noise) + arpeggio(at, noise) + drums(at, noise))
}

/// Returns the amplitude ratio of `n` decibels.
pub(crate) fn decibels(n: i32) -> f32 {
    10f32.powf(n as f32 / 20.0)
}

/// Generator of noise with a root mean square of 1.
pub(crate) struct Noise {
    state: u64,
    /// State of Kellet's filters, whose sum falls by 3 dB per octave.
    poles: [f32; 3],
}

impl Noise {
    pub(crate) fn new() -> Self {
        Self {
            state: 1,
            poles: [0.0; 3],
        }
    }

    pub(crate) fn white(&mut self) -> f32 {
        // Knuth's MMIX generator; uniform, of variance 1.
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005);
        self.state = self.state.wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 12f32.sqrt()
    }

    pub(crate) fn pink(&mut self) -> f32 {
        let white = self.white();
        for (pole, (keep, gain)) in
            self.poles
                .iter_mut()
                .zip([(0.99765, 0.099_046), (0.963, 0.296_516), (0.57, 1.052_691)])
        {
            *pole = keep * *pole + gain * white;
        }
        // Scaled to a root mean square of about 1.
        (self.poles.iter().sum::<f32>() + 0.1848 * white) / 2.2
    }

    /// Returns `samples` with white noise added, `snr_db` below them.
    pub(crate) fn over(&mut self, samples: &[f32], snr_db: i32) -> Vec<f32> {
        let power = samples.iter().map(|x| x * x).sum::<f32>() / samples.len() as f32;
        let gain = power.sqrt() * decibels(-snr_db);
        samples.iter().map(|x| x + gain * self.white()).collect()
    }
}
