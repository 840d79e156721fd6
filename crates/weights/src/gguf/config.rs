//! From GGUF metadata to the `config.json` and `generation_config.json` that say the same.
//!
//! The keys are those that llama.cpp's converter writes for the architecture "llama" and its loader reads
//! (conversion/base.py, src/llama-model.cpp); defaults for missing keys are the loader's. Values become what they were
//! in the `config.json` that the converter read.

use serde_json::{Map, Value, json};

use super::metadata::{self, Metadata};
use super::{GgufFile, GgufTensor};
use crate::WeightsError;
use crate::error::{MAKE_AGAIN, quoted, shown};

const HEAD_COUNT: &str = "llama.attention.head_count";
const HEAD_COUNT_KV: &str = "llama.attention.head_count_kv";

/// Refuses files that hold no complete, plain Llama model.
pub(super) fn check_kind(metadata: &Metadata) -> Result<(), WeightsError> {
    let unsupported = |what: &str, found: String, remedy: &str| {
        Err(WeightsError::Unsupported {
            path: metadata.path().to_path_buf(),
            what: what.into(),
            found,
            remedy: remedy.into(),
        })
    };
    match metadata.str("general.architecture")? {
        Some("llama") => {}
        Some(other) => {
            let found = quoted(other.as_bytes());
            return unsupported("general.architecture", found, "Camelid runs the architecture \"llama\" only");
        }
        None => return Err(metadata.missing("general.architecture")),
    }
    if let Some(kind) = metadata.str("general.type")?
        && kind != "model"
    {
        return unsupported("general.type", quoted(kind.as_bytes()), "give the file of the model itself");
    }
    if let Some(parts) = metadata.u32("split.count")?
        && parts > 1
    {
        let found = format!("one of {parts} parts of a split file");
        return unsupported("split.count", found, "join the parts with llama.cpp's `llama-gguf-split --merge`");
    }
    if let Some(experts) = metadata.u32("llama.expert_count")?
        && experts > 0
    {
        return unsupported("llama.expert_count", format!("a mixture of {experts} experts"), "use a dense Llama model");
    }
    if metadata.bool("llama.attention.causal")? == Some(false) {
        return unsupported("llama.attention.causal", "attention without a causal mask".into(), "use a decoder model");
    }
    // Keys of Llama's relatives that change what is computed: they must not be passed over.
    for key in [
        "llama.attention.scale",
        "llama.attention.clamp_kqv",
        "llama.attention.max_alibi_bias",
        "llama.logit_scale",
        "llama.embedding_scale",
        "llama.residual_scale",
    ] {
        if let Some(value) = metadata.number(key)?
            && value != 0.0
        {
            return unsupported(key, format!("the value {value}"), "the model is no plain Llama: use one that is");
        }
    }
    Ok(())
}

/// The numbers of heads, which the order of rows depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heads {
    pub(super) query: usize,
    pub(super) key_value: usize,
}

impl Heads {
    pub(super) fn read(metadata: &Metadata) -> Result<Heads, WeightsError> {
        let query = same_for_all_layers(metadata, HEAD_COUNT)?.ok_or_else(|| metadata.missing(HEAD_COUNT))?;
        let key_value = same_for_all_layers(metadata, HEAD_COUNT_KV)?.unwrap_or(query);
        for (key, heads) in [(HEAD_COUNT, query), (HEAD_COUNT_KV, key_value)] {
            if heads == 0 {
                return Err(WeightsError::malformed(metadata.path(), key, "it is 0", MAKE_AGAIN));
            }
        }
        Ok(Heads { query: query as usize, key_value: key_value as usize })
    }
}

/// A count that files store as one number or as one for each layer.
fn same_for_all_layers(metadata: &Metadata, key: &str) -> Result<Option<u32>, WeightsError> {
    let Some(metadata::Value::Array(array)) = metadata.get(key) else { return metadata.u32(key) };
    let values = metadata.i32s(key)?.unwrap_or_default();
    let first = *values.first().ok_or_else(|| metadata.wrong_type(key, "an integer"))?;
    if let Some(other) = values.iter().position(|v| *v != first) {
        return Err(WeightsError::Unsupported {
            path: metadata.path().to_path_buf(),
            what: key.into(),
            found: format!("a layer with {} where the first of {} has {first}", values[other], array.len()),
            remedy: "every layer of a Llama model has the same shape: use a model without pruned layers".into(),
        });
    }
    u32::try_from(first)
        .map(Some)
        .map_err(|_| WeightsError::malformed(metadata.path(), key, first.to_string(), MAKE_AGAIN))
}

