//! The rotary embedding in a GGUF file.
//!
//! GGUF has keys for linear and yarn scaling, tensors for what `llama3` and `longrope` do to the frequencies, and nothing for
//! the parameters of `llama3`. So that these are not lost, they are kept under a key of our own, which other readers pass
//! over; in a file that lacks it they are found by trying.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::gguf_file::{Kv, Kvs};
use crate::error::shown;
use crate::{Checkpoint, WeightsError};

/// The key under which the `rope_parameters` of a config lie that GGUF's own keys cannot say, as JSON.
pub(super) const KEPT: &str = "camelid.rope_parameters";

/// What stands for the rotary embedding in the file.
#[derive(Debug, Default)]
pub(super) struct Rope {
    pub(super) metadata: Kvs,
    /// Tensors of f32 by name.
    pub(super) tensors: Vec<(&'static str, Vec<f32>)>,
}

/// The `rope_parameters` of a config, or what older ones have in their place, with `rope_theta` and `rope_type`.
pub(super) fn parameters(config: &Value) -> Map<String, Value> {
    let block = ["rope_parameters", "rope_scaling"].into_iter().find_map(|key| config.get(key)?.as_object());
    let mut map = block.cloned().unwrap_or_default();
    if !map.contains_key("rope_theta") {
        let theta = config.get("rope_theta").filter(|t| !t.is_null()).cloned();
        map.insert("rope_theta".into(), theta.unwrap_or(json!(10_000.0)));
    }
    if let Some(kind) = map.shift_remove("type") {
        map.entry("rope_type").or_insert(kind);
    }
    map.entry("rope_type").or_insert(json!("default"));
    for key in ["original_max_position_embeddings", "partial_rotary_factor"] {
        if let Some(value) = config.get(key).filter(|v| !v.is_null()) {
            map.entry(key).or_insert(value.clone());
        }
    }
    map
}

/// What a config's rotary embedding becomes.
pub(super) fn plan(path: &Path, config: &Value, head_dim: usize, context: usize) -> Result<Rope, WeightsError> {
    let map = parameters(config);
    let field = |key: &str| -> Result<Option<f64>, WeightsError> {
        match map.get(key).filter(|v| !v.is_null()) {
            None => Ok(None),
            Some(value) => value.as_f64().filter(|v| v.is_finite()).map(Some).ok_or_else(|| {
                let what = format!("rope_parameters.{key}");
                WeightsError::malformed(path, what, format!("{value} is no number"), "correct the config.json")
            }),
        }
    };
    let required = |key: &str| {
        field(key)?.ok_or_else(|| {
            let what = format!("rope_parameters.{key}");
            WeightsError::malformed(path, what, "it is missing", "this rope_type needs it: correct the config.json")
        })
    };
    let refuse = |what: &str, found: String| {
        let remedy = "GGUF has no way to say it, and llama.cpp would compute something else: keep the safetensors";
        Err(WeightsError::unsupported(path, format!("rope_parameters.{what}"), found, remedy))
    };
    if let Some(share) = field("partial_rotary_factor")?.filter(|share| *share != 1.0) {
        return refuse("partial_rotary_factor", share.to_string());
    }
    let mut rope = Rope::default();
    rope.metadata.set("llama.rope.freq_base", Kv::F32(required("rope_theta")? as f32));
    let set = |rope: &mut Rope, key: &str, value: Option<f64>| {
        rope.metadata.set_some(&format!("llama.rope.scaling.{key}"), value.map(|v| Kv::F32(v as f32)));
    };
    let kind = map.get("rope_type").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "default" => {}
        "linear" => {
            rope.metadata.set("llama.rope.scaling.type", Kv::Text("linear".into()));
            set(&mut rope, "factor", Some(required("factor")?));
        }
        "yarn" => {
            if map.get("truncate") == Some(&json!(false)) {
                return refuse("truncate", "false".into());
            }
            let factor = required("factor")?;
            let original = field("original_max_position_embeddings")?.unwrap_or(context as f64);
            let attention = match (field("attention_factor")?, field("mscale")?, field("mscale_all_dim")?) {
                (None, Some(a), Some(b)) if a != 0.0 && b != 0.0 => {
                    let scale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
                    Some(scale(a) / scale(b))
                }
                (given, ..) => given,
            };
            rope.metadata.set("llama.rope.scaling.type", Kv::Text("yarn".into()));
            set(&mut rope, "factor", Some(factor));
            rope.metadata.set("llama.rope.scaling.original_context_length", Kv::U32(original as u32));
            set(&mut rope, "yarn_attn_factor", attention);
            set(&mut rope, "yarn_beta_fast", field("beta_fast")?);
            set(&mut rope, "yarn_beta_slow", field("beta_slow")?);
        }
        "llama3" => {
            let original = required("original_max_position_embeddings")?;
            let shape = Llama3 {
                factor: required("factor")?,
                low: required("low_freq_factor")?,
                high: required("high_freq_factor")?,
                original,
            };
            let factors = shape.divisors(required("rope_theta")?, head_dim);
            rope.tensors.push(("rope_freqs.weight", factors));
            rope.metadata.set(KEPT, Kv::Text(Value::Object(map.clone()).to_string()));
        }
        "longrope" => {
            let original = required("original_max_position_embeddings")?;
            let factor = field("factor")?;
            let stretch = factor.unwrap_or(context as f64 / original);
            let computed = if stretch <= 1.0 { 1.0 } else { (1.0 + stretch.ln() / original.ln()).sqrt() };
            for (key, name) in
                [("long_factor", "rope_factors_long.weight"), ("short_factor", "rope_factors_short.weight")]
            {
                let list = map.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let values: Option<Vec<f32>> = list.iter().map(|v| v.as_f64().map(|v| v as f32)).collect();
                let Some(values) = values.filter(|v| v.len() == head_dim / 2) else {
                    let found = format!("it is no list of {} numbers, one for each frequency", head_dim / 2);
                    let what = format!("rope_parameters.{key}");
                    return Err(WeightsError::malformed(path, what, found, "correct the config.json"));
                };
                rope.tensors.push((name, values));
            }
            rope.metadata.set("llama.rope.scaling.type", Kv::Text("longrope".into()));
            set(&mut rope, "factor", factor);
            rope.metadata.set("llama.rope.scaling.original_context_length", Kv::U32(original as u32));
            set(&mut rope, "attn_factor", Some(field("attention_factor")?.unwrap_or(computed)));
        }
        other => return refuse("rope_type", shown(other)),
    }
    Ok(rope)
}

