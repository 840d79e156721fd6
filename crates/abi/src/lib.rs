//! The C ABI between Camelid and a backend plugin: `#[repr(C)]` types and codes, nothing else, no dependencies.
//!
//! A plugin exports two symbols: a [`Manifest`], read before any of its code is called, and the [`Entry`] function,
//! which hands over an [`Api`], the table of its functions. Start reading there; `specs/plugin-abi.md` has the rules
//! and `include/camelid_backend.h`, generated from this crate, is the same for C.
//!
//! Codes are integers and never Rust enums, because the other side may send a value that this version does not know.
//! They are appended, never renumbered and never reused; an unknown one means "not supported". A struct with
//! `struct_size` may grow at its end, is passed by pointer only, and its sender writes the size it was built with; the
//! others are frozen.

#![no_std]
#![deny(missing_docs)]

mod api;
pub mod attrs;
mod codes;
mod graph;
pub mod layout;
mod values;

pub use api::*;
pub use codes::*;
pub use graph::*;
pub use values::*;
