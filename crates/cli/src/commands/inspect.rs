//! `camelid inspect`: what a checkpoint holds.

use std::path::PathBuf;

use camelid_core::llama::{LlamaConfig, rope};
use camelid_core::tokenizer::Tokenizer;
use camelid_tokenizer::HfTokenizer;
use camelid_weights::Checkpoint;
use clap::Args;
use serde_json::{Value, json};

use crate::{Error, source};

/// Show what a checkpoint holds
#[derive(Args, Debug)]
pub struct Inspect {
    /// Hugging Face folder, .gguf file, or .safetensors file beside its config.json [default: the bundled model]
    model: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn run(self) -> Result<(), Error> {
        let (checkpoint, tokenizer) = source::open(self.model.as_deref())?;
        let config = camelid_engine::read_config(&checkpoint)?;
        let description = describe(&checkpoint, &config, tokenizer.as_ref());
        if self.json {
            outln!("{}", serde_json::to_string_pretty(&description)?);
        } else {
            print_text(&description)?;
        }
        Ok(())
    }
}

fn describe(checkpoint: &Checkpoint, config: &LlamaConfig, tokenizer: Option<&HfTokenizer>) -> Value {
    let summary = checkpoint.summary();
    let dtypes: serde_json::Map<String, Value> = summary
        .dtypes
        .iter()
        .map(|d| (d.dtype.to_string(), json!({"tensors": d.tensors, "parameters": d.parameters, "bytes": d.bytes})))
        .collect();
    let tensors: Vec<Value> = checkpoint
        .tensors()
        .iter()
        .map(|t| {
            json!({"name": t.name, "source_name": t.source_name, "dtype": t.dtype.to_string(), "shape": t.shape,
                   "bytes": t.byte_len()})
        })
        .collect();
    let tokenizer_json = tokenizer.map(|t| {
        let special = t.special_tokens();
        json!({"vocab_size": t.vocab_size(), "bos_token_id": special.bos, "eos_token_ids": special.eos,
               "pad_token_id": special.pad, "unk_token_id": special.unk})
    });
    json!({
        "path": checkpoint.path().display().to_string(),
        "format": checkpoint.format().to_string(),
        "architecture": "LlamaForCausalLM",
        "parameters": summary.parameters,
        "bytes": summary.bytes,
        "config": {
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.num_hidden_layers,
            "num_attention_heads": config.num_attention_heads,
            "num_key_value_heads": config.num_key_value_heads,
            "head_dim": config.head_dim,
            "hidden_act": config.hidden_act.name(),
            "max_position_embeddings": config.max_position_embeddings,
            "rms_norm_eps": config.rms_norm_eps,
            "tie_word_embeddings": config.tie_word_embeddings,
            "attention_bias": config.attention_bias,
            "mlp_bias": config.mlp_bias,
            "rope_parameters": rope::to_json(&config.rope),
            "rope_freqs": checkpoint.rope_freqs().is_some(),
            "bos_token_id": config.bos_token_id,
            "eos_token_id": config.eos_token_id,
            "pad_token_id": config.pad_token_id,
        },
        "dtypes": dtypes,
        "tokenizer": tokenizer_json,
        "chat_template": tokenizer.and_then(|t| t.chat_template_source(None, false).ok().flatten()),
        "tensors": tensors,
    })
}

/// The same for people: every field on a line, tensors as a table.
fn print_text(d: &Value) -> Result<(), Error> {
    let scalar = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    for key in ["path", "format", "architecture"] {
        outln!("{key:<24} {}", scalar(&d[key]));
    }
    let millions = d["parameters"].as_f64().unwrap_or(0.0) / 1e6;
    let mebibytes = d["bytes"].as_f64().unwrap_or(0.0) / f64::from(1 << 20);
    outln!("{:<24} {millions:.1} M in {mebibytes:.1} MiB", "parameters");
    for section in ["config", "dtypes", "tokenizer"] {
        outln!("\n{section}");
        match d[section].as_object() {
            Some(fields) => {
                for (key, value) in fields {
                    outln!("  {key:<24} {}", scalar(value));
                }
            }
            None => outln!("  none"),
        }
    }
    match d["chat_template"].as_str() {
        Some(template) => outln!("\nchat template\n{}", template.trim_end()),
        None => outln!("\nchat template\n  none"),
    }
    outln!("\ntensors");
    for t in d["tensors"].as_array().into_iter().flatten() {
        outln!("  {:<52} {:>6} {}", scalar(&t["name"]), scalar(&t["dtype"]), t["shape"]);
    }
    Ok(())
}
