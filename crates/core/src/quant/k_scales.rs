//! The 6-bit scales and minimums that `q4_k` and `q5_k` share: 8 groups in 12 bytes.
//!
//! ```text
//! byte  0..4    of group g < 4: scale in bits 0..6 of byte g;      bits 6,7: high bits of the scale of group g + 4
//! byte  4..8    of group g < 4: minimum in bits 0..6 of byte 4+g;  bits 6,7: high bits of the minimum of group g + 4
//! byte  8..12   of group g + 4: low 4 bits of the scale in the low half of byte 8+g, of the minimum in its high half
//! ```

/// `(scale, minimum)` of each group.
#[inline(always)]
pub(super) fn unpack(packed: &[u8; 12]) -> [(u8, u8); 8] {
    std::array::from_fn(|g| match g {
        0..4 => (packed[g] & 63, packed[g + 4] & 63),
        _ => {
            let (scale_high, minimum_high, low) = (packed[g - 4] >> 6, packed[g] >> 6, packed[g + 4]);
            (low & 15 | scale_high << 4, low >> 4 | minimum_high << 4)
        }
    })
}

/// The other direction; scales and minimums are below 64.
#[inline(always)]
pub(super) fn pack(groups: [(u8, u8); 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for g in 0..4 {
        let ((scale, minimum), (scale4, minimum4)) = (groups[g], groups[g + 4]);
        packed[g] = scale | scale4 >> 4 << 6;
        packed[g + 4] = minimum | minimum4 >> 4 << 6;
        packed[g + 8] = scale4 & 15 | (minimum4 & 15) << 4;
    }
    packed
}

#[cfg(test)]
mod tests {
    #[test]
    fn unpacking_undoes_packing_for_every_value_of_every_group() {
        for g in 0..8 {
            for value in 0..64 {
                let mut groups = [(21, 42); 8];
                groups[g] = (value, 63 - value);
                assert_eq!(super::unpack(&super::pack(groups)), groups);
            }
        }
    }
}
