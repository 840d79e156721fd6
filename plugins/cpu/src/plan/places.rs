//! Where every value's bytes are, for as long as somebody reads them.

use std::collections::{BTreeMap, HashMap, HashSet};

use camelid_core::backend::{BackendError, Location};
use camelid_core::graph::{Graph, ValueId};
use camelid_sdk::parts::{self, Home, Slots};

use super::groups::Group;
use crate::block::Block;

/// The places of all values that are in no buffer of the host.
pub(super) struct Places {
    homes: Vec<Home>,
    slots: HashMap<ValueId, Slot>,
    shared: Vec<Block>,
    own: Vec<(Block, usize)>,
}

/// A slot, of those that all threads share or of those that each thread has a copy of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Shared(usize),
    Own(usize),
}

impl Places {
    /// Slots for the values between groups; one that dies gives its slot to the next. Of the values in `own` each of the
    /// `threads` has a copy.
    pub(super) fn new(
        graph: &Graph,
        groups: &[Group],
        bound: &BTreeMap<ValueId, Location>,
        own: &HashSet<ValueId>,
        threads: usize,
    ) -> Result<Places, BackendError> {
        let homes = parts::homes(graph, bound);
        let mut last_use: HashMap<ValueId, usize> = HashMap::new();
        for (i, group) in groups.iter().enumerate() {
            for node in group.nodes() {
                let node = graph.node(node);
                for value in node.inputs.iter().chain(&node.outputs) {
                    if let Home::With(first) = homes[value.0 as usize] {
                        last_use.insert(first, i);
                    }
                }
            }
        }
        let mut slots = HashMap::new();
        let (mut shared, mut copies) = (Slots::default(), Slots::default());
        let mut read_until_barrier = Vec::new();
        for (i, group) in groups.iter().enumerate() {
            let inner = group.inner(graph);
            let values = || {
                let nodes = group.nodes();
                nodes.into_iter().flat_map(|n| graph.node(n).inputs.iter().chain(&graph.node(n).outputs))
            };
            // Results first: none of them may take the place of an operand.
            for value in values() {
                if homes[value.0 as usize] == Home::With(*value) && !inner.contains(value) && !slots.contains_key(value)
                {
                    let ty = graph.value(*value).ty;
                    let bytes = ty.bytes(&graph.range().max).expect("every value's size was found countable");
                    let slot = match own.contains(value) {
                        true => Slot::Own(copies.take(bytes)),
                        false => Slot::Shared(shared.take(bytes)),
                    };
                    slots.insert(*value, slot);
                }
            }
            let mut dead: Vec<ValueId> = values()
                .filter_map(|value| match homes[value.0 as usize] {
                    Home::With(first) if last_use[&first] == i => Some(first),
                    _ => None,
                })
                .collect();
            dead.sort_unstable();
            dead.dedup();
            for first in dead {
                match slots.get(&first) {
                    Some(Slot::Own(slot)) => copies.release(*slot),
                    Some(Slot::Shared(slot)) => read_until_barrier.push(*slot),
                    None => {}
                }
            }
            // After a group that each thread computes for itself others may still read what this thread is done with.
            if !group.nodes().iter().flat_map(|n| &graph.node(*n).outputs).any(|value| own.contains(value)) {
                read_until_barrier.drain(..).for_each(|slot| shared.release(slot));
            }
        }
        let block = |size: usize| Block::new("values between operations", size);
        let shared = shared.sizes().iter().map(|size| block(*size)).collect::<Result<_, _>>()?;
        let own = copies.sizes().iter().map(|size| {
            let stride = size.next_multiple_of(64);
            Ok((block(stride.saturating_mul(threads))?, stride))
        });
        let own = own.collect::<Result<_, BackendError>>()?;
        Ok(Places { homes, slots, shared, own })
    }

    /// The buffer a value is bound to, or its address in the plan's memory.
    pub(super) fn of(&mut self, value: ValueId) -> Place {
        match self.homes[value.0 as usize] {
            Home::Bound(location) => Place::Bound(location),
            Home::With(first) => match self.slots[&first] {
                Slot::Shared(slot) => Place::Here { ptr: self.shared[slot].start(), stride: 0 },
                Slot::Own(slot) => {
                    let (block, stride) = &mut self.own[slot];
                    Place::Here { ptr: block.start(), stride: *stride }
                }
            },
        }
    }

    /// The memory, for as long as the plan lives.
    pub(super) fn blocks(self) -> impl Iterator<Item = Block> {
        self.shared.into_iter().chain(self.own.into_iter().map(|(block, _)| block))
    }
}

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Bound(Location),
    Here { ptr: *mut u8, stride: usize },
}
