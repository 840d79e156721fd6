//! `camelid generate` with beams, guesses and rules for tokens.

mod common;

use std::path::Path;
use std::process::Output;

use common::failure;
use serde_json::Value;

/// `camelid generate "Once upon a time"` with these arguments in `folder`.
fn generate_in(folder: &Path, args: &[&str]) -> Output {
    common::camelid_in(folder, &[&["generate", "Once upon a time"], args].concat())
}

fn bundled() -> String {
    common::bundled().display().to_string()
}

fn generate(args: &[&str]) -> Output {
    generate_in(tempfile::tempdir().unwrap().path(), args)
}

#[track_caller]
fn json(args: &[&str]) -> Value {
    let output = generate(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn beams_come_with_their_scores_best_first() {
    let args = ["--num-beams", "4", "--num-return-sequences", "3", "--max-new-tokens", "12", "--length-penalty", "0.5"];
    let found = json(&args);
    let sequences = found["sequences"].as_array().unwrap();
    assert_eq!(sequences.len(), 3);
    let scores: Vec<f64> = sequences.iter().map(|s| s["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a > b) && scores[0] < 0.0, "{scores:?}");
    assert_eq!((&found["tokens"], &found["score"]), (&sequences[0]["tokens"], &sequences[0]["score"]));
    assert_ne!(sequences[0]["tokens"], sequences[1]["tokens"]);

    let output = generate(&args);
    let text = String::from_utf8(output.stdout).unwrap();
    for (n, sequence) in sequences.iter().enumerate() {
        let heading = format!("[{}] score {:.4}\n{}\n", n + 1, scores[n], sequence["text"].as_str().unwrap());
        assert!(text.contains(&heading), "{heading:?} in {text:?}");
    }
    // One text is printed as any other.
    let one = generate(&["--num-beams", "4", "--max-new-tokens", "12", "--length-penalty", "0.5"]);
    let one = String::from_utf8(one.stdout).unwrap();
    assert_eq!(one, format!("{}\n", sequences[0]["text"].as_str().unwrap()));
}

#[test]
fn samples_are_those_of_the_following_seeds() {
    let args = ["--temperature", "1", "--max-new-tokens", "8"];
    let several = json(&[&args[..], &["--seed", "5", "--num-return-sequences", "2"]].concat());
    for (n, seed) in ["5", "6"].into_iter().enumerate() {
        let one = json(&[&args[..], &["--seed", seed]].concat());
        assert_eq!(several["sequences"][n]["tokens"], one["tokens"]);
        assert!(one["score"].is_null());
    }
}

#[test]
fn guesses_change_the_steps_and_not_the_text() {
    let args = ["--max-new-tokens", "30"];
    let plain = json(&args);
    assert_eq!(plain["speculation"]["rounds"], 0);
    let drafted = json(&[&args[..], &["--draft-model", &bundled(), "--draft-tokens", "4"]].concat());
    assert_eq!(drafted["text"], plain["text"]);
    let guessed = &drafted["speculation"];
    assert!(guessed["drafted"].as_u64().unwrap() > 0);
    assert_eq!((&guessed["accepted"], &guessed["acceptance_rate"]), (&guessed["drafted"], &Value::from(1.0)));
    let looked_up = json(&[&args[..], &["--prompt-lookup", "5", "--max-matching-ngram-size", "3"]].concat());
    assert_eq!(looked_up["text"], plain["text"]);
    // Told on stderr as well.
    let output = generate(&[&args[..], &["--prompt-lookup", "5"]].concat());
    assert!(String::from_utf8(output.stderr).unwrap().contains("guesses right in"));
}

#[test]
fn rules_for_tokens_come_from_flags_and_from_files() {
    let plain = json(&["--max-new-tokens", "6"]);
    let first = plain["tokens"][0].as_u64().unwrap();
    let without = json(&["--max-new-tokens", "6", "--suppress-tokens", &format!("{first},1")]);
    assert!(without["tokens"].as_array().unwrap().iter().all(|t| *t != first));
    let later = json(&["--max-new-tokens", "6", "--begin-suppress-tokens", &first.to_string()]);
    assert_ne!(later["tokens"][0], first);
    let words = json(&["--max-new-tokens", "6", "--bad-words-ids", &format!("[[{first}], [3, 4]]")]);
    assert_eq!(words["tokens"], without["tokens"]);
    let bias = json(&["--max-new-tokens", "6", "--sequence-bias", "[[[7], 1e6]]"]);
    assert!(bias["tokens"].as_array().unwrap().iter().all(|t| *t == 7));
    let forced = json(&["--max-new-tokens", "3", "--forced-eos-token-id", "9"]);
    assert_eq!(forced["tokens"][2], 9);
    let length = plain["prompt_tokens"].as_array().unwrap().len() + 4;
    assert_eq!(json(&["--max-length", &length.to_string()])["tokens"].as_array().unwrap().len(), 4);
    let time = json(&["--max-time", "0", "--max-new-tokens", "100"]);
    assert_eq!((time["tokens"].as_array().unwrap().len(), &time["finish_reason"]), (1, &Value::from("time")));

    let folder = tempfile::tempdir().unwrap();
    let file = format!("[generate]\nmax_new_tokens = 6\nsuppress_tokens = [{first}, 1]\n");
    std::fs::write(folder.path().join("camelid.toml"), file).unwrap();
    let output = generate_in(folder.path(), &["--json"]);
    let from_file: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(from_file["tokens"], without["tokens"]);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let draft = bundled();
    let both = generate(&["--draft-model", &draft, "--num-beams", "2"]);
    assert!(failure(both).contains("cannot guess for 2 beams"));
    assert!(failure(generate(&["--draft-model", &draft, "--prompt-lookup", "3"])).contains("leave one of them out"));
    assert!(failure(generate(&["--num-return-sequences", "2"])).contains("be 1 for a greedy choice"));
    assert!(failure(generate(&["--num-beams", "2", "--num-return-sequences", "3"])).contains("num_beams = 2"));
    assert!(failure(generate(&["--num-beams", "0"])).contains("num_beams"));
    assert!(failure(generate(&["--typical-p", "0"])).contains("typical_p"));
    assert!(failure(generate(&["--bad-words-ids", "[[]]"])).contains("bad_words_ids"));
    assert!(failure(generate(&["--sequence-bias", "7"])).contains("--sequence-bias"));
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/suite/model/gqa");
    let other = failure(generate(&["--draft-model", tiny.to_str().unwrap()]));
    assert!(other.contains("same vocabulary"), "{other}");
}
