//! Rotary position embedding: frequencies for each kind of scaling, and the tables a graph gathers from.
//!
//! Everything is computed in f64 and rounded once. Backends get cosines and sines, never angles: f32 angles are off
//! by 3e-3 in the cosine at position 131071, and WGSL guarantees its functions only near zero.

use serde_json::Value;

use super::config::{ConfigError, Fields, LlamaConfig};

/// How positions turn into angles.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeParameters {
    /// Base of the geometric series of frequencies.
    pub rope_theta: f64,
    /// What is done to it for longer contexts.
    pub scaling: RopeScaling,
}

/// The kind of RoPE scaling (`rope_type`).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// `theta^(-2i / head_dim)`.
    Default,
    /// All frequencies divided by `factor` (Chen et al. 2023).
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, a linear blend between (Llama 3.1).
    Llama3 {
        /// At least 1.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are scaled in full.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length of the original training.
        original_max_position_embeddings: usize,
    },
}

impl Default for RopeParameters {
    fn default() -> RopeParameters {
        RopeParameters { rope_theta: 10_000.0, scaling: RopeScaling::Default }
    }
}

const SUPPORTED: &str = "default, linear, llama3";

impl RopeParameters {
    /// Reads `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling` (before).
    pub(super) fn from_fields(config: &Fields<'_>) -> Result<RopeParameters, ConfigError> {
        let empty = serde_json::Map::new();
        let block = config.any_of(&["rope_parameters", "rope_scaling"]);
        let map = match block {
            None => &empty,
            Some(name) => {
                let value = config.get(name).expect("any_of found it");
                value.as_object().ok_or_else(|| config.wrong(name, value, "be an object"))?
            }
        };
        let f = Fields { prefix: block.unwrap_or("rope_parameters"), map };
        if let Some((layer_type, _)) = map.iter().find(|(_, v)| v.is_object()) {
            return Err(ConfigError::Unsupported {
                field: f.name(layer_type),
                found: "an object".into(),
                supported: "one set of RoPE parameters for all layers".into(),
            });
        }
        let rope_theta = match f.number("rope_theta")? {
            Some(theta) => theta,
            None => config.number("rope_theta")?.unwrap_or(10_000.0),
        };
        if rope_theta <= 1.0 {
            return Err(config.wrong("rope_theta", rope_theta, "be greater than 1"));
        }
        for fields in [&f, config] {
            if let Some(share) = fields.number("partial_rotary_factor")?.filter(|n| *n != 1.0) {
                return Err(ConfigError::Unsupported {
                    field: fields.name("partial_rotary_factor"),
                    found: share.to_string(),
                    supported: "1 (all of each head is rotated)".into(),
                });
            }
        }
        let kind_field = f.any_of(&["rope_type", "type"]).unwrap_or("rope_type");
        let scaling = match f.text(kind_field)? {
            None if map.keys().any(|k| k == "factor") => {
                return Err(ConfigError::Missing {
                    field: f.name("rope_type"),
                    reason: format!("a factor needs to know what it scales; supported types: {SUPPORTED}"),
                });
            }
            None | Some("default") => RopeScaling::Default,
            Some("linear") => RopeScaling::Linear { factor: factor(&f)? },
            Some("llama3") => llama3(config, &f)?,
            Some(other) => {
                return Err(ConfigError::Unsupported {
                    field: f.name(kind_field),
                    found: format!("`{other}`"),
                    supported: SUPPORTED.into(),
                });
            }
        };
        Ok(RopeParameters { rope_theta, scaling })
    }

    /// The `head_dim / 2` angular frequencies, in radians a position.
    ///
    /// `divisors` are the per-frequency factors that a GGUF file carries as `rope_freqs.weight`; they already hold
    /// the effect of the scaling, so they replace it.
    pub fn inverse_frequencies(&self, head_dim: usize, divisors: Option<&[f32]>) -> Vec<f64> {
        let base = (0..head_dim / 2).map(|i| self.rope_theta.powf(-2.0 * i as f64 / head_dim as f64));
        if let Some(divisors) = divisors {
            return base.zip(divisors).map(|(f, d)| f / f64::from(*d)).collect();
        }
        match &self.scaling {
            RopeScaling::Default => base.collect(),
            RopeScaling::Linear { factor } => base.map(|f| f / factor).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let trained = *original_max_position_embeddings as f64;
                base.map(|f| {
                    // Turns made over the original context decide: few turns, low frequency.
                    let turns = trained * f / std::f64::consts::TAU;
                    let keep = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                    keep * f + (1.0 - keep) * f / factor
                })
                .collect()
            }
        }
    }
}

