//! What this backend computes: one table.

use camelid_core::DType;
use camelid_core::ops::CACHE_TYPES;
use camelid_sdk::kernels::{Claim, DEQUANTIZABLE, F32, INDICES};

/// Types of activations. Whatever the type, kernels compute in f32.
const FLOATS: &[DType] = &[DType::F32, DType::F16, DType::BF16];

/// Every operation.
pub(crate) const CLAIMS: &[Claim] = &[
    Claim::new("gather_rows", &[DEQUANTIZABLE, INDICES]),
    Claim::new("linear", &[FLOATS, DEQUANTIZABLE, FLOATS]),
    Claim::new("qkv_linear", &[FLOATS, DEQUANTIZABLE, DEQUANTIZABLE, DEQUANTIZABLE, FLOATS, FLOATS, FLOATS]),
    Claim::new("bmm", &[FLOATS, FLOATS]),
    Claim::new("rms_norm", &[FLOATS, FLOATS]),
    Claim::new("add_rms_norm", &[FLOATS, FLOATS, FLOATS]),
    Claim::new("rope", &[FLOATS, F32, F32]),
    Claim::new("add", &[FLOATS, FLOATS]),
    Claim::new("mul", &[FLOATS, FLOATS]),
    Claim::new("activation", &[FLOATS]),
    Claim::new("swiglu", &[FLOATS, FLOATS]),
    Claim::new("softmax", &[FLOATS, F32]),
    Claim::new("scatter_rows", &[CACHE_TYPES, CACHE_TYPES, INDICES]),
    Claim::new("cast", &[DEQUANTIZABLE]).with_block_results(&[DType::Q8_0]),
    Claim::new("kv_append", &[CACHE_TYPES, FLOATS, INDICES]),
    Claim::new("attention", &[FLOATS, CACHE_TYPES, CACHE_TYPES, INDICES, INDICES, INDICES]),
];
