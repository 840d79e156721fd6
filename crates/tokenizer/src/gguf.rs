//! Vocabularies out of GGUF metadata (`tokenizer.ggml.*`).

use std::collections::HashMap;

pub use camelid_core::tokenizer::GgufVocab;
use camelid_core::tokenizer::{SpecialTokens, TokenId};
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::{byte_fallback::ByteFallback, fuse::Fuse, strip::Strip};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Prepend, Replace, Sequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, Tokenizer};

use crate::config::{SpecialToken, TokenizerConfig};
use crate::decoder::byte_token;
use crate::error::{LoadError, guarded};
use crate::hf::{HfTokenizer, Parts};
use crate::pre_tokenizer;
use crate::sentencepiece::{MAX_PIECE_BYTES, Piece, SentencePieceBpe};

const ORIGIN: &str = "the GGUF vocabulary";
const KNOWN_MODELS: &str = "\"llama\" (SentencePiece BPE), \"gpt2\" (byte-level BPE)";

/// Control tokens that end a turn, for files without `eot_token_id` or `eom_token_id`. llama.cpp knows them by text too.
const END_OF_TURN: [&str; 5] = ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|eom_id|>"];

/// What a token is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// A vocabulary whose parts fit together.
struct Checked {
    tokens: Vec<String>,
    kinds: Vec<Kind>,
    ids: HashMap<String, TokenId>,
    special: SpecialTokens,
}

impl HfTokenizer {
    /// The tokenizer of a GGUF file.
    ///
    /// It gives the ids that llama.cpp gives. Text that spells a control token is that token only if asked for
    /// (`parse_special`); user-defined tokens are always found.
    ///
    /// # Errors
    /// Everything in the vocabulary that does not fit together, with the field and index. The caller knows the file.
    pub fn from_gguf(vocab: GgufVocab) -> Result<Self, LoadError> {
        match vocab.model.as_str() {
            "llama" => sentencepiece(vocab),
            "gpt2" => byte_level(vocab),
            _ => Err(LoadError::UnknownModel { model: vocab.model, known: KNOWN_MODELS }),
        }
    }
}

