//! Level `stress`: random graphs, many sessions and threads, long runs, memory that must not grow.

mod graphs;
mod memory;
mod sessions;

use crate::case::Case;
use crate::suite::{Suite, SuiteError};

/// Its cases.
///
/// # Errors
/// For files of the suite that cannot be used.
pub fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let mut cases = graphs::cases();
    cases.extend(sessions::cases(suite)?);
    cases.extend(memory::cases());
    Ok(cases)
}
