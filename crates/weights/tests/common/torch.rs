//! A writer for files of `torch.save`, right ones and wrong ones.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A pickle, opcode by opcode.
#[derive(Clone, Debug, Default)]
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    pub fn new() -> Pickle {
        Pickle(vec![0x80, 2])
    }

    pub fn op(mut self, bytes: &[u8]) -> Pickle {
        self.0.extend(bytes);
        self
    }

    pub fn text(self, text: &str) -> Pickle {
        self.op(b"X").op(&(text.len() as u32).to_le_bytes()).op(text.as_bytes())
    }

    pub fn int(self, n: i64) -> Pickle {
        self.op(&[0x8a, 8]).op(&n.to_le_bytes())
    }

    pub fn global(self, module: &str, name: &str) -> Pickle {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    /// A tuple of integers.
    pub fn ints(self, values: &[i64]) -> Pickle {
        values.iter().fold(self.op(b"("), |p, v| p.int(*v)).op(b"t")
    }

    /// `_rebuild_tensor_v2` of a storage.
    pub fn tensor(self, tensor: &Tensor) -> Pickle {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .op(b"((")
            .text("storage")
            .global("torch", tensor.storage)
            .text(&tensor.key)
            .text("cpu")
            .int(tensor.count)
            .op(b"tQ")
            .int(tensor.offset)
            .ints(&tensor.shape)
            .ints(&tensor.stride)
            .op(&[0x89])
            .global("collections", "OrderedDict")
            .op(b")RtR")
    }

    /// A dictionary of tensors, and the end.
    pub fn state_dict(self, tensors: &[(&str, Tensor)]) -> Pickle {
        tensors.iter().fold(self.op(b"}("), |p, (name, tensor)| p.text(name).tensor(tensor)).op(b"u.")
    }
}

/// What a pickle says of a tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub storage: &'static str,
    pub key: String,
    pub count: i64,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub stride: Vec<i64>,
}

impl Tensor {
    /// A contiguous one that has its storage for itself.
    pub fn whole(storage: &'static str, key: &str, shape: &[i64]) -> Tensor {
        let mut stride = vec![1; shape.len()];
        for i in (1..shape.len()).rev() {
            stride[i - 1] = stride[i] * shape[i];
        }
        let count = shape.iter().product();
        Tensor { storage, key: key.into(), count, offset: 0, shape: shape.into(), stride }
    }
}

/// A zip archive with these entries, stored.
pub fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    archive_with(entries, CompressionMethod::Stored)
}

pub fn archive_with(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).expect("a new entry");
        zip.write_all(bytes).expect("memory");
    }
    zip.finish().expect("memory").into_inner()
}

/// The archive of a pickle and its storages.
pub fn file(pickle: &Pickle, storages: &[(&str, &[u8])]) -> Vec<u8> {
    let names: Vec<String> = storages.iter().map(|(key, _)| format!("archive/data/{key}")).collect();
    let mut entries = vec![("archive/data.pkl", pickle.0.as_slice()), ("archive/byteorder", b"little")];
    entries.extend(names.iter().zip(storages).map(|(name, (_, bytes))| (name.as_str(), *bytes)));
    archive(&entries)
}