fn sentencepiece(mut vocab: GgufVocab) -> Result<HfTokenizer, LoadError> {
    sentencepiece_defaults(&mut vocab)?;
    let checked = check(&vocab)?;
    let scores = scores(&vocab)?;

    let mut pieces = Vec::with_capacity(checked.tokens.len());
    let mut byte_tokens = [None; 256];
    for (id, (text, kind)) in (0..).zip(checked.tokens.iter().zip(&checked.kinds)) {
        match kind {
            Kind::Control | Kind::Unknown => {}
            Kind::Byte => match byte_token(text.as_bytes()) {
                Some(byte) => byte_tokens[usize::from(byte)] = Some(id),
                None => {
                    let found = format!("{text:?} is of type byte");
                    return Err(bad("tokens", Some(id as usize), found, "a byte token is written <0xNN>"));
                }
            },
            Kind::Normal | Kind::UserDefined | Kind::Unused if text.len() > MAX_PIECE_BYTES => {
                // A user-defined token is found as a whole and needs no merges.
                if *kind != Kind::UserDefined {
                    let found = format!("a token of {} bytes", text.len());
                    let remedy = format!("a SentencePiece token has at most {MAX_PIECE_BYTES}");
                    return Err(bad("tokens", Some(id as usize), found, &remedy));
                }
            }
            Kind::Normal | Kind::UserDefined | Kind::Unused => {
                if !vocab.tokens[id as usize].is_empty() {
                    pieces.push(Piece { id, text, score: scores[id as usize], unused: *kind == Kind::Unused });
                }
            }
        }
    }
    let unknown = checked.special.unk;
    let encoder = SentencePieceBpe::new(&pieces, byte_tokens, unknown, checked.tokens.len() as u32);

    // As llama.cpp does, the space goes in front of the text and of what follows a special token.
    let add_space_prefix = vocab.add_space_prefix.unwrap_or(true);
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    let mut decoders: Vec<DecoderWrapper> =
        vec![replace("▁", " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
    if add_space_prefix {
        normalizers.push(Prepend::new("▁".to_owned()).into());
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    normalizers.push(replace(" ", "▁")?.into());

    let mut library = Tokenizer::new(vocabulary(&checked.ids, Vec::new(), false)?);
    library
        .with_normalizer(Some(Sequence::new(normalizers)))
        .map_err(|e| LoadError::library(ORIGIN, e))?
        .with_decoder(Some(DecoderSequence::new(decoders)));
    assemble(vocab, checked, library, Some(encoder), true)
}

/// Finds the special tokens that the file does not name: at the ids and under the names that SentencePiece gives them.
fn sentencepiece_defaults(vocab: &mut GgufVocab) -> Result<(), LoadError> {
    let kinds = kinds(vocab)?;
    let at = |id: usize, name: &str, kind: Kind| {
        let fits = vocab.tokens.get(id).is_some_and(|text| kinds[id] == kind || text == name);
        fits.then_some(id as TokenId)
    };
    let (unk, bos, eos) = (at(0, "<unk>", Kind::Unknown), at(1, "<s>", Kind::Control), at(2, "</s>", Kind::Control));
    vocab.unk = vocab.unk.or(unk);
    vocab.bos = vocab.bos.or(bos);
    vocab.eos = vocab.eos.or(eos);
    Ok(())
}

fn byte_level(mut vocab: GgufVocab) -> Result<HfTokenizer, LoadError> {
    let pre = pre_tokenizer::by_name(vocab.pre.as_deref())?;
    let checked = check(&vocab)?;
    let Some(merges) = vocab.merges.take() else {
        return Err(bad("merges", None, "missing", "a gpt2 vocabulary needs them: convert the model again"));
    };
    let mut pairs: Vec<(String, String)> = Vec::with_capacity(merges.len());
    let mut seen = std::collections::HashSet::with_capacity(merges.len());
    for (index, merge) in merges.iter().enumerate() {
        // The left token may itself begin with a space.
        let cut = merge.char_indices().skip(1).find(|(_, c)| *c == ' ');
        let Some((left, right)) = cut.map(|(at, _)| (&merge[..at], &merge[at + 1..])) else {
            return Err(bad("merges", Some(index), format!("{merge:?}"), "a merge is two tokens with a space between"));
        };
        let joined = [left, right].concat();
        if let Some(unknown) = [left, right, &joined].into_iter().find(|token| !checked.ids.contains_key(*token)) {
            let found = format!("{merge:?} names {unknown:?}, which is not a token");
            return Err(bad("merges", Some(index), found, "the file is damaged or was converted wrongly"));
        }
        // Of equal merges the first counts.
        if seen.insert((checked.ids[left], checked.ids[right])) {
            pairs.push((left.to_owned(), right.to_owned()));
        }
    }
    let mut library = Tokenizer::new(vocabulary(&checked.ids, pairs, pre.ignore_merges)?);
    library.with_pre_tokenizer(Some(pre.steps)).with_decoder(Some(ByteLevel::default()));
    assemble(vocab, checked, library, None, pre.add_bos)
}

/// Registers the tokens that are found before all merging, and puts the tokenizer together.
fn assemble(
    vocab: GgufVocab,
    checked: Checked,
    mut library: Tokenizer,
    sentencepiece: Option<SentencePieceBpe>,
    add_bos_by_default: bool,
) -> Result<HfTokenizer, LoadError> {
    let is_special = |id: TokenId| checked.special.all.binary_search(&id).is_ok();
    let added = (0..).zip(checked.tokens.iter().zip(&checked.kinds)).filter_map(|(id, (text, kind))| {
        let found_first = *kind == Kind::UserDefined || is_special(id);
        found_first.then(|| AddedToken::from(text.clone(), is_special(id)).normalized(false))
    });
    let added: Vec<AddedToken> = added.collect();
    guarded(|| library.add_tokens(added)).map_err(|e| LoadError::library(ORIGIN, e))?;

    let mut before = Vec::new();
    match (vocab.add_bos, checked.special.bos) {
        (Some(true), None) => return Err(bad("add_bos_token", None, "true", "set bos_token_id, there is none")),
        (Some(false), _) | (None, None) => {}
        (Some(true), Some(bos)) => before.push(bos),
        (None, Some(bos)) => before.extend(add_bos_by_default.then_some(bos)),
    }
    let mut after = Vec::new();
    if vocab.add_eos == Some(true) {
        match vocab.eos {
            Some(eos) => after.push(eos),
            None => return Err(bad("add_eos_token", None, "true", "set eos_token_id, there is none")),
        }
    }
    let name = |id: Option<TokenId>| id.map(|id| SpecialToken::new(checked.tokens[id as usize].as_str()));
    let named = [vocab.bos, vocab.eos, vocab.unk, vocab.pad];
    let others = checked.special.all.iter().filter(|id| !named.contains(&Some(**id)));
    let mut config = TokenizerConfig {
        bos_token: name(vocab.bos),
        eos_token: name(vocab.eos),
        unk_token: name(vocab.unk),
        pad_token: name(vocab.pad),
        additional_special_tokens: others.filter_map(|id| name(Some(*id))).collect(),
        add_bos_token: vocab.add_bos,
        add_eos_token: vocab.add_eos,
        ..TokenizerConfig::default()
    };
    if let Some(template) = vocab.chat_template {
        config.set_chat_template("default", template);
    }
    HfTokenizer::assemble(Parts {
        library,
        sentencepiece,
        frame: Some((before, after)),
        special: checked.special,
        config,
        added_verbatim: true,
        origin: ORIGIN,
    })
}

/// Checks lengths, kinds, ids and that no text is there twice.
fn check(vocab: &GgufVocab) -> Result<Checked, LoadError> {
    let count = vocab.tokens.len();
    if count == 0 {
        return Err(bad(
            "tokens",
            None,
            "no tokens",
            "the file has no vocabulary: convert the model with its tokenizer",
        ));
    }
    if u32::try_from(count).is_err() {
        return Err(bad("tokens", None, format!("{count} tokens"), "token ids have 32 bits"));
    }
    let kinds = kinds(vocab)?;
    let mut ids: HashMap<String, TokenId> = HashMap::with_capacity(count);
    let mut tokens = Vec::with_capacity(count);
    for (id, text) in (0..).zip(&vocab.tokens) {
        let text = if text.is_empty() { format!("[EMPTY_{id}]") } else { text.clone() };
        if let Some(first) = ids.insert(text.clone(), id) {
            let found = format!("{text:?} again, the text of token {first}");
            return Err(bad(
                "tokens",
                Some(id as usize),
                found,
                "two ids for one text: the file was converted wrongly",
            ));
        }
        tokens.push(text);
    }

    for (key, id) in [
        ("bos_token_id", vocab.bos),
        ("eos_token_id", vocab.eos),
        ("eot_token_id", vocab.eot),
        ("eom_token_id", vocab.eom),
        ("unknown_token_id", vocab.unk),
        ("padding_token_id", vocab.pad),
    ] {
        if let Some(id) = id.filter(|id| *id as usize >= count) {
            return Err(bad(key, None, id.to_string(), &format!("the vocabulary has {count} tokens")));
        }
    }
    let mut eos: Vec<TokenId> = [vocab.eos, vocab.eot, vocab.eom].into_iter().flatten().collect();
    if vocab.eot.is_none() || vocab.eom.is_none() {
        let by_text = END_OF_TURN.iter().filter_map(|text| ids.get(*text).copied());
        eos.extend(by_text.filter(|id| kinds[*id as usize] == Kind::Control));
    }
    let mut distinct = std::collections::HashSet::new();
    eos.retain(|id| distinct.insert(*id));

    let mut all: Vec<TokenId> = (0..count as u32)
        .filter(|id| matches!(kinds[*id as usize], Kind::Control | Kind::Unknown))
        .chain(vocab.bos)
        .chain(eos.iter().copied())
        .collect();
    all.sort_unstable();
    all.dedup();
    let special = SpecialTokens { bos: vocab.bos, eos, pad: vocab.pad, unk: vocab.unk, all };
    Ok(Checked { tokens, kinds, ids, special })
}

fn kinds(vocab: &GgufVocab) -> Result<Vec<Kind>, LoadError> {
    let Some(types) = &vocab.token_types else { return Ok(vec![Kind::Normal; vocab.tokens.len()]) };
    same_length("token_type", types.len(), vocab.tokens.len())?;
    let kind = |(index, kind): (usize, &i32)| match kind {
        0 | 1 => Ok(Kind::Normal),
        2 => Ok(Kind::Unknown),
        3 => Ok(Kind::Control),
        4 => Ok(Kind::UserDefined),
        5 => Ok(Kind::Unused),
        6 => Ok(Kind::Byte),
        other => Err(bad("token_type", Some(index), other.to_string(), "token types go from 0 to 6")),
    };
    types.iter().enumerate().map(kind).collect()
}

fn scores(vocab: &GgufVocab) -> Result<Vec<f32>, LoadError> {
    let Some(scores) = &vocab.scores else {
        tracing::warn!("the GGUF vocabulary has no tokenizer.ggml.scores; taking all as 0, from left to right");
        return Ok(vec![0.0; vocab.tokens.len()]);
    };
    same_length("scores", scores.len(), vocab.tokens.len())?;
    match scores.iter().position(|score| score.is_nan()) {
        Some(index) => Err(bad("scores", Some(index), "not a number", "the file is damaged")),
        None => Ok(scores.clone()),
    }
}

fn same_length(field: &str, found: usize, tokens: usize) -> Result<(), LoadError> {
    if found == tokens {
        return Ok(());
    }
    Err(bad(
        field,
        None,
        format!("{found} entries for {tokens} tokens"),
        "the file is damaged or was converted wrongly",
    ))
}

/// The library's vocabulary, with the merges of a byte-level one.
fn vocabulary(
    ids: &HashMap<String, TokenId>,
    merges: Vec<(String, String)>,
    ignore_merges: bool,
) -> Result<BPE, LoadError> {
    let vocab: Vocab = ids.iter().map(|(text, id)| (text.clone(), *id)).collect();
    let builder = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(ignore_merges);
    guarded(|| builder.build()).map_err(|e| LoadError::library(ORIGIN, e))
}

fn replace(pattern: &str, content: &str) -> Result<Replace, LoadError> {
    Replace::new(pattern, content).map_err(|e| LoadError::library(ORIGIN, e))
}

fn bad(key: &str, index: Option<usize>, found: impl Into<String>, remedy: &str) -> LoadError {
    let index = index.map(|i| format!("[{i}]")).unwrap_or_default();
    LoadError::field(ORIGIN, format!("tokenizer.ggml.{key}{index}"), found, remedy)
}
