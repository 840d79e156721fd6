//! `cast(x [..] any) -> [..]` of type f32, f16 or bf16: rounded to nearest even, to infinity out of range; or q8_0: in blocks

use ndarray::ArrayViewMut2;

use crate::tensor::Tensor;

/// Both directions happen at the edges of every kernel: reading an operand widens it exactly, storing a result rounds
/// it. So a cast is a kernel that changes nothing.
pub(super) fn cast(
    x: &Tensor<'_>,                // [.., D]
    mut y: ArrayViewMut2<'_, f32>, // [.., D]
) {
    y.assign(&x.matrix());
}

#[cfg(test)]
mod tests {
    use super::super::compute;
    use crate::tensor::Tensor;
    use crate::tensor::testing::Owned;
    use camelid_core::DType;
    use camelid_core::ops::Op;

    fn cast(x: Tensor<'_>, to: DType) -> Vec<u8> {
        let dims = x.dims.clone();
        compute(&Op::Cast { to }, &[x], to, &dims).unwrap().bytes().to_vec()
    }

    fn bits16(bytes: &[u8]) -> Vec<u16> {
        bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect()
    }

    #[test]
    fn f16_rounds_to_nearest_even_and_overflows_to_infinity() {
        // Between 1 and the next f16, 1 + 2^-10: just below the middle, the middle (to even), just above; the largest
        // f16, the middle between it and 2^16 (to infinity), below it; the smallest subnormal, half of it (to even).
        let e = 2f32.powi(-11);
        let values = [1.0 + e - 2f32.powi(-23), 1.0 + e, 1.0 + e + 2f32.powi(-23), 1.0 + 3.0 * e];
        let x = Owned::floats(DType::F32, &[4], &values);
        assert_eq!(bits16(&cast(x.view(), DType::F16)), [0x3c00, 0x3c00, 0x3c01, 0x3c02]);
        let values = [65504.0, 65520.0, 65519.0, -1e30, 2f32.powi(-24), 2f32.powi(-25), -0.0];
        let x = Owned::floats(DType::F32, &[7], &values);
        let expected = [0x7bff, 0x7c00, 0x7bff, 0xfc00, 0x0001, 0x0000, 0x8000];
        assert_eq!(bits16(&cast(x.view(), DType::F16)), expected);
    }

    #[test]
    fn bf16_rounds_to_nearest_even() {
        let e = 2f32.powi(-8);
        let values = [1.0 + e, 1.0 + e + 2f32.powi(-23), 1.0 + 3.0 * e, f32::MAX, f32::INFINITY];
        let x = Owned::floats(DType::F32, &[5], &values);
        assert_eq!(bits16(&cast(x.view(), DType::BF16)), [0x3f80, 0x3f81, 0x3f82, 0x7f80, 0x7f80]);
        let nan = Owned::floats(DType::F32, &[1], &[f32::NAN]);
        assert!(half::bf16::from_bits(bits16(&cast(nan.view(), DType::BF16))[0]).is_nan());
    }

    #[test]
    fn rows_become_blocks_of_q8_0() {
        let mut x = vec![0.0f32; 64];
        (x[0], x[1], x[2], x[63]) = (-127.0, 0.5, 1.5, f32::INFINITY);
        let x = Owned::floats(DType::F32, &[1, 64], &x);
        let bytes = cast(x.view(), DType::Q8_0);
        assert_eq!(bytes[..6], [0x00, 0x3c, 0x81, 1, 2, 0]);
        let back = Tensor { dtype: DType::Q8_0, dims: vec![1, 64], bytes: &bytes }.vector().to_vec();
        assert!(back[..32].iter().all(|x| x.is_finite()) && back[32..].iter().all(|x| x.is_nan()));
    }

    #[test]
    fn widening_is_exact_from_every_type() {
        let half = Owned::floats(DType::F16, &[3], &[0.1, 65504.0, -0.0]);
        let expected: Vec<u8> = [0.099_975_586f32, 65504.0, -0.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(cast(half.view(), DType::F32), expected);
        let mut block = vec![0u8; 18]; // q4_0: code 8 is zero, all codes here are 0, so every element is -8 d
        block[..2].copy_from_slice(&half::f16::from_f32(0.25).to_le_bytes());
        let x = Tensor { dtype: DType::Q4_0, dims: vec![1, 32], bytes: &block };
        assert_eq!(cast(x.clone(), DType::F32), (-2f32).to_le_bytes().repeat(32));
        assert_eq!(bits16(&cast(x, DType::BF16)), [0xc000; 32]);
    }
}
