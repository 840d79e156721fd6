//! Requests: the client, the token that goes to no other server, redirects, and trying again.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use tracing::debug;
use ureq::http::{HeaderMap, Method, Request, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

use crate::error::shown;
use crate::settings::{Retry, Settings, Token};
use crate::{HubError, url};

/// Most redirects that are followed for one request.
const MOST_REDIRECTS: usize = 10;
/// Most bytes of an answer that is read into memory.
const MOST_TEXT: u64 = 32 << 20;
/// Most bytes of an answer's headers.
const MOST_HEADERS: usize = 64 << 10;

/// Why an attempt brought nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may work the next time.
    Transient {
        /// Completes a sentence that begins with "the attempt failed because".
        reason: String,
        /// How long the server asks to wait.
        wait: Option<Duration>,
    },
    /// It will not.
    Fatal(HubError),
}

impl Failure {
    pub fn transient(reason: impl Into<String>) -> Failure {
        Failure::Transient { reason: reason.into(), wait: None }
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Failure {
        Failure::Fatal(error)
    }
}

/// An answer whose body has not been read.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Body,
    /// Where it came from, after redirects.
    pub uri: Uri,
}

impl Answer {
    /// A header's value, if it is there and readable.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All of the body, which must be text and not too long.
    pub fn text(self) -> Result<String, Failure> {
        let address = url::shown(&self.uri);
        let mut bytes = Vec::new();
        let mut reader = self.body.into_with_config().limit(u64::MAX).reader().take(MOST_TEXT + 1);
        reader.read_to_end(&mut bytes).map_err(|e| Failure::transient(format!("the answer broke off: {e}")))?;
        let wrong = |reason: &str| HubError::Answer { url: address, reason: reason.into() };
        if bytes.len() as u64 > MOST_TEXT {
            return Err(wrong("it is longer than 32 MiB").into());
        }
        Ok(String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))?)
    }
}

/// Whether to go on from a redirect of `from` to `to`, given the redirect itself.
pub(crate) type Follow<'a> = &'a mut dyn FnMut(&Answer, &Uri) -> bool;

/// The client of one hub.
pub(crate) struct Http {
    agent: Agent,
    endpoint: Uri,
    token: Option<Token>,
    retry: Retry,
}

impl Http {
    pub fn new(settings: &Settings) -> Result<Http, HubError> {
        let endpoint = url::parse_endpoint(&settings.endpoint)
            .map_err(|reason| HubError::Answer { url: shown(&settings.endpoint), reason })?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("camelid/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(MOST_HEADERS)
            .timeout_resolve(Some(settings.timeout))
            .timeout_connect(Some(settings.timeout))
            .timeout_per_read(Some(settings.timeout))
            .timeout_per_write(Some(settings.timeout))
            // Headers that drip in byte by byte come to an end.
            .timeout_recv_response(Some(settings.timeout * 3))
            .tls_config(tls());
        if !settings.proxies {
            config = config.proxy(None);
        }
        let agent = config.build().new_agent();
        Ok(Http { agent, endpoint, token: settings.token.clone(), retry: settings.retry })
    }

    /// Asks `address` with these headers, follows redirects as `follow` says, and judges the status: an answer is a
    /// success, or a redirect that `follow` did not want.
    pub fn ask(
        &self,
        method: &Method,
        address: &str,
        headers: &[(&str, String)],
        follow: Follow<'_>,
    ) -> Result<Answer, Failure> {
        let redirect = |reason: String| HubError::Redirect { url: address.to_owned(), reason };
        let mut uri = url::parse(address).map_err(|reason| HubError::Answer { url: shown(address), reason })?;
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.send(method, &uri, headers)?;
            let location = match answer.status.as_u16() {
                301 | 302 | 303 | 307 | 308 => {
                    answer.headers.get("location").and_then(|v| std::str::from_utf8(v.as_bytes()).ok())
                }
                200..=299 => return Ok(answer),
                _ => return Err(self.refusal(address, answer)),
            };
            let location = location.ok_or_else(|| redirect("but does not say where to".into()))?;
            let next = url::resolve(&uri, location)
                .map_err(|reason| redirect(format!("but `{}` is no address: {reason}", shown(location))))?;
            if url::is_downgrade(&uri, &next) {
                return Err(redirect(format!("from https to {}, which is not encrypted", url::shown(&next))).into());
            }
            if !follow(&answer, &next) {
                return Ok(answer);
            }
            debug!(from = %url::shown(&uri), to = %url::shown(&next), "redirected");
            uri = next;
        }
        Err(redirect(format!("more than {MOST_REDIRECTS} times")).into())
    }

    fn send(&self, method: &Method, uri: &Uri, headers: &[(&str, String)]) -> Result<Answer, Failure> {
        // What is compressed on the way has another length than the file.
        let mut request = Request::builder().method(method).uri(uri).header("accept-encoding", "identity");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        // The token is for the hub alone: not for where it redirects to.
        if let Some(token) = self.token.as_ref().filter(|_| url::same_origin(uri, &self.endpoint)) {
            request = request.header("authorization", token.header());
        }
        let cannot = |reason: String| HubError::Answer { url: url::shown(uri), reason };
        let request = request.body(()).map_err(|e| cannot(e.to_string()))?;
        let response = self.agent.run(request).map_err(|error| classify(uri, error))?;
        let (parts, body) = response.into_parts();
        Ok(Answer { status: parts.status, headers: parts.headers, body, uri: uri.clone() })
    }

