//! `tokenizer.model` as tiktoken reads it and Meta publishes it for Llama 3: a line per token, its bytes in base64 and
//! its rank.
//!
//! The rank is the token's id and the order of merging: of all neighbours that are a token together, the pair of the
//! lowest rank is merged first. The file holds no special tokens; Llama 3 has 256 of them behind the last rank.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camelid_core::tokenizer::TokenId;
use serde_json::{Value, json};

use crate::config::{SpecialToken, TokenizerConfig};
use crate::decoder::char_of_byte;
use crate::error::LoadError;
use crate::pre_tokenizer::LLAMA3;
use crate::vocab_file::merges::{self, MAX_TOKEN_BYTES};

/// Most tokens of a file. Llama 3 has 128,000.
const MAX_TOKENS: usize = 1 << 22;

const DAMAGED: &str = "the file is damaged: fetch it again";

/// Special tokens of Llama 3: as many as it keeps free for them.
const LLAMA3_SPECIAL_TOKENS: u32 = 256;

/// Whether these are the bytes of such a file: the first line is base64, a space and a number.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(space) = line.iter().position(|b| *b == b' ') else { return false };
    let (token, rank) = (&line[..space], &line[space + 1..]);
    let base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    !token.is_empty() && token.iter().all(base64) && !rank.is_empty() && rank.iter().all(u8::is_ascii_digit)
}

/// The special tokens of Llama 3 in order, the first one with the id behind the last rank (`tokenizer.py` of Meta's
/// `llama3`). Llama 3.1 named some of the reserved ones; their ids are the same.
pub fn llama3_special_tokens() -> Vec<String> {
    let reserved = |n: u32| format!("<|reserved_special_token_{n}|>");
    let mut tokens: Vec<String> = ["<|begin_of_text|>", "<|end_of_text|>"].map(str::to_owned).into();
    tokens.extend((0..4).map(reserved));
    tokens.extend(["<|start_header_id|>", "<|end_header_id|>"].map(str::to_owned));
    tokens.push(reserved(4));
    tokens.push("<|eot_id|>".to_owned());
    tokens.extend((5..LLAMA3_SPECIAL_TOKENS - 5).map(reserved));
    tokens
}

/// The special tokens of Llama 3.1 and later in order (`tokenizer.py` of Meta's `llama-models`).
pub fn llama31_special_tokens() -> Vec<String> {
    let reserved = |n: u32| format!("<|reserved_special_token_{n}|>");
    let mut tokens: Vec<String> = ["<|begin_of_text|>", "<|end_of_text|>"].map(str::to_owned).into();
    tokens.extend((0..2).map(reserved));
    tokens.push("<|finetune_right_pad_id|>".to_owned());
    tokens.push(reserved(2));
    let named = ["<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"];
    tokens.extend(named.map(str::to_owned));
    tokens.extend((3..LLAMA3_SPECIAL_TOKENS - 8).map(reserved));
    tokens
}

/// The contents of the `tokenizer.json` that says the same as the file, and the configuration that goes with it.
///
/// The special tokens are those that `config` lists with ids behind the last rank; if it lists none, Llama 3's.
pub(super) fn load(
    bytes: &[u8],
    mut config: TokenizerConfig,
    origin: &str,
) -> Result<(Value, TokenizerConfig), LoadError> {
    let tokens = parse(bytes, origin)?;
    let merges = merges::generate(&tokens, origin)?;
    let first = tokens.len() as TokenId;
    let mut special: Vec<(TokenId, SpecialToken)> =
        config.added_tokens.iter().filter(|(id, _)| *id >= first).cloned().collect();
    if special.is_empty() {
        special = (first..).zip(llama3_special_tokens()).map(|(id, token)| (id, SpecialToken::new(token))).collect();
        let named = |text: &str| Some(SpecialToken::new(text));
        config.bos_token = config.bos_token.or_else(|| named("<|begin_of_text|>"));
        config.eos_token = config.eos_token.or_else(|| named("<|end_of_text|>"));
    }
    if let Some(((id, token), expected)) = special.iter().zip(first..).find(|((id, _), expected)| id != expected) {
        let found = format!("{:?} has id {id}, and no token has {expected}", token.content);
        let remedy = "the ids of added tokens have to follow the vocabulary without a gap";
        return Err(LoadError::field(origin, "added_tokens_decoder", found, remedy));
    }
    config.add_bos_token = config.add_bos_token.or(Some(config.bos_token.is_some()));
    config.tokenizer_class.get_or_insert_with(|| "PreTrainedTokenizerFast".to_owned());
    let added: Vec<Value> = special.iter().map(|(id, token)| token.to_json(*id)).collect();
    let vocab: serde_json::Map<String, Value> = tokens.into_iter().map(|(text, id)| (text, id.into())).collect();
    let byte_level =
        |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let json = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": false},
            byte_level(false),
        ]},
        "post_processor": null,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": true,
            "vocab": vocab,
            "merges": merges,
        },
    });
    Ok((json, config))
}

