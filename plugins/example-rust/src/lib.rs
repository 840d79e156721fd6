//! An example backend: Camelid's core operations in f32, on one thread of the processor.
//!
//! This file says what the backend is called, which devices and options there are, and what it computes; the
//! arithmetic is in `kernels.rs`, and nothing else is needed. To make a backend of your own, copy the folder, change
//! the names (also in `Cargo.toml` and the `.plugin.toml`), and replace the kernels one by one.

#![deny(missing_docs)]
#![deny(unsafe_code)]

mod kernels;

use camelid_sdk::core::DType;
use camelid_sdk::core::backend::{BackendError, DeviceInfo, DeviceKind, Devices, Options};
use camelid_sdk::core::graph::{Graph, Node};
use camelid_sdk::core::ops::{Activation, Op};
use camelid_sdk::kernels::{Claim, DEQUANTIZABLE, F32, HostBuf, HostMemory, INDICES, Kernels, NodeView};
use camelid_sdk::{Backend, Device, Interpreter, Level, log};

camelid_sdk::export_backend!("example", || Box::new(Example));

/// The backend. It has one device and one option: `trace`, `"true"` or `"false"`, logs every operation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Example;

impl Backend for Example {
    fn name(&self) -> &str {
        "example"
    }

    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    fn devices(&self) -> Result<Devices, BackendError> {
        let cpu = DeviceInfo { name: "Example CPU".into(), kind: DeviceKind::Cpu, memory: None };
        Ok(Devices { list: vec![cpu], note: None })
    }

    fn open(&self, index: usize, options: &Options) -> Result<Box<dyn Device>, BackendError> {
        options.reject_unknown(&["trace"])?;
        let trace = match options.get("trace").unwrap_or("false") {
            "true" => true,
            "false" => false,
            other => {
                return Err(BackendError::invalid(format!("option `trace` = `{other}` is neither `true` nor `false`")));
            }
        };
        match index {
            0 => Ok(Box::new(Interpreter::new(ExampleKernels { memory: HostMemory, trace }))),
            _ => Err(BackendError::invalid(format!("there is no device {index}; there is only device 0"))),
        }
    }
}

/// Everything that is computed here. Macro operations are not claimed, so the host builds them from these.
const CLAIMS: &[Claim] = &[
    Claim::new("gather_rows", &[DEQUANTIZABLE, INDICES]),
    Claim::new("linear", &[F32, DEQUANTIZABLE, DEQUANTIZABLE]),
    Claim::new("bmm", &[F32, F32]),
    Claim::new("rms_norm", &[F32, DEQUANTIZABLE]),
    Claim::new("rope", &[F32, F32, F32]),
    Claim::new("add", &[F32, F32]),
    Claim::new("mul", &[F32, F32]),
    Claim::new("activation", &[F32]).with_limit(only_silu_and_f32),
    Claim::new("softmax", &[F32, F32]),
    Claim::new("scatter_rows", &[F32, F32, INDICES]),
    Claim::new("cast", &[DEQUANTIZABLE]).with_limit(only_silu_and_f32),
];

/// What types alone do not say.
fn only_silu_and_f32(_: &Graph, node: &Node) -> Result<(), String> {
    match &node.op {
        Op::Activation(kind) if *kind != Activation::Silu => {
            Err(format!("there is no kernel for {}; supported: silu", kind.name()))
        }
        Op::Cast { to } if *to != DType::F32 => Err(format!("a result of type {to} is not supported; supported: f32")),
        _ => Ok(()),
    }
}

/// The device, as far as it is not the same for every backend.
struct ExampleKernels {
    memory: HostMemory,
    trace: bool,
}

impl Kernels for ExampleKernels {
    type Memory = HostMemory;

    fn memory(&mut self) -> &mut HostMemory {
        &mut self.memory
    }

    fn claims(&self) -> &'static [Claim] {
        CLAIMS
    }

    fn eval(&mut self, node: NodeView<'_, HostBuf>) -> Result<(), BackendError> {
        if self.trace {
            log(Level::Info, "example", &format!("{} -> {:?}", node.op.name(), node.outputs[0].dims));
        }
        kernels::eval(node)
    }
}
