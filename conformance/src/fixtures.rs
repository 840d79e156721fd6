//! The committed suite as tests read it: where it lies, and its safetensors files.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use thiserror::Error;

pub use crate::compare::{CompareError, max_over_rms, nmse};

/// Shape and values of a tensor, row-major.
pub type Values<T> = (Vec<usize>, Vec<T>);

/// The folder of the committed cases in a checkout of the repository, `conformance/suite`.
pub fn suite_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("suite")
}

/// Why a fixture cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FixtureError {
    /// The suite does not give the file.
    #[error("{0}")]
    Suite(String),
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}; a missing fixture is made by conformance/reference/make.py", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is no safetensors file.
    #[error("{}: not a safetensors file: {source:?}; restore it from git, or make it with conformance/reference/make.py", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: SafeTensorError,
    },
    /// The file has no tensor of that name.
    #[error("{}: has no tensor `{name}`; it has {known}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The tensor's values do not all fit in the type asked for.
    #[error("{}: tensor `{name}` is {found:?} and was read as {wanted}; only exact conversions are made", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its dtype in the file.
        found: Dtype,
        /// What was asked for.
        wanted: &'static str,
    },
}

/// One safetensors file, read whole.
pub struct Fixture {
    path: PathBuf,
    bytes: Cow<'static, [u8]>,
    metadata: Metadata,
    data_start: usize,
}

impl std::fmt::Debug for Fixture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fixture").field("path", &self.path).field("tensors", &self.names()).finish_non_exhaustive()
    }
}

impl Fixture {
    /// Reads a file and checks its header: every tensor lies inside the file and the data has no holes.
    ///
    /// # Errors
    /// [`FixtureError::Read`] and [`FixtureError::Format`].
    pub fn open(path: impl AsRef<Path>) -> Result<Fixture, FixtureError> {
        let path = path.as_ref().to_path_buf();
        let bytes = fs::read(&path).map_err(|source| FixtureError::Read { path: path.clone(), source })?;
        Fixture::parse(path, bytes.into())
    }

    /// [`Fixture::open`] for bytes that were read already; `path` is for messages.
    ///
    /// # Errors
    /// [`FixtureError::Format`].
    pub fn parse(path: PathBuf, bytes: Cow<'static, [u8]>) -> Result<Fixture, FixtureError> {
        match SafeTensors::read_metadata(&bytes) {
            // The data begins after the 8 bytes of the header's length and the header.
            Ok((header_len, metadata)) => Ok(Fixture { data_start: 8 + header_len, path, bytes, metadata }),
            Err(source) => Err(FixtureError::Format { path, source }),
        }
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.metadata.offset_keys();
        names.sort();
        names
    }

    /// An F64, F32, F16 or BF16 tensor.
    ///
    /// # Errors
    /// [`FixtureError::Missing`] and [`FixtureError::Dtype`]; so for the other readers.
    pub fn f64s(&self, name: &str) -> Result<Values<f64>, FixtureError> {
        if self.info(name)?.0 == Dtype::F64 {
            return self.read(name, "f64", |dtype| (dtype == Dtype::F64).then_some(f64::from_le_bytes));
        }
        let (shape, values) = self.floats(name, "f64")?;
        Ok((shape, values.into_iter().map(f64::from).collect()))
    }

    /// An F32, F16 or BF16 tensor; the latter two widened, which is exact.
    pub fn f32s(&self, name: &str) -> Result<Values<f32>, FixtureError> {
        self.floats(name, "f32")
    }

    /// An I64, I32 or U8 tensor.
    pub fn i64s(&self, name: &str) -> Result<Values<i64>, FixtureError> {
        match self.info(name)?.0 {
            Dtype::I32 => self.read(name, "i64", |_| Some(|bytes| i64::from(i32::from_le_bytes(bytes)))),
            Dtype::U8 => self.read(name, "i64", |_| Some(|[byte]: [u8; 1]| i64::from(byte))),
            _ => self.read(name, "i64", |dtype| (dtype == Dtype::I64).then_some(i64::from_le_bytes)),
        }
    }

    /// A U8 tensor, for instance quantized blocks as they lie in a checkpoint.
    pub fn u8s(&self, name: &str) -> Result<Values<u8>, FixtureError> {
        self.read(name, "u8", |dtype| (dtype == Dtype::U8).then_some(u8::from_le_bytes))
    }

    /// The bytes of a tensor of any dtype, as they lie in the file.
    pub fn bytes(&self, name: &str) -> Result<&[u8], FixtureError> {
        Ok(self.info(name)?.2)
    }

    /// The dtype of a tensor.
    pub fn dtype(&self, name: &str) -> Result<Dtype, FixtureError> {
        Ok(self.info(name)?.0)
    }

    fn floats(&self, name: &str, wanted: &'static str) -> Result<Values<f32>, FixtureError> {
        match self.info(name)?.0 {
            Dtype::F16 => self.read(name, wanted, |_| Some(|bytes| f16::from_le_bytes(bytes).to_f32())),
            Dtype::BF16 => self.read(name, wanted, |_| Some(|bytes| bf16::from_le_bytes(bytes).to_f32())),
            _ => self.read(name, wanted, |dtype| (dtype == Dtype::F32).then_some(f32::from_le_bytes)),
        }
    }