/// The tokens, written in the printable alphabet of byte-level vocabularies, in order of their ranks.
fn parse(bytes: &[u8], origin: &str) -> Result<Vec<(String, TokenId)>, LoadError> {
    let refuse = |line: usize, found: String, remedy: &str| {
        Err(LoadError::field(origin, format!("line {}", line + 1), found, remedy))
    };
    let mut tokens: Vec<(String, TokenId)> = Vec::new();
    // Token and rank -> the line it is on.
    let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut ranks: HashMap<TokenId, usize> = HashMap::new();
    for (n, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        if tokens.len() == MAX_TOKENS {
            return refuse(n, format!("more than {MAX_TOKENS} tokens"), DAMAGED);
        }
        let Some((token, rank)) = line.iter().position(|b| *b == b' ').map(|at| (&line[..at], &line[at + 1..])) else {
            return refuse(n, "no space between token and rank".into(), DAMAGED);
        };
        if token.len() > MAX_TOKEN_BYTES * 2 {
            return refuse(n, format!("a token of {} characters", token.len()), DAMAGED);
        }
        let token = match STANDARD.decode(token) {
            Ok(token) if !token.is_empty() => token,
            Ok(_) => return refuse(n, "an empty token".into(), DAMAGED),
            Err(e) => return refuse(n, format!("the token is not base64: {e}"), DAMAGED),
        };
        let number = std::str::from_utf8(rank).ok().filter(|r| r.bytes().all(|b| b.is_ascii_digit()));
        let Some(rank) = number.and_then(|r| r.parse::<TokenId>().ok()) else {
            return refuse(n, format!("the rank is \"{}\"", rank.escape_ascii()), "a rank is a number of 32 bits");
        };
        if let Some(first) = ranks.insert(rank, n) {
            return refuse(n, format!("rank {rank}, which line {} has too", first + 1), "ranks have to be distinct");
        }
        tokens.push((token.iter().map(|b| char_of_byte(*b)).collect(), rank));
        if let Some(first) = seen.insert(token, n) {
            return refuse(n, format!("the token of line {} again", first + 1), "tokens have to be distinct");
        }
    }
    tokens.sort_unstable_by_key(|(_, rank)| *rank);
    if let Some((expected, (_, rank))) = (0..).zip(&tokens).find(|(expected, (_, rank))| rank != expected) {
        let found = format!("rank {rank}, and none is {expected}, of {} tokens", tokens.len());
        return refuse(ranks[rank], found, "ranks have to go from 0 without a gap");
    }
    if let Some(byte) = (0..=255u8).find(|byte| !seen.contains_key(&[*byte][..])) {
        let remedy = "a vocabulary without it could not write every text";
        return Err(LoadError::field(origin, "the tokens", format!("none is the byte 0x{byte:02X}"), remedy));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_3_has_256_special_tokens() {
        for tokens in [llama3_special_tokens(), llama31_special_tokens()] {
            assert_eq!(tokens.len(), 256);
            assert_eq!(
                (tokens[0].as_str(), tokens[6].as_str(), tokens[9].as_str()),
                ("<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>")
            );
            let distinct: std::collections::HashSet<&String> = tokens.iter().collect();
            assert_eq!(distinct.len(), 256);
        }
        assert_eq!(llama3_special_tokens()[255], "<|reserved_special_token_250|>");
        assert_eq!(llama31_special_tokens()[255], "<|reserved_special_token_247|>");
    }

    #[test]
    fn the_first_line_tells() {
        assert!(looks_like(b"IQ== 0\nIg== 1\n"));
        assert!(looks_like(b"IQ== 0\r\n"));
        for other in [&b""[..], b"\n\x0e\n\x05<unk>", b"IQ==0\n", b"IQ== x\n", b" 1\n", b"{\"a\": 1}"] {
            assert!(!looks_like(other), "{other:?}");
        }
    }
}
