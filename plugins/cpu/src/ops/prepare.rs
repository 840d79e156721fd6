//! Activations into the form that kernels read: a phase of its own where no other can do it on the way.

use std::ops::Range;

use camelid_core::backend::BackendError;
use camelid_core::graph::SymbolValues;

use super::linear::Prepared;
use crate::activations::prepare;
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
    fn items(&self, symbols: &SymbolValues) -> usize {
        self.x.rows(symbols)
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let (tokens, k) = (self.x.rows(at.symbols), self.x.columns(at.symbols));
        // SAFETY: by contract; each row is one item.
        unsafe { on(at.isa, Rows { phase: self, items, tokens, k }) };
        Ok(())
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
        for t in items {
            // SAFETY: row `t` of `x`, and its place in `to`.
            unsafe { prepare::<I>(to.input, x.f32().add(t * k), k, t, tokens, to.ptr) };
        }
    }
}
