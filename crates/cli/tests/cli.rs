//! The command line as a user meets it: what each subcommand prints, and what it says to bad input.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{camelid, camelid_in, failure, stdout, suite};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::Value;

/// The message of a run that must fail: an error on stderr, nothing on stdout, and no panic.
#[test]
fn the_bundled_model_tells_a_story() {
    let args = ["generate", "Once upon a time", "--max-new-tokens", "40", "--json"];
    let json: Value = serde_json::from_str(&stdout(camelid(&args))).unwrap();
    assert_eq!(json["model"], "(bundled)");
    assert_eq!(json["backend"], "cpu");
    assert!(["stop", "length"].contains(&json["finish_reason"].as_str().unwrap()));
    let tokens = json["tokens"].as_array().unwrap();
    assert!((10..=40).contains(&tokens.len()));
    let text = json["text"].as_str().unwrap();
    assert!(text.split_whitespace().count() >= 10, "{text:?}");
    assert!(text.is_ascii(), "{text:?}");
    for timing in ["load_s", "prefill_s", "first_token_s", "prefill_tokens_per_s", "decode_tokens_per_s"] {
        assert!(json["timings"][timing].as_f64().unwrap() > 0.0, "{timing}");
    }
    let bytes: u64 = json["weight_bytes"].as_object().unwrap().values().map(|v| v.as_u64().unwrap()).sum();
    assert!(bytes > 100_000, "{bytes} bytes of weights");
    let plain = stdout(camelid(&args[..4]));
    assert_eq!(plain.trim_end_matches('\n'), text.trim_end_matches('\n'), "the stream is the text");
}

#[test]
fn the_same_seed_gives_the_same_text_and_another_seed_another() {
    let run = |seed: &str| {
        let args =
            ["generate", "One day", "--temperature", "1", "--top-k", "0", "--seed", seed, "--max-new-tokens", "30"];
        stdout(camelid(&args))
    };
    assert_eq!(run("7"), run("7"));
    assert_ne!(run("7"), run("8"));
}

#[test]
fn threads_do_not_change_the_text() {
    let run = |threads: &str| stdout(camelid(&["generate", "Once", "--threads", threads, "--max-new-tokens", "20"]));
    assert_eq!(run("1"), run("3"));
}

#[test]
fn the_prompt_may_come_from_standard_input() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_camelid"))
        .args(["generate", "-", "--max-new-tokens", "5", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"Once upon a time").unwrap();
    let json: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    let args = ["generate", "Once upon a time", "--max-new-tokens", "5", "--json"];
    let direct: Value = serde_json::from_str(&stdout(camelid(&args))).unwrap();
    assert_eq!((&json["prompt_tokens"], &json["tokens"]), (&direct["prompt_tokens"], &direct["tokens"]));
}

#[test]
fn a_stop_string_is_not_part_of_the_text() {
    let text = stdout(camelid(&["generate", "Once upon a time", "--stop", ".", "--max-new-tokens", "60"]));
    assert!(!text.contains('.') && text.trim().len() > 3, "{text:?}");
}

#[test]
fn text_becomes_ids_and_ids_text() {
    let ids: Vec<u32> =
        serde_json::from_str(&stdout(camelid(&["tokenize", "--json", "--no-special-tokens", "a big dog"]))).unwrap();
    assert!(!ids.is_empty());
    let words: Vec<String> = ids.iter().map(u32::to_string).collect();
    let mut args = vec!["detokenize"];
    args.extend(words.iter().map(String::as_str));
    assert_eq!(stdout(camelid(&args)).trim(), "a big dog");
    let framed: Vec<u32> = serde_json::from_str(&stdout(camelid(&["tokenize", "--json", "a big dog"]))).unwrap();
    assert_eq!(framed[1..], ids, "a beginning-of-sequence token in front");
    assert!(failure(camelid(&["detokenize", "99999999"])).contains("99999999"));
}

