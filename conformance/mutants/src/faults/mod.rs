//! The faults in operations, a file a family. Each stands beside its mutant, so that neither is there without the other.

mod attention;
mod elementwise;
mod linear;
mod norm;
mod numbers;
mod rope;
mod rows;
mod sizes;

pub(crate) use attention::in_other_ways;
use camelid_core::backend::BackendError;

use crate::kernels::{Call, Honest};
use crate::tensor::Tensor;
use crate::{Level, Mutant};

/// What a call comes to.
pub type Outcome = Result<Vec<Tensor>, BackendError>;

/// A fault: the honest device, the call, and what it honestly comes to.
pub type Fault = fn(&mut Honest, Call, Outcome) -> Outcome;

/// A mutant with its fault.
pub type Entry = (Mutant, Fault);

/// Every fault in an operation.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    let operations = [rope::FAULTS, attention::FAULTS, norm::FAULTS, linear::FAULTS, elementwise::FAULTS, rows::FAULTS];
    operations.into_iter().chain([sizes::FAULTS, numbers::FAULTS]).flatten()
}

const fn mutant(id: &'static str, about: &'static str, cases: &'static [&'static str]) -> Mutant {
    Mutant { id, level: Level::Op, about, cases }
}

/// A fault in the operands of `$op`: they are changed, then it is computed honestly.
macro_rules! before {
    ($op:literal, |$call:ident| $body:expr) => {
        |honest, mut call, right| {
            if call.op.name() != $op {
                return right;
            }
            let $call = &mut call;
            $body;
            honest.compute(&call)
        }
    };
}

/// A fault in the results of `$op`.
macro_rules! after {
    ($op:literal, |$call:ident, $results:ident| $body:expr) => {
        |_, call, right| {
            if call.op.name() != $op {
                return right;
            }
            let mut results = right?;
            let ($call, $results) = (&call, &mut results);
            let _ = $call;
            $body;
            Ok(results)
        }
    };
}

pub(crate) use {after, before};
