//! Backends that are wrong on purpose, honest ones that compute in other ways, and trivial ones that do not compute.
//!
//! All of them wrap the reference backend: `kernels` puts a fault into one operation, `device` into what lies around
//! the operations, `boundary` into the life of devices, memory and plans, `keyed` into what a device remembers. Others wrap a
//! cache, a tokenizer or the sampler. The conformance suite must kill every mutant, pass every honest variant (`honest`) and
//! fail every trivial backend; `camelid conformance selftest` asks it to. Start at [`mutants`].
#![deny(missing_docs)]

mod backend;
mod boundary;
mod cache;
mod catalogue;
mod device;
mod faults;
mod honest;
mod kernels;
mod keyed;
mod sampler;
mod tensor;
mod tokenizer;

use std::sync::atomic::{AtomicU64, Ordering};

pub use backend::{NAME, backend};
pub use cache::{cache, is_cache};
pub use catalogue::{honest, mutants, trivial};
pub use sampler::{SampleFn, sampler};
pub use tokenizer::{is_tokenizer, tokenizer};

/// Where a mutant must be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The plugin interface and what lies around operations.
    Abi,
    /// One operation.
    Op,
    /// Text to ids and back.
    Tokenizer,
    /// Choosing tokens.
    Generate,
    /// Which row belongs to which token.
    Cache,
    /// Long runs and much memory.
    Stress,
}

impl Level {
    /// The suite's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Abi => "abi",
            Level::Op => "op",
            Level::Tokenizer => "tokenizer",
            Level::Generate => "generate",
            Level::Cache => "cache",
            Level::Stress => "stress",
        }
    }
}

/// A backend with one fault.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Its name.
    pub id: &'static str,
    /// The level whose cases must kill it.
    pub level: Level,
    /// What it does wrong.
    pub about: &'static str,
    /// Globs over the ids of cases that must kill it; all of the level if empty.
    pub cases: &'static [&'static str],
}

/// A backend that is honest, or trivially not.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// Its name.
    pub id: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Of an honest one: the math class it declares, by globs over the ids of cases.
    pub classes: &'static [(&'static str, &'static str)],
    /// Of a trivial backend: globs over the ids of cases that it may pass, because nothing was to be done or the device was
    /// not asked, each with how many it passes.
    pub passes: &'static [(&'static str, usize)],
}

static FIRED: AtomicU64 = AtomicU64::new(0);

/// How often a fault changed something in this process.
pub fn fired() -> u64 {
    FIRED.load(Ordering::Relaxed)
}

/// Takes note that a fault changed something.
fn fire() {
    FIRED.fetch_add(1, Ordering::Relaxed);
}
