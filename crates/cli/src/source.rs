//! A checkpoint with its tokenizer, from a path or from the program itself.

use std::path::Path;

use camelid_tokenizer::HfTokenizer;
use camelid_weights::Checkpoint;

use crate::{Error, bundled};

/// The checkpoint at `path` with its tokenizer, or the bundled one.
pub fn open(path: Option<&Path>) -> Result<(Checkpoint, Option<HfTokenizer>), Error> {
    let Some(path) = path else { return Ok((bundled::checkpoint()?, Some(bundled::tokenizer()?))) };
    let checkpoint = Checkpoint::open(path)?;
    let tokenizer = camelid_engine::tokenizer::load(&checkpoint)?;
    Ok((checkpoint, tokenizer))
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
