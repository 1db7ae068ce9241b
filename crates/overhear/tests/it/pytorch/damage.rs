//! Files that are damaged, or meant to harm: each is refused in one line, soon and without running anything.

use std::fs;
use std::time::{Duration, Instant};

use overhear::Model;

use crate::common;

use super::writer::{Entry, Pickle, archive, begin, file};

/// Opens a file, which must be refused soon and in one line, and returns the reason.
fn refused(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.pt");
    fs::write(&path, bytes).unwrap();
    let start = Instant::now();
    let error = Model::open(&path, &common::exact()).err().unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(matches!(error, overhear::Error::Model { .. }));
    let said = error.to_string();
    assert!(!said.contains('\n') && said.len() < 400, "{said}");
    let reason = said.strip_prefix(&format!("{}: ", path.display()));
    reason.unwrap().to_owned()
}

#[test]
fn functions_that_tensors_do_not_need_are_refused_by_name_and_not_called() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let command = format!("touch {}", mark.display());
    let call = |function: &[u8], argument: &str| {
        let pickle = begin().raw(function).raw(b"(").text(argument).raw(b"tR.");
        refused(&file(pickle, &[]))
    };
    for (function, name) in [
        (&b"cos\nsystem\n"[..], "os.system"),
        (b"cposix\nsystem\n", "posix.system"),
        (b"cbuiltins\neval\n", "builtins.eval"),
        (b"c__builtin__\ngetattr\n", "__builtin__.getattr"),
        (b"c_pickle\nloads\n", "_pickle.loads"),
        (b"ctorch\nload\n", "torch.load"),
        (
            b"ctorch._utils\n_rebuild_tensor\n",
            "torch._utils._rebuild_tensor",
        ),
        (b"\x8c\x02os\x8c\x06system\x93", "os.system"),
        (b"c\x1b[31m\n\n", "\\u{1b}[31m."),
    ] {
        assert_eq!(
            call(function, &command).split_once(": ").unwrap().1,
            format!(
                "{name} is none of the functions that tensors need: refused, nothing was executed"
            )
        );
    }
    assert!(!mark.exists());
    // In the attributes of an allowed class, and as what is called with an allowed function.
    let pickle = begin().raw(b"}cos\nsystem\nb.");
    assert!(refused(&file(pickle, &[])).contains("os.system"));
    let pickle = begin()
        .raw(b"ccollections\nOrderedDict\n(")
        .text("a")
        .raw(b"tR.");
    assert_eq!(
        refused(&file(pickle, &[])),
        "data.pkl, byte 35: OrderedDict with other arguments than torch's"
    );
    // Objects, extensions, bytes (a pickle in a pickle), sets, out-of-band buffers.
    for opcode in [
        b'i', b'o', 0x81, 0x92, 0x82, b'C', b'B', 0x8f, 0x97, b'P', b'I', b'V', 0xff,
    ] {
        let said = refused(&file(begin().raw(b"(").raw(&[opcode, 0, 0, 0, 0]), &[]));
        let expected = format!(
            "data.pkl, byte 3: instruction 0x{opcode:02x} is none that tensors need: refused, nothing was executed"
        );
        assert_eq!(said, expected);
    }
}

#[test]
fn pickles_that_are_no_programs_are_errors() {
    let itself = begin().raw(b"}q\0").text("a").raw(b"h\0s.");
    let long = |bytes: &[u8]| begin().raw(&bytes.repeat(1_000_000));
    let cases = [
        (Pickle::default(), "data.pkl, byte 0: ends at byte 0"),
        (begin(), "data.pkl, byte 2: ends at byte 2"),
        (begin().raw(b"."), "data.pkl, byte 2: a value is missing"),
        (
            begin().raw(b"}NN(s."),
            "data.pkl, byte 6: a value is missing",
        ),
        (begin().raw(b"t."), "data.pkl, byte 2: a mark is missing"),
        (begin().raw(b"h\0."), "data.pkl, byte 2: no value 0 is kept"),
        (begin().raw(b"Na."), "data.pkl, byte 3: a value is missing"),
        (
            begin().raw(b"NNa."),
            "data.pkl, byte 4: an item of what is not a list",
        ),
        (
            begin().raw(b"}(Nu."),
            "data.pkl, byte 5: an item of what is not a dictionary",
        ),
        (
            begin().raw(b"X\xff\xff\xff\xffa"),
            "data.pkl, byte 2: ends at byte 8",
        ),
        (
            begin().raw(b"X\x01\0\0\0\xff"),
            "data.pkl, byte 2: text that is not UTF-8",
        ),
        (
            begin().raw(b"\x8a\x09\0\0\0\0\0\0\0\0\0."),
            "data.pkl, byte 2: an integer of 9 bytes",
        ),
        (
            begin().raw(b"NQ."),
            "data.pkl, byte 3: a reference that is none to a storage",
        ),
        (long(b"("), "data.pkl, byte 262146: more than 262144 values"),
        (long(b"]"), "data.pkl, byte 262146: more than 262144 values"),
        (
            long(b")\x85"),
            "data.pkl, byte 262146: more than 262144 values",
        ),
        (
            begin().raw(b"N").raw(&b"\x94".repeat(1_000_000)),
            "data.pkl, byte 262147: more than 262144 values",
        ),
        (
            begin().raw(b"Nq\0").raw(&b"h\0".repeat(1_000_000)),
            "data.pkl, byte 524291: more than 262144 values",
        ),
        (begin().raw(&[b'.'; 5 << 20]), "a/data.pkl is 5242882 bytes"),
        (itself, "no tensors by their names"),
        (begin().raw(b"N."), "not a dictionary of tensors"),
    ];
    for (pickle, reason) in cases {
        let said = refused(&file(pickle, &[]));
        assert!(said.starts_with(reason), "{said}, not {reason}");
    }
}

