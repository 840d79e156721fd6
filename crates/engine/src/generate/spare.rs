//! [`Spare`]: the sequences of a session that a request takes beside its own.

use camelid_core::cache::{CacheError, SequenceId};

use crate::error::EngineError;
use crate::session::Session;

/// Sequences that are held for a request from its beginning, so that it does not fail on its way, and are given back in
/// its end.
#[derive(Debug, Default)]
pub(super) struct Spare {
    /// Empty ones: each holds the place of a fork to come.
    vacant: Vec<SequenceId>,
    forks: Vec<SequenceId>,
}

impl Spare {
    /// Holds `count` sequences for request `request`.
    pub fn hold(session: &mut Session, request: usize, count: usize) -> Result<Spare, EngineError> {
        let mut spare = Spare::default();
        for free in 0..count {
            match session.create() {
                Ok(sequence) => spare.vacant.push(sequence),
                Err(error) => {
                    spare.give_back(session)?;
                    return Err(match error {
                        EngineError::Cache(CacheError::TooManySequences { max_sequences }) => {
                            EngineError::TooFewSequences { request, needed: count + 1, free: free + 1, max_sequences }
                        }
                        other => other,
                    });
                }
            }
        }
        Ok(spare)
    }

    /// A fork of `sequence`.
    pub fn fork(&mut self, session: &mut Session, sequence: SequenceId) -> Result<SequenceId, EngineError> {
        if let Some(vacant) = self.vacant.pop() {
            session.release(vacant)?;
        }
        let fork = session.fork(sequence)?;
        self.forks.push(fork);
        Ok(fork)
    }

    /// Makes a fork vacant again.
    pub fn vacate(&mut self, session: &mut Session, fork: SequenceId) -> Result<(), EngineError> {
        self.forks.retain(|f| *f != fork);
        session.release(fork)?;
        self.vacant.push(session.create()?);
        Ok(())
    }

    /// Gives everything back. What the session has already given up, after an error of the device, is passed over.
    pub fn give_back(&mut self, session: &mut Session) -> Result<(), EngineError> {
        for sequence in self.vacant.drain(..).chain(self.forks.drain(..)) {
            match session.release(sequence) {
                Ok(()) | Err(EngineError::Cache(CacheError::UnknownSequence(_))) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
