//! Alignment heads: the heads of cross-attention that follow the speech. They come from the model's own files, or else
//! from the published lists by the model's name, or else they are all heads of the last half of the layers
//! (`whisper/__init__.py::_ALIGNMENT_HEADS`, `whisper/model.py::set_alignment_heads`).

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::checkpoint::GenerationConfig;
use crate::{ModelDimensions, Result};

/// A head of cross-attention: layer and head.
pub(crate) type Head = (usize, usize);

/// Heads of one published model, and the decoder shape that they belong to.
struct Published {
    names: &'static [&'static str],
    n_layer: usize,
    n_head: usize,
    heads: &'static [Head],
}

impl Published {
    /// Returns whether `dims` are those of this model.
    fn has_decoder_of(&self, dims: &ModelDimensions) -> bool {
        (self.n_layer, self.n_head) == (dims.n_text_layer, dims.n_text_head)
    }
}

/// Alignment heads of a model.
#[derive(Debug)]
pub(crate) struct AlignmentHeads {
    heads: Vec<Head>,
    /// If the heads are not the model's own: the file that should list them, and the problem with it.
    doubt: Option<(PathBuf, &'static str)>,
}

impl AlignmentHeads {
    /// Returns the alignment heads of the model in `folder`.
    ///
    /// # Errors
    /// [`crate::Error::Model`] if `generation_config.json` is not JSON.
    pub(crate) fn of(folder: &Path, dims: &ModelDimensions) -> Result<Self> {
        let config = GenerationConfig::read(folder)?;
        let list = config.alignment_heads();
        if let Some(heads) = list.and_then(|list| existing(list, dims)) {
            return Ok(Self { heads, doubt: None });
        }
        let path = match folder.is_file() {
            true => folder.to_owned(),
            false => folder.join("generation_config.json"),
        };
        let doubt = list.map(|_| (path.clone(), "alignment_heads names no heads of this model"));
        Ok(match named(folder, dims) {
            Some(set) => Self {
                heads: set.heads.to_vec(),
                doubt,
            },
            None => Self {
                heads: last_half(dims),
                doubt: doubt.or(Some((path, "there are no alignment_heads"))),
            },
        })
    }

    /// Returns (layer, head) pairs, ascending.
    pub(crate) fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// Returns the heads if they are the model's own or published, and not a guess.
    pub(crate) fn known(&self) -> Option<&[Head]> {
        self.doubt.is_none().then_some(&self.heads[..])
    }

    /// Warns if times may be inaccurate.
    pub(crate) fn warn(&self) {
        if let Some((path, reason)) = &self.doubt {
            tracing::warn!(
                file = %path.display(),
                "{reason}; word timestamps use other heads and may be inaccurate"
            );
        }
    }

    /// Warns if the file `copy` of this model, which has no place for alignment heads, is read with others.
    pub(crate) fn warn_if_lost_in(&self, copy: &Path, dims: &ModelDimensions) {
        let (heads, whose) = match named(copy, dims) {
            Some(set) => (
                set.heads.to_vec(),
                format!("those of the published {}", set.names[0]),
            ),
            None => (
                last_half(dims),
                "all heads of the last half of the layers".to_owned(),
            ),
        };
        if heads == self.heads {
            return;
        }
        let same = |set: &&Published| set.has_decoder_of(dims) && set.heads == self.heads;
        let advice = match (PUBLISHED.iter().find(same), self.known()) {
            (Some(set), _) => format!("; the name ggml-{}.bin keeps them", set.names[0]),
            (None, Some(_)) => "; a Hugging Face folder keeps them (--to safetensors)".to_owned(),
            (None, None) => String::new(),
        };
        tracing::warn!(
            file = %copy.display(),
            "the model's alignment heads have no place in ggml: word timestamps use {whose} and may be inaccurate{advice}"
        );
    }
}

/// Returns the published model that the model in `folder`, or the file, is named after.
fn named(folder: &Path, dims: &ModelDimensions) -> Option<&'static Published> {
    // The name that it has in the hub's cache may be a link to another.
    let paths = [Some(folder.to_owned()), folder.canonicalize().ok()];
    let mut paths = paths.iter().flatten();
    paths.find_map(|path| published(&model_name(path)?, dims))
}

