//! The scales of q4_k and q5_k: eight scales and eight minima of 6 bits in 12 bytes.

/// Scales and minima as bytes of their own, from the file's 12 bytes (llama.cpp's layout: the low 6 bits of the first
/// four bytes and of the next four, then halves of bytes with their upper 2 bits in the first eight).
pub(super) fn unpack(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut minima) = ([0; 8], [0; 8]);
    for i in 0..4 {
        scales[i] = packed[i] & 63;
        minima[i] = packed[i + 4] & 63;
        scales[i + 4] = packed[i + 8] & 15 | packed[i] >> 6 << 4;
        minima[i + 4] = packed[i + 8] >> 4 | packed[i + 4] >> 6 << 4;
    }
    (scales, minima)
}

/// The inverse of [`unpack`].
pub(super) fn pack(scales: [u8; 8], minima: [u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for i in 0..4 {
        packed[i] = scales[i] | scales[i + 4] >> 4 << 6;
        packed[i + 4] = minima[i] | minima[i + 4] >> 4 << 6;
        packed[i + 8] = scales[i + 4] & 15 | minima[i + 4] << 4;
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_finds_its_way_back() {
        for byte in 0..12 {
            for bit in 0..8 {
                let mut packed = [0u8; 12];
                packed[byte] = 1 << bit;
                let (scales, minima) = unpack(&packed);
                assert!(scales.iter().chain(&minima).all(|s| *s < 64));
                assert_eq!(pack(scales, minima), packed);
            }
        }
    }
}
