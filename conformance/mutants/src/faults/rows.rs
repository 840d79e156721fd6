//! Faults in `gather_rows`, `scatter_rows`, `kv_append` and `cast`.

use camelid_core::DType;
use camelid_core::ops::Op;
use half::f16;

use super::{Entry, after, before, mutant};
use crate::kernels::Call;
use crate::tensor::Tensor;

const GATHER: &[&str] = &["op/gather_rows/*"];
const SCATTER: &[&str] = &["op/scatter_rows/*"];
const APPEND: &[&str] = &["op/kv_append/*"];
const APPEND_Q8: &[&str] = &["op/kv_append/*q8_0/*"];
const CAST: &[&str] = &["op/cast/*"];

/// An f32 without its lower bits, as the bytes of f16 or bf16 when converted.
fn truncated(x: f32, dtype: DType) -> f32 {
    let lost = match dtype {
        DType::F16 => 13,
        DType::BF16 => 16,
        _ => return x,
    };
    if x.is_finite() { f32::from_bits(x.to_bits() >> lost << lost) } else { x }
}

/// Rows that go into a q8_0 cache again, block by block: `make` gets the row, where in it the block begins, and its bytes.
fn in_blocks(call: &Call, cache: &mut Tensor, make: impl Fn(&[f32], usize, &mut [u8])) {
    if cache.dtype != DType::Q8_0 {
        return;
    }
    let (numbers, columns, len) = (call.inputs[1].floats(), cache.columns(), cache.row_bytes());
    for (row, slot) in numbers.chunks(columns).zip(call.inputs[2].ints()) {
        let Ok(slot) = usize::try_from(slot) else { continue };
        let blocks = cache.bytes[slot * len..(slot + 1) * len].chunks_mut(34);
        blocks.enumerate().for_each(|(i, block)| make(row, i * 32, block));
    }
}

/// The largest magnitude over `divisor`; NaN where there is one.
fn step(x: &[f32], divisor: f32) -> f32 {
    x.iter().fold(0.0, |most: f32, x| if x.abs() <= most { most } else { x.abs() }) / divisor
}

