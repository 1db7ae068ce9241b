//! Channel layouts of Core Audio, as used by CAF (`chan`), AIFF (`CHAN`) and QuickTime (`chan`): a tag for a list of
//! speakers, a speaker bitmap, or one description per channel.
//!
//! Reference: Apple "Core Audio Data Types", `AudioChannelLayout`; the order of each tag's channels is that of its comment
//! in `CoreAudioBaseTypes.h`.

use super::downmix::{Downmix, Speaker};

/// Maximum number of bytes read of a layout: tag, bitmap, number of descriptions, and 20 bytes for each of 64 channels.
pub(super) const MAX_LEN: u64 = 12 + 20 * 64;
/// `kAudioChannelLayoutTag_UseChannelDescriptions`.
const BY_DESCRIPTIONS: u32 = 0;
/// `kAudioChannelLayoutTag_UseChannelBitmap`.
const BY_MASK: u32 = 1 << 16;

/// Speakers in channel order, by the upper 16 bits of the tag; the lower 16 bits are the number of channels.
const TAGS: [(u32, &str); 46] = [
    (100, "C"),
    (101, "L R"),
    (108, "L R Ls Rs"),
    (109, "L R Ls Rs C"),
    (110, "L R Ls Rs C Cs"),
    (111, "L R Rls Rrs C Cs Ls Rs"),
    (113, "L R C"),
    (114, "C L R"),
    (115, "L R C Cs"),
    (116, "C L R Cs"),
    (117, "L R C Ls Rs"),
    (118, "L R Ls Rs C"),
    (119, "L C R Ls Rs"),
    (120, "C L R Ls Rs"),
    (121, "L R C LFE Ls Rs"),
    (122, "L R Ls Rs C LFE"),
    (123, "L C R Ls Rs LFE"),
    (124, "C L R Ls Rs LFE"),
    (125, "L R C LFE Ls Rs Cs"),
    (126, "L R C LFE Ls Rs Lc Rc"),
    (127, "C Lc Rc L R Ls Rs LFE"),
    (128, "L R C LFE Ls Rs Rls Rrs"),
    (129, "L R Ls Rs C LFE Lc Rc"),
    (131, "L R Cs"),
    (132, "L R Ls Rs"),
    (133, "L R LFE"),
    (134, "L R LFE Cs"),
    (135, "L R LFE Ls Rs"),
    (136, "L R C LFE"),
    (137, "L R C LFE Cs"),
    (138, "L R Ls Rs LFE"),
    (139, "L R Ls Rs C Cs"),
    (140, "L R Ls Rs C Rls Rrs"),
    (141, "C L R Ls Rs Cs"),
    (142, "C L R Ls Rs Cs LFE"),
    (143, "C L R Ls Rs Rls Rrs"),
    (144, "C L R Ls Rs Rls Rrs Cs"),
    (148, "L R Ls Rs C Lc Rc"),
    (149, "C LFE"),
    (150, "L C R"),
    (151, "L C R Cs"),
    (152, "L C R LFE"),
    (153, "L R Cs LFE"),
    (154, "L C R Cs LFE"),
    // Variants of stereo, whose channels are left and right.
    (102, "L R"),
    (106, "L R"),
];

/// Returns the downmix of `n_channels` channels in this layout: the mean if the layout does not define every channel's
/// position.
pub(super) fn downmix(layout: &[u8], n_channels: usize) -> Downmix {
    let word = |at: usize| Some(u32::from_be_bytes(*layout.get(at..)?.first_chunk()?));
    let speakers: Option<Vec<Speaker>> = match word(0) {
        // The bitmap's bits are those of a WAVE channel mask.
        Some(BY_MASK) => return Downmix::from_mask(word(4).unwrap_or(0).into(), n_channels),
        Some(BY_DESCRIPTIONS) if word(8) == u32::try_from(n_channels).ok() => (0..n_channels)
            .map(|channel| labelled(word(12 + 20 * channel)?))
            .collect(),
        Some(tag) => tagged(tag >> 16),
        None => None,
    };
    speakers
        .filter(|speakers| speakers.len() == n_channels)
        .map_or_else(Downmix::default, |speakers| Downmix::new(&speakers))
}

