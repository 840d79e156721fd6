//! Two `linear` of the same x and the `swiglu` of their results, in one: `silu(x gate^T) * (x up^T)`.

use std::ops::Range;

use camelid_core::backend::BackendError;
use camelid_core::graph::SymbolValues;

use super::linear::{MAX_TILE, Matrix, Prepared};
use crate::activations::{prepare_columns, tiles};
use crate::isa::{Isa, LANES};
use crate::kernel::{Task, on};
use crate::plan::{Phase, Step, Value};

/// An item is 32 columns of the result, which are a block of its prepared form.
pub(crate) struct GateUp {
    /// `[.., k]` f32.
    pub x: Value,
    pub prepared: Prepared,
    pub gate: Matrix,
    pub up: Matrix,
    /// `[.., n]` f32.
    pub y: Value,
    /// The result in the form the next product reads.
    pub to: Option<Prepared>,
}

/// `[gate, up]` of an item's two panels and a tile of tokens.
type Out = [[[f32; LANES]; MAX_TILE]; 4];

/// Columns of an item.
const COLUMNS: usize = 2 * LANES;

impl Phase for GateUp {
    unsafe fn items(&self, symbols: &SymbolValues) -> Result<usize, BackendError> {
        Ok(if self.x.rows(symbols) == 0 { 0 } else { self.gate.n.div_ceil(COLUMNS) })
    }

    fn scratch(&self) -> usize {
        // Four panels may have to be packed.
        size_of::<Out>() + 4 * self.gate.scratch().max(self.up.scratch()).next_multiple_of(64)
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let tokens = self.x.rows(at.symbols);
        let x = (self.prepared.copy(at.me.thread), at.own(self.x).f32().cast_const());
        let each = self.gate.scratch().max(self.up.scratch()).next_multiple_of(64);
        // SAFETY: `scratch` has room for it.
        let out = unsafe { &mut *at.scratch.cast::<Out>() };
        // SAFETY: as above.
        let scratch = unsafe { at.scratch.add(size_of::<Out>()) };
        for item in items {
            let panels = 2 * item..(2 * item + 2).min(self.gate.panels());
            // SAFETY: by contract.
            unsafe {
                let mut found = [std::ptr::null::<u8>(); 4];
                for (i, panel) in panels.clone().enumerate() {
                    found[2 * i] = self.gate.panel(panel, scratch.add(2 * i * each));
                    found[2 * i + 1] = self.up.panel(panel, scratch.add((2 * i + 1) * each));
                }
                for tile in tiles(tokens, self.gate.kernel.tile) {
                    for i in 0..panels.len() {
                        self.gate.tile(found[2 * i], x, tile, out[2 * i].as_mut_ptr());
                    }
                    for i in 0..panels.len() {
                        self.up.tile(found[2 * i + 1], x, tile, out[2 * i + 1].as_mut_ptr());
                    }
                    on(at.isa, Swiglu { phase: self, item, tile, out });
                }
            }
        }
        Ok(())
    }
}

/// The last part of an item.
struct Swiglu<'a> {
    phase: &'a GateUp,
    item: usize,
    tile: (usize, usize),
    out: &'a Out,
}

impl Task for Swiglu<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: by contract.
        unsafe {
            // One token needs no room for sixteen.
            if self.tile.1 == 1 { self.rows::<I, 1>() } else { self.rows::<I, MAX_TILE>() }
        }
    }
}

impl Swiglu<'_> {
    /// # Safety
    /// As [`Task::run`]; a tile of at most `M` tokens.
    #[inline(always)]
    unsafe fn rows<I: Isa, const M: usize>(self) {
        let Swiglu { phase, item, tile: (first, count), out } = self;
        let n = phase.gate.n;
        let column = item * COLUMNS;
        let columns = COLUMNS.min(n - column);
        // SAFETY: by contract; the item's columns are its own.
        unsafe {
            let mut rows = [[I::splat(0.0); 2]; M];
            for (t, row) in rows[..count].iter_mut().enumerate() {
                let y = phase.y.f32().add((first + t) * n + column);
                for (i, v) in row.iter_mut().enumerate().take(columns.div_ceil(LANES)) {
                    let (gate, up) = (I::load(out[2 * i][t].as_ptr()), I::load(out[2 * i + 1][t].as_ptr()));
                    *v = I::mul(I::silu(gate), up);
                    let width = LANES.min(columns - i * LANES);
                    I::store_some(y.add(i * LANES), width, *v);
                    // Zeros after the last column, whatever the panel's padding gives.
                    *v = if width < LANES { I::load_some(y.add(i * LANES), width) } else { *v };
                }
            }
            if let Some(to) = &phase.to {
                let tile = to.ptr.add(first * to.input.row_bytes(n).expect("counted when the plan was made"));
                prepare_columns::<I>(
                    to.input,
                    &rows[..count],
                    columns,
                    tile.add(column / to.input.step() * count * to.input.step_bytes()),
                );
            }
        }
    }
}
