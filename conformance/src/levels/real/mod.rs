//! Level `real`: a real model and real vocabularies, which are fetched by version and SHA-256 when a case is asked.
//!
//! These cases are no part of a verdict unless `--profile real` asks for them; without the file they are blocked.

mod smollm2;
mod tokenizer;

use crate::case::Case;
use crate::suite::{Suite, SuiteError};

/// Its cases.
///
/// # Errors
/// For files of the suite that cannot be used.
pub fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let mut cases = tokenizer::cases();
    cases.extend(smollm2::cases(suite)?);
    Ok(cases)
}
