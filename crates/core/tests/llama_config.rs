//! Configurations there and back: every valid one survives both forms of config.json, and what transformers writes is
//! read as it meant it.

use std::collections::BTreeMap;

use camelid_core::llama::rope::{Llama3, LongRope, RopeParameters, RopeScaling, Yarn};
use camelid_core::llama::{ConfigForm, LlamaConfig, ProblemType};
use camelid_core::ops::Activation;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Decimals as people write them: three digits after the point.
fn decimal(range: std::ops::Range<u32>) -> impl Strategy<Value = f64> {
    range.prop_map(|n| f64::from(n) / 1000.0)
}

fn maybe<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    prop::option::of(strategy)
}

/// Any scaling for `pairs` rotated pairs of a head.
fn scaling(pairs: usize) -> impl Strategy<Value = RopeScaling> {
    let factor = || decimal(1..40_000);
    let yarn = (
        (maybe(factor()), 2usize..9000, maybe(decimal(0..3000)), decimal(1..64_000)),
        (decimal(1..9000), maybe(decimal(1..3000)), maybe(decimal(1..3000)), any::<bool>()),
    )
        .prop_map(|((factor, original, attention_factor, fast), (slow, mscale, mscale_all_dim, truncate))| {
            RopeScaling::Yarn(Yarn {
                factor,
                original_max_position_embeddings: original,
                attention_factor,
                beta_fast: fast,
                beta_slow: slow,
                mscale,
                mscale_all_dim,
                truncate,
            })
        });
    let list = move || prop::collection::vec(factor(), pairs);
    let longrope = (list(), list(), maybe(factor()), maybe(decimal(0..3000)), 2usize..9000).prop_map(
        |(short_factor, long_factor, factor, attention_factor, original)| {
            RopeScaling::LongRope(LongRope {
                short_factor,
                long_factor,
                factor,
                attention_factor,
                original_max_position_embeddings: original,
            })
        },
    );
    let llama3 =
        (factor(), decimal(1..4000), decimal(1..9000), 1usize..9000).prop_map(|(factor, low, high, original)| {
            RopeScaling::Llama3(Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original,
            })
        });
    prop_oneof![
        Just(RopeScaling::Default),
        factor().prop_map(|factor| RopeScaling::Linear { factor }),
        factor().prop_map(|factor| RopeScaling::Dynamic { factor }),
        factor().prop_map(|factor| RopeScaling::Proportional { factor }),
        yarn,
        longrope,
        llama3,
    ]
}

fn configs() -> impl Strategy<Value = LlamaConfig> {
    let sizes = (1usize..300, 1usize..300, 1usize..9, 1usize..5, 1usize..5, 2usize..20, 1usize..9000);
    let numbers = (decimal(2..2_000_000), decimal(0..1000), decimal(0..1000), decimal(0..1000), 1usize..9);
    let ids = (maybe(any::<u32>()), maybe(any::<u32>()), prop::collection::vec(any::<u32>(), 0..4));
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let labels = prop::collection::btree_map(0usize..50, "[a-zA-Z_0-9 ]{0,6}", 2..5);
    let text = (
        prop::sample::select(Activation::ALL.to_vec()),
        labels,
        maybe(prop::sample::select(ProblemType::ALL.to_vec())),
        prop::sample::select(vec![vec![], vec!["LlamaForCausalLM".to_owned()], vec!["LlamaModel".to_owned()]]),
        maybe(prop::sample::select(vec!["float16".to_owned(), "bfloat16".to_owned()])),
    );
    (sizes, numbers, ids, flags, text)
        .prop_flat_map(|all| {
            let pairs = all.0.5;
            // Half of a head's pairs, so that a list for longrope has a length of its own.
            (Just(all), any::<bool>(), scaling(pairs), scaling(pairs.div_ceil(2)))
        })
        .prop_filter_map("values that give no frequencies", |(all, partial, whole, half)| {
            let (sizes, numbers, ids, flags, text) = all;
            let (vocab, hidden, layers, kv_heads, group, pairs, positions) = sizes;
            let (theta, initializer_range, rms_norm_eps, attention_dropout, tp) = numbers;
            let label2id: BTreeMap<String, usize> = text.1.iter().map(|(id, l)| (format!("{l}!"), *id)).collect();
            let config = LlamaConfig {
                vocab_size: vocab,
                hidden_size: hidden,
                intermediate_size: hidden + 7,
                num_hidden_layers: layers,
                num_attention_heads: kv_heads * group,
                num_key_value_heads: kv_heads,
                head_dim: 2 * pairs,
                hidden_act: text.0,
                max_position_embeddings: positions,
                initializer_range,
                rms_norm_eps,
                use_cache: flags.0,
                pad_token_id: ids.0,
                bos_token_id: ids.1,
                eos_token_id: ids.2,
                pretraining_tp: tp,
                tie_word_embeddings: flags.1,
                rope: RopeParameters {
                    rope_theta: theta,
                    partial_rotary_factor: partial.then_some(0.5),
                    scaling: if partial { half } else { whole },
                },
                attention_bias: flags.2,
                attention_dropout,
                mlp_bias: flags.3,
                num_labels: text.1.len(),
                id2label: text.1,
                label2id,
                problem_type: text.2,
                architectures: text.3,
                dtype: text.4,
            };
            config.check().is_ok().then_some(config)
        })
}

