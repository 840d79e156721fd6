//! Faults in `rms_norm`, `add_rms_norm` and `softmax`.

use camelid_core::ops::Op;
use half::f16;

use super::{Entry, after, before, mutant};

const NORM: &[&str] = &["op/rms_norm/*"];
const SUM: &[&str] = &["op/add_rms_norm/*"];
const SOFTMAX: &[&str] = &["op/softmax/*"];

pub(super) const FAULTS: &[Entry] = &[
    (mutant("rms_norm_no_eps", "eps is left out", NORM), before!("rms_norm", |c| c.op = Op::RmsNorm { eps: 1e-30 })),
    (mutant("rms_norm_eps_1e6", "eps is always 1e-6", NORM), before!("rms_norm", |c| c.op = Op::RmsNorm { eps: 1e-6 })),
    (
        mutant("rms_norm_eps_outside", "eps is added after the root", NORM),
        after!("rms_norm", |c, y| {
            let Op::RmsNorm { eps } = c.op else { return Ok(y.clone()) };
            let (x, w, d) = (c.inputs[0].floats(), c.inputs[1].floats(), c.inputs[0].columns());
            y[0].map(|i, _| {
                let row = &x[i / d * d..i / d * d + d];
                let mean = row.iter().map(|v| v * v).sum::<f32>() / d as f32;
                x[i] / (mean.sqrt() + eps) * w[i % d]
            });
        }),
    ),
    (
        mutant("rms_norm_mean", "the mean is taken away first, as LayerNorm does", NORM),
        before!("rms_norm", |c| {
            let (x, d) = (c.inputs[0].floats(), c.inputs[0].columns());
            c.inputs[0].map(|i, v| v - x[i / d * d..i / d * d + d].iter().sum::<f32>() / d as f32);
        }),
    ),
    (
        mutant("rms_norm_weight_plus_one", "the weight is 1 + w, as Gemma has it", NORM),
        before!("rms_norm", |c| c.inputs[1].map(|_, w| w + 1.0)),
    ),
    (
        mutant("rms_norm_no_weight", "the weight is left out", NORM),
        before!("rms_norm", |c| c.inputs[1].map(|_, _| 1.0)),
    ),
    (
        mutant("rms_norm_f16_statistics", "the mean square is an f16", NORM),
        after!("rms_norm", |c, y| {
            let Op::RmsNorm { eps } = c.op else { return Ok(y.clone()) };
            let (x, w, d) = (c.inputs[0].floats(), c.inputs[1].floats(), c.inputs[0].columns());
            y[0].map(|i, _| {
                let row = &x[i / d * d..i / d * d + d];
                let mean = f16::from_f32(row.iter().map(|v| v * v).sum::<f32>() / d as f32).to_f32();
                x[i] / (mean + eps).sqrt() * w[i % d]
            });
        }),
    ),
    (
        mutant("rms_norm_blocked_mean", "the mean is over a multiple of 8 elements", NORM),
        after!("rms_norm", |c, y| {
            let Op::RmsNorm { eps } = c.op else { return Ok(y.clone()) };
            let (x, w, d) = (c.inputs[0].floats(), c.inputs[1].floats(), c.inputs[0].columns());
            y[0].map(|i, _| {
                let row = &x[i / d * d..i / d * d + d];
                let mean = row.iter().map(|v| v * v).sum::<f32>() / d.next_multiple_of(8) as f32;
                x[i] / (mean + eps).sqrt() * w[i % d]
            });
        }),
    ),
    (
        mutant("add_rms_norm_sum_lost", "the sum that goes on is x alone", SUM),
        after!("add_rms_norm", |c, y| y[0] = c.inputs[0].clone()),
    ),
    (mutant("add_rms_norm_residual_lost", "the residual is left out of the norm", SUM), |honest, mut call, right| {
        if call.op.name() != "add_rms_norm" {
            return right;
        }
        let sum = right?[0].clone();
        call.inputs[1].map(|_, _| 0.0);
        let mut results = honest.compute(&call)?;
        results[0] = sum;
        Ok(results)
    }),
    (
        mutant("add_rms_norm_sum_is_y", "both results are the norm", SUM),
        after!("add_rms_norm", |c, y| y[0] = y[1].clone()),
    ),
    (
        mutant("softmax_no_shift", "the maximum is not taken away, so exp overflows", SOFTMAX),
        after!("softmax", |c, y| {
            let Op::Softmax { scale } = c.op else { return Ok(y.clone()) };
            let (x, d) = (c.inputs[0].floats(), c.inputs[0].columns());
            let right = y[0].floats();
            y[0].map(|i, v| {
                let row = i / d * d..i / d * d + d;
                let sum: f32 = row.filter(|j| right[*j] > 0.0).map(|j| (x[j] * scale).exp()).sum();
                if sum.is_finite() && sum > 0.0 { v } else { (x[i] * scale).exp() / sum }
            });
        }),
    ),
    (
        mutant("softmax_no_scale", "the scale is left out", SOFTMAX),
        before!("softmax", |c| c.op = Op::Softmax { scale: 1.0 }),
    ),
    (
        mutant("softmax_all_masked_nan", "a row with nothing left is NaN", SOFTMAX),
        after!("softmax", |c, y| {
            let (right, d) = (y[0].floats(), y[0].columns());
            y[0].map(|i, v| if right[i / d * d..i / d * d + d].iter().all(|p| *p == 0.0) { f32::NAN } else { v });
        }),
    ),
    (
        mutant("softmax_all_masked_uniform", "a row with nothing left is uniform", SOFTMAX),
        after!("softmax", |c, y| {
            let (right, d) = (y[0].floats(), y[0].columns());
            y[0].map(|i, v| if right[i / d * d..i / d * d + d].iter().all(|p| *p == 0.0) { 1.0 / d as f32 } else { v });
        }),
    ),
    (
        mutant("softmax_mask_lost", "the mask is left out", SOFTMAX),
        before!("softmax", |c| if c.inputs.len() > 1 {
            c.inputs[1].map(|_, _| 0.0)
        }),
    ),
    (
        mutant("softmax_mask_of_first_token", "every token has the mask of the first", SOFTMAX),
        before!("softmax", |c| {
            if let Some(mask) = c.inputs.get_mut(1) {
                mask.bytes = mask.bytes[..mask.row_bytes()].to_vec().repeat(mask.rows());
            }
        }),
    ),
    (mutant("softmax_sum_off", "rows sum to 1.001", SOFTMAX), after!("softmax", |c, y| y[0].map(|_, v| v * 1.001))),
    (
        mutant("softmax_tail", "what is past a multiple of 8 is zero", SOFTMAX),
        after!("softmax", |c, y| {
            let d = y[0].columns();
            y[0].map(|i, v| if d > 8 && i % d >= d / 8 * 8 { 0.0 } else { v });
        }),
    ),
];