#[test]
fn tensors_that_do_not_fit_their_storages_are_errors() {
    let of = |kind: &str, key: &str, n: usize, first: usize, shape: &[usize]| {
        let pickle = begin()
            .raw(b"}")
            .text("w")
            .tensor(kind, key, n, first, shape);
        refused(&file(pickle.raw(b"s."), &[("0", vec![0; 64])]))
    };
    let half = "HalfStorage";
    let huge = i32::MAX as usize;
    for (said, reason) in [
        (of(half, "1", 32, 0, &[32]), "has no storage \"1\""),
        (of(half, "../0", 32, 0, &[32]), "has no storage \"../0\""),
        (
            of(half, "a\n\u{1b}[31m", 32, 0, &[32]),
            "has no storage \"a\\n\\u{1b}[31m\"",
        ),
        (
            of(half, "0", 31, 0, &[31]),
            "has a storage of 31 F16 in 64 bytes",
        ),
        (
            of("FloatStorage", "0", 32, 0, &[32]),
            "has a storage of 32 F32 in 64 bytes",
        ),
        (
            of(half, "0", huge, 0, &[32]),
            "has a storage of 2147483647 F16 in 64 bytes",
        ),
        (of(half, "0", 32, 1, &[32]), "is [32] from element 1 of 32"),
        (
            of(half, "0", 32, huge, &[1]),
            "is [1] from element 2147483647 of 32",
        ),
        (
            of(half, "0", 32, 0, &[huge]),
            "is [2147483647] from element 0 of 32",
        ),
    ] {
        assert_eq!(said, format!("tensor w {reason}"));
    }
    let pickle = |shape: &[u8], strides: &[u8]| {
        let head = begin()
            .raw(b"}")
            .text("w")
            .raw(b"ctorch._utils\n_rebuild_tensor_v2\n((")
            .text("storage");
        let head = head
            .raw(b"ctorch\nHalfStorage\n")
            .text("0")
            .text("cpu")
            .number(32)
            .raw(b"tQK\0(");
        let tail = head.raw(shape).raw(b"t(").raw(strides).raw(b"t\x89NtRs.");
        refused(&file(tail, &[("0", vec![0; 64])]))
    };
    assert!(pickle(b"K\x04K\x08", b"K\x01K\x04").starts_with("tensor w is transposed"));
    // One element, a thousand times.
    assert!(pickle(b"M\xe8\x03", b"K\0").starts_with("tensor w is transposed"));
    let broken = "a tensor without storage, shape and strides";
    assert!(pickle(b"J\xff\xff\xff\xff", b"K\x01").ends_with(broken));
    assert!(pickle(b"K\x01K\x01", b"K\x01").ends_with(broken));
    assert!(pickle(&b"K\x01".repeat(9), &b"K\x01".repeat(9)).ends_with(broken));
    // Many tensors of the same elements.
    let many = (0..100).fold(begin().raw(b"}("), |pickle, i| {
        pickle
            .text(&format!("w{i}"))
            .tensor(half, "0", 1 << 16, 0, &[1 << 16])
    });
    let said = refused(&file(many.raw(b"u."), &[("0", vec![0; 1 << 17])]));
    assert!(
        said.starts_with("tensors that share their elements"),
        "{said}"
    );
}

