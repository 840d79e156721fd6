//! The folder of a new model: nothing is replaced unasked, and no file is there before it is whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::InitError;

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InitError {
    move |source| InitError::Io { path: path.to_owned(), action, source }
}

/// A folder that a model is written to.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// What has been written, in order.
    pub(super) written: Vec<PathBuf>,
}

impl Folder {
    /// The folder, made if it is not there. The files of another model in it are an error, or removed with `force`.
    pub(super) fn open(path: &Path, force: bool) -> Result<Folder, InitError> {
        fs::create_dir_all(path).map_err(failed("make the folder", path))?;
        let mut old = Vec::new();
        for entry in fs::read_dir(path).map_err(failed("list", path))? {
            let entry = entry.map_err(failed("list", path))?;
            if entry.file_name().to_str().is_some_and(is_of_a_model) {
                old.push(entry.path());
            }
        }
        old.sort();
        if let Some(first) = old.first().filter(|_| !force) {
            return Err(InitError::Exists { path: first.clone() });
        }
        for file in old {
            fs::remove_file(&file).map_err(failed("remove", &file))?;
        }
        Ok(Folder { path: path.to_owned(), written: Vec::new() })
    }

    /// A new file, under another name until [`NewFile::finish`].
    pub(super) fn create(&mut self, name: &str) -> Result<NewFile, InitError> {
        let (path, partial) = (self.path.join(name), self.path.join(format!("{name}.partial")));
        let file = File::create(&partial).map_err(failed("create", &partial))?;
        self.written.push(path.clone());
        Ok(NewFile { path, partial, out: BufWriter::with_capacity(1 << 16, file) })
    }

    pub(super) fn write_json(&mut self, name: &str, value: &Value) -> Result<(), InitError> {
        let mut file = self.create(name)?;
        file.write(format!("{value:#}\n").as_bytes())?;
        file.finish()
    }
}

/// Files that decide what a folder is loaded as.
fn is_of_a_model(name: &str) -> bool {
    let weights = name.starts_with("model") && (name.ends_with(".safetensors") || name.ends_with(".index.json"));
    weights || ["config.json", "generation_config.json"].contains(&name)
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    partial: PathBuf,
    out: BufWriter<File>,
}

impl NewFile {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), InitError> {
        self.out.write_all(bytes).map_err(failed("write", &self.partial))
    }

    /// Gives the file its name.
    pub(super) fn finish(mut self) -> Result<(), InitError> {
        self.out.flush().map_err(failed("write", &self.partial))?;
        drop(self.out);
        fs::rename(&self.partial, &self.path).map_err(failed("name", &self.path))
    }
}
