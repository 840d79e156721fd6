//! Level `tokenizer`: text to ids and back, on small vocabularies of every kind.
//!
//! `suite/tokenizer` has the vocabularies and what texts become with them, as two encoders that agree say
//! (`reference/tokenizer_cases.py`).

use std::sync::Arc;

use camelid_core::tokenizer::{EncodeOptions, Encoding, TokenId, Tokenizer, TokenizerError};
use camelid_tokenizer::{GgufVocab, HfTokenizer, TokenizerConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::case::{Case, Context, Evidence, Problem, Profile};
use crate::check;
use crate::suite::{Suite, SuiteError};

/// Kinds of vocabularies, and whose cases they are held to.
const KINDS: &[(&str, &str)] = &[
    ("bytes", "bytes"),
    ("pattern", "pattern"),
    ("ranks", "pattern"),
    ("pieces", "pieces"),
    ("scored", "pieces"),
    ("model", "model"),
];

/// The kind that takes a space in front of a text for the one it would put there.
const TAKES_THE_FIRST_SPACE: &str = "model";

/// As users' text comes in: nothing in it is special.
const PLAIN: EncodeOptions = EncodeOptions { add_special_tokens: false, parse_special: false };
/// As prompts are made.
const FRAMED: EncodeOptions = EncodeOptions { add_special_tokens: true, parse_special: true };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    encode: Vec<Text>,
    decode: Vec<Ids>,
    tokens: Vec<String>,
    special: Vec<TokenId>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: String,
    text: String,
    plain: Vec<TokenId>,
    parsed: Vec<TokenId>,
    /// Bytes of `plain` in hexadecimal: the text, but for what the vocabulary cannot write.
    back: String,
    /// Bytes of `parsed` without special tokens, in hexadecimal.
    decoded: String,
    /// The same with them.
    written: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ids {
    ids: Vec<TokenId>,
    decoded: String,
    written: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VocabularyFile {
    tokenizer: Option<serde_json::Value>,
    config: Option<serde_json::Value>,
    gguf: Option<Scored>,
    /// A `tokenizer.model`, in hexadecimal.
    file: Option<String>,
}

/// The values of a GGUF file's `tokenizer.ggml.*`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scored {
    model: String,
    tokens: Vec<String>,
    scores: Vec<f32>,
    token_types: Vec<i32>,
    bos: u32,
    eos: u32,
    unk: u32,
}

/// Its cases.
///
/// # Errors
/// For files of the suite that cannot be used.
pub fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let mut cases = Vec::new();
    for (kind, expected) in KINDS {
        let file: CaseFile = read(suite, &format!("tokenizer/{expected}.cases.json"))?;
        let mut add = |name: &str, about: &str, run: Box<Run>| {
            let id = format!("tokenizer/{kind}/{name}");
            cases.push(Case::new(id, Profile::Core, about, move |cx: &Context<'_>| {
                let tokenizer = load(cx, kind)?;
                run(&*tokenizer).map(|()| Evidence::default())
            }));
        };
        for text in file.encode {
            let name = format!("encode_{}", text.name);
            let about = "ids, offsets, and the text again, whole and token by token";
            add(&name, about, Box::new(move |t| encoded(t, &text)));
        }
        for (n, ids) in file.decode.into_iter().enumerate() {
            let about = "ids that no text becomes, half characters among them";
            add(&format!("decode_{n}"), about, Box::new(move |t| decoded(t, &ids)));
        }
        let (tokens, special): (Arc<[String]>, Arc<[TokenId]>) = (file.tokens.into(), file.special.into());
        let (all, known) = (tokens.clone(), special.clone());
        add("vocabulary", "every id has its token, every token its id", Box::new(move |t| vocabulary(t, &all, &known)));
        let all = tokens.clone();
        add("unknown_ids", "ids outside the vocabulary are refused", Box::new(move |t| unknown(t, all.len())));
        add("long_text", "a long text is the sum of its parts, and comes back", Box::new(long));
        let specials: Vec<String> = special.iter().map(|id| tokens[*id as usize].clone()).collect();
        add(
            "specials_as_text",
            "what a user types never becomes a special token",
            Box::new(move |t| typed(t, &specials, &special, *kind == TAKES_THE_FIRST_SPACE)),
        );
    }
    Ok(cases)
}

