//! `f16`: 2 bytes, little-endian: sign, 5 bits of exponent (bias 15), 10 bits of fraction.

/// `bytes [2 n] -> out [n]`
pub(super) fn dequantize(bytes: &[u8], out: &mut [f32]) {
    super::for_each_block::<2, 1>(bytes, out, |bytes, out| out[0] = f16_to_f32(u16::from_le_bytes(*bytes)));
}

/// The value of the f16 with these bits. Exact, subnormals included; a NaN stays a NaN with its payload.
///
/// Written without branches, where a library would ask the processor at every call, so that loops over it
/// vectorize: the scale of a block must not cost more than its elements.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    // Exponent and fraction moved to their places in an f32; 112 = 127 - 15 is the difference of the biases.
    let magnitude = (u32::from(bits) & 0x7fff) << 13;
    let exponent = magnitude & (0x1f << 23);
    let normal = magnitude + (112 << 23);
    // Infinities and NaNs go to the top exponent of an f32.
    let special = normal + (112 << 23);
    // Zero and subnormals are fraction * 2^-24: with an exponent of 2^-14 the leading one is too much by 2^-14.
    let subnormal = (f32::from_bits(normal + (1 << 23)) - f32::from_bits(113 << 23)).to_bits();
    let value = match exponent {
        0 => subnormal,
        e if e == 0x1f << 23 => special,
        _ => normal,
    };
    f32::from_bits(value | (u32::from(bits) & 0x8000) << 16)
}

/// `x [n] -> bytes [2 n]`, rounded to the nearest, ties to even; what is too large becomes infinite.
pub(super) fn quantize(x: &[f32], bytes: &mut [u8]) {
    super::for_each_row_block::<2, 1>(x, bytes, |x, bytes| *bytes = half::f16::from_f32(x[0]).to_le_bytes());
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_pattern_widens_exactly() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut out = vec![0.0; 1 << 16];
        super::dequantize(&bytes, &mut out);
        for (bits, value) in (0..=u16::MAX).zip(out) {
            let expected = half::f16::from_bits(bits).to_f32();
            assert!(value.to_bits() == expected.to_bits() || (value.is_nan() && expected.is_nan()), "{bits:#06x}");
        }
    }
}
