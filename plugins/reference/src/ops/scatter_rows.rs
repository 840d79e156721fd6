//! `scatter_rows(table [N, D] cache, rows [T, D] cache, index [T] i32) -> [N, D]`, in place: `table[index[t]] = rows[t]`

use std::collections::HashMap;

use super::{Index, OpError, Table};

/// A row whose index is -1 is left out. Of two rows with one index it is not defined which stays, so that is an error
/// here. Nothing is written unless all indices are right.
pub(super) fn scatter_rows(
    table: Table<'_>, // [N, D]
    rows: &[u8],      // [T, D], of the table's type
    index: Index<'_>, // [T]
) -> Result<(), OpError> {
    let mut taken = HashMap::with_capacity(index.rows.len());
    for t in 0..index.rows.len() {
        let Some(row) = index.get(t, table.rows)? else { continue };
        if let Some(first) = taken.insert(row, t) {
            let rule = format!("different from element {first}, which writes the same row");
            return Err(OpError::Index { operand: index.name, at: t, value: index.rows[t], rule });
        }
    }
    for (row, t) in taken {
        let len = rows.len() / index.rows.len();
        table.bytes[row * len..(row + 1) * len].copy_from_slice(&rows[t * len..(t + 1) * len]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{OpError, Table, change};
    use crate::tensor::testing::{Owned, indices};
    use camelid_core::DType;
    use camelid_core::ops::Op;

    fn scatter(table: &mut Owned, rows: &[f32], index: &[i32]) -> Result<(), OpError> {
        let width = table.dims[1];
        let rows = Owned::floats(table.dtype, &[index.len(), width], rows);
        let index = indices(&[index.len()], index);
        let table = Table { dtype: table.dtype, rows: table.dims[0], bytes: &mut table.bytes };
        change(&Op::ScatterRows, table, &[rows.view(), index.view()])
    }

    #[test]
    fn rows_go_where_their_index_says_and_minus_one_nowhere() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let mut table = Owned::floats(dtype, &[4, 2], &[9.0; 8]);
            scatter(&mut table, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, -1, 0]).unwrap();
            assert_eq!(table.view().vector().to_vec(), [5.0, 6.0, 9.0, 9.0, 9.0, 9.0, 1.0, 2.0], "{dtype}");
        }
    }

    #[test]
    fn a_wrong_index_changes_nothing() {
        let mut table = Owned::floats(DType::F32, &[2, 1], &[7.0, 7.0]);
        let error = scatter(&mut table, &[1.0, 2.0], &[0, 2]).unwrap_err().to_string();
        assert_eq!(error, "operand `index`: element 1 is 2, but it must be in 0..2, or -1 for none");
        let error = scatter(&mut table, &[1.0, 2.0, 3.0], &[1, -1, 1]).unwrap_err().to_string();
        assert!(error.contains("element 2 is 1, but it must be different from element 0"), "{error}");
        assert_eq!(table.view().vector().to_vec(), [7.0, 7.0]);
    }

    #[test]
    fn there_may_be_nothing_to_do() {
        let mut table = Owned::floats(DType::F32, &[2, 1], &[7.0, 7.0]);
        scatter(&mut table, &[], &[]).unwrap();
        scatter(&mut table, &[1.0, 2.0], &[-1, -1]).unwrap();
        assert_eq!(table.view().vector().to_vec(), [7.0, 7.0]);
        let mut narrow = Owned::floats(DType::F32, &[2, 0], &[]);
        scatter(&mut narrow, &[], &[1]).unwrap();
    }
}
