//! The kernels, one file each, named as in `camelid_core::ops`, where each is defined.
//!
//! A kernel is a function from array views to an array view: no graph, no buffers, no types but f32 and indices.
//! [`compute`] stands between: it shows each operand as the array the kernel wants (`matrix` is `[.., D]` with all
//! leading dimensions in one) and stores the result in its type, rounded once.

pub(crate) mod activation;
mod add;
mod attention;
mod bmm;
mod cast;
mod copy;
mod gather_rows;
mod kv_append;
mod linear;
mod mul;
mod reshape;
mod rms_norm;
mod rope;
mod scatter_rows;
mod softmax;

use camelid_core::DType;
use camelid_core::ops::Op;
use ndarray::ArrayViewMut2;
use thiserror::Error;

use self::attention::Step;
use crate::memory::{Memory, OutOfMemory};
use crate::tensor::{Tensor, store};

/// What can be wrong with a step that no check before the step can see: the contents of its index inputs.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum OpError {
    #[error("operand `{operand}`: element {at} is {value}, but it must be {rule}")]
    Index { operand: &'static str, at: usize, value: i32, rule: String },
    #[error("operand `{operand}` has {found} elements, but it must have {expected}")]
    Length { operand: &'static str, found: usize, expected: usize },
    #[error("{0}; fewer tokens at a time or a shorter context need less")]
    OutOfMemory(#[from] OutOfMemory),
}

/// Computes `op`, which does not work in place, on the operands `x`: the bytes of its result of type `dtype` and
/// sizes `dims`.
pub(crate) fn compute(op: &Op, x: &[Tensor<'_>], dtype: DType, dims: &[usize]) -> Result<Memory, OpError> {
    let y = Target { dtype, dims };
    match op {
        Op::GatherRows => y.try_bytes(|y| gather_rows::gather_rows(&x[0], &x[1].indices(), y)),
        Op::Copy => y.bytes(|y| copy::copy(x[0].bytes, y)),
        Op::Reshape { .. } => y.bytes(|y| reshape::reshape(x[0].bytes, y)),
        Op::Cast { .. } => y.floats(|y| cast::cast(&x[0], y)),
        Op::Linear => {
            let b = x.get(2).map(Tensor::vector); // [N]
            y.floats(|y| linear::linear(x[0].matrix().view(), &x[1], b.as_ref().map(|b| b.view()), y))
        }
        Op::Bmm { transpose_b } => {
            let (a, b) = (x[0].matrices(), x[1].matrices()); // [batch, M, K], [batch, K, N]
            y.floats(|y| bmm::bmm(a.view(), b.view(), *transpose_b, y))
        }
        Op::RmsNorm { eps } => y.floats(|y| rms_norm::rms_norm(x[0].matrix().view(), x[1].vector().view(), *eps, y)),
        Op::Rope { head_dim } => {
            let (cos, sin) = (x[1].matrix(), x[2].matrix()); // [T, R / 2]
            y.floats(|y| rope::rope(x[0].matrix().view(), cos.view(), sin.view(), *head_dim, y))
        }
        Op::Add => y.floats(|y| add::add(x[0].matrix().view(), x[1].matrix().view(), y)),
        Op::Mul => y.floats(|y| mul::mul(x[0].matrix().view(), x[1].matrix().view(), y)),
        Op::Activation(kind) => y.floats(|y| activation::activation(*kind, x[0].matrix().view(), y)),
        Op::Softmax { scale } => {
            let mask = x.get(1).map(Tensor::matrix); // [T, L]
            y.floats(|y| softmax::softmax(x[0].matrix().view(), mask.as_ref().map(|m| m.view()), *scale, y))
        }
        Op::Attention(spec) => {
            let (q_start, seq_len, blocks) = (x[3].indices(), x[4].indices(), x[5].indices());
            let step = Step { q_start: &q_start, seq_len: &seq_len, block_table: &blocks };
            y.try_floats(|y| attention::attention(spec, x[0].matrix().view(), &x[1], &x[2], &step, y))
        }
        other => unreachable!("{} passed the claims, but has no kernel", other.name()),
    }
}

/// Computes `op`, which works in place: changes its first operand, `table`; `x` are the others.
pub(crate) fn change(op: &Op, table: Table<'_>, x: &[Tensor<'_>]) -> Result<(), OpError> {
    match op {
        Op::ScatterRows => {
            scatter_rows::scatter_rows(table, x[0].bytes, Index { name: "index", rows: &x[1].indices() })
        }
        Op::KvAppend => kv_append::kv_append(table, &x[0], &x[1].indices()),
        other => unreachable!("{} passed the claims, but has no kernel", other.name()),
    }
}

/// Where a result goes: made fresh, filled by a kernel, stored in the result's type.
struct Target<'a> {
    dtype: DType,
    dims: &'a [usize],
}

impl Target<'_> {
    /// For kernels that move bytes.
    fn bytes(self, kernel: impl FnOnce(&mut [u8])) -> Result<Memory, OpError> {
        self.try_bytes(|y| {
            kernel(y);
            Ok(())
        })
    }

    /// For kernels that compute in f32, on `[rows, D]`.
    fn floats(self, kernel: impl FnOnce(ArrayViewMut2<'_, f32>)) -> Result<Memory, OpError> {
        self.try_floats(|y| {
            kernel(y);
            Ok(())
        })
    }

    /// The same for kernels that look at indices.
    fn try_bytes(self, kernel: impl FnOnce(&mut [u8]) -> Result<(), OpError>) -> Result<Memory, OpError> {
        let mut memory = Memory::fresh(self.len(self.dtype))?;
        kernel(memory.bytes_mut())?;
        Ok(memory)
    }

    fn try_floats(self, kernel: impl FnOnce(ArrayViewMut2<'_, f32>) -> Result<(), OpError>) -> Result<Memory, OpError> {
        let (columns, leading) = self.dims.split_last().map_or((1, &[][..]), |(last, rest)| (*last, rest));
        let mut computed = Memory::fresh(self.len(DType::F32))?;
        let y = ArrayViewMut2::from_shape((leading.iter().product(), columns), computed.floats_mut());
        kernel(y.expect("the memory is that of the dimensions"))?;
        if self.dtype == DType::F32 && cfg!(target_endian = "little") {
            return Ok(computed);
        }
        let mut stored = Memory::fresh(self.len(self.dtype))?;
        store(computed.floats_mut(), self.dtype, stored.bytes_mut());
        Ok(stored)
    }

    fn len(&self, dtype: DType) -> usize {
        let (columns, leading) = self.dims.split_last().map_or((1, &[][..]), |(last, rest)| (*last, rest));
        leading.iter().product::<usize>() * dtype.row_bytes(columns).expect("the graph's types have whole rows")
    }
}

/// A table that is changed in place.
pub(crate) struct Table<'a> {
    pub dtype: DType,
    /// `N` of `[N, D]`.
    pub rows: usize,
    pub bytes: &'a mut [u8],
}

/// Row numbers from the host, -1 for none.
#[derive(Clone, Copy)]
pub(crate) struct Index<'a> {
    /// The operand they came in.
    pub name: &'static str,
    pub rows: &'a [i32],
}

impl Index<'_> {
    /// Row number `at`, `None` for -1.
    fn get(&self, at: usize, limit: usize) -> Result<Option<usize>, OpError> {
        let value = self.rows[at];
        match usize::try_from(value) {
            Ok(row) if row < limit => Ok(Some(row)),
            Err(_) if value == -1 => Ok(None),
            _ => Err(OpError::Index { operand: self.name, at, value, rule: format!("in 0..{limit}, or -1 for none") }),
        }
    }
}
