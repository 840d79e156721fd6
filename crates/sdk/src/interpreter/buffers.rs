//! The buffers of the host: pieces of the kernels' memory with names, sizes and ids.

use std::collections::HashMap;
use std::ops::Range;

use camelid_core::backend::{BackendError, BufferDesc, BufferId, LoadedWeight, Location, Weight};
use camelid_core::graph::{Dim, SymbolValues, TensorType};

use super::error::Error;
use crate::kernels::{Claim, Memory, claim};

/// All buffers. Ids are never used again, so a stale one is always found out.
pub struct Buffers<B> {
    buffers: HashMap<BufferId, Buffer<B>>,
    last_id: u64,
}

/// A buffer and what is known about it.
pub(super) struct Buffer<B> {
    pub name: String,
    pub size: usize,
    /// The type of the weight it holds, if it holds one.
    pub weight: Option<TensorType>,
    /// Taken out while a kernel writes to it, and gone if that kernel panicked.
    piece: Option<B>,
}

impl<B> std::fmt::Debug for Buffers<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffers").field("buffers", &self.buffers.len()).finish_non_exhaustive()
    }
}

impl<B> Default for Buffers<B> {
    fn default() -> Buffers<B> {
        Buffers { buffers: HashMap::new(), last_id: 0 }
    }
}

impl<B> Buffer<B> {
    fn range(&self, verb: &'static str, offset: usize, len: usize) -> Result<Range<usize>, Error> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size => Ok(offset..end),
            _ => Err(Error::OutOfRange { verb, buffer: self.name.clone(), offset, len, size: self.size }),
        }
    }

    fn writable(&self) -> Result<(), Error> {
        if self.weight.is_some() { Err(Error::WriteToWeight(self.name.clone())) } else { Ok(()) }
    }

    fn lost(&self) -> Error {
        Error::Lost(format!("buffer `{}`", self.name))
    }

    fn piece(&self) -> Result<&B, Error> {
        self.piece.as_ref().ok_or_else(|| self.lost())
    }

    fn piece_mut(&mut self) -> Result<&mut B, Error> {
        let lost = self.lost();
        self.piece.as_mut().ok_or(lost)
    }
}

impl<B> Buffers<B> {
    pub(super) fn get(&self, id: BufferId) -> Result<&Buffer<B>, Error> {
        self.buffers.get(&id).ok_or(Error::UnknownBuffer(id))
    }

    fn get_mut(&mut self, id: BufferId) -> Result<&mut Buffer<B>, Error> {
        self.buffers.get_mut(&id).ok_or(Error::UnknownBuffer(id))
    }

    pub(super) fn piece(&self, id: BufferId) -> Result<&B, Error> {
        self.get(id)?.piece()
    }

    pub(super) fn piece_mut(&mut self, id: BufferId) -> Result<&mut B, Error> {
        self.get_mut(id)?.piece_mut()
    }

    /// Takes the piece out, so that it can be changed while others are read.
    pub(super) fn take(&mut self, id: BufferId) -> Result<B, Error> {
        let buffer = self.get_mut(id)?;
        buffer.piece.take().ok_or_else(|| buffer.lost())
    }

    /// Puts a piece back.
    pub(super) fn put(&mut self, id: BufferId, piece: B) {
        if let Some(buffer) = self.buffers.get_mut(&id) {
            buffer.piece = Some(piece);
        }
    }

    /// Whether there was such a buffer.
    pub fn free(&mut self, id: BufferId) -> bool {
        self.buffers.remove(&id).is_some()
    }

    fn insert(&mut self, name: String, size: usize, weight: Option<TensorType>, piece: B) -> BufferId {
        self.last_id += 1;
        let id = BufferId(self.last_id);
        self.buffers.insert(id, Buffer { name, size, weight, piece: Some(piece) });
        id
    }
}

