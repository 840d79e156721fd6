//! Honest variants: backends that are right and compute in other ways than the reference. None may be blamed.

use camelid_core::DType;
use camelid_core::ops::Op;

use crate::Variant;
use crate::faults::{Fault, Outcome, in_other_ways};
use crate::kernels::Call;
use crate::tensor::Tensor;

const fn variant(id: &'static str, about: &'static str) -> Variant {
    Variant { id, about, classes: &[], passes: &[] }
}

const BF16: &[(&str, &str)] = &[("*", "bf16")];
const Q8ACT: &[(&str, &str)] = &[("*", "q8act")];

/// Every one of them.
pub(crate) const HONEST: &[Variant] = &[
    variant("as_the_reference", "the reference's kernels, one at a time"),
    variant("eight_threads", "the reference with eight threads"),
    variant("core_operations", "no macro operations: all of them lowered"),
    variant("reversed_sums", "products summed from the end, in f32"),
    variant("blocked_sums", "products summed in blocks of 32, in f32"),
    variant("pairwise_sums", "products summed in pairs, in f32"),
    variant("tiled_sums", "products summed in eight lanes over tiles of 64, in f32"),
    variant("fused_multiply_add", "products summed with one rounding a step, in f32"),
    variant("f64_sums", "products summed in f64"),
    variant("online_softmax", "attention over tiles of 16, rescaled as the largest score grows, in f32"),
    variant("plain_f32", "attention, norms, softmax, activations and matrix products as they are written, in f32"),
    Variant {
        classes: BF16,
        ..variant("bf16_weights", "weights of products rounded to bf16, sums as the reference's")
    },
    Variant {
        classes: Q8ACT,
        ..variant("q8_activations", "f32 activations rounded to 8 bits in blocks before products")
    },
];

/// What a variant does in the place of a fault.
pub(crate) fn fault(id: &str) -> Option<Fault> {
    Some(match id {
        "reversed_sums" => {
            |_, call, right| sums(&call, right, |a, b| a.iter().zip(b).rev().fold(0.0, |s, (a, b)| s + a * b))
        }
        "blocked_sums" => |_, call, right| {
            sums(&call, right, |a, b| {
                a.chunks(32).zip(b.chunks(32)).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>()).sum()
            })
        },
        "pairwise_sums" => |_, call, right| sums(&call, right, pairwise),
        "tiled_sums" => |_, call, right| {
            sums(&call, right, |a, b| {
                let mut lanes = [0.0f32; 8];
                for (a, b) in a.chunks(64).zip(b.chunks(64)) {
                    let mut tile = [0.0f32; 8];
                    for (i, (a, b)) in a.iter().zip(b).enumerate() {
                        tile[i % 8] += a * b;
                    }
                    lanes.iter_mut().zip(tile).for_each(|(lane, tile)| *lane += tile);
                }
                lanes.iter().sum()
            })
        },
        "fused_multiply_add" => {
            |_, call, right| sums(&call, right, |a, b| a.iter().zip(b).fold(0.0, |s: f32, (a, b)| a.mul_add(*b, s)))
        }
        "f64_sums" => |_, call, right| {
            sums(&call, right, |a, b| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32)
        },
        "online_softmax" => |_, call, right| in_other_ways::online_attention(call, right),
        "plain_f32" => |_, call, right| plain(call, right),
        "bf16_weights" => |honest, mut call, right| {
            let weights = weights(&call.op);
            if weights.is_empty() {
                return right;
            }
            call.inputs[weights].iter_mut().for_each(to_bf16);
            honest.compute(&call)
        },
        "q8_activations" => |honest, mut call, right| {
            if weights(&call.op).is_empty() || call.inputs[0].dtype != DType::F32 {
                return right;
            }
            // The k-quants are multiplied by blocks of their own size.
            let block = call.inputs[1].dtype.block_elems().max(32);
            quantize(&mut call.inputs[0], block);
            honest.compute(&call)
        },
        _ => return None,
    })
}

/// `linear` with sums of its own; everything else as it was.
fn sums(call: &Call, right: Outcome, dot: fn(&[f32], &[f32]) -> f32) -> Outcome {
    let mut results = right?;
    if call.op == Op::Linear {
        let (x, w, k) = (call.inputs[0].floats(), call.inputs[1].floats(), call.inputs[0].columns());
        let bias = call.inputs.get(2).map(Tensor::floats);
        let mut y = Vec::with_capacity(results[0].rows() * results[0].columns());
        for row in x.chunks(k) {
            for (n, weights) in w.chunks(k).enumerate() {
                y.push(dot(row, weights) + bias.as_ref().map_or(0.0, |b| b[n]));
            }
        }
        results[0].set(&y);
    }
    Ok(results)
}

