//! The conformance suite: the verdict on a backend, and what it is made of.
//!
//! [`case`](mod@case) says what a case is, [`levels`] has them all, [`suite`](mod@suite) the files they compare with; [`run`](mod@run) runs a plan of
//! them in processes of their own, and [`report`] tells what was found. Expected values come from `reference/`, never
//! from a backend of Camelid's: nothing here computes what an operation means. Start at `specs/conformance.md`.
#![deny(missing_docs)]

pub mod case;
pub mod claims;
pub mod compare;
pub mod fixtures;
pub mod graph_case;
pub mod harness;
pub mod levels;
pub mod report;
pub mod run;
pub mod selftest;
pub mod subject;
pub mod suite;
pub mod tolerance;

pub use case::{Case, Context, Evidence, Level, Problem, Profile};
pub use claims::Claims;
pub use report::{Report, State, Verdict};
pub use subject::Subject;
pub use suite::Suite;
