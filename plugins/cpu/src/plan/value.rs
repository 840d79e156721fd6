//! Values at their addresses.

use camelid_core::backend::BackendError;
use camelid_core::graph::{SymbolValues, TensorType};

/// A value whose bytes stay at one address for as long as the plan lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value {
    pub ptr: *mut u8,
    pub ty: TensorType,
    /// Bytes from one thread's copy to the next thread's; 0 where all threads have one.
    pub stride: usize,
}

// SAFETY: the plan says which phase writes which bytes, a phase which item, and there is a barrier between phases.
unsafe impl Send for Value {}
// SAFETY: as above.
unsafe impl Sync for Value {}

impl Value {
    /// The copy of this thread.
    pub(crate) fn copy(self, thread: usize) -> Value {
        Value { ptr: self.ptr.wrapping_add(thread * self.stride), stride: 0, ..self }
    }

    /// The product of all dimensions but the innermost.
    pub(crate) fn rows(&self, symbols: &SymbolValues) -> usize {
        let dims = self.ty.shape.dims();
        dims[..dims.len().saturating_sub(1)].iter().map(|d| symbols.size(*d)).product()
    }

    /// Elements of the innermost dimension.
    pub(crate) fn columns(&self, symbols: &SymbolValues) -> usize {
        self.ty.shape.dims().last().map_or(1, |d| symbols.size(*d))
    }

    pub(crate) fn elements(&self, symbols: &SymbolValues) -> usize {
        self.rows(symbols) * self.columns(symbols)
    }

    pub(crate) fn bytes(&self, symbols: &SymbolValues) -> usize {
        self.ty.bytes(symbols).expect("every value's size was found countable")
    }

    /// As f32: the plan gives kernels f32 at addresses where they may lie.
    pub(crate) fn f32(&self) -> *mut f32 {
        self.ptr.cast()
    }

    /// Element `i` of an index.
    ///
    /// # Safety
    /// It is one of at least `i + 1` i32, and nobody writes it now.
    pub(crate) unsafe fn index(&self, i: usize) -> i32 {
        // SAFETY: by contract.
        unsafe { self.ptr.cast::<i32>().add(i).read_unaligned() }
    }

    /// Element `i` as the number of a row of `limit`, `None` for -1.
    ///
    /// # Errors
    /// Any other number, named with the operand it came in.
    ///
    /// # Safety
    /// As [`Value::index`].
    pub(crate) unsafe fn row_number(
        &self,
        operand: &str,
        i: usize,
        limit: usize,
    ) -> Result<Option<usize>, BackendError> {
        // SAFETY: by contract.
        let value = unsafe { self.index(i) };
        match usize::try_from(value) {
            Ok(row) if row < limit => Ok(Some(row)),
            Err(_) if value == -1 => Ok(None),
            _ => Err(BackendError::invalid(format!(
                "operand `{operand}`: element {i} is {value}, but it must be in 0..{limit}, or -1 for none"
            ))),
        }
    }
}