/// Rope parameters that GGUF stores as tensors.
pub(super) struct RopeTensors {
    /// `rope_freqs.weight`: divisors of the frequencies.
    pub(super) freqs: Option<Vec<f32>>,
    /// `rope_factors_long.weight` and `rope_factors_short.weight`.
    long_short: Option<(Vec<f32>, Vec<f32>)>,
}

impl RopeTensors {
    const FREQS: &str = "rope_freqs.weight";
    const LONG: &str = "rope_factors_long.weight";
    const SHORT: &str = "rope_factors_short.weight";

    /// True for the name of a tensor that is read here.
    pub(super) fn holds(name: &str) -> bool {
        [Self::FREQS, Self::LONG, Self::SHORT].contains(&name)
    }

    pub(super) fn read(file: &GgufFile, tensors: &[GgufTensor], heads: Heads) -> Result<RopeTensors, WeightsError> {
        let expected = head_dim(file.metadata(), heads)? / 2;
        let read = |name: &str| -> Result<Option<Vec<f32>>, WeightsError> {
            let Some(tensor) = tensors.iter().find(|t| t.name == name) else { return Ok(None) };
            let malformed =
                |found: String| Err(WeightsError::malformed(file.path(), format!("tensor {name}"), found, MAKE_AGAIN));
            if tensor.shape != [expected] {
                let found = format!("its shape is {:?}, where head_dim / 2 calls for [{expected}]", tensor.shape);
                return malformed(found);
            }
            let values = file.floats(tensor)?;
            match values.iter().position(|v| !v.is_finite() || *v <= 0.0) {
                Some(i) => malformed(format!("element {i} is {}, no positive number", values[i])),
                None => Ok(Some(values)),
            }
        };
        let long_short = match (read(Self::LONG)?, read(Self::SHORT)?) {
            (Some(long), Some(short)) => Some((long, short)),
            (None, None) => None,
            (Some(_), None) => return Err(file.metadata().missing(Self::SHORT)),
            (None, Some(_)) => return Err(file.metadata().missing(Self::LONG)),
        };
        Ok(RopeTensors { freqs: read(Self::FREQS)?, long_short })
    }
}

/// Elements of one head. llama.cpp refuses a Llama whose heads are not rotated whole, or whose values differ in size.
fn head_dim(metadata: &Metadata, heads: Heads) -> Result<usize, WeightsError> {
    let hidden_size = required(metadata, "llama.embedding_length")?;
    let head_dim = metadata.u32("llama.attention.key_length")?.map_or(hidden_size / heads.query, |n| n as usize);
    for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
        if let Some(other) = metadata.u32(key)?
            && other as usize != head_dim
        {
            return Err(WeightsError::Unsupported {
                path: metadata.path().to_path_buf(),
                what: key.into(),
                found: format!("{other}, other than the head dimension {head_dim},"),
                remedy: "in a Llama model both are the same: convert the model again".into(),
            });
        }
    }
    Ok(head_dim)
}

fn required(metadata: &Metadata, key: &str) -> Result<usize, WeightsError> {
    let value = same_for_all_layers(metadata, key)?.ok_or_else(|| metadata.missing(key))?;
    Ok(value as usize)
}

