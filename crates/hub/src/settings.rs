//! Settings from the environment, by the names and rules of huggingface_hub.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::HubError;

/// The Hub itself.
const ENDPOINT: &str = "https://huggingface.co";
/// How long a server may say nothing.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where models come from and where they go.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address of the hub, without a `/` at its end.
    pub endpoint: String,
    /// Who asks.
    pub token: Option<Token>,
    /// Folder of the cache.
    pub cache: PathBuf,
    /// Whether no connection may be opened.
    pub offline: bool,
    /// How long a connection may take, and a server may say nothing.
    pub timeout: Duration,
    /// How often and how soon to try again.
    pub retry: Retry,
    /// Whether the proxies of the environment (`HTTPS_PROXY`, `NO_PROXY`, ...) are used.
    pub proxies: bool,
}

/// How often and how soon to try again what may work the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in a row that bring nothing new; 1 is no second try.
    pub attempts: u32,
    /// Pause after the first; each that follows is twice as long.
    pub pause: Duration,
    /// The longest pause, whatever a server asks for.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { attempts: 6, pause: Duration::from_millis(500), longest: Duration::from_secs(60) }
    }
}

/// A secret that says who asks. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token from the text of a file or a variable; `None` if that is blank.
    ///
    /// # Errors
    /// [`HubError::Setting`] for what cannot stand in a request.
    pub fn new(text: &str) -> Result<Option<Token>, HubError> {
        let text = text.trim();
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(HubError::Setting {
                name: "HF_TOKEN",
                found: "(not shown)".into(),
                rule: "be one word of ASCII characters",
            });
        }
        Ok((!text.is_empty()).then(|| Token(text.into())))
    }

    /// The value of the header that carries it.
    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Settings {
    /// The settings of this process's environment.
    ///
    /// # Errors
    /// [`HubError::Setting`] for a variable whose value makes no sense, and for an environment without a home folder.
    pub fn from_env() -> Result<Settings, HubError> {
        Settings::from_lookup(&|name| std::env::var_os(name))
    }

    /// The settings of an environment that `get` reads. A variable that is empty counts as not set.
    ///
    /// The cache is `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `hub` in `HF_HOME`, or `huggingface/hub` in `XDG_CACHE_HOME` or
    /// in `~/.cache`. The token is `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, or what the file `HF_TOKEN_PATH`, `token` in
    /// `HF_HOME`, holds; the file is not read if `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set. `HF_ENDPOINT` is the address,
    /// `HF_HUB_OFFLINE` forbids connections, `HF_HUB_DOWNLOAD_TIMEOUT` is in seconds.
    ///
    /// # Errors
    /// As [`Settings::from_env`].
    pub fn from_lookup(get: &dyn Fn(&str) -> Option<OsString>) -> Result<Settings, HubError> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let text = |name: &'static str, rule: &'static str| match get(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(text)) => Err(HubError::Setting { name, found: text.to_string_lossy().into_owned(), rule }),
        };
        let flag = |name| get(name).is_some_and(|v| is_true(&v.to_string_lossy()));

        let endpoint = text("HF_ENDPOINT", "be an address")?.unwrap_or_else(|| ENDPOINT.into());
        let rule = "be an address such as https://huggingface.co";
        crate::url::parse_endpoint(&endpoint).map_err(|_| HubError::Setting {
            name: "HF_ENDPOINT",
            found: endpoint.clone(),
            rule,
        })?;

        let home = home_of(&get)?;
        let cache = get("HF_HUB_CACHE").or_else(|| get("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.map_or_else(|| home.join("hub"), |path| expand(path.into(), &get));

        let rule = "be one word of ASCII characters";
        let given = match text("HF_TOKEN", rule)? {
            Some(token) => Some(token),
            None => text("HUGGING_FACE_HUB_TOKEN", rule)?,
        };
        let token = match given {
            Some(token) => Token::new(&token)?,
            None if flag("HF_HUB_DISABLE_IMPLICIT_TOKEN") => None,
            None => {
                let file = get("HF_TOKEN_PATH").map_or_else(|| home.join("token"), |path| expand(path.into(), &get));
                fs::read_to_string(file).ok().map(|text| Token::new(&text)).transpose()?.flatten()
            }
        };
        let rule = "be a number of seconds from 1 to 86400";
        let timeout = match text("HF_HUB_DOWNLOAD_TIMEOUT", rule)? {
            None => TIMEOUT,
            Some(found) => match found.trim().parse::<u64>() {
                Ok(seconds @ 1..=86400) => Duration::from_secs(seconds),
                _ => return Err(HubError::Setting { name: "HF_HUB_DOWNLOAD_TIMEOUT", found, rule }),
            },
        };
        Ok(Settings {
            endpoint: endpoint.trim_end_matches('/').into(),
            token,
            cache,
            offline: flag("HF_HUB_OFFLINE") || flag("TRANSFORMERS_OFFLINE"),
            timeout,
            retry: Retry::default(),
            proxies: true,
        })
    }
}