fn factor(f: &Fields<'_>) -> Result<f64, ConfigError> {
    let factor = f.number("factor")?.ok_or_else(|| ConfigError::Missing {
        field: f.name("factor"),
        reason: "this rope_type scales by it".into(),
    })?;
    if factor < 1.0 {
        return Err(f.wrong("factor", factor, "be at least 1"));
    }
    Ok(factor)
}

fn llama3(config: &Fields<'_>, f: &Fields<'_>) -> Result<RopeScaling, ConfigError> {
    let required = |field: &str| {
        f.number(field)?
            .ok_or_else(|| ConfigError::Missing { field: f.name(field), reason: "rope_type `llama3` needs it".into() })
    };
    let low_freq_factor = required("low_freq_factor")?;
    let high_freq_factor = required("high_freq_factor")?;
    if low_freq_factor <= 0.0 || high_freq_factor <= low_freq_factor {
        let rule = format!("be greater than low_freq_factor = {low_freq_factor}, which must be positive");
        return Err(f.wrong("high_freq_factor", high_freq_factor, rule));
    }
    let original_max_position_embeddings = match f.get("original_max_position_embeddings") {
        Some(_) => f.size("original_max_position_embeddings", 0)?,
        None if config.get("original_max_position_embeddings").is_some() => {
            config.size("original_max_position_embeddings", 0)?
        }
        None => {
            return Err(ConfigError::Missing {
                field: f.name("original_max_position_embeddings"),
                reason: "rope_type `llama3` needs it".into(),
            });
        }
    };
    Ok(RopeScaling::Llama3 { factor: factor(f)?, low_freq_factor, high_freq_factor, original_max_position_embeddings })
}

/// Cosines and sines for positions `0..positions`: two row-major `[positions, head_dim / 2]` f32 tables.
///
/// # Panics
/// If `divisors` has not `head_dim / 2` elements; a checkpoint reader checks that.
pub fn tables(config: &LlamaConfig, divisors: Option<&[f32]>, positions: usize) -> (Vec<f32>, Vec<f32>) {
    let frequencies = config.rope.inverse_frequencies(config.head_dim, divisors);
    assert_eq!(frequencies.len(), config.head_dim / 2, "one divisor for each frequency");
    let angles = || (0..positions).flat_map(|p| frequencies.iter().map(move |f| p as f64 * f));
    (angles().map(|a| a.cos() as f32).collect(), angles().map(|a| a.sin() as f32).collect())
}

