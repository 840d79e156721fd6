//! [`HostError`]: what can go wrong between the engine and a device.

use std::path::PathBuf;

use camelid_core::backend::{BackendError, ErrorCode};
use camelid_core::graph::{GraphError, Symbol, TensorType};
use thiserror::Error;

use crate::plugin::PluginError;
use crate::suggest::did_you_mean;

/// An error of the registry, of a device or of the checks in front of it.
///
/// The message is complete: it names the backend, what was attempted on what, and what to do. What a backend itself
/// said is part of it.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum HostError {
    /// No backend has this name.
    #[error("there is no backend `{name}`{hint}{list}", hint = did_you_mean(nearest.as_deref()),
            list = list_of_backends(known, failed))]
    UnknownBackend {
        /// The name asked for.
        name: String,
        /// The name that is most like it.
        nearest: Option<String>,
        /// All names there are, sorted.
        known: Vec<String>,
        /// Plugins whose names are not known, and why.
        failed: Vec<String>,
    },
    /// Two backends with one name.
    #[error("two backends are named `{name}`: {first} and {second}; leave one of them out")]
    DuplicateBackend {
        /// The name.
        name: String,
        /// Version and origin of the one that was there.
        first: String,
        /// Version and origin of the other.
        second: String,
    },
    /// The backend's plugin cannot be loaded.
    #[error("backend `{name}`: plugin {path}: {error}", path = path.display())]
    Plugin {
        /// The name it was to have; its file name if that is not known.
        name: String,
        /// Its library.
        path: PathBuf,
        /// Why.
        error: PluginError,
    },
    /// A backend's name breaks the rule, or is not the one it registered under.
    #[error("backend `{name}` ({from}): {problem}")]
    BackendName {
        /// The name.
        name: String,
        /// Version and origin.
        from: String,
        /// The rule it breaks.
        problem: String,
    },
    /// The backend has no such device.
    #[error("{backend}: there is no device {index}; {found}")]
    NoDevice {
        /// The backend.
        backend: String,
        /// The index asked for.
        index: usize,
        /// The devices there are, or why there are none.
        found: String,
    },
    /// The backend refused or failed.
    #[error("{backend}: {operation}: {error}")]
    Backend {
        /// The backend.
        backend: String,
        /// What was attempted, on what.
        operation: String,
        /// What the backend said.
        error: BackendError,
    },
    /// The device failed for good earlier.
    #[error("{backend}: {operation}: the device was lost earlier ({reason}); open it again and load the model anew")]
    Lost {
        /// The backend.
        backend: String,
        /// What was attempted.
        operation: String,
        /// What the backend said when the device was lost.
        reason: String,
    },
    /// A thread panicked while it drove the device.
    #[error(
        "{backend}: {operation}: an earlier call into the backend panicked, so the device's state is unknown; open it \
         again and load the model anew"
    )]
    Poisoned {
        /// The backend.
        backend: String,
        /// What was attempted.
        operation: String,
    },
    /// A range that leaves a buffer.
    #[error("{backend}: {operation} `{buffer}`: {len} bytes at offset {offset} do not fit in its {size} bytes")]
    OutOfBounds {
        /// The backend.
        backend: String,
        /// `write`, `read`, `copy to`, `copy from`.
        operation: &'static str,
        /// The buffer.
        buffer: String,
        /// Its size in bytes.
        size: usize,
        /// First byte of the range.
        offset: usize,
        /// Bytes of the range.
        len: usize,
    },
    /// A copy inside one buffer whose ranges overlap.
    #[error(
        "{backend}: copy inside `{buffer}`: {len} bytes from offset {from} to offset {to} overlap; copy by way of \
         another buffer"
    )]
    OverlappingCopy {
        /// The backend.
        backend: String,
        /// The buffer.
        buffer: String,
        /// First byte to copy from.
        from: usize,
        /// First byte to copy to.
        to: usize,
        /// Bytes to copy.
        len: usize,
    },
    /// A buffer of another device.
    #[error(
        "{backend}: {operation} `{buffer}`: the buffer belongs to another device (of {owner}); read it there and write it here"
    )]
    ForeignBuffer {
        /// The backend.
        backend: String,
        /// What was attempted.
        operation: &'static str,
        /// The buffer.
        buffer: String,
        /// The backend that made the buffer.
        owner: String,
    },
    /// A weight treated like memory.
    #[error(
        "{backend}: {operation} `{buffer}`: a loaded weight is in the device's own layout; it can only be bound to a plan"
    )]
    WeightBuffer {
        /// The backend.
        backend: String,
        /// What was attempted.
        operation: &'static str,
        /// The weight.
        buffer: String,
    },
    /// A weight whose bytes do not make its type.
    #[error("{backend}: load weight `{tensor}` ({ty}): {problem}")]
    Weight {
        /// The backend.
        backend: String,
        /// The tensor's name.
        tensor: String,
        /// Its type.
        ty: TensorType,
        /// What is wrong.
        problem: String,
    },
    /// A value of a graph without its buffer, or with a wrong one.
    #[error("{backend}: compile: value `{value}`: {problem}")]
    Binding {
        /// The backend.
        backend: String,
        /// The value's name.
        value: String,
        /// What is wrong and how to put it right.
        problem: String,
    },
    /// A step outside the range a plan was compiled for.
    #[error("{backend}: run: {symbol} is {value}, but the plan was compiled for {min} to {max}")]
    Symbol {
        /// The backend.
        backend: String,
        /// The symbol.
        symbol: Symbol,
        /// Its value.
        value: usize,
        /// Its smallest value.
        min: usize,
        /// Its largest value.
        max: usize,
    },
    /// A symbol's range that holds nothing.
    #[error("{backend}: compile: the range of {symbol} is empty: its least value {min} is above its largest {max}")]
    SymbolRange {
        /// The backend.
        backend: String,
        /// The symbol.
        symbol: Symbol,
        /// Its smallest value.
        min: usize,
        /// Its largest value.
        max: usize,
    },
    /// The device cannot compute a node.
    #[error("{backend}: {node}: {reason}{more}", more = and_more(*more))]
    Unsupported {
        /// The backend.
        backend: String,
        /// The node with its operands' types and its place in the model.
        node: String,
        /// What the device said.
        reason: String,
        /// How many more nodes it cannot compute.
        more: usize,
    },
    /// The device would have the node lowered, and the caller does not want that.
    #[error("{backend}: {node}: {reason}{more}; with on_unsupported = \"lower\" it is computed from core operations",
            more = and_more(*more))]
    NotLowered {
        /// The backend.
        backend: String,
        /// The node with its operands' types and its place in the model.
        node: String,
        /// What the device said.
        reason: String,
        /// How many more nodes it does not have.
        more: usize,
    },
    /// The device asks for the lowering of an operation that has none.
    #[error(
        "{backend}: {node}: the backend asks for this to be lowered ({reason}), but {op} is a core operation, which \
         every backend must compute; this is a fault of the backend"
    )]
    LowersCore {
        /// The backend.
        backend: String,
        /// The operation.
        op: &'static str,
        /// The node with its operands' types and its place in the model.
        node: String,
        /// What the device said.
        reason: String,
    },
    /// A lowering did not make a graph.
    #[error("{backend}: lowering: {error}")]
    Lowering {
        /// The backend.
        backend: String,
        /// What is wrong.
        error: GraphError,
    },
    /// The backend broke the rules of its interface.
    #[error("{backend}: {operation}: {problem}; this is a fault of the backend")]
    Misbehaved {
        /// The backend.
        backend: String,
        /// What was attempted.
        operation: String,
        /// The rule it broke.
        problem: String,
    },
}

impl HostError {
    /// The code the backend gave, if the error is the backend's own.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            HostError::Backend { error, .. } => Some(error.code),
            HostError::Lost { .. } => Some(ErrorCode::DeviceLost),
            _ => None,
        }
    }
}

fn list_of_backends(known: &[String], failed: &[String]) -> String {
    let known = match known {
        [] => "no backend is linked in".into(),
        _ => format!("the backends are: {}", known.join(", ")),
    };
    let failed: String = failed.iter().map(|why| format!("; not loaded: {why}")).collect();
    format!(" ({known}{failed})")
}

fn and_more(more: usize) -> String {
    match more {
        0 => String::new(),
        1 => " (and 1 more node)".into(),
        n => format!(" (and {n} more nodes)"),
    }
}