/// Returns the heads of `list`, which is `alignment_heads` of `generation_config.json`. Some distilled models carry the
/// list of the model that they were distilled from, with layers that they do not have: such a list is ignored.
fn existing(list: &Value, dims: &ModelDimensions) -> Option<Vec<Head>> {
    let mut heads = serde_json::from_value::<Vec<Head>>(list.clone()).ok()?;
    let exists = |&(layer, head): &Head| layer < dims.n_text_layer && head < dims.n_text_head;
    if heads.is_empty() || !heads.iter().all(exists) {
        return None;
    }
    heads.sort_unstable();
    heads.dedup();
    Some(heads)
}

/// Returns the name in `models--openai--whisper-tiny/snapshots/HASH`, of `ggml-tiny-q5_1.bin` or `tiny.pt`, or else of the
/// folder, without `whisper-`.
fn model_name(folder: &Path) -> Option<String> {
    let parent = folder.parent();
    let named = match parent.filter(|parent| parent.ends_with("snapshots")) {
        Some(snapshots) => snapshots.parent()?,
        None => folder,
    };
    let name = named.file_name()?.to_str()?;
    if folder.is_file() {
        if let Some(name) = name.strip_suffix(".pt") {
            return Some(name.to_owned());
        }
        let name = name.strip_suffix(".bin").unwrap_or(name);
        let name = name.strip_prefix("ggml-").unwrap_or(name);
        // `q5_1`, `f16`, `bf16`, and not `fr` of a fine-tune.
        let is_type = |(_, suffix): &(&str, &str)| {
            let bits = suffix.trim_start_matches('b').strip_prefix(['q', 'f']);
            bits.is_some_and(|bits| bits.starts_with(|c: char| c.is_ascii_digit()))
        };
        let typed = name.rsplit_once('-').filter(is_type);
        return Some(typed.map_or(name, |(name, _)| name).to_owned());
    }
    let name = name.strip_prefix("models--openai--").unwrap_or(name);
    Some(name.strip_prefix("whisper-").unwrap_or(name).to_owned())
}

/// Returns the published model with this name, if `dims` are its shape.
fn published(name: &str, dims: &ModelDimensions) -> Option<&'static Published> {
    // openai/whisper's `large` is the third version; the repository of that name on Hugging Face holds the first.
    let name = match name {
        "large" if dims.n_mels == 80 => "large-v1",
        name => name,
    };
    PUBLISHED
        .iter()
        .find(|set| set.names.contains(&name))
        .filter(|set| set.has_decoder_of(dims))
}

fn last_half(dims: &ModelDimensions) -> Vec<Head> {
    (dims.n_text_layer / 2..dims.n_text_layer)
        .flat_map(|layer| (0..dims.n_text_head).map(move |head| (layer, head)))
        .collect()
}

