//! Addresses: of a hub's files, and where a redirect leads.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::Uri;
use ureq::http::uri::Scheme;

/// What Python's `quote(text, safe="")` leaves as it is; `/` too in paths.
const WORD: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &WORD.remove(b'/');
/// What a redirect's address may hold though it should be quoted.
const LAX: &AsciiSet =
    &percent_encoding::CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}');

/// The address of a file.
pub(crate) fn file(endpoint: &str, repo: &str, revision: &str, path: &str) -> String {
    let revision = utf8_percent_encode(revision, WORD);
    format!("{endpoint}/{repo}/resolve/{revision}/{}", utf8_percent_encode(path, PATH))
}

/// The address of what the hub tells about a revision.
pub(crate) fn info(endpoint: &str, repo: &str, revision: &str) -> String {
    format!("{endpoint}/api/models/{repo}/revision/{}", utf8_percent_encode(revision, WORD))
}

/// An address of a hub: a scheme, a host, perhaps a port and a path, and nothing else.
pub(crate) fn parse_endpoint(text: &str) -> Result<Uri, String> {
    let uri = parse(text)?;
    if uri.query().is_some() {
        return Err("it has a query".into());
    }
    Ok(uri)
}

/// An absolute address of the web, without a user's name in it.
pub(crate) fn parse(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|e| format!("it cannot be read: {e}"))?;
    if ![Some("http"), Some("https")].contains(&uri.scheme_str()) {
        return Err("it is not an http or https address".into());
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err("it has no host".into());
    }
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err("it has a user's name in it".into());
    }
    Ok(uri)
}

/// Where `location` in an answer of `base` leads.
pub(crate) fn resolve(base: &Uri, location: &str) -> Result<Uri, String> {
    let location = location.split('#').next().unwrap_or_default();
    if location.is_empty() {
        return Err("it is empty".into());
    }
    if location.chars().any(char::is_control) {
        return Err("it has control characters".into());
    }
    let location = &*utf8_percent_encode(location, LAX).to_string();
    let scheme = base.scheme_str().unwrap_or("https");
    let authority = base.authority().map_or("", |a| a.as_str());
    let path = base.path();
    let absolute = if location.contains("://") && !location.starts_with(['/', '?']) {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{path}{location}")
    } else {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    parse(&absolute)
}

/// Whether two addresses are the same server's, so that what one may know the other may.
pub(crate) fn same_origin(a: &Uri, b: &Uri) -> bool {
    let host = |u: &Uri| u.host().map(str::to_ascii_lowercase);
    let port = |u: &Uri| u.port_u16().unwrap_or(if u.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
    a.scheme() == b.scheme() && host(a) == host(b) && port(a) == port(b)
}

/// Whether going from `a` to `b` gives up encryption.
pub(crate) fn is_downgrade(a: &Uri, b: &Uri) -> bool {
    a.scheme() == Some(&Scheme::HTTPS) && b.scheme() != Some(&Scheme::HTTPS)
}

/// An address for people and logs: without its query, which may hold a signature.
pub(crate) fn shown(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |a| a.as_str());
    format!("{}://{authority}{}", uri.scheme_str().unwrap_or_default(), uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_python_quotes_them() {
        assert_eq!(
            file("https://h", "a/b", "refs/pr/1", "sub/ü 1.gguf"),
            "https://h/a/b/resolve/refs%2Fpr%2F1/sub/%C3%BC%201.gguf"
        );
        assert_eq!(info("https://h", "a/b", "v1~x"), "https://h/api/models/a/b/revision/v1~x");
    }

    #[test]
    fn a_redirect_leads_where_the_standard_says() {
        let base = parse("https://h:8443/a/b/c?q=1").unwrap();
        for (location, leads) in [
            ("https://other/x?s=1#f", "https://other/x?s=1"),
            ("//other/x", "https://other/x"),
            ("/x/y", "https://h:8443/x/y"),
            ("d", "https://h:8443/a/b/d"),
            ("?z", "https://h:8443/a/b/c?z"),
            ("/x?to=http://y", "https://h:8443/x?to=http://y"),
            ("/ü %20{}", "https://h:8443/%C3%BC%20%20%7B%7D"),
        ] {
            assert_eq!(resolve(&base, location).unwrap().to_string(), leads);
        }
        for wrong in ["", "#x", "ftp://h/x", "http://", "file:///etc/passwd", "https://u:p@h/", "http://h/\u{1}"] {
            assert!(resolve(&base, wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_the_same_server_is_the_same() {
        let same = |a, b| same_origin(&parse(a).unwrap(), &parse(b).unwrap());
        assert!(same("https://H/x", "https://h:443/y") && same("http://h:80/", "http://h/"));
        assert!(!same("https://h/", "http://h/") && !same("https://h/", "https://h.evil/"));
        assert!(!same("http://h:1/", "http://h:2/"));
        assert!(is_downgrade(&parse("https://h/").unwrap(), &parse("http://h/").unwrap()));
    }
}
