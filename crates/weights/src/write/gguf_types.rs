//! Which type each tensor of a GGUF file gets.
//!
//! The rules are those of llama.cpp (`src/llama-quant.cpp` for quantized files, `conversion/base.py` for the others), without an
//! importance matrix:
//! - vectors and norms are f32;
//! - `output.weight`, or `token_embd.weight` if it is both, keeps more bits: q6_k, or q8_0 in a q8_0 file or where rows do not
//!   fit the blocks;
//! - the "small" K files ("q4_k" is `Q4_K_S`) give a type with more bits to a few `attn_v` and `ffn_down` at the beginning, the
//!   "medium" ones to more of them;
//! - where a row is no whole number of blocks, q4_k becomes q5_0, q5_k q5_1, q6_k q8_0, and what does not fit blocks of 32
//!   either f16.

use camelid_core::DType;

/// The kind of a GGUF file: the type of most of its matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, non_camel_case_types)]
pub enum GgufType {
    /// Matrices keep their type.
    Stored,
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K_S,
    Q4_K_M,
    Q5_K_S,
    Q5_K_M,
    Q6_K,
}

impl GgufType {
    /// Every kind with its names, the first being the one that is shown.
    const NAMES: [(GgufType, &'static [&'static str]); 14] = [
        (GgufType::Stored, &["auto"]),
        (GgufType::F32, &["f32"]),
        (GgufType::F16, &["f16"]),
        (GgufType::BF16, &["bf16"]),
        (GgufType::Q8_0, &["q8_0"]),
        (GgufType::Q4_0, &["q4_0"]),
        (GgufType::Q4_1, &["q4_1"]),
        (GgufType::Q5_0, &["q5_0"]),
        (GgufType::Q5_1, &["q5_1"]),
        (GgufType::Q4_K_S, &["q4_k", "q4_k_s"]),
        (GgufType::Q4_K_M, &["q4_k_m"]),
        (GgufType::Q5_K_S, &["q5_k", "q5_k_s"]),
        (GgufType::Q5_K_M, &["q5_k_m"]),
        (GgufType::Q6_K, &["q6_k"]),
    ];

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<GgufType> {
        GgufType::NAMES.iter().find(|(_, names)| names.contains(&name)).map(|(kind, _)| *kind)
    }

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        GgufType::NAMES.iter().flat_map(|(_, names)| names.iter().copied())
    }

    /// The type of most matrices; none if they keep theirs.
    fn base(self) -> Option<DType> {
        Some(match self {
            GgufType::Stored => return None,
            GgufType::F32 => DType::F32,
            GgufType::F16 => DType::F16,
            GgufType::BF16 => DType::BF16,
            GgufType::Q4_0 => DType::Q4_0,
            GgufType::Q4_1 => DType::Q4_1,
            GgufType::Q5_0 => DType::Q5_0,
            GgufType::Q5_1 => DType::Q5_1,
            GgufType::Q8_0 => DType::Q8_0,
            GgufType::Q4_K_S | GgufType::Q4_K_M => DType::Q4_K,
            GgufType::Q5_K_S | GgufType::Q5_K_M => DType::Q5_K,
            GgufType::Q6_K => DType::Q6_K,
        })
    }

    /// `general.file_type` (llama.cpp's `enum llama_ftype`); `matrices` is the type of the matrices if they keep theirs.
    pub(super) fn file_type(self, matrices: DType) -> u32 {
        match self {
            GgufType::F32 => 0,
            GgufType::F16 => 1,
            GgufType::Q4_0 => 2,
            GgufType::Q4_1 => 3,
            GgufType::Q8_0 => 7,
            GgufType::Q5_0 => 8,
            GgufType::Q5_1 => 9,
            GgufType::Q4_K_S => 14,
            GgufType::Q4_K_M => 15,
            GgufType::Q5_K_S => 16,
            GgufType::Q5_K_M => 17,
            GgufType::Q6_K => 18,
            GgufType::BF16 => 32,
            GgufType::Stored => {
                let known = GgufType::NAMES.iter().map(|(kind, _)| *kind).find(|k| k.base() == Some(matrices));
                // 1024: "not specified".
                known.map_or(1024, |kind| kind.file_type(matrices))
            }
        }
    }
}

/// What the rules ask about the model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    pub(super) layers: usize,
    /// True if the embeddings are the head too.
    pub(super) tied: bool,
    /// True if several query heads share a key head.
    pub(super) grouped: bool,
}

/// A type, and whether the rules wanted another that does not fit the rows.
pub(super) type Choice = (DType, Option<DType>);

/// The type of the tensor that GGUF calls `name`.
pub(super) fn choose(kind: GgufType, model: Model, name: &str, shape: &[usize], stored: DType) -> Choice {
    if shape.len() < 2 || !name.ends_with("weight") || name.ends_with("_norm.weight") {
        return (DType::F32, None);
    }
    let Some(base) = kind.base() else { return (stored, None) };
    let columns = *shape.last().unwrap_or(&1);
    if !base.is_block() {
        return (base, None);
    }
    let wanted = wanted(kind, base, model, name, columns);
    let fits = |dtype: DType| columns.is_multiple_of(dtype.block_elems());
    if fits(wanted) {
        return (wanted, None);
    }
    let smaller = match wanted {
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        other => other,
    };
    (if fits(smaller) { smaller } else { DType::F16 }, Some(wanted))
}

