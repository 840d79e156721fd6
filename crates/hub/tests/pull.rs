//! Pulling from a server that works, from one that breaks off, and what is in the cache afterwards.

mod server;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use camelid_hub::{Checked, Event, Hub, HubError, Origin, Pulled, Retry, Settings, Token};
use server::{COMMIT, Repo, Server, answer, git_sha1, noise, part, sha256, whole};

fn settings(endpoint: &str, cache: &Path) -> Settings {
    Settings {
        endpoint: endpoint.into(),
        token: None,
        cache: cache.into(),
        offline: false,
        timeout: Duration::from_millis(1000),
        retry: Retry { attempts: 4, pause: Duration::from_millis(1), longest: Duration::from_millis(20) },
        proxies: false,
    }
}

fn pull(server: &Server, cache: &Path, source: &str) -> Result<Pulled, HubError> {
    Hub::new(settings(&server.address, cache)).unwrap().pull(&source.parse().unwrap(), &mut |_| {})
}

/// Names of everything below a folder, sorted.
fn tree(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, below: &str, names: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = format!("{below}{}", entry.file_name().to_string_lossy());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &format!("{name}/"), names);
            } else {
                names.push(name);
            }
        }
    }
    let mut names = Vec::new();
    walk(folder, "", &mut names);
    names.sort();
    names
}

fn blob(cache: &Path, name: &str) -> std::path::PathBuf {
    cache.join("models--org--name/blobs").join(name)
}

#[test]
fn a_model_is_pulled_once_and_lies_as_python_lays_it() {
    let cache = tempfile::tempdir().unwrap();
    let weights = noise(700_000);
    let repo = Repo::new(&[
        ("config.json", b"{}"),
        ("tokenizer.json", b"{\"a\": 1}"),
        ("empty.txt", b""),
        ("model.safetensors", &weights),
        ("pytorch_model.bin", b"the same again"),
    ]);
    let server = Server::start(move |request, stream| repo.serve(request, stream));
    let mut events = Vec::new();
    let hub = Hub::new(settings(&server.address, cache.path())).unwrap();
    let source = "org/name".parse().unwrap();
    let pulled = hub.pull(&source, &mut |event| events.push(format!("{event:?}"))).unwrap();
    let names: Vec<_> = pulled.files.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["config.json", "tokenizer.json", "model.safetensors"]);
    assert_eq!(pulled.files[0].origin, Origin::Downloaded { resumed: 0, checked: Checked::GitSha1 });
    assert_eq!(pulled.files[2].origin, Origin::Downloaded { resumed: 0, checked: Checked::Sha256 });
    assert_eq!(fs::read(pulled.path.join("model.safetensors")).unwrap(), weights);
    assert!(events.iter().any(|e| e.contains("have: 700000")), "{events:?}");
    let (config, tokenizer, weights) = (git_sha1(b"{}"), git_sha1(b"{\"a\": 1}"), sha256(&weights));
    let mut expected = vec![
        format!("models--org--name/blobs/{config}"),
        format!("models--org--name/blobs/{tokenizer}"),
        format!("models--org--name/blobs/{weights}"),
        "models--org--name/refs/main".into(),
        format!("models--org--name/snapshots/{COMMIT}/config.json"),
        format!("models--org--name/snapshots/{COMMIT}/model.safetensors"),
        format!("models--org--name/snapshots/{COMMIT}/tokenizer.json"),
        format!(".locks/models--org--name/{config}.lock"),
        format!(".locks/models--org--name/{tokenizer}.lock"),
        format!(".locks/models--org--name/{weights}.lock"),
    ];
    expected.sort();
    assert_eq!(tree(cache.path()), expected);
    assert_eq!(fs::read_to_string(cache.path().join("models--org--name/refs/main")).unwrap(), COMMIT);
    let link = fs::read_link(pulled.path.join("config.json")).unwrap();
    assert_eq!(link, Path::new(&format!("../../blobs/{config}")));

    let before = server.seen().len();
    let again = pull(&server, cache.path(), "org/name").unwrap();
    assert!(again.files.iter().all(|f| f.origin == Origin::Cached));
    assert_eq!(server.seen().len() - before, 1, "only the list is asked for again");

    // With no server left, what was pulled is found, and what was not is not.
    drop(server);
    let offline = Hub::new(Settings { offline: true, ..settings("http://127.0.0.1:9", cache.path()) }).unwrap();
    let found = offline.pull(&source, &mut |_| {}).unwrap();
    assert_eq!((&found.path, found.commit.as_str()), (&pulled.path, COMMIT));
    let one = offline.pull(&"hf:org/name:config.json".parse().unwrap(), &mut |_| {}).unwrap();
    assert_eq!(one.path, pulled.path.join("config.json"));
    let error = offline.pull(&"org/name:pytorch_model.bin".parse().unwrap(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("only config.json, model.safetensors, tokenizer.json"), "{error}");
    assert!(matches!(offline.pull(&"org/other".parse().unwrap(), &mut |_| {}), Err(HubError::NotCached { .. })));
}

