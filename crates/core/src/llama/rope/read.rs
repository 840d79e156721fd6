//! From the fields of a config to [`RopeParameters`].
//!
//! As in transformers 5.8, `rope_scaling` goes before `rope_parameters` unless it is empty; `rope_theta` and
//! `partial_rotary_factor` are looked for in the block and then at the top; `rope_type` goes before `type`; and
//! `original_max_position_embeddings` at the top goes before that of the block, which is `max_position_embeddings` if
//! neither is there. What is required there is required here. A block with a factor and no type is an error, though:
//! transformers drops the factor.

use super::{Llama3, LongRope, RopeParameters, RopeScaling, Yarn};
use crate::llama::config::{ConfigError, Fields};

const SUPPORTED: &str = "default, linear, dynamic, yarn, longrope, llama3, proportional";
const ORIGINAL: &str = "original_max_position_embeddings";

impl RopeParameters {
    /// Reads `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling` (before).
    pub(in crate::llama) fn from_fields(
        config: &Fields<'_>,
        max_position_embeddings: usize,
    ) -> Result<RopeParameters, ConfigError> {
        let empty = serde_json::Map::new();
        let mut f = Fields { prefix: "rope_parameters", map: &empty };
        for block in ["rope_scaling", "rope_parameters"] {
            if let Some(value) = config.get(block) {
                let map = value.as_object().ok_or_else(|| config.wrong(block, value, "be an object"))?;
                if f.map.is_empty() {
                    f = Fields { prefix: block, map };
                }
            }
        }
        if let Some((layer_type, _)) = f.map.iter().find(|(_, v)| v.is_object()) {
            return Err(ConfigError::Unsupported {
                field: f.name(layer_type),
                found: "an object".into(),
                supported: "one set of RoPE parameters for all layers".into(),
            });
        }
        let inner_or_outer = |field: &str| match f.number(field)? {
            None => config.number(field),
            inner => Ok(inner),
        };
        let kind_field = f.any_of(&["rope_type", "type"]).unwrap_or("rope_type");
        let kind = f.text(kind_field)?;
        if kind.is_none() && f.map.contains_key("factor") {
            return Err(ConfigError::Missing {
                field: f.name("rope_type"),
                reason: format!("a factor needs to know what it scales; supported types: {SUPPORTED}"),
            });
        }
        let kind = kind.unwrap_or("default");
        let block = Block { f: &f, config, kind, max_position_embeddings };
        let (scaling, known) = match kind {
            "default" => (RopeScaling::Default, &[][..]),
            "linear" => (RopeScaling::Linear { factor: block.required("factor")? }, &["factor"][..]),
            "dynamic" => (RopeScaling::Dynamic { factor: block.required("factor")? }, &["factor"][..]),
            "yarn" => (RopeScaling::Yarn(block.yarn()?), YARN),
            "longrope" => (RopeScaling::LongRope(block.longrope()?), LONGROPE),
            "llama3" => (RopeScaling::Llama3(block.llama3()?), LLAMA3),
            "proportional" => {
                (RopeScaling::Proportional { factor: f.number("factor")?.unwrap_or(1.0) }, &["factor"][..])
            }
            other => {
                return Err(ConfigError::Unsupported {
                    field: f.name(kind_field),
                    found: format!("`{other}`"),
                    supported: SUPPORTED.into(),
                });
            }
        };
        for key in f.map.keys().filter(|k| !COMMON.contains(&k.as_str()) && !known.contains(&k.as_str())) {
            tracing::warn!("{} is no parameter of rope_type `{kind}` and has no effect", f.name(key));
        }
        Ok(RopeParameters {
            rope_theta: inner_or_outer("rope_theta")?.unwrap_or(10_000.0),
            partial_rotary_factor: inner_or_outer("partial_rotary_factor")?,
            scaling,
        })
    }
}

/// Parameters of every kind, and those of some.
const COMMON: &[&str] = &["rope_type", "type", "rope_theta", "partial_rotary_factor"];
const YARN: &[&str] =
    &["factor", ORIGINAL, "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"];
const LONGROPE: &[&str] = &["short_factor", "long_factor", "factor", ORIGINAL, "attention_factor"];
const LLAMA3: &[&str] = &["factor", "low_freq_factor", "high_freq_factor", ORIGINAL];

