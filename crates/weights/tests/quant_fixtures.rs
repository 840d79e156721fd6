//! Dequantization against the `gguf` Python package, bit for bit: `blocks` are the bytes, `values` what it makes of them
//! (`conformance/reference` wrote both).

mod common;

use camelid_core::quant::{dequantize, row_dequantizer};
use camelid_core::{Bytes, DType};
use safetensors::{Dtype, SafeTensors};

/// Rows of bytes, and the floats of each.
fn fixture(name: &str) -> (Vec<Bytes>, Vec<Vec<f32>>) {
    let path = common::suite(&format!("quant/{name}.safetensors"));
    let file = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&file).unwrap();
    let (blocks, values) = (file.tensor("blocks").unwrap(), file.tensor("values").unwrap());
    assert_eq!((blocks.dtype(), values.dtype()), (Dtype::U8, Dtype::F32), "{name}");
    assert_eq!(blocks.shape()[0], values.shape()[0], "{name}");
    let rows = blocks.data().chunks_exact(blocks.shape()[1]).map(|row| Bytes::from(row.to_vec())).collect();
    let floats: Vec<f32> =
        values.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    (rows, floats.chunks_exact(values.shape()[1]).map(<[f32]>::to_vec).collect())
}

#[test]
fn every_stored_type_gives_the_packages_floats_bit_for_bit() {
    let stored = DType::ALL.iter().filter(|d| d.is_float() && **d != DType::F32);
    let mut compared = 0;
    for dtype in stored {
        let (rows, expected) = fixture(&dtype.known_name().unwrap().to_uppercase());
        let by_row = row_dequantizer(*dtype).unwrap();
        assert!(!rows.is_empty(), "{dtype}");
        for (r, (bytes, expected)) in rows.iter().zip(&expected).enumerate() {
            let mut out = vec![f32::NAN; expected.len()];
            dequantize(*dtype, bytes, &mut out).unwrap();
            for (i, (x, y)) in out.iter().zip(expected).enumerate() {
                assert_eq!(x.to_bits(), y.to_bits(), "{dtype} row {r} element {i}: {x:e}, not {y:e}");
            }
            let mut again = vec![f32::NAN; expected.len()];
            by_row(bytes, &mut again);
            assert!(again.iter().zip(&out).all(|(x, y)| x.to_bits() == y.to_bits()), "{dtype} row {r}");
            compared += expected.len();
        }
    }
    assert!(compared > 20_000, "only {compared} elements");
}
