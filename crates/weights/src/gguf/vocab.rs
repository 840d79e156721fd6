//! The vocabulary in the metadata of a GGUF file.

pub use camelid_core::tokenizer::GgufVocab;

use super::metadata::{Array, Metadata};
use crate::WeightsError;
use crate::error::{MAKE_AGAIN, quoted};

/// True if the file has a vocabulary. One without says so by its model, which llama.cpp demands: "none", formerly
/// "no_vocab".
pub(super) fn is_there(metadata: &Metadata) -> Result<bool, WeightsError> {
    Ok(metadata.str("tokenizer.ggml.model")?.is_some_and(|model| !matches!(model, "none" | "no_vocab")))
}

/// Reads the vocabulary, or `None` if the file has none.
pub(super) fn read(metadata: &Metadata) -> Result<Option<GgufVocab>, WeightsError> {
    if !is_there(metadata)? {
        return Ok(None);
    }
    let Some(model) = metadata.str("tokenizer.ggml.model")? else { return Ok(None) };
    let byte_level = model == "gpt2";
    let tokens = match metadata.array("tokenizer.ggml.tokens")? {
        Some(tokens) => strings(metadata, "tokenizer.ggml.tokens", &tokens, byte_level)?,
        None => return Err(metadata.missing("tokenizer.ggml.tokens")),
    };
    let scores = metadata.f32s("tokenizer.ggml.scores")?;
    let token_types = metadata.i32s("tokenizer.ggml.token_type")?;
    for (key, len) in [
        ("tokenizer.ggml.scores", scores.as_ref().map(Vec::len)),
        ("tokenizer.ggml.token_type", token_types.as_ref().map(Vec::len)),
    ] {
        if len.is_some_and(|len| len != tokens.len()) {
            let found = format!("{} values for {} tokens", len.unwrap_or(0), tokens.len());
            return Err(WeightsError::malformed(metadata.path(), key, found, MAKE_AGAIN));
        }
    }
    let merges = match metadata.array("tokenizer.ggml.merges")? {
        Some(merges) => Some(strings(metadata, "tokenizer.ggml.merges", &merges, false)?),
        None => None,
    };
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Ok(Some(GgufVocab {
        model: model.to_owned(),
        pre: owned(metadata.str("tokenizer.ggml.pre")?),
        tokens,
        scores,
        token_types,
        merges,
        bos: metadata.u32("tokenizer.ggml.bos_token_id")?,
        eos: metadata.u32("tokenizer.ggml.eos_token_id")?,
        eot: metadata.u32("tokenizer.ggml.eot_token_id")?,
        eom: metadata.u32("tokenizer.ggml.eom_token_id")?,
        unk: metadata.u32("tokenizer.ggml.unknown_token_id")?,
        pad: metadata.u32("tokenizer.ggml.padding_token_id")?,
        add_bos: metadata.bool("tokenizer.ggml.add_bos_token")?,
        add_eos: metadata.bool("tokenizer.ggml.add_eos_token")?,
        add_space_prefix: metadata.bool("tokenizer.ggml.add_space_prefix")?,
        chat_template: owned(metadata.str("tokenizer.chat_template")?),
    }))
}

/// The strings of an array; one that is not UTF-8 is an error, or spelled in bytes if `byte_level`.
fn strings(metadata: &Metadata, key: &str, array: &Array<'_>, byte_level: bool) -> Result<Vec<String>, WeightsError> {
    let items = array.strings().ok_or_else(|| metadata.wrong_type(key, "an array of strings"))?;
    items
        .enumerate()
        .map(|(i, bytes)| match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) if byte_level => Ok(bytes.iter().map(|b| byte_level_char(*b)).collect()),
            Err(_) => Err(WeightsError::NotUtf8 {
                path: metadata.path().to_path_buf(),
                what: format!("{key}[{i}]"),
                bytes: quoted(bytes),
            }),
        })
        .collect()
}

/// The character that byte-level BPE writes for a byte (GPT-2's table): printable Latin-1 characters stand for
/// themselves, the other 68 bytes, in order, for U+0100 and on.
///
/// A token of a byte-level vocabulary that is not UTF-8 can only be raw bytes that a converter forgot to spell so.
fn byte_level_char(byte: u8) -> char {
    let stands_for_itself = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if stands_for_itself(byte) {
        char::from(byte)
    } else {
        let before = (0..byte).filter(|b| !stands_for_itself(*b)).count();
        char::from_u32(0x100 + before as u32).unwrap_or(char::REPLACEMENT_CHARACTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_alphabet_is_gpt2s() {
        assert_eq!(byte_level_char(b'a'), 'a');
        assert_eq!(byte_level_char(b' '), 'Ġ');
        assert_eq!(byte_level_char(b'\n'), 'Ċ');
        assert_eq!(byte_level_char(0xad), 'Ń');
        let mut all: Vec<char> = (0..=255).map(byte_level_char).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 256);
    }
}
