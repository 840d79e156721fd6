//! From tokens to bytes.
//!
//! The library's decoders give strings, with U+FFFD where the tokens end inside a character. These do the same steps on
//! bytes, so that nothing is lost and a stream can wait for the rest of a character.

use std::collections::HashMap;
use std::sync::LazyLock;

use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{Decoder as _, DecoderWrapper};

/// A token on its way to text.
pub(crate) struct Piece {
    pub bytes: Vec<u8>,
    /// Written in the vocabulary as it appears in text: byte-level decoding leaves it alone.
    pub verbatim: bool,
}

/// Where the tokens stand in the text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// They are the whole text.
    Whole,
    /// Other tokens come before and after.
    Inside,
}

/// The steps that `tokenizer.json` calls the decoder.
pub(crate) struct ByteDecoder {
    steps: Vec<Step>,
}

enum Step {
    /// Each character stands for a byte (GPT-2's printable alphabet).
    ByteLevel,
    /// `<0xNN>` is a byte.
    ByteFallback,
    /// All tokens become one.
    Fuse,
    /// Up to `start` and `stop` of a character are cut off both ends of each token.
    Strip { content: char, start: usize, stop: usize },
    /// `▁` is a space; in the first token it is dropped if the encoder put it there.
    Metaspace { replacement: char, drop_first: bool },
    /// There is no decoder: tokens are words.
    Join,
    /// Any other step, on text.
    Library(Box<DecoderWrapper>),
}

/// GPT-2's alphabet: printable Latin-1 characters stand for themselves, the other bytes for the characters from U+0100
/// on (`bytes_to_unicode` in OpenAI's `encoder.py`).
static BYTE_OF_CHAR: LazyLock<HashMap<char, u8>> =
    LazyLock::new(|| (0..=255u8).map(|byte| (CHAR_OF_BYTE[usize::from(byte)], byte)).collect());

static CHAR_OF_BYTE: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut shifted = '\u{100}'..;
    std::array::from_fn(|byte| match byte as u8 {
        byte @ (b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) => char::from(byte),
        _ => shifted.next().unwrap_or_default(),
    })
});

/// The character that stands for a byte in a byte-level vocabulary.
pub(crate) fn char_of_byte(byte: u8) -> char {
    CHAR_OF_BYTE[usize::from(byte)]
}

impl ByteDecoder {
    pub(crate) fn new(decoder: Option<&DecoderWrapper>) -> Self {
        let mut steps = Vec::new();
        match decoder {
            Some(decoder) => add_steps(decoder, &mut steps),
            None => steps.push(Step::Join),
        }
        ByteDecoder { steps }
    }

    /// The text of `pieces`.
    pub(crate) fn decode(&self, mut pieces: Vec<Piece>, position: Position) -> tokenizers::Result<Vec<u8>> {
        let mut fused = false;
        for step in &self.steps {
            match step {
                Step::ByteLevel => {
                    pieces.iter_mut().for_each(byte_level);
                    fuse(&mut pieces);
                    fused = true;
                }
                Step::ByteFallback => byte_fallback(&mut pieces),
                Step::Fuse => {
                    fuse(&mut pieces);
                    fused = true;
                }
                // Once the tokens are one, the ends are those of the text: a token inside has none.
                Step::Strip { .. } if fused && position == Position::Inside => {}
                Step::Strip { content, start, stop } => {
                    pieces.iter_mut().for_each(|piece| strip(&mut piece.bytes, *content, *start, *stop));
                }
                Step::Metaspace { replacement, drop_first } => {
                    for (index, piece) in pieces.iter_mut().enumerate() {
                        let drop = *drop_first && index == 0 && position == Position::Whole;
                        map_text(&mut piece.bytes, |text| text.replace(*replacement, if drop { "" } else { " " }));
                    }
                }
                Step::Join => {
                    let skip = usize::from(position == Position::Whole);
                    pieces.iter_mut().skip(skip).for_each(|piece| piece.bytes.insert(0, b' '));
                }
                Step::Library(decoder) => pieces = library(decoder, pieces, position)?,
            }
        }
        fuse(&mut pieces);
        Ok(pieces.pop().map(|piece| piece.bytes).unwrap_or_default())
    }
}

