//! The device's memory: buffers that the host fills, and weights that stay where they are.

use std::collections::HashMap;

use camelid_core::Bytes;
use camelid_core::backend::{BufferDesc, BufferId, Location, Weight};
use camelid_core::graph::{SymbolValues, TensorType};

use crate::claims;
use crate::error::Error;
use crate::memory::Memory;

/// All buffers. Ids are never used again, so a stale one is always found out.
#[derive(Default)]
pub(crate) struct Buffers {
    buffers: HashMap<BufferId, Buffer>,
    last_id: u64,
}

/// A buffer and what it is called.
pub(crate) struct Buffer {
    pub name: String,
    contents: Contents,
}

enum Contents {
    Plain(Memory),
    /// Aliased: the bytes are the caller's, often a memory map, at any alignment.
    Weight {
        ty: TensorType,
        data: Bytes,
    },
}

impl Buffer {
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.contents {
            Contents::Plain(memory) => memory.bytes(),
            Contents::Weight { data, .. } => data,
        }
    }

    /// The type of the weight it holds, if it holds one.
    pub(crate) fn weight_type(&self) -> Option<TensorType> {
        match &self.contents {
            Contents::Plain(_) => None,
            Contents::Weight { ty, .. } => Some(*ty),
        }
    }

    fn range(&self, verb: &'static str, offset: usize, len: usize) -> Result<std::ops::Range<usize>, Error> {
        let size = self.bytes().len();
        match offset.checked_add(len) {
            Some(end) if end <= size => Ok(offset..end),
            _ => Err(Error::OutOfRange { verb, buffer: self.name.clone(), offset, len, size }),
        }
    }

    fn writable(&mut self) -> Result<&mut [u8], Error> {
        match &mut self.contents {
            Contents::Plain(memory) => Ok(memory.bytes_mut()),
            Contents::Weight { .. } => Err(Error::WriteToWeight(self.name.clone())),
        }
    }
}

impl Buffers {
    pub(crate) fn alloc(&mut self, desc: &BufferDesc) -> Result<BufferId, Error> {
        let name = desc.name.clone();
        let memory = Memory::fresh(desc.size).map_err(|source| Error::NoMemory { name: name.clone(), source })?;
        Ok(self.insert(name, Contents::Plain(memory)))
    }

    /// Keeps `weight` where it is.
    pub(crate) fn load(&mut self, weight: Weight) -> Result<BufferId, Error> {
        let Weight { name, ty, data, may_repack: _ } = weight;
        if !claims::WEIGHTS.contains(&ty.dtype) {
            let supported = claims::names(claims::WEIGHTS);
            return Err(Error::WeightType { weight: name, dtype: ty.dtype, supported });
        }
        let Some(expected) = fixed_size(&ty) else { return Err(Error::WeightShape { weight: name, ty }) };
        if data.len() != expected {
            return Err(Error::WeightSize { weight: name, ty, expected, found: data.len() });
        }
        Ok(self.insert(name, Contents::Weight { ty, data }))
    }

    pub(crate) fn free(&mut self, id: BufferId) {
        if self.buffers.remove(&id).is_none() {
            tracing::warn!(buffer = id.0, "freed a buffer that does not exist");
        }
    }

    pub(crate) fn get(&self, id: BufferId) -> Result<&Buffer, Error> {
        self.buffers.get(&id).ok_or(Error::UnknownBuffer(id))
    }

    /// `len` bytes at `location`, to read.
    pub(crate) fn read(&self, location: Location, len: usize) -> Result<&[u8], Error> {
        let buffer = self.get(location.buffer)?;
        let range = buffer.range("read", location.offset, len)?;
        Ok(&buffer.bytes()[range])
    }

    /// `len` bytes at `location`, to write.
    pub(crate) fn write(&mut self, location: Location, len: usize) -> Result<&mut [u8], Error> {
        let id = location.buffer;
        let buffer = self.buffers.get_mut(&id).ok_or(Error::UnknownBuffer(id))?;
        let range = buffer.range("write", location.offset, len)?;
        Ok(&mut buffer.writable()?[range])
    }

    pub(crate) fn copy(&mut self, to: Location, from: Location, len: usize) -> Result<(), Error> {
        let source = self.get(from.buffer)?.range("copy", from.offset, len)?;
        let target = self.get(to.buffer)?.range("copy", to.offset, len)?;
        if to.buffer == from.buffer {
            let buffer = self.buffers.get_mut(&to.buffer).ok_or(Error::UnknownBuffer(to.buffer))?;
            if source.start < target.end && target.start < source.end {
                let (from, to) = (from.offset, to.offset);
                return Err(Error::OverlappingCopy { buffer: buffer.name.clone(), from, to, len });
            }
            buffer.writable()?.copy_within(source, target.start);
            return Ok(());
        }
        let [Some(to), Some(from)] = self.buffers.get_disjoint_mut([&to.buffer, &from.buffer]) else {
            unreachable!("both buffers were found above")
        };
        to.writable()?[target].copy_from_slice(&from.bytes()[source]);
        Ok(())
    }

    fn insert(&mut self, name: String, contents: Contents) -> BufferId {
        self.last_id += 1;
        let id = BufferId(self.last_id);
        self.buffers.insert(id, Buffer { name, contents });
        id
    }
}

/// Bytes of a type without symbols, or `None` if it has some or its size overflows.
fn fixed_size(ty: &TensorType) -> Option<usize> {
    let fixed = ty.shape.dims().iter().all(|d| matches!(d, camelid_core::graph::Dim::Fixed(_)));
    let any = SymbolValues::new(0, 0, 0, 0);
    if fixed { ty.bytes(&any) } else { None }
}
