//! Faults in how numbers are rounded, limited or read: cut where they should be rounded, f16 in the middle of f32, fields
//! of a block whose sign or size nobody thought of.

use camelid_core::DType;
use half::{bf16, f16};

use super::Outcome;
use super::{Entry, after, before, mutant};
use crate::kernels::{Call, Honest};
use crate::tensor::Tensor;

/// What f16 can hold, at most.
const TOP: f32 = 65_504.0;

fn clamp(y: &mut Tensor) {
    y.map(|_, v| v.clamp(-TOP, TOP));
}

/// Computes in f32 and stores 16-bit results cut, not rounded.
fn cut(honest: &mut Honest, call: Call, right: Outcome) -> Outcome {
    let mut results = right?;
    if ![DType::F16, DType::BF16].contains(&results[0].dtype) || call.op.name() == "cast" {
        return Ok(results);
    }
    let mut wide = call;
    for input in wide.inputs.iter_mut().filter(|i| [DType::F16, DType::BF16].contains(&i.dtype)) {
        *input = input.widened();
    }
    let exact = honest.compute(&wide)?;
    for (result, exact) in results.iter_mut().zip(exact) {
        let lost = if result.dtype == DType::BF16 { 16 } else { 13 };
        let values = exact.floats();
        result.map(|i, v| {
            let x = values[i];
            if v.is_finite() && x.abs() > 1e-4 { f32::from_bits(x.to_bits() >> lost << lost) } else { v }
        });
    }
    Ok(results)
}

macro_rules! cuts {
    ($op:literal) => {
        |honest, call, right| if call.op.name() == $op { cut(honest, call, right) } else { right }
    };
}

macro_rules! saturates {
    ($op:literal) => {
        after!($op, |c, y| if y[0].dtype == DType::F32 {
            y.iter_mut().for_each(clamp)
        })
    };
}

/// The first f16 field of every block, changed.
fn scales(w: &mut Tensor, change: fn(f16) -> f16) {
    let Some(at) = (match w.dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => Some(0),
        DType::Q2_K => Some(80),
        DType::Q3_K => Some(108),
        DType::Q6_K => Some(208),
        _ => None,
    }) else {
        return;
    };
    for block in w.bytes.chunks_mut(w.dtype.block_bytes()) {
        let scale = change(f16::from_le_bytes([block[at], block[at + 1]]));
        block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
    }
}

fn positive(x: f16) -> f16 {
    f16::from_bits(x.to_bits() & 0x7fff)
}

pub(super) const FAULTS: &[Entry] = &[
    (mutant("linear_cuts", "16-bit results are cut, not rounded", &["op/linear/*"]), cuts!("linear")),
    (mutant("add_cuts", "16-bit results are cut, not rounded", &["op/add/*"]), cuts!("add")),
    (mutant("rms_norm_cuts", "16-bit results are cut, not rounded", &["op/rms_norm/*"]), cuts!("rms_norm")),
    (mutant("attention_cuts", "16-bit results are cut, not rounded", &["op/attention/*"]), cuts!("attention")),
    (mutant("swiglu_cuts", "16-bit results are cut, not rounded", &["op/swiglu/*"]), cuts!("swiglu")),
    (mutant("linear_saturates", "results stay below 65504", &["op/linear/f32/*"]), saturates!("linear")),
    (mutant("add_saturates", "results stay below 65504", &["op/add/f32/*"]), saturates!("add")),
    (mutant("mul_saturates", "results stay below 65504", &["op/mul/f32/*"]), saturates!("mul")),
    (mutant("swiglu_saturates", "results stay below 65504", &["op/swiglu/f32/*"]), saturates!("swiglu")),
    (
        mutant("rms_norm_saturates", "x is limited to 65504", &["op/rms_norm/f32/*"]),
        before!("rms_norm", |c| clamp(&mut c.inputs[0])),
    ),
    (mutant("rope_saturates", "results stay below 65504", &["op/rope/f32/*"]), saturates!("rope")),
    (mutant("bmm_saturates", "results stay below 65504", &["op/bmm/f32/*"]), saturates!("bmm")),
    (
        mutant("attention_v_saturates", "values stay below 65504", &["op/attention/f32/*"]),
        before!("attention", |c| clamp(&mut c.inputs[2])),
    ),
    (
        mutant("add_rms_norm_saturates", "the sum stays below 65504", &["op/add_rms_norm/f32/*"]),
        saturates!("add_rms_norm"),
    ),
    (
        mutant("linear_w_large", "weights are limited to 100", &["op/linear/f32/*"]),
        before!("linear", |c| if !c.inputs[1].dtype.is_block() {
            c.inputs[1].map(|_, w| w.clamp(-100.0, 100.0))
        }),
    ),
    (
        mutant("silu_flushes", "results below 1e-6 are zero", &["op/activation/f32/silu*"]),
        after!("activation", |c, y| y[0].map(|_, v| if v.abs() < 1e-6 { 0.0 } else { v })),
    ),
    (
        mutant("quant_scale_positive", "scales lose their sign", &["op/linear/q*", "op/cast/q*", "op/gather_rows/q*"]),
        before!("linear", |c| scales(&mut c.inputs[1], positive)),
    ),
    (
        mutant("gather_scale_positive", "scales of rows lose their sign", &["op/gather_rows/q*"]),
        before!("gather_rows", |c| scales(&mut c.inputs[0], positive)),
    ),
    (
        mutant("q4_1_minimum_negative", "minimums are taken to be negative", &["op/linear/q4_1/*"]),
        before!("linear", |c| if c.inputs[1].dtype == DType::Q4_1 {
            c.inputs[1].bytes.chunks_mut(20).for_each(|b| b[3] |= 0x80)
        }),
    ),
    (
        mutant("q6_k_upper_lanes", "the upper bits of the second half of a block are left out", &["op/linear/q6_k/*"]),
        before!("linear", |c| if c.inputs[1].dtype == DType::Q6_K {
            c.inputs[1].bytes.chunks_mut(210).for_each(|b| b[160..192].fill(0))
        }),
    ),
    (
        mutant("linear_bf16_sums", "of bf16 operands the sums are bf16", &["op/linear/bf16*"]),
        after!("linear", |c, y| if c.inputs[0].dtype == DType::BF16 && c.inputs[1].dtype == DType::BF16 {
            let (x, w, k) = (c.inputs[0].floats(), c.inputs[1].floats(), c.inputs[0].columns());
            let bias = c.inputs.get(2).map(Tensor::floats);
            let mut sums = Vec::new();
            for row in x.chunks(k) {
                for (n, weights) in w.chunks(k).enumerate() {
                    let sum = row.chunks(32).zip(weights.chunks(32)).fold(0.0, |s: f32, (a, b)| {
                        bf16::from_f32(s + a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>()).to_f32()
                    });
                    sums.push(sum + bias.as_ref().map_or(0.0, |b| b[n]));
                }
            }
            y[0].set(&sums)
        }),
    ),
];
