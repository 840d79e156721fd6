//! `linear` and `qkv_linear`: panels of weights times tiles of tokens.

use std::ops::Range;

use camelid_core::DType;
use camelid_core::backend::BackendError;
use camelid_core::graph::SymbolValues;
use camelid_core::quant;

use crate::activations::{Input, tiles_from};
use crate::isa::LANES;
use crate::kernel::Kernel;
use crate::plan::{Phase, Step, Value};

/// Bytes of activations that are gone over again and again while they are in the second-level cache.
const CACHED: usize = 512 << 10;
/// The most tokens of a tile on any set of instructions.
pub(crate) const MAX_TILE: usize = 16;

/// Activations in the form the kernel reads, of all rows of `x`.
#[derive(Clone, Copy)]
pub(crate) struct Prepared {
    pub ptr: *mut u8,
    pub input: Input,
    /// As [`Value::stride`].
    pub stride: usize,
}

impl Prepared {
    /// The copy of this thread.
    pub(crate) fn copy(self, thread: usize) -> Prepared {
        Prepared { ptr: self.ptr.wrapping_add(thread * self.stride), stride: 0, ..self }
    }
}

// SAFETY: as for `Value`.
unsafe impl Send for Prepared {}
// SAFETY: as for `Value`.
unsafe impl Sync for Prepared {}

/// A matrix of weights `[n, k]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix {
    pub n: usize,
    pub k: usize,
    pub kernel: Kernel,
    pub source: Source,
}

/// Where its panels come from.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    /// They are there.
    Panels(*const u8),
    /// They are packed when they are used, from rows as they lie in the file; of types that have no panels of their own, the
    /// dequantized numbers.
    Rows(*const u8, DType),
}

// SAFETY: weights are read only, or were written by an earlier phase.
unsafe impl Send for Matrix {}
// SAFETY: as above.
unsafe impl Sync for Matrix {}

impl Matrix {
    pub(crate) fn panels(&self) -> usize {
        self.n.div_ceil(LANES)
    }

    fn panel_len(&self) -> usize {
        self.kernel.panel_len(self.k).expect("counted when the plan was made")
    }

    /// Bytes of a thread's memory to pack a panel in.
    pub(crate) fn scratch(&self) -> usize {
        match self.source {
            Source::Panels(_) => 0,
            Source::Rows(..) => self.panel_len(),
        }
    }

    /// Panel `i`, packed into `scratch` if it is not there.
    ///
    /// # Safety
    /// The weights are there, and [`Matrix::scratch`] bytes at `scratch`.
    pub(crate) unsafe fn panel(&self, i: usize, scratch: *mut u8) -> *const u8 {
        // SAFETY: by contract.
        unsafe {
            match self.source {
                Source::Panels(start) => start.add(i * self.panel_len()),
                Source::Rows(rows, dtype) => {
                    let len = self.panel_len();
                    let panel = std::slice::from_raw_parts_mut(scratch, len);
                    panel.fill(0);
                    let count = LANES.min(self.n - i * LANES);
                    let row_len = dtype.row_bytes(self.k).expect("the graph's types have whole rows");
                    let bytes = std::slice::from_raw_parts(rows.add(i * LANES * row_len), count * row_len);
                    if self.kernel.file_row_bytes(self.k) == row_len {
                        self.kernel.pack(bytes, self.k, panel);
                    } else {
                        for (r, row) in bytes.chunks_exact(row_len.max(1)).enumerate() {
                            let mut numbers = vec![0.0f32; self.k];
                            quant::dequantize(dtype, row, &mut numbers)
                                .expect("the claims admit only types that can be");
                            for (k, number) in numbers.iter().enumerate() {
                                let at = (k * LANES + r) * size_of::<f32>();
                                panel[at..at + 4].copy_from_slice(&number.to_le_bytes());
                            }
                        }
                    }
                    scratch
                }
            }
        }
    }

    /// `x [k]` times row `r` of panel `i`, from the numbers themselves: what is done where 8 bits cannot say them.
    ///
    /// # Safety
    /// As [`Matrix::panel`]; `x` points to `k` f32; `panel` is panel `i`.
    unsafe fn exact(&self, panel: *const u8, r: usize, x: *const f32) -> f32 {
        let Kernel { panel_bytes, .. } = self.kernel;
        let mut row = vec![0; self.kernel.file_row_bytes(self.k)];
        let mut numbers = vec![0.0f32; self.k];
        // SAFETY: by contract.
        unsafe {
            let panel = std::slice::from_raw_parts(panel, self.kernel.steps(self.k) * panel_bytes);
            self.kernel.unpack(panel, r, &mut row);
        }
        quant::dequantize(self.kernel.dtype, &row, &mut numbers).expect("a type that has panels can be dequantized");
        // SAFETY: by contract.
        let x = (0..self.k).map(|i| unsafe { x.add(i).read_unaligned() });
        numbers.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(x)).sum::<f64>() as f32
    }

    /// A panel times a tile of tokens, `[count][16]` into `out`.
    ///
    /// # Safety
    /// `panel` is one of [`Matrix::panel`]; `x` holds the tile of `count` tokens from `first` on of all tokens; `numbers`
    /// points to their rows as f32; there is room at `out`.
    #[inline]
    pub(crate) unsafe fn tile(
        &self,
        panel: *const u8,
        (x, numbers): (Prepared, *const f32),
        (first, count): (usize, usize),
        out: *mut [f32; LANES],
    ) {
        let row_bytes = x.input.row_bytes(self.k).expect("counted when the plan was made");
        // SAFETY: by contract; a tile's tokens lie together.
        unsafe {
            let tile = self.kernel.tiles[count.ilog2() as usize];
            if tile(panel, self.kernel.steps(self.k), x.ptr.add(first * row_bytes), out.cast()) {
                return;
            }
            // Infinity and NaN come from numbers that blocks cannot say, or from the numbers themselves.
            for t in 0..count {
                let out = &mut *out.add(t);
                if !out.iter().all(|v| v.is_finite()) {
                    for (r, out) in out.iter_mut().enumerate() {
                        *out = self.exact(panel, r, numbers.add((first + t) * self.k));
                    }
                }
            }
        }
    }
}

