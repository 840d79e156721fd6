//! `tokenizer.model`, SentencePiece's protobuf: as much of it as a GGUF vocabulary needs.
//!
//! ```text
//! ModelProto      1: SentencePiece (repeated)   2: TrainerSpec   3: NormalizerSpec
//! SentencePiece   1: piece string   2: score f32   3: type, numbered as GGUF's token types (1, normal, if missing)
//! TrainerSpec     3: model_type (2 = BPE)   40, 41, 42, 43: ids of unk, bos, eos, pad (0, 1, 2, -1; -1 = none)
//! NormalizerSpec  3: add_dummy_prefix (true)
//! ```

use std::path::Path;

use camelid_core::tokenizer::GgufVocab;

use super::vocab::kind;
use crate::WeightsError;
use crate::error::MAKE_AGAIN;

/// More pieces than any vocabulary has.
const MAX_PIECES: usize = 1 << 21;

/// True if these bytes begin as a model of SentencePiece does: with a piece. A tiktoken file is lines of base64.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x0a) && bytes.get(2) == Some(&0x0a)
}

/// The vocabulary of a model; only BPE is one that GGUF's "llama" means.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<GgufVocab, WeightsError> {
    let malformed = |found: &str| WeightsError::malformed(path, "the SentencePiece model", found, MAKE_AGAIN);
    let cut_off = || malformed("it is cut off or no protobuf");
    let mut vocab = GgufVocab { model: "llama".into(), pre: Some("default".into()), ..GgufVocab::default() };
    let (mut scores, mut types) = (Vec::new(), Vec::new());
    let (mut bpe, mut prefix) = (false, true);
    let (mut unk, mut bos, mut eos, mut pad) = (0i32, 1i32, 2i32, -1i32);
    let mut model = Fields(bytes);
    while !model.0.is_empty() {
        match model.next().ok_or_else(cut_off)? {
            (1, Field::Bytes(piece)) => {
                let (mut text, mut score, mut kind) = ("", 0.0, kind::NORMAL);
                let mut fields = Fields(piece);
                while !fields.0.is_empty() {
                    match fields.next().ok_or_else(cut_off)? {
                        (1, Field::Bytes(bytes)) => {
                            text = std::str::from_utf8(bytes).map_err(|_| malformed("a piece is not UTF-8"))?;
                        }
                        (2, Field::Fixed32(bits)) => score = f32::from_bits(bits),
                        (3, Field::Varint(n)) => kind = i32::try_from(n).unwrap_or(kind::NORMAL),
                        _ => {}
                    }
                }
                if vocab.tokens.len() >= MAX_PIECES {
                    return Err(malformed("it has more than two million pieces"));
                }
                vocab.tokens.push(text.to_owned());
                scores.push(score);
                types.push(kind);
            }
            (2, Field::Bytes(spec)) => {
                let mut fields = Fields(spec);
                while !fields.0.is_empty() {
                    match fields.next().ok_or_else(cut_off)? {
                        (3, Field::Varint(kind)) => bpe = kind == 2,
                        // Negative numbers come as 64 bits of two's complement.
                        (40, Field::Varint(id)) => unk = id as i32,
                        (41, Field::Varint(id)) => bos = id as i32,
                        (42, Field::Varint(id)) => eos = id as i32,
                        (43, Field::Varint(id)) => pad = id as i32,
                        _ => {}
                    }
                }
            }
            (3, Field::Bytes(spec)) => {
                let mut fields = Fields(spec);
                while !fields.0.is_empty() {
                    if let (3, Field::Varint(add)) = fields.next().ok_or_else(cut_off)? {
                        prefix = add != 0;
                    }
                }
            }
            _ => {}
        }
    }
    if !bpe {
        let remedy = "GGUF's vocabulary for Llama is one of BPE: use the tokenizer that belongs to the model";
        return Err(WeightsError::unsupported(path, "model_type", "another than BPE", remedy));
    }
    let count = vocab.tokens.len();
    let id = |id: i32| u32::try_from(id).ok().filter(|id| (*id as usize) < count);
    (vocab.unk, vocab.bos, vocab.eos, vocab.pad) = (id(unk), id(bos), id(eos), id(pad));
    (vocab.add_bos, vocab.add_eos, vocab.add_space_prefix) = (Some(true), Some(false), Some(prefix));
    (vocab.scores, vocab.token_types) = (Some(scores), Some(types));
    Ok(vocab)
}

enum Field<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64,
    Bytes(&'a [u8]),
}

/// What is left of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for i in 0..10 {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(7 * i)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// The next field: its number and value; `None` if the message is cut off or malformed.
    fn next(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                self.0 = self.0.get(8..)?;
                Field::Fixed64
            }
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(len)?;
                self.0 = rest;
                Field::Bytes(bytes)
            }
            5 => {
                let (bytes, rest) = self.0.split_first_chunk()?;
                self.0 = rest;
                Field::Fixed32(u32::from_le_bytes(*bytes))
            }
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
        fields.iter().flat_map(|(n, bytes)| [&[n << 3 | 2, bytes.len() as u8], *bytes].concat()).collect()
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let mut piece = message(&[(1, text.as_bytes())]);
        piece.push(2 << 3 | 5);
        piece.extend(score.to_le_bytes());
        piece.extend([3 << 3, kind]);
        piece
    }

    fn model() -> Vec<u8> {
        // pad_id is -1, in ten bytes.
        let trainer = [&[3 << 3, 2, 0xd8, 0x02][..], &[0xff; 9], &[1]].concat();
        message(&[
            (1, &piece("<unk>", 0.0, 2)),
            (1, &piece("<s>", 0.0, 3)),
            (1, &piece("</s>", 0.0, 3)),
            (1, &piece("<0x0A>", 0.0, 6)),
            (1, &piece("▁ab", -7.5, 1)),
            (2, &trainer),
            (3, &[3 << 3, 0]),
        ])
    }

    #[test]
    fn pieces_scores_and_types_are_read() {
        let vocab = read("tokenizer.model".as_ref(), &model()).unwrap();
        assert!(is_one(&model()) && !is_one(b"IQ== 0\n"));
        assert_eq!(vocab.tokens, ["<unk>", "<s>", "</s>", "<0x0A>", "▁ab"]);
        assert_eq!(vocab.scores.unwrap(), [0.0, 0.0, 0.0, 0.0, -7.5]);
        assert_eq!(vocab.token_types.unwrap(), [2, 3, 3, 6, 1]);
        assert_eq!((vocab.bos, vocab.eos, vocab.pad, vocab.add_space_prefix), (Some(1), Some(2), None, Some(false)));
    }

    #[test]
    fn a_model_cut_off_anywhere_is_read_or_refused() {
        let model = model();
        for end in 0..model.len() {
            let _ = read("tokenizer.model".as_ref(), &model[..end]);
            let mut changed = model.clone();
            changed[end] ^= 0xff;
            let _ = read("tokenizer.model".as_ref(), &changed);
        }
        assert!(read("tokenizer.model".as_ref(), &model[..20]).is_err());
    }
}
