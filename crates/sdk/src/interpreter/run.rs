//! A step: the actions of a plan, one after the other.

use std::collections::BTreeMap;

use camelid_core::backend::{BackendError, Location};
use camelid_core::graph::{Graph, SymbolValues, ValueId};

use super::buffers::Buffers;
use super::error::Error;
use super::plan::{Action, Eval, Move, Plan, Store};
use crate::kernels::{Kernels, Memory, NodeView, View, ViewMut};

/// The pieces of memory that the kernels `K` compute in.
pub(super) type Piece<K> = <<K as Kernels>::Memory as Memory>::Buf;

/// Runs `plan` with these values of the symbols.
pub(super) fn run<K: Kernels>(
    kernels: &mut K,
    plan: &mut Plan<Piece<K>>,
    buffers: &mut Buffers<Piece<K>>,
    symbols: &SymbolValues,
) -> Result<(), BackendError> {
    check(&plan.graph, &plan.bound, buffers, symbols)?;
    let Plan { graph, actions, slots, .. } = plan;
    let mut step = Step { kernels, graph, symbols, pieces: Pieces { buffers, slots } };
    let done = actions.iter().try_for_each(|action| match action {
        Action::Move(copy) => step.copy(copy),
        Action::Eval(call) => step.eval(call),
    });
    done.and(kernels.end_step())
}

/// Checks that the symbols are those of the plan, and that all buffers are still there.
pub(super) fn check<B>(
    graph: &Graph,
    bound: &BTreeMap<ValueId, Location>,
    buffers: &Buffers<B>,
    symbols: &SymbolValues,
) -> Result<(), Error> {
    let range = graph.range();
    if let Some((symbol, value)) = range.violation(symbols) {
        let (min, max) = (range.min.get(symbol), range.max.get(symbol));
        return Err(Error::SymbolOutOfRange { symbol, value, min, max });
    }
    for (value, location) in bound {
        // Sizes were checked when the plan was made; a buffer freed since then is gone for good.
        buffers.get(location.buffer).map_err(|source| Error::BoundBufferGone {
            value: graph.value(*value).name.clone(),
            source: Box::new(source),
        })?;
    }
    Ok(())
}

struct Step<'a, K: Kernels> {
    kernels: &'a mut K,
    graph: &'a Graph,
    symbols: &'a SymbolValues,
    pieces: Pieces<'a, Piece<K>>,
}

impl<K: Kernels> Step<'_, K> {
    fn eval(&mut self, call: &Eval) -> Result<(), BackendError> {
        if call.outputs.iter().all(|(value, _)| self.len(*value) == 0) {
            return Ok(()); // nothing to compute: no output rows are asked for, or there are no tokens
        }
        call.before.iter().try_for_each(|copy| self.copy(copy))?;
        let mut taken = Vec::with_capacity(call.outputs.len());
        let found = call.outputs.iter().try_for_each(|(_, place)| {
            taken.push(self.pieces.take(place.store)?);
            Ok(())
        });
        let done = found.and_then(|()| self.call(call, &mut taken));
        for ((_, place), piece) in call.outputs.iter().zip(taken) {
            self.pieces.put(place.store, piece);
        }
        done?;
        call.after.iter().try_for_each(|copy| self.copy(copy))
    }

    /// Calls the kernel with the results' memory, which was taken out of its places.
    fn call(&mut self, call: &Eval, results: &mut [Piece<K>]) -> Result<(), BackendError> {
        let Step { kernels, graph, symbols, pieces } = self;
        let at_this_step = |value: ValueId| {
            let ty = graph.value(value).ty;
            (ty.dtype, ty.shape.resolve(symbols), len(graph, symbols, value))
        };
        let inputs = call.inputs.iter().map(|(name, value, place)| {
            let (dtype, dims, len) = at_this_step(*value);
            let buf = pieces.get(place.store)?;
            Ok(View { name, dtype, dims, buf, offset: place.offset, len })
        });
        let inputs = inputs.collect::<Result<Vec<_>, Error>>()?;
        let outputs = call.outputs.iter().zip(results).map(|((value, place), buf)| {
            let (dtype, dims, len) = at_this_step(*value);
            ViewMut { dtype, dims, buf, offset: place.offset, len }
        });
        let op = &graph.node(call.node).op;
        let node = NodeView { op, inputs, outputs: outputs.collect() };
        kernels.eval(node).map_err(|BackendError { code, message }| {
            BackendError::new(code, format!("{}: {message}", graph.signature(call.node)))
        })
    }

    fn copy(&mut self, Move { value, from, to }: &Move) -> Result<(), BackendError> {
        let len = self.len(*value);
        if len == 0 {
            return Ok(());
        }
        let memory = self.kernels.memory();
        if from.store == to.store {
            return memory.copy_within(self.pieces.get_mut(to.store)?, to.offset, from.offset, len);
        }
        let mut target = self.pieces.take(to.store)?;
        let done = match self.pieces.get(from.store) {
            Ok(source) => memory.copy((&mut target, to.offset), (source, from.offset), len),
            Err(error) => Err(error.into()),
        };
        self.pieces.put(to.store, target);
        done
    }

    fn len(&self, value: ValueId) -> usize {
        len(self.graph, self.symbols, value)
    }
}

/// Bytes of a value at this step.
fn len(graph: &Graph, symbols: &SymbolValues, value: ValueId) -> usize {
    graph.value(value).ty.bytes(symbols).expect("every value's size was found countable")
}

/// The buffers and the slots together.
struct Pieces<'a, B> {
    buffers: &'a mut Buffers<B>,
    slots: &'a mut [Option<B>],
}

impl<B> Pieces<'_, B> {
    fn get(&self, store: Store) -> Result<&B, Error> {
        match store {
            Store::Buffer(id) => self.buffers.piece(id),
            Store::Slot(slot) => self.slots[slot].as_ref().ok_or_else(lost),
        }
    }

    fn get_mut(&mut self, store: Store) -> Result<&mut B, Error> {
        match store {
            Store::Buffer(id) => self.buffers.piece_mut(id),
            Store::Slot(slot) => self.slots[slot].as_mut().ok_or_else(lost),
        }
    }

    fn take(&mut self, store: Store) -> Result<B, Error> {
        match store {
            Store::Buffer(id) => self.buffers.take(id),
            Store::Slot(slot) => self.slots[slot].take().ok_or_else(lost),
        }
    }

    fn put(&mut self, store: Store, piece: B) {
        match store {
            Store::Buffer(id) => self.buffers.put(id, piece),
            Store::Slot(slot) => self.slots[slot] = Some(piece),
        }
    }
}

fn lost() -> Error {
    Error::Lost("the memory between two operations".into())
}
