//! What a configuration may say that has no effect or is odd: it is read, and a warning names the field.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use camelid_core::llama::LlamaConfig;
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps the messages of warnings.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<String>>>);

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").unwrap();
        }
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push(message.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The configuration, and the warnings that reading it gave.
fn read(config: Value) -> (LlamaConfig, Vec<String>) {
    let listener = Listener::default();
    let parsed = tracing::subscriber::with_default(listener.clone(), || LlamaConfig::from_value(&config).unwrap());
    let messages = listener.0.lock().unwrap().clone();
    (parsed, messages)
}

#[test]
fn a_plain_configuration_says_nothing() {
    for rope in [
        json!({}),
        json!({"rope_type": "linear", "factor": 2}),
        json!({"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 1024, "mscale": 0.7}),
        json!({"rope_type": "proportional", "partial_rotary_factor": 0.5}),
    ] {
        assert_eq!(read(json!({"rope_parameters": rope})).1, [""; 0]);
    }
}

#[test]
fn pretraining_tp_is_read_and_has_no_effect() {
    let (config, warnings) = read(json!({"pretraining_tp": 2}));
    assert_eq!(config.pretraining_tp, 2);
    assert!(warnings.len() == 1 && warnings[0].contains("pretraining_tp is 2: it has no effect"), "{warnings:?}");
}

#[test]
fn odd_values_are_named() {
    let rope = |block: Value| json!({"rope_parameters": block});
    for (config, part) in [
        (json!({"pad_token_id": 32000}), "pad_token_id is 32000, which is not below vocab_size = 32000"),
        (json!({"eos_token_id": [2, 40000]}), "eos_token_id is 40000"),
        (json!({"id2label": {"0": "a"}, "num_labels": 2}), "num_labels is 2, but id2label has 1"),
        (rope(json!({"rope_type": "default", "partial_rotary_factor": 0.5})), "partial_rotary_factor has no effect"),
        (rope(json!({"rope_type": "dynamic", "factor": 0.5})), "factor is 0.5"),
        (
            rope(json!({"rope_type": "linear", "factor": 2, "beta_fast": 3})),
            "beta_fast is no parameter of rope_type `linear`",
        ),
        (rope(json!({"rope_type": "yarn", "factor": 2})), "original_max_position_embeddings is missing"),
        (
            rope(json!({"rope_type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 2,
                        "original_max_position_embeddings": 64})),
            "beta_fast is 1, less than beta_slow = 2",
        ),
        (
            rope(json!({"rope_type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4,
                        "original_max_position_embeddings": 64})),
            "high_freq_factor is 4, not greater than low_freq_factor = 4",
        ),
        (
            rope(json!({"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 4096})),
            "original_max_position_embeddings is 4096, more than max_position_embeddings = 2048",
        ),
    ] {
        let (_, warnings) = read(config.clone());
        assert!(warnings.len() == 1 && warnings[0].contains(part), "{config}: {warnings:?}");
    }
}
