//! `rope`, `kv_append` and `scatter_rows`: rotated heads, and rows into the cache. In a layer all of them are one phase.
//!
//! A job is a head (or some columns) of all tokens, so that no two threads write the same bytes even if two tokens have the
//! same slot, and a head that was rotated goes straight into the cache.

use std::ops::Range;
use std::sync::Arc;

use camelid_core::DType;
use camelid_core::backend::BackendError;
use camelid_core::graph::SymbolValues;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::attention_split::OnTheWay;
use super::cache_q8_0::Quantize;
use crate::isa::{Isa, IsaName, LANES};
use crate::kernel::{Task, on};
use crate::plan::{Phase, Step, Value};

/// Columns of a job that is not about heads.
const COLUMNS: usize = 64;

/// Rotates heads.
#[derive(Clone)]
pub(crate) struct Rope {
    /// `[T, H * D]` f32.
    pub x: Value,
    /// `[T, R / 2]` f32.
    pub cos: Value,
    pub sin: Value,
    pub head_dim: usize,
    /// `[T, H * D]` f32.
    pub y: Value,
    /// Where the rotated rows go, too.
    pub appends: Vec<Append>,
}

/// Rows into a table.
#[derive(Clone, Copy)]
pub(crate) struct Append {
    /// `[T, W]`, f32 or of the table's type.
    pub rows: Value,
    /// `[N, W]`
    pub table: Value,
    /// `[T]` i32.
    pub index: Value,
    /// What the operation calls the index.
    pub index_name: &'static str,
}

/// An item is a head, or [`COLUMNS`] columns, of all tokens.
#[derive(Default)]
pub(crate) struct RopeAppend {
    pub ropes: Vec<Rope>,
    pub appends: Vec<Append>,
    /// Attention that does all this on the way, at steps where it can.
    pub on_the_way: Option<Arc<OnTheWay>>,
}

impl Phase for RopeAppend {
    unsafe fn items(&self, symbols: &SymbolValues) -> Result<usize, BackendError> {
        // SAFETY: by contract; what the attention's inputs say is checked before it is used.
        if self.on_the_way.as_ref().is_some_and(|a| unsafe { a.attention.check(symbols).is_ok() && a.fits(symbols) }) {
            return Ok(0);
        }
        let heads: usize = self.ropes.iter().map(|r| r.x.columns(symbols) / r.head_dim).sum();
        Ok(heads + self.appends.iter().map(|a| a.table.columns(symbols).div_ceil(COLUMNS)).sum::<usize>())
    }

    fn grain(&self, items: usize, threads: usize) -> usize {
        items.div_ceil(2 * threads)
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        for mut item in items {
            let mut ropes = self.ropes.iter();
            let rope = ropes.find(|rope| {
                let heads = rope.x.columns(at.symbols) / rope.head_dim;
                let here = item < heads;
                item -= if here { 0 } else { heads };
                here
            });
            if let Some(rope) = rope {
                // SAFETY: by contract; the head is this item's.
                unsafe {
                    let tokens = rope.x.rows(at.symbols);
                    on(at.isa, Head { rope, head: item, tokens, symbols: at.symbols });
                    for append in &rope.appends {
                        append.columns(at, item * rope.head_dim..(item + 1) * rope.head_dim)?;
                    }
                }
                continue;
            }
            for append in &self.appends {
                let width = append.table.columns(at.symbols);
                let count = width.div_ceil(COLUMNS);
                if item < count {
                    // SAFETY: by contract; the columns are this item's.
                    unsafe { append.columns(at, item * COLUMNS..((item + 1) * COLUMNS).min(width))? };
                    break;
                }
                item -= count;
            }
        }
        Ok(())
    }
}

