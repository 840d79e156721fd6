//! Faults in `linear`, `qkv_linear`, `bmm` and in what block formats mean.

use camelid_core::DType;
use camelid_core::ops::Op;
use half::{bf16, f16};

use super::{Entry, after, before, mutant};
use crate::tensor::Tensor;

const LINEAR: &[&str] = &["op/linear/*"];
const QKV: &[&str] = &["op/qkv_linear/*"];
const BMM: &[&str] = &["op/bmm/*"];

/// Makes the elements of every row from `from` on zero, in a copy of plain type.
fn cut(x: &mut Tensor, from: usize) {
    let d = x.columns();
    x.map(|i, v| if i % d >= from { 0.0 } else { v });
}

/// Sums of products in the order of the operands, every partial sum through `round`.
fn products(x: &Tensor, w: &Tensor, b: Option<&Tensor>, operand: fn(f32) -> f32, sum: fn(f32) -> f32) -> Vec<f32> {
    let (xs, ws, k, n) = (x.floats(), w.floats(), x.columns(), w.dims[0]);
    let bias = b.map(Tensor::floats);
    let mut y = Vec::with_capacity(x.rows() * n);
    for row in xs.chunks(k) {
        for (i, weights) in ws.chunks(k).enumerate() {
            let dot = row.iter().zip(weights).fold(0.0, |s, (a, b)| sum(s + operand(*a) * operand(*b)));
            y.push(dot + bias.as_ref().map_or(0.0, |b| b[i]));
        }
    }
    y
}

/// Changes the bytes of every block of the second operand if it is of type `dtype`.
fn blocks(w: Option<&mut Tensor>, dtype: DType, change: impl Fn(&mut [u8])) {
    if let Some(w) = w.filter(|w| w.dtype == dtype) {
        w.bytes.chunks_mut(dtype.block_bytes()).for_each(change);
    }
}

