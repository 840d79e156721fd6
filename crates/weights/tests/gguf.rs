//! GGUF files that are right: what they become.

mod common;

use camelid_core::DType;
use camelid_core::llama::LlamaConfig;
use camelid_weights::gguf::metadata::Value;
use camelid_weights::{Checkpoint, Format, GgufFile, TokenizerSource};
use common::gguf::{Gguf, Kv, permute, tiny, tiny_metadata};
use common::*;
use serde_json::json;

#[test]
fn a_gguf_file_and_a_safetensors_folder_of_one_model_are_the_same() {
    for version in [2, 3] {
        let (_folder, gguf) = Gguf { version, ..tiny() }.open();
        let config = config().to_string();
        let folder = folder(&[("config.json", config.as_bytes()), ("model.safetensors", &tiny_safetensors())]);
        let safetensors = Checkpoint::open(folder.path()).unwrap();
        assert_eq!(gguf.format(), Format::Gguf { version });
        assert_eq!(gguf.tensors().len(), safetensors.tensors().len());
        for expected in safetensors.tensors() {
            let found = gguf.tensor(&expected.name).unwrap_or_else(|| panic!("{} is missing", expected.name));
            assert_eq!(found.shape, expected.shape, "{}", expected.name);
            assert_eq!(found.dtype, expected.dtype);
            assert_eq!(*found.bytes(), *expected.bytes(), "{}", expected.name);
            assert_eq!(found.byte_len(), expected.byte_len());
            let reordered = expected.name.contains("q_proj") || expected.name.contains("k_proj");
            assert_eq!(found.is_mapped(), !reordered, "only what has to be copied is: {}", expected.name);
        }
        let read = |c: &Checkpoint| LlamaConfig::from_value(c.config()).unwrap();
        let (a, b) = (read(&gguf), read(&safetensors));
        assert_eq!(
            (a.vocab_size, a.hidden_size, a.intermediate_size, a.num_hidden_layers, a.num_attention_heads),
            (b.vocab_size, b.hidden_size, b.intermediate_size, b.num_hidden_layers, b.num_attention_heads)
        );
        assert_eq!(
            (a.num_key_value_heads, a.head_dim, a.rms_norm_eps),
            (b.num_key_value_heads, b.head_dim, b.rms_norm_eps)
        );
        assert_eq!((a.rope, a.tie_word_embeddings), (b.rope, b.tie_word_embeddings));
        assert_eq!((a.attention_bias, a.mlp_bias, a.max_position_embeddings), (false, false, 128));
        let (a, b) = (gguf.summary(), safetensors.summary());
        assert_eq!(a, b);
        assert_eq!(a.parameters, tensors().iter().map(|(_, s)| s.iter().product::<usize>() as u64).sum::<u64>());
        assert_eq!(a.dtypes.len(), 1);
        assert_eq!((a.dtypes[0].dtype, a.dtypes[0].bytes), (DType::F32, a.parameters * 4));
    }
}

#[test]
fn the_reordered_copy_is_made_once_and_shared() {
    let (_folder, checkpoint) = tiny().open();
    let q = checkpoint.tensor("model.layers.0.self_attn.q_proj.weight").unwrap();
    assert!(std::ptr::eq(&*q.bytes(), &*q.bytes()));
}

#[test]
fn block_types_are_reordered_by_whole_rows_and_biases_by_element() {
    // A q8_0 row of 64 elements is two blocks of 34 bytes.
    let rows = KV_HEADS * HEAD_DIM;
    let blocks: Vec<u8> = (0..rows * 68).map(|i| (i % 251) as u8).collect();
    let bias: Vec<u8> = (0..rows).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let (_folder, checkpoint) = tiny()
        .with("blk.1.attn_k.weight", |t| {
            t.ggml_type = 8;
            t.bytes = permute(&blocks, rows, KV_HEADS);
        })
        .tensor("blk.1.attn_k.bias", &[rows], permute(&bias, rows, KV_HEADS))
        .open();
    let k = checkpoint.tensor("model.layers.1.self_attn.k_proj.weight").unwrap();
    assert_eq!((k.dtype, k.shape.as_slice()), (DType::Q8_0, &[rows, HIDDEN][..]));
    assert_eq!(*k.bytes(), *blocks);
    assert_eq!(*checkpoint.tensor("model.layers.1.self_attn.k_proj.bias").unwrap().bytes(), *bias);
    assert_eq!(checkpoint.config()["attention_bias"], true);
    assert_eq!(checkpoint.config()["mlp_bias"], false);
    let summary = checkpoint.summary();
    assert_eq!(summary.dtypes.iter().map(|u| u.dtype).collect::<Vec<_>>(), [DType::F32, DType::Q8_0]);
    assert_eq!(summary.dtypes[1].bytes, blocks.len() as u64);
}

