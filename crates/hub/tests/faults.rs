//! Whatever a server does, a pull ends: with the right file or with an error that says what happened. Nothing wrong
//! stays in the cache, and nothing is written outside it.

mod server;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use camelid_hub::{Checked, Hub, HubError, Origin, Pulled, Retry, Settings};
use server::{COMMIT, Repo, Request, Server, answer, git_sha1, noise, sha256, whole};

fn pull(address: &str, cache: &Path, source: &str) -> Result<Pulled, HubError> {
    let settings = Settings {
        endpoint: address.into(),
        token: None,
        cache: cache.into(),
        offline: false,
        timeout: Duration::from_millis(400),
        retry: Retry { attempts: 3, pause: Duration::from_millis(1), longest: Duration::from_millis(20) },
        proxies: false,
    };
    Hub::new(settings).unwrap().pull(&source.parse().unwrap(), &mut |_| {})
}

/// The error of a pull of `org/name:x.json` from a server that does this; there is no blob afterwards.
#[track_caller]
fn error_of(handler: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> (HubError, Vec<Request>) {
    let outside = tempfile::tempdir().unwrap();
    let cache = outside.path().join("cache");
    let server = Server::start(handler);
    let start = Instant::now();
    let error = pull(&server.address, &cache, "org/name:x.json").unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10), "{error}");
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    };
    assert!(names(&cache.join("models--org--name/blobs")).iter().all(|n| n.ends_with(".incomplete")), "{error}");
    assert!(names(&cache.join("models--org--name/snapshots")).is_empty());
    assert!(names(outside.path()).iter().all(|n| n == "cache"), "{:?}", names(outside.path()));
    assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
    (error, server.seen())
}

/// A handler that describes `x.json` as these bytes and leaves GET to `get`.
fn described(
    bytes: Vec<u8>,
    get: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static,
) -> impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static {
    move |request, stream| match request.method.as_str() {
        "HEAD" => {
            let etag = format!("\"{}\"", git_sha1(&bytes));
            whole(request, stream, "200 OK", &[("ETag", &etag), ("X-Repo-Commit", COMMIT)], &bytes);
        }
        _ => get(request, stream),
    }
}

#[test]
fn refusals_are_explained_and_not_repeated() {
    for (status, code, why) in [
        ("401 Unauthorized", "RepoNotFound", "HF_TOKEN"),
        ("401 Unauthorized", "GatedRepo", "terms must be accepted"),
        ("403 Forbidden", "GatedRepo", "terms must be accepted"),
        ("403 Forbidden", "", "not allowed"),
        ("404 Not Found", "EntryNotFound", "no such file"),
        ("404 Not Found", "RevisionNotFound", "no such revision"),
        ("404 Not Found", "", "no such repository, revision or file"),
        ("410 Gone", "", "Gone"),
        ("418 I'm a teapot", "", "teapot"),
        ("100000 Absurd", "", "failed"),
    ] {
        let (error, seen) = error_of(move |request, stream| {
            whole(request, stream, status, &[("X-Error-Code", code), ("X-Error-Message", "said so")], b"no");
        });
        let text = error.to_string();
        assert!(text.contains(why), "{status} {code}: {text}");
        if let HubError::Refused { status: found, .. } = error {
            assert_eq!(found.to_string(), status[..3]);
            assert!(text.contains("said so") && seen.len() == 1, "{text}: {seen:?}");
        }
    }
}

#[test]
fn what_may_pass_is_tried_again_a_bounded_number_of_times() {
    for status in
        ["429 Too Many Requests", "500 Internal Server Error", "502 Bad Gateway", "503 No", "504 No", "408 No"]
    {
        let (error, seen) = error_of(move |request, stream| {
            whole(request, stream, status, &[("Retry-After", "1000000000000")], b"");
        });
        assert!(matches!(error, HubError::GivenUp { attempts: 3, .. }), "{error}");
        assert!(error.to_string().contains(&status[..3]), "{error}");
        assert_eq!(seen.len(), 3);
    }
    let cache = tempfile::tempdir().unwrap();
    let repo = Repo::new(&[("x.json", b"{}")]);
    let server = Server::start(move |request, stream| match request.nth {
        0 | 2 => whole(request, stream, "503 Service Unavailable", &[], b""),
        _ => repo.serve(request, stream),
    });
    assert_eq!(fs::read(pull(&server.address, cache.path(), "org/name:x.json").unwrap().path).unwrap(), b"{}");
}

#[test]
fn nobody_listens() {
    let cache = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = pull(&address, cache.path(), "org/name").unwrap_err();
    assert!(matches!(error, HubError::GivenUp { attempts: 3, .. }), "{error}");
}

#[test]
fn redirects_in_circles_end() {
    let (error, seen) = error_of(|request, stream| {
        whole(request, stream, "302 Found", &[("Location", &request.path)], b"");
    });
    assert!(matches!(error, HubError::Redirect { .. }) && error.to_string().contains("more than 10"), "{error}");
    assert_eq!(seen.len(), 11);
}

