//! [`HostMemory`]: the processor's own memory, and how kernels see values in it as floats and indices.

use std::borrow::Cow;
use std::fmt;

use camelid_core::backend::{BackendError, BufferDesc, ErrorCode, Placement, Weight};
use camelid_core::{Bytes, DType, quant};

use super::{Memory, View, ViewMut};

/// The memory of the process. Weights stay where they are, most often in the memory map of their file.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostMemory;

/// A piece of [`HostMemory`].
pub struct HostBuf(Contents);

enum Contents {
    /// Words, so that f32 and i32 lie as they must.
    Own { words: Vec<u32>, len: usize },
    /// The caller's bytes, at any alignment.
    Weight(Bytes),
}

impl HostBuf {
    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Contents::Own { words, len } => &bytemuck::cast_slice(words)[..*len],
            Contents::Weight(bytes) => bytes,
        }
    }

    /// All bytes, to change.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`] for a weight, which the interpreter never asks to change.
    pub fn bytes_mut(&mut self) -> Result<&mut [u8], BackendError> {
        match &mut self.0 {
            Contents::Own { words, len } => Ok(&mut bytemuck::cast_slice_mut(words)[..*len]),
            Contents::Weight(_) => {
                Err(BackendError::new(ErrorCode::Internal, "a weight was to be changed; weights are never written"))
            }
        }
    }
}

impl fmt::Debug for HostBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if matches!(self.0, Contents::Weight(_)) { "weight" } else { "memory" };
        write!(f, "HostBuf({kind}, {} bytes)", self.bytes().len())
    }
}

impl Memory for HostMemory {
    type Buf = HostBuf;

    const ALIGN: usize = size_of::<u32>();

    /// The system hands out pages as they are touched, so a plan for long contexts costs what its steps use.
    fn alloc(&mut self, buffer: &BufferDesc) -> Result<HostBuf, BackendError> {
        let count = buffer.size.div_ceil(size_of::<u32>());
        // `vec!` ends the process where there is no memory, so this asks first; it alone leaves pages untouched.
        Vec::<u32>::new().try_reserve_exact(count).map_err(|_| {
            let message = format!(
                "buffer `{}`: cannot get {} bytes of memory; a smaller context_size or batch_size needs less",
                buffer.name, buffer.size
            );
            BackendError::new(ErrorCode::OutOfMemory, message)
        })?;
        Ok(HostBuf(Contents::Own { words: vec![0; count], len: buffer.size }))
    }

    fn load_weight(&mut self, weight: Weight) -> Result<(HostBuf, Placement), BackendError> {
        Ok((HostBuf(Contents::Weight(weight.data)), Placement::Aliased))
    }

    fn write(&mut self, to: &mut HostBuf, offset: usize, src: &[u8]) -> Result<(), BackendError> {
        to.bytes_mut()?[offset..offset + src.len()].copy_from_slice(src);
        Ok(())
    }

    fn read(&mut self, from: &HostBuf, offset: usize, dst: &mut [u8]) -> Result<(), BackendError> {
        dst.copy_from_slice(&from.bytes()[offset..offset + dst.len()]);
        Ok(())
    }

    fn copy(&mut self, to: (&mut HostBuf, usize), from: (&HostBuf, usize), len: usize) -> Result<(), BackendError> {
        to.0.bytes_mut()?[to.1..to.1 + len].copy_from_slice(&from.0.bytes()[from.1..from.1 + len]);
        Ok(())
    }

    fn copy_within(&mut self, buf: &mut HostBuf, to: usize, from: usize, len: usize) -> Result<(), BackendError> {
        buf.bytes_mut()?.copy_within(from..from + len, to);
        Ok(())
    }
}

