//! Writers of MP4 and Matroska files.

/// Returns a box of an MP4 file.
pub fn mp4_box(name: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut out = (8 + body.len() as u32).to_be_bytes().to_vec();
    out.extend(name);
    out.extend(body);
    out
}

/// Returns concatenated big-endian words.
pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A QuickTime file of PCM samples at 16 kHz, whose index precedes the data.
pub struct Mov {
    /// Name of the sample description.
    pub name: [u8; 4],
    pub n_channels: u16,
    pub bits: u16,
    /// Version 0 to 2 of the sample description.
    pub version: u16,
    /// Flags of version 2.
    pub flags: u32,
    /// Boxes in the sample description.
    pub boxes: Vec<u8>,
    pub frame_len: usize,
    pub data: Vec<u8>,
    /// Length in ms and start in frames of each edit; -1: a pause.
    pub edits: Vec<(u32, i32)>,
}

impl Mov {
    pub fn new(name: &[u8; 4], n_channels: u16, bits: u16, data: Vec<u8>) -> Self {
        Self {
            name: *name,
            n_channels,
            bits,
            version: 0,
            flags: 0,
            boxes: Vec::new(),
            frame_len: usize::from(n_channels) * usize::from(bits / 8),
            data,
            edits: Vec::new(),
        }
    }

    /// Returns the sample description.
    fn entry(&self) -> Vec<u8> {
        let half = |number: u16| number.to_be_bytes().to_vec();
        let mut body = vec![0, 0, 0, 0, 0, 0, 0, 1];
        body.extend(half(self.version));
        body.extend([0; 6]);
        if self.version == 2 {
            body.extend([half(3), half(16), half(0xFFFE), half(0)].concat());
            body.extend(words(&[0x1_0000, 72]));
            body.extend(16_000_f64.to_be_bytes());
            body.extend(words(&[u32::from(self.n_channels), 0x7F00_0000]));
            body.extend(words(&[self.bits.into(), self.flags]));
            body.extend(words(&[self.frame_len as u32, 1]));
        } else {
            body.extend([half(self.n_channels), half(self.bits), half(0), half(0)].concat());
            body.extend(words(&[16_000 << 16]));
            if self.version == 1 {
                body.extend(words(&[1, 2, self.frame_len as u32, 2]));
            }
        }
        mp4_box(&self.name, &[&body, &self.boxes])
    }

    pub fn bytes(&self) -> Vec<u8> {
        let ftyp = mp4_box(b"ftyp", &[b"qt  \0\0\0\0qt  "]);
        // The offsets of the chunks depend on the length of the index.
        let moov = self.moov(0);
        let moov = self.moov((ftyp.len() + moov.len() + 8) as u32);
        [ftyp, moov, mp4_box(b"mdat", &[&self.data])].concat()
    }

    fn moov(&self, start: u32) -> Vec<u8> {
        let n = (self.data.len() / self.frame_len) as u32;
        // Two chunks of different lengths.
        let first = n / 3;
        let split = start + first * self.frame_len as u32;
        let table = |name: &[u8; 4], entries: &[u32]| mp4_box(name, &[&words(entries)]);
        let stbl = mp4_box(
            b"stbl",
            &[
                &mp4_box(b"stsd", &[&words(&[0, 1]), &self.entry()]),
                &table(b"stts", &[0, 1, n, 1]),
                &table(b"stsc", &[0, 2, 1, first, 1, 2, n - first, 1]),
                &table(b"stsz", &[0, self.frame_len as u32, n]),
                &table(b"stco", &[0, 2, start, split]),
            ],
        );
        let edits: Vec<u8> = self
            .edits
            .iter()
            .flat_map(|(length, start)| words(&[*length, start.cast_unsigned(), 0x1_0000]))
            .collect();
        let elst = mp4_box(b"elst", &[&words(&[0, self.edits.len() as u32]), &edits]);
        let mdia = mp4_box(
            b"mdia",
            &[
                &table(b"mdhd", &[0, 0, 0, 16_000, n, 0]),
                &mp4_box(b"hdlr", &[&words(&[0, 0]), b"soun", &[0; 13]]),
                &mp4_box(b"minf", &[&stbl]),
            ],
        );
        let trak = mp4_box(
            b"trak",
            &[
                &table(b"tkhd", &[1, 0, 0, 1, 0]),
                &mp4_box(b"edts", &[&elst]),
                &mdia,
            ],
        );
        mp4_box(b"moov", &[&table(b"mvhd", &[0, 0, 0, 1000, n / 16]), &trak])
    }
}

/// Returns an element of a Matroska file, with a length of four bytes.
pub fn element(id: u32, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let id = id.to_be_bytes();
    let first = id.iter().position(|byte| *byte != 0).unwrap_or(3);
    let mut out = id[first..].to_vec();
    out.extend((0x1000_0000 | body.len() as u32).to_be_bytes());
    out.extend(body);
    out
}

/// Returns a Matroska file with one cluster per element of `blocks`, with known lengths or, as in live recordings,
/// unknown ones.
pub fn mkv(tracks: &[Vec<u8>], blocks: &[Vec<u8>], is_live: bool) -> Vec<u8> {
    let master = |id: u32, parts: &[&[u8]]| {
        let mut out = element(id, parts);
        if is_live {
            out[4..8].copy_from_slice(&0x1FFF_FFFF_u32.to_be_bytes());
        }
        out
    };
    let clusters = blocks.iter().enumerate().map(|(i, block)| {
        let time = element(0xE7, &[&(100 * i as u32).to_be_bytes()]);
        master(0x1F43_B675, &[&time, block])
    });
    let clusters: Vec<u8> = clusters.flatten().collect();
    let tracks = element(0x1654_AE6B, &[&tracks.concat()]);
    let ebml = element(0x1A45_DFA3, &[&element(0x4282, &[b"matroska"])]);
    let segment = master(0x1853_8067, &[&tracks, &clusters]);
    [ebml, segment].concat()
}

/// Returns an audio track of little-endian 16-bit samples at 16 kHz.
pub fn mkv_track(number: u8, is_default: bool, more: &[u8]) -> Vec<u8> {
    let audio = [
        element(0xB5, &[&16_000_f32.to_be_bytes()]),
        element(0x9F, &[&[1]]),
        element(0x6264, &[&[16]]),
    ];
    element(
        0xAE,
        &[
            &element(0xD7, &[&[number]]),
            &element(0x83, &[&[2]]),
            &element(0x88, &[&[u8::from(is_default)]]),
            &element(0x86, &[b"A_PCM/INT/LIT"]),
            &element(0xE1, &[&audio.concat()]),
            more,
        ],
    )
}

/// Returns a block with one packet.
pub fn simple_block(number: u8, data: &[u8]) -> Vec<u8> {
    element(0xA3, &[&[0x80 | number, 0, 0, 0x80], data])
}
