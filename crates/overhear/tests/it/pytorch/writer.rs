//! Writer of PyTorch files: pickles, and zip archives of stored entries.

/// An entry of a zip archive: name, bytes.
pub(super) type Entry = (String, Vec<u8>);

/// Returns an archive of stored entries as `torch.save` writes it, their bytes aligned to 64.
pub(super) fn archive(entries: &[Entry]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let first = file.len() as u32;
        let padding = (64 - (file.len() + 30 + name.len() + 4) % 64) as u16;
        let sizes = [0, bytes.len() as u32, bytes.len() as u32];
        let sizes: Vec<u8> = sizes.iter().flat_map(|n| n.to_le_bytes()).collect();
        let n_name = (name.len() as u16).to_le_bytes();
        // Version, flags, method, time and date.
        file.extend(b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0");
        file.extend(&sizes);
        file.extend(n_name);
        file.extend((padding + 4).to_le_bytes());
        file.extend(name.as_bytes());
        file.extend(b"FB");
        file.extend(padding.to_le_bytes());
        file.extend(vec![b'Z'; padding.into()]);
        file.extend(bytes);
        directory.extend(b"PK\x01\x02\0\0\0\0\0\0\0\0\0\0\0\0");
        directory.extend(&sizes);
        directory.extend(n_name);
        directory.extend([0; 12]);
        directory.extend(first.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let first = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend((entries.len() as u16).to_le_bytes());
    file.extend((entries.len() as u16).to_le_bytes());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(first.to_le_bytes());
    file.extend([0, 0]);
    file
}

/// Instructions of a pickle.
#[derive(Default)]
pub(super) struct Pickle(pub(super) Vec<u8>);

impl Pickle {
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        let len = (text.len() as u32).to_le_bytes();
        self.raw(b"X").raw(&len).raw(text.as_bytes())
    }

    pub(super) fn number(self, number: usize) -> Self {
        self.raw(b"J").raw(&(number as i32).to_le_bytes())
    }

    pub(super) fn numbers(self, numbers: &[usize]) -> Self {
        let opened = self.raw(b"(");
        let filled = numbers.iter().fold(opened, |pickle, &n| pickle.number(n));
        filled.raw(b"t")
    }

    /// A tensor of `shape` from element `first` of storage `key`.
    pub(super) fn tensor(
        self,
        kind: &str,
        key: &str,
        n_stored: usize,
        first: usize,
        shape: &[usize],
    ) -> Self {
        let strides: Vec<usize> = (1..=shape.len())
            .map(|i| shape[i..].iter().product())
            .collect();
        let class = format!("ctorch\n{kind}\n");
        self.raw(b"ctorch._utils\n_rebuild_tensor_v2\n((")
            .text("storage")
            .raw(class.as_bytes())
            .text(key)
            .text("cpu")
            .number(n_stored)
            .raw(b"tQ")
            .number(first)
            .numbers(shape)
            .numbers(&strides)
            .raw(b"\x89ccollections\nOrderedDict\n)RtR")
    }
}

pub(super) fn begin() -> Pickle {
    Pickle::default().raw(b"\x80\x02")
}

/// Returns a file with this pickle, and storages.
pub(super) fn file(pickle: Pickle, storages: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut entries = vec![
        ("a/data.pkl".to_owned(), pickle.0),
        ("a/byteorder".to_owned(), b"little".to_vec()),
    ];
    for (key, bytes) in storages {
        entries.push((format!("a/data/{key}"), bytes.clone()));
    }
    archive(&entries)
}