#[test]
fn offline_opens_no_connection() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|request, stream| whole(request, stream, "200 OK", &[], b""));
    let hub = Hub::new(Settings { offline: true, ..settings(&server.address, cache.path()) }).unwrap();
    for source in ["org/name", "org/name:x.gguf", "org/name@v1:x.gguf"] {
        assert!(matches!(hub.pull(&source.parse().unwrap(), &mut |_| {}), Err(HubError::NotCached { .. })));
    }
    assert_eq!(server.seen().len(), 0);
    assert_eq!(tree(cache.path()), [""; 0], "nothing is made either");
}

#[test]
fn shards_are_those_that_the_index_names() {
    let cache = tempfile::tempdir().unwrap();
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let repo = Repo::new(&[
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-1.safetensors", b"one"),
        ("model-2.safetensors", b"two"),
        ("model-3.safetensors", b"of something else"),
    ]);
    let server = Server::start(move |request, stream| repo.serve(request, stream));
    let pulled = pull(&server, cache.path(), "org/name").unwrap();
    let names: Vec<_> = pulled.files.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["config.json", "model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"]);
}

#[test]
fn one_file_needs_no_list() {
    let cache = tempfile::tempdir().unwrap();
    let repo = Repo::new(&[("sub/x y.gguf", b"weights"), ("z.gguf", b"other")]);
    let plain = repo.clone();
    let server = Server::start(move |request, stream| {
        let path = request.path.replace("%20", " ");
        plain.serve(&server::Request { path, ..request.clone() }, stream);
    });
    let pulled = pull(&server, cache.path(), "org/name:sub/x y.gguf").unwrap();
    assert_eq!(fs::read(&pulled.path).unwrap(), b"weights");
    assert!(pulled.path.ends_with(format!("snapshots/{COMMIT}/sub/x y.gguf")));
    assert!(server.seen().iter().all(|r| !r.path.contains("/api/")));
    let link = fs::read_link(&pulled.path).unwrap();
    assert_eq!(link, Path::new(&format!("../../../blobs/{}", sha256(b"weights"))));
}

#[test]
fn a_connection_that_breaks_is_continued_in_the_same_pull() {
    let cache = tempfile::tempdir().unwrap();
    let weights = noise(300_000);
    let (repo, bytes) = (Repo::new(&[("x.gguf", &weights)]), weights.clone());
    let server = Server::start(move |request, stream| {
        if !request.path.starts_with("/storage/") {
            return repo.serve(request, stream);
        }
        // A hundred thousand bytes at a time, of all that were promised.
        let start = request.start();
        let end = (start + 100_000).min(bytes.len());
        let length = (bytes.len() - start).to_string();
        let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        let status = if start == 0 { "200 OK" } else { "206 Partial Content" };
        answer(stream, status, &[("Content-Length", &length), ("Content-Range", &range)], &bytes[start..end]);
    });
    let pulled = pull(&server, cache.path(), "org/name:x.gguf").unwrap();
    assert_eq!(fs::read(pulled.path).unwrap(), weights);
    assert_eq!(server.seen_of("/storage/x.gguf"), ["GET 0", "GET 100000", "GET 200000"]);
}