type Run = dyn Fn(&dyn Tokenizer) -> Result<(), Problem> + Send + Sync;

fn read<T: DeserializeOwned>(suite: &Suite, path: &str) -> Result<T, SuiteError> {
    let damaged = |e: serde_json::Error| SuiteError::Damaged { path: path.into(), problem: e.to_string() };
    serde_json::from_str(&suite.text(path)?).map_err(damaged)
}

/// The vocabulary of this kind, or the tokenizer under test over it.
fn load(cx: &Context<'_>, kind: &str) -> Result<Box<dyn Tokenizer>, Problem> {
    let blocked = |e: &dyn std::fmt::Display| Problem::Blocked(format!("tokenizer/{kind}.vocab.json: {e}"));
    let path = format!("tokenizer/{kind}.vocab.json");
    let file: VocabularyFile = read(cx.suite, &path).map_err(|e| blocked(&e))?;
    let config = file.config.unwrap_or_else(|| serde_json::json!({})).to_string();
    let config = TokenizerConfig::from_json(config.as_bytes(), &path).map_err(|e| blocked(&e))?;
    let tokenizer = match (file.tokenizer, file.gguf, file.file) {
        (Some(tokenizer), None, None) => {
            HfTokenizer::from_tokenizer_json(tokenizer.to_string().as_bytes(), Some(config))
        }
        (None, None, Some(file)) => HfTokenizer::from_tokenizer_model_bytes(&unhex(&file)?, Some(config)),
        (None, Some(gguf), None) => HfTokenizer::from_gguf(GgufVocab {
            model: gguf.model,
            tokens: gguf.tokens,
            scores: Some(gguf.scores),
            token_types: Some(gguf.token_types),
            bos: Some(gguf.bos),
            eos: Some(gguf.eos),
            unk: Some(gguf.unk),
            ..GgufVocab::default()
        }),
        _ => return Err(blocked(&"it must have one of `tokenizer`, `gguf` and `file`")),
    };
    let tokenizer = tokenizer.map_err(|e| Problem::fail(e.to_string()))?;
    Ok(cx.subject.tokenizer(Box::new(tokenizer)))
}

fn failed(e: TokenizerError) -> Problem {
    Problem::fail(e.to_string())
}

fn unhex(text: &str) -> Result<Vec<u8>, Problem> {
    let digits = |at: usize| text.get(at..at + 2).and_then(|d| u8::from_str_radix(d, 16).ok());
    let bytes = (0..text.len()).step_by(2).map(digits).collect::<Option<Vec<u8>>>();
    bytes.ok_or_else(|| Problem::Blocked(format!("`{text}` is not hexadecimal")))
}

fn show(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    if text.len() > 200 { format!("{}... ({} bytes)", &text[..200], bytes.len()) } else { text }
}

fn same_ids(what: &str, found: &[TokenId], expected: &[TokenId], tokenizer: &dyn Tokenizer) -> Result<(), Problem> {
    if found == expected {
        return Ok(());
    }
    let at = found.iter().zip(expected).position(|(f, e)| f != e).unwrap_or(found.len().min(expected.len()));
    let near = |ids: &[TokenId]| {
        let ids = &ids[at.min(ids.len())..(at + 5).min(ids.len())];
        ids.iter().map(|id| (*id, tokenizer.id_to_token(*id).unwrap_or_default())).collect::<Vec<_>>()
    };
    Err(Problem::fail(format!(
        "{what}: {} ids, expected {}; from index {at} on {:?}, expected {:?}",
        found.len(),
        expected.len(),
        near(found),
        near(expected)
    )))
}

