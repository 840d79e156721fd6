//! One file, from what has come of it so far to its place among the blobs.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use tracing::debug;
use ureq::http::{Method, StatusCode};

use crate::check::{Checked, Running};
use crate::http::{Answer, Failure, Http};
use crate::metadata::{Metadata, etag_of};
use crate::{Event, HubError};

const BUFFER: usize = 1 << 18;

/// A file to get.
pub(crate) struct Job<'a> {
    pub http: &'a Http,
    /// Its name, for messages.
    pub file: &'a str,
    pub address: &'a str,
    pub metadata: &'a Metadata,
    /// Where it grows.
    pub part: PathBuf,
    /// Where it goes when it is whole and right.
    pub blob: PathBuf,
}

/// How a download ended without an error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// The blob is there.
    Whole {
        /// How many bytes were there from an earlier download.
        resumed: u64,
        checked: Checked,
        size: u64,
    },
    /// The server now has another file of this name.
    Changed,
}

/// What has come so far.
struct Growing<'a> {
    part: &'a Path,
    checked: Checked,
    size: Option<u64>,
    have: u64,
    /// The most that there ever was: a server that starts anew each time makes no progress.
    most: u64,
    running: Running,
    changed: bool,
}

impl Growing<'_> {
    /// Forgets everything.
    fn restart(&mut self) -> Result<(), HubError> {
        remove(self.part)?;
        self.have = 0;
        self.running = Running::new(self.checked, self.size);
        Ok(())
    }

    fn add(&mut self, file: &mut File, bytes: &[u8]) -> Result<(), HubError> {
        file.write_all(bytes).map_err(HubError::io(self.part, "write"))?;
        self.running.update(bytes);
        self.have += bytes.len() as u64;
        Ok(())
    }
}

