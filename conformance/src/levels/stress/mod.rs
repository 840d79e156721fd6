//! Level `stress`: random graphs, many cases on one device, many sessions and threads, long runs, memory that must not grow.

mod graphs;
mod memory;
mod rounding;
mod sessions;

use crate::case::Case;
use crate::graph_case;
use crate::suite::{Suite, SuiteError};

/// Its cases.
///
/// # Errors
/// For files of the suite that cannot be used.
pub fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let mut cases = graphs::cases();
    cases.extend(sessions::cases(suite)?);
    cases.extend(graph_case::on_one_device(suite, "op")?);
    cases.extend(graph_case::on_one_device(suite, "module")?);
    cases.extend(memory::cases());
    Ok(cases)
}
