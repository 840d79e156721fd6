//! `tokenizer.model` as SentencePiece writes it: a `ModelProto` of Protocol Buffers.
//!
//! The messages and their field numbers are those of `sentencepiece_model.proto`. Only BPE models are read, with the
//! normalizations that Llamas were trained with; anything else is refused by name.

use std::collections::HashMap;

use camelid_core::tokenizer::TokenId;
use serde_json::{Value as Json, json};

use crate::config::{SpecialToken, TokenizerConfig};
use crate::decoder::byte_token;
use crate::error::LoadError;
use crate::hf::HfTokenizer;
use crate::llama::{LlamaParts, prepend_scheme};
use crate::sentencepiece::{MAX_PIECE_BYTES, Piece as Mergeable, SentencePieceBpe};
use crate::vocab_file::wire::{Field, Fields, Malformed, Value};

/// Most pieces of a model. The largest vocabularies in use have 262,144.
const MAX_PIECES: usize = 1 << 22;

const DAMAGED: &str = "the file is damaged or no SentencePiece model: fetch it again";

/// What a piece is for (`ModelProto.SentencePiece.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

#[derive(Debug)]
struct Piece {
    text: String,
    score: f32,
    kind: Kind,
}

/// A model, not yet checked. The defaults are those of the `.proto` file.
#[derive(Debug)]
struct Model {
    pieces: Vec<Piece>,
    model_type: u64,
    whitespace_as_suffix: bool,
    byte_fallback: bool,
    /// bos, eos, pad: an id below 0 is none.
    special_ids: [i64; 3],
    normalizer_name: String,
    charsmap: bool,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
}

/// The tokenizer of a SentencePiece model as transformers' `LlamaTokenizer` has it, with what `config` says.
///
/// It differs from transformers 5.8.0 in three things, in which the model file or the documentation goes before: merges
/// are tried in the order of the scores, as sentencepiece does, not of the ids (in LLaMA 2's file the two differ for runs
/// of spaces); a character without token is the unknown token where there are no byte tokens; and the
/// beginning-of-sequence token is added unless `config` says no.
pub(super) fn load(bytes: &[u8], config: TokenizerConfig, origin: &str) -> Result<HfTokenizer, LoadError> {
    let model = parse(bytes, origin)?;
    check_specs(&model, origin)?;
    check_pieces(&model.pieces, origin)?;
    let encoder = model.encoder();
    let config = model.complete(config);
    let prefix = config.add_prefix_space.unwrap_or(model.add_dummy_prefix);
    let parts = LlamaParts {
        unk_token: None,
        byte_fallback: model.byte_fallback,
        normalizer: model.normalizer(prefix),
        prepend_scheme: prepend_scheme(prefix, config.legacy.unwrap_or(false)),
        added: model.added(),
        tokens: model.pieces.into_iter().map(|piece| piece.text).zip(0..).collect(),
        merges: Vec::new(),
        config,
    };
    let mut tokenizer = parts.assemble(origin)?;
    tokenizer.sentencepiece = Some(encoder);
    Ok(tokenizer)
}

impl Model {
    /// What merges the pieces.
    fn encoder(&self) -> SentencePieceBpe {
        let mut byte_tokens = [None; 256];
        let mut unknown = None;
        let mut pieces = Vec::with_capacity(self.pieces.len());
        for (id, piece) in (0..).zip(&self.pieces) {
            match piece.kind {
                Kind::Control => {}
                Kind::Unknown => unknown = Some(id),
                Kind::Byte => {
                    if let Some(byte) = byte_token(piece.text.as_bytes()) {
                        byte_tokens[usize::from(byte)] = Some(id);
                    }
                }
                // A user-defined token is found as a whole and needs no merges.
                Kind::UserDefined if piece.text.len() > MAX_PIECE_BYTES => {}
                Kind::Normal | Kind::UserDefined | Kind::Unused => pieces.push(Mergeable {
                    id,
                    text: &piece.text,
                    score: piece.score,
                    unused: piece.kind == Kind::Unused,
                }),
            }
        }
        SentencePieceBpe::new(&pieces, byte_tokens, unknown, self.pieces.len() as TokenId)
    }

    /// The pieces that are found before all merging.
    fn added(&self) -> Vec<(TokenId, SpecialToken)> {
        let added = (0..).zip(&self.pieces).filter_map(|(id, piece)| {
            let special = match piece.kind {
                Kind::Control | Kind::Unknown => true,
                Kind::UserDefined => false,
                Kind::Normal | Kind::Unused | Kind::Byte => return None,
            };
            Some((id, SpecialToken { special, ..SpecialToken::new(piece.text.as_str()) }))
        });
        added.collect()
    }