fn add_steps(decoder: &DecoderWrapper, steps: &mut Vec<Step>) {
    match decoder {
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().for_each(|d| add_steps(d, steps)),
        DecoderWrapper::ByteLevel(_) => steps.push(Step::ByteLevel),
        DecoderWrapper::ByteFallback(_) => steps.push(Step::ByteFallback),
        DecoderWrapper::Fuse(_) => steps.push(Step::Fuse),
        DecoderWrapper::Strip(s) => steps.push(Step::Strip { content: s.content, start: s.start, stop: s.stop }),
        DecoderWrapper::Metaspace(m) => steps.push(Step::Metaspace {
            replacement: m.get_replacement(),
            drop_first: m.get_prepend_scheme() != PrependScheme::Never,
        }),
        other => steps.push(Step::Library(Box::new(other.clone()))),
    }
}

fn byte_level(piece: &mut Piece) {
    if piece.verbatim {
        return;
    }
    // A token with a character outside the alphabet was never byte-level: it stays as it is written.
    let Ok(text) = std::str::from_utf8(&piece.bytes) else { return };
    if let Some(bytes) = text.chars().map(|c| BYTE_OF_CHAR.get(&c).copied()).collect::<Option<Vec<u8>>>() {
        piece.bytes = bytes;
    }
}

/// Neighbouring byte tokens become one piece, as a character may need several.
fn byte_fallback(pieces: &mut Vec<Piece>) {
    let mut in_run = false;
    let mut out: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces.drain(..) {
        match (byte_token(&piece.bytes), out.last_mut()) {
            (Some(byte), Some(last)) if in_run => last.bytes.push(byte),
            (Some(byte), _) => {
                in_run = true;
                out.push(Piece { bytes: vec![byte], verbatim: false });
            }
            (None, _) => {
                in_run = false;
                out.push(piece);
            }
        }
    }
    *pieces = out;
}

