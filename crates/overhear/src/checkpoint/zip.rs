//! Reader of zip archives with stored entries, as `torch.save` writes them (APPNOTE.TXT 6.3.10, section 4.3).
//!
//! Nothing is decompressed: entries are ranges of the file. They may not overlap, so that a small file cannot have many large
//! entries, and nothing is allocated for a size that the file does not have.

use std::fs::File;

use super::cursor::Cursor;
use super::fields::{Parsed, unreadable};
use super::tensor_file::{MAX_TENSORS, is_plausible, read_exact_at};
use crate::excerpt::excerpt;

/// Beginning of a file whose first entry is at its beginning.
pub(super) const MAGIC: &[u8; 4] = b"PK\x03\x04";
const ENTRY: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";

/// Bytes of the fixed part of an entry's own header.
const HEADER_LEN: u64 = 30;
/// Bytes of the end of the central directory, without comment.
const END_LEN: u64 = 22;
/// Bytes of the two parts of that end that zip64 adds: the sizes, and before [`END`] where they are.
const END_64_LEN: u64 = 56;
const LOCATOR_64_LEN: u64 = 20;
/// Maximum number of bytes of the central directory: those of [`MAX_TENSORS`] entries with names of 100 bytes.
const MAX_DIRECTORY_BYTES: u64 = 8 << 20;

/// A stored entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    /// CRC-32 of its bytes. torch writes 0 where it was told to omit checksums.
    pub(super) crc: u32,
    /// Position of its first byte in the file.
    pub(super) first: u64,
    /// Number of its bytes, which the file has.
    pub(super) len: u64,
}

/// Place of the central directory: number of entries, number of bytes, position.
struct Directory {
    n_entries: u64,
    len: u64,
    first: u64,
}

/// Reads the entries of an archive of `file_len` bytes, in the order of their places.
///
/// # Errors
/// The reason if the archive is cut or damaged, or if an entry is compressed.
pub(super) fn entries(file: &File, file_len: u64) -> Parsed<Vec<Entry>> {
    let directory = directory(file, file_len)?;
    if directory.n_entries > 2 * MAX_TENSORS as u64 || directory.len > MAX_DIRECTORY_BYTES {
        return Err(format!(
            "a zip archive of {} entries, listed in {} bytes",
            directory.n_entries, directory.len
        ));
    }
    let bytes = read(file, directory.first, directory.len as usize)?;
    let mut cursor = Cursor::new(&bytes);
    let mut entries = Vec::new();
    for _ in 0..directory.n_entries {
        let entry = entry(&mut cursor);
        entries
            .push(entry.map_err(|reason| format!("list of the zip archive's entries: {reason}"))?);
    }
    if !cursor.is_at_end() {
        return Err("the list of the zip archive's entries is longer than they are".to_owned());
    }
    entries.sort_by_key(|entry| entry.first);
    let mut end = 0;
    for entry in &mut entries {
        if entry.first < end {
            return Err(format!("{} overlaps another entry", excerpt(&entry.name)));
        }
        entry.first = data_start(file, entry, directory.first)?;
        end = entry.first.saturating_add(entry.len);
        if end > directory.first {
            return Err(beyond(entry, end, directory.first));
        }
    }
    Ok(entries)
}

/// Returns the position of the first byte of an entry, behind its own header, which must agree with the list of entries.
/// `limit` is the end of all entries.
fn data_start(file: &File, entry: &Entry, limit: u64) -> Parsed<u64> {
    let needs = entry.first.saturating_add(HEADER_LEN);
    if needs > limit {
        return Err(beyond(entry, needs, limit));
    }
    let header = read(file, entry.first, HEADER_LEN as usize)?;
    let mut cursor = Cursor::new(&header);
    let magic = cursor.bytes(4)?;
    cursor.bytes(22)?;
    let (n_name, n_extra) = (cursor.number::<2>()?, cursor.number::<2>()?);
    let first = needs + n_name + n_extra;
    if first > limit {
        return Err(beyond(entry, first, limit));
    }
    let names = read(file, needs, (n_name + n_extra) as usize)?;
    let (name, extra) = names.split_at(n_name as usize);
    // Optional fields, one of which is the padding that aligns the entry: a wrong length would move its bytes.
    let mut extra = Cursor::new(extra);
    let mut is_whole = magic == MAGIC && name == entry.name.as_bytes();
    while is_whole && !extra.is_at_end() {
        let field = extra.bytes(2).and_then(|_| extra.number::<2>());
        is_whole = field.and_then(|n| extra.bytes(n as usize)).is_ok();
    }
    match is_whole {
        true => Ok(first),
        false => Err(format!("the header of {} is damaged", excerpt(&entry.name))),
    }
}

fn beyond(entry: &Entry, needs: u64, has: u64) -> String {
    let name = excerpt(&entry.name);
    format!("{name} needs {needs} bytes of file, and there are {has}")
}

