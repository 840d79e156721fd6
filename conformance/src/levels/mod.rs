//! The cases, one module a level.
//!
//! A level is a function from the suite's files to cases. Ids are stable and unique; what a case compares with comes
//! from the suite's files or is told by the case itself (a copy must equal its source), never from a backend.

pub mod abi;
pub mod cache;
pub mod forward;
pub mod generate;
pub mod model;
pub mod module;
pub mod op;
pub mod real;
mod rig;
pub mod stress;
pub mod tokenizer;

use std::collections::HashSet;

use crate::case::Case;
use crate::suite::{INDEX, Suite, SuiteError};

/// Every case of every level, in the order in which they run.
///
/// # Errors
/// [`SuiteError`] for files of the suite that cannot be used, and for an id given twice.
pub fn all(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let mut cases = abi::cases();
    cases.extend(op::cases(suite)?);
    cases.extend(module::cases(suite)?);
    cases.extend(model::cases(suite)?);
    cases.extend(forward::cases(suite)?);
    cases.extend(cache::cases(suite)?);
    cases.extend(tokenizer::cases(suite)?);
    cases.extend(generate::cases(suite)?);
    cases.extend(stress::cases(suite)?);
    cases.extend(real::cases(suite)?);
    cases.sort_by_key(|c| c.level);
    let mut seen = HashSet::new();
    if let Some(twice) = cases.iter().find(|c| !seen.insert(c.id.as_str())) {
        let problem = format!("case `{}` is there twice", twice.id);
        return Err(SuiteError::Damaged { path: suite.path(INDEX), problem });
    }
    Ok(cases)
}
