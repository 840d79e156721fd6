//! The bytes of a GGUF file, version 3: see [`crate::gguf`] for the layout.

use std::path::{Path, PathBuf};

use super::OnProgress;
use super::deviation::{Deviation, TensorClass};
use super::folder::{check_length, write_tensor};
use super::rows::Planned;
use super::staging::StagedFile;
use crate::WeightsError;
use crate::error::shown;
use crate::gguf::{MAGIC, ggml_type};

/// Where tensors begin: at multiples of this, GGUF's default for `general.alignment`.
const ALIGNMENT: u64 = 32;
const VERSION: u32 = 3;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kv {
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
}

impl Kv {
    fn write(&self, out: &mut Vec<u8>) {
        fn scalar(out: &mut Vec<u8>, id: u32, bytes: &[u8]) {
            out.extend(id.to_le_bytes());
            out.extend(bytes);
        }
        fn array(out: &mut Vec<u8>, id: u32, len: usize) {
            out.extend(9u32.to_le_bytes());
            out.extend(id.to_le_bytes());
            out.extend((len as u64).to_le_bytes());
        }
        match self {
            Kv::U32(v) => scalar(out, 4, &v.to_le_bytes()),
            Kv::I32(v) => scalar(out, 5, &v.to_le_bytes()),
            Kv::F32(v) => scalar(out, 6, &v.to_le_bytes()),
            Kv::Bool(v) => scalar(out, 7, &[u8::from(*v)]),
            Kv::Text(v) => {
                out.extend(8u32.to_le_bytes());
                text(out, v);
            }
            Kv::Texts(v) => {
                array(out, 8, v.len());
                v.iter().for_each(|v| text(out, v));
            }
            Kv::F32s(v) => {
                array(out, 6, v.len());
                out.extend(v.iter().flat_map(|v| v.to_le_bytes()));
            }
            Kv::I32s(v) => {
                array(out, 5, v.len());
                out.extend(v.iter().flat_map(|v| v.to_le_bytes()));
            }
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Metadata in the order of the file, each key once.
#[derive(Clone, Debug, Default)]
pub(super) struct Kvs(Vec<(String, Kv)>);

impl Kvs {
    /// Adds a value; one of the same key is replaced.
    pub(super) fn set(&mut self, key: impl Into<String>, value: Kv) {
        let key = key.into();
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some(entry) => entry.1 = value,
            None => self.0.push((key, value)),
        }
    }

    /// Adds all values of `others`.
    pub(super) fn extend(&mut self, others: Kvs) {
        others.0.into_iter().for_each(|(key, value)| self.set(key, value));
    }

    /// Adds a value if there is one.
    pub(super) fn set_some(&mut self, key: &str, value: Option<Kv>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }
}

/// Writes a file; its path, and the bytes of its tensors. What their weights are off is put into `classes` if it is given.
pub(super) fn write(
    path: &Path,
    force: bool,
    metadata: &Kvs,
    tensors: &[Planned<'_>],
    mut classes: Option<&mut Vec<TensorClass>>,
    progress: OnProgress<'_>,
) -> Result<(PathBuf, u64), WeightsError> {
    let mut header = MAGIC.to_vec();
    header.extend(VERSION.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((metadata.0.len() as u64).to_le_bytes());
    for (key, value) in &metadata.0 {
        text(&mut header, key);
        value.write(&mut header);
    }
    let mut offset = 0u64;
    let mut sizes = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let size = tensor.byte_len().zip(ggml_type::id(tensor.dtype));
        let Some((size, id)) = size else {
            let what = format!("tensor {}", shown(&tensor.name));
            let found = format!("its shape {:?} does not fit the type {}", tensor.shape(), tensor.dtype);
            return Err(WeightsError::malformed(path, what, found, "choose another --dtype"));
        };
        text(&mut header, &tensor.name);
        header.extend((tensor.shape().len() as u32).to_le_bytes());
        tensor.shape().iter().rev().for_each(|d| header.extend((*d as u64).to_le_bytes()));
        header.extend(id.to_le_bytes());
        header.extend(offset.to_le_bytes());
        offset += size.next_multiple_of(ALIGNMENT);
        sizes.push(size);
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT as usize), 0);

    let total = sizes.iter().sum();
    let mut done = 0;
    let mut file = StagedFile::create(path, force)?;
    file.write(&header)?;
    for (tensor, size) in tensors.iter().zip(&sizes) {
        let mut deviation = classes.is_some().then(Deviation::default);
        let written = write_tensor(&mut file, tensor, deviation.as_mut(), &mut done, total, progress)?;
        if let (Some(classes), Some(deviation)) = (classes.as_deref_mut(), deviation) {
            TensorClass::count(classes, &tensor.name, tensor.dtype, deviation);
        }
        check_length(path, tensor, written, *size)?;
        let padding = size.next_multiple_of(ALIGNMENT) - size;
        file.write(&[0; ALIGNMENT as usize][..padding as usize])?;
    }
    Ok((file.commit()?, total))
}
