//! The cache on disk, as huggingface_hub lays it out, so that models are shared with Python programs.
//!
//! ```text
//! CACHE/models--ORG--NAME/refs/main                       the commit that a branch or tag was
//!                         blobs/ETAG                      contents, each once
//!                         blobs/ETAG.incomplete           what has come of it so far
//!                         snapshots/COMMIT/config.json -> ../../blobs/ETAG
//! CACHE/.locks/models--ORG--NAME/ETAG.lock
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::name::{RepoId, Source, below, is_plain};
use crate::{HubError, select};

/// Endings of files that hold weights.
const WEIGHTS: [&str; 4] = [".safetensors", ".gguf", ".pth", ".bin"];

/// A cache of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in this folder, which need not be there yet.
    pub fn new(root: impl Into<PathBuf>) -> Cache {
        Cache { root: root.into() }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a model that was pulled lies: its folder, or the file if the source names one. Opens no connection.
    ///
    /// # Errors
    /// [`HubError::NotCached`]; [`HubError::Incomplete`] for a model of which weights are missing;
    /// [`HubError::SeveralModels`] for a folder that holds several GGUF files and nothing else.
    pub fn find(&self, source: &Source) -> Result<PathBuf, HubError> {
        self.find_with_commit(source).map(|(path, _)| path)
    }

    pub(crate) fn find_with_commit(&self, source: &Source) -> Result<(PathBuf, String), HubError> {
        let missing = |there: String| HubError::NotCached {
            what: source.to_string(),
            cache: self.root.clone(),
            there: if there.is_empty() { there } else { format!(", only {there}") },
        };
        let repo = self.repo(&source.repo);
        let Some(commit) = repo.commit(source.revision()) else { return Err(missing(repo.revisions().join(", "))) };
        let snapshot = repo.snapshot(&commit);
        let Some(file) = &source.file else {
            return complete(source, &snapshot).map(|()| (snapshot, commit));
        };
        let path = below(&snapshot, file);
        if path.is_file() {
            return Ok((path, commit));
        }
        Err(missing(names(&snapshot).join(", ")))
    }

    pub(crate) fn repo(&self, repo: &RepoId) -> RepoCache {
        let name = repo.folder_name();
        RepoCache { folder: self.root.join(&name), locks: self.root.join(".locks").join(name) }
    }
}

/// Whether a snapshot holds all of a model.
fn complete(source: &Source, snapshot: &Path) -> Result<(), HubError> {
    let files = names(snapshot);
    let incomplete =
        |missing: String| Err(HubError::Incomplete { what: source.to_string(), folder: snapshot.to_owned(), missing });
    let has = |name: &str| files.iter().any(|f| f == name);
    if !has("model.safetensors") && has(select::INDEX) {
        let index = snapshot.join(select::INDEX);
        let text = fs::read(&index).map_err(HubError::io(&index, "read"))?;
        // An index that cannot be read is for its reader to explain.
        let shards = select::shards(&text).unwrap_or_default();
        return match shards.iter().find(|shard| !below(snapshot, shard).is_file()) {
            Some(shard) => incomplete(shard.clone()),
            None => Ok(()),
        };
    }
    if !files.iter().any(|f| WEIGHTS.iter().any(|ending| f.ends_with(ending))) {
        return incomplete("every file with weights".into());
    }
    let several: Vec<String> = files.iter().filter(|f| f.ends_with(".gguf")).cloned().collect();
    if several.len() > 1 && !files.iter().any(|f| f.ends_with(".safetensors")) {
        return Err(HubError::SeveralModels { repo: source.repo.to_string(), files: several });
    }
    Ok(())
}

/// One repository in a cache.
#[derive(Clone, Debug)]
pub(crate) struct RepoCache {
    folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    /// The commit that a branch or tag was when it was last asked for, or the commit itself if it is here.
    pub fn commit(&self, revision: &str) -> Option<String> {
        let noted = fs::read_to_string(below(&self.folder.join("refs"), revision)).ok();
        let noted = noted.map(|text| text.trim().to_owned()).filter(|commit| is_plain(commit));
        noted.or_else(|| (is_plain(revision) && self.snapshot(revision).is_dir()).then(|| revision.to_owned()))
    }