fn same_bytes(what: &str, found: &[u8], expected: &[u8]) -> Result<(), Problem> {
    check!(found == expected, "{what}: \"{}\", expected \"{}\"", show(found), show(expected));
    Ok(())
}

fn encoded(tokenizer: &dyn Tokenizer, case: &Text) -> Result<(), Problem> {
    let plain = tokenizer.encode(&case.text, PLAIN).map_err(failed)?;
    same_ids("as plain text", &plain.ids, &case.plain, tokenizer)?;
    offsets(tokenizer, &case.text, &plain)?;
    let parsed = tokenizer.encode(&case.text, FRAMED).map_err(failed)?;
    same_ids("with special tokens", &parsed.ids, &case.parsed, tokenizer)?;
    offsets(tokenizer, &case.text, &parsed)?;
    let again = tokenizer.encode(&case.text, FRAMED).map_err(failed)?;
    check!(again == parsed, "the same text becomes {:?} a second time", again.ids);
    // Nothing added, special tokens recognised: the framed ids without the frame.
    let unframed = EncodeOptions { add_special_tokens: false, parse_special: true };
    let unframed = tokenizer.encode(&case.text, unframed).map_err(failed)?;
    check!(parsed.ids.ends_with(&unframed.ids), "without added tokens: {:?}, with them {:?}", unframed.ids, parsed.ids);
    let ids = Ids { ids: case.parsed.clone(), decoded: case.decoded.clone(), written: case.written.clone() };
    decoded(tokenizer, &ids)?;
    same_bytes("decoded again", &tokenizer.decode(&plain.ids, false).map_err(failed)?, &unhex(&case.back)?)
}

/// Offsets lie in the text, go on without gaps, and are where the token's bytes are.
fn offsets(tokenizer: &dyn Tokenizer, text: &str, encoding: &Encoding) -> Result<(), Problem> {
    let (ids, offsets) = (encoding.ids.len(), encoding.offsets.len());
    check!(ids == offsets, "{ids} ids, {offsets} offsets");
    let (mut start, mut end) = (0, 0);
    for (id, range) in encoding.ids.iter().zip(&encoding.offsets) {
        if *range == (0..0) {
            continue;
        }
        let inside = range.start <= range.end && text.get(range.clone()).is_some();
        check!(inside, "token {id} stands for bytes {range:?} of {}, which are no characters", text.len());
        check!(
            range.start >= start && range.start <= end,
            "token {id} stands for bytes {range:?}, after {start}..{end}"
        );
        (start, end) = (range.start, end.max(range.end));
        let bytes = tokenizer.token_bytes(*id).map_err(failed)?;
        let here = &text.as_bytes()[range.clone()];
        // The space that a vocabulary puts in front stands for the character behind it.
        let whole = bytes == here || bytes == b" " || bytes.strip_prefix(b" ").is_some_and(|rest| rest == here);
        // A token that is a part of a character stands for the whole of it.
        let part = bytes.len() <= here.len() + 3 && here.iter().any(|b| !b.is_ascii());
        check!(whole || part, "token {id}, \"{}\", stands for \"{}\"", show(&bytes), show(here));
    }
    check!(end == text.len(), "the offsets end at {end} of {}", text.len());
    Ok(())
}

fn decoded(tokenizer: &dyn Tokenizer, case: &Ids) -> Result<(), Problem> {
    let (skipped, written) = (unhex(&case.decoded)?, unhex(&case.written)?);
    same_bytes("decoded", &tokenizer.decode(&case.ids, true).map_err(failed)?, &skipped)?;
    same_bytes("decoded with special tokens", &tokenizer.decode(&case.ids, false).map_err(failed)?, &written)?;
    let special = &tokenizer.special_tokens().all;
    let mut stream = Vec::new();
    for id in case.ids.iter().filter(|id| !special.contains(id)) {
        stream.extend(tokenizer.token_bytes(*id).map_err(failed)?);
    }
    // The one space that the vocabulary put in front of the first word is dropped when all is decoded.
    let same = stream == skipped || stream.strip_prefix(b" ").is_some_and(|rest| rest == skipped);
    check!(same, "token by token \"{}\", as a whole \"{}\"", show(&stream), show(&skipped));
    Ok(())
}