/// The block of RoPE parameters, and the config around it.
struct Block<'a> {
    f: &'a Fields<'a>,
    config: &'a Fields<'a>,
    kind: &'a str,
    max_position_embeddings: usize,
}

impl Block<'_> {
    fn missing(&self, field: &str) -> ConfigError {
        ConfigError::Missing { field: self.f.name(field), reason: format!("rope_type `{}` needs it", self.kind) }
    }

    fn required(&self, field: &str) -> Result<f64, ConfigError> {
        self.f.number(field)?.ok_or_else(|| self.missing(field))
    }

    fn required_list(&self, field: &str) -> Result<Vec<f64>, ConfigError> {
        self.f.numbers(field)?.ok_or_else(|| self.missing(field))
    }

    /// The context of the original training.
    fn original(&self) -> Result<usize, ConfigError> {
        match [self.config, self.f].into_iter().find(|fields| fields.get(ORIGINAL).is_some()) {
            Some(fields) => fields.size(ORIGINAL, 0),
            None => {
                tracing::warn!(
                    "{} is missing; it is taken to be max_position_embeddings = {}, as in transformers",
                    self.f.name(ORIGINAL),
                    self.max_position_embeddings
                );
                Ok(self.max_position_embeddings)
            }
        }
    }

    /// A number where 0 means the same as nothing.
    fn not_zero(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        Ok(self.f.number(field)?.filter(|n| *n != 0.0))
    }

    fn yarn(&self) -> Result<Yarn, ConfigError> {
        // A factor may be null, but it must be there.
        if !self.f.map.contains_key("factor") {
            return Err(self.missing("factor"));
        }
        Ok(Yarn {
            factor: self.f.number("factor")?,
            original_max_position_embeddings: self.original()?,
            attention_factor: self.f.number("attention_factor")?,
            beta_fast: self.not_zero("beta_fast")?.unwrap_or(32.0),
            beta_slow: self.not_zero("beta_slow")?.unwrap_or(1.0),
            mscale: self.not_zero("mscale")?,
            mscale_all_dim: self.not_zero("mscale_all_dim")?,
            // Missing is true, null is false, as Python has it.
            truncate: self.f.flag("truncate", !self.f.map.contains_key("truncate"))?,
        })
    }

    fn longrope(&self) -> Result<LongRope, ConfigError> {
        Ok(LongRope {
            short_factor: self.required_list("short_factor")?,
            long_factor: self.required_list("long_factor")?,
            factor: self.f.number("factor")?,
            attention_factor: self.f.number("attention_factor")?,
            original_max_position_embeddings: self.original()?,
        })
    }

    fn llama3(&self) -> Result<Llama3, ConfigError> {
        Ok(Llama3 {
            factor: self.required("factor")?,
            low_freq_factor: self.required("low_freq_factor")?,
            high_freq_factor: self.required("high_freq_factor")?,
            original_max_position_embeddings: self.original()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::llama::LlamaConfig;

    fn rope(config: Value) -> Result<RopeParameters, ConfigError> {
        LlamaConfig::from_value(&config).map(|c| c.rope)
    }

    fn error(block: Value) -> String {
        rope(json!({"rope_scaling": block})).unwrap_err().to_string()
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
    fn what_goes_before_what_is_as_in_transformers() {
        let both = json!({"rope_theta": 5e4, "rope_scaling": {"rope_type": "linear", "factor": 2},
                          "rope_parameters": {"rope_type": "default", "rope_theta": 7.0}});
        let both = rope(both).unwrap();
        assert_eq!((both.rope_theta, both.scaling), (5e4, RopeScaling::Linear { factor: 2.0 }));
        let empty =
            json!({"rope_scaling": {}, "rope_parameters": {"rope_type": "linear", "factor": 3, "rope_theta": 7.0}});
        assert_eq!(rope(empty).unwrap().scaling, RopeScaling::Linear { factor: 3.0 });
        let types = json!({"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 2}});
        assert_eq!(rope(types).unwrap().scaling, RopeScaling::Default);
        let original = |config: Value| match rope(config).unwrap().scaling {
            RopeScaling::Llama3(l) => l.original_max_position_embeddings,
            other => panic!("{other:?}"),
        };
        let block = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4});
        assert_eq!(original(json!({"rope_scaling": block, "max_position_embeddings": 640})), 640);
        assert_eq!(original(json!({"rope_scaling": llama3(), "original_max_position_embeddings": 32})), 32);
        let share = json!({"partial_rotary_factor": 0.5, "rope_scaling": {"type": "linear", "factor": 2}});
        assert_eq!(rope(share).unwrap().partial_rotary_factor, Some(0.5));
    }

    #[test]
    fn yarn_takes_null_and_zero_as_transformers_does() {
        let yarn = |block: Value| match rope(json!({"rope_parameters": block, "max_position_embeddings": 64})) {
            Ok(RopeParameters { scaling: RopeScaling::Yarn(yarn), .. }) => yarn,
            other => panic!("{other:?}"),
        };
        let y = yarn(json!({"rope_type": "yarn", "factor": 4, "beta_fast": 0, "beta_slow": null, "mscale": 0}));
        assert_eq!((y.beta_fast, y.beta_slow, y.mscale, y.truncate), (32.0, 1.0, None, true));
        assert_eq!(y.original_max_position_embeddings, 64);
        let y = yarn(json!({"rope_type": "yarn", "factor": null, "truncate": null, "attention_factor": 0,
                            "original_max_position_embeddings": 16}));
        assert_eq!((y.factor, y.factor(64), y.truncate, y.attention_factor), (None, 4.0, false, Some(0.0)));
    }

    #[test]
    fn what_is_unknown_or_incomplete_is_an_error_never_a_default() {
        assert_eq!(
            error(json!({"rope_type": "su"})),
            format!("`rope_scaling.rope_type` is `su`, which is not supported; supported: {SUPPORTED}")
        );
        assert!(error(json!({"factor": 2})).contains("`rope_scaling.rope_type` is missing"));
        for kind in ["linear", "dynamic", "yarn"] {
            assert!(error(json!({"type": kind})).contains("`rope_scaling.factor` is missing"), "{kind}");
        }
        assert!(error(json!({"type": "longrope"})).contains("`rope_scaling.short_factor` is missing"));
        assert!(error(json!({"rope_type": "llama3", "factor": 8})).contains("low_freq_factor` is missing"));
        assert!(error(json!("linear")).contains("be an object"));
        assert!(error(json!({"full_attention": {"rope_theta": 1e4}})).contains("full_attention"));
    }

    #[test]
    fn values_that_give_no_frequencies_are_refused() {
        let list = |n: usize| vec![1.0; n];
        for (block, part) in [
            (json!({"type": "linear", "factor": 0}), "`rope_scaling.factor` is 0, but it must be a positive number"),
            (json!({"type": "linear", "factor": "2"}), "be a number"),
            (json!({"type": "dynamic", "factor": 2, "partial_rotary_factor": 0.02}), "more than 2 elements"),
            (json!({"type": "linear", "factor": 2, "partial_rotary_factor": 1.5}), "partial_rotary_factor"),
            (json!({"type": "linear", "factor": 2, "partial_rotary_factor": 0.0}), "partial_rotary_factor"),
            (json!({"rope_theta": 0}), "rope_theta"),
            (json!({"type": "yarn", "factor": 2, "rope_theta": 1}), "not be 1"),
            (json!({"type": "yarn", "factor": -2}), "factor"),
            (json!({"type": "yarn", "factor": 2, "partial_rotary_factor": 0.01}), "even number"),
            (
                json!({"type": "longrope", "short_factor": list(64), "long_factor": list(63)}),
                "`rope_scaling.long_factor` is a list of 63, but it must have one number for each of 64",
            ),
            (json!({"type": "longrope", "short_factor": ["1"], "long_factor": list(64)}), "be a list of numbers"),
            (
                json!({"type": "longrope", "short_factor": list(64), "long_factor": list(64),
                       "original_max_position_embeddings": 1}),
                "be more than 1",
            ),
        ] {
            let e = error(block.clone());
            assert!(e.contains(part), "{block}: {e}");
        }
        let top = json!({"rope_scaling": {"type": "linear", "factor": 2}, "rope_theta": -1});
        assert!(rope(top).unwrap_err().to_string().starts_with("`rope_theta` is -1"));
        let new = json!({"rope_parameters": {"type": "linear", "factor": -2}});
        assert!(rope(new).unwrap_err().to_string().starts_with("`rope_parameters.factor` is -2"));
    }
}
