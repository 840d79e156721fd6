//! Frequencies and attention factors of many rope configs, in both forms of config.json, as transformers' own functions
//! give them in float64. Made by conformance/reference/rope_frequencies.py.

use camelid_core::llama::LlamaConfig;
use camelid_core::llama::rope::Rotary;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Case {
    config: Value,
    expected: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    length: usize,
    frequencies: Vec<f64>,
    attention_factor: f64,
}

#[test]
fn frequencies_and_attention_factors_are_those_of_transformers() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("data/rope_frequencies.json")).unwrap();
    let mut kinds = std::collections::BTreeSet::new();
    for Case { config, expected } in &cases {
        let parsed = LlamaConfig::from_value(config).unwrap_or_else(|e| panic!("{config}: {e}"));
        kinds.insert(parsed.rope.scaling.name());
        let rotary = Rotary::new(&parsed, None);
        for e in expected {
            let got = rotary.frequencies(e.length);
            assert_eq!(got.len(), e.frequencies.len(), "{config}");
            for (i, (a, b)) in got.iter().zip(&e.frequencies).enumerate() {
                assert!((a - b).abs() <= 1e-13 * b.abs(), "{config}, length {}: {i} is {a}, not {b}", e.length);
            }
            let factor = rotary.attention_factor();
            assert!((factor - e.attention_factor).abs() <= 1e-14, "{config}: {factor}, not {}", e.attention_factor);
        }
        let lengths = expected.len() > 1;
        assert!(!lengths || rotary.depends_on_length(), "{config}");
    }
    assert_eq!((cases.len(), kinds.len()), (70, 7));
}