/// huggingface_hub's idea of a variable that is on.
fn is_true(text: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&text.to_uppercase().as_str())
}

/// The folder of everything that is Hugging Face's.
fn home_of(get: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf, HubError> {
    if let Some(home) = get("HF_HOME") {
        return Ok(expand(home.into(), get));
    }
    if let Some(cache) = get("XDG_CACHE_HOME") {
        return Ok(expand(PathBuf::from(cache), get).join("huggingface"));
    }
    let home = get("HOME").or_else(|| get("USERPROFILE"));
    let rule = "name the folder for models where there is no home folder";
    let home = home.ok_or(HubError::Setting { name: "HF_HOME", found: String::new(), rule })?;
    Ok(PathBuf::from(home).join(".cache").join("huggingface"))
}

/// `~/` at the beginning is the home folder.
fn expand(path: PathBuf, get: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
    match (path.strip_prefix("~"), get("HOME").or_else(|| get("USERPROFILE"))) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, HubError> {
        Settings::from_lookup(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
    }

    #[test]
    fn the_cache_lies_where_python_looks_for_it() {
        for (variables, cache) in [
            (&[("HOME", "/h")][..], "/h/.cache/huggingface/hub"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/f")], "/h/f/hub"),
            (&[("HF_HOME", "/f"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
            (&[("HF_HOME", "/f"), ("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/c")], "/c"),
            (&[("HOME", "/h"), ("HF_HOME", "")], "/h/.cache/huggingface/hub"),
        ] {
            assert_eq!(settings(variables).unwrap().cache, PathBuf::from(cache), "{variables:?}");
        }
        assert!(settings(&[]).unwrap_err().to_string().contains("HF_HOME"));
    }

    #[test]
    fn the_token_comes_from_a_variable_or_a_file_and_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        fs::write(folder.path().join("other"), "hf_other").unwrap();
        let other = format!("{home}/other");
        let token = |variables: &[(&str, &str)]| settings(variables).unwrap().token.map(|t| t.0);
        assert_eq!(token(&[("HF_HOME", home)]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN_PATH", &other)]).as_deref(), Some("hf_other"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", " hf_env ")]).as_deref(), Some("hf_env"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        let shown = format!("{:?}", settings(&[("HF_HOME", home)]).unwrap());
        assert!(!shown.contains("hf_file"), "{shown}");
        let error = settings(&[("HF_HOME", home), ("HF_TOKEN", "two words")]).unwrap_err().to_string();
        assert!(error.contains("HF_TOKEN") && !error.contains("words"), "{error}");
    }

    #[test]
    fn addresses_flags_and_seconds_are_checked() {
        let with = |name, value| settings(&[("HOME", "/h"), (name, value)]);
        assert_eq!(with("HF_ENDPOINT", "http://mirror:8080/hub/").unwrap().endpoint, "http://mirror:8080/hub");
        assert_eq!(settings(&[("HOME", "/h")]).unwrap().endpoint, "https://huggingface.co");
        for wrong in ["mirror", "ftp://mirror", "http://", "http://a b", "https://h?x=1", "http://user:pw@host"] {
            assert!(with("HF_ENDPOINT", wrong).unwrap_err().to_string().contains("HF_ENDPOINT"), "{wrong}");
        }
        assert!(with("HF_HUB_OFFLINE", "yes").unwrap().offline && !with("HF_HUB_OFFLINE", "0").unwrap().offline);
        assert_eq!(with("HF_HUB_DOWNLOAD_TIMEOUT", "30").unwrap().timeout, Duration::from_secs(30));
        assert!(with("HF_HUB_DOWNLOAD_TIMEOUT", "-1").is_err());
    }
}