/// `rope_parameters` as transformers 5 writes them.
pub fn to_json(rope: &RopeParameters) -> Value {
    let mut map = serde_json::Map::new();
    map.insert("rope_theta".into(), rope.rope_theta.into());
    match &rope.scaling {
        RopeScaling::Default => {
            map.insert("rope_type".into(), "default".into());
        }
        RopeScaling::Linear { factor } => {
            map.insert("rope_type".into(), "linear".into());
            map.insert("factor".into(), (*factor).into());
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            map.insert("rope_type".into(), "llama3".into());
            map.insert("factor".into(), (*factor).into());
            map.insert("low_freq_factor".into(), (*low_freq_factor).into());
            map.insert("high_freq_factor".into(), (*high_freq_factor).into());
            map.insert("original_max_position_embeddings".into(), (*original_max_position_embeddings).into());
        }
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rope(config: Value) -> Result<RopeParameters, ConfigError> {
        LlamaConfig::from_value(&config).map(|c| c.rope)
    }

    fn llama3() -> Value {
        json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192})
    }

    #[test]
    fn the_old_and_the_new_form_say_the_same() {
        let old = rope(json!({"rope_theta": 500000.0, "rope_scaling": llama3()})).unwrap();
        let mut parameters = llama3();
        parameters["rope_theta"] = json!(500000.0);
        assert_eq!(rope(json!({"rope_parameters": parameters})).unwrap(), old);
        let older = rope(json!({"rope_scaling": {"type": "linear", "factor": 2}})).unwrap();
        assert_eq!(older.scaling, RopeScaling::Linear { factor: 2.0 });
        assert_eq!(rope(json!({"rope_scaling": null, "rope_theta": 5e4})).unwrap().rope_theta, 5e4);
    }

    #[test]
    fn parameters_survive_the_way_to_json_and_back() {
        for scaling in [json!({}), json!({"rope_type": "linear", "factor": 2}), llama3()] {
            let parsed = rope(json!({"rope_theta": 1e6, "rope_scaling": scaling})).unwrap();
            assert_eq!(rope(json!({"rope_parameters": to_json(&parsed)})).unwrap(), parsed);
        }
    }

    #[test]
    fn what_is_unknown_or_incomplete_is_an_error_never_a_default() {
        let error = |block: Value| rope(json!({"rope_scaling": block})).unwrap_err().to_string();
        assert_eq!(
            error(json!({"rope_type": "su"})),
            "`rope_scaling.rope_type` is `su`, which is not supported; supported: default, linear, llama3"
        );
        assert!(error(json!({"factor": 2})).contains("`rope_scaling.rope_type` is missing"));
        assert!(error(json!({"type": "linear"})).contains("`rope_scaling.factor` is missing"));
        assert!(error(json!({"type": "linear", "factor": 0.5})).contains("be at least 1"));
        assert!(error(json!({"rope_type": "llama3", "factor": 8})).contains("low_freq_factor` is missing"));
        assert!(error(json!("linear")).contains("be an object"));
        assert!(error(json!({"full_attention": {"rope_theta": 1e4}})).contains("full_attention"));
        assert!(error(json!({"partial_rotary_factor": 0.5})).contains("partial_rotary_factor"));
    }

    #[test]
    fn llama3_keeps_scales_and_blends() {
        let parameters = rope(json!({"rope_theta": 500000.0, "rope_scaling": llama3()})).unwrap();
        let plain = RopeParameters { scaling: RopeScaling::Default, ..parameters.clone() };
        let ratio: Vec<f64> = parameters
            .inverse_frequencies(128, None)
            .iter()
            .zip(plain.inverse_frequencies(128, None))
            .map(|(scaled, f)| f / scaled)
            .collect();
        assert_eq!((ratio[0], ratio[63]), (1.0, 8.0));
        assert!(ratio.iter().any(|r| *r > 1.0 && *r < 8.0), "a blend between: {ratio:?}");
        assert!(ratio.is_sorted(), "more scaling for lower frequencies: {ratio:?}");
    }

    #[test]
    fn divisors_of_a_gguf_file_replace_the_scaling() {
        let parameters = RopeParameters { rope_theta: 1e4, scaling: RopeScaling::Linear { factor: 3.0 } };
        let plain = RopeParameters::default().inverse_frequencies(4, None);
        assert_eq!(parameters.inverse_frequencies(4, Some(&[1.0, 2.0])), [plain[0], plain[1] / 2.0]);
    }

    #[test]
    fn tables_are_right_far_out() {
        let config = LlamaConfig::from_value(&json!({"hidden_size": 8, "num_attention_heads": 2})).unwrap();
        let (cos, sin) = tables(&config, None, 70_000);
        // Position 69999 at frequency 1, by Python's math module.
        assert!((cos[69_999 * 2] + 0.386_386_84).abs() < 1e-7 && (sin[69_999 * 2] + 0.922_336_8).abs() < 1e-7);
        let angle = 69_999f64 * 1e4f64.powf(-0.5);
        assert_eq!(cos[69_999 * 2 + 1], angle.cos() as f32);
        assert_eq!(sin[69_999 * 2 + 1], angle.sin() as f32);
    }
}