/// The `config.json` of the model.
pub(super) fn to_hugging_face(
    metadata: &Metadata,
    tensors: &[GgufTensor],
    heads: Heads,
    rope: &RopeTensors,
) -> Result<Value, WeightsError> {
    const EPSILON: &str = "llama.attention.layer_norm_rms_epsilon";
    let has = |name: &str| tensors.iter().any(|t| t.name == name);
    let any_bias = |parts: &[&str]| {
        let of_part = |name: &str| {
            let part = name.strip_prefix("blk.").and_then(|n| n.strip_suffix(".bias")).and_then(|n| n.split_once('.'));
            part.is_some_and(|(_, part)| parts.contains(&part))
        };
        tensors.iter().any(|t| of_part(&t.name))
    };
    let context_length = required(metadata, "llama.context_length")?;
    let mut config = Map::new();
    let mut set = |key: &str, value: Value| {
        config.insert(key.to_owned(), value);
    };
    set("architectures", json!(["LlamaForCausalLM"]));
    set("model_type", json!("llama"));
    if let Some(name) = metadata.str("general.name").unwrap_or_default() {
        set("_name_or_path", json!(name));
    }
    set("hidden_act", json!("silu"));
    set("hidden_size", json!(required(metadata, "llama.embedding_length")?));
    set("intermediate_size", json!(required(metadata, "llama.feed_forward_length")?));
    set("num_hidden_layers", json!(required(metadata, "llama.block_count")?));
    set("num_attention_heads", json!(heads.query));
    set("num_key_value_heads", json!(heads.key_value));
    set("head_dim", json!(head_dim(metadata, heads)?));
    set("max_position_embeddings", json!(context_length));
    set("rms_norm_eps", json!(metadata.number(EPSILON)?.ok_or_else(|| metadata.missing(EPSILON))?));
    set("rope_theta", json!(metadata.number("llama.rope.freq_base")?.unwrap_or(10_000.0)));
    if let Some(scaling) = rope_scaling(metadata, context_length, rope)? {
        set("rope_scaling", scaling);
    }
    set("vocab_size", json!(vocab_size(metadata, tensors)?));
    set("tie_word_embeddings", json!(!has("output.weight")));
    set("attention_bias", json!(any_bias(&["attn_q", "attn_k", "attn_v", "attn_output"])));
    set("mlp_bias", json!(any_bias(&["ffn_gate", "ffn_up", "ffn_down"])));
    for (key, value) in special_ids(metadata)? {
        set(key, value);
    }
    Ok(Value::Object(config))
}

/// The rows of the embeddings: what the metadata say, or else the number of tokens, or else what is there.
fn vocab_size(metadata: &Metadata, tensors: &[GgufTensor]) -> Result<u64, WeightsError> {
    if let Some(size) = metadata.u32("llama.vocab_size")? {
        return Ok(u64::from(size));
    }
    if let Some(tokens) = metadata.array("tokenizer.ggml.tokens")? {
        return Ok(tokens.len());
    }
    let embeddings = tensors.iter().find(|t| t.name == "token_embd.weight" && t.shape.len() == 2);
    embeddings.map(|t| t.shape[0] as u64).ok_or_else(|| metadata.missing("llama.vocab_size"))
}