#[test]
fn forward_writes_the_logits_of_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let (inputs, outputs) = (folder.path().join("in.safetensors"), folder.path().join("out.safetensors"));
    let expect = std::fs::read(suite("model/gqa/expect.safetensors")).unwrap();
    let expect = SafeTensors::deserialize(&expect).unwrap();
    let ids = expect.tensor("batch.input_ids").unwrap();
    serialize_to_file([("input_ids", ids.clone())], None, &inputs).unwrap();
    let model = suite("model/gqa");
    let paths = [&model, &inputs, &outputs].map(|p| p.to_str().unwrap().to_owned());
    let run = |extra: &[&str]| {
        let mut args = vec![
            "forward",
            "--backend",
            "reference",
            "--model",
            &paths[0],
            "--inputs",
            &paths[1],
            "--outputs",
            &paths[2],
        ];
        args.extend(extra);
        stdout(camelid(&args));
        let bytes = std::fs::read(&outputs).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let logits = file.tensor("logits").unwrap();
        assert_eq!(logits.dtype(), Dtype::F32);
        let values: Vec<f32> = logits.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        (logits.shape().to_vec(), values)
    };
    let (shape, all) = run(&[]);
    let expected = expect.tensor("batch.logits").unwrap();
    assert_eq!(shape, expected.shape());
    let expected: Vec<f64> = expected.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
    let rms = (expected.iter().map(|e| e * e).sum::<f64>() / expected.len() as f64).sqrt();
    let worst = all.iter().zip(&expected).map(|(a, e)| (f64::from(*a) - e).abs()).fold(0.0, f64::max);
    assert!(worst / rms <= 2e-5, "{}", worst / rms);

    let (kept_shape, kept) = run(&["--logits-to-keep", "2"]);
    assert_eq!(kept_shape, [shape[0], 2, shape[2]]);
    let row = |b: usize| &all[((b + 1) * shape[1] - 2) * shape[2]..(b + 1) * shape[1] * shape[2]];
    assert_eq!(kept, [row(0), row(1), row(2)].concat());
}

#[test]
fn forward_names_what_is_wrong_with_its_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.safetensors");
    let model = suite("model/gqa");
    let run = || {
        let args =
            ["forward", "--model", model.to_str().unwrap(), "--inputs", file.to_str().unwrap(), "--outputs", "out"];
        failure(camelid_in(folder.path(), &args))
    };
    assert!(run().contains("in.safetensors: cannot be read"));
    std::fs::write(&file, u64::MAX.to_le_bytes()).unwrap();
    assert!(run().contains("is not a safetensors file"));
    let write = |name: &str, dtype, shape: &[usize], data: &[u8]| {
        serialize_to_file([(name, TensorView::new(dtype, shape.to_vec(), data).unwrap())], None, &file).unwrap();
    };
    write("ids", Dtype::I32, &[1, 1], &[0; 4]);
    assert!(run().contains("tensor `ids` is not known"));
    write("input_ids", Dtype::I32, &[1], &[0; 4]);
    assert!(run().contains("must be [B, T]"));
    write("input_ids", Dtype::F32, &[1, 1], &[0; 4]);
    assert!(run().contains("must be I32 or I64"));
    write("input_ids", Dtype::I64, &[1, 0], &[]);
    assert!(run().contains("there are no tokens"));
    write("input_ids", Dtype::I32, &[1, 2], &[0, 0, 0, 0, 255, 255, 255, 255]);
    assert!(run().contains("`input_ids`[0, 1] is -1"));
    write("input_ids", Dtype::I32, &[1, 1], &9999i32.to_le_bytes());
    assert!(run().contains("`input_ids`[0, 0] is 9999"));
    write("input_ids", Dtype::I32, &[1, 500], &[0; 2000]);
    assert!(run().contains("has room for"));
}

#[test]
fn a_prompt_that_cannot_be_run_is_an_error() {
    let long = "dog ".repeat(2000);
    assert!(failure(camelid(&["generate", &long])).contains("but the context holds"));
    assert!(failure(camelid(&["generate", "x", "--chat"])).contains("no chat template"));
    assert!(failure(camelid(&["generate", "x", "--temperature", "-1"])).contains("temperature"));
    assert!(failure(camelid(&["generate", "x", "--top-p", "1.5"])).contains("top_p"));
    assert!(failure(camelid(&["generate", "x", "--stop", ""])).contains("stop"));
}

#[test]
fn a_backend_that_is_not_there_is_never_replaced() {
    let message = failure(camelid(&["generate", "x", "--backend", "referense"]));
    assert!(message.contains("`referense`") && message.contains("`reference`"), "{message}");
    assert!(failure(camelid(&["generate", "x", "--backend", "cuda"])).contains("cuda"));
    assert!(failure(camelid(&["generate", "x", "--threads", "0"])).contains("threads"));
}

#[test]
fn a_checkpoint_that_is_none_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| failure(camelid_in(folder.path(), &["generate", "x", "--model", name]));
    assert!(run("nowhere").contains("nowhere"));
    std::fs::write(folder.path().join("short.gguf"), b"GGUF\x03\0\0\0").unwrap();
    assert!(run("short.gguf").contains("short.gguf"));
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    assert!(run("empty").contains("empty"));
    // A tiny model has no tokenizer.
    let model = suite("model/gqa");
    assert!(failure(camelid(&["generate", "x", "--model", model.to_str().unwrap()])).contains("tokenizer"));
}