#[test]
fn what_one_pull_left_the_next_continues() {
    let cache = tempfile::tempdir().unwrap();
    let weights = noise(250_000);
    let (repo, bytes) = (Repo::new(&[("x.gguf", &weights)]), weights.clone());
    let broken = Server::start(move |request, stream| {
        if request.path.starts_with("/storage/") && request.start() == 0 {
            let length = bytes.len().to_string();
            return answer(stream, "200 OK", &[("Content-Length", &length)], &bytes[..123_456]);
        }
        if request.path.starts_with("/storage/") {
            return whole(request, stream, "503 Service Unavailable", &[("Retry-After", "0")], b"");
        }
        repo.serve(request, stream);
    });
    let error = pull(&broken, cache.path(), "org/name:x.gguf").unwrap_err();
    assert!(matches!(error, HubError::GivenUp { .. }), "{error}");
    assert!(error.to_string().contains("503") && error.to_string().contains("goes on from there"), "{error}");
    let part = blob(cache.path(), &format!("{}.incomplete", sha256(&weights)));
    assert_eq!(fs::metadata(&part).unwrap().len(), 123_456);
    assert!(!cache.path().join("models--org--name/refs").exists(), "no revision is noted for what is not there");

    let repo = Repo::new(&[("x.gguf", &weights)]);
    let server = Server::start(move |request, stream| repo.serve(request, stream));
    let mut first = None;
    let hub = Hub::new(settings(&server.address, cache.path())).unwrap();
    let pulled = hub.pull(&"org/name:x.gguf".parse().unwrap(), &mut |event| {
        if let Event::File { have, size, .. } = event {
            first = Some((have, size));
        }
    });
    let pulled = pulled.unwrap();
    assert_eq!(first, Some((123_456, Some(250_000))));
    assert_eq!(pulled.files[0].origin, Origin::Downloaded { resumed: 123_456, checked: Checked::Sha256 });
    assert_eq!(server.seen_of("/storage/x.gguf"), ["GET 123456"]);
    assert_eq!(fs::read(pulled.path).unwrap(), weights);
    assert!(!part.exists());
}

#[test]
fn a_part_that_is_all_there_is_only_checked() {
    let cache = tempfile::tempdir().unwrap();
    let weights = noise(1000);
    let repo = Repo::new(&[("x.gguf", &weights)]);
    let server = Server::start(move |request, stream| repo.serve(request, stream));
    let part = blob(cache.path(), &format!("{}.incomplete", sha256(&weights)));
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, &weights).unwrap();
    pull(&server, cache.path(), "org/name:x.gguf").unwrap();
    assert_eq!(server.seen_of("/storage/x.gguf"), [""; 0]);
    // One that is too long is no part of it.
    fs::remove_dir_all(cache.path().join("models--org--name")).unwrap();
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, noise(1001)).unwrap();
    let pulled = pull(&server, cache.path(), "org/name:x.gguf").unwrap();
    assert_eq!(fs::read(pulled.path).unwrap(), weights);
    assert_eq!(server.seen_of("/storage/x.gguf"), ["GET 0"]);
}

#[test]
fn a_server_that_ignores_ranges_starts_over() {
    let cache = tempfile::tempdir().unwrap();
    let weights = noise(50_000);
    let (repo, bytes) = (Repo::new(&[("x.gguf", &weights)]), weights.clone());
    let server = Server::start(move |request, stream| {
        if request.path.starts_with("/storage/") {
            return whole(request, stream, "200 OK", &[], &bytes);
        }
        repo.serve(request, stream);
    });
    let part = blob(cache.path(), &format!("{}.incomplete", sha256(&weights)));
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, &weights[..20_000]).unwrap();
    let pulled = pull(&server, cache.path(), "org/name:x.gguf").unwrap();
    assert_eq!(fs::read(pulled.path).unwrap(), weights);
    assert_eq!(server.seen_of("/storage/x.gguf"), ["GET 20000"], "the one answer is used");
}

