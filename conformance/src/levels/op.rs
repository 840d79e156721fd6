//! Level `op`: one operation a case.

use crate::case::Case;
use crate::graph_case;
use crate::suite::{Suite, SuiteError};

/// Its cases: `suite/op`.
///
/// # Errors
/// For files of the suite that cannot be used.
pub fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    graph_case::cases(suite, "op")
}
