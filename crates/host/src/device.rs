//! [`DeviceHandle`] and [`Buffer`]: a device and its memory, freed by themselves in the right order.
//!
//! The handles check every call before it reaches the backend (ranges, owners, uses), so that a backend sees only
//! calls that make sense, and its author needs no second line of checks.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use camelid_core::Device;
use camelid_core::backend::{
    BackendError, BufferDesc, BufferId, ErrorCode, LoadedWeight, Location, Placement, PlanId, Weight,
};
use camelid_core::graph::{Dim, SymbolValues, TensorType};

use crate::error::HostError;

/// An open device. Clones are the same device.
///
/// Calls from several threads take turns. The device closes when the last handle, buffer and plan is gone: plans
/// are freed before the buffers they are bound to, and those before the device.
#[derive(Clone)]
pub struct DeviceHandle {
    pub(crate) shared: Arc<Shared>,
}

/// A device with its bookkeeping, shared by all its handles.
pub(crate) struct Shared {
    backend: String,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) device: Box<dyn Device>,
    /// Set once the device is lost: from then on it is only freed and closed.
    lost: Option<String>,
    buffers: HashSet<BufferId>,
    plans: HashSet<PlanId>,
}

impl DeviceHandle {
    pub(crate) fn new(backend: &str, device: Box<dyn Device>) -> DeviceHandle {
        let state = State { device, lost: None, buffers: HashSet::new(), plans: HashSet::new() };
        DeviceHandle { shared: Arc::new(Shared { backend: backend.to_owned(), state: Mutex::new(state) }) }
    }

    /// The name of the device's backend.
    pub fn backend(&self) -> &str {
        &self.shared.backend
    }

    /// Memory of `desc.size` bytes, contents unspecified.
    ///
    /// A device is never asked for an empty buffer: it gets one of a byte instead, of which nothing can be used.
    ///
    /// # Errors
    /// [`HostError::Backend`], with [`ErrorCode::OutOfMemory`] if there is not enough.
    pub fn alloc(&self, desc: BufferDesc) -> Result<Buffer, HostError> {
        let operation = || format!("allocate `{}` ({} bytes)", desc.name, desc.size);
        let asked = BufferDesc { size: desc.size.max(1), ..desc.clone() };
        let mut state = self.shared.lock(operation)?;
        let id = self.shared.check(&mut state, operation, |device| device.alloc(&asked))?;
        self.shared.claim_buffer(&mut state, id, operation)?;
        Ok(self.buffer(id, desc.name, desc.size, None))
    }

    /// Hands a weight to the device, which answers what it did with the bytes. The buffer can be bound to plans as a
    /// weight of the same type, and nothing else.
    ///
    /// # Errors
    /// [`HostError::Weight`] if the bytes do not make the type; [`HostError::Backend`] if the device cannot take it.
    pub fn load_weight(&self, weight: Weight) -> Result<(Buffer, Placement), HostError> {
        let size = self.weight_size(&weight)?;
        let (name, ty) = (weight.name.clone(), weight.ty);
        let operation = || format!("load weight `{name}` ({ty}, {size} bytes)");
        let mut state = self.shared.lock(operation)?;
        let loaded = self.shared.check(&mut state, operation, |device| device.load_weight(weight))?;
        let LoadedWeight { buffer, placement } = loaded;
        self.shared.claim_buffer(&mut state, buffer, operation)?;
        drop(state);
        Ok((self.buffer(buffer, name, size, Some(ty)), placement))
    }

    /// The bytes `weight` takes, once its type and data agree on them.
    fn weight_size(&self, weight: &Weight) -> Result<usize, HostError> {
        let wrong = |problem: String| {
            Err(HostError::Weight {
                backend: self.backend().to_owned(),
                tensor: weight.name.clone(),
                ty: weight.ty,
                problem,
            })
        };
        if let Some(symbol) = weight.ty.shape.dims().iter().find(|d| matches!(d, Dim::Sym(_))) {
            return wrong(format!("dimension {symbol} changes from step to step; a weight's dimensions are fixed"));
        }
        match weight.ty.bytes(&SymbolValues::new(0, 0, 0, 0)) {
            None => wrong("its size overflows; the shape is wrong".into()),
            Some(0) => wrong("it has no elements; the shape is wrong".into()),
            Some(size) if size != weight.data.len() => {
                wrong(format!("the type takes {size} bytes, but there are {}; the file is damaged", weight.data.len()))
            }
            Some(size) => Ok(size),
        }
    }

