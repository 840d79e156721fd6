//! From [`RopeParameters`] to the fields of a config.

use serde_json::{Map, Value, json};

use super::{RopeParameters, RopeScaling};

/// `rope_parameters` as transformers 5 writes them.
pub fn to_json(rope: &RopeParameters) -> Value {
    let mut map = scaling(rope);
    map.insert("rope_theta".into(), rope.rope_theta.into());
    if let Some(share) = rope.partial_rotary_factor {
        map.insert("partial_rotary_factor".into(), share.into());
    }
    Value::Object(map)
}

/// The parameters that the kind has, and its name.
pub(in crate::llama) fn scaling(rope: &RopeParameters) -> Map<String, Value> {
    let mut map = Map::new();
    let mut set = |key: &str, value: Value| {
        map.insert(key.into(), value);
    };
    set("rope_type", rope.scaling.name().into());
    match &rope.scaling {
        RopeScaling::Default => {}
        RopeScaling::Linear { factor } | RopeScaling::Dynamic { factor } | RopeScaling::Proportional { factor } => {
            set("factor", json!(factor));
        }
        RopeScaling::Yarn(yarn) => {
            // null where it follows from the lengths; transformers wants the key.
            set("factor", json!(yarn.factor));
            set("original_max_position_embeddings", json!(yarn.original_max_position_embeddings));
            set("beta_fast", json!(yarn.beta_fast));
            set("beta_slow", json!(yarn.beta_slow));
            for (key, value) in [
                ("attention_factor", yarn.attention_factor),
                ("mscale", yarn.mscale),
                ("mscale_all_dim", yarn.mscale_all_dim),
            ] {
                if let Some(value) = value {
                    set(key, json!(value));
                }
            }
            set("truncate", json!(yarn.truncate));
        }
        RopeScaling::LongRope(long) => {
            set("short_factor", json!(long.short_factor));
            set("long_factor", json!(long.long_factor));
            for (key, value) in [("factor", long.factor), ("attention_factor", long.attention_factor)] {
                if let Some(value) = value {
                    set(key, json!(value));
                }
            }
            set("original_max_position_embeddings", json!(long.original_max_position_embeddings));
        }
        RopeScaling::Llama3(llama3) => {
            set("factor", json!(llama3.factor));
            set("low_freq_factor", json!(llama3.low_freq_factor));
            set("high_freq_factor", json!(llama3.high_freq_factor));
            set("original_max_position_embeddings", json!(llama3.original_max_position_embeddings));
        }
    }
    map
}