/// The parameters of `llama3` scaling.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Llama3 {
    factor: f64,
    low: f64,
    high: f64,
    original: f64,
}

impl Llama3 {
    /// What each frequency is divided by: 1 for high ones, `factor` for low ones, a blend between.
    fn divisors(self, theta: f64, head_dim: usize) -> Vec<f32> {
        let divisor = |i: usize| {
            let frequency = theta.powf(-2.0 * i as f64 / head_dim as f64);
            // Turns made over the original context.
            let turns = self.original * frequency / std::f64::consts::TAU;
            let keep = ((turns - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
            (1.0 / (keep + (1.0 - keep) / self.factor)) as f32
        };
        (0..head_dim / 2).map(divisor).collect()
    }
}

/// The `rope_parameters` of the config for a folder made from `checkpoint`.
///
/// # Errors
/// If the file divides frequencies by numbers that no known scaling gives.
pub(super) fn recover(checkpoint: &Checkpoint, head_dim: usize) -> Result<Map<String, Value>, WeightsError> {
    let mut map = parameters(checkpoint.config());
    let Some(divisors) = checkpoint.rope_freqs() else { return Ok(map) };
    let close = |shape: Llama3, theta: f64| {
        let made = shape.divisors(theta, head_dim);
        // The converter computes in single precision, and an exponent enters.
        made.len() == divisors.len() && made.iter().zip(divisors).all(|(a, b)| (a - b).abs() <= 1e-4 * a.abs())
    };
    let theta = map.get("rope_theta").and_then(Value::as_f64).unwrap_or(10_000.0);
    let kept = checkpoint.gguf().and_then(|file| file.metadata().str(KEPT).ok().flatten());
    if let Some(Value::Object(kept)) = kept.and_then(|text| serde_json::from_str(text).ok()) {
        let field = |key: &str| kept.get(key).and_then(Value::as_f64);
        if let (Some(factor), Some(low), Some(high), Some(original)) = (
            field("factor"),
            field("low_freq_factor"),
            field("high_freq_factor"),
            field("original_max_position_embeddings"),
        ) && close(Llama3 { factor, low, high, original }, theta)
        {
            return Ok(kept);
        }
    }
    // All that are in use have these two, and a power of two for the third; the largest divisor is the factor.
    let (low, high) = (1.0, 4.0);
    let factor = f64::from(divisors.iter().copied().fold(1.0, f32::max));
    let mut candidates = (6..=20).map(|i| Llama3 { factor, low, high, original: f64::from(1 << i) });
    let Some(found) = candidates.find(|shape| close(*shape, theta)) else {
        let remedy = "run the GGUF file itself, or convert the model that it was made from";
        let found = "no parameters of `llama3` scaling that are known give its divisors; another config";
        return Err(WeightsError::unsupported(checkpoint.path(), "tensor rope_freqs.weight", found, remedy));
    };
    map.insert("rope_type".into(), json!("llama3"));
    map.insert("factor".into(), json!(found.factor));
    map.insert("low_freq_factor".into(), json!(low));
    map.insert("high_freq_factor".into(), json!(high));
    map.insert("original_max_position_embeddings".into(), json!(found.original as u64));
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rope: Value) -> Result<Rope, String> {
        let config = json!({"rope_parameters": rope});
        super::plan("config.json".as_ref(), &config, 8, 128).map_err(|e| e.to_string())
    }

    #[test]
    fn old_and_new_configs_give_the_same_parameters() {
        let new = parameters(&json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}}));
        let old = parameters(&json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}));
        assert_eq!(new, old);
        assert_eq!(Value::from(parameters(&json!({}))), json!({"rope_theta": 10000.0, "rope_type": "default"}));
    }

    #[test]
    fn what_gguf_cannot_say_is_refused_by_name() {
        for (rope, says) in [
            (json!({"rope_type": "dynamic", "factor": 2.0}), "rope_type: dynamic"),
            (json!({"rope_type": "default", "partial_rotary_factor": 0.5}), "partial_rotary_factor: 0.5"),
            (json!({"rope_type": "yarn", "factor": 2.0, "truncate": false}), "truncate: false"),
            (json!({"rope_type": "linear"}), "factor: it is missing"),
            (json!({"rope_type": "longrope", "original_max_position_embeddings": 64}), "no list of 4 numbers"),
        ] {
            let error = plan(rope).unwrap_err();
            assert!(error.contains(says), "{says:?} is not in {error}");
        }
    }

    #[test]
    fn llama3_divides_low_frequencies_and_keeps_high_ones() {
        let rope = plan(json!({"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                               "high_freq_factor": 4.0, "original_max_position_embeddings": 128}))
        .unwrap();
        let (name, divisors) = &rope.tensors[0];
        assert_eq!((*name, divisors[0], divisors[3]), ("rope_freqs.weight", 1.0, 8.0));
    }
}
