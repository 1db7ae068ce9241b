//! What the fuzz targets share: a memory limit, and the rule for panics.
//!
//! A panic of ours is a finding, caught or not. One inside another crate that the library catches and turns
//! into an error is tolerated, and listed on stderr once for each place.

#![allow(missing_docs)]

use std::alloc::System;
use std::collections::HashSet;
use std::panic::PanicHookInfo;
use std::path::Path;
use std::sync::Mutex;

use cap::Cap;

/// Most bytes that may be allocated at a time; more aborts, as forged sizes must not be believed.
const MEMORY_LIMIT: usize = 512 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Call once, before the first input.
pub fn initialize() {
    ALLOCATOR
        .set_limit(MEMORY_LIMIT)
        .expect("nothing is allocated yet");
    // Replaces libFuzzer's hook, which aborts on every panic. One that nobody catches still ends the process.
    std::panic::set_hook(Box::new(on_panic));
}

fn on_panic(info: &PanicHookInfo) {
    static SEEN: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    let place = info
        .location()
        .map_or_else(String::new, ToString::to_string);
    if !place.contains("registry/src/") {
        eprintln!("{info}");
        std::process::abort();
    }
    let mut seen = SEEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if seen.get_or_insert_default().insert(place) {
        eprintln!("panic in a dependency: {info}");
    }
}

/// An input that stands for a whole file: it replaces a stretch of a valid one, or is the file itself.
/// Small inputs thereby reach what only a complete file reaches.
///
/// Layout: a byte whose lowest bit says "replace", then, if it is set, `position` (4 bytes, taken modulo the
/// file's length) and `n_removed` (2 bytes), little-endian, then the new bytes.
pub fn splice(base: &[u8], input: &[u8]) -> Vec<u8> {
    let Some((&mode, input)) = input.split_first() else {
        return base.to_vec();
    };
    if mode & 1 == 0 {
        return input.to_vec();
    }
    let Some((&[a, b, c, d, e, f], new)) = input.split_first_chunk() else {
        return base.to_vec();
    };
    let start = u32::from_le_bytes([a, b, c, d]) as usize % (base.len() + 1);
    let end = (start + usize::from(u16::from_le_bytes([e, f]))).min(base.len());
    [&base[..start], new, &base[end..]].concat()
}

/// A file of the bundled model.
pub fn nano(name: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/nano/").to_owned() + name;
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Puts a file into the folder.
pub fn write(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(folder.join(name), bytes).expect("a temporary file can be written");
}
