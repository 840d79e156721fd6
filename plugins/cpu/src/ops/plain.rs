//! Operations that are on no hot path of a Llama, row by row: moves between tables, elementwise functions, and the core
//! operations that attention is made of where its probabilities are asked for.

use std::ops::Range;

use camelid_core::DType;
use camelid_core::backend::BackendError;
use camelid_core::graph::SymbolValues;
use camelid_core::ops::Activation;
use camelid_core::ops::softmax::MASKED;
use camelid_core::quant;

use super::rope_append::narrow;
use crate::isa::{Isa, LANES};
use crate::kernel::{Kernel, Task, on};
use crate::plan::{Phase, Step, Value};

/// Rows of a table: `y[i] = table[index[i]]`. An item is a row.
pub(crate) struct GatherRows {
    pub table: Table,
    /// `[..]` i32.
    pub index: Value,
    /// `[.., D]`, f32 or the table's type.
    pub y: Value,
}

/// A table `[n, d]`.
#[derive(Clone, Copy)]
pub(crate) enum Table {
    /// As it lies in the file.
    Rows(Value),
    /// In panels.
    Panels { start: *const u8, kernel: Kernel, n: usize, k: usize },
}

// SAFETY: as for `Value`.
unsafe impl Send for Table {}
// SAFETY: as for `Value`.
unsafe impl Sync for Table {}

impl Phase for GatherRows {
    unsafe fn items(&self, symbols: &SymbolValues) -> Result<usize, BackendError> {
        Ok(self.y.rows(symbols))
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let d = self.y.columns(at.symbols);
        let to = self.y.ty.dtype;
        let row_len = to.row_bytes(d).expect("a row of f32, f16 or bf16");
        let limit = match &self.table {
            Table::Rows(table) => table.rows(at.symbols),
            Table::Panels { n, .. } => *n,
        };
        for i in items {
            // SAFETY: by contract; each row of y is one item.
            unsafe {
                let row = self.index.row_number("index", i, limit)?;
                let y = std::slice::from_raw_parts_mut(self.y.ptr.add(i * row_len), row_len);
                let Some(row) = row else {
                    y.fill(0);
                    continue;
                };
                match self.table {
                    Table::Rows(table) => {
                        let len = table.ty.dtype.row_bytes(d).expect("the graph's types have whole rows");
                        let from = std::slice::from_raw_parts(table.ptr.add(row * len), len);
                        copy_row(table.ty.dtype, from, to, d, y);
                    }
                    Table::Panels { start, kernel, k, .. } => {
                        let len = kernel.panel_len(k).expect("counted when it was packed");
                        let panel = std::slice::from_raw_parts(start.add(row / LANES * len), len);
                        let mut from = vec![0; kernel.file_row_bytes(k)];
                        kernel.unpack(panel, row % LANES, &mut from);
                        copy_row(kernel.dtype, &from, to, d, y);
                    }
                }
            }
        }
        Ok(())
    }
}

/// A row in its own type, or dequantized to f32.
fn copy_row(from: DType, row: &[u8], to: DType, d: usize, y: &mut [u8]) {
    if from == to {
        y.copy_from_slice(row);
        return;
    }
    let mut numbers = vec![0.0f32; d];
    quant::dequantize(from, row, &mut numbers).expect("the claims admit only types that can be dequantized");
    for (y, number) in y.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
        *y = number.to_le_bytes();
    }
}

/// The bytes of a value elsewhere. An item is a piece of them.
pub(crate) struct Copy {
    pub x: Value,
    pub y: Value,
}

/// Bytes of a piece.
const PIECE: usize = 1 << 16;

impl Phase for Copy {
    unsafe fn items(&self, symbols: &SymbolValues) -> Result<usize, BackendError> {
        Ok(self.y.bytes(symbols).div_ceil(PIECE))
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let bytes = items.start * PIECE..(items.end * PIECE).min(self.y.bytes(at.symbols));
        // SAFETY: by contract; the two values have no bytes in common.
        unsafe {
            std::ptr::copy_nonoverlapping(self.x.ptr.add(bytes.start), self.y.ptr.add(bytes.start), bytes.len());
        }
        Ok(())
    }
}

/// Numbers in another type: `cast`, and what lies between operands of f16, bf16 or odd addresses and kernels of f32. An
/// item is a row.
pub(crate) struct Cast {
    pub x: Value,
    pub y: Value,
}

