//! [`Memory`]: where the bytes of a device are.

use camelid_core::backend::{BackendError, BufferDesc, Placement, Weight};

/// The memory of a device, in pieces of type [`Memory::Buf`].
///
/// The interpreter keeps the pieces, knows their sizes, and calls these functions with ranges that lie inside them.
/// Work takes effect in the order of the calls, also in relation to [`Kernels::eval`](super::Kernels::eval).
pub trait Memory: Send {
    /// A piece of memory; dropping it gives it back.
    type Buf: Send;

    /// What the offsets that kernels get are multiples of, in bytes, at least 1. A value that its graph's maker
    /// bound elsewhere is copied to and from memory of its own at each step.
    const ALIGN: usize;

    /// Memory of `buffer.size` bytes, its contents unspecified.
    ///
    /// # Errors
    /// [`ErrorCode::OutOfMemory`](camelid_core::backend::ErrorCode::OutOfMemory) with the buffer's name and size.
    fn alloc(&mut self, buffer: &BufferDesc) -> Result<Self::Buf, BackendError>;

    /// Takes a weight, whose size was found to be that of its type.
    fn load_weight(&mut self, weight: Weight) -> Result<(Self::Buf, Placement), BackendError>;

    /// Copies `src` to `offset`. The source may be used for something else when this returns.
    fn write(&mut self, to: &mut Self::Buf, offset: usize, src: &[u8]) -> Result<(), BackendError>;

    /// Copies from `offset` to `dst`, after all earlier work is done. Weights are read too, as they were given.
    fn read(&mut self, from: &Self::Buf, offset: usize, dst: &mut [u8]) -> Result<(), BackendError>;

    /// Copies `len` bytes from one piece to another. Weights are copied too, as they were given.
    fn copy(&mut self, to: (&mut Self::Buf, usize), from: (&Self::Buf, usize), len: usize) -> Result<(), BackendError>;

    /// Copies `len` bytes inside one piece; the ranges do not overlap.
    fn copy_within(&mut self, buf: &mut Self::Buf, to: usize, from: usize, len: usize) -> Result<(), BackendError>;

    /// Waits until all work is done.
    fn sync(&mut self) -> Result<(), BackendError> {
        Ok(())
    }
}
