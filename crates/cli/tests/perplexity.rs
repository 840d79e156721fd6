//! `camelid perplexity` as a user meets it.

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use common::{bundled, failure};
use serde_json::Value;

/// `camelid perplexity` with these arguments in `folder`.
fn camelid(folder: &Path, args: &[&str]) -> Output {
    common::camelid_in(folder, &[&["perplexity"], args].concat())
}

#[track_caller]
fn json(output: Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

const STORY: &str = "Once upon a time there was a little dog. The dog liked to play in the park with a big red ball. \
                     One day the ball was gone, and the dog was sad. ";

#[test]
fn a_story_is_likelier_than_noise_and_nothing_is_lost_between_windows() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("story"), STORY).unwrap();
    fs::write(folder.path().join("noise"), "zq xv 88 ]] qqq wk jj zx vv kk 9 qz").unwrap();
    let run = |args: &[&str]| json(camelid(folder.path(), &[args, &["--json"]].concat()));
    let story = run(&["--file", "story", "--context", "24", "--stride", "12"]);
    let number = |v: &Value, name: &str| v[name].as_f64().unwrap_or_else(|| panic!("{name} in {v}"));
    let tokens = story["tokens"].as_u64().unwrap();
    assert_eq!(story["scored_tokens"].as_u64().unwrap(), tokens - 1, "overlapping windows predict every token");
    assert!(tokens > 36 && story["windows"].as_u64().unwrap() >= 3, "{story}");
    assert_eq!((story["context"].as_u64(), story["stride"].as_u64()), (Some(24), Some(12)));
    for (ppl, nll) in [("perplexity", "nll"), ("token_perplexity", "token_nll")] {
        assert!((number(&story, ppl).ln() - number(&story, nll)).abs() < 1e-12);
    }
    assert!(number(&story, "tokens_per_s") > 0.0 && number(&story, "token_nll_error") > 0.0);
    let noise = run(&["--file", "noise", "--context", "24", "--stride", "12"]);
    assert!(number(&noise, "perplexity") > 3.0 * number(&story, "perplexity"), "{noise} {story}");
    // More context, better predictions; and without overlap the first token of each window is lost.
    let whole = run(&["--file", "story"]);
    assert_eq!(whole["windows"], 1);
    assert_eq!(whole["scored_tokens"].as_u64().unwrap(), tokens - 1);
    assert!((number(&whole, "perplexity") - number(&whole, "token_perplexity")).abs() < 1e-9);
    let apart = run(&["--file", "story", "--context", "24", "--stride", "24"]);
    assert_eq!(apart["scored_tokens"].as_u64().unwrap(), tokens - tokens.div_ceil(24));
    assert!(number(&apart, "token_perplexity") > number(&whole, "token_perplexity"));
    let threads = run(&["--file", "story", "--context", "24", "--stride", "12", "--threads", "2"]);
    assert_eq!(threads["perplexity"], story["perplexity"]);
}

#[test]
fn a_model_against_itself_and_against_a_changed_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("story"), STORY).unwrap();
    let original = bundled();
    let original = original.to_str().unwrap();
    let run = |args: &[&str]| json(camelid(folder.path(), &[&["--file", "story", "--json"], args].concat()));
    let same = run(&["--against", original]);
    assert_eq!(same["against"]["kl"]["max"], 0.0);
    assert_eq!(same["against"]["same_top"]["value"], 1.0);
    assert_eq!(same["against"]["perplexity"], same["perplexity"]);
    // The same model with a coarser norm.
    let changed = folder.path().join("changed");
    fs::create_dir(&changed).unwrap();
    for file in fs::read_dir(bundled()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), changed.join(file.file_name())).unwrap();
    }
    let mut config: Value = serde_json::from_slice(&fs::read(changed.join("config.json")).unwrap()).unwrap();
    config["rms_norm_eps"] = 0.05.into();
    fs::write(changed.join("config.json"), config.to_string()).unwrap();
    let worse = run(&["--model", "changed", "--against", original]);
    let against = &worse["against"];
    assert_eq!(against["perplexity"], same["perplexity"]);
    let kl = &against["kl"];
    let ordered: Vec<f64> =
        ["min", "median", "p90", "p95", "p99", "p99.9", "max"].map(|n| kl[n].as_f64().unwrap()).into();
    assert!(ordered.is_sorted() && ordered[1] > 0.0 && kl["mean"].as_f64().unwrap() > 0.0, "{kl}");
    let ratio = worse["token_perplexity"].as_f64().unwrap() / against["token_perplexity"].as_f64().unwrap();
    assert!((against["ppl_ratio"]["value"].as_f64().unwrap() - ratio).abs() < 1e-12);
    let text = camelid(folder.path(), &["--file", "story", "--model", "changed", "--against", original]);
    let text = String::from_utf8(text.stdout).unwrap();
    for part in ["perplexity ", "base perplexity", "KL(base || model)", "median", "99 %", "same top token", "tokens/s"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_backend_against_another() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("story"), STORY).unwrap();
    let run = |args: &[&str]| json(camelid(folder.path(), &[&["--file", "story", "--json"], args].concat()));
    let alone = |backend: &str| run(&["--backend", backend]);
    let (cpu, reference) = (alone("cpu"), alone("reference"));
    let both = run(&["--backend", "cpu", "--against-backend", "reference"]);
    let against = &both["against"];
    assert_eq!((&both["backend"], &against["backend"]), (&"cpu".into(), &"reference".into()));
    assert_eq!((&both["perplexity"], &against["perplexity"]), (&cpu["perplexity"], &reference["perplexity"]));
    // They sum in other orders, and no more than that.
    let kl = |name: &str| against["kl"][name].as_f64().unwrap();
    assert!(kl("max") > 0.0 && kl("mean") < 1e-3, "{against}");
    // Another model on another backend: the second of each.
    let original = bundled();
    let original = original.to_str().unwrap();
    let other = run(&["--backend", "cpu", "--against", original, "--against-backend", "reference"]);
    assert_eq!(other["against"]["kl"], against["kl"]);
    assert_eq!(other["against"]["model"], original);
    let said = camelid(folder.path(), &["--file", "story", "--model", original, "--against-backend", "reference"]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains(&format!("{original} on reference")), "{said}");
    let said = failure(camelid(folder.path(), &["--file", "story", "--against-backend", "npu"]));
    assert!(said.contains("npu") && said.contains("reference"), "{said}");
}

#[test]
fn bad_input_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("empty", &b""[..]), ("binary", b"abc\xff\xfe"), ("text", STORY.as_bytes())] {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let fails = |args: &[&str]| failure(camelid(folder.path(), args));
    assert!(fails(&["--file", "empty"]).contains("empty: is empty"));
    assert!(fails(&["--file", "binary"]).contains("binary: is not UTF-8 text: byte 3"));
    assert!(fails(&["--file", "missing"]).contains("missing: cannot be read"));
    assert!(fails(&["--file", "text", "--context", "16", "--stride", "17"]).contains("stride is 17"));
    assert!(fails(&["--file", "text", "--stride", "0"]).contains("stride is 0"));
    assert!(fails(&["--file", "text", "--context", "1"]).contains("at least 2"));
    let gqa = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/suite/model/gqa");
    let gqa = gqa.to_str().unwrap();
    assert!(fails(&["--file", "text", "--model", gqa]).contains("no tokenizer"));
    assert!(fails(&["--file", "text", "--against", gqa]).contains("only models of one vocabulary"));
}