proptest! {
    #[test]
    fn every_valid_config_survives_both_forms(config in configs()) {
        for form in [ConfigForm::V5, ConfigForm::V4] {
            let text = config.to_json(form).to_string();
            let again = LlamaConfig::from_json(&text).unwrap();
            prop_assert_eq!(&again, &config, "{}", text);
        }
    }
}

#[test]
fn the_two_forms_differ_where_they_should() {
    let config = json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}, "dtype": "float16",
                        "partial_rotary_factor": 0.5, "hidden_size": 64, "num_attention_heads": 4});
    let config = LlamaConfig::from_value(&config).unwrap();
    let (new, old) = (config.to_json(ConfigForm::V5), config.to_json(ConfigForm::V4));
    assert_eq!(
        new["rope_parameters"],
        json!({"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5, "partial_rotary_factor": 0.5})
    );
    assert_eq!((&new["dtype"], new.get("rope_theta"), new.get("torch_dtype")), (&json!("float16"), None, None));
    assert_eq!(old["rope_scaling"], json!({"rope_type": "linear", "factor": 2.0}));
    assert_eq!((&old["rope_theta"], &old["partial_rotary_factor"]), (&json!(5e5), &json!(0.5)));
    assert_eq!((&old["torch_dtype"], old.get("rope_parameters"), old.get("dtype")), (&json!("float16"), None, None));
    let plain = LlamaConfig::from_json("{}").unwrap().to_json(ConfigForm::V4);
    assert_eq!(plain["rope_scaling"], Value::Null, "no scaling is written as none");
    let keys: Vec<&String> = new.as_object().unwrap().keys().collect();
    assert!(keys.is_sorted(), "{keys:?}");
}

/// `LlamaConfig().to_dict()` of transformers 5.8.0, and the same with labels.
#[test]
fn what_transformers_writes_for_its_defaults_is_the_default() {
    let dict = r#"{"transformers_version": "5.8.0", "architectures": null, "output_hidden_states": false,
        "return_dict": true, "dtype": null, "chunk_size_feed_forward": 0, "is_encoder_decoder": false,
        "id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}, "problem_type": null,
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
        "initializer_range": 0.02, "rms_norm_eps": 1e-06, "use_cache": true, "pad_token_id": null, "bos_token_id": 1,
        "eos_token_id": 2, "pretraining_tp": 1, "tie_word_embeddings": false,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "attention_bias": false,
        "attention_dropout": 0.0, "mlp_bias": false, "head_dim": 128, "_name_or_path": "", "model_type": "llama",
        "output_attentions": false}"#;
    let defaults = LlamaConfig::from_json("{}").unwrap();
    assert_eq!(LlamaConfig::from_json(dict).unwrap(), defaults);
    // All 21 parameters of the documentation, with their defaults, are in what is written.
    let (dict, ours): (Value, Value) = (serde_json::from_str(dict).unwrap(), defaults.to_json(ConfigForm::V5));
    for (key, value) in ours.as_object().unwrap() {
        assert_eq!(&dict[key], value, "{key}");
    }
    assert_eq!(ours.as_object().unwrap().len(), 22, "the 21 parameters and model_type");
}
