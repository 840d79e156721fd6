//! `f32`: 4 bytes, little-endian, taken as they are.

/// `bytes [4 n] -> out [n]`
pub(super) fn dequantize(bytes: &[u8], out: &mut [f32]) {
    super::for_each_block::<4, 1>(bytes, out, |bytes, out| out[0] = f32::from_le_bytes(*bytes));
}

/// `x [n] -> bytes [4 n]`
pub(super) fn quantize(x: &[f32], bytes: &mut [u8]) {
    super::for_each_row_block::<4, 1>(x, bytes, |x, bytes| *bytes = x[0].to_le_bytes());
}

#[cfg(test)]
mod tests {
    #[test]
    fn bits_are_kept() {
        let bits = [0x3f80_0000_u32, 0x8000_0000, 0x0000_0001, 0x7fa0_0001, 0xff80_0000];
        let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        let mut out = [0.0; 5];
        super::dequantize(&bytes, &mut out);
        assert_eq!(out.map(f32::to_bits), bits);
    }
}