#[test]
fn a_wrong_part_is_noticed_and_deleted_and_the_next_pull_is_right() {
    let cache = tempfile::tempdir().unwrap();
    let weights = noise(50_000);
    let repo = Repo::new(&[("x.gguf", &weights)]);
    let server = Server::start(move |request, stream| repo.serve(request, stream));
    let part = blob(cache.path(), &format!("{}.incomplete", sha256(&weights)));
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, vec![7; 20_000]).unwrap();
    let error = pull(&server, cache.path(), "org/name:x.gguf").unwrap_err();
    assert!(matches!(error, HubError::Corrupt { kind: "SHA-256", .. }), "{error}");
    assert!(error.to_string().contains("deleted") && error.to_string().contains("x.gguf"), "{error}");
    assert!(!part.exists() && !blob(cache.path(), &sha256(&weights)).exists());
    let pulled = pull(&server, cache.path(), "org/name:x.gguf").unwrap();
    assert_eq!(fs::read(pulled.path).unwrap(), weights);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_read_anew() {
    let cache = tempfile::tempdir().unwrap();
    let (old, new) = (noise(40_000), noise(50_000)[10_000..].to_vec());
    let gets = AtomicUsize::new(0);
    let (before, after) = (old.clone(), new.clone());
    let server = Server::start(move |request, stream| {
        let nth =
            if request.method == "GET" { gets.fetch_add(1, Ordering::SeqCst) } else { gets.load(Ordering::SeqCst) };
        let bytes = if nth == 0 { &before } else { &after };
        let etag = format!("\"{}\"", git_sha1(bytes));
        let headers = [("ETag", etag.as_str()), ("X-Repo-Commit", COMMIT)];
        if nth == 0 && request.method == "GET" {
            // Half of the old one; then there is the new one.
            let length = bytes.len().to_string();
            return answer(
                stream,
                "200 OK",
                &[&headers[..], &[("Content-Length", &length)]].concat(),
                &bytes[..20_000],
            );
        }
        part(request, stream, &headers, bytes);
    });
    let pulled = pull(&server, cache.path(), "org/name:config.json").unwrap();
    assert_eq!(fs::read(pulled.path).unwrap(), new);
    assert_eq!(server.seen_of("config.json"), ["HEAD 0", "GET 0", "GET 20000", "HEAD 0", "GET 0"]);
    assert!(tree(cache.path()).iter().all(|f| !f.contains(&git_sha1(&old)) || f.ends_with(".lock")));
}

#[test]
fn pulls_at_once_download_once() {
    let cache = tempfile::tempdir().unwrap();
    let weights = noise(400_000);
    let (repo, bytes) = (Repo::new(&[("x.gguf", &weights)]), weights.clone());
    let server = Server::start(move |request, stream| {
        if request.path.starts_with("/storage/") {
            std::thread::sleep(Duration::from_millis(200));
            return part(request, stream, &[], &bytes);
        }
        repo.serve(request, stream);
    });
    let waited = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let hub = Hub::new(settings(&server.address, cache.path())).unwrap();
                let pulled = hub.pull(&"org/name:x.gguf".parse().unwrap(), &mut |event| {
                    if matches!(event, Event::Waiting { .. }) {
                        waited.fetch_add(1, Ordering::SeqCst);
                    }
                });
                assert_eq!(fs::read(pulled.unwrap().path).unwrap(), weights);
            });
        }
    });
    assert_eq!(server.seen_of("/storage/x.gguf").len(), 1);
    assert_eq!(waited.load(Ordering::SeqCst), 3);
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let cache = tempfile::tempdir().unwrap();
    let weights = noise(5000);
    let bytes = weights.clone();
    let storage = Server::start(move |request, stream| part(request, stream, &[], &bytes));
    let mut repo = Repo::new(&[("config.json", b"{}"), ("model.safetensors", &weights)]);
    repo.storage.clone_from(&storage.address);
    let hub = Server::start(move |request, stream| {
        if request.header("authorization") == Some("Bearer hf_secret") {
            return repo.serve(request, stream);
        }
        whole(request, stream, "401 Unauthorized", &[("X-Error-Code", "RepoNotFound")], b"");
    });
    let error = pull(&hub, cache.path(), "org/name").unwrap_err().to_string();
    assert!(error.contains("HF_TOKEN") && error.contains("401"), "{error}");
    let token = Token::new("hf_secret").unwrap();
    let with = Settings { token, ..settings(&hub.address, cache.path()) };
    let pulled = Hub::new(with).unwrap().pull(&"org/name".parse().unwrap(), &mut |_| {}).unwrap();
    assert_eq!(fs::read(pulled.path.join("model.safetensors")).unwrap(), weights);
    assert_eq!(storage.seen().len(), 1);
    assert!(storage.seen().iter().all(|r| r.header("authorization").is_none()), "{:?}", storage.seen());
}