impl<'a> View<'a, HostBuf> {
    /// The operand's bytes.
    pub fn bytes(&self) -> &'a [u8] {
        &self.buf.bytes()[self.offset..self.offset + self.len]
    }

    /// All elements as f32, exactly: borrowed if they are f32 where f32 may lie, dequantized otherwise.
    ///
    /// # Errors
    /// [`ErrorCode::Unsupported`] for integers and types that `camelid_core::quant` does not know.
    pub fn floats(&self) -> Result<Cow<'a, [f32]>, BackendError> {
        if self.dtype == DType::F32
            && cfg!(target_endian = "little")
            && let Ok(floats) = bytemuck::try_cast_slice(self.bytes())
        {
            return Ok(Cow::Borrowed(floats));
        }
        let mut floats = vec![0.0; self.rows() * self.row_len()];
        quant::dequantize(self.dtype, self.bytes(), &mut floats).map_err(|e| self.unreadable(&e))?;
        Ok(Cow::Owned(floats))
    }

    /// Row `i` of `[.., D]` as f32, exactly, into `out` of `D` elements.
    ///
    /// # Errors
    /// As [`View::floats`], and [`ErrorCode::Internal`] if there is no row `i` or `out` has another length.
    pub fn read_row(&self, i: usize, out: &mut [f32]) -> Result<(), BackendError> {
        let len = self.row_bytes();
        let start = i.checked_mul(len).filter(|start| *start + len <= self.len);
        let (Some(start), true) = (start, out.len() == self.row_len()) else {
            let message = format!(
                "row {i} of operand `{}` was to be read into {} elements; it has {} rows of {}",
                self.name,
                out.len(),
                self.rows(),
                self.row_len()
            );
            return Err(BackendError::new(ErrorCode::Internal, message));
        };
        quant::dequantize(self.dtype, &self.bytes()[start..start + len], out).map_err(|e| self.unreadable(&e))
    }

    /// All elements as i32.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`] if they are of another type.
    pub fn indices(&self) -> Result<Cow<'a, [i32]>, BackendError> {
        if self.dtype != DType::I32 {
            let message = format!("operand `{}` is {}, and was to be read as indices", self.name, self.dtype);
            return Err(BackendError::new(ErrorCode::Internal, message));
        }
        Ok(match bytemuck::try_cast_slice(self.bytes()) {
            Ok(aligned) if cfg!(target_endian = "little") => Cow::Borrowed(aligned),
            _ => Cow::Owned(self.bytes().as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect()),
        })
    }

    /// The elements as numbers of rows of a table of `limit` rows; `None` for -1, which means no row.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`] naming the first element that is anything else; as [`View::indices`].
    pub fn row_numbers(&self, limit: usize) -> Result<Vec<Option<usize>>, BackendError> {
        let indices = self.indices()?;
        let row = |(at, value): (usize, &i32)| match usize::try_from(*value) {
            Ok(row) if row < limit => Ok(Some(row)),
            Err(_) if *value == -1 => Ok(None),
            _ => Err(BackendError::invalid(format!(
                "operand `{}`: element {at} is {value}, but it must be in 0..{limit}, or -1 for none",
                self.name
            ))),
        };
        indices.iter().enumerate().map(row).collect()
    }

    fn unreadable(&self, error: &quant::QuantError) -> BackendError {
        BackendError::unsupported(format!("operand `{}`: {error}", self.name))
    }
}

