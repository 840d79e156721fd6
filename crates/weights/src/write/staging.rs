//! Files and folders that appear under their names only when they are whole.
//!
//! They are written beside their place, under a hidden name, and renamed when done; what was begun and not ended is
//! removed. A process that is killed leaves the hidden name behind, never half a checkpoint.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::WeightsError;

/// The hidden name beside `path`.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial-{}", std::process::id()))
}

/// `path` without a slash at its end and not "." or "..": something that has a name and a place.
fn named(path: &Path) -> Result<PathBuf, WeightsError> {
    let path = std::path::absolute(path).map_err(WeightsError::io(path, "find"))?;
    if path.file_name().is_none() {
        let remedy = "give the path of a new folder or file";
        return Err(WeightsError::malformed(&path, "the output", "this path has no name", remedy));
    }
    // Collecting the components drops the slash.
    Ok(path.components().collect())
}

fn make_parent(path: &Path) -> Result<(), WeightsError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(WeightsError::io(parent, "make the folder"))
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct StagedFile {
    /// Where it is written.
    writing: PathBuf,
    /// Its name when done.
    path: PathBuf,
    file: BufWriter<File>,
    done: bool,
}

impl StagedFile {
    /// Begins the file `path`; one that is there is replaced when this one is done, if `force`.
    pub(crate) fn create(path: &Path, force: bool) -> Result<StagedFile, WeightsError> {
        let path = named(path)?;
        match fs::metadata(&path) {
            Ok(kind) if kind.is_dir() || !force => {
                return Err(WeightsError::OutputExists { folder: kind.is_dir(), path });
            }
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(WeightsError::io(&path, "open")(e)),
            _ => {}
        }
        make_parent(&path)?;
        let writing = temporary(&path);
        let file = File::create(&writing).map_err(WeightsError::io(&path, "write"))?;
        Ok(StagedFile { writing, path, file: BufWriter::with_capacity(1 << 20, file), done: false })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        self.file.write_all(bytes).map_err(WeightsError::io(&self.path, "write"))
    }

    /// Gives the file its name.
    pub(crate) fn commit(mut self) -> Result<PathBuf, WeightsError> {
        self.file.flush().map_err(WeightsError::io(&self.path, "write"))?;
        self.file.get_ref().sync_all().map_err(WeightsError::io(&self.path, "write"))?;
        fs::rename(&self.writing, &self.path).map_err(WeightsError::io(&self.path, "write"))?;
        self.done = true;
        Ok(self.path.clone())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.done {
            // Whatever went wrong before is what the caller is told.
            let _ = fs::remove_file(&self.writing);
        }
    }
}

/// A folder that is being written.
#[derive(Debug)]
pub(crate) struct StagedFolder {
    writing: PathBuf,
    path: PathBuf,
    done: bool,
}

impl StagedFolder {
    /// Begins the folder `path`. One that is there must be empty, unless `force`.
    pub(crate) fn create(path: &Path, force: bool) -> Result<StagedFolder, WeightsError> {
        let path = named(path)?;
        match fs::read_dir(&path) {
            Ok(mut entries) => {
                if !force && entries.next().is_some() {
                    return Err(WeightsError::OutputExists { path, folder: true });
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) if e.kind() == ErrorKind::NotADirectory => {
                return Err(WeightsError::OutputExists { path, folder: false });
            }
            Err(e) => return Err(WeightsError::io(&path, "open")(e)),
        }
        make_parent(&path)?;
        let writing = temporary(&path);
        if writing.exists() {
            fs::remove_dir_all(&writing).map_err(WeightsError::io(&writing, "remove"))?;
        }
        fs::create_dir(&writing).map_err(WeightsError::io(&path, "make the folder"))?;
        Ok(StagedFolder { writing, path, done: false })
    }

    /// Begins a file of the folder.
    pub(crate) fn file(&self, name: &str) -> Result<StagedFile, WeightsError> {
        StagedFile::create(&self.writing.join(name), true)
    }

    /// Writes a small file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), WeightsError> {
        let mut file = self.file(name)?;
        file.write(bytes)?;
        file.commit().map(drop)
    }

    /// Gives the folder its name. If it was there, its files replace those of the same names, and `stale` says of each
    /// of the other names whether that file has to go.
    pub(crate) fn commit(mut self, stale: impl Fn(&str) -> bool) -> Result<PathBuf, WeightsError> {
        if self.path.is_dir() {
            let names = |folder: &Path| -> Result<Vec<String>, WeightsError> {
                let entries = fs::read_dir(folder).map_err(WeightsError::io(folder, "list"))?;
                Ok(entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
            };
            for name in names(&self.path)?.iter().filter(|name| stale(name)) {
                let file = self.path.join(name);
                fs::remove_file(&file).map_err(WeightsError::io(&file, "remove"))?;
            }
            for name in names(&self.writing)? {
                let to = self.path.join(&name);
                fs::rename(self.writing.join(&name), &to).map_err(WeightsError::io(&to, "write"))?;
            }
        } else {
            fs::rename(&self.writing, &self.path).map_err(WeightsError::io(&self.path, "write"))?;
            self.done = true;
        }
        Ok(self.path.clone())
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_dir_all(&self.writing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_whole_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/model.gguf");
        let mut file = StagedFile::create(&path, false).unwrap();
        file.write(b"half").unwrap();
        assert!(!path.exists());
        drop(file);
        assert_eq!(names(&folder.path().join("new")), [""; 0]);
        let mut file = StagedFile::create(&path, false).unwrap();
        file.write(b"whole").unwrap();
        file.commit().unwrap();
        assert_eq!(names(&folder.path().join("new")), ["model.gguf"]);
        assert!(matches!(StagedFile::create(&path, false), Err(WeightsError::OutputExists { folder: false, .. })));
        StagedFile::create(&path, true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole", "what was not committed replaced nothing");
    }

    #[test]
    fn a_folder_that_holds_something_is_only_changed_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let staged = StagedFolder::create(&path, false).unwrap();
        staged.write("a", b"1").unwrap();
        drop(staged);
        assert_eq!(names(folder.path()), [""; 0]);
        let staged = StagedFolder::create(&path, false).unwrap();
        staged.write("a", b"1").unwrap();
        staged.commit(|_| false).unwrap();
        assert!(matches!(StagedFolder::create(&path, false), Err(WeightsError::OutputExists { folder: true, .. })));
        fs::write(path.join("mine"), b"kept").unwrap();
        fs::write(path.join("old"), b"stale").unwrap();
        let staged = StagedFolder::create(&path, true).unwrap();
        staged.write("a", b"2").unwrap();
        staged.commit(|name| name == "old").unwrap();
        assert_eq!(names(&path), ["a", "mine"]);
        assert_eq!(fs::read(path.join("a")).unwrap(), b"2");
        assert_eq!(names(folder.path()), ["out"]);
        let file = path.join("mine");
        assert!(matches!(StagedFolder::create(&file, true), Err(WeightsError::OutputExists { folder: false, .. })));
    }
}
