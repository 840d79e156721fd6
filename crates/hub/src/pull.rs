//! [`Hub::pull`]: from a model's name to its files in the cache.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tracing::{debug, warn};

use crate::cache::{Cache, RepoCache};
use crate::check::Checked;
use crate::download::{Fetched, Job, remove};
use crate::http::Http;
use crate::lock::Lock;
use crate::metadata::{self, Listing, Metadata};
use crate::name::{RepoId, Source};
use crate::settings::Settings;
use crate::{HubError, select, url};

/// How often a file may change on the server while it is read.
const MOST_CHANGES: u32 = 3;

/// A hub of models and a cache for them.
pub struct Hub {
    settings: Settings,
    cache: Cache,
    /// `None` if no connection may be opened.
    http: Option<Http>,
}

/// What a pull does, for whoever watches.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A file is downloaded from here on.
    File {
        /// Its name in the repository.
        name: &'a str,
        /// Its length in bytes, if the server tells.
        size: Option<u64>,
        /// How many of them an earlier download left.
        have: u64,
    },
    /// This much of the file is here now; less than before if the server began anew.
    Bytes {
        /// Bytes of the file on disk.
        have: u64,
    },
    /// Something failed that is tried again after a pause.
    Retrying {
        /// Why: completes a sentence that ends in "because".
        reason: &'a str,
        /// The pause.
        wait: Duration,
    },
    /// Another process is downloading the same file.
    Waiting {
        /// Its name in the repository.
        name: &'a str,
    },
    /// A file is in its place.
    Done(&'a PulledFile),
}

/// Where a file of a pull came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// It was in the cache.
    Cached,
    /// It was downloaded.
    Downloaded {
        /// How many of its bytes an earlier download had left.
        resumed: u64,
        /// How it was checked.
        checked: Checked,
    },
}

/// A file of a pulled model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulledFile {
    /// Its name in the repository.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// Where it came from.
    pub origin: Origin,
}

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The model's folder, or its file if one was named.
    pub path: PathBuf,
    /// The commit it is of.
    pub commit: String,
    /// Its files; empty if no connection was allowed.
    pub files: Vec<PulledFile>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A watcher.
type Tell<'a> = &'a mut dyn FnMut(Event<'_>);

impl Hub {
    /// The hub that `settings` describe. Opens no connection.
    ///
    /// # Errors
    /// [`HubError::Answer`] for an endpoint that is no address.
    pub fn new(settings: Settings) -> Result<Hub, HubError> {
        let http = if settings.offline { None } else { Some(Http::new(&settings)?) };
        let cache = Cache::new(&settings.cache);
        Ok(Hub { settings, cache, http })
    }

    /// The cache that pulled models go to.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Sees to it that a model is in the cache, and tells where.
    ///
    /// Without a file's name these are the files that make up the model: its description, its tokenizer and one kind of
    /// weights (safetensors before GGUF before pickled files). What is there already is not downloaded again, what an
    /// earlier pull left goes on from there, and everything downloaded is compared with its digest. The branch is noted in
    /// the cache when all is there. With [`Settings::offline`] no connection is opened and only the cache is looked at.
    ///
    /// # Errors
    /// Any [`HubError`].
    pub fn pull(&self, source: &Source, tell: Tell<'_>) -> Result<Pulled, HubError> {
        let Some(http) = &self.http else {
            let (path, commit) = self.cache.find_with_commit(source)?;
            return Ok(Pulled { path, commit, files: Vec::new() });
        };
        let repo = self.cache.repo(&source.repo);
        let pull = Pull { http, endpoint: &self.settings.endpoint, id: &source.repo, repo: &repo };
        let revision = source.revision();
        if let Some(file) = &source.file {
            let (file, commit) = pull.file(revision, None, file, tell)?;
            repo.note(revision, &commit)?;
            return Ok(Pulled { path: file.path.clone(), commit, files: vec![file] });
        }
        let Listing { commit, files } = pull.listing(revision, tell)?;
        let mut wanted = select::select(&source.repo, &files)?;
        let mut pulled = Vec::new();
        let mut next = 0;
        while next < wanted.len() {
            let (file, _) = pull.file(&commit, Some(&commit), &wanted[next], tell)?;
            if file.name == select::INDEX {
                wanted.extend(shards(&file)?);
            }
            pulled.push(file);
            next += 1;
        }
        repo.note(revision, &commit)?;
        Ok(Pulled { path: repo.snapshot(&commit), commit, files: pulled })
    }
}

/// The shards of an index that was pulled.
fn shards(index: &PulledFile) -> Result<Vec<String>, HubError> {
    let text = fs::read(&index.path).map_err(HubError::io(&index.path, "read"))?;
    select::shards(&text)
        .map_err(|reason| HubError::Answer { url: index.path.display().to_string(), reason: format!("it {reason}") })
}

/// What the steps of one pull share.
struct Pull<'a> {
    http: &'a Http,
    endpoint: &'a str,
    id: &'a RepoId,
    repo: &'a RepoCache,
}