    /// Copies `len` bytes from an offset in one buffer to an offset in another, or inside one where the ranges do not
    /// overlap.
    ///
    /// # Errors
    /// [`HostError::OutOfBounds`], [`HostError::OverlappingCopy`], [`HostError::ForeignBuffer`],
    /// [`HostError::WeightBuffer`], and [`HostError::Backend`].
    pub fn copy(&self, to: (&Buffer, usize), from: (&Buffer, usize), len: usize) -> Result<(), HostError> {
        for ((buffer, offset), operation) in [(to, "copy to"), (from, "copy from")] {
            self.owns(buffer, operation)?;
            buffer.plain(operation)?;
            buffer.within(operation, offset, len)?;
        }
        if to.0.id() == from.0.id() && to.1 < from.1 + len && from.1 < to.1 + len {
            return Err(HostError::OverlappingCopy {
                backend: self.backend().to_owned(),
                buffer: to.0.name().to_owned(),
                from: from.1,
                to: to.1,
                len,
            });
        }
        if len == 0 {
            return Ok(());
        }
        let place = |(buffer, offset): (&Buffer, usize)| Location { buffer: buffer.id(), offset };
        let operation = || format!("copy {len} bytes from `{}` to `{}`", from.0.name(), to.0.name());
        self.shared.call(operation, |device| device.copy(place(to), place(from), len))
    }

    /// Waits until all work is done.
    ///
    /// # Errors
    /// [`HostError::Backend`] if some of it failed.
    pub fn sync(&self) -> Result<(), HostError> {
        self.shared.call(|| "sync".into(), |device| device.sync())
    }

    /// Refuses a buffer of another device.
    pub(crate) fn owns(&self, buffer: &Buffer, operation: &'static str) -> Result<(), HostError> {
        if Arc::ptr_eq(&self.shared, &buffer.0.shared) {
            return Ok(());
        }
        Err(HostError::ForeignBuffer {
            backend: self.backend().to_owned(),
            operation,
            buffer: buffer.name().to_owned(),
            owner: buffer.0.shared.backend.clone(),
        })
    }

    fn buffer(&self, id: BufferId, name: String, size: usize, weight: Option<TensorType>) -> Buffer {
        Buffer(Arc::new(BufferInner { id, name, size, weight, shared: self.shared.clone() }))
    }
}

impl fmt::Debug for DeviceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceHandle").field("backend", &self.shared.backend).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn backend(&self) -> &str {
        &self.backend
    }

    /// The device, for the thread that drives it now; an error if it is lost or a call into it panicked.
    pub(crate) fn lock(&self, operation: impl Fn() -> String) -> Result<MutexGuard<'_, State>, HostError> {
        let Ok(state) = self.state.lock() else {
            return Err(HostError::Poisoned { backend: self.backend.clone(), operation: operation() });
        };
        match &state.lost {
            None => Ok(state),
            Some(reason) => {
                Err(HostError::Lost { backend: self.backend.clone(), operation: operation(), reason: reason.clone() })
            }
        }
    }

    /// Makes one call and, if it fails, says which and remembers whether the device is lost.
    pub(crate) fn check<R>(
        &self,
        state: &mut State,
        operation: impl Fn() -> String,
        call: impl FnOnce(&mut dyn Device) -> Result<R, BackendError>,
    ) -> Result<R, HostError> {
        call(&mut *state.device).map_err(|error| {
            if error.code == ErrorCode::DeviceLost {
                state.lost = Some(error.message.clone());
            }
            HostError::Backend { backend: self.backend.clone(), operation: operation(), error }
        })
    }

    /// [`Shared::lock`] and [`Shared::check`] for a single call.
    pub(crate) fn call<R>(
        &self,
        operation: impl Fn() -> String,
        call: impl FnOnce(&mut dyn Device) -> Result<R, BackendError>,
    ) -> Result<R, HostError> {
        let mut state = self.lock(&operation)?;
        self.check(&mut state, operation, call)
    }

    /// Notes a new buffer. One that is already there would be freed twice, so it is refused and not freed.
    fn claim_buffer(&self, state: &mut State, id: BufferId, operation: impl Fn() -> String) -> Result<(), HostError> {
        if state.buffers.insert(id) { Ok(()) } else { Err(self.reused("buffer", id.0, operation)) }
    }

    /// Notes a new plan, as [`Shared::claim_buffer`].
    pub(crate) fn claim_plan(
        &self,
        state: &mut State,
        id: PlanId,
        operation: impl Fn() -> String,
    ) -> Result<(), HostError> {
        if state.plans.insert(id) { Ok(()) } else { Err(self.reused("plan", id.0, operation)) }
    }

    fn reused(&self, what: &str, id: u64, operation: impl Fn() -> String) -> HostError {
        let problem = format!("it returned {what} id {id}, which it has given out before and not got back");
        HostError::Misbehaved { backend: self.backend.clone(), operation: operation(), problem }
    }

    fn free(&self, id: BufferId) {
        if let Some(mut state) = self.lock_to_free() {
            state.buffers.remove(&id);
            state.device.free(id);
        }
    }

    pub(crate) fn free_plan(&self, id: PlanId) {
        if let Some(mut state) = self.lock_to_free() {
            state.plans.remove(&id);
            state.device.free_plan(id);
        }
    }

    /// The device, also if it is lost. After a panic inside it nothing more is asked of it: closing it lets go of
    /// everything, and a second panic here, while the first unwinds, would end the process.
    fn lock_to_free(&self) -> Option<MutexGuard<'_, State>> {
        self.state.lock().ok()
    }
}

