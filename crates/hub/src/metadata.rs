//! What a hub tells about a revision and about a file.

use serde::Deserialize;
use tracing::debug;
use ureq::http::Method;

use crate::HubError;
use crate::check::sha256_of;
use crate::error::shown;
use crate::http::{Answer, Failure, Http};
use crate::name::{check_path, is_plain};

/// Most files a revision may have.
const MOST_FILES: usize = 100_000;

/// A revision: its commit and its files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub commit: String,
    pub files: Vec<String>,
}

/// A file as the hub describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// Its etag without quotes.
    pub etag: String,
    /// The commit it was found in.
    pub commit: Option<String>,
    /// Its length in bytes.
    pub size: Option<u64>,
}

impl Metadata {
    /// The file's name among the blobs: its etag, as Python names it, unless that could name something else.
    pub fn blob_name(&self) -> String {
        if is_plain(&self.etag) { self.etag.clone() } else { sha256_of(&self.etag) }
    }
}

#[derive(Deserialize)]
struct Info {
    sha: Option<String>,
    siblings: Option<Vec<Sibling>>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// Asks for a revision's commit and files.
pub(crate) fn listing(http: &Http, address: &str) -> Result<Listing, Failure> {
    let answer = http.ask(&Method::GET, address, &[], &mut |_, _| true)?;
    Ok(read_listing(address, &answer.text()?)?)
}

fn read_listing(address: &str, text: &str) -> Result<Listing, HubError> {
    let wrong = |reason: String| HubError::Answer { url: address.to_owned(), reason };
    let info: Info = serde_json::from_str(text).map_err(|e| wrong(format!("it is not the JSON of a model: {e}")))?;
    let commit = info.sha.filter(|sha| is_plain(sha)).ok_or_else(|| wrong("it names no commit (`sha`)".into()))?;
    let siblings = info.siblings.ok_or_else(|| wrong("it lists no files (`siblings`)".into()))?;
    if siblings.len() > MOST_FILES {
        return Err(wrong(format!("it lists more than {MOST_FILES} files")));
    }
    let mut files: Vec<String> = siblings.into_iter().map(|s| s.rfilename).collect();
    for file in &files {
        check_path(file).map_err(|reason| wrong(format!("it lists the file `{}`, which {reason}", shown(file))))?;
    }
    files.sort_unstable();
    files.dedup();
    Ok(Listing { commit, files })
}

/// Asks for a file's etag, length and commit, without its contents.
pub(crate) fn of_file(http: &Http, address: &str) -> Result<Metadata, Failure> {
    match head(http, &Method::HEAD, address) {
        // A server that knows no HEAD is asked with GET, and its answer's body is not read.
        Err(Failure::Fatal(HubError::Refused { status: 405 | 501, .. })) => head(http, &Method::GET, address),
        other => other,
    }
}

fn head(http: &Http, method: &Method, address: &str) -> Result<Metadata, Failure> {
    // The hub tells about a large file in the redirect to where it lies, not there; mirrors redirect to the hub first.
    let (mut etag, mut commit, mut size) = (None, None, None);
    let answer = http.ask(method, address, &[], &mut |redirect, _| {
        commit = commit.take().or_else(|| commit_of(redirect));
        etag = etag.take().or_else(|| etag_of(redirect, "x-linked-etag"));
        size = size.take().or_else(|| redirect.header("x-linked-size")?.trim().parse().ok());
        etag.is_none() || commit.is_none()
    })?;
    commit = commit.or_else(|| commit_of(&answer));
    etag = etag.or_else(|| etag_of(&answer, "x-linked-etag"));
    size = size.or_else(|| answer.header("x-linked-size")?.trim().parse().ok());
    if answer.status.is_success() {
        etag = etag.or_else(|| etag_of(&answer, "etag"));
        let plain = answer.header("content-encoding").is_none_or(|e| e == "identity");
        size = size.or_else(|| answer.header("content-length").filter(|_| plain)?.trim().parse().ok());
    }
    let missing = || HubError::Answer { url: address.to_owned(), reason: "it has no etag".into() };
    let etag = etag.ok_or_else(missing)?;
    debug!(%address, %etag, ?size, ?commit, "file found");
    Ok(Metadata { etag, commit, size })
}

fn commit_of(answer: &Answer) -> Option<String> {
    answer.header("x-repo-commit").map(str::trim).filter(|c| is_plain(c)).map(str::to_owned)
}

/// An etag without the mark of a weak one and without quotes.
pub(crate) fn etag_of(answer: &Answer, header: &str) -> Option<String> {
    let etag = answer.header(header)?.trim();
    let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
    (!etag.is_empty()).then(|| etag.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_listing_is_read_and_names_that_leave_the_folder_are_refused() {
        let text = r#"{"sha": "abc", "siblings": [{"rfilename": "b", "size": 3}, {"rfilename": "a/c"}, {"rfilename": "b"}], "x": 1}"#;
        let listing = read_listing("u", text).unwrap();
        assert_eq!(listing, Listing { commit: "abc".into(), files: vec!["a/c".into(), "b".into()] });
        for (text, why) in [
            ("", "JSON"),
            ("[]", "JSON"),
            ("{}", "sha"),
            (r#"{"sha": "../x", "siblings": []}"#, "sha"),
            (r#"{"sha": "abc"}"#, "siblings"),
            (r#"{"sha": "abc", "siblings": [{"rfilename": "../../.bashrc"}]}"#, "leaves its folder"),
            (r#"{"sha": "abc", "siblings": [{"rfilename": "/etc/passwd"}]}"#, "leaves its folder"),
            (r#"{"sha": "abc", "siblings": [{"rfilename": "a\\..\\b"}]}"#, "characters"),
            (r#"{"sha": "abc", "siblings": [{"rfilename": ""}]}"#, "empty"),
            (r#"{"sha": "abc", "siblings": [{"rfilename": 3}]}"#, "JSON"),
        ] {
            let error = read_listing("http://u", text).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("http://u"), "{text}: {error}");
        }
    }

    #[test]
    fn an_etag_that_could_name_another_file_does_not() {
        let blob = |etag: &str| Metadata { etag: etag.into(), commit: None, size: None }.blob_name();
        assert_eq!(blob("abc-12"), "abc-12");
        for etag in ["../../x", ".hidden", "a/b", "a\\b", &"a".repeat(200)] {
            assert_eq!(blob(etag), sha256_of(etag));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_listing_or_an_error(text in ".{0,60}") {
            let _ = read_listing("u", &text);
        }
    }
}
