//! `copy(x [..] any) -> [..]`: the same bytes in memory of their own

pub(super) fn copy(x: &[u8], y: &mut [u8]) {
    y.copy_from_slice(x);
}

#[cfg(test)]
mod tests {
    use super::super::compute;
    use crate::tensor::Tensor;
    use camelid_core::DType;
    use camelid_core::ops::Op;

    #[test]
    fn bytes_of_any_type_are_copied_as_they_are() {
        let bytes: Vec<u8> = (0..72).map(|i| i * 3).collect();
        for (dtype, dims) in [(DType::Q4_0, [2, 64]), (DType::I32, [9, 2]), (DType::F16, [4, 9]), (DType::BF16, [0, 5])]
        {
            let len = dims[0] * dtype.row_bytes(dims[1]).unwrap();
            let x = Tensor { dtype, dims: dims.to_vec(), bytes: &bytes[..len] };
            assert_eq!(compute(&Op::Copy, &[x], dtype, &dims).unwrap().bytes(), &bytes[..len], "{dtype}");
        }
    }
}