#[rustfmt::skip]
const PUBLISHED: &[Published] = &[
    Published {
        names: &["tiny.en"],
        n_layer: 4,
        n_head: 6,
        heads: &[(1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)],
    },
    Published {
        names: &["tiny"],
        n_layer: 4,
        n_head: 6,
        heads: &[(2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)],
    },
    Published {
        names: &["base.en"],
        n_layer: 6,
        n_head: 8,
        heads: &[(3, 3), (4, 7), (5, 1), (5, 5), (5, 7)],
    },
    Published {
        names: &["base"],
        n_layer: 6,
        n_head: 8,
        heads: &[(3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6)],
    },
    Published {
        names: &["small.en"],
        n_layer: 12,
        n_head: 12,
        heads: &[
            (6, 6), (7, 0), (7, 3), (7, 8), (8, 2), (8, 5), (8, 7), (9, 0), (9, 4), (9, 8), (9, 10), (10, 0),
            (10, 1), (10, 2), (10, 3), (10, 6), (10, 11), (11, 2), (11, 4),
        ],
    },
    Published {
        names: &["small"],
        n_layer: 12,
        n_head: 12,
        heads: &[(5, 3), (5, 9), (8, 0), (8, 4), (8, 7), (8, 8), (9, 0), (9, 7), (9, 9), (10, 5)],
    },
    Published {
        names: &["medium.en"],
        n_layer: 24,
        n_head: 16,
        heads: &[
            (11, 4), (14, 1), (14, 12), (14, 14), (15, 4), (16, 0), (16, 4), (16, 9), (17, 12), (17, 14),
            (18, 7), (18, 10), (18, 15), (20, 0), (20, 3), (20, 9), (20, 14), (21, 12),
        ],
    },
    Published {
        names: &["medium"],
        n_layer: 24,
        n_head: 16,
        heads: &[(13, 15), (15, 4), (15, 15), (16, 1), (20, 0), (23, 4)],
    },
    Published {
        names: &["large-v1"],
        n_layer: 32,
        n_head: 20,
        heads: &[(9, 19), (11, 2), (11, 4), (11, 17), (22, 7), (22, 11), (22, 17), (23, 2), (23, 15)],
    },
    Published {
        names: &["large-v2"],
        n_layer: 32,
        n_head: 20,
        heads: &[
            (10, 12), (13, 17), (16, 11), (16, 12), (16, 13), (17, 15), (17, 16), (18, 4), (18, 11), (18, 19),
            (19, 11), (21, 2), (21, 3), (22, 3), (22, 9), (22, 12), (23, 5), (23, 7), (23, 13), (25, 5),
            (26, 1), (26, 12), (27, 15),
        ],
    },
    Published {
        names: &["large-v3", "large"],
        n_layer: 32,
        n_head: 20,
        heads: &[(7, 0), (10, 17), (12, 18), (13, 12), (16, 1), (17, 14), (19, 11), (21, 4), (24, 1), (25, 6)],
    },
    Published {
        names: &["large-v3-turbo", "turbo"],
        n_layer: 4,
        n_head: 20,
        heads: &[(2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14)],
    },
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn dims(n_text_layer: usize, n_text_head: usize) -> ModelDimensions {
        ModelDimensions {
            n_mels: 80,
            n_audio_ctx: 1500,
            n_audio_state: 64 * n_text_head,
            n_audio_head: n_text_head,
            n_audio_layer: n_text_layer,
            n_vocab: 51865,
            n_text_ctx: 448,
            n_text_state: 64 * n_text_head,
            n_text_head,
            n_text_layer,
        }
    }

    /// Returns the heads for a folder of this name with this generation_config.json.
    fn heads(name: &str, config: Option<&str>, dims: &ModelDimensions) -> Result<Vec<Head>> {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        if let Some(config) = config {
            std::fs::write(folder.join("generation_config.json"), config).unwrap();
        }
        Ok(AlignmentHeads::of(&folder, dims)?.heads)
    }

    #[test]
    fn fourteen_names_have_twelve_sets_of_heads_that_exist() {
        assert_eq!(PUBLISHED.len(), 12);
        assert_eq!(
            PUBLISHED.iter().map(|set| set.names.len()).sum::<usize>(),
            14
        );
        // Numbers of heads as in whisper/__init__.py, so that no edit loses a head.
        let n_heads: Vec<usize> = PUBLISHED.iter().map(|set| set.heads.len()).collect();
        assert_eq!(n_heads, [8, 6, 5, 8, 19, 10, 18, 6, 9, 23, 10, 6]);
        for set in PUBLISHED {
            assert!(set.heads.is_sorted(), "{:?}", set.names);
            for &(layer, head) in set.heads {
                assert!(layer < set.n_layer && head < set.n_head, "{:?}", set.names);
            }
        }
    }

    #[test]
    fn the_models_own_file_wins_over_its_name_and_the_name_over_the_last_half() {
        let tiny = dims(4, 6);
        let of_tiny = [(2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)];
        let own = Some(r#"{"alignment_heads": [[3, 1], [2, 0]]}"#);
        assert_eq!(heads("tiny", own, &tiny).unwrap(), [(2, 0), (3, 1)]);
        for name in [
            "tiny",
            "whisper-tiny",
            "openai/whisper-tiny",
            "models--openai--whisper-tiny/snapshots/0123abcd",
        ] {
            for config in [None, Some("{}"), Some(r#"{"alignment_heads": null}"#)] {
                assert_eq!(heads(name, config, &tiny).unwrap(), of_tiny, "{name}");
            }
        }
        let last_half = last_half(&tiny);
        assert_eq!(last_half.len(), 12);
        assert_eq!((last_half[0], last_half[11]), ((2, 0), (3, 5)));
        let mut large = dims(32, 20);
        assert_eq!(heads("whisper-large", None, &large).unwrap()[0], (9, 19));
        large.n_mels = 128;
        assert_eq!(heads("large", None, &large).unwrap()[0], (7, 0));
        // A fine-tune, and another model named tiny.
        assert_eq!(heads("whisper-tiny-cs", None, &tiny).unwrap(), last_half);
        assert_eq!(heads("tiny", None, &dims(4, 8)).unwrap().len(), 16);
    }

    #[test]
    #[cfg(unix)]
    fn a_file_is_named_by_itself_or_by_what_it_links_to() {
        let root = tempfile::tempdir().unwrap();
        let tiny = dims(4, 6);
        let of_tiny = published("tiny", &tiny).unwrap().heads;
        let heads = |path: &Path| AlignmentHeads::of(path, &tiny).unwrap().heads;
        for name in [
            "tiny.pt",
            "ggml-tiny.bin",
            "ggml-tiny-q5_1.bin",
            "tiny-bf16.bin",
        ] {
            let path = root.path().join(name);
            std::fs::write(&path, "").unwrap();
            assert_eq!(heads(&path), of_tiny, "{name}");
        }
        for name in ["tiny-fr.bin", "ggml-tiny-finetuned.bin"] {
            let path = root.path().join(name);
            std::fs::write(&path, "").unwrap();
            assert_eq!(heads(&path), last_half(&tiny), "{name}");
        }
        let other = root.path().join("other.pt");
        std::os::unix::fs::symlink("tiny.pt", &other).unwrap();
        assert_eq!(heads(&other), of_tiny);
        // As in the hub's cache.
        let [blob, link] = ["0123abcd", "tiny.pt"].map(|name| root.path().join(name));
        std::fs::rename(&link, &blob).unwrap();
        std::os::unix::fs::symlink("0123abcd", &link).unwrap();
        assert_eq!(heads(&link), of_tiny);
        assert_eq!(heads(&blob).len(), 12);
    }

    #[test]
    fn lists_with_heads_that_the_model_does_not_have_are_ignored() {
        let distilled = dims(2, 20);
        for list in [
            "[[10, 12]]",
            "[]",
            "[[1]]",
            "[[1, -1]]",
            "\"all\"",
            "[[1, 20]]",
        ] {
            let config = format!(r#"{{"alignment_heads": {list}}}"#);
            let heads = heads("distil-large-v2", Some(&config), &distilled).unwrap();
            assert_eq!(heads.len(), 20, "{list}");
        }
    }

    #[test]
    fn a_generation_config_that_is_no_json_is_an_error() {
        let error = heads("tiny", Some("{"), &dims(4, 6))
            .unwrap_err()
            .to_string();
        assert!(error.contains("generation_config.json"), "{error}");
    }
}
