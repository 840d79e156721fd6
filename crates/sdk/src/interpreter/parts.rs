//! Parts of the interpreter, for a device that makes plans of its own.
//!
//! A backend that computes node by node needs none of this: [`crate::Interpreter`] is the whole device. One that fuses
//! operations, plans its own memory or records commands writes its own [`Device`](crate::Device), and takes from here
//! what is the same for all: what the host may ask for and which answer it gets.
//!
//! - [`supports`] answers `Device::supports` from the claims;
//! - [`Buffers`] are the buffers by their ids, over any [`Memory`](crate::kernels::Memory), with every range checked;
//! - [`check`] and [`bindings`] are the first half of `compile`, [`homes`] tells which values share memory;
//! - [`Slots`] gives memory to values one after the other;
//! - [`check_step`] is the beginning of `run`.

use std::collections::BTreeMap;

use camelid_core::backend::{BackendError, Binding, BufferId, Location, Support};
use camelid_core::graph::{Graph, NodeId, SymbolValues, ValueId};

pub use super::buffers::Buffers;
pub use super::schedule::Home;
pub use super::slots::Slots;
use crate::kernels::{Claim, claim};

/// The answer of `Device::supports` for a device with these claims.
pub fn supports(claims: &[Claim], graph: &Graph, node: NodeId) -> Support {
    claim::supports(claims, graph, node)
}

/// Checks that every node is one of those claimed, and that every value's bytes can be counted.
///
/// # Errors
/// The first node that is not, with its operands' types and the reason; the first value that is too large.
pub fn check(claims: &[Claim], graph: &Graph) -> Result<(), BackendError> {
    Ok(super::plan::check(claims, graph)?)
}

/// Where each of [`Graph::bound_values`] lives: all of them, each in a buffer of its kind that is large enough, and what
/// is written in bytes that are nobody else's.
///
/// # Errors
/// What is wrong with the bindings, by the names of values and buffers.
pub fn bindings<B>(
    graph: &Graph,
    bindings: &[Binding],
    buffers: &Buffers<B>,
) -> Result<BTreeMap<ValueId, Location>, BackendError> {
    Ok(super::bindings::resolve(graph, bindings, buffers)?)
}

/// Whose memory every value lives in, by [`ValueId`]. A value made in place lives where its storage does; a reshaped
/// value lives with its operand, unless the graph could tell.
pub fn homes(graph: &Graph, bound: &BTreeMap<ValueId, Location>) -> Vec<Home> {
    super::schedule::homes(graph, bound)
}

/// Checks that the symbols of a step are those of the plan, and that all its buffers are still there.
///
/// # Errors
/// The symbol with its value and range; the value whose buffer is gone.
pub fn check_step<B>(
    graph: &Graph,
    bound: &BTreeMap<ValueId, Location>,
    buffers: &Buffers<B>,
    symbols: &SymbolValues,
) -> Result<(), BackendError> {
    Ok(super::run::check(graph, bound, buffers, symbols)?)
}

impl<B> Buffers<B> {
    /// The memory of a buffer.
    ///
    /// # Errors
    /// A buffer that is not there.
    pub fn memory(&self, id: BufferId) -> Result<&B, BackendError> {
        Ok(self.piece(id)?)
    }

    /// The memory of a buffer, to change.
    ///
    /// # Errors
    /// A buffer that is not there.
    pub fn memory_mut(&mut self, id: BufferId) -> Result<&mut B, BackendError> {
        Ok(self.piece_mut(id)?)
    }
}
