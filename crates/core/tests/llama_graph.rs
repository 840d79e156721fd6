//! The Llama graph: which weights it reads, what it is made of, and that its lowering is core operations alone.

use std::collections::{BTreeMap, HashMap, HashSet};

use camelid_core::DType;
use camelid_core::attention::{Attention, CausalAttention, EagerAttention, MaskedAttention};
use camelid_core::graph::{CacheLayout, Graph, SymbolRange, SymbolValues, TensorType, ValueKind};
use camelid_core::llama::{GraphOptions, Head, Input, LlamaConfig, ROPE_COS, ROPE_SIN, build, tensors};
use camelid_core::lower::{lower, lower_all};
use serde_json::{Value, json};

fn config(extra: Value) -> LlamaConfig {
    let mut base = json!({
        "vocab_size": 263, "hidden_size": 90, "intermediate_size": 200, "num_hidden_layers": 3,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 24, "max_position_embeddings": 64,
    });
    base.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    LlamaConfig::from_value(&base).unwrap()
}

fn weight_types(config: &LlamaConfig, untied: bool) -> HashMap<String, TensorType> {
    let ty =
        |shape: &[usize]| TensorType::new(DType::BF16, &shape.iter().map(|n| (*n).into()).collect::<Vec<_>>()).unwrap();
    tensors::expected(config, untied).into_iter().map(|t| (t.name, ty(&t.shape))).collect()
}

fn options(attention: &dyn Attention, kv_dtype: DType) -> GraphOptions<'_> {
    GraphOptions {
        attention,
        layout: CacheLayout { num_slots: 64, block_size: 16, blocks_per_sequence: 4, max_sequences: 1 },
        kv_dtype,
        range: SymbolRange { min: SymbolValues::new(1, 1, 0, 1), max: SymbolValues::new(8, 1, 8, 64) },
        positions: 64,
        input: Input::Tokens,
        window: None,
        hidden_states: false,
        last_hidden_state: false,
        head: Head::LanguageModel,
    }
}

fn graph(config: &LlamaConfig, untied: bool, attention: &dyn Attention, hidden_states: bool) -> Graph {
    let options = GraphOptions { hidden_states, ..options(attention, DType::F32) };
    build(config, &weight_types(config, untied), &options).unwrap()
}

fn weights(graph: &Graph) -> HashSet<String> {
    graph.values().iter().filter(|v| v.kind == ValueKind::Weight).map(|v| v.name.clone()).collect()
}

fn op_counts(graph: &Graph) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    graph.nodes().iter().for_each(|n| *counts.entry(n.op.name()).or_default() += 1);
    counts
}

#[test]
fn a_graph_reads_exactly_the_tensors_the_checkpoint_must_have() {
    for extra in [json!({}), json!({"attention_bias": true, "mlp_bias": true}), json!({"num_key_value_heads": 1})] {
        for untied in [true, false] {
            let c = config(extra.clone());
            let mut expected: HashSet<String> = tensors::expected(&c, untied).into_iter().map(|t| t.name).collect();
            expected.extend([ROPE_COS.to_owned(), ROPE_SIN.to_owned()]);
            assert_eq!(weights(&graph(&c, untied, &CausalAttention, false)), expected);
        }
    }
}

#[test]
fn frequencies_that_depend_on_the_length_come_as_rows_for_each_token() {
    let c = config(json!({"rope_scaling": {"type": "dynamic", "factor": 2, "partial_rotary_factor": 0.5}}));
    let g = graph(&c, true, &CausalAttention, false);
    assert!(!weights(&g).contains(ROPE_COS));
    for name in [ROPE_COS, ROPE_SIN] {
        let value = g.values().iter().find(|v| v.name == name).unwrap();
        assert_eq!((value.kind, value.ty.to_string()), (ValueKind::Input, "f32 [T, 6]".to_owned()));
    }
    assert!(g.values().iter().all(|v| v.name != "positions"), "nothing is looked up");
    assert_eq!(op_counts(&g)["gather_rows"], 3, "embeddings, and the rows of the head");

    let linear = config(json!({"rope_scaling": {"type": "linear", "factor": 2, "partial_rotary_factor": 0.5}}));
    let g = graph(&linear, true, &CausalAttention, false);
    let table = g.values().iter().find(|v| v.name == ROPE_COS).unwrap();
    assert_eq!(table.ty.to_string(), "f32 [64, 6]");
}

#[test]
fn a_tied_config_leaves_a_head_in_the_file_unread() {
    let c = config(json!({"tie_word_embeddings": true}));
    assert!(!weights(&graph(&c, true, &CausalAttention, false)).contains(tensors::LM_HEAD));
}

#[test]
fn each_layer_is_made_of_the_macro_operations() {
    let counts = op_counts(&graph(&config(json!({})), true, &CausalAttention, false));
    let layers = 3;
    for (op, count) in [
        ("attention", layers),
        ("qkv_linear", layers),
        ("swiglu", layers),
        ("kv_append", 2 * layers),
        ("rope", 2 * layers),
        ("add_rms_norm", 2 * layers),
        ("rms_norm", 1),
        ("linear", 4 * layers + 1),
    ] {
        assert_eq!(counts[op], count, "{op}");
    }
    let gelu = op_counts(&graph(&config(json!({"hidden_act": "gelu"})), true, &CausalAttention, false));
    assert_eq!((gelu.get("swiglu"), gelu["activation"], gelu["mul"]), (None, layers, layers));
}

