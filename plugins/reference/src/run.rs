//! A step: the nodes of a plan, one after the other.

use std::collections::HashMap;

use camelid_core::graph::{Node, NodeId, SymbolValues, ValueId};
use camelid_core::ops::Op;

use crate::buffers::Buffers;
use crate::error::Error;
use crate::memory::Memory;
use crate::ops::{self, OpError, Table};
use crate::plan::{Home, Plan};
use crate::tensor::Tensor;

/// Runs `plan` with these values of the symbols.
pub(crate) fn run(plan: &Plan, buffers: &mut Buffers, symbols: &SymbolValues) -> Result<(), Error> {
    let range = plan.graph.range();
    if let Some((symbol, value)) = range.violation(symbols) {
        let (min, max) = (range.min.get(symbol), range.max.get(symbol));
        return Err(Error::SymbolOutOfRange { symbol, value, min, max });
    }
    for (value, location) in &plan.bound {
        // Sizes were checked when the plan was made; a buffer freed since then is gone for good.
        buffers.get(location.buffer).map_err(|source| Error::BoundBufferGone {
            value: plan.graph.value(*value).name.clone(),
            source: Box::new(source),
        })?;
    }
    let mut step = Step { plan, buffers, symbols, scratch: HashMap::new() };
    for id in plan.graph.node_ids() {
        step.node(id)?;
        for value in &plan.dead_after[id.0 as usize] {
            step.scratch.remove(value);
        }
    }
    Ok(())
}

struct Step<'a> {
    plan: &'a Plan,
    buffers: &'a mut Buffers,
    symbols: &'a SymbolValues,
    /// The values that are alive and live in no buffer.
    scratch: HashMap<ValueId, Memory>,
}

impl Step<'_> {
    fn node(&mut self, id: NodeId) -> Result<(), Error> {
        let graph = &self.plan.graph;
        let node = graph.node(id);
        let failed = |source| Error::Op { node: graph.describe(id), source };
        if node.op.changes_in_place().is_some() {
            return self.change(node)?.map_err(failed);
        }
        let result = node.outputs[0]; // operations with several results are macros, which have no kernel here
        let home = self.plan.home(result);
        if matches!(node.op, Op::Reshape { .. }) && home == self.plan.home(node.inputs[0]) {
            return Ok(()); // in its operand's memory already
        }
        let operands = node.inputs.iter().map(|v| self.view(*v)).collect::<Result<Vec<_>, _>>()?;
        let ty = graph.value(result).ty;
        let memory = ops::compute(&node.op, &operands, ty.dtype, &ty.shape.resolve(self.symbols)).map_err(failed)?;
        match home {
            Home::Buffer(at) => self.buffers.write(at, memory.bytes().len())?.copy_from_slice(memory.bytes()),
            Home::Scratch(storage) => drop(self.scratch.insert(storage, memory)),
        }
        Ok(())
    }

    /// Runs a node that changes its first operand in place.
    fn change(&mut self, node: &Node) -> Result<Result<(), OpError>, Error> {
        let (table, others) = node.inputs.split_first().expect("the first operand is the table");
        // The other operands may lie in the buffer that is changed, beside the table, so they are copied: they are as
        // large as the step, not as the table.
        let copies = others.iter().map(|v| self.view(*v).map(|v| (v.dtype, v.dims, v.bytes.to_vec())));
        let copies = copies.collect::<Result<Vec<_>, _>>()?;
        let others = copies.iter().map(|(dtype, dims, bytes)| Tensor { dtype: *dtype, dims: dims.clone(), bytes });
        let others: Vec<Tensor<'_>> = others.collect();

        let Tensor { dtype, dims, bytes } = self.view(*table)?;
        let (rows, len) = (dims[0], bytes.len());
        let bytes = match self.plan.home(*table) {
            Home::Buffer(location) => self.buffers.write(location, len)?,
            Home::Scratch(storage) => self.scratch.get_mut(&storage).expect(ALIVE).bytes_mut(),
        };
        Ok(ops::change(&node.op, Table { dtype, rows, bytes }, &others))
    }

    /// A value as it is now.
    fn view(&self, id: ValueId) -> Result<Tensor<'_>, Error> {
        let ty = self.plan.graph.value(id).ty;
        let bytes = match self.plan.home(id) {
            Home::Buffer(location) => {
                let len = ty.bytes(self.symbols).expect("the plan made sure that sizes can be counted");
                self.buffers.read(location, len)?
            }
            Home::Scratch(storage) => self.scratch.get(&storage).expect(ALIVE).bytes(),
        };
        Ok(Tensor { dtype: ty.dtype, dims: ty.shape.resolve(self.symbols), bytes })
    }
}

const ALIVE: &str = "nodes come after those they use, and memory is kept until its last use";