    /// The branches and tags that are noted at the top.
    fn revisions(&self) -> Vec<String> {
        names(&self.folder.join("refs")).into_iter().map(|name| format!("revision {name}")).collect()
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    pub fn pointer(&self, commit: &str, file: &str) -> PathBuf {
        below(&self.snapshot(commit), file)
    }

    pub fn blob(&self, name: &str) -> PathBuf {
        self.folder.join("blobs").join(name)
    }

    pub fn incomplete(&self, name: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{name}.incomplete"))
    }

    pub fn lock(&self, name: &str) -> PathBuf {
        self.locks.join(format!("{name}.lock"))
    }

    /// Makes the folder for blobs.
    pub fn prepare(&self) -> Result<(), HubError> {
        let blobs = self.folder.join("blobs");
        fs::create_dir_all(&blobs).map_err(HubError::io(blobs, "make the folder"))
    }

    /// Notes which commit a branch or tag is. A commit is not noted: it is its own name.
    pub fn note(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        let path = below(&self.folder.join("refs"), revision);
        if revision == commit || fs::read_to_string(&path).is_ok_and(|text| text == commit) {
            return Ok(());
        }
        in_place(&path, &mut |new| fs::write(new, commit))
    }

    /// Makes `file` of the snapshot a link to a blob: relative, so that the cache can be moved. Where the system has no
    /// links, a copy.
    pub fn link(&self, blob: &str, commit: &str, file: &str) -> Result<PathBuf, HubError> {
        let pointer = self.pointer(commit, file);
        let up = "../".repeat(file.matches('/').count() + 2);
        let target = PathBuf::from(format!("{up}blobs/{blob}"));
        if fs::read_link(&pointer).is_ok_and(|there| there == target) {
            return Ok(pointer);
        }
        let blob = self.blob(blob);
        in_place(&pointer, &mut |new| symlink(&target, new).or_else(|_| fs::copy(&blob, new).map(|_| ())))?;
        Ok(pointer)
    }
}

/// Makes a file by `make` under another name and moves it to `path`, so that nobody sees half of it.
fn in_place(path: &Path, make: &mut dyn FnMut(&Path) -> std::io::Result<()>) -> Result<(), HubError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(HubError::io(folder, "make the folder"))?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let new = folder.join(name);
    // What a process with the same id left.
    let _ = fs::remove_file(&new);
    make(&new).and_then(|()| fs::rename(&new, path)).map_err(|error| {
        let _ = fs::remove_file(&new);
        HubError::io(path, "make the file")(error)
    })
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_target: &Path, _link: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Names of the files in a folder, sorted; none if there is no such folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|e| e.path().is_file())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    fn put(repo: &RepoCache, blob: &str, file: &str, text: &str) {
        repo.prepare().unwrap();
        fs::write(repo.blob(blob), text).unwrap();
        let pointer = repo.link(blob, COMMIT, file).unwrap();
        assert_eq!(fs::read_to_string(pointer).unwrap(), text);
    }

    #[test]
    fn what_was_put_is_found_by_branch_and_by_commit() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let source: Source = "a/b:sub/x.gguf".parse().unwrap();
        let error = cache.find(&source).unwrap_err().to_string();
        assert!(error.contains("camelid pull a/b:sub/x.gguf"), "{error}");
        let repo = cache.repo(&source.repo);
        put(&repo, "blob1", "sub/x.gguf", "weights");
        assert!(matches!(cache.find(&source), Err(HubError::NotCached { .. })), "the branch is not noted");
        repo.note("main", COMMIT).unwrap();
        repo.note("main", COMMIT).unwrap();
        let path = cache.find(&source).unwrap();
        assert_eq!(path, folder.path().join("models--a--b/snapshots").join(COMMIT).join("sub/x.gguf"));
        assert_eq!(cache.find(&source.clone().at(COMMIT).unwrap()).unwrap(), path);
        let error = cache.find(&source.at("v2").unwrap()).unwrap_err().to_string();
        assert!(error.contains("only revision main"), "{error}");
        // A cache that is moved stays whole.
        let moved = folder.path().with_extension("moved");
        fs::rename(folder.path(), &moved).unwrap();
        let path = Cache::new(&moved).find(&"a/b:sub/x.gguf".parse().unwrap()).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "weights");
        fs::remove_dir_all(moved).unwrap();
    }

    #[test]
    fn a_model_without_all_its_weights_is_not_complete() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let source: Source = "a/b".parse().unwrap();
        let repo = cache.repo(&source.repo);
        put(&repo, "b1", "config.json", "{}");
        repo.note("main", COMMIT).unwrap();
        let missing = |cache: &Cache| match cache.find(&source) {
            Err(HubError::Incomplete { missing, .. }) => missing,
            other => panic!("{other:?}"),
        };
        assert_eq!(missing(&cache), "every file with weights");
        put(&repo, "b2", select::INDEX, r#"{"weight_map": {"x": "m-1.safetensors", "y": "m-2.safetensors"}}"#);
        put(&repo, "b3", "m-1.safetensors", "1");
        assert_eq!(missing(&cache), "m-2.safetensors");
        put(&repo, "b4", "m-2.safetensors", "2");
        assert_eq!(cache.find(&source).unwrap(), repo.snapshot(COMMIT));
        // A link whose blob is gone is no file.
        fs::remove_file(repo.blob("b3")).unwrap();
        assert_eq!(missing(&cache), "m-1.safetensors");
    }

    #[test]
    fn a_damaged_ref_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let repo = cache.repo(&"a/b".parse().unwrap());
        repo.note("main", "../../../etc").unwrap();
        assert_eq!(repo.commit("main"), None);
    }
}