#[test]
fn lowering_leaves_core_operations_the_same_weights_and_the_same_outputs() {
    let g = graph(&config(json!({"attention_bias": true})), true, &CausalAttention, true);
    let lowered = lower_all(&g).unwrap();
    assert!(lowered.nodes().iter().all(|n| !n.op.is_macro()));
    assert_eq!(weights(&lowered), weights(&g));
    let outputs = |g: &Graph| g.outputs().iter().map(|o| (o.name.clone(), g.value(o.value).ty)).collect::<Vec<_>>();
    assert_eq!(outputs(&lowered), outputs(&g));
    assert_eq!(g.outputs().len(), 1 + 4, "logits and the states after the embedding and after each layer");
    assert_eq!(op_counts(&lower(&g, |_| false).unwrap()), op_counts(&g), "lowering nothing changes nothing");
}

#[test]
fn core_operations_cannot_be_lowered() {
    let g = graph(&config(json!({})), true, &CausalAttention, false);
    let error = lower(&g, |id| g.node(id).op.name() == "rope").unwrap_err().to_string();
    assert_eq!(error, "rope at model.layers.0.self_attn: a core operation has no lowering");
}

#[test]
fn eager_attention_gives_out_its_probabilities() {
    let g = graph(&config(json!({})), true, &EagerAttention, false);
    let probabilities: Vec<_> = g.outputs().iter().filter(|o| o.name.starts_with("attentions.")).collect();
    assert_eq!(probabilities.len(), 3);
    assert_eq!(g.value(probabilities[0].value).ty.to_string(), "f32 [T, 2, 3, L]");
    assert!(!op_counts(&g).contains_key("attention"));
}

#[test]
fn a_graph_ends_in_the_head_it_is_asked_for_and_may_start_from_embeddings() {
    let c = config(json!({}));
    let mut types = weight_types(&c, false);
    types.insert(tensors::SCORE.into(), TensorType::new(DType::F32, &[5.into(), 90.into()]).unwrap());
    let end = |head, input, hidden_states, last_hidden_state| {
        let options = GraphOptions {
            attention: &MaskedAttention,
            layout: CacheLayout { num_slots: 64, block_size: 64, blocks_per_sequence: 1, max_sequences: 1 },
            kv_dtype: DType::F32,
            range: SymbolRange { min: SymbolValues::new(1, 1, 0, 1), max: SymbolValues::new(8, 1, 8, 64) },
            positions: 64,
            input,
            window: None,
            hidden_states,
            last_hidden_state,
            head,
        };
        let g = build(&c, &types, &options).unwrap();
        let outputs = g.outputs().iter().map(|o| format!("{} {}", o.name, g.value(o.value).ty)).collect::<Vec<_>>();
        (outputs, weights(&g).contains(tensors::SCORE))
    };
    let classes = Head::Classes { num_labels: 5 };
    assert_eq!(end(classes, Input::Tokens, false, false), (vec!["logits f32 [O, 5]".into()], true));
    let last = "last_hidden_state f32 [T, 90]".to_owned();
    assert_eq!(end(Head::None, Input::Tokens, false, true), (vec![last], false));
    let (outputs, _) = end(Head::LanguageModel, Input::Embeds, true, false);
    let names: Vec<&str> = outputs.iter().map(|o| o.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["hidden_states.1", "hidden_states.2", "hidden_states.3", "logits"]);
}

#[test]
fn a_weight_that_does_not_fit_is_named_with_its_place() {
    let c = config(json!({}));
    let mut types = weight_types(&c, true);
    let name = "model.layers.1.mlp.down_proj.weight";
    types.insert(name.into(), TensorType::new(DType::F32, &[90.into(), 201.into()]).unwrap());
    let g = graph(&c, true, &CausalAttention, false);
    let options = GraphOptions {
        attention: &CausalAttention,
        layout: CacheLayout { num_slots: 64, block_size: 64, blocks_per_sequence: 1, max_sequences: 1 },
        kv_dtype: DType::F32,
        range: *g.range(),
        positions: 64,
        input: Input::Tokens,
        window: None,
        hidden_states: false,
        last_hidden_state: false,
        head: Head::LanguageModel,
    };
    let error = build(&c, &types, &options).unwrap_err().to_string();
    assert!(error.starts_with("linear at model.layers.1.mlp: operand `w` is f32 [90, 201]"), "{error}");
}

#[test]
fn keys_and_values_in_q8_0_need_heads_of_whole_blocks() {
    let cached = |head_dim: usize, attention: &dyn Attention| {
        let c = config(json!({"head_dim": head_dim}));
        build(&c, &weight_types(&c, true), &options(attention, DType::Q8_0))
    };
    for attention in [&CausalAttention as &dyn Attention, &EagerAttention, &MaskedAttention] {
        let lowered = lower_all(&cached(32, attention).unwrap()).unwrap();
        assert!(lowered.to_string().contains("state cache.2.v: q8_0 [64, 64]"), "{lowered}");
        let error = cached(24, attention).unwrap_err().to_string();
        let part = "attribute `kv_dtype` is q8_0, but it must be f16, bf16 or f32, because heads of 24 elements";
        assert!(error.starts_with("kv_append at model.layers.0.self_attn: ") && error.contains(part), "{error}");
    }
}

#[test]
fn the_printed_graph_names_weights_and_places() {
    let text = graph(&config(json!({})), true, &CausalAttention, false).to_string();
    for part in [
        "weight model.layers.0.self_attn.q_proj.weight: bf16 [144, 90]",
        "state cache.2.v: f32 [64, 48]",
        "input block_table: i32 [S, 4]",
        "# model.layers.2.mlp",
        "{heads=6 kv_heads=2 head_dim=24 block=16",
        "output logits = ",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}
