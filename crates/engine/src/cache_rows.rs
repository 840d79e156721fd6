//! The bytes of the cache: copied on the device where sequences part, read and written by the host where they are kept.

use std::ops::Range;

use camelid_core::cache::{SequenceId, SlotCopy};

use crate::error::EngineError;
use crate::plans::Plane;
use crate::session::Session;

impl Session {
    /// Copies rows in every plane, as the cache asks.
    pub(crate) fn copy_rows(&self, copies: &[SlotCopy]) -> Result<(), EngineError> {
        for plane in self.planes() {
            for copy in copies {
                let at = |row: usize| (&plane.buffer, row * plane.row_bytes);
                self.model.device().copy(at(copy.to), at(copy.from), copy.rows * plane.row_bytes)?;
            }
        }
        Ok(())
    }

    /// The cache's planes, the same for all plans.
    pub(crate) fn planes(&self) -> &[Plane] {
        &self.plans[0].1.planes
    }

    /// The bytes of the sequence's rows in a plane, in the order of its tokens.
    pub(crate) fn read_rows(&self, sequence: SequenceId, plane: &Plane) -> Result<Vec<u8>, EngineError> {
        let mut bytes = vec![0; self.len(sequence)? * plane.row_bytes];
        for (first, slots) in self.slot_runs(sequence)? {
            let at = first * plane.row_bytes;
            plane.buffer.read(slots.start * plane.row_bytes, &mut bytes[at..at + slots.len() * plane.row_bytes])?;
        }
        Ok(bytes)
    }

    /// A new sequence whose rows are given: for each plane, in order, the bytes of `len` rows.
    pub(crate) fn create_from_rows(&mut self, len: usize, rows: &[Vec<u8>]) -> Result<SequenceId, EngineError> {
        let sequence = self.create()?;
        let written = self.cache.append(sequence, len).map_err(EngineError::from).and_then(|_| {
            let runs = self.slot_runs(sequence)?;
            for (plane, bytes) in self.planes().iter().zip(rows) {
                for (first, slots) in &runs {
                    let at = first * plane.row_bytes;
                    let piece = &bytes[at..at + slots.len() * plane.row_bytes];
                    plane.buffer.write(slots.start * plane.row_bytes, piece)?;
                }
            }
            Ok(())
        });
        if let Err(error) = written {
            self.release(sequence)?;
            return Err(error);
        }
        Ok(sequence)
    }

    /// The sequence's cache rows as runs of neighbours, each with the index of its first token.
    fn slot_runs(&self, sequence: SequenceId) -> Result<Vec<(usize, Range<usize>)>, EngineError> {
        let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
        for index in 0..self.len(sequence)? {
            let slot = self.cache.slot(sequence, index)?;
            match runs.last_mut() {
                Some((_, slots)) if slots.end == slot => slots.end += 1,
                _ => runs.push((index, slot..slot + 1)),
            }
        }
        Ok(runs)
    }
}