/// What the host asks of buffers, over the memory they are pieces of.
impl<B> Buffers<B> {
    /// `Device::alloc`.
    ///
    /// # Errors
    /// Those of the memory.
    pub fn alloc<M: Memory<Buf = B>>(&mut self, memory: &mut M, desc: &BufferDesc) -> Result<BufferId, BackendError> {
        let piece = memory.alloc(desc)?;
        Ok(self.insert(desc.name.clone(), desc.size, None, piece))
    }

    /// `Device::load_weight`, for a device with these claims.
    ///
    /// # Errors
    /// A type that no claim has a use for, a shape with symbols, another size than that of the type; those of the memory.
    pub fn load<M: Memory<Buf = B>>(
        &mut self,
        memory: &mut M,
        claims: &[Claim],
        weight: Weight,
    ) -> Result<LoadedWeight, BackendError> {
        let (name, ty) = (weight.name.clone(), weight.ty);
        if !claim::takes(claims, ty.dtype) {
            let supported = claim::all_types(claims);
            return Err(Error::WeightType { weight: name, dtype: ty.dtype, supported }.into());
        }
        let fixed = ty.shape.dims().iter().all(|d| matches!(d, Dim::Fixed(_)));
        let size = if fixed { ty.bytes(&SymbolValues::new(0, 0, 0, 0)) } else { None };
        let Some(expected) = size else { return Err(Error::WeightShape { weight: name, ty }.into()) };
        let found = weight.data.len();
        if found != expected {
            return Err(Error::WeightSize { weight: name, ty, expected, found }.into());
        }
        let (piece, placement) = memory.load_weight(weight)?;
        Ok(LoadedWeight { buffer: self.insert(name, expected, Some(ty), piece), placement })
    }

    /// `Device::write`.
    ///
    /// # Errors
    /// A buffer that is not there or holds a weight, bytes that it does not have; those of the memory.
    pub fn write<M: Memory<Buf = B>>(&mut self, memory: &mut M, at: Location, src: &[u8]) -> Result<(), BackendError> {
        let buffer = self.get_mut(at.buffer)?;
        buffer.range("write", at.offset, src.len())?;
        buffer.writable()?;
        memory.write(buffer.piece_mut()?, at.offset, src)
    }

    /// `Device::read`.
    ///
    /// # Errors
    /// A buffer that is not there, bytes that it does not have; those of the memory.
    pub fn read<M: Memory<Buf = B>>(&self, memory: &mut M, at: Location, dst: &mut [u8]) -> Result<(), BackendError> {
        let buffer = self.get(at.buffer)?;
        buffer.range("read", at.offset, dst.len())?;
        memory.read(buffer.piece()?, at.offset, dst)
    }

    /// `Device::copy`.
    ///
    /// # Errors
    /// As [`Buffers::write`], and ranges of one buffer that overlap.
    pub fn copy<M: Memory<Buf = B>>(
        &mut self,
        memory: &mut M,
        to: Location,
        from: Location,
        len: usize,
    ) -> Result<(), BackendError> {
        let source = self.get(from.buffer)?.range("copy", from.offset, len)?;
        let target = self.get(to.buffer)?.range("copy", to.offset, len)?;
        self.get(to.buffer)?.writable()?;
        if to.buffer != from.buffer {
            let mut piece = self.take(to.buffer)?;
            let done = match self.piece(from.buffer) {
                Ok(source) => memory.copy((&mut piece, to.offset), (source, from.offset), len),
                Err(error) => Err(error.into()),
            };
            self.put(to.buffer, piece);
            return done;
        }
        let buffer = self.get_mut(to.buffer)?;
        if source.start < target.end && target.start < source.end {
            let (from, to) = (from.offset, to.offset);
            return Err(Error::OverlappingCopy { buffer: buffer.name.clone(), from, to, len }.into());
        }
        memory.copy_within(buffer.piece_mut()?, to.offset, from.offset, len)
    }
}