#[test]
fn redirects_to_nowhere_are_refused() {
    let locations: [&[(&str, &str)]; 7] = [
        &[],
        &[("Location", "")],
        &[("Location", "file:///etc/passwd")],
        &[("Location", "gopher://x/")],
        &[("Location", "http://")],
        &[("Location", "http://user:password@127.0.0.1/")],
        &[("Location", "http://[::bad/")],
    ];
    for headers in locations {
        let (error, seen) = error_of(move |request, stream| whole(request, stream, "302 Found", headers, b""));
        assert!(matches!(error, HubError::Redirect { .. }), "{headers:?}: {error}");
        assert_eq!(seen.len(), 1);
    }
}

#[test]
fn silence_is_not_waited_for_without_end() {
    let silent = |_: &Request, _: &mut TcpStream| std::thread::sleep(Duration::from_secs(3));
    let (error, seen) = error_of(silent);
    assert!(error.to_string().contains("silent") && seen.len() == 3, "{error}");
    // In the middle of the headers, and in the middle of the file.
    let (error, _) = error_of(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nETag: ");
        std::thread::sleep(Duration::from_secs(3));
    });
    assert!(matches!(error, HubError::GivenUp { .. }), "{error}");
    let (error, seen) = error_of(described(vec![1; 100], |_, stream| {
        answer(stream, "200 OK", &[("Content-Length", "100")], b"");
        std::thread::sleep(Duration::from_secs(3));
    }));
    assert!(matches!(error, HubError::GivenUp { .. }) && seen.len() == 4, "{error}");
}

#[test]
fn lies_about_the_length_are_noticed() {
    let bytes = noise(1000);
    // Promises too little, too much, nonsense; sends too much without a promise.
    for (announced, sent) in [("999", 999), ("1001", 1001), ("18446744073709551616", 1000), ("-5", 1000), ("x", 1000)] {
        let body = [bytes.clone(), vec![0]].concat()[..sent].to_vec();
        let get = move |_: &Request, stream: &mut TcpStream| {
            answer(stream, "200 OK", &[("Content-Length", announced)], &body);
        };
        let (error, _) = error_of(described(bytes.clone(), get));
        assert!(matches!(error, HubError::GivenUp { .. } | HubError::Answer { .. }), "{announced}: {error}");
    }
    let longer = [bytes.clone(), vec![0; 5]].concat();
    let (error, _) = error_of(described(bytes.clone(), move |_, stream| answer(stream, "200 OK", &[], &longer)));
    assert!(matches!(error, HubError::Corrupt { kind: "length", .. }), "{error}");
    let shorter = bytes[..500].to_vec();
    let (error, _) = error_of(described(bytes, move |request, stream| {
        if request.start() == 0 { answer(stream, "200 OK", &[], &shorter) } else { answer(stream, "500 No", &[], b"") }
    }));
    assert!(matches!(error, HubError::GivenUp { .. }), "{error}");
}

#[test]
fn wrong_bytes_are_noticed() {
    let bytes = noise(1000);
    let mut wrong = bytes.clone();
    wrong[500] ^= 1;
    let (error, _) = error_of(described(bytes, move |request, stream| whole(request, stream, "200 OK", &[], &wrong)));
    assert!(matches!(error, HubError::Corrupt { kind: "git SHA-1", .. }), "{error}");
}

#[test]
fn wrong_parts_are_noticed() {
    let bytes = noise(1000);
    for range in ["bytes 0-999/1000", "bytes 501-999/1000", "bytes 500-999/2000", "bytes x-y/z", "bytes 500-999", ""] {
        let sent = bytes.clone();
        let (error, seen) = error_of(described(bytes.clone(), move |request, stream| {
            if request.start() == 0 {
                return answer(stream, "200 OK", &[("Content-Length", "1000")], &sent[..500]);
            }
            whole(request, stream, "206 Partial Content", &[("Content-Range", range)], &sent[500..]);
        }));
        assert!(matches!(error, HubError::GivenUp { .. }), "{range}: {error}");
        assert!(seen.len() > 3, "the wrong part is thrown away and the file begun anew: {seen:?}");
    }
    // A part that nobody asked for.
    let (error, _) = error_of(described(bytes.clone(), move |request, stream| {
        whole(request, stream, "206 Partial Content", &[("Content-Range", "bytes 10-999/1000")], &bytes[10..]);
    }));
    assert!(matches!(error, HubError::GivenUp { .. }), "{error}");
}

#[test]
fn a_server_that_starts_over_and_breaks_each_time_is_given_up() {
    let bytes = noise(1000);
    let (error, seen) = error_of(described(bytes.clone(), move |_, stream| {
        answer(stream, "200 OK", &[("Content-Length", "1000")], &bytes[..400]);
    }));
    assert!(matches!(error, HubError::GivenUp { .. }), "{error}");
    assert!(seen.len() < 10, "{}", seen.len());
}

