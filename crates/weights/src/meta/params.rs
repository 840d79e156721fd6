//! `params.json`: the dimensions of a model in Meta's own format.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::WeightsError;

/// Which Llama a checkpoint is: how its embeddings are cut into shards, and what its config says that `params.json`
/// does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LlamaVersion {
    V1,
    V2,
    V3,
    V3_1,
    V3_2,
}

impl LlamaVersion {
    /// All, in order.
    pub const ALL: [LlamaVersion; 5] =
        [LlamaVersion::V1, LlamaVersion::V2, LlamaVersion::V3, LlamaVersion::V3_1, LlamaVersion::V3_2];

    /// The version called `name`: "1", "2", "3", "3.1", "3.2".
    pub fn from_name(name: &str) -> Option<LlamaVersion> {
        LlamaVersion::ALL.into_iter().find(|v| v.name() == name)
    }

    /// "1", "2", "3", "3.1", "3.2".
    pub fn name(self) -> &'static str {
        match self {
            LlamaVersion::V1 => "1",
            LlamaVersion::V2 => "2",
            LlamaVersion::V3 => "3",
            LlamaVersion::V3_1 => "3.1",
            LlamaVersion::V3_2 => "3.2",
        }
    }

    /// True for 3 and later: a tiktoken vocabulary, and embeddings cut by rows.
    pub fn is_3(self) -> bool {
        !matches!(self, LlamaVersion::V1 | LlamaVersion::V2)
    }

    /// What the frequencies of the rotary embedding are divided by at most, if they are scaled.
    pub(super) fn rope_factor(self) -> Option<f64> {
        match self {
            LlamaVersion::V3_1 => Some(8.0),
            LlamaVersion::V3_2 => Some(32.0),
            _ => None,
        }
    }
}

impl fmt::Display for LlamaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The contents of `params.json`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Params {
    pub(super) path: PathBuf,
    pub(super) dim: usize,
    pub(super) n_layers: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    /// True if the file gives `n_kv_heads`, which LLaMA 1 has not.
    pub(super) grouped: bool,
    pub(super) norm_eps: f64,
    /// Given only by some: -1 stands for "what the tokenizer has".
    pub(super) vocab_size: Option<usize>,
    pub(super) rope_theta: f64,
    pub(super) use_scaled_rope: Option<bool>,
    pub(super) multiple_of: usize,
    pub(super) ffn_dim_multiplier: f64,
}

/// More than any dimension of a model; products of two of them still fit in 64 bits.
const MAX_DIMENSION: usize = 1 << 28;
const REMEDY: &str = "download the params.json that belongs to these weights";

impl Params {
    pub(super) fn read(folder: &Path) -> Result<Params, WeightsError> {
        let path = folder.join("params.json");
        if !path.is_file() {
            return Err(WeightsError::NotACheckpoint {
                path: folder.to_owned(),
                found: "there is no params.json beside the weights".into(),
                remedy: "Meta's checkpoints come with one: download it into the same folder".into(),
            });
        }
        let text = std::fs::read(&path).map_err(WeightsError::io(&path, "read"))?;
        let json: Value = serde_json::from_slice(&text).map_err(|source| WeightsError::Json {
            path: path.clone(),
            what: "the parameters",
            source,
        })?;
        // Newer files have them under "model".
        let Some(map) = json.get("model").unwrap_or(&json).as_object() else {
            return Err(WeightsError::malformed(&path, "the parameters", "they are no JSON object", REMEDY));
        };
        Params::from_map(path, map)
    }

    fn from_map(path: PathBuf, map: &Map<String, Value>) -> Result<Params, WeightsError> {
        let fields = Fields { path: &path, map };
        let n_heads = fields.required("n_heads")?;
        let n_kv_heads = fields.size("n_kv_heads")?;
        let vocab_size = match fields.get("vocab_size") {
            Some(v) if v.as_i64().is_some_and(|n| n < 0) => None,
            _ => fields.size("vocab_size")?,
        };
        let norm_eps = fields.number("norm_eps")?.ok_or_else(|| fields.missing("norm_eps"))?;
        let use_scaled_rope = match fields.get("use_scaled_rope") {
            None => None,
            Some(Value::Bool(scaled)) => Some(*scaled),
            Some(other) => return Err(fields.wrong("use_scaled_rope", other, "true or false")),
        };
        let params = Params {
            dim: fields.required("dim")?,
            n_layers: fields.required("n_layers")?,
            n_heads,
            n_kv_heads: n_kv_heads.unwrap_or(n_heads),
            grouped: n_kv_heads.is_some(),
            norm_eps,
            vocab_size,
            rope_theta: fields.number("rope_theta")?.unwrap_or(10_000.0),
            use_scaled_rope,
            multiple_of: fields.size("multiple_of")?.unwrap_or(256),
            ffn_dim_multiplier: fields.number("ffn_dim_multiplier")?.unwrap_or(1.0),
            path: path.clone(),
        };
        for (what, parts) in [("n_heads", params.n_heads), ("n_kv_heads", params.n_kv_heads)] {
            let whole = if what == "n_heads" { params.dim } else { params.n_heads };
            if !whole.is_multiple_of(parts) {
                let found = format!("{parts} does not divide {whole}");
                return Err(WeightsError::malformed(&path, what, found, REMEDY));
            }
        }
        if !params.head_dim().is_multiple_of(2) {
            let found = format!("a head of {} elements cannot be rotated in pairs", params.head_dim());
            return Err(WeightsError::malformed(&path, "n_heads", found, REMEDY));
        }
        Ok(params)
    }

