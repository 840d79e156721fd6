//! Compares a result with the stored one.

use std::collections::BTreeSet;

use camelid_core::graph::{Graph, SymbolValues, TensorType};
use camelid_core::{DType, quant};

use super::contents::{SplitMix64, floats};
use super::execute::Execution;
use super::file::Expect;
use crate::case::{Failure, Measure, Problem};
use crate::compare::{Worst, max_over_rms, nmse, unravel, worst};
use crate::tolerance::MathClass;

/// How many of the worst elements a report shows.
pub const WORST: usize = 10;

/// Holds `bytes`, the result of step `number`, against the tensor `ID#NUMBER#OUTPUT`.
///
/// # Errors
/// A failure with its numbers, or a case that cannot be used.
pub fn check(
    execution: &Execution<'_>,
    graph: &Graph,
    number: usize,
    expect: &Expect,
    bytes: &[u8],
    symbols: &SymbolValues,
) -> Result<Vec<Measure>, Problem> {
    let case = execution.case;
    let tensor = format!("{}#{number}#{}", case.id, expect.output);
    let output = graph.outputs().iter().find(|o| o.name == expect.output).expect("every expected result is an output");
    let ty = graph.value(output.value).ty;
    let dims = ty.shape.resolve(symbols);
    let what = if case.step.len() > 1 { format!("{} of step {number}", expect.output) } else { expect.output.clone() };
    if let Some(folder) = execution.dump {
        dump(folder, &what, bytes, &dims, ty.dtype);
    }
    if dims.contains(&0) {
        return Ok(Vec::new());
    }
    // Of blocks the numbers that they mean are compared.
    let (numbers, blocks) = (meaning(ty.dtype, bytes)?, ty.dtype.is_block());
    let bytes = numbers.as_deref().unwrap_or(bytes);
    let ty = if blocks { TensorType { dtype: DType::F32, ..ty } } else { ty };
    if !expect.sampled {
        let found = Found { what: &what, tensor: &tensor, number, dtype: ty.dtype, blocks, dims: &dims, bytes };
        return compare(execution, expect, &found);
    }
    if floats(ty.dtype, bytes).is_some_and(|x| x.iter().any(|x| !x.is_finite())) {
        return Err(Problem::fail(format!("{what} (step {number}): an element is not a finite number")));
    }
    let at = points(dims.iter().product(), dims.last().copied().unwrap_or(1));
    let size = ty.dtype.block_bytes();
    let some: Vec<u8> = at.iter().flat_map(|i| bytes[i * size..(i + 1) * size].iter().copied()).collect();
    let found =
        Found { what: &what, tensor: &tensor, number, dtype: ty.dtype, blocks, dims: &[at.len()], bytes: &some };
    compare(execution, expect, &found).map_err(|mut problem| {
        if let Problem::Fail(failure) = &mut problem {
            for worst in &mut failure.worst {
                worst.index = unravel(at[worst.index[0]], &dims);
            }
        }
        problem
    })
}

/// Blocks as the bytes of the f32 that they mean, `None` for other types.
fn meaning(dtype: DType, bytes: &[u8]) -> Result<Option<Vec<u8>>, Problem> {
    if !dtype.is_block() {
        return Ok(None);
    }
    let mut numbers = vec![0.0; bytes.len() / dtype.block_bytes() * dtype.block_elems()];
    let wrong = |e| Problem::Blocked(format!("a result of type {dtype} cannot be compared: {e}"));
    quant::dequantize(dtype, bytes, &mut numbers).map_err(wrong)?;
    Ok(Some(numbers.iter().flat_map(|x| x.to_le_bytes()).collect()))
}

/// A result, or the elements of it that are compared.
struct Found<'a> {
    /// What it is called.
    what: &'a str,
    /// What it must equal.
    tensor: &'a str,
    /// Of which step.
    number: usize,
    dtype: DType,
    /// Whether it was blocks before it was numbers.
    blocks: bool,
    dims: &'a [usize],
    bytes: &'a [u8],
}

/// Where a large result of `size` elements in rows of `columns` is compared: both ends, the ends of some rows, both sides of
/// every power of two and of where grids of 65535 groups end, and anywhere. `reference/graph_case.py` draws the same ones.
pub fn points(size: usize, columns: usize) -> Vec<usize> {
    let mut random = SplitMix64(size as u64);
    let mut at: BTreeSet<usize> = (0..16).chain(size.saturating_sub(64)..size).collect();
    for _ in 0..16 {
        let row = (random.next_u64() % (size / columns) as u64) as usize * columns;
        at.extend([row, row + columns - 1]);
    }
    at.extend((0..80).map(|_| (random.next_u64() % size as u64) as usize));
    let grids = [1, 16, 32, 64, 128, 256].map(|groups| 65_535 * groups);
    let edges = (7..25).map(|power| 1 << power).chain(grids);
    at.extend(edges.flat_map(|edge: usize| edge - 2..edge + 2));
    at.into_iter().filter(|i| *i < size).collect()
}

