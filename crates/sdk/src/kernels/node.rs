//! What a kernel gets: an operation, and views of its operands and results at the sizes of this step.

use camelid_core::DType;
use camelid_core::ops::Op;

/// A node of a graph at one step.
#[derive(Debug)]
pub struct NodeView<'a, B> {
    /// The operation with its attributes.
    pub op: &'a Op,
    /// The operands in the order of [`Op::operand_names`]; of an operation in place those after the table.
    pub inputs: Vec<View<'a, B>>,
    /// The results in order; of an operation in place the table.
    pub outputs: Vec<ViewMut<'a, B>>,
}

/// An operand: dense, row-major.
#[derive(Debug)]
pub struct View<'a, B> {
    /// What the operation's page calls it.
    pub name: &'static str,
    /// Element type.
    pub dtype: DType,
    /// Sizes at this step, outermost first.
    pub dims: Vec<usize>,
    /// The memory it lies in.
    pub buf: &'a B,
    /// Bytes from the memory's start: a multiple of [`Memory::ALIGN`](super::Memory::ALIGN).
    pub offset: usize,
    /// Bytes it takes.
    pub len: usize,
}

/// A result: dense, row-major, in memory that no other operand of the node lies in.
#[derive(Debug)]
pub struct ViewMut<'a, B> {
    /// Element type.
    pub dtype: DType,
    /// Sizes at this step, outermost first.
    pub dims: Vec<usize>,
    /// The memory it lies in.
    pub buf: &'a mut B,
    /// Bytes from the memory's start: a multiple of [`Memory::ALIGN`](super::Memory::ALIGN).
    pub offset: usize,
    /// Bytes it takes.
    pub len: usize,
}

impl<B> View<'_, B> {
    /// Elements of the innermost dimension: `D` of `[.., D]`.
    pub fn row_len(&self) -> usize {
        row_len(&self.dims)
    }

    /// The product of all dimensions but the innermost.
    pub fn rows(&self) -> usize {
        rows(&self.dims)
    }

    /// Bytes of the innermost dimension.
    pub fn row_bytes(&self) -> usize {
        row_bytes(self.dtype, &self.dims)
    }
}

impl<B> ViewMut<'_, B> {
    /// Elements of the innermost dimension: `D` of `[.., D]`.
    pub fn row_len(&self) -> usize {
        row_len(&self.dims)
    }

    /// The product of all dimensions but the innermost.
    pub fn rows(&self) -> usize {
        rows(&self.dims)
    }

    /// Bytes of the innermost dimension.
    pub fn row_bytes(&self) -> usize {
        row_bytes(self.dtype, &self.dims)
    }
}

fn row_len(dims: &[usize]) -> usize {
    dims.last().copied().unwrap_or(1)
}

fn rows(dims: &[usize]) -> usize {
    dims.iter().rev().skip(1).product()
}

fn row_bytes(dtype: DType, dims: &[usize]) -> usize {
    dtype.row_bytes(row_len(dims)).expect("the graph's types have rows of whole blocks that can be counted")
}