#[test]
fn the_configuration_is_read_checked_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(folder.path().join("camelid.toml"), text).unwrap();
    write("backend = \"reference\"\n[generate]\nmax_new_tokens = 3\n");
    let shown = stdout(camelid_in(folder.path(), &["config", "show"]));
    assert!(shown.contains("generate.max_new_tokens = 3") && shown.contains("camelid.toml:3"), "{shown}");
    stdout(camelid_in(folder.path(), &["config", "check"]));
    let json: Value =
        serde_json::from_str(&stdout(camelid_in(folder.path(), &["generate", "Once", "--json"]))).unwrap();
    assert_eq!(json["tokens"].as_array().unwrap().len(), 3);
    let flag = camelid_in(folder.path(), &["generate", "Once", "--json", "--max-new-tokens", "2"]);
    let json: Value = serde_json::from_str(&stdout(flag)).unwrap();
    assert_eq!(json["tokens"].as_array().unwrap().len(), 2, "a flag comes before the file");

    write("[generate]\nmax_new_token = 3\n");
    let message = failure(camelid_in(folder.path(), &["config", "check"]));
    assert!(message.contains("max_new_token") && message.contains("max_new_tokens"), "{message}");
    write("backend = \"npu\"\n");
    assert!(failure(camelid_in(folder.path(), &["config", "check"])).contains("npu"));
    assert!(failure(camelid_in(folder.path(), &["generate", "x"])).contains("npu"));
}