/// The `rope_scaling` of the config. The converter turns `llama3` into the tensor `rope_freqs.weight` and writes no
/// key for it, so that one never appears here: see [`Checkpoint::rope_freqs`](crate::Checkpoint::rope_freqs).
///
/// Two keys speak of the factor of cosines and sines. The converter writes transformers' `attention_factor` as
/// `yarn_attn_factor`, and it is read as that. `attn_factor` is llama.cpp's own: it multiplies what the kind has by itself,
/// `0.1 ln factor + 1` for yarn and 1 for longrope (llama-context.cpp, ggml's rope_yarn). A longrope file says by it what
/// transformers computes from the two context lengths, so that without it the factor is 1.
fn rope_scaling(metadata: &Metadata, context: usize, rope: &RopeTensors) -> Result<Option<Value>, WeightsError> {
    const TYPE: &str = "llama.rope.scaling.type";
    const ATTN_FACTOR: &str = "llama.rope.scaling.attn_factor";
    // A factor of 0 means none; "scale_linear" is what the key was called first.
    let factor = match metadata.number("llama.rope.scaling.factor")? {
        None => metadata.number("llama.rope.scale_linear")?,
        factor => factor,
    };
    let factor = factor.filter(|f| *f != 0.0);
    let original = metadata.u32("llama.rope.scaling.original_context_length")?;
    let mut scaling = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            scaling.insert(key.to_owned(), value);
        }
    };
    match metadata.str(TYPE)?.unwrap_or("linear") {
        "none" => return Ok(None),
        "linear" => {
            let Some(factor) = factor.filter(|f| *f != 1.0) else { return Ok(None) };
            set("rope_type", Some(json!("linear")));
            set("factor", Some(json!(factor)));
        }
        "yarn" => {
            let factor = factor.ok_or_else(|| metadata.missing("llama.rope.scaling.factor"))?;
            set("rope_type", Some(json!("yarn")));
            set("factor", Some(json!(factor)));
            set("original_max_position_embeddings", Some(json!(original.map_or(context, |n| n as usize))));
            let own = if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 };
            let given = metadata.number("llama.rope.scaling.yarn_attn_factor")?;
            let attention_factor = match metadata.number(ATTN_FACTOR)?.filter(|n| *n != 1.0) {
                Some(times) => Some(times * given.unwrap_or(own)),
                None => given,
            };
            set("attention_factor", attention_factor.map(|n| json!(n)));
            for (key, from) in
                [("beta_fast", "llama.rope.scaling.yarn_beta_fast"), ("beta_slow", "llama.rope.scaling.yarn_beta_slow")]
            {
                set(key, metadata.number(from)?.map(|n| json!(n)));
            }
        }
        "longrope" => {
            let (long, short) =
                rope.long_short.as_ref().ok_or_else(|| metadata.missing("tensor rope_factors_long.weight"))?;
            set("rope_type", Some(json!("longrope")));
            let decimals =
                |factors: &[f32]| json!(factors.iter().map(|f| metadata::shortest(*f)).collect::<Vec<f64>>());
            set("long_factor", Some(decimals(long)));
            set("short_factor", Some(decimals(short)));
            set("factor", factor.map(|f| json!(f)));
            set("original_max_position_embeddings", Some(json!(original.map_or(context, |n| n as usize))));
            set("attention_factor", Some(json!(metadata.number(ATTN_FACTOR)?.unwrap_or(1.0))));
        }
        other => {
            return Err(WeightsError::Unsupported {
                path: metadata.path().to_path_buf(),
                what: TYPE.into(),
                found: shown(other),
                remedy: "known are none, linear, yarn and longrope: convert the model again".into(),
            });
        }
    }
    Ok(Some(Value::Object(scaling)))
}

/// bos, eos and pad. The ids that end a turn or a message end a generation too, so they join eos, which is then a list
/// as in the `generation_config.json` of Llama 3.1.
fn special_ids(metadata: &Metadata) -> Result<Vec<(&'static str, Value)>, WeightsError> {
    let mut ids = Vec::new();
    if let Some(bos) = metadata.u32("tokenizer.ggml.bos_token_id")? {
        ids.push(("bos_token_id", json!(bos)));
    }
    let mut eos = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        if let Some(id) = metadata.u32(key)?
            && !eos.contains(&id)
        {
            eos.push(id);
        }
    }
    match eos.as_slice() {
        [] => {}
        [one] => ids.push(("eos_token_id", json!(one))),
        several => ids.push(("eos_token_id", json!(several))),
    }
    if let Some(pad) = metadata.u32("tokenizer.ggml.padding_token_id")? {
        ids.push(("pad_token_id", json!(pad)));
    }
    Ok(ids)
}

/// The `generation_config.json` of the model: special ids, and the sampling that `general.sampling.*` recommends.
pub(super) fn generation(metadata: &Metadata) -> Result<Option<Value>, WeightsError> {
    let mut config: Map<String, Value> =
        special_ids(metadata)?.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    for (key, from) in [
        ("temperature", "general.sampling.temp"),
        ("top_p", "general.sampling.top_p"),
        ("min_p", "general.sampling.min_p"),
        ("repetition_penalty", "general.sampling.penalty_repeat"),
    ] {
        if let Some(value) = metadata.number(from)? {
            config.insert(key.to_owned(), json!(value));
        }
    }
    // A negative top_k is ggml's way to say "all".
    if let Some(top_k) = metadata.number("general.sampling.top_k")? {
        config.insert("top_k".to_owned(), json!(top_k.max(0.0) as u64));
    }
    Ok((!config.is_empty()).then_some(Value::Object(config)))
}