impl Phase for Cast {
    unsafe fn items(&self, symbols: &SymbolValues) -> Result<usize, BackendError> {
        Ok(self.x.rows(symbols))
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let d = self.x.columns(at.symbols);
        let (from, to) = (self.x.ty.dtype, self.y.ty.dtype);
        let from_len = from.row_bytes(d).expect("the graph's types have whole rows");
        let mut numbers = vec![0.0f32; d];
        for row in items {
            // SAFETY: by contract; each row is one item.
            unsafe {
                let x = std::slice::from_raw_parts(self.x.ptr.add(row * from_len), from_len);
                let y = self.y.ptr.add(row * to.row_bytes(d).expect("the graph's types have whole rows"));
                if from == to {
                    std::ptr::copy_nonoverlapping(x.as_ptr(), y, from_len);
                    continue;
                }
                quant::dequantize(from, x, &mut numbers).expect("the claims admit only types that can be dequantized");
                narrow(at.isa, &numbers, to, y);
            }
        }
        Ok(())
    }
}

/// What is computed element by element.
#[derive(Clone, Copy)]
pub(crate) enum Function {
    Add,
    Mul,
    Swiglu,
    Activation(Activation),
}

/// `y[i] = f(a[i], b[i])`. An item is a vector of elements.
pub(crate) struct Elementwise {
    pub f: Function,
    pub a: Value,
    pub b: Option<Value>,
    pub y: Value,
}

impl Phase for Elementwise {
    unsafe fn items(&self, symbols: &SymbolValues) -> Result<usize, BackendError> {
        Ok(self.y.elements(symbols).div_ceil(LANES))
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let elements = items.start * LANES..(items.end * LANES).min(self.y.elements(at.symbols));
        // SAFETY: by contract; each element is one item's.
        unsafe { on(at.isa, Elements { phase: self, elements }) };
        Ok(())
    }
}

struct Elements<'a> {
    phase: &'a Elementwise,
    elements: Range<usize>,
}

impl Task for Elements<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Elements { phase: Elementwise { f, a, b, y }, elements } = self;
        let b = b.unwrap_or(*a);
        for i in elements.clone().step_by(LANES) {
            let n = LANES.min(elements.end - i);
            // SAFETY: the elements are there.
            unsafe {
                let (a, b) = (I::load_some(a.f32().add(i), n), I::load_some(b.f32().add(i), n));
                let result = match f {
                    Function::Add => I::add(a, b),
                    Function::Mul => I::mul(a, b),
                    Function::Swiglu => I::mul(I::silu(a), b),
                    Function::Activation(Activation::Silu) => I::silu(a),
                    Function::Activation(kind) => {
                        let mut x = [0.0f32; LANES];
                        I::store(x.as_mut_ptr(), a);
                        for x in &mut x {
                            *x = scalar(*kind, f64::from(*x)) as f32;
                        }
                        I::load(x.as_ptr())
                    }
                };
                I::store_some(y.f32().add(i), n, result);
            }
        }
    }
}

/// The activations other than silu, by the formulas of [`Activation`], written so that nothing cancels for negative x.
fn scalar(kind: Activation, x: f64) -> f64 {
    use std::f64::consts::{FRAC_1_SQRT_2, PI};
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let relu = |x: f64| if x < 0.0 { 0.0 } else { x };
    match kind {
        Activation::Gelu => 0.5 * x * libm::erfc(-x * FRAC_1_SQRT_2),
        Activation::GeluTanh => x * sigmoid(2.0 * (2.0 / PI).sqrt() * (x + 0.044_715 * x * x * x)),
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Relu => relu(x),
        Activation::Relu2 => relu(x) * relu(x),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
        // From 40 on ln(1 + exp x) is x.
        Activation::Mish => x * (if x > 40.0 { x } else { x.exp().ln_1p() }).tanh(),
        _ => x * sigmoid(x),
    }
}

/// `softmax(scale * x + mask)` over the last dimension. An item is a row.
pub(crate) struct Softmax {
    /// `[T, .., L]` f32.
    pub x: Value,
    /// `[T, L]` f32.
    pub mask: Option<Value>,
    pub scale: f32,
    pub y: Value,
}

