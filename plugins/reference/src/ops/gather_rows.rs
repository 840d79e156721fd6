//! `gather_rows(table [N, D] any, index [..] i32) -> [.., D]`: `y[i] = table[index[i]]`, zeros for -1

use super::{Index, OpError};
use crate::tensor::{Tensor, widen};

/// Rows keep their bytes, except that rows of block types become f32.
pub(super) fn gather_rows(
    table: &Tensor<'_>, // [N, D]
    index: &[i32],      // [M]
    y: &mut [u8],       // [M, D]
) -> Result<(), OpError> {
    let index = Index { name: "index", rows: index };
    let (from_len, rows) = (table.row_bytes(), table.rows());
    let to_len = if index.rows.is_empty() { 0 } else { y.len() / index.rows.len() };
    for at in 0..index.rows.len() {
        let row = index.get(at, rows)?;
        let to = &mut y[at * to_len..(at + 1) * to_len];
        match row {
            None => to.fill(0),
            Some(row) if table.dtype.is_block() => {
                let from = &table.bytes[row * from_len..(row + 1) * from_len];
                // Results begin where f32s may lie, and so does every row of them.
                widen(table.dtype, from, bytemuck::cast_slice_mut(to));
            }
            Some(row) => to.copy_from_slice(&table.bytes[row * from_len..(row + 1) * from_len]),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{OpError, compute};
    use crate::tensor::Tensor;
    use crate::tensor::testing::{Owned, indices};
    use camelid_core::DType;
    use camelid_core::ops::Op;

    fn gather(table: Tensor<'_>, index: &[i32], dtype: DType) -> Result<Vec<u8>, OpError> {
        let index = indices(&[index.len()], index);
        let dims = [index.dims[0], table.row_len()];
        compute(&Op::GatherRows, &[table, index.view()], dtype, &dims).map(|m| m.bytes().to_vec())
    }

    #[test]
    fn rows_keep_their_bits_and_minus_one_is_zeros() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let mut table = Owned::floats(dtype, &[3, 2], &[1.0, -0.0, 3.0, 4.0, f32::NAN, 6.0]);
            let size = dtype.block_bytes();
            table.bytes[4 * size] |= 1; // a payload of the NaN, which a detour through arithmetic might lose
            let y = gather(table.view(), &[2, -1, 0, 2], dtype).unwrap();
            assert_eq!(y[..2 * size], table.bytes[4 * size..], "{dtype}");
            assert_eq!(y[2 * size..4 * size], vec![0; 2 * size]);
            assert_eq!(y[4 * size..6 * size], table.bytes[..2 * size]);
            assert_eq!(y[6 * size..], table.bytes[4 * size..]);
        }
    }

    #[test]
    fn block_rows_are_dequantized() {
        // q8_0: f16 scale, 32 signed bytes.
        let mut bytes = vec![0u8; 68];
        bytes[34..36].copy_from_slice(&half::f16::from_f32(0.5).to_le_bytes());
        bytes[36] = 3;
        bytes[67] = -4i8 as u8;
        let table = Tensor { dtype: DType::Q8_0, dims: vec![2, 32], bytes: &bytes };
        let y = gather(table, &[1, -1], DType::F32).unwrap();
        let y: Vec<f32> = y.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!((y[0], y[31]), (1.5, -2.0));
        assert!(y[1..31].iter().chain(&y[32..]).all(|v| *v == 0.0));
    }

    #[test]
    fn an_index_outside_is_an_error_that_names_it() {
        let table = Owned::floats(DType::F32, &[3, 1], &[0.0; 3]);
        for bad in [3, -2, i32::MIN, i32::MAX] {
            let error = gather(table.view(), &[0, bad], DType::F32).unwrap_err().to_string();
            assert_eq!(error, format!("operand `index`: element 1 is {bad}, but it must be in 0..3, or -1 for none"));
        }
        let empty = Owned::floats(DType::F32, &[0, 1], &[]);
        assert!(gather(empty.view(), &[0], DType::F32).is_err());
    }

    #[test]
    fn nothing_is_gathered_from_and_into_nothing() {
        let table = Owned::floats(DType::F32, &[3, 1], &[0.0; 3]);
        assert_eq!(gather(table.view(), &[], DType::F32), Ok(vec![]));
        let narrow = Owned::floats(DType::F32, &[3, 0], &[]);
        assert_eq!(gather(narrow.view(), &[2, -1], DType::F32), Ok(vec![]));
    }
}
