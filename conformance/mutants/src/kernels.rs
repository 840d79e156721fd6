//! [`FaultyKernels`]: the reference's operations, one at a time, with a fault in one of them.

use camelid_core::backend::{BackendError, Device};
use camelid_core::graph::{Dim, GraphBuilder, SymbolRange, SymbolValues, TensorType, ValueId};
use camelid_core::ops::{CACHE_TYPES, Op};
use camelid_core::{DType, lower};
use camelid_sdk::kernels::testing::evaluate;
use camelid_sdk::kernels::{Claim, DEQUANTIZABLE, HostBuf, HostMemory, INDICES, Kernels, NodeView};

use crate::faults::Fault;
use crate::fire;
use crate::tensor::Tensor;

const FLOATS: &[DType] = &[DType::F32, DType::F16, DType::BF16];

/// What the reference backend computes.
const CLAIMS: &[Claim] = &[
    Claim::new("gather_rows", &[DEQUANTIZABLE, INDICES]),
    Claim::new("linear", &[FLOATS, DEQUANTIZABLE, FLOATS]),
    Claim::new("bmm", &[FLOATS, FLOATS]),
    Claim::new("rms_norm", &[FLOATS, FLOATS]),
    Claim::new("rope", &[FLOATS, FLOATS, FLOATS]),
    Claim::new("add", &[FLOATS, FLOATS]),
    Claim::new("mul", &[FLOATS, FLOATS]),
    Claim::new("activation", &[FLOATS]),
    Claim::new("softmax", &[FLOATS, FLOATS]),
    Claim::new("scatter_rows", &[CACHE_TYPES, CACHE_TYPES, INDICES]),
    Claim::new("cast", &[DEQUANTIZABLE]).with_block_results(&[DType::Q8_0]),
    Claim::new("kv_append", &[CACHE_TYPES, FLOATS, INDICES]),
    Claim::new("attention", &[FLOATS, CACHE_TYPES, CACHE_TYPES, INDICES, INDICES, INDICES]),
    Claim::new("swiglu", &[FLOATS, FLOATS]),
    Claim::new("qkv_linear", &[FLOATS, DEQUANTIZABLE, DEQUANTIZABLE, DEQUANTIZABLE, FLOATS, FLOATS, FLOATS]),
    Claim::new("add_rms_norm", &[FLOATS, FLOATS, FLOATS]),
];

/// The same without macro operations.
const CORE: &[Claim] = CLAIMS.split_at(11).0;

/// An operation under way: what a fault may look at and change.
#[derive(Clone, Debug)]
pub struct Call {
    /// The operation.
    pub op: Op,
    /// Its operands; of an operation in place the table is the first.
    pub inputs: Vec<Tensor>,
}

impl Call {
    /// The index of an operand by its name.
    pub fn input(&mut self, name: &str) -> Option<&mut Tensor> {
        let at = self.op.operand_names().iter().position(|n| *n == name)?;
        self.inputs.get_mut(at)
    }
}

/// Computes calls honestly.
pub struct Honest(Box<dyn Device>);

impl Honest {
    /// Over an open device of the reference backend.
    pub fn new(device: Box<dyn Device>) -> Honest {
        Honest(device)
    }

    /// The results of a call.
    pub fn compute(&mut self, call: &Call) -> Result<Vec<Tensor>, BackendError> {
        let one = SymbolValues::new(1, 1, 1, 1);
        let mut g = GraphBuilder::new(SymbolRange { min: one, max: one });
        let broken = |e: String| BackendError::invalid(format!("{}: {e}", call.op.name()));
        let (mut ids, mut contents): (Vec<ValueId>, Vec<(String, Vec<u8>)>) = (Vec::new(), Vec::new());
        let in_place = call.op.changes_in_place();
        for (i, tensor) in call.inputs.iter().enumerate() {
            let dims: Vec<Dim> = tensor.dims.iter().map(|d| (*d).into()).collect();
            let ty = TensorType::new(tensor.dtype, &dims).ok_or_else(|| broken("no such type".into()))?;
            let name = format!("v{i}");
            let id = if in_place == Some(i) { g.state(&name, ty) } else { g.input(&name, ty) };
            ids.push(id.map_err(|e| broken(e.to_string()))?);
            contents.push((name, tensor.bytes.clone()));
        }
        let outputs = g.push(call.op.clone(), &ids).map_err(|e| broken(e.to_string()))?;
        let types: Vec<TensorType> = outputs.iter().map(|v| g.ty(*v)).collect();
        for (i, output) in outputs.iter().enumerate() {
            g.output(format!("out{i}"), *output).map_err(|e| broken(e.to_string()))?;
        }
        let contents: Vec<(&str, Vec<u8>)> = contents.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
        let mut graph = g.finish();
        if matches!(call.op, Op::Swiglu | Op::QkvLinear | Op::AddRmsNorm { .. }) {
            // The reference leaves these to the host.
            graph = lower::lower_all(&graph).map_err(|e| broken(e.to_string()))?;
        }
        let results = evaluate(&mut *self.0, &graph, &contents, &one)?;
        let tensor =
            |(ty, bytes): (TensorType, Vec<u8>)| Tensor { dtype: ty.dtype, dims: ty.shape.resolve(&one), bytes };
        Ok(types.into_iter().zip(results).map(tensor).collect())
    }
}

/// The reference's operations with a fault.
pub struct FaultyKernels {
    memory: HostMemory,
    honest: Honest,
    fault: Option<Fault>,
    macros: bool,
}

impl FaultyKernels {
    /// `macros`: whether macro operations are claimed.
    pub fn new(honest: Honest, fault: Option<Fault>, macros: bool) -> FaultyKernels {
        FaultyKernels { memory: HostMemory, honest, fault, macros }
    }
}

impl Kernels for FaultyKernels {
    type Memory = HostMemory;

    fn memory(&mut self) -> &mut HostMemory {
        &mut self.memory
    }

    fn claims(&self) -> &'static [Claim] {
        if self.macros { CLAIMS } else { CORE }
    }

    fn eval(&mut self, node: NodeView<'_, HostBuf>) -> Result<(), BackendError> {
        let NodeView { op, inputs, mut outputs } = node;
        let mut operands: Vec<Tensor> =
            inputs.iter().map(|v| Tensor { dtype: v.dtype, dims: v.dims.clone(), bytes: v.bytes().to_vec() }).collect();
        if op.changes_in_place().is_some() {
            let table = &outputs[0];
            let bytes = table.buf.bytes()[table.offset..table.offset + table.len].to_vec();
            operands.insert(0, Tensor { dtype: table.dtype, dims: table.dims.clone(), bytes });
        }
        let call = Call { op: op.clone(), inputs: operands };
        let right = self.honest.compute(&call);
        let results = match self.fault {
            None => right?,
            Some(fault) => {
                let wrong = fault(&mut self.honest, call, right.clone());
                if wrong != right {
                    fire();
                }
                wrong?
            }
        };
        for (output, result) in outputs.iter_mut().zip(results) {
            let (offset, len) = (output.offset, output.len);
            output.buf.bytes_mut()?[offset..offset + len].copy_from_slice(&result.bytes[..len]);
        }
        Ok(())
    }
}
