//! Activations into the form that kernels read: a phase of its own where no other can do it on the way.

use std::ops::Range;

use camelid_core::backend::BackendError;
use camelid_core::graph::SymbolValues;

use super::linear::Prepared;
use crate::activations::{prepare, rows_at_once};
use crate::isa::Isa;
use crate::kernel::{Task, on};
use crate::plan::{Phase, Step, Value};

/// An item is a row.
pub(crate) struct Prepare {
    /// `[.., k]` f32.
    pub x: Value,
    pub to: Prepared,
}

impl Phase for Prepare {
    unsafe fn items(&self, symbols: &SymbolValues) -> Result<usize, BackendError> {
        Ok(self.x.rows(symbols))
    }

    fn grain(&self, items: usize, threads: usize) -> usize {
        rows_at_once(items, threads)
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let (tokens, k) = (self.x.rows(at.symbols), self.x.columns(at.symbols));
        let own = Prepare { x: at.own(self.x), to: self.to.copy(at.me.thread) };
        // SAFETY: by contract; each row is one item.
        unsafe { on(at.isa, Rows { phase: &own, items, tokens, k }) };
        Ok(())
    }

    fn each(&self, _: &SymbolValues) -> bool {
        self.to.stride > 0
    }
}

struct Rows<'a> {
    phase: &'a Prepare,
    items: Range<usize>,
    tokens: usize,
    k: usize,
}

impl Task for Rows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Rows { phase: Prepare { x, to }, items, tokens, k } = self;
        // SAFETY: rows of `x`, and their places in `to`.
        unsafe { prepare::<I>(to.input, x.f32(), k, items, tokens, to.ptr) };
    }
}