fn tagged(tag: u32) -> Option<Vec<Speaker>> {
    let (_, names) = TAGS.iter().find(|(known, _)| *known == tag)?;
    names.split(' ').map(named).collect()
}

fn named(name: &str) -> Option<Speaker> {
    Some(match name {
        "L" => Speaker::FRONT_LEFT,
        "R" => Speaker::FRONT_RIGHT,
        "C" => Speaker::FRONT_CENTER,
        "LFE" => Speaker::LOW_FREQUENCY,
        "Lc" => Speaker::FRONT_LEFT_OF_CENTER,
        "Rc" => Speaker::FRONT_RIGHT_OF_CENTER,
        "Ls" => Speaker::SIDE_LEFT,
        "Rs" => Speaker::SIDE_RIGHT,
        "Cs" => Speaker::BACK_CENTER,
        "Rls" => Speaker::BACK_LEFT,
        "Rrs" => Speaker::BACK_RIGHT,
        _ => return None,
    })
}

/// Returns the speaker of a channel label.
fn labelled(label: u32) -> Option<Speaker> {
    Some(match label {
        // Labels in the order of a WAVE channel mask.
        1..=18 => Speaker(label - 1),
        33 => Speaker::BACK_LEFT,
        34 => Speaker::BACK_RIGHT,
        37 => Speaker::LOW_FREQUENCY,
        // Left and right of a stereo mix, and of headphones.
        38 | 301 => Speaker::FRONT_LEFT,
        39 | 302 => Speaker::FRONT_RIGHT,
        // Mono.
        42 => Speaker::FRONT_CENTER,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn every_tag_names_speakers_that_there_are_and_none_is_there_twice() {
        for (index, (tag, names)) in TAGS.iter().enumerate() {
            let speakers = tagged(*tag);
            assert_eq!(
                speakers.map(|speakers| speakers.len()),
                Some(names.split(' ').count()),
                "{tag}"
            );
            assert!(TAGS[..index].iter().all(|(other, _)| other != tag), "{tag}");
        }
    }

    #[test]
    fn tags_masks_and_descriptions_of_one_layout_are_one_downmix() {
        let expected = Downmix::from_mask(0x3F, 6);
        assert_ne!(expected, Downmix::default());
        let labels = |labels: [u32; 6]| {
            let mut words = vec![0, 0, 6];
            for label in labels {
                words.extend([label, 0, 0, 0, 0]);
            }
            layout(&words)
        };
        for layout in [
            layout(&[121 << 16 | 6, 0, 0]),
            layout(&[1 << 16, 0x3F, 0]),
            labels([1, 2, 3, 4, 5, 6]),
            labels([1, 2, 42, 37, 33, 34]),
        ] {
            assert_eq!(downmix(&layout, 6), expected);
        }
        let expected = Downmix::new(&[
            Speaker::FRONT_CENTER,
            Speaker::FRONT_LEFT,
            Speaker::FRONT_RIGHT,
            Speaker::BACK_LEFT,
            Speaker::BACK_RIGHT,
            Speaker::LOW_FREQUENCY,
        ]);
        assert_eq!(downmix(&layout(&[124 << 16 | 6, 0, 0]), 6), expected);
        assert_eq!(downmix(&labels([3, 1, 2, 5, 6, 4]), 6), expected);
    }

    #[test]
    fn layouts_that_do_not_tell_every_place_give_the_mean() {
        for (words, n_channels) in [
            (&[][..], 6),
            (&[121 << 16 | 6, 0, 0], 4),
            (&[1 << 16], 6),
            (&[1 << 16, 7, 0], 6),
            // Truncated layouts, too few descriptions, a channel of unknown position, discrete channels.
            (&[0, 0, 2, 3, 0, 0, 0, 0], 2),
            (&[0, 0, 1, 3, 0, 0, 0, 0], 2),
            (&[0, 0, 1, 0xFFFF_FFFF, 0, 0, 0, 0], 1),
            (&[147 << 16 | 6, 0, 0], 6),
        ] {
            assert_eq!(
                downmix(&layout(words), n_channels),
                Downmix::default(),
                "{words:?}"
            );
        }
        assert_eq!(downmix(&[0, 121, 0], 6), Downmix::default());
    }
}