/// A block of `x` under the scale `d`, of codes that `code` makes of multiples of the scale.
fn block(x: &[f32], d: f32, bytes: &mut [u8], code: impl Fn(f32) -> f32) {
    bytes[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    for (byte, x) in bytes[2..].iter_mut().zip(x) {
        *byte = code(x * inverse) as i8 as u8;
    }
}

pub(super) const FAULTS: &[Entry] = &[
    (
        mutant("gather_none_is_first", "-1 gives the first row", GATHER),
        before!("gather_rows", |c| c.inputs[1].map_ints(|i| if i == -1 { 0 } else { i })),
    ),
    (
        mutant("gather_none_is_last", "-1 gives the last row", GATHER),
        before!("gather_rows", |c| {
            let last = c.inputs[0].dims[0] as i32 - 1;
            c.inputs[1].map_ints(|i| if i == -1 { last } else { i })
        }),
    ),
    (
        mutant("gather_clamps", "an index past the table gives its last row", GATHER),
        before!("gather_rows", |c| {
            let last = c.inputs[0].dims[0] as i32 - 1;
            c.inputs[1].map_ints(|i| i.clamp(-1, last))
        }),
    ),
    (
        mutant("gather_wraps", "an index past the table is taken modulo", GATHER),
        before!("gather_rows", |c| {
            let rows = c.inputs[0].dims[0] as i32;
            c.inputs[1].map_ints(|i| if i >= rows { i % rows } else { i })
        }),
    ),
    (
        mutant("gather_negative_is_none", "any negative index gives zeros", GATHER),
        before!("gather_rows", |c| c.inputs[1].map_ints(|i| i.max(-1))),
    ),
    (
        mutant("gather_u8", "indices are cut to 8 bits", GATHER),
        before!("gather_rows", |c| c.inputs[1].map_ints(|i| if i > 255 { i & 255 } else { i })),
    ),
    (
        mutant("gather_first_index", "the second index of a row is the first", GATHER),
        before!("gather_rows", |c| if c.inputs[1].dims.len() > 1 {
            let (ints, d) = (c.inputs[1].ints(), c.inputs[1].columns());
            let first: Vec<i32> = (0..ints.len()).map(|i| ints[i / d * d]).collect();
            c.inputs[1].set_ints(&first)
        }),
    ),
    (
        mutant("gather_tail", "the last element of a row is zero", GATHER),
        after!("gather_rows", |c, y| {
            let d = y[0].columns();
            y[0].map(|i, v| if d > 1 && i % d == d - 1 { 0.0 } else { v })
        }),
    ),
    (
        mutant("scatter_none_is_first", "-1 writes the first row", SCATTER),
        before!("scatter_rows", |c| c.inputs[2].map_ints(|i| i.max(0))),
    ),
    (
        mutant("scatter_next", "rows land one further", SCATTER),
        before!("scatter_rows", |c| {
            let rows = c.inputs[0].dims[0] as i32;
            c.inputs[2].map_ints(|i| if i >= 0 && i < rows { (i + 1) % rows } else { i })
        }),
    ),
    (
        mutant("scatter_clears", "rows that are not written become zeros", SCATTER),
        after!("scatter_rows", |c, y| {
            let ints = c.inputs[2].ints();
            for row in 0..y[0].rows() {
                if !ints.contains(&(row as i32)) {
                    y[0].clear_row(row)
                }
            }
        }),
    ),
    (
        mutant("scatter_ignores_outside", "rows outside the table are left out", SCATTER),
        before!("scatter_rows", |c| {
            let rows = c.inputs[0].dims[0] as i32;
            c.inputs[2].map_ints(|i| if i >= rows { -1 } else { i })
        }),
    ),
    (
        mutant("scatter_in_order", "the n-th row is written to row n", SCATTER),
        before!("scatter_rows", |c| {
            let ints = c.inputs[2].ints();
            let order: Vec<i32> = (0..ints.len()).map(|i| if ints[i] < 0 { ints[i] } else { i as i32 }).collect();
            if ints.len() <= c.inputs[0].dims[0] {
                c.inputs[2].set_ints(&order)
            }
        }),
    ),
    (
        mutant("kv_append_none_is_first", "a padding token is stored in the first slot", APPEND),
        before!("kv_append", |c| c.inputs[2].map_ints(|i| i.max(0))),
    ),
    (
        mutant("kv_append_last_lost", "the last token is not stored", APPEND),
        before!("kv_append", |c| {
            let mut ints = c.inputs[2].ints();
            if let Some(last) = ints.last_mut() {
                *last = -1
            }
            c.inputs[2].set_ints(&ints)
        }),
    ),
    (
        mutant("kv_append_truncates", "rows are cut, not rounded, to the cache's type", APPEND),
        before!("kv_append", |c| {
            let dtype = c.inputs[0].dtype;
            c.inputs[1].map(|_, x| truncated(x, dtype))
        }),
    ),
    (
        mutant("kv_append_64", "tokens past the 64th are not stored", APPEND),
        before!("kv_append", |c| {
            let mut ints = c.inputs[2].ints();
            ints.iter_mut().skip(64).for_each(|i| *i = -1);
            c.inputs[2].set_ints(&ints)
        }),
    ),
    (
        mutant("kv_append_q8_truncates", "codes are cut, not rounded", APPEND_Q8),
        after!("kv_append", |c, y| in_blocks(c, &mut y[0], |row, at, b| {
            let x = &row[at..at + 32];
            block(x, step(x, 127.0), b, f32::trunc)
        })),
    ),
    (
        mutant("kv_append_q8_ties_even", "codes half way between two go to the even one", APPEND_Q8),
        after!("kv_append", |c, y| in_blocks(c, &mut y[0], |row, at, b| {
            let x = &row[at..at + 32];
            block(x, step(x, 127.0), b, f32::round_ties_even)
        })),
    ),
    (
        mutant("kv_append_q8_rounded_scale", "codes are by the scale as it is stored", APPEND_Q8),
        after!("kv_append", |c, y| in_blocks(c, &mut y[0], |row, at, b| {
            let x = &row[at..at + 32];
            block(x, f16::from_f32(step(x, 127.0)).to_f32(), b, f32::round)
        })),
    ),
    (
        mutant("kv_append_q8_cut_scale", "scales are cut, not rounded, to f16", APPEND_Q8),
        after!("kv_append", |c, y| in_blocks(c, &mut y[0], |row, at, b| {
            let x = &row[at..at + 32];
            let d = step(x, 127.0);
            block(x, d, b, f32::round);
            b[..2].copy_from_slice(&f16::from_f32(truncated(d, DType::F16)).to_le_bytes());
        })),
    ),
    (
        mutant("kv_append_q8_128", "the largest of a block has the code 128, which a byte does not hold", APPEND_Q8),
        after!("kv_append", |c, y| in_blocks(c, &mut y[0], |row, at, b| {
            let x = &row[at..at + 32];
            block(x, step(x, 128.0), b, f32::round)
        })),
    ),
    (
        mutant("kv_append_q8_one_scale", "all blocks of a row have the scale of the largest", APPEND_Q8),
        after!("kv_append", |c, y| in_blocks(c, &mut y[0], |row, at, b| {
            block(&row[at..at + 32], step(row, 127.0), b, f32::round)
        })),
    ),
    (
        mutant("kv_append_q8_odd_is_zero", "what is no number is stored as 0", APPEND_Q8),
        before!("kv_append", |c| if c.inputs[0].dtype == DType::Q8_0 {
            c.inputs[1].map(|_, x| if x.is_finite() { x } else { 0.0 })
        }),
    ),
    (mutant("kv_append_q8_first_block", "only the first block of a row is stored", APPEND_Q8), |_, call, right| {
        let mut results = right?;
        if call.op.name() == "kv_append" && results[0].dtype == DType::Q8_0 {
            let len = results[0].row_bytes();
            for (new, old) in results[0].bytes.chunks_mut(len).zip(call.inputs[0].bytes.chunks(len)) {
                new[34..].copy_from_slice(&old[34..]);
            }
        }
        Ok(results)
    }),
    (
        mutant("cast_q8_truncates", "codes are cut, not rounded", &["op/cast/*q8_0/*"]),
        after!("cast", |c, y| if y[0].dtype == DType::Q8_0 {
            let x = c.inputs[0].floats();
            for (x, b) in x.chunks(32).zip(y[0].bytes.chunks_mut(34)) {
                block(x, step(x, 127.0), b, f32::trunc);
            }
        }),
    ),
    (
        mutant("cast_truncates", "cut, not rounded", CAST),
        before!("cast", |c| if let Op::Cast { to } = c.op
            && c.inputs[0].dtype == DType::F32
        {
            c.inputs[0].map(|_, x| truncated(x, to))
        }),
    ),
    (
        mutant("cast_saturates", "what is too large for f16 becomes 65504", CAST),
        before!("cast", |c| if c.op == (Op::Cast { to: DType::F16 }) && c.inputs[0].dtype == DType::F32 {
            c.inputs[0].map(|_, x| if x.is_nan() { x } else { x.clamp(-65504.0, 65504.0) })
        }),
    ),
    (
        mutant("cast_nan_is_zero", "NaN becomes 0", CAST),
        before!("cast", |c| if c.inputs[0].dtype == DType::F32 {
            c.inputs[0].map(|_, x| if x.is_nan() { 0.0 } else { x })
        }),
    ),
    (
        mutant("cast_flushes", "subnormal f16 become 0", CAST),
        before!("cast", |c| if c.op == (Op::Cast { to: DType::F16 }) && c.inputs[0].dtype == DType::F32 {
            c.inputs[0].map(|_, x| if x.abs() < 6.1e-5 { 0.0 } else { x })
        }),
    ),
    (
        mutant("cast_ties_up", "ties go away from zero", CAST),
        before!("cast", |c| if c.op == (Op::Cast { to: DType::BF16 }) && c.inputs[0].dtype == DType::F32 {
            c.inputs[0].map(|_, x| if x.to_bits() & 0xffff == 0x8000 { f32::from_bits(x.to_bits() + 1) } else { x })
        }),
    ),
];
