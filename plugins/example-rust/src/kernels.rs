//! The arithmetic, one function an operation. What each has to compute is defined in `camelid_sdk::core::ops`.
//!
//! `T` tokens, `K` elements summed over, `N` results; `[T, K]` is row-major, so row `t` is `x[t * K..(t + 1) * K]`.

use camelid_sdk::core::backend::BackendError;
use camelid_sdk::core::ops::{Op, softmax::MASKED};
use camelid_sdk::kernels::{HostBuf, NodeView, View, ViewMut};

type Operand<'a> = View<'a, HostBuf>;
type Target<'a> = ViewMut<'a, HostBuf>;
type Done = Result<(), BackendError>;

/// Computes a node: every operation that is claimed.
pub(crate) fn eval(node: NodeView<'_, HostBuf>) -> Done {
    let NodeView { op, inputs: x, mut outputs } = node;
    let y = &mut outputs[0]; // only macro operations have several results
    match op {
        Op::GatherRows => gather_rows(&x[0], &x[1], y),
        Op::ScatterRows => scatter_rows(y, &x[0], &x[1]),
        Op::Linear => linear(&x[0], &x[1], x.get(2), y),
        Op::Bmm { transpose_b } => bmm(&x[0], &x[1], *transpose_b, y),
        Op::RmsNorm { eps } => rms_norm(&x[0], &x[1], *eps, y),
        Op::Rope { head_dim } => rope(&x[0], &x[1], &x[2], *head_dim, y),
        Op::Softmax { scale } => softmax(&x[0], x.get(1), *scale, y),
        Op::Add => elementwise(&x[0], &x[1], y, |a, b| a + b),
        Op::Mul => elementwise(&x[0], &x[1], y, |a, b| a * b),
        Op::Activation(_) => elementwise(&x[0], &x[0], y, |x, _| x / (1.0 + (-x).exp())), // only silu is claimed
        Op::Cast { .. } => elementwise(&x[0], &x[0], y, |x, _| x),
        other => Err(BackendError::unsupported(format!("{} is not claimed", other.name()))),
    }
}

/// `table [N, D], index [M] -> [M, D]`: `y[i] = table[index[i]]`, zeros for -1.
fn gather_rows(table: &Operand, index: &Operand, y: &mut Target) -> Done {
    let (d, to) = (table.row_len(), y.row_bytes());
    for (i, row) in index.row_numbers(table.rows())?.into_iter().enumerate() {
        match row {
            None => y.bytes_mut()?[i * to..(i + 1) * to].fill(0),
            // Rows of blocks become f32; others keep their type.
            Some(row) if table.dtype.is_block() => table.read_row(row, &mut y.f32s_mut()?[i * d..(i + 1) * d])?,
            Some(row) => y.bytes_mut()?[i * to..(i + 1) * to].copy_from_slice(&table.bytes()[row * to..(row + 1) * to]),
        }
    }
    Ok(())
}

/// `table [N, D], rows [T, D], index [T]`: `table[index[t]] = rows[t]`, in place; -1 leaves a row out.
fn scatter_rows(table: &mut Target, rows: &Operand, index: &Operand) -> Done {
    let (limit, len) = (table.rows(), table.row_bytes());
    for (t, row) in index.row_numbers(limit)?.into_iter().enumerate() {
        if let Some(row) = row {
            table.bytes_mut()?[row * len..(row + 1) * len].copy_from_slice(&rows.bytes()[t * len..(t + 1) * len]);
        }
    }
    Ok(())
}

/// `x [T, K], w [N, K], b [N] -> [T, N]`: `y[t, n] = sum_k x[t, k] * w[n, k] + b[n]`.
///
/// Nearly all the time goes here. A row of w is dequantized once and meets every row of x while it is in the cache.
fn linear(x: &Operand, w: &Operand, b: Option<&Operand>, y: &mut Target) -> Done {
    let (tokens, k, n) = (x.rows(), w.row_len(), w.rows());
    let (x, b, y) = (x.floats()?, b.map(|b| b.floats()).transpose()?, y.f32s_mut()?);
    let mut row = vec![0.0; k];
    for i in 0..n {
        w.read_row(i, &mut row)?;
        for t in 0..tokens {
            y[t * n + i] = dot(&x[t * k..(t + 1) * k], &row) + b.as_ref().map_or(0.0, |b| b[i]);
        }
    }
    Ok(())
}

