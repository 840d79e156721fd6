//! Shapes: up to four dimensions, each a number or a symbol that every step gives a value.

use std::fmt;

use crate::DType;

/// A dimension whose size changes from step to step. The set is closed: it is what a ragged batch needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Symbol {
    /// Tokens of all sequences of the step, lying flat one after the other.
    T,
    /// Sequences of the step.
    S,
    /// Output rows: the tokens whose logits are asked for.
    O,
    /// Context: the longest sequence of the step, its new tokens included. Only lowered attention has it.
    L,
    /// Sequence boundaries: always `S + 1`.
    P,
}

impl Symbol {
    /// All symbols, in the order of their ABI codes (`T` is -1, `S` is -2, ...).
    pub const ALL: [Symbol; 5] = [Symbol::T, Symbol::S, Symbol::O, Symbol::L, Symbol::P];

    fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The size of one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Known when the graph is built.
    Fixed(usize),
    /// Known at every step.
    Sym(Symbol),
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::Fixed(n)
    }
}

impl From<Symbol> for Dim {
    fn from(s: Symbol) -> Dim {
        Dim::Sym(s)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Sym(s) => write!(f, "{s}"),
        }
    }
}

/// The largest rank a value can have.
pub const MAX_RANK: usize = 4;

/// The dimensions of a dense row-major value, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [Dim; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// The shape with these dimensions, or `None` if there are more than [`MAX_RANK`].
    pub fn new(dims: &[Dim]) -> Option<Shape> {
        let mut shape = Shape { dims: [Dim::Fixed(1); MAX_RANK], rank: dims.len() };
        shape.dims.get_mut(..dims.len())?.copy_from_slice(dims);
        Some(shape)
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[Dim] {
        &self.dims[..self.rank]
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The innermost dimension, if there is one and it is fixed.
    pub fn last_fixed(&self) -> Option<usize> {
        match self.dims().last() {
            Some(Dim::Fixed(n)) => Some(*n),
            _ => None,
        }
    }

    /// The sizes at one step.
    pub fn resolve(&self, values: &SymbolValues) -> Vec<usize> {
        self.dims().iter().map(|d| values.size(*d)).collect()
    }

    /// The product of the fixed dimensions and how often each symbol occurs: equal for shapes with equally many
    /// elements at every step. `None` if the product overflows.
    pub(crate) fn signature(&self) -> Option<(usize, [u8; 5])> {
        let mut product = 1usize;
        let mut symbols = [0; 5];
        for dim in self.dims() {
            match dim {
                Dim::Fixed(n) => product = product.checked_mul(*n)?,
                Dim::Sym(s) => symbols[s.index()] += 1,
            }
        }
        Some((product, symbols))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.dims().iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a value is: its element type and its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; rows (the innermost dimension) are whole blocks of `dtype`.
    pub shape: Shape,
}

impl TensorType {
    /// A type from its parts. `None` for more than [`MAX_RANK`] dimensions, for rows that are no whole number of
    /// blocks, or for a block type whose rows have no fixed length.
    pub fn new(dtype: DType, dims: &[Dim]) -> Option<TensorType> {
        let shape = Shape::new(dims)?;
        let whole_rows = match shape.dims().last() {
            Some(Dim::Fixed(n)) => dtype.row_bytes(*n).is_some(),
            _ => !dtype.is_block(),
        };
        whole_rows.then_some(TensorType { dtype, shape })
    }

    /// Bytes the value takes at one step, or `None` if that overflows.
    pub fn bytes(&self, values: &SymbolValues) -> Option<usize> {
        let dims = self.shape.resolve(values);
        let (rows, row) = match dims.split_last() {
            Some((last, rest)) => (rest.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?, *last),
            None => (1, 1),
        };
        rows.checked_mul(self.dtype.row_bytes(row)?)
    }

    /// Elements the value has at one step, or `None` if that overflows.
    pub fn elements(&self, values: &SymbolValues) -> Option<usize> {
        self.shape.resolve(values).iter().try_fold(1usize, |n, d| n.checked_mul(*d))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.dtype, self.shape)
    }
}

/// The sizes of the symbols at one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SymbolValues([usize; 5]);

impl SymbolValues {
    /// A step of `tokens` tokens in `sequences` sequences with `outputs` output rows and contexts up to `context`.
    pub fn new(tokens: usize, sequences: usize, outputs: usize, context: usize) -> SymbolValues {
        SymbolValues([tokens, sequences, outputs, context, sequences.saturating_add(1)])
    }

    /// The value of a symbol.
    pub fn get(&self, symbol: Symbol) -> usize {
        self.0[symbol.index()]
    }

    /// The size of a dimension.
    pub fn size(&self, dim: Dim) -> usize {
        match dim {
            Dim::Fixed(n) => n,
            Dim::Sym(s) => self.get(s),
        }
    }
}

/// The smallest and largest values the symbols of a graph can take. A plan is compiled for a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SymbolRange {
    /// Every symbol's smallest value.
    pub min: SymbolValues,
    /// Every symbol's largest value: what buffers are sized for.
    pub max: SymbolValues,
}

impl SymbolRange {
    /// The first symbol of `values` that lies outside, with its value.
    pub fn violation(&self, values: &SymbolValues) -> Option<(Symbol, usize)> {
        Symbol::ALL
            .into_iter()
            .map(|s| (s, values.get(s)))
            .find(|(s, v)| *v < self.min.get(*s) || *v > self.max.get(*s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_display_as_the_field_writes_them() {
        let ty = TensorType::new(DType::F32, &[Symbol::T.into(), 88.into()]).unwrap();
        assert_eq!(ty.to_string(), "f32 [T, 88]");
    }

    #[test]
    fn block_rows_must_be_whole_and_fixed() {
        assert!(TensorType::new(DType::Q8_0, &[2.into(), 33.into()]).is_none());
        assert!(TensorType::new(DType::Q8_0, &[2.into(), Symbol::T.into()]).is_none());
        assert!(TensorType::new(DType::F32, &[1.into(); 5]).is_none());
    }

    #[test]
    fn bytes_follow_the_symbols_and_overflow_is_seen() {
        let step = SymbolValues::new(3, 2, 1, 7);
        let ty = TensorType::new(DType::I32, &[Symbol::P.into()]).unwrap();
        assert_eq!(ty.bytes(&step), Some(12));
        let huge = TensorType::new(DType::F32, &[usize::MAX.into(), 4.into()]).unwrap();
        assert_eq!(huge.bytes(&step), None);
    }

    #[test]
    fn a_range_names_the_symbol_that_leaves_it() {
        let range = SymbolRange { min: SymbolValues::new(1, 1, 0, 1), max: SymbolValues::new(8, 2, 8, 64) };
        assert_eq!(range.violation(&SymbolValues::new(8, 2, 0, 64)), None);
        assert_eq!(range.violation(&SymbolValues::new(9, 2, 0, 64)), Some((Symbol::T, 9)));
    }
}