impl ViewMut<'_, HostBuf> {
    /// The result's bytes.
    ///
    /// # Errors
    /// As [`HostBuf::bytes_mut`].
    pub fn bytes_mut(&mut self) -> Result<&mut [u8], BackendError> {
        Ok(&mut self.buf.bytes_mut()?[self.offset..self.offset + self.len])
    }

    /// The result's elements, of type f32.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`] if they are of another type: a kernel wrote what its claim did not promise.
    pub fn f32s_mut(&mut self) -> Result<&mut [f32], BackendError> {
        let dtype = self.dtype;
        let wrong = |what: String| BackendError::new(ErrorCode::Internal, format!("a result is {what}, not f32"));
        if dtype != DType::F32 {
            return Err(wrong(format!("of type {dtype}")));
        }
        bytemuck::try_cast_slice_mut(self.bytes_mut()?).map_err(|e| wrong(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A weight that begins one byte into its memory.
    fn unaligned(bytes: &[u8]) -> HostBuf {
        let mut all = vec![0];
        all.extend_from_slice(bytes);
        let len = all.len();
        HostBuf(Contents::Weight(Bytes::from(all).slice(1..len).unwrap()))
    }

    fn view<'a>(buf: &'a HostBuf, dtype: DType, dims: &[usize]) -> View<'a, HostBuf> {
        View { name: "x", dtype, dims: dims.to_vec(), buf, offset: 0, len: buf.bytes().len() }
    }

    fn own(size: usize) -> HostBuf {
        use camelid_core::backend::BufferUsage;
        HostMemory.alloc(&BufferDesc { name: "own".into(), size, usage: BufferUsage::State }).unwrap()
    }

    #[test]
    fn values_are_read_at_any_alignment_and_borrowed_where_they_can_be() {
        let bytes: Vec<u8> = [1.5f32, -2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut buf = own(16);
        buf.bytes_mut().unwrap().copy_from_slice(&bytes);
        let aligned = view(&buf, DType::F32, &[2, 2]);
        assert!(matches!(aligned.floats().unwrap(), Cow::Borrowed([1.5, -2.0, 3.0, 4.0])));
        let weight = unaligned(&bytes);
        assert_eq!(*view(&weight, DType::F32, &[2, 2]).floats().unwrap(), [1.5, -2.0, 3.0, 4.0]);
        let numbers = unaligned(&[0xff, 0xff, 0xff, 0xff, 7, 0, 0, 0]);
        assert_eq!(*view(&numbers, DType::I32, &[2]).indices().unwrap(), [-1, 7]);
        let halves = unaligned(&[0x00, 0x3c, 0x00, 0xc0]);
        assert_eq!(*view(&halves, DType::F16, &[2]).floats().unwrap(), [1.0, -2.0]);
    }

    #[test]
    fn rows_are_read_inside_the_operand_only() {
        let weight = unaligned(&[0x80, 0x3f, 0x00, 0x40, 0x40, 0x40, 0x80, 0x40]); // bf16 1 2 3 4
        let x = view(&weight, DType::BF16, &[2, 2]);
        let mut row = [0.0; 2];
        x.read_row(1, &mut row).unwrap();
        assert_eq!(row, [3.0, 4.0]);
        for i in [2, usize::MAX, usize::MAX / 4 + 1] {
            let error = x.read_row(i, &mut row).unwrap_err();
            assert!(error.message.contains("operand `x`") && error.message.contains("2 rows of 2"), "{error}");
        }
        assert!(x.read_row(0, &mut [0.0; 3]).is_err());
        let error = view(&weight, DType::I32, &[2]).floats().unwrap_err();
        assert_eq!(error.code, ErrorCode::Unsupported, "{error}");
    }

    #[test]
    fn row_numbers_are_checked() {
        let numbers = |values: &[i32]| {
            let buf = unaligned(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
            view(&buf, DType::I32, &[values.len()]).row_numbers(3)
        };
        assert_eq!(numbers(&[2, -1, 0]), Ok(vec![Some(2), None, Some(0)]));
        for wrong in [3, -2, i32::MIN, i32::MAX] {
            let message = format!("operand `x`: element 1 is {wrong}, but it must be in 0..3, or -1 for none");
            assert_eq!(numbers(&[0, wrong]), Err(BackendError::invalid(message)));
        }
    }

    #[test]
    fn results_are_floats_in_memory_of_ones_own_only() {
        let mut buf = own(10);
        let mut y = ViewMut { dtype: DType::F32, dims: vec![2], buf: &mut buf, offset: 0, len: 8 };
        y.f32s_mut().unwrap().copy_from_slice(&[1.0, 2.0]);
        assert_eq!(y.bytes_mut().unwrap()[4..], 2f32.to_le_bytes());
        y.dtype = DType::BF16;
        let error = y.f32s_mut().unwrap_err().message;
        assert_eq!(error, "a result is of type bf16, not f32");
        assert!(unaligned(&[0; 4]).bytes_mut().is_err());
    }

    #[test]
    fn too_much_is_an_error_and_not_an_abort() {
        use camelid_core::backend::BufferUsage;
        for size in [usize::MAX, usize::MAX - 8, 1 << 60] {
            let desc = BufferDesc { name: "kv cache".into(), size, usage: BufferUsage::State };
            let error = HostMemory.alloc(&desc).unwrap_err();
            assert_eq!(error.code, ErrorCode::OutOfMemory);
            assert!(error.message.contains("`kv cache`") && error.message.contains(&size.to_string()), "{error}");
        }
    }
}
