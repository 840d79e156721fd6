//! The numbers that ggml gives to tensor types (`enum ggml_type` in ggml.h).

use camelid_core::DType;

/// The type behind a number, or the name of one that is not read here.
pub(crate) fn from_id(id: u32) -> Result<DType, String> {
    Ok(match id {
        0 => DType::F32,
        1 => DType::F16,
        2 => DType::Q4_0,
        3 => DType::Q4_1,
        6 => DType::Q5_0,
        7 => DType::Q5_1,
        8 => DType::Q8_0,
        10 => DType::Q2_K,
        11 => DType::Q3_K,
        12 => DType::Q4_K,
        13 => DType::Q5_K,
        14 => DType::Q6_K,
        30 => DType::BF16,
        _ => return Err(unread_name(id).map_or(format!("ggml type {id}"), |name| format!("{name} (ggml type {id})"))),
    })
}

/// The number of a type; `None` for types that GGUF does not have.
pub(crate) fn id(dtype: DType) -> Option<u32> {
    (0..=30).find(|id| from_id(*id) == Ok(dtype))
}

fn unread_name(id: u32) -> Option<&'static str> {
    Some(match id {
        4 => "q4_2, which ggml removed",
        5 => "q4_3, which ggml removed",
        9 => "q8_1",
        15 => "q8_k",
        16 => "iq2_xxs",
        17 => "iq2_xs",
        18 => "iq3_xxs",
        19 => "iq1_s",
        20 => "iq4_nl",
        21 => "iq3_s",
        22 => "iq2_s",
        23 => "iq4_xs",
        24 => "i8",
        25 => "i16",
        26 => "i32",
        27 => "i64",
        28 => "f64",
        29 => "iq1_m",
        31..=33 => "q4_0 repacked for one processor, which ggml removed",
        34 => "tq1_0",
        35 => "tq2_0",
        39 => "mxfp4",
        40 => "nvfp4",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_type_has_its_number_and_the_others_a_name() {
        let mut read: Vec<DType> = (0..64).filter_map(|id| from_id(id).ok()).collect();
        read.sort_by_key(|d| d.id());
        let floats: Vec<DType> = DType::ALL.iter().copied().filter(|d| d.is_float()).collect();
        assert_eq!(read, floats);
        assert!(floats.iter().all(|d| from_id(id(*d).unwrap()) == Ok(*d)));
        assert_eq!(id(DType::I32), None);
        assert_eq!(from_id(39).unwrap_err(), "mxfp4 (ggml type 39)");
        assert_eq!(from_id(4_000_000_000).unwrap_err(), "ggml type 4000000000");
    }
}