impl Pull<'_> {
    fn listing(&self, revision: &str, tell: Tell<'_>) -> Result<Listing, HubError> {
        let address = url::info(self.endpoint, self.id.as_str(), revision);
        let mut failed = |reason: &str, wait| tell(Event::Retrying { reason, wait });
        self.http.persist(&address, &mut failed, &mut || metadata::listing(self.http, &address).map_err(|f| (0, f)))
    }

    /// One file and its commit: `commit` if it is known, else the one that the server tells.
    fn file(
        &self,
        revision: &str,
        commit: Option<&str>,
        name: &str,
        tell: Tell<'_>,
    ) -> Result<(PulledFile, String), HubError> {
        // A commit does not change: what is there of it need not be asked for.
        if let Some(commit) = commit.or_else(|| is_commit(revision).then_some(revision))
            && let Ok(there) = fs::metadata(self.repo.pointer(commit, name))
        {
            let path = self.repo.pointer(commit, name);
            let file = PulledFile { name: name.into(), path, size: there.len(), origin: Origin::Cached };
            tell(Event::Done(&file));
            return Ok((file, commit.to_owned()));
        }
        let address = url::file(self.endpoint, self.id.as_str(), revision, name);
        for _ in 0..MOST_CHANGES {
            let metadata = {
                let mut failed = |reason: &str, wait| tell(Event::Retrying { reason, wait });
                let mut attempt = || metadata::of_file(self.http, &address).map_err(|f| (0, f));
                self.http.persist(&address, &mut failed, &mut attempt)?
            };
            let commit = match (commit, &metadata.commit) {
                (Some(commit), _) => commit.to_owned(),
                (None, Some(commit)) => commit.clone(),
                (None, None) => self.listing(revision, tell)?.commit,
            };
            if let Some((size, origin)) = self.blob(&address, name, &metadata, tell)? {
                let path = self.repo.link(&metadata.blob_name(), &commit, name)?;
                let file = PulledFile { name: name.into(), path, size, origin };
                tell(Event::Done(&file));
                return Ok((file, commit));
            }
            debug!(%address, "the file changed while it was read");
        }
        Err(HubError::Changing { url: address })
    }

    /// Sees to it that a file's blob is there; `None` if the file has changed on the server since it was described.
    fn blob(
        &self,
        address: &str,
        name: &str,
        metadata: &Metadata,
        tell: Tell<'_>,
    ) -> Result<Option<(u64, Origin)>, HubError> {
        let blob_name = metadata.blob_name();
        let blob = self.repo.blob(&blob_name);
        self.repo.prepare()?;
        let _lock = Lock::take(&self.repo.lock(&blob_name), &mut || tell(Event::Waiting { name }))?;
        // Looked at under the lock: another process may just have put it there.
        if let Ok(there) = fs::metadata(&blob) {
            if metadata.size.is_none_or(|size| size == there.len()) {
                return Ok(Some((there.len(), Origin::Cached)));
            }
            warn!("{} does not have the length of its file: it is downloaded again", blob.display());
            remove(&blob)?;
        }
        let part = self.repo.incomplete(&blob_name);
        let job = Job { http: self.http, file: name, address, metadata, part, blob };
        Ok(match job.run(tell)? {
            Fetched::Changed => None,
            Fetched::Whole { resumed, checked, size } => Some((size, Origin::Downloaded { resumed, checked })),
        })
    }
}

/// Whether a revision is a commit's full name.
fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
