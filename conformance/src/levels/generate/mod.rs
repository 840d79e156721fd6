//! Level `generate`: choosing tokens, ending, streaming.
//!
//! `sampler` holds fixed logits against distributions and draws that NumPy and transformers have for them
//! (`suite/generate/sampler.toml`); `text` cuts text at stop strings and inside characters; `requests` runs whole
//! requests on a tiny model.

mod requests;
mod sampler;
mod text;

use crate::case::Case;
use crate::suite::{Suite, SuiteError};

/// Its cases.
///
/// # Errors
/// For files of the suite that cannot be used.
pub fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let mut cases = sampler::cases(suite)?;
    cases.extend(text::cases());
    cases.extend(requests::cases(suite)?);
    Ok(cases)
}
