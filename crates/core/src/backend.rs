//! The [`Backend`] and [`Device`] traits: what somebody with a new accelerator implements.
//!
//! A backend lists devices and opens them; a device owns memory and runs compiled graphs. That is all: models,
//! caches, samplers and servers live above and reach a device only through these functions.
//!
//! # The life of a device
//!
//! 1. **Ask.** For every node of every graph it will need, the host asks [`Device::supports`]. `Lower` makes the
//!    host rebuild that node from core operations; `No` ends the loading with your reason in the message.
//! 2. **Load.** Each weight is handed over once ([`Device::load_weight`]). Keep the bytes where they are, copy them,
//!    or repack them; the answer says which.
//! 3. **Allocate** inputs, caches and outputs ([`Device::alloc`]).
//! 4. **Compile** ([`Device::compile`]): the graph, and for each bound value the buffer it lives in. Everything that
//!    can be decided is decided here: fusion, memory, kernels. The graph is borrowed; keep what you need of it.
//! 5. **Step.** Write the inputs, [`Device::run`] with the values of the symbols, read the outputs. Addresses never
//!    change, so a step can be a recorded command buffer or a captured graph.
//!
//! # Threads, order, failure
//!
//! A device is [`Send`] but not `Sync`: one thread drives it at a time, and calls take effect in the order they are
//! made. `run` may return before the work is done; `read` and `sync` wait for it. An error leaves the device usable
//! unless its code is [`ErrorCode::DeviceLost`]; nothing may panic, and no fallback to another device may happen
//! behind the host's back.
//!
//! The reference backend (`plugins/reference`) is the implementation to read next to this page.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use crate::Bytes;
use crate::graph::{Graph, NodeId, SymbolValues, TensorType, ValueId};

/// A kind of hardware: lists its devices and opens them.
pub trait Backend: Send + Sync {
    /// The name in `backend = "..."`: lower-case letters, digits, `-` and `_`; unique among the loaded backends.
    fn name(&self) -> &str;

    /// The version shown beside the name.
    fn version(&self) -> &str;

    /// The devices there are. An empty list comes with the reason ("libcuda.so.1 not found").
    fn devices(&self) -> Result<Devices, BackendError>;

    /// Opens device `index` of [`Backend::devices`].
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`] for an index that is not there or an option that is not known
    /// ([`Options::reject_unknown`]); [`ErrorCode::DeviceLost`] if the device does not answer.
    fn open(&self, index: usize, options: &Options) -> Result<Box<dyn Device>, BackendError>;
}

/// An open device: memory, and plans that run on it.
pub trait Device: Send {
    /// Whether this device computes node `node` of `graph` as it stands: operation, types, shapes and symbol range.
    ///
    /// The host believes the answer, and the conformance suite tests it: a claim that `compile` then refuses is a bug.
    fn supports(&self, graph: &Graph, node: NodeId) -> Support;

    /// [`Device::supports`] for every node of `graph`, in order: what the host asks. A device that is far away
    /// answers it in one go.
    ///
    /// # Errors
    /// If the device fails to answer; a node it does not compute is no error.
    fn supports_all(&self, graph: &Graph) -> Result<Vec<Support>, BackendError> {
        Ok(graph.node_ids().map(|node| self.supports(graph, node)).collect())
    }

    /// Memory of `buffer.size` bytes. Its contents are unspecified.
    fn alloc(&mut self, buffer: &BufferDesc) -> Result<BufferId, BackendError>;

    /// Takes a weight. The buffer may be bound only as a weight of the same type, and is never written.
    fn load_weight(&mut self, weight: Weight) -> Result<LoadedWeight, BackendError>;

    /// Copies `src` into a buffer, `offset` bytes from its start.
    fn write(&mut self, buffer: BufferId, offset: usize, src: &[u8]) -> Result<(), BackendError>;

    /// Copies from a buffer into `dst`, after all earlier work is done.
    fn read(&mut self, buffer: BufferId, offset: usize, dst: &mut [u8]) -> Result<(), BackendError>;

    /// Copies `len` bytes between buffers of this device, or inside one where the ranges do not overlap.
    fn copy(&mut self, to: Location, from: Location, len: usize) -> Result<(), BackendError>;

    /// Gives a buffer back. Plans bound to it must not run any more.
    fn free(&mut self, buffer: BufferId);

    /// Makes a plan of `graph`, with every value of [`Graph::bound_values`] living where `bindings` says.
    fn compile(&mut self, graph: &Graph, bindings: &[Binding]) -> Result<PlanId, BackendError>;

    /// Runs a plan for one step. `symbols` lie in the graph's range.
    fn run(&mut self, plan: PlanId, symbols: &SymbolValues) -> Result<(), BackendError>;

    /// Gives a plan back.
    fn free_plan(&mut self, plan: PlanId);

    /// Waits until all work is done.
    fn sync(&mut self) -> Result<(), BackendError>;
}

/// What a backend found when it looked for devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Devices {
    /// The devices, in the order of the index that [`Backend::open`] takes.
    pub list: Vec<DeviceInfo>,
    /// Why there are none, or why some are left out.
    pub note: Option<String>,
}

/// A device as `camelid backends` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// The maker's name for it.
    pub name: String,
    /// What sort of hardware it is.
    pub kind: DeviceKind,
    /// Memory in bytes, if known.
    pub memory: Option<u64>,
}

/// What sort of hardware a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The processor the host runs on.
    Cpu,
    /// A graphics processor.
    Gpu,
    /// Anything else.
    Accelerator,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Gpu => "gpu",
            DeviceKind::Accelerator => "accelerator",
        })
    }
}

/// A device's answer to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It computes the node as it stands.
    Yes,
    /// It does not, but would compute its lowering.
    Lower {
        /// Why, for `camelid explain`.
        reason: String,
    },
    /// It cannot. Names what is missing and what would be supported.
    No {
        /// Why, for the error message.
        reason: String,
    },
}

/// Key/value settings of a device, from `[backends.NAME]` in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<String, String>);

impl Options {
    /// The value of `key`, if it is set.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Sets `key`.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.insert(key.into(), value.into());
    }

    /// The keys and values, in order of key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// The value of `key` as a number, if it is set.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`] naming the key and the value if it is no such number.
    pub fn number(&self, key: &str) -> Result<Option<usize>, BackendError> {
        self.get(key)
            .map(|v| {
                v.parse().map_err(|_| BackendError::invalid(format!("option `{key}` = `{v}` is not a whole number")))
            })
            .transpose()
    }

    /// Refuses keys that are not in `known`, so that a misspelt option is never silently without effect.
    pub fn reject_unknown(&self, known: &[&str]) -> Result<(), BackendError> {
        match self.0.keys().find(|k| !known.contains(&k.as_str())) {
            None => Ok(()),
            Some(key) if known.is_empty() => {
                Err(BackendError::invalid(format!("unknown option `{key}`; there are none")))
            }
            Some(key) => {
                Err(BackendError::invalid(format!("unknown option `{key}`; the options are: {}", known.join(", "))))
            }
        }
    }
}