/// `a [.., M, K], b [.., K, N] -> [.., M, N]`, with `transpose_b` `b [.., N, K]`.
fn bmm(a: &Operand, b: &Operand, transpose_b: bool, y: &mut Target) -> Done {
    let (m, k, n) = (a.dims[a.dims.len() - 2], a.row_len(), y.row_len());
    let (a, b, y) = (a.floats()?, b.floats()?, y.f32s_mut()?);
    for (row, y) in y.chunks_exact_mut(n).enumerate() {
        let a = &a[row * k..(row + 1) * k];
        let b = &b[row / m * k * n..(row / m + 1) * k * n];
        if transpose_b {
            for (i, y) in y.iter_mut().enumerate() {
                *y = dot(a, &b[i * k..(i + 1) * k]);
            }
        } else {
            y.fill(0.0);
            for (a, b) in a.iter().zip(b.chunks_exact(n)) {
                for (y, b) in y.iter_mut().zip(b) {
                    *y += a * b;
                }
            }
        }
    }
    Ok(())
}

/// `x [T, D], weight [D] -> [T, D]`: `y = x / sqrt(mean(x^2) + eps) * weight`, the mean in f64, where no square overflows.
fn rms_norm(x: &Operand, weight: &Operand, eps: f32, y: &mut Target) -> Done {
    let d = x.row_len();
    let (x, weight, y) = (x.floats()?, weight.floats()?, y.f32s_mut()?);
    for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
        let squares: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        let scale = 1.0 / (squares / d as f64 + f64::from(eps)).sqrt();
        for ((y, x), weight) in y.iter_mut().zip(x).zip(weight.iter()) {
            *y = (f64::from(*x) * scale * f64::from(*weight)) as f32;
        }
    }
    Ok(())
}

/// `x [T, H * head_dim], cos [T, R / 2], sin [T, R / 2]`: in every head element `i` turns with element `i + R / 2`.
fn rope(x: &Operand, cos: &Operand, sin: &Operand, head_dim: usize, y: &mut Target) -> Done {
    let (width, half) = (x.row_len(), cos.row_len());
    let (x, cos, sin, y) = (x.floats()?, cos.floats()?, sin.floats()?, y.f32s_mut()?);
    y.copy_from_slice(&x); // elements from R on stay
    for (start, y) in y.chunks_exact_mut(head_dim).enumerate() {
        let t = start * head_dim / width;
        for i in 0..half {
            let (first, second, cos, sin) = (y[i], y[i + half], cos[t * half + i], sin[t * half + i]);
            y[i] = first * cos - second * sin;
            y[i + half] = second * cos + first * sin;
        }
    }
    Ok(())
}

/// `x [T, .., L], mask [T, L]`: the softmax of `scale * x + mask` over `L`; what is masked is zero and not looked at.
fn softmax(x: &Operand, mask: Option<&Operand>, scale: f32, y: &mut Target) -> Done {
    let (l, rows, tokens) = (x.row_len(), x.rows(), mask.map_or(1, |mask| mask.rows()));
    let (x, mask, y) = (x.floats()?, mask.map(|m| m.floats()).transpose()?, y.f32s_mut()?);
    for (row, (x, y)) in x.chunks_exact(l).zip(y.chunks_exact_mut(l)).enumerate() {
        let t = row * tokens / rows;
        for (i, (x, y)) in x.iter().zip(y.iter_mut()).enumerate() {
            let mask = mask.as_ref().map_or(0.0, |mask| mask[t * l + i]);
            *y = if mask <= MASKED { f32::NEG_INFINITY } else { scale * x + mask };
        }
        let max = y.iter().copied().fold(f32::MIN, f32::max);
        y.iter_mut().for_each(|y| *y = (*y - max).exp());
        let sum: f32 = y.iter().sum();
        if sum != 0.0 {
            y.iter_mut().for_each(|y| *y /= sum);
        }
    }
    Ok(())
}

/// `y = f(a, b)` for every element.
fn elementwise(a: &Operand, b: &Operand, y: &mut Target, f: impl Fn(f32, f32) -> f32) -> Done {
    let (a, b, y) = (a.floats()?, b.floats()?, y.f32s_mut()?);
    for ((y, a), b) in y.iter_mut().zip(a.iter()).zip(b.iter()) {
        *y = f(*a, *b);
    }
    Ok(())
}

/// `sum_i a[i] * b[i]` in 16 partial sums, so that the compiler uses vector registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a_chunks, a_rest), (b_chunks, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = [0.0; 16];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
