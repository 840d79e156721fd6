//! `camelid pull` as a user meets it, from a server on this machine, and the pulled model in use.

mod common;

#[path = "../../hub/tests/server/mod.rs"]
mod server;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::failure;
use serde_json::Value;
use server::{COMMIT, Repo, Server, answer, sha256};

/// `camelid` with a hub at `endpoint` and its cache in `cache`, with none of the caller's settings.
fn camelid(endpoint: &str, cache: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camelid"));
    let ours = |name: &str| {
        ["CAMELID_", "HF_", "HUGGING"].iter().any(|p| name.starts_with(p)) || name.to_lowercase().ends_with("_proxy")
    };
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", endpoint).env("HF_HUB_CACHE", cache).env("HF_HUB_DOWNLOAD_TIMEOUT", "5");
    command.env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
    command.args(args).current_dir(cache.parent().unwrap()).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// The bundled model's files as a repository.
fn bundled() -> Repo {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundled/model");
    let names =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    let files: Vec<_> = names.iter().map(|name| (*name, fs::read(folder.join(name)).unwrap())).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    Repo::new(&[&files[..], &[("README.md", b"# A model")]].concat())
}

#[test]
fn a_pulled_model_runs_by_its_name_without_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("hub");
    let repo = bundled();
    let server = Server::start(move |request, stream| repo.serve(request, stream));
    let path = stdout(camelid(&server.address, &cache, &["pull", "org/name"]));
    assert_eq!(Path::new(&path), cache.join("models--org--name/snapshots").join(COMMIT));
    let json = stdout(camelid(&server.address, &cache, &["pull", "hf:org/name", "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["commit"].as_str(), json["path"].as_str()), (Some(COMMIT), Some(path.as_str())));
    assert_eq!(json["files"].as_array().unwrap().len(), 5);
    assert!(json["files"].as_array().unwrap().iter().all(|f| f["downloaded"] == false));
    let before = server.seen().len();

    let text = stdout(camelid(&server.address, &cache, &["generate", "Once upon a time", "--max-new-tokens", "8"]));
    for name in ["org/name", "hf:org/name", &path, &format!("hf:org/name@{COMMIT}"), "org/name:model.safetensors"] {
        let args = ["generate", "Once upon a time", "--max-new-tokens", "8", "--model", name];
        assert_eq!(stdout(camelid(&server.address, &cache, &args)), text, "{name}");
    }
    assert_eq!(stdout(camelid(&server.address, &cache, &["pull", "org/name", "--offline"])), path);
    assert_eq!(server.seen().len(), before, "no connection was opened");

    // A folder of that name comes first.
    fs::create_dir_all(folder.path().join("org/name")).unwrap();
    let message = failure(camelid(&server.address, &cache, &["inspect", "org/name"]));
    assert!(message.contains("neither model.safetensors"), "{message}");
}

#[test]
fn what_is_not_there_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("hub");
    let server = Server::start(|request, stream| server::whole(request, stream, "404 Not Found", &[], b""));
    let fails = |args: &[&str]| failure(camelid(&server.address, &cache, args));
    let message = fails(&["pull", "org/name"]);
    assert!(message.contains("404") && message.contains("no such repository"), "{message}");
    let before = server.seen().len();
    let message = fails(&["pull", "org/name:x.gguf", "--offline"]);
    assert!(message.contains("camelid pull org/name:x.gguf"), "{message}");
    let message = fails(&["inspect", "org/name"]);
    assert!(message.contains("no such file or folder") && message.contains("camelid pull org/name"), "{message}");
    for name in ["../x", "a/b/c", "a/b:../c", "org/name@main --revision"] {
        assert!(fails(&["pull", name]).contains("is not the name of a model"), "{name}");
    }
    assert!(fails(&["pull", "org/name@main", "--revision", "v2"]).contains("names a revision"));
    assert!(fails(&["inspect", "no_such_file"]).contains("there is no such file or folder"));
    assert_eq!(server.seen().len(), before, "none of these opens a connection");
    let message = failure(camelid("not an address", &cache, &["pull", "org/name"]));
    assert!(message.contains("HF_ENDPOINT"), "{message}");
}

#[test]
fn a_pull_that_was_killed_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("hub");
    let weights = server::noise(900_000);
    let (repo, bytes) = (Repo::new(&[("x.gguf", &weights)]), weights.clone());
    let stuck = Server::start(move |request, stream| {
        if !request.path.starts_with("/storage/") {
            return repo.serve(request, stream);
        }
        answer(stream, "200 OK", &[("Content-Length", "900000")], &bytes[..600_000]);
        std::thread::sleep(std::time::Duration::from_secs(30));
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_camelid"));
    command.args(["pull", "org/name:x.gguf"]).env("HF_ENDPOINT", &stuck.address).env("HF_HUB_CACHE", &cache);
    command.env("NO_PROXY", "127.0.0.1").env_remove("HF_HUB_OFFLINE").stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let part = cache.join("models--org--name/blobs").join(format!("{}.incomplete", sha256(&weights)));
    for _ in 0..600 {
        if fs::metadata(&part).is_ok_and(|m| m.len() == 600_000) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(fs::metadata(&part).unwrap().len(), 600_000);

    let repo = Repo::new(&[("x.gguf", &weights)]);
    let server = Server::start(move |request, stream| repo.serve(request, stream));
    let json = stdout(camelid(&server.address, &cache, &["pull", "org/name:x.gguf", "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["files"][0]["resumed_bytes"], 600_000);
    assert_eq!(json["files"][0]["checked"], "SHA-256");
    assert_eq!(fs::read(json["path"].as_str().unwrap()).unwrap(), weights);
    assert_eq!(server.seen_of("/storage/x.gguf"), ["GET 600000"]);
}
