//! Where every value lives and for how long, and with it the order of a step.

use std::collections::{BTreeMap, HashMap, HashSet};

use camelid_core::backend::Location;
use camelid_core::graph::{Graph, Node, NodeId, ValueId};
use camelid_core::ops::Op;

use super::plan::{Action, Eval, Move, Place, Store};
use super::slots::Slots;
use crate::kernels::claim;

/// Whose memory a value lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// In the buffer it is bound to.
    Bound(Location),
    /// In a slot, together with this value: itself, the one it is made of in place, or the one it is a shape of.
    With(ValueId),
}

/// The home of every value.
///
/// A value made in place lives where its storage does. A reshaped value lives with its operand, unless the graph could
/// tell: it is bound, or one of the two is changed in place later.
pub(super) fn homes(graph: &Graph, bound: &BTreeMap<ValueId, Location>) -> Vec<Home> {
    let mut last_change: HashMap<ValueId, usize> = HashMap::new();
    for (i, node) in graph.nodes().iter().enumerate() {
        if let Some(table) = node.op.changes_in_place() {
            last_change.insert(graph.storage_of(node.inputs[table]), i);
        }
    }
    let changes_after = |value: ValueId, i: usize| last_change.get(&graph.storage_of(value)).is_some_and(|at| *at > i);

    let ids = (0..graph.values().len() as u32).map(ValueId);
    let mut homes: Vec<Home> = ids.map(|id| bound.get(&id).map_or(Home::With(id), |at| Home::Bound(*at))).collect();
    for (i, node) in graph.nodes().iter().enumerate() {
        let shared = match node.op {
            Op::Reshape { .. } => {
                let (x, y) = (node.inputs[0], node.outputs[0]);
                let apart = bound.contains_key(&y) || changes_after(x, i) || changes_after(y, i);
                (!apart).then_some(x)
            }
            _ => node.op.changes_in_place().map(|table| node.inputs[table]),
        };
        if let Some(older) = shared {
            homes[node.outputs[0].0 as usize] = homes[older.0 as usize];
        }
    }
    homes
}

/// Goes through the nodes once, and finds every value a place for as long as it lives.
pub(super) struct Scheduler<'a> {
    graph: &'a Graph,
    align: usize,
    homes: Vec<Home>,
    /// For the first value of each slot, the last node that uses it.
    last_use: HashMap<ValueId, usize>,
    /// The slots of the values that live now.
    live: HashMap<ValueId, usize>,
    slots: Slots,
}

impl<'a> Scheduler<'a> {
    /// For a graph whose types and bindings were found right; kernels take offsets that are multiples of `align`.
    pub(super) fn new(graph: &'a Graph, bound: &BTreeMap<ValueId, Location>, align: usize) -> Scheduler<'a> {
        let homes = homes(graph, bound);
        let mut last_use = HashMap::new();
        for (i, node) in graph.nodes().iter().enumerate() {
            for value in node.inputs.iter().chain(&node.outputs) {
                if let Home::With(first) = homes[value.0 as usize] {
                    last_use.insert(first, i);
                }
            }
        }
        let align = align.max(1);
        Scheduler { graph, align, homes, last_use, live: HashMap::new(), slots: Slots::default() }
    }

    /// The actions in order, and the sizes of the slots.
    pub(super) fn schedule(mut self) -> (Vec<Action>, Vec<usize>) {
        let mut actions = Vec::new();
        for (i, id) in self.graph.node_ids().enumerate() {
            let node = self.graph.node(id);
            for result in &node.outputs {
                if self.homes[result.0 as usize] == Home::With(*result) {
                    let slot = self.slots.take(self.bytes(*result));
                    self.live.insert(*result, slot);
                }
            }
            if claim::is_built_in(&node.op) {
                let value = node.outputs[0];
                let (from, to) = (self.place(node.inputs[0]), self.place(value));
                if from != to {
                    actions.push(Action::Move(Move { value, from, to }));
                }
            } else {
                actions.push(Action::Eval(self.eval(id, node)));
            }
            for value in node.inputs.iter().chain(&node.outputs) {
                if let Home::With(first) = self.homes[value.0 as usize]
                    && self.last_use[&first] == i
                    && let Some(slot) = self.live.remove(&first)
                {
                    self.slots.release(slot);
                }
            }
        }
        (actions, self.slots.sizes().to_vec())
    }

    /// The kernel's call, with copies for what lies at an offset it cannot use or in the memory of something it
    /// writes.
    fn eval(&mut self, id: NodeId, node: &Node) -> Eval {
        let table = node.op.changes_in_place();
        let operands = node.op.operand_names().iter().copied().zip(node.inputs.iter().copied()).enumerate();
        let operands: Vec<_> = operands.filter(|(i, _)| Some(*i) != table).map(|(_, operand)| operand).collect();
        let mut call =
            Eval { node: id, before: Vec::new(), inputs: Vec::new(), outputs: Vec::new(), after: Vec::new() };
        let mut temporary = Vec::new();

        for (k, value) in node.outputs.iter().copied().enumerate() {
            let home = self.place(value);
            // A table stays where it is if it can, and the operands beside it move: they are smaller.
            let place = if self.is_usable(home) && (table.is_some() || !self.is_crowded(home, k, node)) {
                home
            } else {
                let copy = self.temporary(value, &mut temporary);
                if table.is_some() {
                    call.before.push(Move { value, from: home, to: copy });
                }
                call.after.push(Move { value, from: copy, to: home });
                copy
            };
            call.outputs.push((value, place));
        }
        let written: HashSet<Store> = call.outputs.iter().map(|(_, place)| place.store).collect();
        for (name, value) in operands {
            let home = self.place(value);
            let place = if self.is_usable(home) && !written.contains(&home.store) {
                home
            } else {
                let copy = self.temporary(value, &mut temporary);
                call.before.push(Move { value, from: home, to: copy });
                copy
            };
            call.inputs.push((name, value, place));
        }
        for slot in temporary {
            self.slots.release(slot);
        }
        call
    }

    fn is_usable(&self, place: Place) -> bool {
        place.offset.is_multiple_of(self.align)
    }

    /// Whether an operand or another result lies in the piece of memory that result `k` is at home in.
    fn is_crowded(&self, home: Place, k: usize, node: &Node) -> bool {
        let others = node.outputs.iter().enumerate().filter(|(j, _)| *j != k).map(|(_, other)| other);
        node.inputs.iter().chain(others).any(|other| self.place(*other).store == home.store)
    }

    fn temporary(&mut self, value: ValueId, taken: &mut Vec<usize>) -> Place {
        let slot = self.slots.take(self.bytes(value));
        taken.push(slot);
        Place { store: Store::Slot(slot), offset: 0 }
    }

    fn place(&self, value: ValueId) -> Place {
        match self.homes[value.0 as usize] {
            Home::Bound(Location { buffer, offset }) => Place { store: Store::Buffer(buffer), offset },
            Home::With(first) => Place { store: Store::Slot(self.live[&first]), offset: 0 },
        }
    }

    /// Bytes the value takes at most.
    fn bytes(&self, value: ValueId) -> usize {
        self.graph.value(value).ty.bytes(&self.graph.range().max).expect("every value's size was found countable")
    }
}
