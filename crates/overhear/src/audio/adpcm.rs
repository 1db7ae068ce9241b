//! The two 4-bit codecs of old WAV files: IMA ADPCM and Microsoft ADPCM.
//!
//! Both store differences from a prediction in blocks of fixed size that can be decoded on their own.
//! References: IMA "Recommended Practices for Enhancing Digital Audio Compatibility" rev. 3.00, and Microsoft
//! "Multimedia Standards Update" rev. 3.0 (1994).

const IMA_STEPS: [i32; 89] = [
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66,
    73, 80, 88, 97, 107, 118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449,
    494, 544, 598, 658, 724, 796, 876, 963, 1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272,
    2499, 2749, 3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894, 6484, 7132, 7845, 8630, 9493,
    10442, 11487, 12635, 13899, 15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794, 32767,
];
const IMA_INDEX_STEPS: [i32; 8] = [-1, -1, -1, -1, 2, 4, 6, 8];

const MS_ADAPTATION: [i32; 16] = [
    230, 230, 230, 230, 307, 409, 512, 614, 768, 614, 512, 409, 307, 230, 230, 230,
];
/// Predictor coefficients that every file has; a file may list more.
const MS_COEFFICIENTS: [[i32; 2]; 7] = [
    [256, 0],
    [512, -256],
    [0, 0],
    [192, 64],
    [240, 0],
    [460, -208],
    [392, -232],
];

/// Decoder of whole blocks.
pub(super) struct Adpcm {
    kind: Kind,
    n_channels: usize,
    block_len: usize,
}

enum Kind {
    Ima,
    Microsoft { coefficients: Vec<[i32; 2]> },
}

impl Adpcm {
    /// Creates a decoder of IMA ADPCM (WAV tag 0x11); `None` if a block cannot hold its header.
    pub(super) fn ima(n_channels: usize, block_len: usize) -> Option<Self> {
        let adpcm = Self {
            kind: Kind::Ima,
            n_channels,
            block_len,
        };
        (n_channels > 0 && block_len >= 4 * n_channels).then_some(adpcm)
    }

    /// Creates a decoder of Microsoft ADPCM (WAV tag 2) with the predictors that the header lists, if any.
    pub(super) fn microsoft(
        n_channels: usize,
        block_len: usize,
        listed: Vec<[i32; 2]>,
    ) -> Option<Self> {
        let coefficients = if listed.is_empty() {
            MS_COEFFICIENTS.to_vec()
        } else {
            listed
        };
        let adpcm = Self {
            kind: Kind::Microsoft { coefficients },
            n_channels,
            block_len,
        };
        ((1..=2).contains(&n_channels) && block_len >= 7 * n_channels).then_some(adpcm)
    }

    /// Number of bytes in a block; at least 4.
    pub(super) fn block_len(&self) -> usize {
        self.block_len
    }

    /// Appends the interleaved frames of one block. A truncated block yields the frames that it contains.
    pub(super) fn decode(&self, block: &[u8], out: &mut Vec<f32>) {
        match &self.kind {
            Kind::Ima => self.decode_ima(block, out),
            Kind::Microsoft { coefficients } => self.decode_microsoft(block, coefficients, out),
        }
    }

    /// Layout: per channel the predictor (i16), the step index and a zero byte; then groups of 4 bytes (8 samples),
    /// channels interleaved.
    fn decode_ima(&self, block: &[u8], out: &mut Vec<f32>) {
        let n_channels = self.n_channels;
        let Some((header, body)) = block.split_at_checked(4 * n_channels) else {
            return;
        };
        let mut states: Vec<Ima> = header
            .as_chunks::<4>()
            .0
            .iter()
            .map(|[a, b, index, _]| Ima {
                sample: i32::from(i16::from_le_bytes([*a, *b])),
                index: usize::from(*index).min(IMA_STEPS.len() - 1),
            })
            .collect();
        out.extend(states.iter().map(|state| state.sample as f32 / 32_768.0));
        for group in body.chunks_exact(4 * n_channels) {
            let start = out.len();
            out.resize(start + 8 * n_channels, 0.0);
            for (channel, bytes) in group.as_chunks::<4>().0.iter().enumerate() {
                let nibbles = bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]);
                for (frame, nibble) in nibbles.enumerate() {
                    out[start + frame * n_channels + channel] = states[channel].next(nibble);
                }
            }
        }
    }

    /// Layout: per channel the predictor's index, then the deltas, the last samples and the second to last samples;
    /// then nibbles, high nibble first, channels interleaved.
    fn decode_microsoft(&self, block: &[u8], coefficients: &[[i32; 2]], out: &mut Vec<f32>) {
        let n_channels = self.n_channels;
        let Some((header, body)) = block.split_at_checked(7 * n_channels) else {
            return;
        };
        let word = |field: usize, channel: usize| {
            let at = n_channels * (2 * field - 1) + 2 * channel;
            i32::from(i16::from_le_bytes([header[at], header[at + 1]]))
        };
        let mut states: Vec<Microsoft> = (0..n_channels)
            .map(|channel| Microsoft {
                coefficients: coefficients
                    .get(usize::from(header[channel]))
                    .copied()
                    .unwrap_or_default(),
                delta: word(1, channel),
                last: [word(2, channel), word(3, channel)],
            })
            .collect();
        out.extend(states.iter().map(|state| state.last[1] as f32 / 32_768.0));
        out.extend(states.iter().map(|state| state.last[0] as f32 / 32_768.0));
        let nibbles = body.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        for (i, nibble) in nibbles
            .enumerate()
            .take(2 * body.len() / n_channels * n_channels)
        {
            out.push(states[i % n_channels].next(nibble));
        }
    }
}

struct Ima {
    sample: i32,
    index: usize,
}

impl Ima {
    fn next(&mut self, nibble: u8) -> f32 {
        let step = IMA_STEPS[self.index];
        let mut difference = step >> 3;
        for (bit, part) in [(4, step), (2, step >> 1), (1, step >> 2)] {
            if nibble & bit != 0 {
                difference += part;
            }
        }
        let signed = if nibble & 8 == 0 {
            difference
        } else {
            -difference
        };
        self.sample = (self.sample + signed).clamp(-32_768, 32_767);
        let index = self.index as i32 + IMA_INDEX_STEPS[usize::from(nibble & 7)];
        self.index = index.clamp(0, 88) as usize;
        self.sample as f32 / 32_768.0
    }
}

struct Microsoft {
    coefficients: [i32; 2],
    delta: i32,
    /// The last sample and the one before it.
    last: [i32; 2],
}

impl Microsoft {
    fn next(&mut self, nibble: u8) -> f32 {
        let signed = i32::from((nibble << 4).cast_signed() >> 4);
        // Coefficients that a file defines itself can make the products exceed 32 bits.
        let products = self
            .last
            .iter()
            .zip(self.coefficients)
            .map(|(last, k)| i64::from(*last) * i64::from(k));
        let predicted = products.sum::<i64>() >> 8;
        let sample = (predicted + i64::from(signed * self.delta)).clamp(-32_768, 32_767) as i32;
        self.last = [sample, self.last[0]];
        // Never below 16, by the standard. Bounded above, so that malicious blocks cannot overflow.
        self.delta = ((MS_ADAPTATION[usize::from(nibble)] * self.delta) >> 8).clamp(16, 1 << 20);
        sample as f32 / 32_768.0
    }
}
