//! [`Case`]: one question to a backend, and what it needs to be asked.

use std::fmt;

use camelid_core::backend::{BackendError, ErrorCode};
use camelid_engine::EngineError;
use camelid_host::HostError;
use serde::{Deserialize, Serialize};

use crate::compare::Worst;
use crate::fixtures::FixtureError;
use crate::subject::Subject;
use crate::suite::Suite;

/// What a case looks at: the first part of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The plugin interface: handles, errors, sizes, misuse.
    Abi,
    /// One operation.
    Op,
    /// Several operations: an attention block, an MLP, a decoder layer.
    Module,
    /// A whole tiny Llama.
    Model,
    /// Text to token ids and back.
    Tokenizer,
    /// Sampling, stopping, streaming.
    Generate,
    /// Caches: the same tokens in other ways must give the same logits.
    Cache,
    /// Many sessions, long runs, little memory.
    Stress,
    /// SmolLM2 and real vocabularies, which are fetched.
    Real,
}

impl Level {
    /// All levels, in the order in which they run.
    pub const ALL: [Level; 9] = [
        Level::Abi,
        Level::Op,
        Level::Module,
        Level::Model,
        Level::Tokenizer,
        Level::Generate,
        Level::Cache,
        Level::Stress,
        Level::Real,
    ];

    /// The first part of the ids of its cases.
    pub fn name(self) -> &'static str {
        match self {
            Level::Abi => "abi",
            Level::Op => "op",
            Level::Module => "module",
            Level::Model => "model",
            Level::Tokenizer => "tokenizer",
            Level::Generate => "generate",
            Level::Cache => "cache",
            Level::Stress => "stress",
            Level::Real => "real",
        }
    }

    /// The level called `name`.
    pub fn from_name(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|l| l.name() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a backend may claim: each case is in exactly one profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// What every backend computes: all operations in f32.
    Core,
    /// f16 and bf16.
    Half,
    /// Weights in block formats.
    Quant,
    /// What a backend may leave out.
    Extra,
    /// Real models and vocabularies, which are fetched.
    Real,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Profile; 5] = [Profile::Core, Profile::Half, Profile::Quant, Profile::Extra, Profile::Real];

    /// The name in `--profile` and in `conformance.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Core => "core",
            Profile::Half => "half",
            Profile::Quant => "quant",
            Profile::Extra => "extra",
            Profile::Real => "real",
        }
    }

    /// The profile called `name`.
    pub fn from_name(name: &str) -> Option<Profile> {
        Profile::ALL.into_iter().find(|p| p.name() == name)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a case is run with.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// What is tested.
    pub subject: &'a Subject,
    /// The suite's files.
    pub suite: &'a Suite,
    /// Where to leave inputs, expected and computed values as safetensors; nowhere if `None`.
    pub dump: Option<&'a std::path::Path>,
}

type Run = Box<dyn Fn(&Context<'_>) -> Result<Evidence, Problem> + Send + Sync>;

/// One question to a backend.
pub struct Case {
    /// Unique and stable: `op/linear/f32/t5_k88_n33`. Begins with the level; never given to another question.
    pub id: String,
    /// What it looks at.
    pub level: Level,
    /// What a backend claims with it.
    pub profile: Profile,
    /// What a failure would mean, in a line.
    pub about: String,
    /// Whether it needs a process in which no other case was asked.
    pub alone: bool,
    run: Run,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("id", &self.id).field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl Case {
    /// A case of the level that `id` begins with.
    ///
    /// # Panics
    /// If `id` does not begin with a level: ids are written by this crate and its generator.
    pub fn new(
        id: impl Into<String>,
        profile: Profile,
        about: impl Into<String>,
        run: impl Fn(&Context<'_>) -> Result<Evidence, Problem> + Send + Sync + 'static,
    ) -> Case {
        let id = id.into();
        let level = id.split('/').next().and_then(Level::from_name).unwrap_or_else(|| panic!("`{id}`: no such level"));
        Case { id, level, profile, about: about.into(), alone: false, run: Box::new(run) }
    }

    /// The same in a process of its own: for what earlier cases would hide.
    pub fn alone(mut self) -> Case {
        self.alone = true;
        self
    }

    /// Asks.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn run(&self, context: &Context<'_>) -> Result<Evidence, Problem> {
        (self.run)(context)
    }

    /// The second part of the id: the operation, the module, the model.
    pub fn group(&self) -> &str {
        self.id.split('/').nth(1).unwrap_or_default()
    }
}

/// A number that was held against a limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Which metric: `nmse`, `max/rms`, `kl mean`, `kl max`, `gap`.
    pub metric: String,
    /// What was measured: an output, with its step if there are several.
    pub what: String,
    /// What was found.
    pub value: f64,
    /// The largest value that passes.
    pub limit: f64,
}

impl Measure {
    /// Whether the value is within the limit; NaN is not.
    pub fn passes(&self) -> bool {
        self.value <= self.limit
    }

    /// How many times larger the value could be: below 1 fails, infinite if the value is 0.
    pub fn margin(&self) -> f64 {
        if self.value == 0.0 { f64::INFINITY } else { self.limit / self.value }
    }
}

/// What a passed case has to show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// The numbers that were held against limits.
    pub measures: Vec<Measure>,
    /// What is worth telling: a lowered operation, a legal flip of a token.
    pub notes: Vec<String>,
}

/// Why a case did not pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// The answer is wrong.
    Fail(Box<Failure>),
    /// The backend declared that it does not compute this, and refuses it when asked.
    Unsupported(String),
    /// The question could not be asked: a missing fixture, a missing device.
    Blocked(String),
}

/// A wrong answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failure {
    /// What is wrong, in a sentence or two.
    pub message: String,
    /// The numbers, those that failed among them.
    pub measures: Vec<Measure>,
    /// The elements farthest from what they should be.
    pub worst: Vec<Worst>,
}

impl Problem {
    /// A wrong answer without numbers.
    pub fn fail(message: impl Into<String>) -> Problem {
        Problem::Fail(Box::new(Failure { message: message.into(), ..Failure::default() }))
    }
}

/// Fails with a formatted message unless the condition holds.
#[macro_export]
macro_rules! check {
    ($holds:expr, $($message:tt)+) => {{
        // Named, because `!(a <= b)` is meant as written: it fails for NaN too.
        let holds: bool = $holds;
        if !holds {
            return Err($crate::case::Problem::fail(format!($($message)+)));
        }
    }};
}

impl From<BackendError> for Problem {
    fn from(error: BackendError) -> Problem {
        Problem::fail(error.to_string())
    }
}

impl From<HostError> for Problem {
    fn from(error: HostError) -> Problem {
        match &error {
            HostError::Unsupported { .. } => Problem::Unsupported(error.to_string()),
            _ if error.code() == Some(ErrorCode::Unsupported) => Problem::Unsupported(error.to_string()),
            _ => Problem::fail(chain(&error)),
        }
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Problem {
        match error {
            EngineError::Host(error) => error.into(),
            // The engine says what to use instead; what the backend said decides.
            EngineError::KvDtype { source, .. } => (*source).into(),
            other => Problem::fail(chain(&other)),
        }
    }
}

impl From<FixtureError> for Problem {
    fn from(error: FixtureError) -> Problem {
        Problem::Blocked(error.to_string())
    }
}

/// An error with all its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
