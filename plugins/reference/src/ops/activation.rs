//! `activation(x [..] float) -> [..]`: `y = f(x)` with one of the functions of `ACT2FN` in transformers
//!
//! The elementary functions are those of `libm` in f64, on every platform the same bits.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use camelid_core::ops::Activation;
use libm::{erfc, exp, log1p, tanh};
use ndarray::{ArrayView2, ArrayViewMut2, Zip};

/// The function itself, if it is one this backend knows: what the claims ask.
///
/// The formulas are those of [`Activation`], some written so that nothing cancels for negative x.
pub(crate) fn function(kind: Activation) -> Option<fn(f64) -> f64> {
    Some(match kind {
        Activation::Silu => |x| x * sigmoid(x),
        // 1 + erf(u) = erfc(-u)
        Activation::Gelu => |x| 0.5 * x * erfc(-x * FRAC_1_SQRT_2),
        // (1 + tanh(u)) / 2 = sigmoid(2u)
        Activation::GeluTanh => |x| x * sigmoid(2.0 * (2.0 / PI).sqrt() * (x + 0.044715 * x * x * x)),
        Activation::QuickGelu => |x| x * sigmoid(1.702 * x),
        Activation::Relu => relu,
        Activation::Relu2 => |x| relu(x) * relu(x),
        Activation::Sigmoid => sigmoid,
        Activation::Tanh => tanh,
        Activation::Mish => |x| x * tanh(softplus(x)),
        _ => return None,
    })
}

pub(super) fn activation(
    kind: Activation,
    x: ArrayView2<'_, f32>,    // [.., D]
    y: ArrayViewMut2<'_, f32>, // [.., D]
) {
    let f = function(kind).expect("the claims admit only activations with a function");
    Zip::from(y).and(x).par_for_each(|y, x| *y = f(f64::from(*x)) as f32);
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

/// `max(x, 0)`, and NaN for NaN, which `f64::max` would hide.
fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

/// `ln(1 + exp x)`
fn softplus(x: f64) -> f64 {
    // From here on the two differ by less than half a unit in the last place.
    if x > 40.0 { x } else { log1p(exp(x)) }
}

#[cfg(test)]
mod tests {
    use super::super::compute;
    use super::*;
    use crate::tensor::Tensor;
    use crate::tensor::testing::Owned;
    use camelid_core::DType;
    use camelid_core::ops::Op;

    fn activate(kind: Activation, values: &[f32]) -> Vec<f32> {
        let x = Owned::floats(DType::F32, &[values.len()], values);
        let y = compute(&Op::Activation(kind), &[x.view()], DType::F32, &x.dims).unwrap();
        Tensor { dtype: DType::F32, dims: x.dims.clone(), bytes: y.bytes() }.vector().to_vec()
    }

    #[test]
    fn values_are_those_of_the_formulas() {
        // Computed from the formulas with 60 digits and rounded to f32.
        let x = [-9.0, -2.5, -0.125, 0.75, 4.0];
        let expected: [(Activation, [f32; 5]); 9] = [
            (Activation::Silu, [-0.0011105512, -0.18964545, -0.058598828, 0.50938404, 3.928055]),
            (Activation::Gelu, [-1.0157296e-18, -0.015524163, -0.05628272, 0.5800295, 3.9998734]),
            (Activation::GeluTanh, [-1.3364596e-28, -0.015084266, -0.0562828, 0.5799606, 3.9999297]),
            (Activation::QuickGelu, [-2.003178e-6, -0.034986164, -0.055876527, 0.5863901, 3.9955852]),
            (Activation::Relu, [0.0, 0.0, 0.0, 0.75, 4.0]),
            (Activation::Relu2, [0.0, 0.0, 0.0, 0.5625, 16.0]),
            (Activation::Sigmoid, [0.00012339458, 0.07585818, 0.46879062, 0.6791787, 0.98201376]),
            (Activation::Tanh, [-0.99999994, -0.9866143, -0.124353, 0.63514894, 0.9993293]),
            (Activation::Mish, [-0.0011106197, -0.1968162, -0.069979906, 0.6100183, 3.997413]),
        ];
        for (kind, expected) in expected {
            assert_eq!(activate(kind, &x), expected, "{}", kind.name());
        }
    }

    #[test]
    fn every_activation_has_its_limits_at_the_ends() {
        for kind in Activation::ALL {
            let y = activate(kind, &[0.0, -1e4, 1e4, f32::NAN]);
            let at_zero = if kind == Activation::Sigmoid { 0.5 } else { 0.0 };
            assert_eq!(y[0], at_zero, "{}", kind.name());
            let low = if kind == Activation::Tanh { -1.0 } else { 0.0 };
            assert_eq!(y[1], low, "{}", kind.name());
            let high = match kind {
                Activation::Sigmoid | Activation::Tanh => 1.0,
                Activation::Relu2 => 1e8,
                _ => 1e4,
            };
            assert_eq!(y[2], high, "{}", kind.name());
            assert!(y[3].is_nan(), "{}", kind.name());
        }
    }

    #[test]
    fn a_large_value_does_not_make_a_nan() {
        for kind in Activation::ALL.into_iter().filter(|k| *k != Activation::Relu2) {
            let y = activate(kind, &[f32::MAX, f32::MIN]);
            assert!(y.iter().all(|v| v.is_finite()), "{}: {y:?}", kind.name());
        }
    }

    #[test]
    fn half_values_are_rounded_once() {
        let x = Owned::floats(DType::BF16, &[1], &[1.0]);
        let y = compute(&Op::Activation(Activation::Sigmoid), &[x.view()], DType::BF16, &[1]).unwrap();
        // sigmoid(1) = 0.731058..., between 0.73046875 and 0.734375
        assert_eq!(Tensor { dtype: DType::BF16, dims: vec![1], bytes: y.bytes() }.vector().to_vec(), [0.730_468_75]);
    }
}
