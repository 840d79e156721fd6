//! Small vocabularies of both kinds.
#![allow(dead_code, reason = "each test file uses a part")]

use camelid_core::tokenizer::{EncodeOptions, Tokenizer};
use camelid_tokenizer::{GgufVocab, HfTokenizer};

/// Special tokens neither added nor recognised.
pub const PLAIN: EncodeOptions = EncodeOptions { add_special_tokens: false, parse_special: false };
/// Special tokens recognised, none added.
pub const PARSE: EncodeOptions = EncodeOptions { add_special_tokens: false, parse_special: true };

pub fn ids(tokenizer: &HfTokenizer, text: &str, options: EncodeOptions) -> Vec<u32> {
    tokenizer.encode(text, options).unwrap().ids
}

/// The tokens of `text` as the vocabulary writes them.
pub fn tokens(tokenizer: &HfTokenizer, text: &str, options: EncodeOptions) -> Vec<String> {
    ids(tokenizer, text, options).into_iter().map(|id| tokenizer.id_to_token(id).unwrap()).collect()
}

/// Adds a token to a vocabulary with scores.
pub fn add(vocab: &mut GgufVocab, token: &str, score: f32, kind: i32) -> u32 {
    vocab.tokens.push(token.to_owned());
    vocab.scores.get_or_insert_default().push(score);
    vocab.token_types.get_or_insert_default().push(kind);
    vocab.tokens.len() as u32 - 1
}

/// `<unk>`, `<s>`, `</s>`, the 256 bytes from id 3 on, then pieces: a LLaMA-2 vocabulary in small.
pub fn sentencepiece() -> GgufVocab {
    let mut vocab = GgufVocab { model: "llama".to_owned(), ..GgufVocab::default() };
    add(&mut vocab, "<unk>", 0.0, 2);
    add(&mut vocab, "<s>", 0.0, 3);
    add(&mut vocab, "</s>", 0.0, 3);
    for byte in 0..=255 {
        add(&mut vocab, &format!("<0x{byte:02X}>"), 0.0, 6);
    }
    let pieces = ["▁B", "an", "a", "▁Ban", "ana", "▁▁", "▁▁▁▁", "▁the", "th", "he", "é", "ll", "▁h", "</", "s>", "<s"];
    let characters = "▁Banthelos<>/éöx0日本".chars().map(String::from);
    for (rank, piece) in pieces.into_iter().map(str::to_owned).chain(characters).enumerate() {
        if !vocab.tokens.contains(&piece) {
            add(&mut vocab, &piece, -(rank as f32), 1);
        }
    }
    add(&mut vocab, "<tool>", 0.0, 4);
    add(&mut vocab, "<|turn|>", 0.0, 3);
    vocab
}

/// The printable character of every byte, as GPT-2 has it.
pub fn alphabet() -> Vec<char> {
    let mut next = 0x100;
    (0..=255u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).unwrap()
            }
        })
        .collect()
}

/// The 256 bytes, some merges, `<|begin|>`, `<|end|>` (control) and `<tool>` (user-defined).
pub fn byte_level(pre: &str) -> GgufVocab {
    let merges =
        ["Ġ t", "h e", "Ġt he", "i n", "r e", "l l", "Ġ Ġ", "ĠĠ ĠĠ", "Ã ©", "1 2", "12 3", "< |", "e n", "en d", "| >"];
    let mut tokens: Vec<String> = alphabet().into_iter().map(String::from).collect();
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let mut token_types = vec![1; tokens.len()];
    for (token, kind) in [("<|begin|>", 3), ("<|end|>", 3), ("<tool>", 4)] {
        tokens.push(token.to_owned());
        token_types.push(kind);
    }
    let id = |token: &str| tokens.iter().position(|t| t == token).map(|id| id as u32);
    GgufVocab {
        model: "gpt2".to_owned(),
        pre: Some(pre.to_owned()),
        bos: id("<|begin|>"),
        eos: id("<|end|>"),
        merges: Some(merges.iter().map(|merge| (*merge).to_owned()).collect()),
        token_types: Some(token_types),
        tokens,
        ..GgufVocab::default()
    }
}