/// One product of a phase.
pub(crate) struct Product {
    pub matrix: Matrix,
    pub bias: Option<Value>,
    /// `[.., n]` f32.
    pub y: Value,
}

/// Products of the same activations; an item is a panel.
pub(crate) struct Linear {
    /// `[.., k]` f32.
    pub x: Value,
    pub prepared: Prepared,
    pub products: Vec<Product>,
}

impl Phase for Linear {
    unsafe fn items(&self, symbols: &SymbolValues) -> Result<usize, BackendError> {
        Ok(if self.x.rows(symbols) == 0 { 0 } else { self.panels() })
    }

    fn scratch(&self) -> usize {
        let matrix = self.products.iter().map(|p| p.matrix.scratch()).max().unwrap_or(0);
        size_of::<[[f32; LANES]; MAX_TILE]>().saturating_add(matrix)
    }

    unsafe fn run(&self, at: &Step<'_>, items: Range<usize>) -> Result<(), BackendError> {
        let tokens = self.x.rows(at.symbols);
        let mut first = 0;
        for product in &self.products {
            let panels = product.matrix.panels();
            let of_this = items.start.max(first)..items.end.min(first + panels);
            if !of_this.is_empty() {
                let of_this = of_this.start - first..of_this.end - first;
                // SAFETY: by contract; items are panels of this product.
                unsafe {
                    if tokens == 1 {
                        self.token(product, of_this, at);
                    } else {
                        self.tokens(product, of_this, tokens, at);
                    }
                }
            }
            first += panels;
        }
        Ok(())
    }
}

impl Linear {
    fn panels(&self) -> usize {
        self.products.iter().map(|p| p.matrix.panels()).sum()
    }

    /// One token: a whole panel's results go where they belong at once.
    unsafe fn token(&self, product: &Product, panels: Range<usize>, at: &Step<'_>) {
        let Product { matrix, bias, y } = product;
        let x = (self.prepared.copy(at.me.thread), at.own(self.x).f32().cast_const());
        // SAFETY: `scratch` has room for it.
        let out = unsafe { &mut *at.scratch.cast::<[[f32; LANES]; MAX_TILE]>() };
        for i in panels {
            // SAFETY: by contract.
            unsafe {
                let panel = matrix.panel(i, at.scratch.add(size_of_val(out)));
                let n = LANES.min(matrix.n - i * LANES);
                let y = y.f32().add(i * LANES);
                if n == LANES {
                    matrix.tile(panel, x, (0, 1), y.cast());
                } else {
                    matrix.tile(panel, x, (0, 1), out.as_mut_ptr());
                    std::ptr::copy_nonoverlapping(out[0].as_ptr(), y, n);
                }
                if let Some(bias) = bias {
                    for r in 0..n {
                        *y.add(r) += bias.f32().add(i * LANES + r).read_unaligned();
                    }
                }
            }
        }
    }

    unsafe fn tokens(&self, product: &Product, panels: Range<usize>, tokens: usize, at: &Step<'_>) {
        let Product { matrix, bias, y } = product;
        let most = matrix.kernel.tile;
        let row_bytes = self.prepared.input.row_bytes(matrix.k).expect("counted when the plan was made");
        let at_once = (CACHED / row_bytes.max(1) / most).max(1) * most;
        // SAFETY: `scratch` has room for it.
        let out = unsafe { &mut *at.scratch.cast::<[[f32; LANES]; MAX_TILE]>() };
        // SAFETY: as above.
        let scratch = unsafe { at.scratch.add(size_of_val(out)) };
        // Panels that have to be packed are packed once; others stay in the cache while the next block of tokens comes.
        let together = if let Source::Rows(..) = matrix.source { 1 } else { panels.len() };
        for first_panel in panels.clone().step_by(together.max(1)) {
            let mut start = 0;
            while start < tokens {
                let end = (start + at_once).min(tokens);
                for i in first_panel..(first_panel + together).min(panels.end) {
                    // SAFETY: by contract.
                    unsafe {
                        let panel = matrix.panel(i, scratch);
                        let n = LANES.min(matrix.n - i * LANES);
                        for (first, count) in tiles_from(start, end, most) {
                            matrix.tile(panel, (self.prepared, self.x.f32()), (first, count), out.as_mut_ptr());
                            for (t, out) in out[..count].iter_mut().enumerate() {
                                if let Some(bias) = bias {
                                    for (r, out) in out[..n].iter_mut().enumerate() {
                                        *out += bias.f32().add(i * LANES + r).read_unaligned();
                                    }
                                }
                                let to = y.f32().add((first + t) * matrix.n + i * LANES);
                                if n == LANES {
                                    // Without a call.
                                    to.cast::<[f32; LANES]>().write_unaligned(*out);
                                } else {
                                    std::ptr::copy_nonoverlapping(out.as_ptr(), to, n);
                                }
                            }
                        }
                    }
                }
                start = end;
            }
        }
    }
}
