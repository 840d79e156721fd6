//! The `config.json`, `generation_config.json` and `tokenizer_config.json` of a converted model, as transformers'
//! `convert_llama_weights_to_hf.py` gives them.

use serde_json::{Value, json};

use super::params::{LlamaVersion, Params};

/// The longest context of a version. Models of version 1 and 2 with another base than 10000 (Code Llama) have 16384.
fn context(params: &Params, version: LlamaVersion) -> usize {
    match version {
        LlamaVersion::V1 | LlamaVersion::V2 if params.rope_theta > 10_000.0 => 16384,
        LlamaVersion::V1 => 2048,
        LlamaVersion::V2 => 4096,
        LlamaVersion::V3 => 8192,
        LlamaVersion::V3_1 | LlamaVersion::V3_2 => 131_072,
    }
}

fn bos_and_eos(version: LlamaVersion, instruct: bool) -> (Value, Value) {
    match (version.is_3(), instruct) {
        (true, true) => (json!(128_000), json!([128_001, 128_008, 128_009])),
        (true, false) => (json!(128_000), json!(128_001)),
        (false, _) => (json!(1), json!(2)),
    }
}

/// `config.json` in the form of transformers 5.
pub(super) fn model(
    params: &Params,
    version: LlamaVersion,
    instruct: bool,
    vocab_size: usize,
    tied: bool,
    dtype: &str,
) -> Value {
    let (bos, eos) = bos_and_eos(version, instruct);
    let mut rope = json!({"rope_theta": params.rope_theta, "rope_type": "default"});
    if let Some(factor) = version.rope_factor() {
        rope = json!({
            "factor": factor,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_theta": params.rope_theta,
            "rope_type": "llama3",
        });
    }
    json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": bos,
        "dtype": dtype,
        "eos_token_id": eos,
        "head_dim": params.head_dim(),
        "hidden_act": "silu",
        "hidden_size": params.dim,
        "initializer_range": 0.02,
        "intermediate_size": params.intermediate_size(),
        "max_position_embeddings": context(params, version),
        "mlp_bias": false,
        "model_type": "llama",
        "num_attention_heads": params.n_heads,
        "num_hidden_layers": params.n_layers,
        "num_key_value_heads": params.n_kv_heads,
        "pad_token_id": null,
        "pretraining_tp": 1,
        "rms_norm_eps": params.norm_eps,
        "rope_parameters": rope,
        "tie_word_embeddings": tied,
        "use_cache": true,
        "vocab_size": vocab_size,
    })
}

/// `generation_config.json`.
pub(super) fn generation(version: LlamaVersion, instruct: bool) -> Value {
    let (bos, eos) = bos_and_eos(version, instruct);
    json!({"bos_token_id": bos, "do_sample": true, "eos_token_id": eos, "temperature": 0.6, "top_p": 0.9})
}

/// `tokenizer_config.json`, for readers of `tokenizer.model`.
pub(super) fn tokenizer(params: &Params, version: LlamaVersion, instruct: bool) -> Value {
    let length = context(params, version);
    if version.is_3() {
        return json!({
            "bos_token": "<|begin_of_text|>",
            "clean_up_tokenization_spaces": true,
            "eos_token": if instruct { "<|eot_id|>" } else { "<|end_of_text|>" },
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": length,
            "tokenizer_class": "PreTrainedTokenizerFast",
        });
    }
    json!({
        "add_bos_token": true,
        "add_eos_token": false,
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": false,
        "eos_token": "</s>",
        "model_max_length": length,
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
    })
}
