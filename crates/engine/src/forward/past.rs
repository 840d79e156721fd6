//! [`Past`]: `past_key_values`, a handle on the sequences of a session.

use camelid_core::cache::SequenceId;

use crate::error::EngineError;
use crate::session::Session;

/// The tokens that a batch has behind it: one sequence of a session a row.
///
/// Its length counts columns, as that of a transformers cache does: masked tokens have one, though nothing was computed
/// for them and the sequence does not hold them. A past belongs to the session that made it; what is no longer needed is
/// given back with [`Past::release`].
#[derive(Debug)]
pub struct Past {
    pub(super) rows: Vec<PastRow>,
    pub(super) len: usize,
}

/// One row's sequence.
#[derive(Clone, Debug)]
pub(super) struct PastRow {
    pub sequence: SequenceId,
    /// The column of each token of the sequence, rising.
    pub columns: Vec<usize>,
}

impl Past {
    /// An empty past for `batch` rows.
    ///
    /// # Errors
    /// [`EngineError::Cache`] if the session has not as many sequences left.
    pub fn new(session: &mut Session, batch: usize) -> Result<Past, EngineError> {
        let mut past = Past { rows: Vec::new(), len: 0 };
        for _ in 0..batch {
            match session.create() {
                Ok(sequence) => past.rows.push(PastRow { sequence, columns: Vec::new() }),
                Err(error) => {
                    past.release(session)?;
                    return Err(error);
                }
            }
        }
        Ok(past)
    }

    /// Rows of the batch.
    pub fn batch(&self) -> usize {
        self.rows.len()
    }

    /// Columns, masked ones included: the position that the next token gets unless it is given one.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True before the first token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The sequence of a row, for [`Session::step`].
    pub fn sequence(&self, row: usize) -> Option<SequenceId> {
        self.rows.get(row).map(|r| r.sequence)
    }

    /// Forgets all columns from `len` on; a negative `len` forgets as many from the end. A past that is not longer stays
    /// as it is.
    ///
    /// # Errors
    /// What the session says of a sequence that is not its own.
    pub fn crop(&mut self, session: &mut Session, len: isize) -> Result<(), EngineError> {
        let kept = if len < 0 { self.len.saturating_sub(len.unsigned_abs()) } else { len.unsigned_abs() };
        for row in &mut self.rows {
            let tokens = row.columns.partition_point(|c| *c < kept);
            if tokens < row.columns.len() {
                session.truncate(row.sequence, tokens)?;
                row.columns.truncate(tokens);
            }
        }
        self.len = self.len.min(kept);
        Ok(())
    }

    /// A second past with the same tokens; from here on each has its own future.
    ///
    /// # Errors
    /// [`EngineError::Cache`] if the session has not as many sequences left.
    pub fn fork(&self, session: &mut Session) -> Result<Past, EngineError> {
        let mut fork = Past { rows: Vec::new(), len: self.len };
        for row in &self.rows {
            match session.fork(row.sequence) {
                Ok(sequence) => fork.rows.push(PastRow { sequence, columns: row.columns.clone() }),
                Err(error) => {
                    fork.release(session)?;
                    return Err(error);
                }
            }
        }
        Ok(fork)
    }

    /// Makes row `i` what row `order[i]` was, as beam search does; rows may be taken several times or not at all.
    ///
    /// # Errors
    /// [`EngineError::Option`] for a row that is not there, and [`EngineError::Cache`] if the session has not the
    /// sequences for more rows than there were; the past is then as before.
    pub fn reorder(&mut self, session: &mut Session, order: &[usize]) -> Result<(), EngineError> {
        if let Some(row) = order.iter().find(|r| **r >= self.rows.len()) {
            let rule = format!("name rows below {}", self.rows.len());
            return Err(EngineError::Option { option: "order", found: row.to_string(), rule });
        }
        let uses = |row: usize| order.iter().filter(|r| **r == row).count();
        let unused: Vec<usize> = (0..self.rows.len()).filter(|r| uses(*r) == 0).collect();
        let mut wanted: Vec<usize> =
            (0..self.rows.len()).flat_map(|r| std::iter::repeat_n(r, uses(r).saturating_sub(1))).collect();
        // Copies for which no row makes room come first: only they can fail for want of it.
        let mut copies: Vec<(usize, SequenceId)> = Vec::new();
        for row in wanted.drain(..wanted.len().saturating_sub(unused.len())) {
            match session.fork(self.rows[row].sequence) {
                Ok(sequence) => copies.push((row, sequence)),
                Err(error) => {
                    for (_, sequence) in copies {
                        session.release(sequence)?;
                    }
                    return Err(error);
                }
            }
        }
        for row in unused {
            session.release(self.rows[row].sequence)?;
        }
        for row in wanted {
            copies.push((row, session.fork(self.rows[row].sequence)?));
        }
        let mut taken = vec![false; self.rows.len()];
        let rows = order.iter().map(|r| {
            let sequence = if std::mem::replace(&mut taken[*r], true) {
                let at = copies.iter().position(|(row, _)| row == r).expect("there is a copy for each further use");
                copies.swap_remove(at).1
            } else {
                self.rows[*r].sequence
            };
            PastRow { sequence, columns: self.rows[*r].columns.clone() }
        });
        self.rows = rows.collect();
        Ok(())
    }

    /// Gives the sequences back.
    ///
    /// # Errors
    /// What the session says of a sequence that is not its own.
    pub fn release(self, session: &mut Session) -> Result<(), EngineError> {
        self.rows.into_iter().try_for_each(|row| session.release(row.sequence))
    }
}
