//! Comparing the tensors that a checkpoint has with those that its config calls for.

use std::fmt;

use camelid_core::llama::tensors::ExpectedTensor;

use crate::error::{Listed, shown};
use crate::{Checkpoint, WeightsError};

/// What to do about tensors that nothing calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Strictness {
    /// Report them in the [`CheckReport`].
    #[default]
    Lenient,
    /// They are an error.
    Strict,
}

/// A comparison that ended well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Names of tensors that the checkpoint has and the config does not call for, in file order.
    pub unexpected: Vec<String>,
}

/// All differences between the tensors there are and the tensors there should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Names of required tensors that are not there.
    pub missing: Vec<String>,
    /// Tensors of another shape.
    pub wrong_shape: Vec<WrongShape>,
    /// Names of tensors that nothing calls for; empty unless the check was strict.
    pub unexpected: Vec<String>,
}

/// A tensor whose shape is not the one that the config calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongShape {
    /// Its name.
    pub name: String,
    /// Its shape in the file.
    pub found: Vec<usize>,
    /// The shape that the config calls for.
    pub expected: Vec<usize>,
    /// The field, or product of fields, of the config that each dimension comes from.
    pub from: Vec<&'static str>,
}

impl fmt::Display for WrongShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:?} in the file, but the config calls for [", shown(&self.name), self.found)?;
        for (i, size) in self.expected.iter().enumerate() {
            write!(f, "{}{size}", if i == 0 { "" } else { ", " })?;
            if let Some(from) = self.from.get(i) {
                write!(f, " ({from})")?;
            }
        }
        f.write_str("]")
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            let names: Vec<_> = self.missing.iter().map(|n| shown(n)).collect();
            parts.push(format!("{} missing: {}", count(names.len()), Listed(&names)));
        }
        if !self.wrong_shape.is_empty() {
            parts.push(format!("{} of another shape: {}", count(self.wrong_shape.len()), Listed(&self.wrong_shape)));
        }
        if !self.unexpected.is_empty() {
            let names: Vec<_> = self.unexpected.iter().map(|n| shown(n)).collect();
            parts.push(format!("{} that the config does not call for: {}", count(names.len()), Listed(&names)));
        }
        write!(f, "{}; use the config.json that belongs to these weights, or complete the weights", parts.join("; "))
    }
}

fn count(n: usize) -> String {
    if n == 1 { "1 tensor".into() } else { format!("{n} tensors") }
}

impl Checkpoint {
    /// Compares the tensors with those that the config calls for
    /// ([`camelid_core::llama::tensors::expected`]).
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] with every tensor that is missing, every wrong shape and, under [`Strictness::Strict`], every
    /// tensor that was not expected.
    pub fn check_against(
        &self,
        expected: &[ExpectedTensor],
        strictness: Strictness,
    ) -> Result<CheckReport, WeightsError> {
        let mut mismatch = Mismatch::default();
        let mut called_for: Vec<&str> = Vec::with_capacity(expected.len());
        for tensor in expected {
            called_for.push(&tensor.name);
            match self.tensor(&tensor.name) {
                None => mismatch.missing.push(tensor.name.clone()),
                Some(found) if found.shape == tensor.shape => {}
                Some(found) => mismatch.wrong_shape.push(WrongShape {
                    name: tensor.name.clone(),
                    found: found.shape.clone(),
                    expected: tensor.shape.clone(),
                    from: tensor.from.clone(),
                }),
            }
        }
        called_for.sort_unstable();
        let unexpected: Vec<String> = self
            .tensors()
            .iter()
            .filter(|t| called_for.binary_search(&t.name.as_str()).is_err())
            .map(|t| t.name.clone())
            .collect();
        let report = match strictness {
            Strictness::Lenient => CheckReport { unexpected },
            Strictness::Strict => {
                mismatch.unexpected = unexpected;
                CheckReport::default()
            }
        };
        if mismatch == Mismatch::default() {
            Ok(report)
        } else {
            Err(WeightsError::Mismatch { path: self.path().to_owned(), mismatch: Box::new(mismatch) })
        }
    }
}