/// Holds the elements that are stored against the tensor.
fn compare(execution: &Execution<'_>, expect: &Expect, found: &Found<'_>) -> Result<Vec<Measure>, Problem> {
    let Found { what, tensor, number, dtype, blocks, dims, bytes } = *found;
    let (case, fixture) = (execution.case, execution.fixture);
    if case.class == MathClass::Exact {
        let expected = fixture.bytes(tensor)?;
        // What a block means is a product, and the sign of a product that is zero is nobody's business.
        let blocks = blocks || case.values.iter().any(|v| v.dtype.is_block());
        return exact(what, bytes, expected, dims, dtype, blocks);
    }
    let (_, expected) = fixture.f64s(tensor)?;
    let Some(actual) = floats(dtype, bytes) else {
        return Err(Problem::Blocked(format!("the case `{}` compares {} by distance", case.id, dtype)));
    };
    let limits = expect.limits(execution.class);
    let failed = |message: String, measures| {
        let worst = worst(what, dims, &actual, &expected, WORST);
        Problem::Fail(Box::new(Failure { message, measures, worst }))
    };
    let place = format!("step {number}, {:?} layout", execution.layout).to_lowercase();
    let metrics = nmse(&actual, &expected).and_then(|n| Ok((n, max_over_rms(&actual, &expected)?)));
    let (nmse, max) = metrics.map_err(|e| failed(format!("{what} ({place}): {e}"), Vec::new()))?;
    let measures = vec![
        Measure { metric: "nmse".into(), what: what.into(), value: nmse, limit: limits.nmse },
        Measure { metric: "max/rms".into(), what: what.into(), value: max, limit: limits.max },
    ];
    if let Some(m) = measures.iter().find(|m| !m.passes()) {
        let message = format!(
            "{what} ({place}): {} is {:.2e}, the limit of class {} is {:.2e}",
            m.metric, m.value, execution.class, m.limit
        );
        return Err(failed(message, measures));
    }
    Ok(measures)
}

/// Equal bit for bit, but for the bits of a NaN, and with `any_zero` the sign of a zero.
fn exact(
    what: &str,
    actual: &[u8],
    expected: &[u8],
    dims: &[usize],
    dtype: DType,
    any_zero: bool,
) -> Result<Vec<Measure>, Problem> {
    if actual.len() != expected.len() {
        let message = format!("{what}: {} bytes are stored for {} bytes computed", expected.len(), actual.len());
        return Err(Problem::Blocked(message));
    }
    let measure = |count: usize| Measure { metric: "wrong".into(), what: what.into(), value: count as f64, limit: 0.0 };
    let size = dtype.block_bytes();
    let is = |bytes: &[u8], what: fn(f32) -> bool| floats(dtype, bytes).is_some_and(|x| what(x[0]));
    let same = |a: &[u8], e: &[u8]| {
        let both = |what| is(a, what) && is(e, what);
        a == e || both(f32::is_nan) || (any_zero && both(|x| x == 0.0))
    };
    let pairs = actual.chunks(size).zip(expected.chunks(size)).enumerate();
    let wrong: Vec<usize> = pairs.filter(|(_, (a, e))| !same(a, e)).map(|(i, _)| i).collect();
    if wrong.is_empty() {
        return Ok(vec![measure(0)]);
    }
    let show = |bytes: &[u8], i: usize| {
        let element = &bytes[i * size..(i + 1) * size];
        let number = floats(dtype, element).map(|x| format!("{:e} ", x[0])).unwrap_or_default();
        let hex: String = element.iter().rev().map(|b| format!("{b:02x}")).collect();
        format!("{number}(0x{hex})")
    };
    let block = dtype.block_elems();
    let dims: Vec<usize> = match dims.split_last() {
        Some((last, rest)) => rest.iter().copied().chain([last / block]).collect(),
        None => Vec::new(),
    };
    let shown = wrong.iter().take(WORST).map(|&i| Worst {
        output: what.into(),
        index: crate::compare::unravel(i, &dims),
        actual: show(actual, i),
        expected: show(expected, i),
    });
    let message = format!("{what}: {} of {} elements are not equal bit for bit", wrong.len(), actual.len() / size);
    Err(Problem::Fail(Box::new(Failure { message, worst: shown.collect(), measures: vec![measure(wrong.len())] })))
}

/// Leaves a computed value beside the others, as its bytes and a line that says what they are; a dump that cannot be
/// written is told, and does not change the verdict.
fn dump(folder: &std::path::Path, what: &str, bytes: &[u8], dims: &[usize], dtype: DType) {
    use safetensors::{Dtype, tensor::TensorView};
    let dtype = match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I32 => Dtype::I32,
        _ => Dtype::U8,
    };
    let shape = if dtype == Dtype::U8 { vec![bytes.len()] } else { dims.to_vec() };
    let path = folder.join(format!("{}.safetensors", what.replace(' ', "_")));
    let written = TensorView::new(dtype, shape, bytes)
        .map_err(|e| e.to_string())
        .and_then(|view| safetensors::serialize([("actual", view)], None).map_err(|e| e.to_string()))
        .and_then(|file| std::fs::write(&path, file).map_err(|e| e.to_string()));
    if let Err(error) = written {
        tracing::warn!("{}: {error}", path.display());
    }
}