impl Phase for Softmax {
    unsafe fn items(&self, symbols: &SymbolValues) -> Result<usize, BackendError> {
        Ok(self.x.rows(symbols))
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let (rows, columns) = (self.x.rows(at.symbols), self.x.columns(at.symbols));
        // SAFETY: by contract; each row is one item.
        unsafe {
            for row in items {
                let mask = self.mask.map(|mask| {
                    let of = row * mask.rows(at.symbols) / rows;
                    std::slice::from_raw_parts(mask.f32().add(of * columns).cast_const(), columns)
                });
                let y = std::slice::from_raw_parts_mut(self.y.f32().add(row * columns), columns);
                let x = std::slice::from_raw_parts(self.x.f32().add(row * columns).cast_const(), columns);
                // A NaN in the mask is seen, as in a comparison it is neither.
                let hidden = |i: usize| mask.is_some_and(|m| m[i] <= MASKED);
                for i in 0..columns {
                    y[i] = if hidden(i) { f32::NEG_INFINITY } else { self.scale * x[i] + mask.map_or(0.0, |m| m[i]) };
                }
                if (0..columns).all(hidden) {
                    y.fill(0.0);
                    continue;
                }
                on(at.isa, Normalize { row: y });
                // Also beside a NaN, what is hidden weighs nothing.
                for (_, y) in y.iter_mut().enumerate().filter(|(i, _)| hidden(*i)) {
                    *y = 0.0;
                }
            }
        }
        Ok(())
    }
}

/// Scores into weights that sum to one.
struct Normalize<'a> {
    row: &'a mut [f32],
}

impl Task for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let (p, len) = (self.row.as_mut_ptr(), self.row.len());
        let vectors = || (0..len).step_by(LANES).map(|i| (i, LANES.min(len - i)));
        // SAFETY: the row's elements.
        unsafe {
            let most = self.row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0f64;
            for (i, n) in vectors() {
                let w = I::exp(I::sub(I::load_some(p.add(i), n), I::splat(most)));
                I::store_some(p.add(i), n, w);
                sum += self.row[i..i + n].iter().map(|w| f64::from(*w)).sum::<f64>();
            }
            for w in self.row {
                *w = (f64::from(*w) / sum) as f32;
            }
        }
    }
}

/// `y[.., m, n] = sum over k of a[.., m, k] * b[.., k, n]`, or `b[.., n, k]`. An item is a row of `y`.
pub(crate) struct Bmm {
    pub a: Value,
    pub b: Value,
    pub transpose_b: bool,
    pub y: Value,
}

impl Phase for Bmm {
    unsafe fn items(&self, symbols: &SymbolValues) -> Result<usize, BackendError> {
        Ok(self.y.rows(symbols))
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let dims = self.y.ty.shape.resolve(at.symbols);
        let (m, n) = (dims[dims.len() - 2], dims[dims.len() - 1]);
        let k = self.a.columns(at.symbols);
        for row in items {
            // SAFETY: by contract; each row is one item.
            unsafe {
                let a = self.a.f32().add(row * k);
                let b = self.b.f32().add(row / m * n * k);
                let y = self.y.f32().add(row * n);
                on(at.isa, BmmRow { a, b, y, n, k, transpose_b: self.transpose_b });
            }
        }
        Ok(())
    }
}

struct BmmRow {
    a: *const f32,
    b: *const f32,
    y: *mut f32,
    n: usize,
    k: usize,
    transpose_b: bool,
}

impl Task for BmmRow {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let BmmRow { a, b, y, n, k, transpose_b } = self;
        // SAFETY: the rows are there.
        unsafe {
            if transpose_b {
                for column in 0..n {
                    let mut sum = I::splat(0.0);
                    for i in (0..k).step_by(LANES) {
                        let some = LANES.min(k - i);
                        sum = I::fma(I::load_some(a.add(i), some), I::load_some(b.add(column * k + i), some), sum);
                    }
                    *y.add(column) = I::reduce_add(sum);
                }
                return;
            }
            for column in (0..n).step_by(LANES) {
                let some = LANES.min(n - column);
                let mut sum = I::splat(0.0);
                for i in 0..k {
                    sum = I::fma(I::load_some(b.add(i * n + column), some), I::splat(*a.add(i)), sum);
                }
                I::store_some(y.add(column), some, sum);
            }
        }
    }
}