    /// Fills in what `config` leaves to the model.
    fn complete(&self, mut config: TokenizerConfig) -> TokenizerConfig {
        let named = |kind: Kind, piece: &Piece| (piece.kind == kind).then(|| SpecialToken::new(piece.text.as_str()));
        let [bos, eos, pad] =
            self.special_ids.map(|id| named(Kind::Control, self.pieces.get(usize::try_from(id).ok()?)?));
        config.bos_token = config.bos_token.or(bos);
        config.eos_token = config.eos_token.or(eos);
        config.pad_token = config.pad_token.or(pad);
        config.unk_token = config.unk_token.or_else(|| self.pieces.iter().find_map(|p| named(Kind::Unknown, p)));
        config.add_bos_token = config.add_bos_token.or(Some(config.bos_token.is_some()));
        config.tokenizer_class.get_or_insert_with(|| "LlamaTokenizer".to_owned());
        if config.additional_special_tokens.is_empty() {
            let listed = self.added().into_iter().filter(|(id, _)| self.pieces[*id as usize].kind != Kind::Unknown);
            config.additional_special_tokens = listed.map(|(_, token)| token).collect();
        }
        config
    }

    /// What is done to a text first: spaces at its end are dropped, others become one. The one that is left at its
    /// beginning is then the one that would be put there.
    fn normalizer(&self, add_prefix_space: bool) -> Json {
        if !self.remove_extra_whitespaces {
            return Json::Null;
        }
        let replace = |pattern: &str, content: &str| json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content});
        let ends = if add_prefix_space { r" +\z" } else { r"\A +| +\z" };
        json!({"type": "Sequence", "normalizers": [replace(ends, ""), replace(" {2,}", " ")]})
    }
}

fn check_specs(model: &Model, origin: &str) -> Result<(), LoadError> {
    let refuse = |field: &str, found: String, remedy: &str| Err(LoadError::field(origin, field, found, remedy));
    let other_kind = match model.model_type {
        2 => None,
        1 => Some("UNIGRAM"),
        3 => Some("WORD"),
        4 => Some("CHAR"),
        _ => Some("unknown"),
    };
    if let Some(kind) = other_kind {
        let remedy = "Llamas have BPE models: convert this one to tokenizer.json with transformers' save_pretrained";
        return refuse("trainer_spec.model_type", format!("{} ({kind})", model.model_type), remedy);
    }
    if model.charsmap {
        let remedy = "only models trained with --normalization_rule_name=identity are read: convert this one to \
                      tokenizer.json with transformers' save_pretrained";
        return refuse(
            "normalizer_spec.name",
            format!("{:?}, with a table of characters", model.normalizer_name),
            remedy,
        );
    }
    if model.whitespace_as_suffix {
        return refuse("trainer_spec.treat_whitespace_as_suffix", "true".into(), "only false is read");
    }
    if !model.escape_whitespaces {
        return refuse("normalizer_spec.escape_whitespaces", "false".into(), "only true is read");
    }
    Ok(())
}

/// Checks that the pieces can be told apart and are what their kinds say.
fn check_pieces(pieces: &[Piece], origin: &str) -> Result<(), LoadError> {
    if pieces.is_empty() {
        return Err(LoadError::field(origin, "pieces", "none", DAMAGED));
    }
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(pieces.len());
    let mut unknown: Option<usize> = None;
    for (index, piece) in pieces.iter().enumerate() {
        let refuse =
            |found: String, remedy: &str| Err(LoadError::field(origin, format!("pieces[{index}]"), found, remedy));
        if piece.text.is_empty() {
            return refuse("an empty piece".into(), DAMAGED);
        }
        if let Some(first) = seen.insert(&piece.text, index) {
            return refuse(format!("{:?}, which is piece {first} too", piece.text), "pieces have to be distinct");
        }
        if piece.score.is_nan() {
            return refuse("a score that is not a number".into(), DAMAGED);
        }
        if piece.kind == Kind::Byte && byte_token(piece.text.as_bytes()).is_none() {
            return refuse(format!("{:?} is of type BYTE", piece.text), "a byte is written <0xNN>");
        }
        if piece.kind == Kind::Unknown
            && let Some(first) = unknown.replace(index)
        {
            return refuse(format!("a second unknown token beside piece {first}"), "there has to be one");
        }
        if piece.text.len() > MAX_PIECE_BYTES && matches!(piece.kind, Kind::Normal | Kind::Unused) {
            let remedy = format!("a piece has at most {MAX_PIECE_BYTES}");
            return refuse(format!("{} bytes", piece.text.len()), &remedy);
        }
    }
    Ok(())
}