/// A buffer of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferId(pub u64);

/// A plan of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlanId(pub u64);

/// A place in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The buffer.
    pub buffer: BufferId,
    /// Bytes from its start.
    pub offset: usize,
}

/// What memory is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferDesc {
    /// What it is for, in messages ("kv cache: layer 3 keys").
    pub name: String,
    /// Bytes.
    pub size: usize,
    /// How it will be used: a device may place it accordingly.
    pub usage: BufferUsage,
}

/// How a buffer is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferUsage {
    /// Written by the host before every step.
    Input,
    /// Read by the host after a step.
    Output,
    /// Kept and changed by the device from step to step.
    State,
}

/// A weight on its way to a device.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Its tensor's name in Hugging Face form.
    pub name: String,
    /// Element type and shape; all dimensions fixed.
    pub ty: TensorType,
    /// The bytes, row after row as they lie in the file, at any alignment. Keeping a clone aliases them: they stay
    /// mapped until it is dropped.
    pub data: Bytes,
    /// Whether the device may keep the weight in a layout of its own.
    pub may_repack: bool,
}

/// A weight a device has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedWeight {
    /// Where it is.
    pub buffer: BufferId,
    /// How it got there.
    pub placement: Placement,
}

/// What a device did with a weight's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// It reads them where they are.
    Aliased,
    /// It has a copy.
    Copied,
    /// It has them in a layout of its own.
    Repacked,
}

/// Where a bound value of a graph lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The value.
    pub value: ValueId,
    /// Its memory: at least as large as the value at the range's maximum.
    pub location: Location,
}

/// What went wrong, for programs. The codes are part of the plugin ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The caller asked for something that makes no sense.
    Invalid,
    /// The device cannot do this.
    Unsupported,
    /// There is not enough memory.
    OutOfMemory,
    /// The device is gone; only freeing and closing make sense now.
    DeviceLost,
    /// The host asked to stop.
    Aborted,
    /// Anything else.
    Internal,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorCode::Invalid => "invalid request",
            ErrorCode::Unsupported => "not supported",
            ErrorCode::OutOfMemory => "out of memory",
            ErrorCode::DeviceLost => "device lost",
            ErrorCode::Aborted => "aborted",
            ErrorCode::Internal => "internal error",
        })
    }
}

/// An error of a backend: a code for programs and a sentence for people.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{code}: {message}")]
pub struct BackendError {
    /// What went wrong.
    pub code: ErrorCode,
    /// Tensor, operation, sizes, and what to do.
    pub message: String,
}

impl BackendError {
    /// An error with this code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> BackendError {
        BackendError { code, message: message.into() }
    }

    /// [`ErrorCode::Invalid`].
    pub fn invalid(message: impl Into<String>) -> BackendError {
        BackendError::new(ErrorCode::Invalid, message)
    }

    /// [`ErrorCode::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> BackendError {
        BackendError::new(ErrorCode::Unsupported, message)
    }
}

/// A backend linked into the program, registered with [`inventory`] (`camelid_sdk::link_backend!` does it).
///
/// A crate that nothing refers to is dropped by the linker together with its registration, so the program that
/// wants the backend says `use my_backend as _;`.
#[derive(Debug)]
pub struct LinkedBackend {
    /// The backend's name.
    pub name: &'static str,
    /// Makes it.
    pub make: fn() -> Box<dyn Backend>,
}

inventory::collect!(LinkedBackend);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_option_is_refused_by_name() {
        let mut options = Options::default();
        options.set("thread", "2");
        let error = options.reject_unknown(&["threads"]).unwrap_err();
        assert_eq!(error.message, "unknown option `thread`; the options are: threads");
        options.set("threads", "many");
        assert!(options.number("threads").unwrap_err().message.contains("`threads` = `many`"));
    }
}
