//! The header of a safetensors file.

use std::fmt;
use std::path::Path;

use safetensors::Dtype;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use crate::WeightsError;
use crate::error::{MAKE_AGAIN, shown};

/// What a file says of its tensors, checked against the file.
pub(super) struct Header {
    /// In order of their bytes.
    pub(super) entries: Vec<Entry>,
    /// Where the bytes of the tensors begin.
    pub(super) data: usize,
}

/// One tensor.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Its bytes, counted from [`Header::data`].
    pub(super) begin: usize,
    pub(super) end: usize,
}

/// The crate's own limit, so that what is read here is read elsewhere too.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const LENGTH_BYTES: usize = 8;

/// Reads the header of a file and checks that its tensors cover the rest of the file exactly.
pub(super) fn parse(path: &Path, file: &[u8]) -> Result<Header, WeightsError> {
    let file_len = file.len() as u64;
    let truncated = |what: &str, at: u64, needed: u64| WeightsError::Truncated {
        path: path.to_owned(),
        what: what.into(),
        at,
        needed,
        file_len,
    };
    let (len, rest) = file
        .split_first_chunk::<LENGTH_BYTES>()
        .ok_or_else(|| truncated("the length of the header", 0, LENGTH_BYTES as u64))?;
    let len = u64::from_le_bytes(*len);
    if len > MAX_HEADER_BYTES {
        let found = format!("{len} bytes, where at most {MAX_HEADER_BYTES} are possible");
        let remedy = "this is no safetensors file, or a damaged one: check what was downloaded";
        return Err(WeightsError::malformed(path, "the length of the header", found, remedy));
    }
    if len > rest.len() as u64 {
        return Err(truncated("the header", LENGTH_BYTES as u64, len));
    }
    let (json, bytes) = rest.split_at(len as usize);
    let raw: RawHeader = serde_json::from_slice(json).map_err(|source| WeightsError::Json {
        path: path.to_owned(),
        what: "the safetensors header",
        source,
    })?;
    let data = file.len() - bytes.len();
    check_names(path, &raw.tensors)?;
    let mut entries = Vec::with_capacity(raw.tensors.len());
    for (name, tensor) in raw.tensors {
        entries.push(check_entry(path, name, tensor, data, bytes.len())?);
    }
    check_cover(path, &mut entries, data, bytes.len())?;
    Ok(Header { entries, data })
}

/// Type, shape and place of one tensor must agree, and lie inside the file.
fn check_entry(path: &Path, name: String, raw: RawTensor, data: usize, len: usize) -> Result<Entry, WeightsError> {
    let malformed =
        |found: String| WeightsError::malformed(path, format!("tensor {}", shown(&name)), found, MAKE_AGAIN);
    let dtype: Dtype = serde_json::from_value(raw.dtype.as_str().into())
        .map_err(|_| super::unsupported_type(path, &name, &format!("the unknown type {}", shown(&raw.dtype)), None))?;
    let [begin, end] = raw.data_offsets;
    if begin > end {
        return Err(malformed(format!("its data_offsets [{begin}, {end}] are reversed")));
    }
    if end > len as u64 {
        return Err(WeightsError::OutOfFile {
            path: path.to_owned(),
            tensor: shown(&name),
            start: (data as u64).saturating_add(begin),
            end: (data as u64).saturating_add(end),
            file_len: (data + len) as u64,
        });
    }
    let shape: Option<Vec<usize>> = raw.shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    let bits = shape
        .as_ref()
        .and_then(|shape| shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)))
        .and_then(|n| n.checked_mul(dtype.bitsize()));
    match (shape, bits) {
        (Some(shape), Some(bits)) if bits.is_multiple_of(8) && (bits / 8) as u64 == end - begin => {
            // Both fit: they are not larger than the file, which is mapped.
            Ok(Entry { name, dtype, shape, begin: begin as usize, end: end as usize })
        }
        (Some(_), Some(bits)) if bits.is_multiple_of(8) => Err(malformed(format!(
            "its shape {} of {dtype} takes {} bytes, but its data_offsets [{begin}, {end}] hold {}",
            shape_text(&raw.shape),
            bits / 8,
            end - begin
        ))),
        _ => Err(malformed(format!(
            "its shape {} of {dtype} takes no number of bytes that can be counted",
            shape_text(&raw.shape)
        ))),
    }
}

fn shape_text(shape: &[u64]) -> String {
    if shape.len() <= 8 { format!("{shape:?}") } else { format!("of {} dimensions", shape.len()) }
}

fn check_names(path: &Path, tensors: &[(String, RawTensor)]) -> Result<(), WeightsError> {
    let name = |i: usize| tensors[i].0.as_str();
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_unstable_by_key(|i| (name(*i), *i));
    match order.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
        None => Ok(()),
        Some(pair) => Err(WeightsError::Duplicate {
            path: path.to_owned(),
            what: format!("tensor {}", shown(name(pair[0]))),
            first: format!("as entry {} of the header", pair[0]),
            second: format!("as entry {}", pair[1]),
        }),
    }
}

/// Sorts the tensors by their place; they must follow each other without gap or overlap up to the end of the file, as
/// the format demands.
fn check_cover(path: &Path, entries: &mut [Entry], data: usize, len: usize) -> Result<(), WeightsError> {
    entries.sort_by_key(|e| (e.begin, e.end));
    let hole = |begin: usize, end: usize, before: &str| {
        let what = format!("bytes {}..{}", data + begin, data + end);
        Err(WeightsError::malformed(
            path,
            what,
            format!("they belong to no tensor and lie before {before}"),
            MAKE_AGAIN,
        ))
    };
    let mut at = 0;
    let mut last: Option<&Entry> = None;
    for entry in entries.iter() {
        if let Some(last) = last
            && entry.begin < at
        {
            return Err(WeightsError::Overlap {
                path: path.to_owned(),
                first: shown(&last.name),
                first_end: (data + at) as u64,
                second: shown(&entry.name),
                second_start: (data + entry.begin) as u64,
            });
        }
        if entry.begin > at {
            return hole(at, entry.begin, &format!("tensor {}", shown(&entry.name)));
        }
        at = entry.end;
        last = Some(entry);
    }
    if at < len { hole(at, len, "the end of the file") } else { Ok(()) }
}

/// The header as it stands in the file, with every tensor, even twice, in its order.
struct RawHeader {
    tensors: Vec<(String, RawTensor)>,
}

#[derive(serde::Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// Of `__metadata__` only the form is checked: a map of strings.
struct MetadataForm;

impl<'de> Deserialize<'de> for MetadataForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MetadataForm, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = MetadataForm;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_unit<E: de::Error>(self) -> Result<MetadataForm, E> {
                Ok(MetadataForm)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MetadataForm, A::Error> {
                while map.next_entry::<String, String>()?.is_some() {}
                Ok(MetadataForm)
            }
        }
        deserializer.deserialize_any(Strings)
    }
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawHeader, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensor names to their dtype, shape and data_offsets")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut tensors = Vec::new();
                let mut metadata = false;
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        if std::mem::replace(&mut metadata, true) {
                            return Err(de::Error::duplicate_field("__metadata__"));
                        }
                        map.next_value::<MetadataForm>()?;
                        continue;
                    }
                    let tensor = map
                        .next_value()
                        .map_err(|e| de::Error::custom(format_args!("tensor {}: {e}", shown(&name))))?;
                    tensors.push((name, tensor));
                }
                Ok(RawHeader { tensors })
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}
