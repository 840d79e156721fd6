//! Level `abi`: what lies around the operations. Names, devices, memory, weights, plans, errors, threads.
//!
//! The cases go through the host's handles, which keep the promises that a host makes (`specs/plugin-abi.md`): no
//! freed handle, no offset outside a buffer, no symbol outside its range. What is computed is sums of small whole
//! numbers, which no class of arithmetic rounds.

mod device;
mod many;
mod memory;
mod plan;
mod weight;

pub(super) use device::together;

use crate::case::{Case, Context, Evidence, Problem, Profile};

/// Its cases.
pub fn cases() -> Vec<Case> {
    let mut cases = device::cases();
    cases.extend(memory::cases());
    cases.extend(weight::cases());
    cases.extend(plan::cases());
    cases.extend(many::cases());
    cases
}

/// A case of the core profile that needs no numbers to pass.
pub(super) fn case(
    id: impl Into<String>,
    about: &str,
    run: impl Fn(&Context<'_>) -> Result<(), Problem> + Send + Sync + 'static,
) -> Case {
    Case::new(id, Profile::Core, about, move |cx: &Context<'_>| run(cx).map(|()| Evidence::default()))
}
