//! `camelid forward` and `camelid classify` from file to file, on the models of `conformance/suite/forward`.

mod common;

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use common::{failure, stdout};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::Value;

fn suite(path: &str) -> PathBuf {
    common::suite("forward").join(path)
}

fn camelid(args: &[&str], input: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = common::command(folder.path());
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The program may have ended with an error before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// A tensor: its type, shape and bytes.
type Tensor = (Dtype, Vec<usize>, Vec<u8>);

fn ints(shape: &[usize], data: &[i64]) -> Tensor {
    (Dtype::I64, shape.to_vec(), data.iter().flat_map(|x| x.to_le_bytes()).collect())
}

fn floats(shape: &[usize], data: &[f32]) -> Tensor {
    (Dtype::F32, shape.to_vec(), data.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// A folder with the files of one model's runs.
struct Desk {
    folder: tempfile::TempDir,
    model: PathBuf,
    /// Where the calls of the model lie.
    calls: PathBuf,
}

impl Desk {
    fn new(model: &str) -> Desk {
        let calls = suite(model).join("expect.safetensors");
        Desk { folder: tempfile::tempdir().unwrap(), model: suite(model), calls }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, tensors: &[(&str, Tensor)]) {
        let views = tensors.iter().map(|(n, (d, s, b))| (*n, TensorView::new(*d, s.clone(), b).unwrap()));
        serialize_to_file(views, None, Path::new(&self.path("in"))).unwrap();
    }

    /// Writes the tensors that a call of the fixture takes.
    fn write_call(&self, call: &str) {
        let bytes = std::fs::read(&self.calls).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let prefix = format!("{call}.in.");
        let tensors: Vec<(String, TensorView<'_>)> =
            file.tensors().into_iter().filter_map(|(n, t)| Some((n.strip_prefix(&prefix)?.to_owned(), t))).collect();
        assert!(!tensors.is_empty(), "{call}");
        serialize_to_file(tensors, None, Path::new(&self.path("in"))).unwrap();
    }

    fn run(&self, flags: &[&str]) -> Output {
        let (model, inputs, outputs) = (self.model.to_str().unwrap(), self.path("in"), self.path("out"));
        // The numbers are held to what f32 gives.
        let args = [
            &["forward", "--backend", "reference", "--model", model, "--inputs", &inputs, "--outputs", &outputs],
            flags,
        ]
        .concat();
        camelid(&args, "")
    }

    fn outputs(&self) -> HashMap<String, (Vec<usize>, Vec<f32>)> {
        let bytes = std::fs::read(self.path("out")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let read = |t: &TensorView<'_>| {
            assert_eq!(t.dtype(), Dtype::F32);
            (t.shape().to_vec(), t.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
        };
        file.tensors().into_iter().map(|(name, t)| (name, read(&t))).collect()
    }

    /// Runs a call of the fixture and compares all that comes out.
    fn check(&self, call: &str, flags: &[&str]) {
        self.write_call(call);
        stdout(self.run(flags));
        let outputs = self.outputs();
        let bytes = std::fs::read(&self.calls).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut compared = 0;
        for (name, expected) in file.tensors() {
            let Some(name) = name.strip_prefix(&format!("{call}.out.")) else { continue };
            let (shape, actual) = &outputs[name];
            assert_eq!(shape, expected.shape(), "{call}: {name}");
            let expected: Vec<f64> = expected.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
            let rms = (expected.iter().map(|e| e * e).sum::<f64>() / expected.len() as f64).sqrt();
            let far = actual.iter().zip(&expected).map(|(a, e)| (f64::from(*a) - e).abs()).fold(0.0, f64::max);
            assert!(far <= 2e-5 * rms, "{call}: {name}: {:e}", far / rms);
            compared += 1;
        }
        assert_eq!(compared, outputs.len(), "{call}: {:?}", outputs.keys());
    }
}

#[test]
fn every_flag_gives_its_tensor_as_transformers_does() {
    let desk = Desk::new("causal");
    desk.check("all_outputs", &["--hidden-states", "--attentions"]);
    desk.check("left_padding", &["--hidden-states", "--attentions"]);
    desk.check("right_padding", &["--hidden-states"]);
    desk.check("holes", &["--attentions"]);
    desk.check("positions", &["--hidden-states"]);
    desk.check("embeddings", &["--hidden-states"]);
    desk.check("last_two", &["--logits-to-keep", "2"]);
    desk.check("chosen", &["--logits-to-keep", "4,-1,0,4"]);
    desk.check("base_model", &["--base"]);
    desk.check("mask_4d", &["--attentions"]);
    desk.check("mask_4d_numbers", &["--hidden-states"]);
    desk.check("packed", &["--use-cache", "false"]);
    let desk = Desk::new("classifier");
    desk.check("classes", &["--hidden-states"]);
    desk.check("masked", &[]);
    desk.check("embeddings", &["--attentions"]);
    Desk::new("regressor").check("number", &[]);
    Desk::new("multilabel").check("labels", &[]);
}

#[test]
fn a_past_goes_from_one_run_to_the_next() {
    let desk = Desk::new("causal");
    let past = desk.path("past");
    desk.check("past_first", &["--save-past", &past]);
    desk.check("past_next", &["--past", &past, "--hidden-states", "--attentions"]);
    desk.check("past_hidden", &["--past", &past]);
    desk.write(&[("input_ids", ints(&[2, 1], &[1, 2]))]);
    assert!(failure(desk.run(&["--past", &past])).contains("the past has 3 rows and the inputs have 2"));
    std::fs::write(&past, b"x").unwrap();
    assert!(failure(desk.run(&["--past", &past])).contains("past: is not a whole safetensors file"));
    // A mask that wants back what was masked when it was computed.
    desk.check("past_first", &["--save-past", &past]);
    desk.write(&[("input_ids", ints(&[3, 1], &[1, 2, 3])), ("attention_mask", (Dtype::U8, vec![3, 8], vec![1; 24]))]);
    assert!(failure(desk.run(&["--past", &past])).contains("column 0, which was masked in an earlier call"));
}

#[test]
fn inputs_come_in_many_types_and_wrong_ones_are_named() {
    let desk = Desk::new("causal");
    let ids = ints(&[1, 2], &[3, 4]);
    let logits = |mask: Tensor| {
        desk.write(&[("input_ids", ids.clone()), ("attention_mask", mask)]);
        stdout(desk.run(&[]));
        desk.outputs().remove("logits").unwrap()
    };
    let expected = logits(ints(&[1, 2], &[0, 1]));
    assert!(expected.1[..41].iter().all(|x| *x == 0.0), "the masked token");
    assert_eq!(logits((Dtype::BOOL, vec![1, 2], vec![0, 1])), expected);
    assert_eq!(logits((Dtype::U8, vec![1, 2], vec![0, 1])), expected);
    assert_eq!(logits(floats(&[1, 2], &[0.0, 1.0])), expected);

    let message = |tensors: &[(&str, Tensor)], flags: &[&str]| {
        desk.write(tensors);
        let message = failure(desk.run(flags));
        assert!(message.contains(&desk.path("in")), "{message}");
        message
    };
    let with = |name: &'static str, tensor: Tensor| message(&[("input_ids", ids.clone()), (name, tensor)], &[]);
    assert!(
        with("attention_mask", ints(&[1, 2], &[0, 2])).contains("`attention_mask`[0, 1] is 2, but it must be 0 or 1")
    );
    assert!(with("attention_mask", ints(&[2], &[0, 1])).contains("must be [B, T] or [B, 1, T, T]"));
    assert!(with("attention_mask", floats(&[1, 1, 2, 2], &[0.0, f32::NAN, 0.0, 0.0])).contains("[0, 0, 0, 1] is NaN"));
    assert!(
        with("position_ids", floats(&[1, 2], &[0.0, 1.0])).contains("`position_ids` is F32, but it must be I32 or I64")
    );
    assert!(with("labels", ints(&[1, 2], &[0, 99])).contains("`labels`[0, 1] is 99"));
    assert!(with("label", ints(&[1, 2], &[0, 1])).contains("tensor `label` is not known; the inputs are: input_ids,"));
    assert!(with("inputs_embeds", floats(&[1, 2, 26], &[0.0; 52])).contains("are both; leave one out"));
    assert!(message(&[("labels", ids.clone())], &[]).contains("is neither; give one"));
    assert!(message(&[("inputs_embeds", floats(&[1, 1, 2], &[0.0; 2]))], &[]).contains("hidden_size"));
    assert!(message(&[("input_ids", ids.clone())], &["--logits-to-keep", "0,2"]).contains("`logits_to_keep`[1] is 2"));
    desk.write(&[("input_ids", ids)]);
    assert!(failure(desk.run(&["--logits-to-keep", "x"])).contains("give a number from 0 on, or indices"));
}

#[test]
fn positions_may_lie_beyond_the_length_the_model_was_made_for() {
    let desk = Desk::new("causal");
    desk.write(&[("input_ids", ints(&[1, 2], &[3, 4])), ("position_ids", ints(&[1, 2], &[500, 501]))]);
    stdout(desk.run(&[]));
    assert_eq!(desk.outputs()["logits"].0, [1, 2, 41]);
    assert!(failure(desk.run(&["--context-size", "100"])).contains("raise `context_size`"));
}

/// The classifier of the suite with a tokenizer whose words are `w0`, `w1` and so on.
fn classifier_with_words(folder: &Path, change: impl Fn(&mut Value)) -> String {
    std::fs::copy(suite("classifier/model.safetensors"), folder.join("model.safetensors")).unwrap();
    let config = std::fs::read_to_string(suite("classifier/config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    change(&mut config);
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let vocab: serde_json::Map<String, Value> = (0..41).map(|i| (format!("w{i}"), Value::from(i))).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "w0"},
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    folder.to_str().unwrap().to_owned()
}

#[test]
fn classify_names_the_label_and_its_probability() {
    let folder = tempfile::tempdir().unwrap();
    let model = classifier_with_words(folder.path(), |_| ());
    let texts = ["w3 w9 w12", "w4 w5 w6 w7 w7", "w1"];
    let args = [&["classify", "--backend", "reference", "--model", &model, "--json"], texts.as_slice()].concat();
    let json: Value = serde_json::from_str(&stdout(camelid(&args, ""))).unwrap();

    // The same ids through `forward`, each text padded to five.
    let mut desk = Desk::new("classifier");
    desk.model = folder.path().to_owned();
    desk.write(&[("input_ids", ints(&[3, 5], &[3, 9, 12, 7, 7, 4, 5, 6, 7, 7, 1, 7, 7, 7, 7]))]);
    stdout(desk.run(&[]));
    let (shape, logits) = desk.outputs().remove("logits").unwrap();
    assert_eq!(shape, [3, 3]);
    for (i, text) in texts.iter().enumerate() {
        let object = &json[i];
        assert_eq!(object["text"], *text);
        let own: Vec<f64> = object["logits"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let row = &logits[i * 3..(i + 1) * 3];
        assert!(own.iter().zip(row).all(|(a, b)| (a - f64::from(*b)).abs() < 1e-6), "{own:?} {row:?}");
        let best = (0..3).fold(0, |b, j| if row[j] > row[b] { j } else { b });
        assert_eq!(object["label"], ["bad", "fair", "good"][best]);
        let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        let score = object["score"].as_f64().unwrap();
        assert!((score - f64::from(row[best]).exp() / sum).abs() < 1e-6);
        let scores = object["scores"].as_array().unwrap();
        assert_eq!((scores.len(), &scores[0]["label"]), (3, &object["label"]));
    }

    // Lines of standard input, and text for people.
    let lines = stdout(camelid(&["classify", "--backend", "reference", "--model", &model], "w3 w9 w12\nw1\n"));
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 2);
    let first = json[0]["label"].as_str().unwrap();
    assert!(lines[0].starts_with(first) && lines[0].ends_with("\tw3 w9 w12"), "{lines:?}");

    // Labels that each may hold.
    let folder = tempfile::tempdir().unwrap();
    let several = classifier_with_words(folder.path(), |config| {
        config["problem_type"] = "multi_label_classification".into();
    });
    let args = ["classify", "--backend", "reference", "--model", &several, "--json", texts[0]];
    let several: Value = serde_json::from_str(&stdout(camelid(&args, ""))).unwrap();
    assert_eq!((&several[0]["activation"], &several[0]["logits"]), (&"sigmoid".into(), &json[0]["logits"]));
    for score in several[0]["scores"].as_array().unwrap() {
        let logit = json[0]["logits"][score["id"].as_u64().unwrap() as usize].as_f64().unwrap();
        assert!((score["score"].as_f64().unwrap() - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-6);
    }
}

#[test]
fn what_is_no_classifier_is_not_classified_and_a_classifier_does_not_generate() {
    let causal = suite("causal");
    let message =
        failure(camelid(&["classify", "--backend", "reference", "--model", causal.to_str().unwrap(), "x"], ""));
    assert!(message.contains("is no classifier") && message.contains("LlamaForSequenceClassification"), "{message}");
    let folder = tempfile::tempdir().unwrap();
    let model = classifier_with_words(folder.path(), |_| ());
    let message = failure(camelid(&["generate", "--model", &model, "w1"], ""));
    assert!(message.contains("a classifier of 3 labels; use `camelid classify`"), "{message}");
    assert!(
        failure(camelid(&["classify", "--backend", "reference", "--model", &model], ""))
            .contains("there is nothing to classify")
    );
    // A head of another size than the labels call for.
    let folder = tempfile::tempdir().unwrap();
    let model = classifier_with_words(folder.path(), |config| {
        config["id2label"] = serde_json::json!({"0": "no", "1": "yes"});
    });
    let message = failure(camelid(&["classify", "--backend", "reference", "--model", &model, "w1"], ""));
    assert!(message.contains("score.weight is [3, 26]") && message.contains("num_labels"), "{message}");
}

#[test]
fn a_base_model_gives_its_last_hidden_state() {
    // The weights of a LlamaModel: those of the causal model without its head, and without `model.`.
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(suite("causal/model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let bare: Vec<(String, TensorView<'_>)> =
        file.tensors().into_iter().filter_map(|(name, t)| Some((name.strip_prefix("model.")?.to_owned(), t))).collect();
    serialize_to_file(bare, None, &folder.path().join("model.safetensors")).unwrap();
    let config = std::fs::read_to_string(suite("causal/config.json")).unwrap();
    std::fs::write(folder.path().join("config.json"), config.replace("LlamaForCausalLM", "LlamaModel")).unwrap();

    let mut desk = Desk::new("causal");
    desk.write_call("base_model");
    stdout(desk.run(&["--base"]));
    let expected = desk.outputs();
    desk.model = folder.path().to_owned();
    stdout(desk.run(&[]));
    assert_eq!(desk.outputs(), expected);
    desk.write_call("all_outputs");
    assert!(failure(desk.run(&[])).contains("a base model gives no logits"));
    let message = failure(camelid(&["generate", "--model", folder.path().to_str().unwrap(), "x"], ""));
    assert!(message.contains("a base model") || message.contains("tokenizer"), "{message}");
}