#[test]
fn tensors_come_in_the_order_of_the_file() {
    let (_folder, checkpoint) = tiny().open();
    let offsets: Vec<u64> = checkpoint.tensors().iter().map(|t| t.offset).collect();
    assert!(offsets.is_sorted());
    assert_eq!(checkpoint.tensors()[0].source_name, "token_embd.weight");
    assert_eq!(checkpoint.tensors()[0].name, "model.embed_tokens.weight");
    assert!(checkpoint.tensor("token_embd.weight").is_none(), "names are Hugging Face's");
}

#[test]
fn an_output_tensor_is_the_untied_head() {
    let (_folder, tied) = tiny().open();
    assert_eq!(tied.config()["tie_word_embeddings"], true);
    let (_folder, untied) =
        tiny().tensor("output.weight", &[VOCAB, HIDDEN], f32_bytes("lm_head.weight", &[VOCAB, HIDDEN])).open();
    assert_eq!(untied.config()["tie_word_embeddings"], false);
    assert_eq!(untied.tensor("lm_head.weight").unwrap().shape, [VOCAB, HIDDEN]);
}

#[test]
fn rope_freqs_are_divisors_and_no_weight() {
    let (_folder, without) = tiny().open();
    assert_eq!(without.rope_freqs(), None);
    let divisors: Vec<f32> = (0..HEAD_DIM / 2).map(|i| 1.0 + i as f32).collect();
    let bytes: Vec<u8> = divisors.iter().flat_map(|d| d.to_le_bytes()).collect();
    let file = tiny().tensor("rope_freqs.weight", &[HEAD_DIM / 2], bytes);
    let (_folder, with) = file.open();
    assert_eq!(with.rope_freqs(), Some(divisors.as_slice()));
    assert_eq!(with.tensors().len(), without.tensors().len());

    let wrong_length = file.clone().with("rope_freqs.weight", |t| {
        t.dims = vec![4];
        t.bytes.truncate(16);
    });
    assert_says(&wrong_length.refusal(), &["rope_freqs.weight", "[4]", "head_dim / 2", "[8]"]);
    let zero = file.with("rope_freqs.weight", |t| t.bytes[8..12].fill(0));
    assert_says(&zero.refusal(), &["rope_freqs.weight", "element 2 is 0"]);
}

#[test]
fn other_alignments_are_followed() {
    for alignment in [1usize, 8, 64, 4096] {
        let file = Gguf { alignment, ..tiny() }.set("general.alignment", Kv::U32(alignment as u32));
        let (_folder, checkpoint) = file.open();
        for (name, shape) in tensors() {
            assert_eq!(*checkpoint.tensor(&name).unwrap().bytes(), *f32_bytes(&name, &shape), "{alignment} {name}");
        }
    }
}

