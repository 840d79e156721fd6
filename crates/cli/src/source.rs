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

/// The tokenizer at `path`, or the bundled one.
pub fn tokenizer(path: Option<&Path>) -> Result<HfTokenizer, Error> {
    let (checkpoint, tokenizer) = open(path)?;
    Ok(tokenizer.ok_or_else(|| camelid_engine::EngineError::NoTokenizer { path: checkpoint.path().to_owned() })?)
}