impl Append {
    /// Some columns of every row, whole blocks of the table's type, after a look at every index, so that a wrong one changes
    /// nothing in these columns.
    unsafe fn columns(&self, at: &Step<'_>, columns: Range<usize>) -> Result<(), BackendError> {
        let symbols = at.symbols;
        let (tokens, width) = (self.index.elements(symbols), self.table.columns(symbols));
        let limit = self.table.rows(symbols);
        let (from, to) = (self.rows.ty.dtype, self.table.ty.dtype);
        let bytes = |elements: usize| to.row_bytes(elements).expect("columns and rows are whole blocks");
        // SAFETY: by contract.
        unsafe {
            for t in 0..tokens {
                self.index.row_number(self.index_name, t, limit)?;
            }
            for t in 0..tokens {
                let Some(row) = self.index.row_number(self.index_name, t, limit)? else { continue };
                let count = columns.len();
                let source = t * width + columns.start;
                let target = self.table.ptr.add(bytes(row * width + columns.start));
                if from == to {
                    std::ptr::copy_nonoverlapping(self.rows.ptr.add(bytes(source)), target, bytes(count));
                    continue;
                }
                let numbers = std::slice::from_raw_parts(self.rows.f32().add(source), count);
                narrow(at.isa, numbers, to, target);
            }
        }
        Ok(())
    }
}

/// f32s stored as f32, f16 or bf16, rounded to nearest even, or as whole blocks of q8_0.
///
/// # Safety
/// There is room for them at `to`.
pub(crate) unsafe fn narrow(isa: IsaName, numbers: &[f32], dtype: DType, to: *mut u8) {
    if dtype == DType::Q8_0 {
        // SAFETY: by contract.
        return unsafe { on(isa, Quantize { numbers, to }) };
    }
    let mut halves = [0u16; 64];
    for (i, part) in numbers.chunks(64).enumerate() {
        let halves = &mut halves[..part.len()];
        match dtype {
            DType::F16 => {
                // SAFETY: f16 is a u16 in memory.
                let halves = unsafe { &mut *(std::ptr::from_mut(halves) as *mut [f16]) };
                halves.convert_from_f32_slice(part);
            }
            DType::BF16 => {
                // SAFETY: bf16 is a u16 in memory.
                let halves = unsafe { &mut *(std::ptr::from_mut(halves) as *mut [bf16]) };
                halves.convert_from_f32_slice(part);
            }
            _ => {
                // SAFETY: by contract.
                unsafe { std::ptr::copy_nonoverlapping(part.as_ptr().cast(), to.add(i * 256), size_of_val(part)) };
                continue;
            }
        }
        // SAFETY: by contract.
        unsafe { std::ptr::copy_nonoverlapping(halves.as_ptr().cast(), to.add(i * 128), size_of_val(halves)) };
    }
}

/// One head of all tokens.
struct Head<'a> {
    rope: &'a Rope,
    head: usize,
    tokens: usize,
    symbols: &'a SymbolValues,
}

impl Task for Head<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Head { rope, head, tokens, symbols } = self;
        let width = rope.x.columns(symbols);
        for t in 0..tokens {
            // SAFETY: by contract; the head's columns of each row.
            unsafe { rope.rotate::<I>(symbols, t, head, rope.y.f32().add(t * width + head * rope.head_dim)) };
        }
    }
}

impl Rope {
    /// A head of token `t`, rotated, into `y [head_dim]`.
    ///
    /// # Safety
    /// As [`Isa`]; the values are there, and there is room at `y`.
    #[inline(always)]
    pub(super) unsafe fn rotate<I: Isa>(&self, symbols: &SymbolValues, t: usize, head: usize, y: *mut f32) {
        let Rope { x, cos, sin, head_dim, .. } = self;
        let (width, half) = (x.columns(symbols), cos.columns(symbols));
        // SAFETY: by contract.
        unsafe {
            let x = x.f32().add(t * width + head * head_dim);
            let (cos, sin) = (cos.f32().add(t * half), sin.f32().add(t * half));
            for i in (0..half).step_by(LANES) {
                let n = LANES.min(half - i);
                let (a, b) = (I::load_some(x.add(i), n), I::load_some(x.add(half + i), n));
                let (c, s) = (I::load_some(cos.add(i), n), I::load_some(sin.add(i), n));
                I::store_some(y.add(i), n, I::sub(I::mul(a, c), I::mul(b, s)));
                I::store_some(y.add(half + i), n, I::fma(b, c, I::mul(a, s)));
            }
            std::ptr::copy_nonoverlapping(x.add(2 * half), y.add(2 * half), head_dim - 2 * half);
        }
    }
}