/// The byte that a token `<0xNN>` stands for.
pub(crate) fn byte_token(token: &[u8]) -> Option<u8> {
    let digits = token.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    if digits.len() != 2 {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn fuse(pieces: &mut Vec<Piece>) {
    if pieces.len() > 1 {
        let bytes = pieces.iter().flat_map(|piece| &piece.bytes).copied().collect();
        *pieces = vec![Piece { bytes, verbatim: false }];
    }
}

fn strip(bytes: &mut Vec<u8>, content: char, start: usize, stop: usize) {
    let mut buffer = [0; 4];
    let content = content.encode_utf8(&mut buffer).as_bytes();
    for _ in 0..stop {
        let Some(rest) = bytes.strip_suffix(content) else { break };
        bytes.truncate(rest.len());
    }
    let mut cut = 0;
    for _ in 0..start {
        let Some(rest) = bytes[cut..].strip_prefix(content) else { break };
        cut = bytes.len() - rest.len();
    }
    bytes.drain(..cut);
}

/// Changes the parts of `bytes` that are text, and leaves the others.
fn map_text(bytes: &mut Vec<u8>, mut change: impl FnMut(&str) -> String) {
    let mut out = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        if !chunk.valid().is_empty() {
            out.extend_from_slice(change(chunk.valid()).as_bytes());
        }
        out.extend_from_slice(chunk.invalid());
    }
    *bytes = out;
}

fn library(decoder: &DecoderWrapper, mut pieces: Vec<Piece>, position: Position) -> tokenizers::Result<Vec<Piece>> {
    if let DecoderWrapper::Replace(_) = decoder {
        let mut failed = None;
        for piece in &mut pieces {
            map_text(&mut piece.bytes, |text| match decoder.decode_chain(vec![text.to_owned()]) {
                Ok(replaced) => replaced.concat(),
                Err(e) => {
                    failed = Some(e);
                    String::new()
                }
            });
        }
        return failed.map_or(Ok(pieces), Err);
    }
    // Decoders of word pieces look at their neighbours, and never meet bytes that are not text.
    let inside = position == Position::Inside;
    let before = inside.then(String::new);
    let texts = before.into_iter().chain(pieces.iter().map(|p| String::from_utf8_lossy(&p.bytes).into_owned()));
    let decoded = decoder.decode_chain(texts.collect())?;
    let pieces = decoded.into_iter().skip(usize::from(inside));
    Ok(pieces.map(|text| Piece { bytes: text.into_bytes(), verbatim: false }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(json: &str, tokens: &[&str], position: Position) -> Vec<u8> {
        let decoder: DecoderWrapper = serde_json::from_str(json).unwrap();
        let pieces = tokens.iter().map(|t| Piece { bytes: t.as_bytes().to_vec(), verbatim: false }).collect();
        let bytes = ByteDecoder::new(Some(&decoder)).decode(pieces, position).unwrap();
        if position == Position::Whole && std::str::from_utf8(&bytes).is_ok() {
            let theirs = decoder.decode(tokens.iter().map(|t| (*t).to_owned()).collect()).unwrap();
            assert_eq!(String::from_utf8_lossy(&bytes), theirs, "{json} {tokens:?}");
        }
        bytes
    }

    const LLAMA: &str = r#"{"type":"Sequence","decoders":[
        {"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},
        {"type":"Strip","content":" ","start":1,"stop":0}]}"#;

    const BYTE_LEVEL: &str = r#"{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}"#;

    #[test]
    fn steps_give_what_the_library_gives_where_that_is_text() {
        let metaspace = r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":false}"#;
        let never = r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"never","split":false}"#;
        let word_piece = r###"{"type":"WordPiece","prefix":"##","cleanup":true}"###;
        let strip = r#"{"type":"Strip","content":"x","start":2,"stop":1}"#;
        for json in [LLAMA, metaspace, never, word_piece, strip, BYTE_LEVEL, r#"{"type":"Fuse"}"#] {
            for tokens in [
                &["▁Ban", "ana", "▁▁x", "<0xF0>", "<0x9F>", "<0xA6>", "<0x99>", "▁"][..],
                &["Ġhello", "Ġ", "ĠÃ©", "xxxy", "xyx", "##s", ".", "!"],
                &["▁"],
                &["<0x4a>", "<0xZZ>", "<0x+1>"],
                &[],
            ] {
                decode(json, tokens, Position::Whole);
            }
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_kept() {
        assert_eq!(decode(LLAMA, &["▁a", "<0xF0>", "<0x9F>"], Position::Whole), b"a\xF0\x9F");
        assert_eq!(decode(BYTE_LEVEL, &["Ġa", "Ã"], Position::Whole), b" a\xC3");
    }

    #[test]
    fn a_token_inside_a_text_keeps_its_space() {
        assert_eq!(decode(LLAMA, &["▁Hello"], Position::Whole), b"Hello");
        assert_eq!(decode(LLAMA, &["▁Hello"], Position::Inside), b" Hello");
        let metaspace = r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":false}"#;
        assert_eq!(decode(metaspace, &["▁Hello"], Position::Inside), b" Hello");
        assert_eq!(
            decode(r###"{"type":"WordPiece","prefix":"##","cleanup":false}"###, &["s"], Position::Inside),
            b" s"
        );
    }

    #[test]
    fn the_alphabet_is_a_bijection() {
        assert_eq!(BYTE_OF_CHAR.len(), 256);
        assert_eq!(BYTE_OF_CHAR[&'Ġ'], b' ');
        assert_eq!(BYTE_OF_CHAR[&'Ċ'], b'\n');
        assert_eq!(BYTE_OF_CHAR[&'Ń'], 0xAD);
    }
}