    /// What a status that is no success means.
    fn refusal(&self, address: &str, answer: Answer) -> Failure {
        let status = answer.status.as_u16();
        let code = answer.header("x-error-code").unwrap_or_default().to_owned();
        let said = answer.header("x-error-message").map(shown).unwrap_or_default();
        if matches!(status, 408 | 425 | 429 | 500..=599) {
            let name = answer.status.canonical_reason().unwrap_or("an error of the server");
            let wait = answer.header("retry-after").and_then(retry_after);
            return Failure::Transient { reason: format!("the server answered {status} ({name})"), wait };
        }
        let access = match &self.token {
            None => "set HF_TOKEN to a token that may read it",
            Some(_) => "the token in use may not read it, or is not valid",
        };
        let meaning = match (status, code.as_str()) {
            (404, "EntryNotFound") => "the repository has no such file in this revision".into(),
            (404, "RevisionNotFound") => "the repository has no such revision".into(),
            (_, "GatedRepo") => format!("the model's terms must be accepted on its page first; then {access}"),
            (401 | 404, "RepoNotFound") | (401, _) => {
                format!("there is no such repository, or it is private: {access}")
            }
            (403, _) => format!("access is not allowed: {access}"),
            (404, _) => "there is no such repository, revision or file".into(),
            (407, _) => "the proxy wants a name and password".into(),
            _ => answer.status.canonical_reason().unwrap_or("an answer that is not expected here").into(),
        };
        let reason = if said.is_empty() { meaning } else { format!("{meaning} ({said})") };
        Failure::Fatal(HubError::Refused { url: address.to_owned(), status, reason })
    }

    /// Does `attempt` until it succeeds, fails for good, or has failed too often in a row. `attempt` tells how many new
    /// bytes it brought before it failed; `failed` hears of every pause.
    pub fn persist<T>(
        &self,
        address: &str,
        failed: &mut dyn FnMut(&str, Duration),
        attempt: &mut dyn FnMut() -> Result<T, (u64, Failure)>,
    ) -> Result<T, HubError> {
        // A server that always breaks off after a few bytes ends too.
        let most_in_all = self.retry.attempts.saturating_mul(50);
        let (mut in_all, mut in_a_row) = (0u32, 0u32);
        loop {
            let (progress, failure) = match attempt() {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let (reason, asked) = match failure {
                Failure::Fatal(error) => return Err(error),
                Failure::Transient { reason, wait } => (reason, wait),
            };
            in_all += 1;
            in_a_row = if progress > 0 { 1 } else { in_a_row + 1 };
            if in_a_row >= self.retry.attempts || in_all >= most_in_all {
                return Err(HubError::GivenUp { url: address.to_owned(), attempts: in_all, reason });
            }
            let doubled = self.retry.pause.saturating_mul(1 << (in_a_row - 1).min(16));
            let wait = asked.unwrap_or(doubled).max(self.retry.pause).min(self.retry.longest);
            debug!(%address, %reason, ?wait, "trying again");
            failed(&reason, wait);
            std::thread::sleep(wait);
        }
    }
}

/// TLS with the certificates that this system trusts, those of `SSL_CERT_FILE` if it is set.
fn tls() -> TlsConfig {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        debug!(%error, "a certificate of the system cannot be read");
    }
    if found.certs.is_empty() {
        tracing::warn!("this system has no certificates that can be read: https will fail (SSL_CERT_FILE names some)");
    }
    let roots: Vec<_> = found.certs.iter().map(|c| Certificate::from_der(c.as_ref()).to_owned()).collect();
    TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots))
        .build()
}

/// Whether an error of the connection may be gone the next time.
fn classify(uri: &Uri, error: ureq::Error) -> Failure {
    use ureq::Error as E;
    let address = url::shown(uri);
    match error {
        E::Timeout(which) => Failure::transient(format!("the server was silent for too long ({which})")),
        E::HostNotFound => Failure::transient(format!("there is no server {}", uri.host().unwrap_or_default())),
        // A certificate does not get better by asking again.
        E::Rustls(_) | E::Tls(_) | E::TlsRequired | E::Pem(_) => {
            HubError::Answer { url: address, reason: format!("the connection cannot be encrypted: {error}") }.into()
        }
        E::BadUri(_) | E::InvalidProxyUrl | E::Http(_) | E::LargeResponseHeader(..) => {
            HubError::Answer { url: address, reason: shown(&error.to_string()) }.into()
        }
        other => Failure::transient(format!("the connection failed: {}", shown(&other.to_string()))),
    }
}

/// The pause that a `Retry-After` header asks for in seconds. A date is not understood: the usual pause is made.
fn retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}
