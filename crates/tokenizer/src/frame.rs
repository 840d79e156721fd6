//! What is put around a text: the beginning- and end-of-sequence tokens, as the library's post-processor.

use std::collections::HashMap;

use camelid_core::tokenizer::TokenId;
use serde_json::{Map, Value, json};
use tokenizers::{Encoding, PostProcessorWrapper, Tokenizer};

use crate::error::{LoadError, guarded};

/// The ids before a sequence, and those behind it.
pub(crate) type Frame = (Vec<TokenId>, Vec<TokenId>);

/// The ids that the post-processor puts before and behind a sequence.
pub(crate) fn of(library: &Tokenizer, origin: &str) -> Result<Frame, LoadError> {
    let framed =
        guarded(|| library.post_process(blank(&[0]), None, true)).map_err(|e| LoadError::library(origin, e))?;
    let positions: Vec<usize> =
        framed.get_special_tokens_mask().iter().enumerate().filter(|(_, s)| **s == 0).map(|(at, _)| at).collect();
    let [at] = positions[..] else {
        let found = format!("its template holds the text {} times", positions.len());
        return Err(LoadError::field(origin, "post_processor", found, "it has to hold it once"));
    };
    let ids = framed.get_ids();
    let frame = (ids[..at].to_vec(), ids[at + 1..].to_vec());
    for id in frame.0.iter().chain(&frame.1) {
        if library.id_to_token(*id).is_none() {
            let found = format!("it adds token id {id}, which is not in the vocabulary");
            return Err(LoadError::field(origin, "post_processor", found, "the file was edited wrongly"));
        }
    }
    Ok(frame)
}

/// An encoding that stands for `ids`: it has their number and nothing else.
pub(crate) fn blank(ids: &[TokenId]) -> Encoding {
    let n = ids.len();
    Encoding::new(
        ids.to_vec(),
        vec![0; n],
        vec!["x".to_owned(); n],
        vec![None; n],
        vec![(0, 1); n],
        vec![0; n],
        vec![1; n],
        Vec::new(),
        HashMap::new().into_iter().collect(),
    )
}

/// Makes `frame` what the library puts around a sequence, and around each of a pair, of which the second one's tokens
/// are of type 1 (`update_post_processor` of transformers).
pub(crate) fn set(library: &mut Tokenizer, frame: &Frame, origin: &str) -> Result<(), LoadError> {
    let mut names = Map::new();
    let mut special = |id: &TokenId, type_id: u32| -> Result<Value, LoadError> {
        let Some(token) = library.id_to_token(*id) else {
            let found = format!("token id {id} is not in the vocabulary");
            return Err(LoadError::field(origin, "post_processor", found, "name another token"));
        };
        names.insert(token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}));
        Ok(json!({"SpecialToken": {"id": token, "type_id": type_id}}))
    };
    let mut side = |text: &str, type_id: u32| -> Result<Vec<Value>, LoadError> {
        let mut pieces = Vec::new();
        for id in &frame.0 {
            pieces.push(special(id, type_id)?);
        }
        pieces.push(json!({"Sequence": {"id": text, "type_id": type_id}}));
        for id in &frame.1 {
            pieces.push(special(id, type_id)?);
        }
        Ok(pieces)
    };
    let (first, second) = (side("A", 0)?, side("B", 1)?);
    let pair = [&first[..], &second[..]].concat();
    let template = json!({
        "type": "TemplateProcessing",
        "single": first,
        "pair": pair,
        "special_tokens": names,
    });
    let template: PostProcessorWrapper = serde_json::from_value(template).map_err(|e| LoadError::library(origin, e))?;
    library.with_post_processor(Some(template));
    Ok(())
}
