//! `kv_append(cache [N, W] cache, rows [T, W] float, slot [T] i32) -> [N, W]`, in place: `cache[slot[t]] = rows[t]`

use super::{Index, OpError, Table, scatter_rows};
use crate::memory::Memory;
use crate::tensor::{Tensor, store};

/// Rows are stored in the cache's type, as `cast` stores them; a padding token has slot -1 and is not stored.
pub(super) fn kv_append(
    cache: Table<'_>,  // [N, W]
    rows: &Tensor<'_>, // [T, W]
    slot: &[i32],      // [T]
) -> Result<(), OpError> {
    let slot = Index { name: "slot", rows: slot };
    if rows.dtype == cache.dtype {
        return scatter_rows::scatter_rows(cache, rows.bytes, slot);
    }
    let values = rows.vector(); // [T * W]
    let bytes = cache.dtype.row_bytes(values.len()).expect("the graph's types have whole rows");
    let mut stored = Memory::fresh(bytes)?;
    store(values.as_slice().expect("vectors are dense"), cache.dtype, stored.bytes_mut());
    scatter_rows::scatter_rows(cache, stored.bytes(), slot)
}

#[cfg(test)]
mod tests {
    use super::super::{OpError, Table, change};
    use crate::tensor::testing::{Owned, indices};
    use camelid_core::DType;
    use camelid_core::ops::Op;

    fn append(cache: &mut Owned, rows: &Owned, slot: &[i32]) -> Result<(), OpError> {
        let slot = indices(&[slot.len()], slot);
        let table = Table { dtype: cache.dtype, rows: cache.dims[0], bytes: &mut cache.bytes };
        change(&Op::KvAppend, table, &[rows.view(), slot.view()])
    }

    #[test]
    fn rows_are_rounded_to_the_caches_type() {
        let third = 1.0 / 3.0;
        for (from, to, expected) in [
            (DType::F32, DType::F32, third),
            (DType::F32, DType::F16, 0.333_251_95),
            (DType::F32, DType::BF16, 0.333_984_38),
            (DType::F16, DType::F32, 0.333_251_95),
            (DType::BF16, DType::F16, 0.333_984_38),
        ] {
            let mut cache = Owned::floats(to, &[3, 2], &[8.0; 6]);
            let rows = Owned::floats(from, &[2, 2], &[1.0, 2.0, third, 4.0]);
            append(&mut cache, &rows, &[-1, 1]).unwrap();
            assert_eq!(cache.view().vector().to_vec(), [8.0, 8.0, expected, 4.0, 8.0, 8.0], "{from} to {to}");
        }
    }

    #[test]
    fn rows_become_blocks_of_a_q8_0_cache() {
        // Codes from 127 down under a scale of 0.5, a block of zeros, and a row that is not stored.
        let mut rows: Vec<f32> = (0..32).map(|i| 63.5 - 0.5 * f32::from(i as u8)).chain([0.0; 32]).collect();
        let expected = rows.clone();
        rows.extend([1e9; 64]);
        for dtype in [DType::F32, DType::F16] {
            let mut cache = Owned::floats(DType::Q8_0, &[3, 64], &[8.0; 192]);
            let before = cache.bytes.clone();
            append(&mut cache, &Owned::floats(dtype, &[2, 64], &rows), &[1, -1]).unwrap();
            assert_eq!(cache.view().vector().to_vec()[64..128], expected, "{dtype}");
            assert_eq!((&cache.bytes[..68], &cache.bytes[136..]), (&before[..68], &before[136..]));
        }
    }

    #[test]
    fn a_slot_outside_the_cache_is_named() {
        let mut cache = Owned::floats(DType::F16, &[3, 1], &[8.0; 3]);
        let rows = Owned::floats(DType::F32, &[2, 1], &[1.0, 2.0]);
        let error = append(&mut cache, &rows, &[0, 3]).unwrap_err().to_string();
        assert_eq!(error, "operand `slot`: element 1 is 3, but it must be in 0..3, or -1 for none");
        assert_eq!(cache.view().vector().to_vec(), [8.0; 3]);
    }
}
