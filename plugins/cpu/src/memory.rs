//! The device's memory: buffers, and weights as they came or in panels.

use std::sync::Arc;

use camelid_core::Bytes;
use camelid_core::backend::{BackendError, BufferDesc, ErrorCode, Placement, Weight};
use camelid_core::graph::Dim;
use camelid_sdk::kernels::Memory;

use crate::block::{Arena, Block};
use crate::isa::LANES;
use crate::kernel::{Kernel, Kernels};
use crate::pool::Pool;

/// Where buffers and weights come from.
pub(crate) struct CpuMemory {
    pub kernels: Kernels,
    pub pool: Arc<Pool>,
    /// Whether weights may be put into panels.
    pub repack: bool,
    pub arena: Arena,
}

/// A buffer or a weight.
pub(crate) enum Piece {
    /// The host's to write.
    Plain(Block),
    /// A weight where it lies in the file.
    File(Bytes),
    /// A weight in panels.
    Panels(Panels),
}

/// A weight `[n, k]` in panels of sixteen rows.
pub(crate) struct Panels {
    pub kernel: Kernel,
    pub n: usize,
    pub k: usize,
    pub data: Block,
}

impl Panels {
    pub(crate) fn panel_len(&self) -> usize {
        self.kernel.panel_len(self.k).expect("counted when it was packed")
    }

    pub(crate) fn row_len(&self) -> usize {
        self.kernel.file_row_bytes(self.k)
    }

    /// Row `i` as it lay in the file.
    pub(crate) fn row(&self, i: usize, row: &mut [u8]) {
        let len = self.panel_len();
        self.kernel.unpack(&self.data.bytes()[i / LANES * len..][..len], i % LANES, row);
    }

    /// `to.len()` bytes from `offset` on, as they lay in the file.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) {
        let len = self.row_len();
        let mut row = vec![0; len];
        let mut done = 0;
        while done < to.len() {
            let at = offset + done;
            self.row(at / len, &mut row);
            let part = &row[at % len..];
            let count = part.len().min(to.len() - done);
            to[done..done + count].copy_from_slice(&part[..count]);
            done += count;
        }
    }
}

impl Piece {
    fn bytes_mut(&mut self) -> Result<&mut [u8], BackendError> {
        match self {
            Piece::Plain(block) => Ok(block.bytes_mut()),
            _ => Err(BackendError::new(ErrorCode::Internal, "a weight was to be changed; weights are never written")),
        }
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        match self {
            Piece::Panels(panels) => panels.read(offset, to),
            Piece::Plain(block) => to.copy_from_slice(&block.bytes()[offset..offset + to.len()]),
            Piece::File(bytes) => to.copy_from_slice(&bytes[offset..offset + to.len()]),
        }
    }
}

impl CpuMemory {
    /// The weight in panels, if it is a matrix of a type that has some.
    fn pack(&mut self, weight: &Weight) -> Result<Option<Panels>, BackendError> {
        let [Dim::Fixed(n), Dim::Fixed(k)] = *weight.ty.shape.dims() else { return Ok(None) };
        let Some(kernel) = self.kernels.of(weight.ty.dtype) else { return Ok(None) };
        // A matrix of a few rows would mostly be padding.
        if !self.repack || !weight.may_repack || n < LANES || k == 0 {
            return Ok(None);
        }
        let Some(panel_len) = kernel.panel_len(k) else { return Ok(None) };
        let Some(len) = n.div_ceil(LANES).checked_mul(panel_len) else { return Ok(None) };
        let mut data = self.arena.block(&format!("weight `{}` in panels", weight.name), len)?;
        let panel_rows = LANES * kernel.file_row_bytes(k);
        let start = SharedPtr(data.start());
        let (rows, start) = (&weight.data, &start);
        self.pool.each(n.div_ceil(LANES), 4, &|i| {
            let from = &rows[i * panel_rows..((i + 1) * panel_rows).min(rows.len())];
            // SAFETY: every panel is one thread's, and inside `data`.
            let panel = unsafe { std::slice::from_raw_parts_mut(start.0.add(i * panel_len), panel_len) };
            kernel.pack(from, k, panel);
        })?;
        Ok(Some(Panels { kernel, n, k, data }))
    }
}

/// A pointer that threads divide among them.
struct SharedPtr(*mut u8);

// SAFETY: whoever uses it says which bytes are whose.
unsafe impl Sync for SharedPtr {}

impl Memory for CpuMemory {
    type Buf = Piece;

    const ALIGN: usize = 1;

    fn alloc(&mut self, buffer: &BufferDesc) -> Result<Piece, BackendError> {
        Ok(Piece::Plain(Block::new(&format!("buffer `{}`", buffer.name), buffer.size)?))
    }

    fn load_weight(&mut self, weight: Weight) -> Result<(Piece, Placement), BackendError> {
        Ok(match self.pack(&weight)? {
            Some(panels) => (Piece::Panels(panels), Placement::Repacked),
            None => (Piece::File(weight.data), Placement::Aliased),
        })
    }

    fn write(&mut self, to: &mut Piece, offset: usize, src: &[u8]) -> Result<(), BackendError> {
        to.bytes_mut()?[offset..offset + src.len()].copy_from_slice(src);
        Ok(())
    }

    fn read(&mut self, from: &Piece, offset: usize, dst: &mut [u8]) -> Result<(), BackendError> {
        from.read(offset, dst);
        Ok(())
    }

    fn copy(&mut self, to: (&mut Piece, usize), from: (&Piece, usize), len: usize) -> Result<(), BackendError> {
        from.0.read(from.1, &mut to.0.bytes_mut()?[to.1..to.1 + len]);
        Ok(())
    }

    fn copy_within(&mut self, buf: &mut Piece, to: usize, from: usize, len: usize) -> Result<(), BackendError> {
        buf.bytes_mut()?.copy_within(from..from + len, to);
        Ok(())
    }
}