impl Job<'_> {
    /// Gets the file: goes on where an earlier download stopped, as often as it takes, and compares what came with what
    /// the server had said. The caller holds the file's lock.
    pub fn run(&self, tell: &mut dyn FnMut(Event<'_>)) -> Result<Fetched, HubError> {
        let Metadata { etag, size, .. } = self.metadata;
        let (size, checked) = (*size, Checked::of(etag, *size));
        let mut growing = Growing {
            part: &self.part,
            checked,
            size,
            have: fs::metadata(&self.part).map_or(0, |m| m.len()),
            most: 0,
            running: Running::new(checked, size),
            changed: false,
        };
        if size.is_some_and(|size| growing.have > size) {
            growing.restart()?;
        }
        growing.have = match growing.have {
            0 => 0,
            len => growing.running.update_from(&self.part, len)?,
        };
        let resumed = growing.have;
        growing.most = resumed;
        tell(Event::File { name: self.file, size, have: resumed });
        // What is there may be all of it already.
        if size.is_none_or(|size| growing.have < size || size == 0) {
            let result = {
                let tell = std::cell::RefCell::new(&mut *tell);
                self.http.persist(
                    self.address,
                    &mut |reason, wait| (tell.borrow_mut())(Event::Retrying { reason, wait }),
                    &mut || {
                        let before = growing.most;
                        let result = self.attempt(&mut growing, &mut |have| (tell.borrow_mut())(Event::Bytes { have }));
                        growing.most = growing.most.max(growing.have);
                        result.map_err(|failure| (growing.most - before, failure))
                    },
                )
            };
            if growing.changed {
                growing.restart()?;
                return Ok(Fetched::Changed);
            }
            result?;
        }
        let have = growing.have;
        self.accept(growing)?;
        Ok(Fetched::Whole { resumed, checked, size: have })
    }

    /// One request. An error leaves what has come.
    fn attempt(&self, growing: &mut Growing<'_>, tell: &mut dyn FnMut(u64)) -> Result<(), Failure> {
        let range = (growing.have > 0).then(|| ("range", format!("bytes={}-", growing.have)));
        let headers: Vec<_> = range.into_iter().collect();
        let mut other = false;
        let is_other = |answer: &Answer, header| etag_of(answer, header).is_some_and(|e| e != self.metadata.etag);
        let answer = self.http.ask(&Method::GET, self.address, &headers, &mut |redirect, _| {
            other |= is_other(redirect, "x-linked-etag");
            !other
        });
        let answer = match answer {
            // The server has less than we have: what we have is not the beginning of its file.
            Err(Failure::Fatal(HubError::Refused { status: 416, .. })) if growing.have > 0 => {
                let failure = format!("the server cannot go on at byte {}", growing.have);
                growing.restart()?;
                return Err(Failure::transient(failure));
            }
            answer => answer?,
        };
        // The etag of the hub is the file's; that of a place it redirects to is of another kind.
        let direct = answer.uri == *self.address && answer.headers.get("x-linked-etag").is_none();
        if other || is_other(&answer, "x-linked-etag") || (direct && is_other(&answer, "etag")) {
            growing.changed = true;
            return Err(HubError::Changing { url: self.address.to_owned() }.into());
        }
        self.check_beginning(growing, &answer)?;
        self.check_length(growing, &answer)?;
        self.read_body(growing, answer, tell)
    }

    /// Whether the answer begins where what we have ends.
    fn check_beginning(&self, growing: &mut Growing<'_>, answer: &Answer) -> Result<(), Failure> {
        let have = growing.have;
        match answer.status {
            StatusCode::OK => {
                if have > 0 {
                    debug!(file = self.file, have, "the server sends the file from its beginning again");
                    growing.restart()?;
                }
                Ok(())
            }
            StatusCode::PARTIAL_CONTENT => {
                let range = answer.header("content-range").and_then(read_range);
                let right = |(start, total): (u64, Option<u64>)| {
                    start == have && (total.is_none() || growing.size.is_none() || total == growing.size)
                };
                if range.is_some_and(right) {
                    return Ok(());
                }
                growing.restart()?;
                Err(Failure::transient(format!("the server sent another part than the one from byte {have}")))
            }
            status => {
                let reason = format!("its status {} is not that of a file", status.as_u16());
                Err(HubError::Answer { url: self.address.to_owned(), reason }.into())
            }
        }
    }

    /// Whether the answer is as long as what is missing.
    fn check_length(&self, growing: &Growing<'_>, answer: &Answer) -> Result<(), Failure> {
        if answer.header("content-encoding").is_some_and(|e| !e.trim().eq_ignore_ascii_case("identity")) {
            let reason = "it is compressed, though that was not asked for".into();
            return Err(HubError::Answer { url: self.address.to_owned(), reason }.into());
        }
        let announced = answer.header("content-length").and_then(|v| v.trim().parse::<u64>().ok());
        match (announced, growing.size.map(|size| size - growing.have)) {
            (Some(announced), Some(missing)) if announced != missing => {
                Err(Failure::transient(format!("the server announced {announced} bytes, but {missing} are missing")))
            }
            _ => Ok(()),
        }
    }

    fn read_body(&self, growing: &mut Growing<'_>, answer: Answer, tell: &mut dyn FnMut(u64)) -> Result<(), Failure> {
        let file = OpenOptions::new().append(true).create(true).open(growing.part);
        let mut file = file.map_err(HubError::io(growing.part, "open"))?;
        let mut reader = answer.body.into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    let reason = crate::error::shown(&e.to_string());
                    return Err(Failure::transient(format!(
                        "the connection broke after byte {}: {reason}",
                        growing.have
                    )));
                }
            };
            if let Some(size) = growing.size.filter(|size| n as u64 > size - growing.have) {
                growing.restart()?;
                return Err(self.corrupt("length", size.to_string(), "more".into()).into());
            }
            growing.add(&mut file, &buffer[..n])?;
            tell(growing.have);
        }
        match growing.size {
            Some(size) if growing.have < size => {
                Err(Failure::transient(format!("the connection closed after {} of {size} bytes", growing.have)))
            }
            _ => Ok(()),
        }
    }

    /// Moves the whole file to its place if it is what the server had said; deletes it if not.
    fn accept(&self, growing: Growing<'_>) -> Result<(), HubError> {
        let Growing { part, checked, have, running, .. } = growing;
        let found = running.finish(checked, part, have)?;
        if let Some(found) = found
            && found != self.metadata.etag
        {
            remove(part)?;
            return Err(self.corrupt(checked.name(), self.metadata.etag.clone(), found));
        }
        let file = File::open(part).map_err(HubError::io(part, "open"))?;
        file.sync_all().map_err(HubError::io(part, "write"))?;
        drop(file);
        fs::rename(part, &self.blob).map_err(HubError::io(&self.blob, "make the file"))
    }

    fn corrupt(&self, kind: &'static str, expected: String, found: String) -> HubError {
        HubError::Corrupt { file: self.file.to_owned(), url: self.address.to_owned(), kind, expected, found }
    }
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> Result<(), HubError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(HubError::io(path, "delete")(error)),
        _ => Ok(()),
    }
}

/// First byte and the file's length of `bytes 5-9/20`; the length may be `*`.
fn read_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    (start <= end && total.is_none_or(|total| end < total)).then_some((start, total))
}

#[cfg(test)]
mod tests {
    use super::read_range;

    #[test]
    fn ranges_are_read_or_refused() {
        assert_eq!(read_range("bytes 5-9/20"), Some((5, Some(20))));
        assert_eq!(read_range("bytes 5-9/*"), Some((5, None)));
        for wrong in
            ["", "bytes", "bytes */20", "bytes 9-5/20", "bytes 5-20/20", "items 5-9/20", "bytes 5-9", "bytes -1-9/20"]
        {
            assert_eq!(read_range(wrong), None, "{wrong}");
        }
    }
}
