//! Placement: what a device does not have is lowered or refused, and never moved.

mod common;

use camelid_core::DType;
use camelid_core::backend::Support;
use camelid_core::graph::{Graph, GraphBuilder, Symbol, TensorType};
use camelid_host::{HostError, LoweredOp, OnUnsupported};
use common::{f32, open, range};

fn lower(reason: &str) -> Support {
    Support::Lower { reason: reason.into() }
}

fn no(reason: &str) -> Support {
    Support::No { reason: reason.into() }
}

/// Two MLP-like layers: linear, swiglu.
fn layers() -> Graph {
    let mut g = GraphBuilder::new(range());
    let mut x = g.input("x", f32(&[Symbol::T.into(), 88.into()])).unwrap();
    let vendor = DType::vendor(0x8000_0007, 1, 4).unwrap();
    for layer in 0..2 {
        g.set_scope(format!("model.layers.{layer}.mlp"));
        let ty = TensorType::new(vendor, &[88.into(), 88.into()]).unwrap();
        let w = g.weight(format!("w{layer}"), ty).unwrap();
        let gate = g.linear(x, w, None).unwrap();
        x = g.swiglu(gate, x).unwrap();
    }
    g.output("y", x).unwrap();
    g.finish()
}

fn ops(graph: &Graph) -> Vec<&'static str> {
    graph.nodes().iter().map(|n| n.op.name()).collect()
}

#[test]
fn a_graph_the_device_has_whole_stays_as_it_is() {
    let (device, _script) = open();
    for mode in [OnUnsupported::Lower, OnUnsupported::Error] {
        let placed = device.place(&layers(), mode).unwrap();
        assert_eq!(placed.graph, layers());
        assert!(placed.lowered.is_empty());
    }
}

#[test]
fn what_the_device_wants_lowered_is_lowered_and_told() {
    let (device, script) = open();
    script.supports.lock().unwrap().insert("swiglu", lower("no fused kernel"));
    let placed = device.place(&layers(), OnUnsupported::Lower).unwrap();
    assert_eq!(ops(&placed.graph), ["linear", "activation", "mul", "linear", "activation", "mul"]);
    let told = |scope: &str| LoweredOp { op: "swiglu", scope: scope.into(), reason: "no fused kernel".into() };
    assert_eq!(placed.lowered, [told("model.layers.0.mlp"), told("model.layers.1.mlp")]);
    let bound = |g: &Graph| g.bound_values().map(|(_, v)| (v.name.clone(), v.kind)).collect::<Vec<_>>();
    let inputs = |g: &Graph| bound(g).into_iter().filter(|(n, _)| !n.starts_with('%')).collect::<Vec<_>>();
    assert_eq!(inputs(&placed.graph), inputs(&layers()));
}

#[test]
fn a_lowering_that_is_not_supported_either_is_an_error() {
    let (device, script) = open();
    script.supports.lock().unwrap().extend([("swiglu", lower("no kernel")), ("activation", no("no exponential"))]);
    let error = device.place(&layers(), OnUnsupported::Lower).unwrap_err().to_string();
    assert_eq!(error, "fake: activation(x f32 [T, 88]) at model.layers.0.mlp: no exponential (and 1 more node)");
}

#[test]
fn a_node_the_device_cannot_compute_is_named_with_types_place_and_reason() {
    let (device, script) = open();
    let reason = "no kernel for vendor:0x80000007; supported: f32 q4_0";
    // The unsupported node counts, also where another would have been lowered first.
    script.supports.lock().unwrap().extend([("linear", no(reason)), ("swiglu", lower("x"))]);
    for mode in [OnUnsupported::Lower, OnUnsupported::Error] {
        let error = device.place(&layers(), mode).unwrap_err();
        let node = "linear(x f32 [T, 88], w vendor:0x80000007 [88, 88]) at model.layers.0.mlp";
        assert_eq!(error.to_string(), format!("fake: {node}: {reason} (and 1 more node)"));
    }
}

#[test]
fn on_unsupported_error_refuses_to_lower() {
    let (device, script) = open();
    script.supports.lock().unwrap().insert("swiglu", lower("no fused kernel"));
    let error = device.place(&layers(), OnUnsupported::Error).unwrap_err().to_string();
    let node = "swiglu(gate f32 [T, 88], up f32 [T, 88]) at model.layers.0.mlp";
    assert!(error.starts_with(&format!("fake: {node}: no fused kernel (and 1 more node); ")), "{error}");
    assert!(error.contains("on_unsupported = \"lower\""), "{error}");
}

#[test]
fn a_core_operation_cannot_be_lowered() {
    let (device, script) = open();
    script.supports.lock().unwrap().extend([("swiglu", lower("no kernel")), ("mul", lower(" "))]);
    let error = device.place(&layers(), OnUnsupported::Lower).unwrap_err();
    assert!(matches!(error, HostError::LowersCore { op: "mul", .. }));
    let text = error.to_string();
    assert!(text.starts_with("fake: mul(") && text.contains("at model.layers.0.mlp"), "{text}");
    assert!(text.contains("the backend gives no reason") && text.contains("fault of the backend"), "{text}");
}

#[test]
fn lowering_goes_on_until_nothing_is_left_to_lower() {
    // A model's whole layer has every macro operation; with all of them refused, only core operations remain.
    let config = camelid_core::llama::LlamaConfig::from_json(
        r#"{"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4,
            "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 32, "max_position_embeddings": 64}"#,
    )
    .unwrap();
    let options = camelid_core::llama::GraphOptions {
        attention: &camelid_core::attention::CausalAttention,
        layout: camelid_core::graph::CacheLayout {
            num_slots: 64,
            block_size: 16,
            blocks_per_sequence: 4,
            max_sequences: 2,
        },
        kv_dtype: DType::F32,
        range: range(),
        positions: 64,
        input: camelid_core::llama::Input::Tokens,
        window: None,
        hidden_states: false,
        last_hidden_state: false,
        head: camelid_core::llama::Head::LanguageModel,
    };
    let graph = camelid_core::llama::build(&config, &Default::default(), &options).unwrap();
    let (device, script) = open();
    for op in ["kv_append", "attention", "swiglu", "qkv_linear", "add_rms_norm"] {
        script.supports.lock().unwrap().insert(op, lower("nothing fused here"));
    }
    let placed = device.place(&graph, OnUnsupported::Lower).unwrap();
    assert!(placed.graph.nodes().iter().all(|n| !n.op.is_macro()));
    assert_eq!(placed.graph, camelid_core::lower::lower_all(&graph).unwrap());
    let macros = graph.nodes().iter().filter(|n| n.op.is_macro()).count();
    assert!(macros >= 8 && placed.lowered.len() >= macros, "{macros} {}", placed.lowered.len());
}
