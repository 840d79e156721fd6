//! Camelid's reference backend: one plain way to compute every operation, exact, deterministic, on the processor.
//!
//! Here live the kernels that every other backend is compared with, and the smallest complete [`Backend`]; tricks
//! that make a kernel harder to read may not, however fast. Start with `src/ops/linear.rs`; the last to read is
//! `src/ops/attention.rs`.
//!
//! # What it promises
//!
//! - Numbers are f32, f16 or bf16 where they are stored and f64 where they are summed; a result is rounded once.
//! - The same bits for any number of threads: work is divided between independent results, never inside a sum.
//! - The bits of a token's row do not depend on the other rows: prefill, chunked prefill and decoding token by token
//!   agree exactly, and so do a batch and its sequences one by one.
//! - Every index that comes from the host is checked, and a wrong one is an error that names it.
//!
//! # How to read it
//!
//! It is the example for plugin authors. A backend answers five questions, and each has its file:
//!
//! 1. `lib.rs`: what am I called, which devices are there, which options do I take? ([`Backend`])
//! 2. `claims.rs`: which operations on which types? One table, from which `supports` is answered.
//! 3. `buffers.rs` (over `memory.rs`): where do bytes live? Weights stay where they are, in the memory map.
//! 4. `plan.rs` (with `bindings.rs`): what can be decided before the first step? Where every value lives and when it
//!    dies.
//! 5. `run.rs`: how is a step computed? Node by node; `ops/mod.rs` picks the kernel, and `ops/NAME.rs` is the kernel,
//!    next to `camelid_core::ops::NAME`, which says what it has to compute.
//!
//! `device.rs` puts them together. A backend for other hardware replaces 3 and the kernels and keeps the rest.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod bindings;
mod buffers;
mod claims;
mod device;
mod dot;
mod error;
mod memory;
mod ops;
mod plan;
mod run;
mod tensor;

use std::thread;

use camelid_core::Device;
use camelid_core::backend::{Backend, BackendError, DeviceInfo, DeviceKind, Devices, Options};

use crate::device::ReferenceDevice;

/// The backend's name in `backend = "..."`.
pub const NAME: &str = "reference";

/// The most threads the option `threads` takes.
pub const MAX_THREADS: usize = 1024;

camelid_sdk::link_backend!(NAME, || Box::new(ReferenceBackend));

/// The reference backend. It has one device, the processor, and one option:
///
/// - `threads`, 1 to [`MAX_THREADS`]: how many threads compute; as many as the processor runs at once unless given.
///   The results do not depend on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReferenceBackend;

impl Backend for ReferenceBackend {
    fn name(&self) -> &str {
        NAME
    }

    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    fn devices(&self) -> Result<Devices, BackendError> {
        let cpu = DeviceInfo { name: "Reference CPU".into(), kind: DeviceKind::Cpu, memory: None };
        Ok(Devices { list: vec![cpu], note: None })
    }

    fn open(&self, index: usize, options: &Options) -> Result<Box<dyn Device>, BackendError> {
        options.reject_unknown(&["threads"])?;
        if index != 0 {
            return Err(BackendError::invalid(format!(
                "there is no device {index}; the reference backend has device 0"
            )));
        }
        let threads = match options.number("threads")? {
            Some(n) if (1..=MAX_THREADS).contains(&n) => n,
            Some(n) => {
                return Err(BackendError::invalid(format!("option `threads` = {n} is not in 1..={MAX_THREADS}")));
            }
            None => thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS)),
        };
        Ok(Box::new(ReferenceDevice::new(threads)?))
    }
}