pub(super) const FAULTS: &[Entry] = &[
    (
        mutant("linear_last_row", "the last row of w is left out", LINEAR),
        after!("linear", |c, y| {
            let d = y[0].columns();
            y[0].map(|i, v| if d > 1 && i % d == d - 1 { 0.0 } else { v })
        }),
    ),
    (
        mutant("linear_k4", "K past a multiple of 4 is left out", LINEAR),
        before!("linear", |c| {
            let k = c.inputs[0].columns();
            if k > 4 {
                cut(&mut c.inputs[0], k / 4 * 4)
            }
        }),
    ),
    (
        mutant("linear_k8", "K past a multiple of 8 is left out", LINEAR),
        before!("linear", |c| {
            let k = c.inputs[0].columns();
            if k > 8 {
                cut(&mut c.inputs[0], k / 8 * 8)
            }
        }),
    ),
    (
        mutant("linear_k32", "K past a multiple of 32 is left out", LINEAR),
        before!("linear", |c| {
            let k = c.inputs[0].columns();
            if k > 32 {
                cut(&mut c.inputs[0], k / 32 * 32)
            }
        }),
    ),
    (mutant("linear_k4096", "K past 4096 is left out", LINEAR), before!("linear", |c| cut(&mut c.inputs[0], 4096))),
    (mutant("linear_n256", "rows of w past 256 give zero", LINEAR), after!("linear", |c, y| cut(&mut y[0], 256))),
    (mutant("linear_n1024", "rows of w past 1024 give zero", LINEAR), after!("linear", |c, y| cut(&mut y[0], 1024))),
    (
        mutant("linear_t256", "tokens past 256 give zeros", LINEAR),
        after!("linear", |c, y| for row in 256..y[0].rows().max(256) {
            y[0].clear_row(row)
        }),
    ),
    (
        mutant("linear_t_tail", "tokens past a multiple of 8 are those before", LINEAR),
        after!("linear", |c, y| {
            let (rows, len) = (y[0].rows(), y[0].row_bytes());
            for row in (rows / 8 * 8).max(1)..if rows > 8 { rows } else { 0 } {
                let copy = y[0].bytes[(row - 1) * len..row * len].to_vec();
                y[0].bytes[row * len..(row + 1) * len].copy_from_slice(&copy);
            }
        }),
    ),
    (
        mutant("linear_one_token", "a single token has twice the bias", LINEAR),
        before!("linear", |c| if c.inputs[0].rows() == 1 && c.inputs.len() > 2 {
            c.inputs[2].map(|_, b| 2.0 * b)
        }),
    ),
    (mutant("linear_no_bias", "the bias is left out", LINEAR), before!("linear", |c| c.inputs.truncate(2))),
    (mutant("linear_bias_of_first", "only the first token gets the bias", LINEAR), |honest, mut call, right| {
        if call.op.name() != "linear" || call.inputs.len() < 3 {
            return right;
        }
        let right = right?;
        call.inputs.truncate(2);
        let mut results = honest.compute(&call)?;
        let len = results[0].row_bytes().min(right[0].bytes.len());
        results[0].bytes[..len].copy_from_slice(&right[0].bytes[..len]);
        Ok(results)
    }),
    (
        mutant("linear_transposed", "a square w is transposed", LINEAR),
        before!("linear", |c| {
            let k = c.inputs[0].columns();
            let w = &mut c.inputs[1];
            if w.dims[0] == k && !w.dtype.is_block() {
                let x = w.floats();
                w.map(|i, _| x[i % k * k + i / k])
            }
        }),
    ),
    (
        mutant("linear_f16_sums", "sums are f16", LINEAR),
        after!("linear", |c, y| {
            let sums = products(&c.inputs[0], &c.inputs[1], c.inputs.get(2), |v| v, |s| f16::from_f32(s).to_f32());
            y[0].set(&sums)
        }),
    ),
    (
        mutant("linear_bf16_operands", "operands are rounded to bf16", &["op/linear/f32/*"]),
        after!("linear", |c, y| {
            let sums = products(&c.inputs[0], &c.inputs[1], c.inputs.get(2), |v| bf16::from_f32(v).to_f32(), |s| s);
            y[0].set(&sums)
        }),
    ),
    (
        mutant("linear_tf32", "operands are cut to 10 bits", &["op/linear/f32/*"]),
        after!("linear", |c, y| {
            let sums =
                products(&c.inputs[0], &c.inputs[1], c.inputs.get(2), |v| f32::from_bits(v.to_bits() & !0x1fff), |s| s);
            y[0].set(&sums)
        }),
    ),
    (
        mutant("linear_q8_activations", "x is rounded to 8 bits, undeclared", LINEAR),
        before!("linear", |c| {
            let (x, d) = (c.inputs[0].floats(), c.inputs[0].columns());
            c.inputs[0].map(|i, v| {
                let row = &x[i / d * d..i / d * d + d];
                let step = row.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 127.0;
                if step > 0.0 { (v / step).round() * step } else { v }
            })
        }),
    ),
    (
        mutant("linear_one_element", "one element of many is wrong", LINEAR),
        after!("linear", |c, y| {
            let last = y[0].rows() * y[0].columns();
            y[0].map(|i, v| if i + 1 == last { v * 1.01 + 1e-3 } else { v })
        }),
    ),
    (
        mutant("linear_rank3", "of leading dimensions only the last counts", LINEAR),
        after!("linear", |c, y| if y[0].dims.len() > 2 {
            let part = y[0].dims[y[0].dims.len() - 2] * y[0].row_bytes();
            let first = y[0].bytes[..part].to_vec();
            let times = y[0].bytes.len() / part.max(1);
            y[0].bytes = first.repeat(times)
        }),
    ),
    (
        mutant("linear_large_x", "x is limited to 1000", LINEAR),
        before!("linear", |c| c.inputs[0].map(|_, v| v.clamp(-1000.0, 1000.0))),
    ),
    (
        mutant("linear_small_x", "x below 1e-15 is zero", LINEAR),
        before!("linear", |c| c.inputs[0].map(|_, v| if v.abs() < 1e-15 { 0.0 } else { v })),
    ),
    (
        mutant("q4_0_nibbles", "the two codes of a byte are swapped", &["op/linear/q4_0/*"]),
        before!("linear", |c| blocks(c.input("w"), DType::Q4_0, |b| b[2..]
            .iter_mut()
            .for_each(|x| *x = x.rotate_left(4)))),
    ),
    (mutant("q4_0_offset", "codes are around 7", &["op/linear/q4_0/*"]), |honest, mut call, right| {
        if call.op.name() != "linear" || call.inputs[1].dtype != DType::Q4_0 {
            return right;
        }
        let mut w = call.inputs[1].widened();
        let raw = call.inputs[1].bytes.clone();
        w.map(|i, v| v + f16::from_le_bytes([raw[i / 32 * 18], raw[i / 32 * 18 + 1]]).to_f32());
        call.inputs[1] = w;
        honest.compute(&call)
    }),
    (
        mutant("q4_1_no_minimum", "the minimum is left out", &["op/linear/q4_1/*"]),
        before!("linear", |c| blocks(c.input("w"), DType::Q4_1, |b| b[2..4].fill(0))),
    ),
    (
        mutant("q5_0_high_bits", "the fifth bits are left out", &["op/linear/q5_0/*"]),
        before!("linear", |c| blocks(c.input("w"), DType::Q5_0, |b| b[2..6].fill(0))),
    ),
    (
        mutant("q5_1_high_bits_reversed", "the fifth bits come in another order", &["op/linear/q5_1/*"]),
        before!("linear", |c| blocks(c.input("w"), DType::Q5_1, |b| b[4..8].reverse())),
    ),
    (
        mutant("q8_0_next_scale", "every block has the scale of the next one", &["op/linear/q8_0/*"]),
        before!("linear", |c| if let Some(w) = c.input("w").filter(|w| w.dtype == DType::Q8_0) {
            let scales: Vec<[u8; 2]> = w.bytes.chunks(34).map(|b| [b[0], b[1]]).collect();
            for (i, b) in w.bytes.chunks_mut(34).enumerate() {
                b[..2].copy_from_slice(&scales[(i + 1) % scales.len()])
            }
        }),
    ),
    (
        mutant("q8_0_unsigned", "the sign of a code is lost", &["op/linear/q8_0/*"]),
        before!("linear", |c| blocks(c.input("w"), DType::Q8_0, |b| b[2..].iter_mut().for_each(|x| *x &= 0x7f))),
    ),
    (
        mutant("q2_k_minimum", "minimums are left out", &["op/linear/q2_k/*"]),
        before!("linear", |c| blocks(c.input("w"), DType::Q2_K, |b| b[82..84].fill(0))),
    ),
    (
        mutant("q3_k_scales", "the upper scale bits are left out", &["op/linear/q3_k/*"]),
        before!("linear", |c| blocks(c.input("w"), DType::Q3_K, |b| b[104..108].fill(0))),
    ),
    (
        mutant("q4_k_high_scales", "the last four scales lose their upper bits", &["op/linear/q4_k/*"]),
        before!("linear", |c| blocks(c.input("w"), DType::Q4_K, |b| b[4..12].iter_mut().for_each(|x| *x &= 0x3f))),
    ),
    (
        mutant("q5_k_high_bits", "the fifth bits are left out", &["op/linear/q5_k/*"]),
        before!("linear", |c| blocks(c.input("w"), DType::Q5_K, |b| b[16..48].fill(0))),
    ),
    (
        mutant("q6_k_scale_sign", "scales are unsigned", &["op/linear/q6_k/*"]),
        before!("linear", |c| blocks(c.input("w"), DType::Q6_K, |b| b[192..208].iter_mut().for_each(|x| *x &= 0x7f))),
    ),
    (
        mutant("qkv_k_is_v", "keys come from the weight of the values", QKV),
        before!("qkv_linear", |c| if c.inputs[2].dims == c.inputs[3].dims {
            c.inputs[2] = c.inputs[3].clone()
        }),
    ),
    (mutant("qkv_no_bias", "biases are left out", QKV), before!("qkv_linear", |c| c.inputs.truncate(4))),
    (
        mutant("qkv_bias_of_q", "v gets no bias", QKV),
        before!("qkv_linear", |c| if let Some(b) = c.inputs.get_mut(6) {
            b.map(|_, _| 0.0)
        }),
    ),
    (
        mutant("bmm_not_transposed", "a square b is not transposed", BMM),
        before!("bmm", |c| {
            let n = c.inputs[1].dims.len();
            if c.inputs[1].dims[n - 1] == c.inputs[1].dims[n - 2] {
                c.op = Op::Bmm { transpose_b: false }
            }
        }),
    ),
    (
        mutant("bmm_first_batch", "every matrix is multiplied with the first b", BMM),
        before!("bmm", |c| {
            let n = c.inputs[1].dims.len();
            let one = c.inputs[1].dims[n - 2] * c.inputs[1].row_bytes();
            let times = c.inputs[1].bytes.len() / one.max(1);
            c.inputs[1].bytes = c.inputs[1].bytes[..one].to_vec().repeat(times)
        }),
    ),
    (
        mutant("bmm_last_column", "the last column is zero", BMM),
        after!("bmm", |c, y| {
            let d = y[0].columns();
            if d > 1 {
                cut(&mut y[0], d - 1)
            }
        }),
    ),
    (
        mutant("bmm_k_tail", "K past a multiple of 4 is left out", BMM),
        before!("bmm", |c| {
            let k = c.inputs[0].columns();
            if k > 4 {
                cut(&mut c.inputs[0], k / 4 * 4)
            }
        }),
    ),
];
