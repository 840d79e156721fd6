//! A web server on this machine that does what a test tells it to, however wrong, and remembers what it was asked.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use sha1::{Digest, Sha1};
use sha2::Sha256;

/// A request, without its body.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// How many requests came before it.
    pub nth: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte asked for, 0 if not a part is asked for.
    pub fn start(&self) -> usize {
        let range = self.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-'));
        range.map_or(0, |n| n.parse().unwrap())
    }
}

/// What a server does with a request; the connection is closed after it.
type Handler = dyn Fn(&Request, &mut TcpStream) + Send + Sync;

pub struct Server {
    pub address: String,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub fn start(handler: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let handler: Arc<Handler> = Arc::new(handler);
        let (log, stopped) = (seen.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(mut stream), log, handler) = (stream, log.clone(), handler.clone()) else { continue };
                std::thread::spawn(move || {
                    let Some(mut request) = read(&stream) else { return };
                    {
                        let mut log = log.lock().unwrap();
                        request.nth = log.len();
                        log.push(request.clone());
                    }
                    handler(&request, &mut stream);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Server { address, seen, stop }
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests so far whose path ends so, as `METHOD start`.
    pub fn seen_of(&self, ending: &str) -> Vec<String> {
        let of = |r: &&Request| r.path.ends_with(ending);
        self.seen().iter().filter(of).map(|r| format!("{} {}", r.method, r.start())).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, so that its thread ends.
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_owned()),
            None => return Some(Request { method, path, headers, nth: 0 }),
        };
    }
}

/// Writes an answer with these headers as they are; nothing but `body` after them.
pub fn answer(stream: &mut TcpStream, status: &str, headers: &[(&str, &str)], body: &[u8]) {
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    // The client may have gone, which is its right.
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.write_all(body));
}

/// Writes an answer with the length of its body; `HEAD` gets the length alone.
pub fn whole(request: &Request, stream: &mut TcpStream, status: &str, headers: &[(&str, &str)], body: &[u8]) {
    let length = body.len().to_string();
    let headers = [headers, &[("Content-Length", &length)]].concat();
    answer(stream, status, &headers, if request.method == "HEAD" { b"" } else { body });
}

pub const COMMIT: &str = "00112233445566778899aabbccddeeff00112233";

/// The files of one repository, `org/name`, as the Hub serves them: small ones directly, large ones (`.safetensors`,
/// `.gguf`) by a redirect to `storage`.
#[derive(Clone)]
pub struct Repo {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Where large files lie, as `http://host`; this server if empty.
    pub storage: String,
}

impl Repo {
    pub fn new(files: &[(&str, &[u8])]) -> Repo {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        Repo { files, storage: String::new() }
    }

    /// Does what the Hub does.
    pub fn serve(&self, request: &Request, stream: &mut TcpStream) {
        if request.path.starts_with("/api/models/org/name/revision/") {
            let siblings: Vec<String> = self.files.keys().map(|f| format!("{{\"rfilename\": \"{f}\"}}")).collect();
            let json = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", siblings.join(", "));
            return whole(request, stream, "200 OK", &[], json.as_bytes());
        }
        if let Some(name) = request.path.strip_prefix("/storage/") {
            return part(request, stream, &[("ETag", "\"of-the-storage\"")], &self.files[name]);
        }
        let file = [COMMIT, "main"].iter().find_map(|r| request.path.strip_prefix(&format!("/org/name/resolve/{r}/")));
        let Some((name, bytes)) = file.and_then(|f| self.files.get_key_value(f)) else {
            return whole(request, stream, "404 Not Found", &[("X-Error-Code", "EntryNotFound")], b"");
        };
        if name.ends_with(".safetensors") || name.ends_with(".gguf") {
            let (etag, size) = (format!("\"{}\"", sha256(bytes)), bytes.len().to_string());
            let location = format!("{}/storage/{name}", self.storage);
            let headers = [
                ("X-Repo-Commit", COMMIT),
                ("X-Linked-Etag", &etag),
                ("X-Linked-Size", &size),
                ("Location", &location),
            ];
            return whole(request, stream, "302 Found", &headers, b"Found. Redirecting");
        }
        part(request, stream, &[("X-Repo-Commit", COMMIT), ("ETag", &format!("\"{}\"", git_sha1(bytes)))], bytes);
    }
}

/// Writes the part that is asked for.
pub fn part(request: &Request, stream: &mut TcpStream, headers: &[(&str, &str)], bytes: &[u8]) {
    let start = request.start();
    if request.header("range").is_none() {
        return whole(request, stream, "200 OK", headers, bytes);
    }
    if start >= bytes.len() {
        return whole(request, stream, "416 Range Not Satisfiable", headers, b"");
    }
    let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
    let headers = [headers, &[("Content-Range", &range)]].concat();
    whole(request, stream, "206 Partial Content", &headers, &bytes[start..]);
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

pub fn git_sha1(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// Bytes that are the same nowhere.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(len)
    .collect()
}