/// Memory of a device, or a weight it has taken. Clones are the same memory, freed when the last of them and the last
/// [`Plan`](crate::Plan) bound to it is gone.
#[derive(Clone)]
pub struct Buffer(Arc<BufferInner>);

struct BufferInner {
    id: BufferId,
    name: String,
    size: usize,
    /// The type, if the buffer is a weight.
    weight: Option<TensorType>,
    shared: Arc<Shared>,
}

impl Buffer {
    /// Bytes; of a weight those it takes in a file, whatever the device made of them.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Copies `src` into the buffer, `offset` bytes from its start.
    ///
    /// # Errors
    /// [`HostError::OutOfBounds`], [`HostError::WeightBuffer`], and [`HostError::Backend`].
    pub fn write(&self, offset: usize, src: &[u8]) -> Result<(), HostError> {
        self.plain("write")?;
        self.within("write", offset, src.len())?;
        if src.is_empty() {
            return Ok(());
        }
        let operation = || format!("write {} bytes at offset {offset} of `{}`", src.len(), self.name());
        self.0.shared.call(operation, |device| device.write(self.id(), offset, src))
    }

    /// Copies from the buffer, `offset` bytes from its start, into `dst`, after all earlier work is done.
    ///
    /// # Errors
    /// As [`Buffer::write`].
    pub fn read(&self, offset: usize, dst: &mut [u8]) -> Result<(), HostError> {
        self.plain("read")?;
        self.within("read", offset, dst.len())?;
        if dst.is_empty() {
            return Ok(());
        }
        let len = dst.len();
        let operation = || format!("read {len} bytes at offset {offset} of `{}`", self.name());
        self.0.shared.call(operation, |device| device.read(self.id(), offset, dst))
    }

    pub(crate) fn id(&self) -> BufferId {
        self.0.id
    }

    /// The type, if the buffer is a weight.
    pub(crate) fn weight(&self) -> Option<TensorType> {
        self.0.weight
    }

    fn plain(&self, operation: &'static str) -> Result<(), HostError> {
        if self.0.weight.is_none() {
            return Ok(());
        }
        let backend = self.0.shared.backend.clone();
        Err(HostError::WeightBuffer { backend, operation, buffer: self.name().to_owned() })
    }

    fn within(&self, operation: &'static str, offset: usize, len: usize) -> Result<(), HostError> {
        if offset.checked_add(len).is_some_and(|end| end <= self.size()) {
            return Ok(());
        }
        Err(HostError::OutOfBounds {
            backend: self.0.shared.backend.clone(),
            operation,
            buffer: self.name().to_owned(),
            size: self.size(),
            offset,
            len,
        })
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} `{}`, {} bytes)", self.0.shared.backend, self.name(), self.size())
    }
}

impl Drop for BufferInner {
    fn drop(&mut self) {
        self.shared.free(self.id);
    }
}
