//! `activation(x [..] float) -> [..]`: `y = f(x)`, elementwise.
//!
//! Every backend computes `silu`; the others are claimed one by one. The names and formulas are those of `ACT2FN` in
//! transformers.

use super::{Op, OperandError, Operands};
use crate::graph::{GraphBuilder, GraphError, TensorType, ValueId};

/// The function applied to each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// `x / (1 + exp(-x))`; also called swish.
    Silu,
    /// `x/2 (1 + erf(x / sqrt 2))`.
    Gelu,
    /// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `x / (1 + exp(-1.702 x))`.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)^2`.
    Relu2,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `tanh x`.
    Tanh,
    /// `x tanh(ln(1 + exp x))`.
    Mish,
}

impl Activation {
    /// Every activation.
    pub const ALL: [Activation; 9] = [
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Relu,
        Activation::Relu2,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Mish,
    ];

    /// The name as `hidden_act` in config.json writes it (of several names the first).
    pub fn name(self) -> &'static str {
        self.names()[0]
    }

    /// The activation a config calls `name`.
    pub fn from_name(name: &str) -> Option<Activation> {
        Self::ALL.into_iter().find(|a| a.names().contains(&name))
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Activation::Silu => &["silu", "swish"],
            Activation::Gelu => &["gelu", "gelu_python"],
            Activation::GeluTanh => {
                &["gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_accurate", "gelu_python_tanh"]
            }
            Activation::QuickGelu => &["quick_gelu"],
            Activation::Relu => &["relu"],
            Activation::Relu2 => &["relu2"],
            Activation::Sigmoid => &["sigmoid"],
            Activation::Tanh => &["tanh"],
            Activation::Mish => &["mish"],
        }
    }
}

pub(super) fn infer(inputs: &[TensorType]) -> Result<Vec<TensorType>, OperandError> {
    Ok(vec![Operands::new(&["x"], 1, inputs)?.float(0)?])
}

impl GraphBuilder {
    /// Elementwise activation: see [`crate::ops::activation`].
    pub fn activation(&mut self, x: ValueId, kind: Activation) -> Result<ValueId, GraphError> {
        self.push_one(Op::Activation(kind), &[x])
    }
}