#[test]
fn archives_that_are_not_of_torch_are_errors() {
    let pickle = || {
        begin()
            .raw(b"}")
            .text("w")
            .tensor("HalfStorage", "0", 32, 0, &[32])
            .raw(b"s.")
            .0
    };
    let entries = |names: &[&str]| -> Vec<Entry> {
        let bytes = |name: &str| match name.ends_with("pkl") {
            true => pickle(),
            false => vec![0; 64],
        };
        names
            .iter()
            .map(|name| ((*name).to_owned(), bytes(name)))
            .collect()
    };
    let good = archive(&entries(&["a/data.pkl", "a/data/0"]));
    assert!(refused(&good).starts_with("weights without dimensions"));
    let directory = good
        .windows(4)
        .rposition(|bytes| bytes == b"PK\x01\x02")
        .unwrap();
    let end = good.len() - 22;
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        refused(&file)
    };
    let data = "list of the zip archive's entries";
    for (said, reason) in [
        (
            refused(&archive(&entries(&["a/data/0"]))),
            "a zip archive without data.pkl, so not of torch.save",
        ),
        (
            refused(&archive(&entries(&["a/data.pkl", "b/data.pkl"]))),
            "two entries are a/data.pkl",
        ),
        (
            refused(&archive(&entries(&["\u{1b}/data.pkl"]))),
            "list of the zip archive's entries: no name at byte 0",
        ),
        // A zip bomb is compressed.
        (
            changed(directory + 10, &[8, 0]),
            "list of the zip archive's entries: a/data/0 is compressed or encrypted, which torch.save never does",
        ),
        (
            changed(directory + 8, &[1, 0]),
            "list of the zip archive's entries: a/data/0 is compressed or encrypted, which torch.save never does",
        ),
        (
            changed(directory + 24, &[65]),
            "list of the zip archive's entries: a/data/0 is compressed or encrypted, which torch.save never does",
        ),
        (
            changed(
                directory + 20,
                &[0xf0, 0xff, 0xff, 0xff, 0xf0, 0xff, 0xff, 0xff],
            ),
            "a/data/0 needs ",
        ),
        (
            changed(directory + 42, &[0; 4]),
            "a/data/0 overlaps another entry",
        ),
        (
            changed(directory + 42, &[1, 0, 0, 0]),
            "a/data/0 overlaps another entry",
        ),
        (
            changed(directory + 42, &[0xff; 4]),
            "a/data/0 needs 4294967325 bytes of file, and there are ",
        ),
        (
            changed(directory + 28, &[0xff, 0xff]),
            &format!("{data}: ends at byte "),
        ),
        (
            changed(directory, b"XX"),
            &format!("{data}: no entry at byte "),
        ),
        (
            changed(end + 10, &[3, 0]),
            &format!("{data}: ends at byte "),
        ),
        (
            changed(end + 10, &[1, 0]),
            "the list of the zip archive's entries is longer than they are",
        ),
        (
            changed(end + 12, &[0xff; 4]),
            "the list of the zip archive's entries is bytes ",
        ),
        (
            changed(end + 16, &[0xff; 4]),
            "the list of the zip archive's entries is bytes ",
        ),
        (changed(end + 20, &[1]), "file is "),
        (changed(end, b"XX"), "file is "),
    ] {
        assert!(said.starts_with(reason), "{said}, not {reason}");
    }
    let first = good
        .windows(4)
        .skip(4)
        .position(|bytes| bytes == b"PK\x03\x04")
        .unwrap()
        + 4;
    assert_eq!(changed(first, b"XX"), "the header of a/data/0 is damaged");
    // Zip64, as in files of more than 4 GB: the numbers that do not fit are in an optional field.
    let first_of_last = u32::from_le_bytes(*good[directory + 42..].first_chunk().unwrap());
    let zip64 = |numbers: &[u64]| {
        let numbers: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let mut entry = good[directory..end].to_vec();
        entry[20..28].fill(0xff);
        entry[42..46].fill(0xff);
        entry[30] = numbers.len() as u8 + 4;
        entry.extend([1, 0, numbers.len() as u8, 0]);
        entry.extend(&numbers);
        let mut end = good[end..].to_vec();
        end[12] += numbers.len() as u8 + 4;
        refused(&[&good[..directory], &entry, &end].concat())
    };
    let said = zip64(&[64, 64, first_of_last.into()]);
    assert!(said.starts_with("weights without dimensions"), "{said}");
    assert_eq!(zip64(&[64, 64]), format!("{data}: ends at byte 16"));
    let beyond = format!("a/data/0 needs {} bytes of file, and there are", u64::MAX);
    assert!(zip64(&[64, 64, u64::MAX]).starts_with(&beyond));
    assert!(zip64(&[u64::MAX, u64::MAX, first_of_last.into()]).starts_with(&beyond));
    let mut big = entries(&["a/data.pkl", "a/data/0", "a/byteorder"]);
    big[2].1 = b"big".to_vec();
    assert_eq!(refused(&archive(&big)), "weights of a big-endian machine");
}
