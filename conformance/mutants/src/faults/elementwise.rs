//! Faults in `activation`, `swiglu`, `add` and `mul`.

use camelid_core::ops::{Activation, Op};
use half::f16;

use super::{Entry, after, before, mutant};

const ACTIVATION: &[&str] = &["op/activation/*"];
const SWIGLU: &[&str] = &["op/swiglu/*"];

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

pub(super) const FAULTS: &[Entry] = &[
    (
        mutant("silu_hard", "x * clamp(x/6 + 1/2)", ACTIVATION),
        after!("activation", |c, y| if c.op == Op::Activation(Activation::Silu) {
            let x = c.inputs[0].floats();
            y[0].map(|i, _| x[i] * (x[i] / 6.0 + 0.5).clamp(0.0, 1.0))
        }),
    ),
    (
        mutant("silu_is_gelu", "gelu in place of silu", ACTIVATION),
        before!("activation", |c| if c.op == Op::Activation(Activation::Silu) {
            c.op = Op::Activation(Activation::Gelu)
        }),
    ),
    (
        mutant("silu_is_quick_gelu", "x * sigmoid(1.702 x)", ACTIVATION),
        before!("activation", |c| if c.op == Op::Activation(Activation::Silu) {
            c.op = Op::Activation(Activation::QuickGelu)
        }),
    ),
    (
        mutant("silu_overflows", "x exp(x) / (1 + exp(x)), which is NaN where exp overflows", ACTIVATION),
        after!("activation", |c, y| if c.op == Op::Activation(Activation::Silu) {
            let x = c.inputs[0].floats();
            y[0].map(|i, _| x[i] * x[i].exp() / (1.0 + x[i].exp()))
        }),
    ),
    (
        mutant("silu_cut_tail", "zero below -8", ACTIVATION),
        after!("activation", |c, y| if c.op == Op::Activation(Activation::Silu) {
            let x = c.inputs[0].floats();
            y[0].map(|i, v| if x[i] < -8.0 { 0.0 } else { v })
        }),
    ),
    (
        mutant("gelu_by_tanh", "the tanh form in place of erf", ACTIVATION),
        before!("activation", |c| if c.op == Op::Activation(Activation::Gelu) {
            c.op = Op::Activation(Activation::GeluTanh)
        }),
    ),
    (
        mutant("gelu_tanh_by_erf", "erf in place of the tanh form", ACTIVATION),
        before!("activation", |c| if c.op == Op::Activation(Activation::GeluTanh) {
            c.op = Op::Activation(Activation::Gelu)
        }),
    ),
    (
        mutant("relu2_not_squared", "relu in place of its square", ACTIVATION),
        before!("activation", |c| if c.op == Op::Activation(Activation::Relu2) {
            c.op = Op::Activation(Activation::Relu)
        }),
    ),
    (
        mutant("activation_tail", "elements past a multiple of 8 are copied", ACTIVATION),
        after!("activation", |c, y| {
            let (x, n) = (c.inputs[0].floats(), y[0].rows() * y[0].columns());
            y[0].map(|i, v| if n > 8 && i >= n / 8 * 8 { x[i] } else { v })
        }),
    ),
    (mutant("swiglu_swapped", "gate * silu(up)", SWIGLU), before!("swiglu", |c| c.inputs.swap(0, 1))),
    (mutant("swiglu_no_gate", "up alone", SWIGLU), after!("swiglu", |c, y| y[0] = c.inputs[1].clone())),
    (
        mutant("swiglu_sigmoid", "sigmoid(gate) * up", SWIGLU),
        after!("swiglu", |c, y| {
            let (g, u) = (c.inputs[0].floats(), c.inputs[1].floats());
            y[0].map(|i, _| sigmoid(g[i]) * u[i])
        }),
    ),
    (
        mutant("swiglu_f16", "silu is rounded to f16", &["op/swiglu/f32/*"]),
        after!("swiglu", |c, y| {
            let (g, u) = (c.inputs[0].floats(), c.inputs[1].floats());
            y[0].map(|i, _| f16::from_f32(g[i] * sigmoid(g[i])).to_f32() * u[i])
        }),
    ),
    (mutant("add_residual_lost", "b alone", &["op/add/*"]), after!("add", |c, y| y[0] = c.inputs[1].clone())),
    (
        mutant("add_f16", "the sum is rounded to f16", &["op/add/f32/*"]),
        after!("add", |c, y| y[0].map(|_, v| f16::from_f32(v).to_f32())),
    ),
    (
        mutant("add_first_row", "every row gets the first row of b", &["op/add/*"]),
        before!("add", |c| {
            let b = &mut c.inputs[1];
            b.bytes = b.bytes[..b.row_bytes()].to_vec().repeat(b.rows())
        }),
    ),
    (
        mutant("mul_is_add", "a sum in place of the product", &["op/mul/*"]),
        after!("mul", |c, y| {
            let (a, b) = (c.inputs[0].floats(), c.inputs[1].floats());
            y[0].map(|i, _| a[i] + b[i])
        }),
    ),
    (
        mutant("mul_last_row", "the last row is that of a", &["op/mul/*"]),
        after!("mul", |c, y| {
            let (len, rows) = (y[0].row_bytes(), y[0].rows());
            let from = (rows - 1) * len;
            y[0].bytes[from..].copy_from_slice(&c.inputs[0].bytes[from..])
        }),
    ),
];
