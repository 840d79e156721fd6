//! `reshape(x [..] any) -> [shape]`: the same bytes; values are dense, so a shape is only a way to count them
//!
//! A plan lets the result share the operand's memory where it can and calls this where it cannot: for an output,
//! and where one of the two is changed in place later.

pub(super) fn reshape(x: &[u8], y: &mut [u8]) {
    y.copy_from_slice(x);
}

#[cfg(test)]
mod tests {
    use super::super::compute;
    use crate::tensor::testing::{Owned, noise};
    use camelid_core::DType;
    use camelid_core::graph::Shape;
    use camelid_core::ops::Op;

    #[test]
    fn the_order_of_the_elements_stays() {
        let x = Owned::floats(DType::F32, &[2, 6], &noise(1, 12));
        let op = Op::Reshape { shape: Shape::new(&[3.into(), 2.into(), 2.into()]).unwrap() };
        assert_eq!(compute(&op, &[x.view()], DType::F32, &[3, 2, 2]).unwrap().bytes(), x.bytes);
    }
}
