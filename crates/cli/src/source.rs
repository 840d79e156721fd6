//! A checkpoint with its tokenizer: from a path, from the cache of pulled models, or from the program itself.

use std::path::{Path, PathBuf};

use camelid_hub::{Cache, HubError, Settings, Source};
use camelid_tokenizer::HfTokenizer;
use camelid_weights::Checkpoint;

use crate::{Error, bundled};

/// The checkpoint at `path` with its tokenizer, or the bundled one. `path` may be the name of a model that was pulled.
pub fn open(path: Option<&Path>) -> Result<(Checkpoint, Option<HfTokenizer>), Error> {
    let checkpoint = checkpoint(path)?;
    let tokenizer = tokenizer_of(&checkpoint, path)?;
    Ok((checkpoint, tokenizer))
}

/// The checkpoint at `path`, or the bundled one, as [`open`].
pub fn checkpoint(path: Option<&Path>) -> Result<Checkpoint, Error> {
    match path {
        None => bundled::checkpoint(),
        Some(path) => Ok(Checkpoint::open(locate(path)?)?),
    }
}

/// The tokenizer of the checkpoint that [`checkpoint`] gave for `path`.
pub fn tokenizer_of(checkpoint: &Checkpoint, path: Option<&Path>) -> Result<Option<HfTokenizer>, Error> {
    match path {
        None => bundled::tokenizer().map(Some),
        Some(_) => Ok(camelid_engine::tokenizer::load(checkpoint)?),
    }
}

/// The tokenizer at `path`, or the bundled one. Where there is no model, a folder or a file with a tokenizer will do.
pub fn tokenizer(path: Option<&Path>) -> Result<HfTokenizer, Error> {
    let (checkpoint, tokenizer) = match (open(path), path) {
        (Ok(both), _) => both,
        (Err(error), None) => return Err(error),
        (Err(error), Some(path)) => return camelid_engine::tokenizer::load_alone(path)?.ok_or(error),
    };
    Ok(tokenizer.ok_or_else(|| camelid_engine::EngineError::NoTokenizer { path: checkpoint.path().to_owned() })?)
}

/// Where a model is that `--model` names: a path that exists, else `ORG/NAME`, `hf:ORG/NAME:FILE` and the like in the
/// cache. No connection is opened: `camelid pull` does that.
pub fn locate(path: &Path) -> Result<PathBuf, Error> {
    if path.exists() {
        return Ok(path.to_owned());
    }
    let Some(text) = path.to_str() else { return Ok(path.to_owned()) };
    let named = text.starts_with("hf:");
    let source: Source = match text.parse() {
        Ok(source) => source,
        Err(error) if named => return Err(error.into()),
        // No model's name either: the reader of checkpoints says that nothing is there.
        Err(_) => return Ok(path.to_owned()),
    };
    // A word alone is rather a path that is not there.
    if !named && !source.repo.as_str().contains('/') {
        return Ok(path.to_owned());
    }
    match Cache::new(Settings::from_env()?.cache).find(&source) {
        Ok(found) => Ok(found),
        Err(error @ HubError::NotCached { .. }) if !named => {
            Err(format!("{text}: there is no such file or folder; and as a model's name: {error}").into())
        }
        Err(error) => Err(error.into()),
    }
}
