//! Level `cache`: the books of the caches, and the same tokens computed in other ways.
//!
//! `books` drives a cache alone with random requests and plays the device's memory itself. `ways` gives a model its
//! tokens in chunks, in batches, after forks and truncations, over every division of the memory: the logits must be
//! those that PyTorch has for the tokens, however they came.

mod books;
mod ways;

use crate::case::Case;
use crate::suite::{Suite, SuiteError};

/// Its cases.
///
/// # Errors
/// For files of the suite that cannot be used.
pub fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let mut cases = books::cases();
    cases.extend(ways::cases(suite)?);
    Ok(cases)
}
