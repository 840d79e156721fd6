//! Camelid's fast backend for processors.
//!
//! Here lives everything that makes a Llama fast on the processor: weights in panels for the vector instructions there are
//! (`formats/`), kernels written once for all of them (`isa/`), graphs turned into phases of fused operations (`plan/`,
//! `ops/`), and a team of threads (`pool.rs`). A policy of the engine may not. Read `plan/mod.rs` first, then
//! `ops/linear.rs` and `formats/mod.rs`.
//!
//! # What it promises
//!
//! - Sums of f32 and f16 weights are in f32. Block formats multiply activations rounded to 8 bits in blocks of 32, in whole
//!   numbers (math class `q8act`); bf16 weights multiply activations rounded to bf16 where the processor has instructions for
//!   it (math class `bf16`), f16 weights only if asked. Activations that 8 bits cannot say (infinities, NaN) are computed from the numbers themselves.
//! - The bits of a result do not depend on the number of threads, nor on what other tokens and sequences hold.
//! - The same bits for the same set of instructions; another set may give other bits.
//! - A step allocates nothing that grows with the model, and its threads sleep when there is nothing to do.

#![deny(missing_docs)]

mod activations;
#[doc(hidden)]
pub mod bench;
mod block;
mod claims;
mod device;
mod formats;
mod isa;
mod kernel;
mod memory;
mod ops;
mod plan;
mod pool;

use std::thread;

use camelid_core::Device;
use camelid_core::backend::{Backend, BackendError, DeviceInfo, DeviceKind, Devices, Options};

use crate::device::CpuDevice;
use crate::isa::IsaName;
use crate::kernel::Kernels;
use crate::pool::Pool;

/// The backend's name in `backend = "..."`.
pub const NAME: &str = "cpu";

/// The most threads the option `threads` takes.
pub const MAX_THREADS: usize = 1024;

camelid_sdk::link_backend!(NAME, || Box::new(CpuBackend));

/// The fast backend for processors. It has one device, the processor, and these options:
///
/// - `threads`, 1 to [`MAX_THREADS`]: how many threads compute; as many as the processor runs at once unless given;
/// - `pin`, `true` or `false` (unless given): whether each thread but the caller's stays on a processor of its own;
/// - `repack`, `auto` (unless given) or `never`: whether weights are put into panels when they are loaded; otherwise they are
///   used from the file's memory map, and packed at every step;
/// - `isa`: a set of instructions, `avx512-bf16`, `avx512`, `avx2`, `neon-i8mm`, `neon` or `portable`; the fastest there is
///   unless given;
/// - `f16`, `f32` (unless given) or `bf16`: what f16 weights are computed in. With `bf16`, they and their activations are rounded
///   to bf16 where the instructions multiply that (`avx512-bf16`), which makes long prompts faster; elsewhere nothing changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuBackend;

impl Backend for CpuBackend {
    fn name(&self) -> &str {
        NAME
    }

    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    fn devices(&self) -> Result<Devices, BackendError> {
        let name = format!("CPU ({})", IsaName::best());
        Ok(Devices { list: vec![DeviceInfo { name, kind: DeviceKind::Cpu, memory: None }], note: None })
    }

    fn open(&self, index: usize, options: &Options) -> Result<Box<dyn Device>, BackendError> {
        options.reject_unknown(&["threads", "pin", "repack", "isa", "f16"])?;
        if index != 0 {
            return Err(BackendError::invalid(format!("there is no device {index}; the cpu backend has device 0")));
        }
        let threads = match options.number("threads")? {
            Some(n) if (1..=MAX_THREADS).contains(&n) => n,
            Some(n) => {
                return Err(BackendError::invalid(format!("option `threads` = {n} is not in 1..={MAX_THREADS}")));
            }
            None => thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS)),
        };
        let pin = choice(options, "pin", &[("false", false), ("true", true)])?;
        let repack = choice(options, "repack", &[("auto", true), ("never", false)])?;
        let isa = match options.get("isa") {
            None => IsaName::best(),
            Some(name) => isa_named(name)?,
        };
        let f16_as_bf16 = choice(options, "f16", &[("f32", false), ("bf16", true)])?;
        let kernels = Kernels { isa, f16_as_bf16 };
        Ok(Box::new(CpuDevice::new(Pool::new(threads, pin)?, kernels, repack)))
    }
}

/// One of the words that an option takes; the first unless it is given.
fn choice<T: Copy>(options: &Options, key: &str, words: &[(&str, T)]) -> Result<T, BackendError> {
    let Some(value) = options.get(key) else { return Ok(words[0].1) };
    let found = words.iter().find(|(word, _)| *word == value);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        BackendError::invalid(format!("option `{key}` = `{value}`; it takes {}", words.join(" or ")))
    })
}

/// A set of instructions that is here.
fn isa_named(name: &str) -> Result<IsaName, BackendError> {
    let here = || {
        let here: Vec<_> = IsaName::ALL.into_iter().filter(|isa| isa.is_here()).map(IsaName::name).collect();
        here.join(", ")
    };
    match IsaName::ALL.into_iter().find(|isa| isa.name() == name) {
        Some(isa) if isa.is_here() => Ok(isa),
        Some(_) => Err(BackendError::unsupported(format!(
            "option `isa` = `{name}`: this processor does not have it; it has {}",
            here()
        ))),
        None => Err(BackendError::invalid(format!(
            "option `isa` = `{name}` is no set of instructions; here are {}",
            here()
        ))),
    }
}