    pub(super) fn head_dim(&self) -> usize {
        self.dim / self.n_heads
    }

    /// Width of the MLP: two thirds of `4 dim`, times `ffn_dim_multiplier`, up to the next multiple of `multiple_of`. Both
    /// products lose their fractions.
    pub(super) fn intermediate_size(&self) -> usize {
        let two_thirds = (8.0 * self.dim as f64 / 3.0) as usize;
        let width = (self.ffn_dim_multiplier * two_thirds as f64) as usize;
        width.next_multiple_of(self.multiple_of)
    }
}

struct Fields<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|v| !v.is_null())
    }

    fn missing(&self, name: &str) -> WeightsError {
        WeightsError::malformed(self.path, name, "it is missing", REMEDY)
    }

    fn wrong(&self, name: &str, found: &Value, rule: &str) -> WeightsError {
        let found: String = found.to_string().chars().take(80).collect();
        WeightsError::malformed(self.path, name, format!("{found}, but it must be {rule}"), REMEDY)
    }

    fn size(&self, name: &str) -> Result<Option<usize>, WeightsError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) if (1..=MAX_DIMENSION).contains(&n) => Ok(Some(n)),
            _ => Err(self.wrong(name, value, &format!("a whole number from 1 to {MAX_DIMENSION}"))),
        }
    }

    fn required(&self, name: &str) -> Result<usize, WeightsError> {
        self.size(name)?.ok_or_else(|| self.missing(name))
    }

    /// A positive number.
    fn number(&self, name: &str) -> Result<Option<f64>, WeightsError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_f64() {
            Some(n) if n > 0.0 && n < 1e12 => Ok(Some(n)),
            _ => Err(self.wrong(name, value, "a positive number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn params(json: Value) -> Result<Params, String> {
        Params::from_map("params.json".into(), json.as_object().unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_width_of_the_mlp_is_that_of_the_released_models() {
        for (dim, heads, multiple_of, multiplier, expected) in [
            (4096, 32, 256, None, 11008),         // 7B
            (5120, 40, 256, None, 13824),         // 13B
            (6656, 52, 256, None, 17920),         // 30B
            (8192, 64, 256, None, 22016),         // 65B
            (8192, 64, 4096, Some(1.3), 28672),   // Llama 2 and 3 70B
            (4096, 32, 1024, Some(1.3), 14336),   // Llama 3 8B
            (2048, 32, 256, Some(1.5), 8192),     // Llama 3.2 1B
            (3072, 24, 256, Some(1.0), 8192),     // Llama 3.2 3B
            (16384, 128, 4096, Some(1.2), 53248), // Llama 3.1 405B
        ] {
            let mut json =
                json!({"dim": dim, "n_heads": heads, "n_layers": 1, "norm_eps": 1e-5, "multiple_of": multiple_of});
            if let Some(multiplier) = multiplier {
                json["ffn_dim_multiplier"] = json!(multiplier);
            }
            assert_eq!(params(json).unwrap().intermediate_size(), expected);
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let good = json!({"dim": 64, "n_heads": 4, "n_layers": 2, "norm_eps": 1e-5, "vocab_size": -1});
        assert_eq!(params(good.clone()).unwrap().vocab_size, None);
        for (key, value, says) in [
            ("dim", json!(null), "dim: it is missing"),
            ("n_layers", json!(null), "n_layers: it is missing"),
            ("norm_eps", json!(null), "norm_eps: it is missing"),
            ("dim", json!("big"), "dim: \"big\", but it must be a whole number"),
            ("n_heads", json!(0), "n_heads: 0, but"),
            ("n_heads", json!(6), "n_heads: 6 does not divide 64"),
            ("n_kv_heads", json!(3), "n_kv_heads: 3 does not divide 4"),
            ("n_heads", json!(64), "a head of 1 elements"),
            ("rope_theta", json!(-1), "a positive number"),
            ("use_scaled_rope", json!("yes"), "true or false"),
        ] {
            let mut wrong = good.clone();
            wrong[key] = value;
            let error = params(wrong).unwrap_err();
            assert!(error.contains(says) && error.contains("params.json"), "{says:?} is not in {error}");
        }
    }
}
