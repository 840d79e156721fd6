//! What Camelid's tests compare with: the committed suite, pinned files from outside the tree, and the comparison itself.
//!
//! Nothing here runs a model: the tests in `tests/` do, over the engine; `reference/` holds the Python programs that
//! made the expected values, and `suite/` those values. Start at [`fixtures`] for a test on committed values, at
//! [`fetch`] for one that needs a real checkpoint or vocabulary.
#![deny(missing_docs)]

pub mod compare;
pub mod fetch;
pub mod fixtures;
mod sha256;