fn wanted(kind: GgufType, base: DType, model: Model, name: &str, columns: usize) -> DType {
    if name == "output.weight" || (model.tied && name == "token_embd.weight") {
        let fits = columns.is_multiple_of(base.block_elems());
        return if base == DType::Q8_0 || !fits { DType::Q8_0 } else { DType::Q6_K };
    }
    let layer = name.strip_prefix("blk.").and_then(|n| n.split_once('.'));
    let Some((layer, part)) = layer.and_then(|(i, part)| Some((i.parse::<usize>().ok()?, part))) else { return base };
    let n = model.layers;
    // The first and last eighth, and every third between.
    let between = (n / 8..7 * n / 8).contains(&layer);
    let more_bits = !between || (layer - n / 8) % 3 == 2;
    match part {
        "attn_v.weight" => {
            let dtype = match kind {
                GgufType::Q4_K_M | GgufType::Q5_K_M if more_bits => DType::Q6_K,
                GgufType::Q4_K_S if layer < 4 => DType::Q5_K,
                _ => base,
            };
            // In the 70B models eight heads share these weights.
            let large = n == 80 && model.grouped;
            if large && dtype == DType::Q4_K { DType::Q5_K } else { dtype }
        }
        "ffn_down.weight" => match kind {
            GgufType::Q4_K_M | GgufType::Q5_K_M if more_bits => DType::Q6_K,
            GgufType::Q4_K_S if layer < n / 8 => DType::Q5_K,
            _ => base,
        },
        _ => base,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: Model = Model { layers: 32, tied: false, grouped: true };

    fn of(kind: GgufType, name: &str, shape: &[usize]) -> DType {
        choose(kind, MODEL, name, shape, DType::BF16).0
    }

    #[test]
    fn names_find_their_kind() {
        for name in GgufType::names() {
            assert!(GgufType::from_name(name).is_some(), "{name}");
        }
        assert_eq!(GgufType::from_name("q4_k"), Some(GgufType::Q4_K_S));
        assert_eq!(GgufType::from_name("iq2_xs"), None);
        assert_eq!(GgufType::Stored.file_type(DType::BF16), 32);
        assert_eq!(GgufType::Stored.file_type(DType::Q2_K), 1024);
    }

    #[test]
    fn norms_and_biases_stay_f32() {
        for kind in [GgufType::Stored, GgufType::F16, GgufType::Q4_0, GgufType::Q4_K_M] {
            assert_eq!(of(kind, "blk.0.attn_norm.weight", &[256]), DType::F32);
            assert_eq!(of(kind, "blk.0.attn_q.bias", &[256]), DType::F32);
            assert_eq!(of(kind, "rope_freqs.weight", &[64]), DType::F32);
        }
    }

    #[test]
    fn a_few_tensors_of_k_files_get_more_bits() {
        let shape = [1024, 1024];
        assert_eq!(of(GgufType::Q4_K_S, "output.weight", &shape), DType::Q6_K);
        assert_eq!(of(GgufType::Q4_K_S, "token_embd.weight", &shape), DType::Q4_K);
        assert_eq!(of(GgufType::Q4_K_S, "blk.3.attn_v.weight", &shape), DType::Q5_K);
        assert_eq!(of(GgufType::Q4_K_S, "blk.4.attn_v.weight", &shape), DType::Q4_K);
        assert_eq!(of(GgufType::Q4_K_S, "blk.3.ffn_down.weight", &shape), DType::Q5_K);
        assert_eq!(of(GgufType::Q4_K_S, "blk.3.attn_q.weight", &shape), DType::Q4_K);
        let medium: Vec<usize> = (0..32)
            .filter(|i| of(GgufType::Q4_K_M, &format!("blk.{i}.ffn_down.weight"), &shape) == DType::Q6_K)
            .collect();
        assert_eq!(medium, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        let tied = Model { tied: true, ..MODEL };
        assert_eq!(choose(GgufType::Q4_0, tied, "token_embd.weight", &shape, DType::F32).0, DType::Q6_K);
        assert_eq!(choose(GgufType::Q8_0, tied, "token_embd.weight", &shape, DType::F32).0, DType::Q8_0);
    }

    #[test]
    fn rows_that_do_not_fit_get_the_next_type_that_does() {
        let model = MODEL;
        let choose = |kind, name, columns| choose(kind, model, name, &[64, columns], DType::F32);
        assert_eq!(choose(GgufType::Q4_K_S, "blk.9.attn_q.weight", 96), (DType::Q5_0, Some(DType::Q4_K)));
        assert_eq!(choose(GgufType::Q4_K_S, "blk.0.attn_v.weight", 96), (DType::Q5_1, Some(DType::Q5_K)));
        assert_eq!(choose(GgufType::Q6_K, "blk.0.attn_v.weight", 96), (DType::Q8_0, Some(DType::Q6_K)));
        assert_eq!(choose(GgufType::Q4_K_S, "output.weight", 96), (DType::Q8_0, None));
        assert_eq!(choose(GgufType::Q4_0, "output.weight", 96), (DType::Q8_0, Some(DType::Q6_K)));
        assert_eq!(choose(GgufType::Q4_0, "blk.0.attn_q.weight", 48), (DType::F16, Some(DType::Q4_0)));
        assert_eq!(choose(GgufType::Q4_K_S, "blk.9.attn_q.weight", 48), (DType::F16, Some(DType::Q4_K)));
    }
}