fn vocabulary(tokenizer: &dyn Tokenizer, tokens: &[String], special: &[TokenId]) -> Result<(), Problem> {
    let size = tokenizer.vocab_size();
    check!(size == tokens.len(), "a vocabulary of {size}, expected {}", tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        let (id, found) = (id as TokenId, tokenizer.id_to_token(id as TokenId));
        check!(found.as_deref() == Some(token), "id {id} is {found:?}, expected {token:?}");
        let found = tokenizer.token_to_id(token);
        check!(found == Some(id), "{token:?} is {found:?}, expected {id}");
    }
    check!(tokenizer.token_to_id("no such token ☃").is_none(), "a token that is not there has an id");
    let mut all = tokenizer.special_tokens().all.clone();
    all.sort_unstable();
    check!(all == special, "the special tokens are {all:?}, expected {special:?}");
    Ok(())
}

fn unknown(tokenizer: &dyn Tokenizer, size: usize) -> Result<(), Problem> {
    for id in [size as TokenId, size as TokenId + 1, TokenId::MAX] {
        let refused = |e: &TokenizerError| matches!(e, TokenizerError::UnknownId { id: told, .. } if *told == id);
        for answer in [tokenizer.decode(&[0, id], true), tokenizer.decode(&[id], false), tokenizer.token_bytes(id)] {
            check!(answer.as_ref().is_err_and(refused), "id {id} of {size} gives {answer:?}");
        }
        check!(tokenizer.id_to_token(id).is_none(), "id {id} of {size} is {:?}", tokenizer.id_to_token(id));
    }
    Ok(())
}

/// Lines end words in every kind, so the ids of a long text are those of its lines.
fn long(tokenizer: &dyn Tokenizer) -> Result<(), Problem> {
    let line = "The camel crosses the desert in 12 days; l'été, пустыня, 沙漠 🐪.\n";
    let text = line.repeat(2_000);
    let all = tokenizer.encode(&text, PLAIN).map_err(failed)?;
    same_bytes("a long text", &tokenizer.decode(&all.ids, false).map_err(failed)?, text.as_bytes())?;
    offsets(tokenizer, &text, &all)?;
    let twice = tokenizer.encode(&line.repeat(2), PLAIN).map_err(failed)?.ids;
    let once = tokenizer.encode(line, PLAIN).map_err(failed)?.ids;
    let line_ids = &twice[once.len()..];
    check!(
        all.ids.len() == once.len() + 1_999 * line_ids.len(),
        "{} ids of 2,000 lines; the first has {}, another {}",
        all.ids.len(),
        once.len(),
        line_ids.len()
    );
    let rest = &all.ids[once.len()..];
    check!(rest.chunks(line_ids.len()).all(|ids| ids == line_ids), "a line of a long text has other ids than alone");
    Ok(())
}

fn typed(
    tokenizer: &dyn Tokenizer,
    names: &[String],
    special: &[TokenId],
    takes_the_first_space: bool,
) -> Result<(), Problem> {
    for name in names {
        for text in [name.clone(), format!("a{name}b"), format!(" {name} {name}"), format!("{name}{}", names[0])] {
            let plain = tokenizer.encode(&text, PLAIN).map_err(failed)?;
            let found = plain.ids.iter().find(|id| special.contains(id));
            check!(found.is_none(), "plain text {text:?} becomes {:?}", plain.ids);
            let back = if takes_the_first_space { text.strip_prefix(' ').unwrap_or(&text) } else { &text };
            same_bytes("plain text", &tokenizer.decode(&plain.ids, true).map_err(failed)?, back.as_bytes())?;
            let parsed = tokenizer.encode(&text, FRAMED).map_err(failed)?;
            check!(parsed.ids.iter().any(|id| special.contains(id)), "{text:?} becomes {:?}", parsed.ids);
        }
    }
    Ok(())
}