#[test]
fn config_values_and_defaults() {
    let mut file = tiny()
        .remove("llama.attention.head_count_kv")
        .remove("llama.rope.freq_base")
        .remove("llama.rope.dimension_count")
        .remove("llama.vocab_size")
        .remove("llama.attention.value_length");
    // Without a number of key-value heads there are as many as heads.
    for layer in 0..LAYERS {
        file = file.with(&format!("blk.{layer}.attn_k.weight"), |t| {
            t.dims = vec![HIDDEN as u64, (HEADS * HEAD_DIM) as u64];
            t.bytes = vec![0; HEADS * HEAD_DIM * HIDDEN * 4];
        });
    }
    let (_folder, checkpoint) = file.open();
    let config = checkpoint.config();
    assert_eq!(config["num_key_value_heads"], HEADS);
    assert_eq!(config["rope_theta"], 10_000.0);
    assert_eq!(config["vocab_size"], VOCAB, "the number of tokens");
    assert_eq!(config["head_dim"], HEAD_DIM);
    assert_eq!(config["rms_norm_eps"], 1e-5, "the decimal that was stored in single precision");
    assert_eq!(config["_name_or_path"], "tiny");
    assert_eq!(config.get("rope_scaling"), None);
    assert_eq!((&config["bos_token_id"], &config["eos_token_id"]), (&json!(1), &json!(2)));
    assert_eq!(checkpoint.generation_config(), Some(&json!({"bos_token_id": 1, "eos_token_id": 2})));

    // Heads and widths may be given for each layer, if all are the same.
    let per_layer = tiny().set("llama.attention.head_count_kv", Kv::I32s(vec![KV_HEADS as i32; LAYERS]));
    assert_eq!(per_layer.open().1.config()["num_key_value_heads"], KV_HEADS);
    // Without tokens the embeddings tell the size of the vocabulary.
    let mut bare = tiny().remove("llama.vocab_size");
    bare.kv.retain(|(k, _)| !k.starts_with("tokenizer."));
    let (_folder, checkpoint) = bare.open();
    assert_eq!(checkpoint.config()["vocab_size"], VOCAB);
    assert!(matches!(checkpoint.tokenizer(), TokenizerSource::Missing(_)));
    assert_eq!(checkpoint.gguf_vocab().unwrap(), None);
    assert_eq!(checkpoint.generation_config(), None);
}