    /// Decodes all elements of `N` bytes; `decoder` gives None for a dtype that it cannot decode.
    fn read<const N: usize, T, F: Fn([u8; N]) -> T>(
        &self,
        name: &str,
        wanted: &'static str,
        decoder: impl Fn(Dtype) -> Option<F>,
    ) -> Result<Values<T>, FixtureError> {
        let (dtype, shape, bytes) = self.info(name)?;
        let Some(decode) = decoder(dtype) else {
            return Err(FixtureError::Dtype { path: self.path.clone(), name: name.into(), found: dtype, wanted });
        };
        // The header check made the byte count that of the shape and dtype, so no remainder is left.
        let (elements, _) = bytes.as_chunks::<N>();
        Ok((shape.to_vec(), elements.iter().map(|&element| decode(element)).collect()))
    }

    fn info(&self, name: &str) -> Result<(Dtype, &[usize], &[u8]), FixtureError> {
        let Some(info) = self.metadata.info(name) else {
            let known = self.names().join(", ");
            return Err(FixtureError::Missing { path: self.path.clone(), name: name.into(), known });
        };
        let (begin, end) = info.data_offsets;
        Ok((info.dtype, &info.shape, &self.bytes[self.data_start + begin..self.data_start + end]))
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn bytes<const N: usize>(values: &[[u8; N]]) -> Vec<u8> {
        values.concat()
    }

    fn write(folder: &Path, tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> PathBuf {
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.to_vec(), data).unwrap()));
        let path = folder.join("case.safetensors");
        fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        path
    }

    #[test]
    fn every_dtype_of_the_suite_is_read_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(
            folder.path(),
            &[
                ("f64", Dtype::F64, &[2], bytes(&[0.1_f64.to_le_bytes(), f64::MIN_POSITIVE.to_le_bytes()])),
                ("f32", Dtype::F32, &[1, 2], bytes(&[0.1_f32.to_le_bytes(), (-0.0_f32).to_le_bytes()])),
                ("f16", Dtype::F16, &[1], f16::from_f32(-1.5).to_le_bytes().to_vec()),
                ("bf16", Dtype::BF16, &[], bf16::from_f32(3.25).to_le_bytes().to_vec()),
                ("i64", Dtype::I64, &[2], bytes(&[i64::MIN.to_le_bytes(), 7_i64.to_le_bytes()])),
                ("i32", Dtype::I32, &[1], (-5_i32).to_le_bytes().to_vec()),
                ("u8", Dtype::U8, &[3], vec![0, 128, 255]),
                ("none", Dtype::F32, &[0, 4], vec![]),
            ],
        );
        let fixture = Fixture::open(&path).unwrap();
        assert_eq!(fixture.names(), ["bf16", "f16", "f32", "f64", "i32", "i64", "none", "u8"]);
        assert_eq!(fixture.f64s("f64").unwrap(), (vec![2], vec![0.1, f64::MIN_POSITIVE]));
        assert_eq!(fixture.f64s("f32").unwrap(), (vec![1, 2], vec![f64::from(0.1_f32), 0.0]));
        let (shape, values) = fixture.f32s("f32").unwrap();
        assert_eq!((shape, values[1].to_bits()), (vec![1, 2], (-0.0_f32).to_bits()));
        assert_eq!(fixture.f32s("f16").unwrap(), (vec![1], vec![-1.5]));
        assert_eq!(fixture.f64s("bf16").unwrap(), (vec![], vec![3.25]));
        assert_eq!(fixture.i64s("i64").unwrap(), (vec![2], vec![i64::MIN, 7]));
        assert_eq!(fixture.i64s("i32").unwrap(), (vec![1], vec![-5]));
        assert_eq!(fixture.i64s("u8").unwrap(), (vec![3], vec![0, 128, 255]));
        assert_eq!(fixture.u8s("u8").unwrap(), (vec![3], vec![0, 128, 255]));
        assert_eq!(fixture.f32s("none").unwrap(), (vec![0, 4], vec![]));
    }

    #[test]
    fn a_wrong_name_and_an_inexact_dtype_are_errors_that_name_the_tensor() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(
            folder.path(),
            &[
                ("logits", Dtype::F64, &[1], 1.0_f64.to_le_bytes().to_vec()),
                ("ids", Dtype::I64, &[1], 1_i64.to_le_bytes().to_vec()),
            ],
        );
        let fixture = Fixture::open(&path).unwrap();
        let said = fixture.f64s("logit").unwrap_err().to_string();
        assert!(said.contains("has no tensor `logit`; it has ids, logits"), "{said}");
        let said = fixture.f32s("logits").unwrap_err().to_string();
        assert!(said.contains("case.safetensors: tensor `logits` is F64 and was read as f32"), "{said}");
        for error in
            [fixture.f64s("ids").unwrap_err(), fixture.i64s("logits").unwrap_err(), fixture.u8s("ids").unwrap_err()]
        {
            assert!(matches!(error, FixtureError::Dtype { .. }), "{error}");
        }
    }

    #[test]
    fn a_damaged_or_missing_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), &[("x", Dtype::F32, &[2], vec![0; 8])]);
        let whole = fs::read(&path).unwrap();
        for len in [0, 7, 8, 20, whole.len() - 1] {
            fs::write(&path, &whole[..len]).unwrap();
            let error = Fixture::open(&path).unwrap_err();
            assert!(matches!(error, FixtureError::Format { .. }), "{len} bytes: {error}");
        }
        fs::write(&path, [0xff; 64]).unwrap();
        assert!(matches!(Fixture::open(&path), Err(FixtureError::Format { .. })), "a header of 2^64 bytes");
        fs::remove_file(&path).unwrap();
        let said = Fixture::open(&path).unwrap_err().to_string();
        assert!(said.contains("case.safetensors: cannot be read"), "{said}");
    }
}
