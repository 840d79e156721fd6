//! Level `module`: several operations a case: attention blocks, MLPs, decoder layers, heads.

use crate::case::Case;
use crate::graph_case;
use crate::suite::{Suite, SuiteError};

/// Its cases: `suite/module`.
///
/// # Errors
/// For files of the suite that cannot be used.
pub fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    graph_case::cases(suite, "module")
}