/// Finds the central directory: its description is at the end of the file, before a comment that torch does not write.
fn directory(file: &File, file_len: u64) -> Parsed<Directory> {
    let tail_len = file_len.min(END_LEN + u64::from(u16::MAX));
    let tail = read(file, file_len - tail_len, tail_len as usize)?;
    let is_end = |&at: &usize| {
        let end = &tail[at..];
        end.starts_with(END)
            && end.len() == 22 + usize::from(u16::from_le_bytes([end[20], end[21]]))
    };
    let last = tail.len().checked_sub(END_LEN as usize);
    let found = last.and_then(|last| (0..=last).rev().find(is_end));
    let Some(at) = found else {
        return Err(format!(
            "file is {file_len} bytes, and the end of a zip archive is missing: it is cut or damaged"
        ));
    };
    let mut cursor = Cursor::new(&tail[at..]);
    cursor.bytes(10)?;
    let mut directory = Directory {
        n_entries: cursor.number::<2>()?,
        len: cursor.number::<4>()?,
        first: cursor.number::<4>()?,
    };
    let mut end = file_len - tail_len + at as u64;
    if let Some(locator) = end.checked_sub(LOCATOR_64_LEN) {
        let bytes = read(file, locator, LOCATOR_64_LEN as usize)?;
        let mut cursor = Cursor::new(&bytes);
        if cursor.bytes(4)? == LOCATOR_64 {
            cursor.bytes(4)?;
            end = cursor.number::<8>()?;
            directory = directory_64(file, end, locator)?;
        }
    }
    match directory.first.checked_add(directory.len) {
        Some(needs) if needs <= end => Ok(directory),
        _ => Err(format!(
            "the list of the zip archive's entries is bytes {} to {}, of {end}",
            directory.first,
            u128::from(directory.first) + u128::from(directory.len)
        )),
    }
}

/// Reads the description of the central directory in the form of zip64, at byte `first`; what follows begins at `limit`.
fn directory_64(file: &File, first: u64, limit: u64) -> Parsed<Directory> {
    if first.checked_add(END_64_LEN).is_none_or(|end| end > limit) {
        return Err(format!(
            "the zip archive's end is at byte {first} of {limit}"
        ));
    }
    let bytes = read(file, first, END_64_LEN as usize)?;
    let mut cursor = Cursor::new(&bytes);
    if cursor.bytes(4)? != END_64 {
        return Err(format!("no end of a zip archive at byte {first}"));
    }
    cursor.bytes(28)?;
    Ok(Directory {
        n_entries: cursor.number::<8>()?,
        len: cursor.number::<8>()?,
        first: cursor.number::<8>()?,
    })
}

/// Reads an entry of the central directory; `first` is the position of the entry's own header.
fn entry(cursor: &mut Cursor) -> Parsed<Entry> {
    let at = cursor.position();
    if cursor.bytes(4)? != ENTRY {
        return Err(format!("no entry at byte {at}"));
    }
    cursor.bytes(4)?;
    let (flags, method) = (cursor.number::<2>()?, cursor.number::<2>()?);
    cursor.bytes(4)?;
    let crc = cursor.number::<4>()? as u32;
    let (mut stored, mut len) = (cursor.number::<4>()?, cursor.number::<4>()?);
    let [n_name, n_extra, n_comment] = [
        cursor.number::<2>()?,
        cursor.number::<2>()?,
        cursor.number::<2>()?,
    ];
    cursor.bytes(8)?;
    let mut first = cursor.number::<4>()?;
    let name = std::str::from_utf8(cursor.bytes(n_name as usize)?);
    let name = name.ok().filter(|name| is_plausible(name));
    let name = name
        .ok_or_else(|| format!("no name at byte {at}"))?
        .to_owned();
    let mut extra = Cursor::new(cursor.bytes(n_extra as usize)?);
    cursor.bytes(n_comment as usize)?;
    while !extra.is_at_end() {
        let (kind, n) = (extra.number::<2>()?, extra.number::<2>()?);
        let mut field = Cursor::new(extra.bytes(n as usize)?);
        // Zip64: 8 bytes for each of these numbers that does not fit into 4.
        if kind == 1 {
            for number in [&mut len, &mut stored, &mut first] {
                if *number == u64::from(u32::MAX) {
                    *number = field.number::<8>()?;
                }
            }
        }
    }
    let is_encrypted = flags & 1 != 0;
    if method != 0 || stored != len || is_encrypted {
        return Err(format!(
            "{} is compressed or encrypted, which torch.save never does",
            excerpt(&name)
        ));
    }
    Ok(Entry {
        name,
        crc,
        first,
        len,
    })
}

fn read(file: &File, first: u64, n: usize) -> Parsed<Vec<u8>> {
    let mut bytes = vec![0; n];
    read_exact_at(file, &mut bytes, first).map_err(unreadable)?;
    Ok(bytes)
}