fn parse(bytes: &[u8], origin: &str) -> Result<Model, LoadError> {
    let mut model = Model {
        pieces: Vec::new(),
        model_type: 1,
        whitespace_as_suffix: false,
        byte_fallback: false,
        special_ids: [1, 2, -1],
        normalizer_name: String::new(),
        charsmap: false,
        add_dummy_prefix: true,
        remove_extra_whitespaces: true,
        escape_whitespaces: true,
    };
    for field in Fields::new(bytes, 0) {
        let field = field.map_err(|e| malformed(&e, origin))?;
        match (field.number, field.value) {
            (1, Value::Bytes(message)) => {
                if model.pieces.len() == MAX_PIECES {
                    return Err(LoadError::field(origin, "pieces", format!("more than {MAX_PIECES}"), DAMAGED));
                }
                let index = model.pieces.len();
                model.pieces.push(piece(message, start(&field, message), index, origin)?);
            }
            (2, Value::Bytes(message)) => trainer_spec(message, start(&field, message), &mut model, origin)?,
            (3, Value::Bytes(message)) => normalizer_spec(message, start(&field, message), &mut model, origin)?,
            (1..=3, _) => return Err(wrong_type(&field, "a message", origin)),
            _ => {}
        }
    }
    Ok(model)
}

fn piece(message: &[u8], at: usize, index: usize, origin: &str) -> Result<Piece, LoadError> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: Kind::Normal };
    for field in Fields::new(message, at) {
        let field = field.map_err(|e| malformed(&e, origin))?;
        match (field.number, field.value) {
            (1, Value::Bytes(text)) => piece.text = string(text, &format!("pieces[{index}].piece"), origin)?,
            (2, Value::Fixed32(score)) => piece.score = f32::from_le_bytes(score),
            (3, Value::Varint(kind)) => {
                piece.kind = match kind {
                    1 => Kind::Normal,
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    4 => Kind::UserDefined,
                    5 => Kind::Unused,
                    6 => Kind::Byte,
                    other => {
                        let field = format!("pieces[{index}].type");
                        return Err(LoadError::field(origin, field, other.to_string(), "types go from 1 to 6"));
                    }
                };
            }
            (1..=3, _) => return Err(wrong_type(&field, "the value of a piece", origin)),
            _ => {}
        }
    }
    Ok(piece)
}

fn trainer_spec(message: &[u8], at: usize, model: &mut Model, origin: &str) -> Result<(), LoadError> {
    for field in Fields::new(message, at) {
        let field = field.map_err(|e| malformed(&e, origin))?;
        match (field.number, field.value) {
            (3, Value::Varint(kind)) => model.model_type = kind,
            (24, Value::Varint(yes)) => model.whitespace_as_suffix = yes != 0,
            (35, Value::Varint(yes)) => model.byte_fallback = yes != 0,
            // Ids are signed: an int32 is written as 64 bits, of which -1 has all set.
            (41, Value::Varint(id)) => model.special_ids[0] = id as i64,
            (42, Value::Varint(id)) => model.special_ids[1] = id as i64,
            (43, Value::Varint(id)) => model.special_ids[2] = id as i64,
            (3 | 24 | 35 | 41..=43, _) => return Err(wrong_type(&field, "a number", origin)),
            _ => {}
        }
    }
    Ok(())
}

fn normalizer_spec(message: &[u8], at: usize, model: &mut Model, origin: &str) -> Result<(), LoadError> {
    for field in Fields::new(message, at) {
        let field = field.map_err(|e| malformed(&e, origin))?;
        match (field.number, field.value) {
            (1, Value::Bytes(name)) => model.normalizer_name = string(name, "normalizer_spec.name", origin)?,
            (2, Value::Bytes(map)) => model.charsmap = !map.is_empty(),
            (3, Value::Varint(yes)) => model.add_dummy_prefix = yes != 0,
            (4, Value::Varint(yes)) => model.remove_extra_whitespaces = yes != 0,
            (5, Value::Varint(yes)) => model.escape_whitespaces = yes != 0,
            (1..=5, _) => return Err(wrong_type(&field, "another type", origin)),
            _ => {}
        }
    }
    Ok(())
}

/// Where in the file the message of a field begins: behind its key and its length, which end where the message starts.
fn start(field: &Field<'_>, message: &[u8]) -> usize {
    let length_digits = (usize::BITS - message.len().leading_zeros()).div_ceil(7).max(1) as usize;
    field.at + 1 + length_digits
}

fn string(bytes: &[u8], field: &str, origin: &str) -> Result<String, LoadError> {
    let text = std::str::from_utf8(bytes).map_err(|e| LoadError::field(origin, field, e.to_string(), DAMAGED))?;
    Ok(text.to_owned())
}

fn malformed(error: &Malformed, origin: &str) -> LoadError {
    LoadError::field(origin, format!("byte {}", error.at), error.found, DAMAGED)
}

fn wrong_type(field: &Field<'_>, wanted: &str, origin: &str) -> LoadError {
    let found = format!("field {} is not {wanted}", field.number);
    LoadError::field(origin, format!("byte {}", field.at), found, DAMAGED)
}
