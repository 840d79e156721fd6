//! Where every value's bytes are, for as long as somebody reads them.

use std::collections::{BTreeMap, HashMap};

use camelid_core::backend::{BackendError, Location};
use camelid_core::graph::{Graph, ValueId};
use camelid_sdk::parts::{self, Home, Slots};

use super::groups::Group;
use crate::block::Block;

/// The places of all values that are in no buffer of the host.
pub(super) struct Places {
    homes: Vec<Home>,
    slots: HashMap<ValueId, usize>,
    pub blocks: Vec<Block>,
}

impl Places {
    /// Slots for the values between groups; one that dies gives its slot to the next.
    pub(super) fn new(
        graph: &Graph,
        groups: &[Group],
        bound: &BTreeMap<ValueId, Location>,
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
        let mut taken = Slots::default();
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
                    slots.insert(*value, taken.take(bytes));
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
                if let Some(slot) = slots.get(&first) {
                    taken.release(*slot);
                }
            }
        }
        let blocks = taken.sizes().iter().map(|size| Block::new("values between operations", *size));
        Ok(Places { homes, slots, blocks: blocks.collect::<Result<_, _>>()? })
    }

    /// The buffer a value is bound to, or its address in the plan's memory.
    pub(super) fn of(&mut self, value: ValueId) -> Place {
        match self.homes[value.0 as usize] {
            Home::Bound(location) => Place::Bound(location),
            Home::With(first) => Place::Here(self.blocks[self.slots[&first]].start()),
        }
    }
}

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Bound(Location),
    Here(*mut u8),
}
