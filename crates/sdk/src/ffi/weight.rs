//! A weight's bytes on both sides of the border: who keeps them alive, and who lets go.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use camelid_abi as abi;
use camelid_core::Bytes;

/// The host's bytes in the plugin: calls `release` when the last clone is dropped, if it was armed by then.
pub(crate) struct Borrowed {
    data: *const u8,
    len: usize,
    armed: AtomicBool,
    release: unsafe extern "C" fn(*mut c_void),
    ctx: *mut c_void,
}

// SAFETY: the bytes are read only, and `release` may be called from any thread.
unsafe impl Send for Borrowed {}
// SAFETY: as above.
unsafe impl Sync for Borrowed {}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the bytes live until `release`, which the drop of this value calls.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if self.armed.load(Ordering::Acquire) {
            // SAFETY: once, with the host's own context.
            unsafe { (self.release)(self.ctx) }
        }
    }
}

/// A weight's bytes as a backend gets them.
pub(crate) enum WeightIn {
    /// They may be kept.
    Shared(Arc<Borrowed>),
    /// They are the backend's own copy: the host did not allow more.
    Own(Bytes),
}

impl WeightIn {
    /// The bytes of `weight`.
    ///
    /// # Safety
    /// `weight.data` points to `weight.size` bytes that live for the call, and until `release` if it may be aliased.
    pub(crate) unsafe fn new(weight: &abi::Weight) -> Option<WeightIn> {
        let len = usize::try_from(weight.size).ok()?;
        if weight.data.is_null() {
            return None;
        }
        if let (true, Some(release)) = (weight.flags & abi::WEIGHT_MAY_ALIAS != 0, weight.release) {
            let (data, ctx) = (weight.data.cast(), weight.release_ctx);
            return Some(WeightIn::Shared(Arc::new(Borrowed {
                data,
                len,
                armed: AtomicBool::new(false),
                release,
                ctx,
            })));
        }
        // SAFETY: by contract.
        let bytes = unsafe { std::slice::from_raw_parts(weight.data.cast::<u8>(), len) };
        Some(WeightIn::Own(Bytes::from(bytes.to_vec())))
    }

    /// The bytes, to hand to the backend.
    pub(crate) fn bytes(&self) -> Bytes {
        match self {
            WeightIn::Shared(owner) => Bytes::new(owner.clone()),
            WeightIn::Own(bytes) => bytes.clone(),
        }
    }

    /// Whether the backend keeps the host's bytes: the truth, whatever it says of the placement.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self, WeightIn::Shared(owner) if Arc::strong_count(owner) > 1)
    }

    /// From now on the last one to drop the bytes releases them.
    pub(crate) fn arm(&self) {
        if let WeightIn::Shared(owner) = self {
            owner.armed.store(true, Ordering::Release);
        }
    }
}

/// The host's bytes on their way out, as `release_ctx`.
pub(crate) fn lend(bytes: Bytes) -> *mut c_void {
    Box::into_raw(Box::new(bytes)).cast()
}

/// Takes back what [`lend`] gave: the plugin does not keep it.
///
/// # Safety
/// `ctx` comes from [`lend`], and neither this nor [`release`] was called with it.
pub(crate) unsafe fn take_back(ctx: *mut c_void) {
    // SAFETY: by contract.
    drop(unsafe { Box::from_raw(ctx.cast::<Bytes>()) });
}

/// `Weight::release` of this host.
pub(crate) unsafe extern "C" fn release(ctx: *mut c_void) {
    if !ctx.is_null() {
        // SAFETY: the plugin calls this once with what `lend` gave.
        unsafe { take_back(ctx) }
    }
}
