//! The quantizers against ggml's reference, bit for bit (conformance/reference/quantize_cases.py).

use camelid_core::{DType, quant};
use safetensors::SafeTensors;

#[test]
fn blocks_are_those_of_ggml_bit_for_bit() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/quantize.safetensors");
    let bytes = std::fs::read(path).expect("the fixture is committed");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let x = file.tensor("x").expect("the rows");
    let columns = x.shape()[1];
    let floats: Vec<f32> = x.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let mut compared = 0;
    for name in ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k"] {
        let dtype = DType::from_name(name).expect("a known type");
        let expected = file.tensor(name).expect("its blocks");
        let row_bytes = dtype.row_bytes(columns).expect("whole blocks");
        for (i, row) in floats.chunks_exact(columns).enumerate() {
            let mut made = vec![0; row_bytes];
            quant::quantize(dtype, row, &mut made).expect("finite");
            assert_eq!(made, expected.data()[i * row_bytes..][..row_bytes], "{name}, row {i}");
            compared += 1;
        }
    }
    assert_eq!(compared, 8 * x.shape()[0]);
}