#[test]
fn inspect_backends_explain_and_bench_describe_what_there_is() {
    let model = suite("model/bias");
    let model = model.to_str().unwrap();
    let json: Value = serde_json::from_str(&stdout(camelid(&["inspect", model, "--json"]))).unwrap();
    assert_eq!(json["config"]["attention_bias"], true);
    assert_eq!(json["tokenizer"], Value::Null);
    assert!(json["parameters"].as_u64().unwrap() > 1000);
    assert!(stdout(camelid(&["inspect", model])).contains("model.layers.0.self_attn.q_proj.bias"));

    let json: Value = serde_json::from_str(&stdout(camelid(&["backends", "--json"]))).unwrap();
    let names: Vec<&Value> = json.as_array().unwrap().iter().map(|b| &b["name"]).collect();
    assert_eq!(names, ["cpu", "reference"], "the backends that are linked in");
    assert_eq!(json[0]["devices"][0]["kind"], "cpu");

    let text = stdout(camelid(&["explain", "--backend", "reference", "--model", model]));
    assert!(text.contains("attention(") && text.contains("lowered: "), "{text}");

    let args = [
        "bench",
        "--model",
        model,
        "--prompt-tokens",
        "16",
        "--gen-tokens",
        "4",
        "--depth",
        "8",
        "--repetitions",
        "2",
        "--json",
    ];
    let json: Value = serde_json::from_str(&stdout(camelid(&args))).unwrap();
    for key in ["prefill_tokens_per_s", "decode_tokens_per_s", "load_s"] {
        assert!(json[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert_eq!(json["depth"], 8);
    if cfg!(target_os = "linux") {
        assert!(json["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    }
    assert_eq!((&json["sequences"], &json["kv_dtype"]), (&1.into(), &"f32".into()));
    assert!(failure(camelid(&["bench", "--model", model, "--depth", "100000"])).contains("context"));
    assert!(failure(camelid(&["bench", "--kv-dtype", "q8"])).contains("[possible values: f32, f16, bf16, q8_0]"));
}

#[test]
fn a_benchmark_decodes_sequences_together() {
    let args = ["bench", "--prompt-tokens", "0", "--gen-tokens", "3", "--depth", "2", "--repetitions", "1"];
    let more = ["--sequences", "4", "--kv-dtype", "f16"];
    let json: Value = serde_json::from_str(&stdout(camelid(&[&args[..], &more, &["--json"]].concat()))).unwrap();
    assert_eq!((&json["sequences"], &json["kv_dtype"]), (&4.into(), &"f16".into()));
    assert!(json["decode_tokens_per_s"].as_f64().unwrap() > 0.0 && json["prefill_tokens_per_s"].is_null());
    let blocks = ["--sequences", "2", "--kv-dtype", "q8_0", "--json"];
    let json: Value = serde_json::from_str(&stdout(camelid(&[&args[..], &blocks].concat()))).unwrap();
    assert_eq!(json["kv_dtype"], "q8_0");
    let text = stdout(camelid(&[&args[..], &more].concat()));
    assert!(text.contains("4 sequences together") && text.contains("not measured"), "{text}");
    failure(camelid(&["bench", "--sequences", "0"]));
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(stdout(camelid(&["completions", shell])).contains("camelid"), "{shell}");
    }
    failure(camelid(&["completions", "csh"]));
}

#[test]
fn a_reader_that_goes_away_ends_the_generation_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_camelid"))
        .args(["generate", "Once upon a time", "--max-new-tokens", "200"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn tokenize_takes_batches_pairs_and_lengths() {
    let json = |args: &[&str]| -> Value { serde_json::from_str(&stdout(camelid(args))).unwrap() };
    let ids = |text: &str| json(&["tokenize", "--json", text]);
    let (dog, cat) = (ids("a big dog"), ids("a cat"));
    assert_eq!(json(&["tokenize", "a big dog", "a cat", "--json"]), Value::from(vec![dog.clone(), cat.clone()]));
    assert_eq!(
        json(&["tokenize", "a big dog", "--no-special", "--json"]).as_array().unwrap()[..],
        dog.as_array().unwrap()[1..]
    );
    assert!(stdout(camelid(&["tokenize", "-1 dog", "--json"])).starts_with('['));

    // Filled up on the left to the longest, and cut to a length.
    let batch = json(&[
        "tokenize",
        "a big dog",
        "a cat",
        "--padding=longest",
        "--padding-side=left",
        "--pad-token=<|eos|>",
        "--masks",
        "--offsets",
        "--json",
    ]);
    let missing = dog.as_array().unwrap().len() - cat.as_array().unwrap().len();
    assert!(missing > 0);
    assert_eq!(batch["input_ids"][0], dog);
    assert_eq!(batch["input_ids"][1].as_array().unwrap()[missing..], cat.as_array().unwrap()[..]);
    let mask =
        |row: usize| batch["attention_mask"][row].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>();
    assert_eq!((mask(0) as usize, mask(1) as usize), (dog.as_array().unwrap().len(), cat.as_array().unwrap().len()));
    for key in ["token_type_ids", "special_tokens_mask", "offset_mapping"] {
        assert_eq!(batch[key][1].as_array().unwrap().len(), dog.as_array().unwrap().len(), "{key}");
    }
    let cut = json(&["tokenize", "a big dog", "--max-length", "2", "--overflowing", "--json"]);
    assert!(cut["input_ids"].as_array().unwrap().iter().all(|row| row.as_array().unwrap().len() == 2), "{cut}");
    let pair = json(&["tokenize", "a big dog", "--pair", "a cat", "--json"]);
    assert!(pair["input_ids"].as_array().unwrap().ends_with(&cat.as_array().unwrap()[1..]), "{pair}");
    let listed = stdout(camelid(&["tokenize", "a big dog", "--offsets=bytes"]));
    assert!(listed.lines().last().unwrap().contains("..9 "), "{listed}");

    let folder = tempfile::tempdir().unwrap();
    let texts = folder.path().join("texts.json");
    std::fs::write(&texts, "[\"a cat\", \"\"]").unwrap();
    let read = json(&["tokenize", "--texts", texts.to_str().unwrap(), "--json"]);
    assert_eq!((&read[0], read[1].as_array().unwrap().len()), (&cat, 1));
    assert_eq!(
        stdout(camelid(&["detokenize", &json(&["tokenize", "a cat", "a", "--no-special", "--json"]).to_string()])),
        "a cat\na\n"
    );

    std::fs::write(&texts, "{}").unwrap();
    assert!(failure(camelid(&["tokenize", "--texts", texts.to_str().unwrap()])).contains("JSON list of strings"));
    assert!(failure(camelid(&["tokenize", "a", "--padding", "longest"])).contains("padding token"));
    assert!(failure(camelid(&["tokenize", "a", "b", "--pair", "c"])).contains("--pair is there 1 times for 2 texts"));
    assert!(failure(camelid(&["tokenize", "a", "--padding", "longest", "--pad-token", "<none>"])).contains("<none>"));
}

#[test]
fn a_folder_with_a_tokenizer_alone_will_do_for_text() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/data/llama");
    for name in ["bytes", "ranks"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokenizer.model");
        std::fs::copy(data.join(format!("{name}.model")), &file).unwrap();
        let of =
            |path: &Path| stdout(camelid(&["tokenize", "the desert", "--json", "--model", path.to_str().unwrap()]));
        let ids: Vec<u32> = serde_json::from_str(&of(folder.path())).unwrap();
        assert!(ids.len() > 2, "{ids:?}");
        assert_eq!(of(&file), of(folder.path()));
        let back = stdout(camelid(&[
            "detokenize",
            &format!("{ids:?}"),
            "--skip-special-tokens",
            "--model",
            file.to_str().unwrap(),
        ]));
        assert_eq!(back, "the desert\n");
        std::fs::write(&file, "no model").unwrap();
        let error = failure(camelid(&["tokenize", "x", "--model", folder.path().to_str().unwrap()]));
        assert!(error.contains("tokenizer.model"), "{error}");
    }
}