/// Which operands are the weights of a product.
fn weights(op: &Op) -> std::ops::Range<usize> {
    match op {
        Op::Linear => 1..2,
        Op::QkvLinear => 1..4,
        _ => 0..0,
    }
}

/// The nearest bf16 numbers, of whatever type they were.
fn to_bf16(tensor: &mut Tensor) {
    let floats = tensor.floats();
    tensor.dtype = DType::BF16;
    tensor.set(&floats);
}

/// Rounds rows to 8 bits in blocks: multiples of a 127th of each block's largest number.
fn quantize(tensor: &mut Tensor, block: usize) {
    let (mut x, columns) = (tensor.floats(), tensor.columns().max(1));
    for block in x.chunks_mut(columns).flat_map(|row| row.chunks_mut(block)) {
        let step = block.iter().fold(0.0_f32, |m, x| m.max(x.abs())) / 127.0;
        if step > 0.0 && step.is_finite() {
            block.iter_mut().for_each(|x| *x = (*x / step).round() * step);
        }
    }
    tensor.set(&x);
}

fn pairwise(a: &[f32], b: &[f32]) -> f32 {
    if a.len() <= 4 {
        return a.iter().zip(b).map(|(a, b)| a * b).sum();
    }
    let (left, right) = (a.split_at(a.len() / 2), b.split_at(a.len() / 2));
    pairwise(left.0, right.0) + pairwise(left.1, right.1)
}

/// Norms, softmax, activations and matrix products as their formulas stand, one f32 after the other.
fn plain(call: Call, right: Outcome) -> Outcome {
    let mut results = right?;
    match &call.op {
        Op::RmsNorm { eps } => {
            let y = norm(&call.inputs[0].floats(), &call.inputs[1].floats(), *eps);
            results[0].set(&y);
        }
        Op::AddRmsNorm { eps } => {
            let (x, r) = (call.inputs[0].floats(), call.inputs[1].floats());
            let sum: Vec<f32> = x.iter().zip(&r).map(|(x, r)| x + r).collect();
            results[0].set(&sum);
            // What goes on is the sum as it is stored.
            let y = norm(&results[0].floats(), &call.inputs[2].floats(), *eps);
            results[1].set(&y);
        }
        Op::Activation(camelid_core::ops::Activation::Silu) => {
            let y: Vec<f32> = call.inputs[0].floats().iter().map(|x| silu(*x)).collect();
            results[0].set(&y);
        }
        Op::Swiglu => {
            let (gate, up) = (call.inputs[0].floats(), call.inputs[1].floats());
            let y: Vec<f32> = gate.iter().zip(&up).map(|(g, u)| silu(*g) * u).collect();
            results[0].set(&y);
        }
        Op::Softmax { scale } if call.inputs.len() == 1 => {
            let (x, d) = (call.inputs[0].floats(), call.inputs[0].columns());
            let row = |row: &[f32]| {
                let top = row.iter().fold(f32::NEG_INFINITY, |m, x| m.max(x * scale));
                let e: Vec<f32> = row.iter().map(|x| (x * scale - top).exp()).collect();
                let sum: f32 = e.iter().sum();
                e.into_iter().map(move |e| e / sum).collect::<Vec<_>>()
            };
            let y: Vec<f32> = x.chunks(d).flat_map(row).collect();
            results[0].set(&y);
        }
        Op::Bmm { transpose_b } => {
            let (a, b) = (&call.inputs[0], &call.inputs[1]);
            let (m, k) = (a.dims[a.dims.len() - 2], a.columns());
            let n = results[0].columns();
            let (x, z) = (a.floats(), b.floats());
            let mut y = Vec::with_capacity(x.len() / k * n);
            for (x, z) in x.chunks(m * k).zip(z.chunks(k * n)) {
                for row in x.chunks(k) {
                    for j in 0..n {
                        let at = |i: usize| if *transpose_b { z[j * k + i] } else { z[i * n + j] };
                        y.push(row.iter().enumerate().fold(0.0, |s, (i, x)| s + x * at(i)));
                    }
                }
            }
            results[0].set(&y);
        }
        Op::Attention(_) => return in_other_ways::plain_attention(call, Ok(results)),
        _ => {}
    }
    Ok(results)
}

fn norm(x: &[f32], w: &[f32], eps: f32) -> Vec<f32> {
    let row = |row: &[f32]| {
        let mean = row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32;
        let scale = 1.0 / (mean + eps).sqrt();
        row.iter().zip(w).map(move |(x, w)| x * scale * w).collect::<Vec<_>>()
    };
    x.chunks(w.len()).flat_map(row).collect()
}

fn silu(x: f32) -> f32 {
    x / (1.0 + (-x).exp())
}
