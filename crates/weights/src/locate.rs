//! What a path leads to: which files make up the checkpoint there.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use tracing::debug;

use crate::error::{Listed, quoted};
use crate::{WeightsError, gguf, safetensors};

/// The files of a checkpoint.
pub(crate) enum Found {
    /// One GGUF file.
    Gguf(PathBuf),
    /// Safetensors, with the folder that holds `config.json`.
    Safetensors { files: Files, folder: PathBuf },
}

/// The files that hold the tensors.
pub(crate) enum Files {
    /// All in one.
    Single(PathBuf),
    /// An index that names the shards, in the same folder.
    Index(PathBuf),
}

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PYTORCH: &str = "Camelid does not run PyTorch's pickled files as they are: convert Meta's consolidated.NN.pth with \
                       `camelid convert --from meta`, save others with transformers' \
                       `save_pretrained(..., safe_serialization=True)` or convert them to GGUF";

pub(crate) fn locate(path: &Path) -> Result<Found, WeightsError> {
    let kind = fs::metadata(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => refuse(
            path,
            "there is no such file or folder",
            "give a Hugging Face folder, a .gguf file, or a .safetensors file beside its config.json",
        ),
        _ => WeightsError::Io { path: path.to_owned(), action: "open", source },
    })?;
    if kind.is_dir() { locate_in_folder(path) } else { locate_file(path, kind.is_file()) }
}

/// As transformers does, the single file comes before the index.
fn locate_in_folder(folder: &Path) -> Result<Found, WeightsError> {
    for (name, files) in [(SINGLE, Files::Single as fn(PathBuf) -> Files), (INDEX, Files::Index)] {
        let file = folder.join(name);
        if file.exists() {
            if name == SINGLE && folder.join(INDEX).exists() {
                debug!(folder = %folder.display(), "{SINGLE} is read, {INDEX} is not");
            }
            return Ok(Found::Safetensors { files: files(file), folder: folder.to_owned() });
        }
    }
    let names = file_names(folder)?;
    let ending = |suffix: &str| -> Vec<&String> { names.iter().filter(|n| n.ends_with(suffix)).collect() };
    let (gguf, safetensors) = (ending(".gguf"), ending(".safetensors"));
    match (gguf.as_slice(), safetensors.as_slice()) {
        ([one], []) => Ok(Found::Gguf(folder.join(one))),
        ([], []) => {
            let pickled = names
                .iter()
                .any(|n| n.starts_with("pytorch_model") || [".pth", ".pt", ".ckpt"].iter().any(|s| n.ends_with(s)));
            let remedy = if pickled {
                PYTORCH
            } else {
                "a Hugging Face folder has a config.json and a model.safetensors, or its index and all shards"
            };
            let found = format!("the folder holds neither {SINGLE} nor {INDEX} nor a .gguf file");
            Err(refuse(folder, found, remedy))
        }
        (several, []) => {
            let found = format!("the folder holds {} .gguf files: {}", several.len(), Listed(several));
            Err(refuse(folder, found, "give the path of one of them"))
        }
        (_, safetensors) => {
            let found = format!("the folder holds no {SINGLE} and no {INDEX}, but {}", Listed(safetensors));
            Err(refuse(folder, found, "give the path of one file, or add the index of the shards"))
        }
    }
}

fn locate_file(path: &Path, regular: bool) -> Result<Found, WeightsError> {
    if !regular {
        return Err(refuse(path, "it is not a regular file", "weights are mapped into memory: copy it into a file"));
    }
    let mut start = [0; gguf::MAGIC.len()];
    let mut file = fs::File::open(path).map_err(WeightsError::io(path, "open"))?;
    let magic = file.read_exact(&mut start).is_ok().then_some(start);
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    if magic == Some(gguf::MAGIC) || name.ends_with(".gguf") {
        return Ok(Found::Gguf(path.to_owned()));
    }
    if name.ends_with(".safetensors") {
        let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
        let index = folder.join(INDEX);
        if path.file_name().is_some_and(|n| n != SINGLE)
            && index.is_file()
            && safetensors::index::names_shard(&index, path)?
        {
            let found = format!("it is one shard of those that {INDEX} beside it names");
            return Err(refuse(path, found, "give the path of the folder"));
        }
        return Ok(Found::Safetensors { files: Files::Single(path.to_owned()), folder });
    }
    if name.ends_with(".index.json") || name == "config.json" {
        return Err(refuse(path, "it describes a checkpoint but holds no weights", "give the path of its folder"));
    }
    // A zip archive or a pickle, as torch.save writes them.
    if [".pth", ".pt", ".bin", ".ckpt"].iter().any(|s| name.ends_with(s)) {
        return Err(refuse(path, "it looks like a file of PyTorch", PYTORCH));
    }
    let found = format!("it begins with {} and has no known ending", quoted(&magic.unwrap_or_default()));
    Err(refuse(path, found, "a checkpoint is a Hugging Face folder, a .gguf file or a .safetensors file"))
}

fn file_names(folder: &Path) -> Result<Vec<String>, WeightsError> {
    let entries = fs::read_dir(folder).map_err(WeightsError::io(folder, "list"))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(WeightsError::io(folder, "list"))?;
        if entry.path().is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn refuse(path: &Path, found: impl Into<String>, remedy: &str) -> WeightsError {
    WeightsError::NotACheckpoint { path: path.to_owned(), found: found.into(), remedy: remedy.into() }
}
