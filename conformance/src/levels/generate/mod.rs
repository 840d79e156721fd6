//! Level `generate`: choosing tokens, ending, streaming.
//!
//! `sampler` holds fixed logits against distributions and draws that NumPy and transformers have for them
//! (`suite/generate/sampler.toml`), `processors` the rules of a generation_config.json likewise; `text` cuts text at stop
//! strings and inside characters; `requests` runs whole requests on a tiny model, and `searches` those whose texts
//! transformers' `generate` has given, beams among them.

mod processors;
mod requests;
mod sampler;
mod searches;
mod text;

use crate::case::Case;
use crate::suite::{Suite, SuiteError};

/// Its cases.
///
/// # Errors
/// For files of the suite that cannot be used.
pub fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let mut cases = sampler::cases(suite)?;
    cases.extend(processors::cases(suite)?);
    cases.extend(text::cases());
    cases.extend(requests::cases(suite)?);
    cases.extend(searches::cases(suite)?);
    Ok(cases)
}