#[test]
fn absurd_answers_are_errors() {
    let absurd: [&[u8]; 12] = [
        b"",
        b"\0\0\0\0",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nNo colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nETag: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nETag: \"\"\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\nETag: \"a\"\r\n\r\n{}x",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"a\"\r\nX-Repo-Commit: c\r\n\r\nzz\r\n",
        b"HTTP/1.1 204 No Content\r\nETag: \"a\"\r\nX-Repo-Commit: c\r\n\r\n",
    ];
    for bytes in absurd {
        error_of(move |_, stream| {
            let _ = stream.write_all(bytes);
        });
    }
    // Headers without end.
    error_of(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"X-Header: and another one and another one and another one\r\n").is_ok() {}
    });
}

#[test]
fn a_list_that_leaves_the_folder_or_is_none_is_refused() {
    for list in [
        r#"{"sha": "abc", "siblings": [{"rfilename": "../../../evil.safetensors"}]}"#,
        r#"{"sha": "../../evil", "siblings": [{"rfilename": "model.safetensors"}]}"#,
        r#"{"sha": "abc", "siblings": [{"rfilename": "/evil.safetensors"}]}"#,
        "<html>not a hub</html>",
        "",
        "\u{1b}[2J",
    ] {
        let outside = tempfile::tempdir().unwrap();
        let server = Server::start(move |request, stream| whole(request, stream, "200 OK", &[], list.as_bytes()));
        let error = pull(&server.address, &outside.path().join("cache"), "org/name").unwrap_err();
        assert!(matches!(error, HubError::Answer { .. }), "{list}: {error}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "nothing is made");
    }
    // An index whose shards leave the folder.
    let cache = tempfile::tempdir().unwrap();
    let index = br#"{"weight_map": {"x": "../../../../evil.safetensors"}}"#;
    let repo = Repo::new(&[("model.safetensors.index.json", index)]);
    let server = Server::start(move |request, stream| repo.serve(request, stream));
    let error = pull(&server.address, cache.path(), "org/name").unwrap_err().to_string();
    assert!(error.contains("leaves its folder"), "{error}");
}

#[test]
fn a_list_without_end_is_cut_off() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|_, stream| {
        answer(stream, "200 OK", &[], b"[");
        let block = vec![b' '; 1 << 20];
        while stream.write_all(&block).is_ok() {}
    });
    let error = pull(&server.address, cache.path(), "org/name").unwrap_err();
    assert!(error.to_string().contains("longer than 32 MiB"), "{error}");
}

#[test]
fn an_etag_or_commit_that_names_another_place_stays_in_the_cache() {
    let outside = tempfile::tempdir().unwrap();
    let cache = outside.path().join("cache");
    let server = Server::start(|request, stream| {
        if request.path.starts_with("/api/") {
            return whole(request, stream, "200 OK", &[], br#"{"sha": "abc", "siblings": []}"#);
        }
        let headers = [("ETag", "\"../../../evil\""), ("X-Repo-Commit", "../../../evil")];
        whole(request, stream, "200 OK", &headers, b"text");
    });
    let pulled = pull(&server.address, &cache, "org/name:x.json").unwrap();
    assert_eq!((pulled.commit.as_str(), fs::read(&pulled.path).unwrap()), ("abc", b"text".to_vec()));
    assert_eq!(pulled.files[0].origin, Origin::Downloaded { resumed: 0, checked: Checked::Length });
    assert!(cache.join("models--org--name/blobs").join(sha256(b"../../../evil")).is_file());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_server_without_head_or_without_lengths_will_do() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|request, stream| {
        if request.method == "HEAD" {
            return whole(request, stream, "405 Method Not Allowed", &[], b"");
        }
        let etag = format!("W/\"{}\"", git_sha1(b"some text"));
        let headers = [("ETag", etag.as_str()), ("X-Repo-Commit", COMMIT), ("Transfer-Encoding", "chunked")];
        answer(stream, "200 OK", &headers, b"4\r\nsome\r\n5\r\n text\r\n0\r\n\r\n");
    });
    let pulled = pull(&server.address, cache.path(), "org/name:x.json").unwrap();
    assert_eq!(fs::read(&pulled.path).unwrap(), b"some text");
    assert_eq!(pulled.files[0].origin, Origin::Downloaded { resumed: 0, checked: Checked::GitSha1 });
}

#[test]
fn a_blob_of_the_wrong_length_is_replaced() {
    let cache = tempfile::tempdir().unwrap();
    let repo = Repo::new(&[("x.json", b"right")]);
    let server = Server::start(move |request, stream| repo.serve(request, stream));
    let blobs = cache.path().join("models--org--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(git_sha1(b"right")), "wrong one").unwrap();
    assert_eq!(fs::read(pull(&server.address, cache.path(), "org/name:x.json").unwrap().path).unwrap(), b"right");
}