#[test]
fn rope_scaling_in_hugging_faces_form() {
    let scaling = |file: Gguf| file.open().1.config().get("rope_scaling").cloned();
    let typed = |kind: &str| tiny().set("llama.rope.scaling.type", Kv::str(kind));
    assert_eq!(scaling(typed("none").set("llama.rope.scaling.factor", Kv::F32(4.0))), None);
    assert_eq!(
        scaling(typed("linear").set("llama.rope.scaling.factor", Kv::F32(2.5))),
        Some(json!({"rope_type": "linear", "factor": 2.5}))
    );
    assert_eq!(
        scaling(tiny().set("llama.rope.scale_linear", Kv::F32(4.0))),
        Some(json!({"rope_type": "linear", "factor": 4.0})),
        "the older key"
    );
    assert_eq!(scaling(tiny().set("llama.rope.scaling.factor", Kv::F32(0.0))), None);
    assert_eq!(
        scaling(
            typed("yarn")
                .set("llama.rope.scaling.factor", Kv::F32(16.0))
                .set("llama.rope.scaling.original_context_length", Kv::U32(64))
                .set("llama.rope.scaling.yarn_beta_fast", Kv::F32(32.0))
        ),
        Some(json!({"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 64, "beta_fast": 32.0}))
    );
    let attention = |keys: &[(&str, f32)]| {
        let yarn = typed("yarn").set("llama.rope.scaling.factor", Kv::F32(16.0));
        let set = |file: Gguf, (key, n): &(&str, f32)| file.set(&format!("llama.rope.scaling.{key}"), Kv::F32(*n));
        scaling(keys.iter().fold(yarn, set)).unwrap().get("attention_factor").and_then(serde_json::Value::as_f64)
    };
    assert_eq!(attention(&[]), None);
    assert_eq!(attention(&[("attn_factor", 1.0)]), None);
    assert_eq!(attention(&[("yarn_attn_factor", 0.75)]), Some(0.75), "transformers' attention_factor");
    let own = 0.1 * 16f64.ln() + 1.0;
    assert_eq!(attention(&[("attn_factor", 0.5)]), Some(0.5 * own), "llama.cpp multiplies what yarn has by itself");
    assert_eq!(attention(&[("attn_factor", 0.5), ("yarn_attn_factor", 0.75)]), Some(0.375));
    let factors: Vec<u8> = (0..HEAD_DIM / 2).flat_map(|i| (1.1f32 + i as f32).to_le_bytes()).collect();
    let long = typed("longrope")
        .set("llama.rope.scaling.original_context_length", Kv::U32(64))
        .tensor("rope_factors_long.weight", &[HEAD_DIM / 2], factors.clone())
        .tensor("rope_factors_short.weight", &[HEAD_DIM / 2], factors);
    assert_eq!(long.open().1.tensors().len(), tensors().len());
    for attn_factor in [None, Some(1.25)] {
        let set = |n| long.clone().set("llama.rope.scaling.attn_factor", Kv::F32(n));
        let file = attn_factor.map_or(long.clone(), set);
        assert_eq!(scaling(file).unwrap()["attention_factor"], json!(attn_factor.unwrap_or(1.0)));
    }
    for file in [long.clone(), typed("yarn").set("llama.rope.scaling.factor", Kv::F32(16.0))] {
        LlamaConfig::from_value(file.open().1.config()).unwrap();
    }
    let long = scaling(long).unwrap();
    assert_eq!((&long["rope_type"], &long["long_factor"][0]), (&json!("longrope"), &json!(1.1)));
    assert_says(&typed("longrope").refusal(), &["rope_factors_long.weight"]);
    assert_says(&typed("yarn").refusal(), &["llama.rope.scaling.factor"]);
    assert_says(&typed("spiral").refusal(), &["llama.rope.scaling.type", "spiral", "linear"]);
}

#[test]
fn ids_that_end_a_turn_and_recommended_sampling_reach_the_generation_config() {
    let file = tiny()
        .set("tokenizer.ggml.eot_token_id", Kv::U32(7))
        .set("tokenizer.ggml.eom_token_id", Kv::U32(2))
        .set("tokenizer.ggml.padding_token_id", Kv::U32(0))
        .set("general.sampling.temp", Kv::F32(0.6))
        .set("general.sampling.top_p", Kv::F32(0.9))
        .set("general.sampling.top_k", Kv::I32(40));
    let (_folder, checkpoint) = file.open();
    assert_eq!(
        checkpoint.generation_config(),
        Some(&json!({
            "bos_token_id": 1, "eos_token_id": [2, 7], "pad_token_id": 0,
            "temperature": 0.6, "top_p": 0.9, "top_k": 40
        }))
    );
    assert_eq!(checkpoint.config()["eos_token_id"], json!([2, 7]));
}

#[test]
fn the_vocabulary_is_read_as_it_stands() {
    let (_folder, checkpoint) = tiny().open();
    assert_eq!(checkpoint.tokenizer(), &TokenizerSource::Gguf);
    let vocab = checkpoint.gguf_vocab().unwrap().unwrap();
    assert_eq!((vocab.model.as_str(), vocab.pre, vocab.merges), ("llama", None, None));
    assert_eq!((vocab.tokens.len(), vocab.tokens[10].as_str()), (VOCAB, "🦙"));
    assert_eq!(vocab.scores.unwrap()[3], -3.0);
    assert_eq!(vocab.token_types.unwrap()[..4], [2, 3, 3, 6]);
    assert_eq!((vocab.bos, vocab.eos, vocab.unk, vocab.pad, vocab.eot), (Some(1), Some(2), Some(0), None, None));
    assert_eq!((vocab.add_bos, vocab.add_eos, vocab.add_space_prefix), (Some(true), None, None));
    assert_eq!(vocab.chat_template.as_deref(), Some("{{ messages }}"));
}

#[test]
fn raw_bytes_in_a_byte_level_vocabulary_are_spelled_in_its_alphabet() {
    let file = tiny().set("tokenizer.ggml.model", Kv::str("gpt2")).set(
        "tokenizer.ggml.tokens",
        Kv::Strs((0..VOCAB).map(|i| if i == 4 { vec![0xff, b'a', b' '] } else { vec![b'a' + i as u8] }).collect()),
    );
    let vocab = file.open().1.gguf_vocab().unwrap().unwrap();
    assert_eq!((vocab.tokens[3].as_str(), vocab.tokens[4].as_str()), ("d", "ÿaĠ"));
}

#[test]
fn a_file_without_weights_still_gives_its_vocabulary() {
    let bytes = tiny_metadata().bytes();
    let folder = folder(&[("vocab.gguf", &bytes)]);
    let file = GgufFile::open(folder.path().join("vocab.gguf")).unwrap();
    assert_eq!(file.vocab().unwrap().unwrap().tokens.len(), VOCAB);
    assert_eq!(file.tensors().unwrap(), []);
    let error = Checkpoint::open(folder.path().join("vocab.gguf")).unwrap_err();
    assert_says(&chain(&error), &["vocab.gguf", "no tensors"]);
}

#[test]
fn metadata_of_every_type_and_elements_of_long_arrays() {
    let words: Vec<String> = (0..1000).map(|i| "x".repeat(i % 7) + &i.to_string()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (_folder, checkpoint) = tiny()
        .set("a.u8", Kv::U8(200))
        .set("a.i16", Kv::Raw(3, (-5i16).to_le_bytes().to_vec()))
        .set("a.f64", Kv::Raw(12, 0.1f64.to_le_bytes().to_vec()))
        .set("a.i64", Kv::Raw(11, i64::MIN.to_le_bytes().to_vec()))
        .set("a.words", Kv::strs(&words))
        .set("a.latin", Kv::Str(vec![b'f', 0xfc]))
        .set("a.none", Kv::F32s(vec![]))
        .open();
    let metadata = checkpoint.gguf().unwrap().metadata();
    assert_eq!(metadata.get("a.u8"), Some(Value::Unsigned(200)));
    assert_eq!(metadata.get("a.i16"), Some(Value::Signed(-5)));
    assert_eq!(metadata.get("a.f64"), Some(Value::F64(0.1)));
    assert_eq!(metadata.get("a.i64"), Some(Value::Signed(i64::MIN)));
    assert_eq!(metadata.get("a.latin"), Some(Value::String(&[b'f', 0xfc])), "text nobody needs may be anything");
    assert_eq!(metadata.get("a.latin").unwrap().to_string(), "f\u{fffd}");
    assert!(metadata.str("a.latin").is_err());
    assert!(metadata.array("a.none").unwrap().unwrap().is_empty());
    assert_eq!(metadata.get("b"), None);
    let array = metadata.array("a.words").unwrap().unwrap();
    assert_eq!(array.iter().count(), 1000);
    for (i, value) in array.iter().enumerate() {
        assert_eq!(value, Value::String(words[i].as_bytes()));
        assert_eq!(array.get(i as u64), Some(value));
    }
    assert_eq!(array.get(1000), None);
    let scores = metadata.array("tokenizer.ggml.scores").unwrap().unwrap();
    assert_eq!((scores.get(2), scores.get(VOCAB as u64)), (Some(Value::F32(-2.0)), None));
    assert_eq!(scores.iter().count(), VOCAB);
    let keys: Vec<&str> = metadata.iter().map(|(key, _)| key).collect();
    assert_eq!((keys.len(), keys[0], *keys.last().unwrap()), (metadata.len(), "general.architecture", "a.none"));
}

#[test]
fn a_folder_with_one_gguf_file_is_that_file() {
    let bytes = tiny().bytes();
    let folder = folder(&[("tiny.gguf", &bytes), ("README.md", b"#")]);
    assert_eq!(Checkpoint::open(folder.path()).unwrap().tensors().len(), tensors().len());
    std::fs::write(folder.path().join("other.gguf"), &bytes).unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err();
    assert_says(&chain(&error), &["2 .gguf files", "other.gguf", "tiny.gguf"]);
    // The contents count, not the ending.
    std::fs::rename(folder.path().join("tiny.gguf"), folder.path().join("blob")).unwrap();
    assert!(Checkpoint::open(folder.path().join("blob")).is_ok());
}
