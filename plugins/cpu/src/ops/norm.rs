//! `rms_norm` and `add_rms_norm`: `sum = x + residual`, `y = sum / sqrt(mean sum^2 + eps) * weight`, and the result in the
//! form that the next product reads.

use std::ops::Range;

use camelid_core::DType;
use camelid_core::backend::BackendError;
use camelid_core::graph::SymbolValues;
use half::{bf16, f16};

use super::linear::Prepared;
use crate::activations::{parts, prepare, rows_at_once};
use crate::isa::{Isa, LANES};
use crate::kernel::{Task, on};
use crate::plan::{Phase, Step, Value};

/// An item is a row.
pub(crate) struct Norm {
    /// `[.., D]` f32.
    pub x: Value,
    /// `[.., D]` f32, with the sum's place.
    pub residual: Option<(Value, Value)>,
    /// The type that the sum is stored in afterwards, if it is none of f32: the norm is of the sum as it is stored.
    pub rounds: Option<DType>,
    /// `[D]` f32.
    pub weight: Value,
    pub eps: f32,
    /// `[.., D]` f32.
    pub y: Value,
    pub to: Option<Prepared>,
}

impl Phase for Norm {
    unsafe fn items(&self, symbols: &SymbolValues) -> Result<usize, BackendError> {
        Ok(self.x.rows(symbols))
    }

    fn grain(&self, items: usize, threads: usize) -> usize {
        rows_at_once(items, threads)
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let (rows, columns) = (self.x.rows(at.symbols), self.x.columns(at.symbols));
        let own = Norm {
            x: at.own(self.x),
            residual: self.residual.map(|(residual, sum)| (at.own(residual), at.own(sum))),
            y: at.own(self.y),
            to: self.to.map(|to| to.copy(at.me.thread)),
            ..*self
        };
        // SAFETY: by contract; each row is one item.
        unsafe { on(at.isa, Rows { phase: &own, items, rows, columns }) };
        Ok(())
    }

    fn each(&self, _: &SymbolValues) -> bool {
        self.y.stride > 0
    }
}

struct Rows<'a> {
    phase: &'a Norm,
    items: Range<usize>,
    rows: usize,
    columns: usize,
}

impl Task for Rows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Rows { phase, items, rows, columns } = self;
        for part in parts(items) {
            for row in part.clone() {
                // SAFETY: row `row` of each value.
                unsafe { norm::<I>(phase, row * columns, columns) };
            }
            if let Some(to) = &phase.to {
                // SAFETY: rows of `y`, and their places in `to`.
                unsafe { prepare::<I>(to.input, phase.y.f32(), columns, part, rows, to.ptr) };
            }
        }
    }
}

/// The row that begins with element `at`.
///
/// # Safety
/// It is there.
#[inline(always)]
unsafe fn norm<I: Isa>(phase: &Norm, at: usize, columns: usize) {
    let vectors = || (0..columns).step_by(LANES).map(|i| (i, LANES.min(columns - i)));
    // SAFETY: row `row` of each value.
    unsafe {
        let mut x = phase.x.f32().add(at).cast_const();
        if let Some((residual, sum)) = &phase.residual {
            for (i, n) in vectors() {
                let s = I::add(I::load_some(x.add(i), n), I::load_some(residual.f32().add(at + i), n));
                I::store_some(sum.f32().add(at + i), n, s);
            }
            x = sum.f32().add(at);
            if let Some(dtype) = phase.rounds {
                for i in 0..columns {
                    let value = sum.f32().add(at + i);
                    *value = match dtype {
                        DType::F16 => f16::from_f32(*value).to_f32(),
                        _ => bf16::from_f32(*value).to_f32(),
                    };
                }
            }
        }
        // Squares of numbers up to 1e38 in f32 would be infinite: the largest is taken out of the row first.
        let mut largest = I::splat(0.0);
        for (i, n) in vectors() {
            let v = I::load_some(x.add(i), n);
            largest = I::max(largest, I::max(v, I::sub(I::splat(0.0), v)));
        }
        let largest = I::reduce_max(largest);
        let ordinary = largest < 1e15 && largest > 1e-15;
        let y = phase.y.f32().add(at);
        if ordinary {
            let mut squares = I::splat(0.0);
            for (i, n) in vectors() {
                let v = I::load_some(x.add(i), n);
                squares = I::fma(v, v, squares);
            }
            let mean = I::reduce_add(squares) / columns as f32;
            let factor = I::splat(1.0 / (mean + phase.eps).sqrt());
            for (i, n) in vectors() {
                let v = I::mul(I::load_some(x.add(i), n), factor);
                I::store_some(y.add(i), n, I::mul(v, I::load_some(phase.weight.f32().add(i), n)));
            }
        } else {
            // Zeros, numbers at the ends of f32, infinities, NaN.
            let value = |p: *const f32, i: usize| f64::from(p.add(i).read());
            let mean = (0..columns).map(|i| value(x, i) * value(x, i)).sum::<f64>() / columns as f64;
            let factor = 1.0 / (mean + f64::from(phase.eps)).sqrt();
            for i in 0..columns {
                y.add(i).write((value(x, i) * factor * value(phase.weight.f32(), i)) as f32);
            }
        }
    }
}
