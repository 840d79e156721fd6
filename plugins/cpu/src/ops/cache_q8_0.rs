//! Keys and values in q8_0: f32s into blocks of 32, and blocks as f32 for attention. The rule is `cast`'s
//! (`camelid_core::ops::cast`), to the bit.

use crate::isa::{Isa, LANES};
use crate::kernel::Task;

/// Elements and bytes of a block: the scale as f16, then a signed byte for each element.
const ELEMENTS: usize = 32;
const BYTES: usize = 34;

/// Whole blocks of `numbers`, stored at `to`.
pub(super) struct Quantize<'a> {
    pub numbers: &'a [f32],
    pub to: *mut u8,
}

impl Task for Quantize<'_> {
    type Output = ();

    // Loops over arrays that the compiler turns into vectors of the set of instructions; halves go away from zero, for
    // which `Isa` has nothing.
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        for (i, x) in self.numbers.as_chunks::<ELEMENTS>().0.iter().enumerate() {
            let (mut most, mut odd) = (0.0f32, false);
            for x in x {
                most = if x.abs() > most { x.abs() } else { most };
                odd |= x.is_nan();
            }
            let d = if odd { f32::NAN } else { most / 127.0 };
            let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
            let mut block = [0u8; BYTES];
            let (scale, codes) = block.split_at_mut(2);
            scale.copy_from_slice(&half::f16::from_f32(d).to_le_bytes());
            for (code, x) in codes.iter_mut().zip(x) {
                let x = (x * inverse).round();
                // The inverse of the tiniest scales is infinite; they are 0 as f16.
                *code = if x.abs() < 128.0 { x as i8 as u8 } else { 0 };
            }
            // SAFETY: by contract there is room for the block.
            unsafe { std::ptr::copy_nonoverlapping(block.as_ptr(), self.to.add(i * BYTES), BYTES) };
        }
    }
}

/// Elements `i..i + 16` of the blocks at `row`, `i` a multiple of sixteen.
///
/// # Safety
/// The blocks are there.
#[inline(always)]
pub(super) unsafe fn load_q8_0<I: Isa>(row: *const u8, i: usize) -> I::F {
    // SAFETY: by contract; the array has sixteen elements.
    unsafe {
        let block = row.add(i / ELEMENTS * BYTES);
        let scale = [block.cast::<u16>().read_unaligned(); LANES];
        let codes = I::load_i8(block.add(2 + i % ELEMENTS).cast());
        I::mul(I::load_f16(scale.as_ptr()), codes)
    }
}

#[cfg(test)]
mod tests {
    use camelid_core::{DType, quant};

    use super::*;
    use crate::isa::IsaName;
    use crate::kernel::on;

    fn isas() -> impl Iterator<Item = IsaName> {
        IsaName::ALL.into_iter().filter(|isa| isa.is_here())
    }

    /// Blocks of every kind: numbers in 24 bits from the tiniest to the largest, ties, zeros, and what is no number.
    fn blocks() -> Vec<f32> {
        let mut state = 7u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let mut x: Vec<f32> = Vec::new();
        for exponent in [-149, -140, -127, -126, -30, -24, -14, 0, 1, 20, 23, 24, 100, 127] {
            x.extend((0..ELEMENTS).map(|_| next() * 2f32.powi(exponent)));
        }
        // A scale of 1, and numbers half way between codes, or just not.
        let near = [0.5, -0.5, 1.5, -2.5, 125.5, -126.5, 0.499_999_97, -0.499_999_97, 126.499_99, -0.0];
        x.push(127.0);
        x.extend(near.iter().cycle().take(ELEMENTS - 1));
        x.extend([0.0; ELEMENTS]);
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            x.extend((0..ELEMENTS).map(|i| if i == 17 { odd } else { 1.0 }));
        }
        x
    }

    #[test]
    fn every_set_of_instructions_makes_the_blocks_of_the_rule() {
        let x = blocks();
        let mut expected = vec![0; DType::Q8_0.row_bytes(x.len()).unwrap()];
        quant::row_quantizer(DType::Q8_0).unwrap()(&x, &mut expected);
        for isa in isas() {
            let mut found = vec![0xa5; expected.len() + 1];
            // SAFETY: the processor has the instructions, and there is room for the blocks.
            unsafe { on(isa, Quantize { numbers: &x, to: found.as_mut_ptr() }) };
            assert_eq!(found.pop(), Some(0xa5), "{isa}");
            for (i, (found, expected)) in found.chunks(BYTES).zip(expected.chunks(BYTES)).enumerate() {
                let odd = |block: &[u8]| half::f16::from_le_bytes([block[0], block[1]]).is_nan();
                assert!(found == expected || (odd(found) && odd(expected)), "{isa}: block {i}: {found:?} {expected:?}");
            }
        }
    }

    struct Load<'a> {
        blocks: &'a [u8],
        y: &'a mut [f32],
    }

    impl Task for Load<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<I: Isa>(self) {
            for i in (0..self.y.len()).step_by(LANES) {
                // SAFETY: sixteen elements from `i` on are there.
                unsafe { I::store(self.y.as_mut_ptr().add(i), load_q8_0::<I>(self.blocks.as_ptr(), i)) };
            }
        }
    }

    #[test]
    fn every_set_of_instructions_reads_scale_times_code() {
        // Every code under scales of both signs, subnormal and large ones; a byte before, so that nothing is aligned.
        let scales = [0x0000u16, 0x8000, 0x0001, 0x83ff, 0x0400, 0x3c00, 0xbc01, 0x7bff, 0x2e66];
        let mut bytes = vec![0];
        for (scale, first) in scales.iter().flat_map(|s| (0..8u8).map(move |c| (s, c * 32))) {
            bytes.extend(scale.to_le_bytes());
            bytes.extend((0..32u8).map(|i| first.wrapping_add(i)));
        }
        let mut expected = vec![0.0; scales.len() * 256];
        quant::dequantize(DType::Q8_0, &bytes[1..], &mut expected).unwrap();
        for isa in isas() {
            let mut y = vec![f32::NAN; expected.len()];
            // SAFETY: the processor has the instructions, and the blocks are there.
            unsafe { on(isa, Load { blocks: &bytes[1..], y: &mut y }) };
            assert!(y == expected, "{isa}");
        }
    }
}
