//! `bf16`: 2 bytes, little-endian, the upper half of an `f32`.

/// `bytes [2 n] -> out [n]`
pub(super) fn dequantize(bytes: &[u8], out: &mut [f32]) {
    super::for_each_block::<2, 1>(bytes, out, |bytes, out| {
        out[0] = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    });
}

/// `x [n] -> bytes [2 n]`, rounded to the nearest, ties to even.
pub(super) fn quantize(x: &[f32], bytes: &mut [u8]) {
    super::for_each_row_block::<2, 1>(x, bytes, |x, bytes| *bytes = half::bf16::from_f32(x[0]).to_le_bytes());
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_pattern_widens_exactly() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut out = vec![0.0; 1 << 16];
        super::dequantize(&bytes, &mut out);
        for (bits, value) in (0..=u16::MAX).zip(out) {
            let expected = half::bf16::from_bits(bits).to_f32();
            assert!(value.to_bits() == expected.to_bits() || (value.is_nan() && expected.is_nan()), "{bits:#06x}");
        }
    }
}
