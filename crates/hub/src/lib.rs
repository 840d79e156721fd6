//! Getting models: files of the Hugging Face Hub, in the cache that Python programs use too.
//!
//! What lives here: names of models, the cache's layout, downloads that go on where they stopped, and the checks of what
//! came. Not here: what is in the files, and progress bars ([`Event`] tells a caller all it needs for one). Start
//! reading at [`Hub::pull`]; [`Cache::find`] is the way to what was pulled, and opens no connection.
//!
//! The server is not trusted: names, lengths, redirects and contents are checked, and whatever it does gives a
//! [`HubError`] at worst. Why this is not the `hf-hub` crate stands in `specs/decisions/0006-getting-models.md`.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod cache;
mod check;
mod download;
mod error;
mod http;
mod lock;
mod metadata;
mod name;
mod pull;
mod select;
mod settings;
mod url;

pub use cache::Cache;
pub use check::Checked;
pub use error::HubError;
pub use name::{RepoId, Source};
pub use pull::{Event, Hub, Origin, Pulled, PulledFile};
pub use settings::{Retry, Settings, Token};
