//! [`Kernels`]: a backend written one operation at a time.
//!
//! Here is what the author of such a backend implements and what the kernels get to see; how a graph becomes calls of
//! them is not here but in [`Interpreter`](crate::Interpreter). Start at [`Kernels`]; `plugins/example-rust` is a
//! whole backend made this way.

pub(crate) mod claim;
mod host;
mod memory;
mod node;
pub mod testing;

use camelid_core::backend::BackendError;

pub use claim::{Claim, DEQUANTIZABLE, F32, INDICES, Limit};
pub use host::{HostBuf, HostMemory};
pub use memory::Memory;
pub use node::{NodeView, View, ViewMut};

/// A device that computes one operation at a time.
///
/// [`Interpreter::new`](crate::Interpreter::new) makes a whole [`Device`](crate::Device) of it: buffers, plans,
/// bindings, sizes, memory for what lies between two operations, in-place operations, lowering, and the messages
/// when something does not fit. What is left to write is a table of claims and a `match` over the operations.
///
/// ```
/// use camelid_sdk::core::backend::BackendError;
/// use camelid_sdk::core::ops::Op;
/// use camelid_sdk::kernels::{Claim, F32, HostBuf, HostMemory, Kernels, NodeView};
/// use camelid_sdk::{Device, Interpreter};
///
/// struct Adder(HostMemory);
///
/// impl Kernels for Adder {
///     type Memory = HostMemory;
///
///     fn memory(&mut self) -> &mut HostMemory {
///         &mut self.0
///     }
///
///     fn claims(&self) -> &'static [Claim] {
///         const CLAIMS: &[Claim] = &[Claim::new("add", &[F32, F32])];
///         CLAIMS
///     }
///
///     fn eval(&mut self, node: NodeView<'_, HostBuf>) -> Result<(), BackendError> {
///         let NodeView { op, inputs, mut outputs } = node;
///         match op {
///             Op::Add => {
///                 let (a, b) = (inputs[0].floats()?, inputs[1].floats()?);
///                 let y = outputs[0].f32s_mut()?;
///                 for ((y, a), b) in y.iter_mut().zip(a.iter()).zip(b.iter()) {
///                     *y = a + b;
///                 }
///                 Ok(())
///             }
///             other => Err(BackendError::unsupported(format!("{} is not claimed", other.name()))),
///         }
///     }
/// }
///
/// let device: Box<dyn Device> = Box::new(Interpreter::new(Adder(HostMemory)));
/// # drop(device);
/// ```
pub trait Kernels: Send {
    /// The memory that the kernels compute in: [`HostMemory`], or the device's own.
    type Memory: Memory;

    /// The memory.
    fn memory(&mut self) -> &mut Self::Memory;

    /// What is computed, on which types: the one source of [`Device::supports`](crate::Device::supports). A macro
    /// operation that is not claimed is lowered; `copy` and `reshape` need no claim, because the interpreter does
    /// them with [`Memory::copy`].
    fn claims(&self) -> &'static [Claim];

    /// Computes one node, which is one of those claimed.
    ///
    /// The sizes are those of this step, and at least one result has an element. The results' memory is nobody
    /// else's and its contents are unspecified, except that for an operation in place the one output is the table as
    /// it was, and the inputs are the operands after it.
    ///
    /// # Errors
    /// What only the contents of an input can make wrong (an index outside its table), memory that is not there,
    /// a lost device. The interpreter puts the node in front of the message.
    fn eval(&mut self, node: NodeView<'_, <Self::Memory as Memory>::Buf>) -> Result<(), BackendError>;

    /// Ends a step, also one that failed: a device that records its work submits it here.
    ///
    /// # Errors
    /// [`ErrorCode::DeviceLost`](camelid_core::backend::ErrorCode::DeviceLost).
    fn end_step(&mut self) -> Result<(), BackendError> {
        Ok(())
    }
}
