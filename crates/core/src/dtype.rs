//! Element types: plain scalars and the block formats of quantized checkpoints.
//!
//! A [`DType`] is a descriptor, not an enum, because it crosses the plugin ABI as three integers and a vendor may
//! bring its own: an id, the number of elements in one block, and the bytes one block takes. Scalars are blocks of
//! one element. Rows of a tensor are whole numbers of blocks, so a row never shares a block with its neighbour.

use std::fmt;

/// The type of the elements of a tensor, as stored.
///
/// ```
/// use camelid_core::DType;
/// assert_eq!(DType::Q4_K.row_bytes(512), Some(288));
/// assert_eq!(DType::Q4_K.row_bytes(300), None, "a row is a whole number of blocks");
/// assert_eq!(DType::from_name("bf16"), Some(DType::BF16));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DType {
    id: u32,
    block_elems: u32,
    block_bytes: u32,
}

/// Ids from here on belong to vendors; the project never assigns them.
pub const VENDOR_ID_START: u32 = 0x8000_0000;

macro_rules! dtypes {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $text:literal, $elems:literal, $bytes:literal;)*) => {
        impl DType {
            $($(#[$doc])* pub const $name: DType = DType { id: $id, block_elems: $elems, block_bytes: $bytes };)*

            /// Every type the project defines, in order of id.
            pub const ALL: &'static [DType] = &[$(DType::$name),*];

            /// The lower-case name (`"q4_k"`), or `None` for a vendor's type.
            pub fn known_name(self) -> Option<&'static str> {
                match self {
                    $(DType::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

// Ids are part of the plugin ABI: appended, never renumbered, never reused.
dtypes! {
    /// IEEE 754 binary32.
    F32 = 1, "f32", 1, 4;
    /// IEEE 754 binary16.
    F16 = 2, "f16", 1, 2;
    /// bfloat16: the upper half of a binary32.
    BF16 = 3, "bf16", 1, 2;
    /// Two's complement 32-bit integer: token ids, positions, slots.
    I32 = 4, "i32", 1, 4;
    /// 32 elements: f16 scale, 16 bytes of 4-bit codes around 8.
    Q4_0 = 16, "q4_0", 32, 18;
    /// 32 elements: f16 scale, f16 minimum, 16 bytes of 4-bit codes.
    Q4_1 = 17, "q4_1", 32, 20;
    /// 32 elements: f16 scale, 4 bytes of fifth bits, 16 bytes of low 4 bits, codes around 16.
    Q5_0 = 18, "q5_0", 32, 22;
    /// 32 elements: f16 scale, f16 minimum, 4 bytes of fifth bits, 16 bytes of low 4 bits.
    Q5_1 = 19, "q5_1", 32, 24;
    /// 32 elements: f16 scale, 32 signed bytes.
    Q8_0 = 20, "q8_0", 32, 34;
    /// 256 elements in 16 groups: 4-bit scales and minimums, 2-bit codes.
    Q2_K = 24, "q2_k", 256, 84;
    /// 256 elements in 16 groups: 6-bit scales, 3-bit codes.
    Q3_K = 25, "q3_k", 256, 110;
    /// 256 elements in 8 groups: 6-bit scales and minimums, 4-bit codes.
    Q4_K = 26, "q4_k", 256, 144;
    /// 256 elements in 8 groups: 6-bit scales and minimums, 5-bit codes.
    Q5_K = 27, "q5_k", 256, 176;
    /// 256 elements in 16 groups: 8-bit scales, 6-bit codes around 32.
    Q6_K = 28, "q6_k", 256, 210;
}

impl DType {
    /// A type of a vendor's own.
    ///
    /// Returns `None` if `id` is below [`VENDOR_ID_START`] or a block would be empty.
    pub fn vendor(id: u32, block_elems: u32, block_bytes: u32) -> Option<DType> {
        (id >= VENDOR_ID_START && block_elems > 0 && block_bytes > 0).then_some(DType { id, block_elems, block_bytes })
    }

    /// The type the project defines under `name` (as [`DType::known_name`] gives it).
    pub fn from_name(name: &str) -> Option<DType> {
        Self::ALL.iter().copied().find(|d| d.known_name() == Some(name))
    }

    /// The stable id used in the plugin ABI.
    pub fn id(self) -> u32 {
        self.id
    }

    /// Elements in one block; 1 for scalars.
    pub fn block_elems(self) -> usize {
        self.block_elems as usize
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        self.block_bytes as usize
    }

    /// True for formats whose elements share a scale: they can be dequantized, not indexed.
    pub fn is_block(self) -> bool {
        self.block_elems > 1
    }

    /// True for the types a weight can be computed with: floats and quantized floats.
    pub fn is_float(self) -> bool {
        self != DType::I32
    }

    /// Bytes of a row of `elems` elements, or `None` if that is no whole number of blocks or overflows.
    pub fn row_bytes(self, elems: usize) -> Option<usize> {
        if !elems.is_multiple_of(self.block_elems()) {
            return None;
        }
        (elems / self.block_elems()).checked_mul(self.block_bytes())
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known_name() {
            Some(name) => f.write_str(name),
            None => write!(f, "vendor:{:#x}", self.id),
        }
    }
}

impl fmt::Debug for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_unique_and_find_their_way_back() {
        for (i, a) in DType::ALL.iter().enumerate() {
            assert_eq!(DType::from_name(a.known_name().unwrap()), Some(*a));
            for b in &DType::ALL[i + 1..] {
                assert_ne!(a.id(), b.id());
                assert_ne!(a.known_name(), b.known_name());
            }
        }
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(DType::F32.row_bytes(3), Some(12));
        assert_eq!(DType::Q8_0.row_bytes(64), Some(68));
        assert_eq!(DType::Q8_0.row_bytes(63), None);
        assert_eq!(DType::F32.row_bytes(usize::MAX), None);
    }

    #[test]
    fn vendors_get_their_own_ids_only() {
        assert!(DType::vendor(4, 1, 1).is_none());
        assert!(DType::vendor(VENDOR_ID_START, 0, 1).is_none());
        assert_eq!(DType::vendor(VENDOR_ID_START + 7, 64, 40).unwrap().to_string(), "vendor:0x80000007");
    }
}
