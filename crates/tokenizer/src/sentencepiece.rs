//! SentencePiece's BPE: merges chosen by the score of the piece they make.
//!
//! The rule (`bpe_model.cc` of SentencePiece; llama.cpp's `llm_tokenizer_spm` follows it): start from characters; of all
//! neighbours whose texts joined are a piece, join the pair whose piece has the highest score, the leftmost one of
//! equals; go on until nothing can be joined. A character that is no piece becomes its UTF-8 bytes (`<0xNN>`), or the
//! unknown token.
//!
//! A merge list as byte-pair encoders use it cannot say this: it ranks pairs, not pieces, so two ways to split one piece,
//! and pieces of equal score (the LLaMA-2 vocabulary has some), would be tried in the order of the list instead of from
//! left to right. Hence this encoder of its own.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use camelid_core::tokenizer::TokenId;
use tokenizers::Token;

/// Longest piece, in bytes, that merges may make. SentencePiece trains pieces of at most 16 characters; the limit keeps
/// the time to find all splits linear in the size of the vocabulary.
pub(crate) const MAX_PIECE_BYTES: usize = 512;

/// What to know of a piece that takes part in merging.
pub(crate) struct Piece<'a> {
    pub id: TokenId,
    pub text: &'a str,
    pub score: f32,
    /// Kept in the vocabulary for its id only: merges may pass through it, the result never contains it.
    pub unused: bool,
}

/// The encoder. A symbol is a token id or, from `first_extra` on, a character that is only a part of pieces.
pub(crate) struct SentencePieceBpe {
    symbol_of_char: HashMap<char, u32>,
    /// (left symbol, right symbol) -> the piece they make.
    merges: HashMap<(u32, u32), Merge>,
    first_extra: u32,
    byte_tokens: [Option<TokenId>; 256],
    unknown: Option<TokenId>,
}

#[derive(Clone, Copy)]
struct Merge {
    piece: TokenId,
    score: f32,
    unused: bool,
}

/// One character of the text, or what it has been joined to. `len` 0: joined into the symbol on its left.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    prev: usize,
    next: usize,
    start: usize,
    len: usize,
}

const NONE: usize = usize::MAX;
/// A character that is part of no piece.
const UNKNOWN: u32 = u32::MAX;

struct Candidate {
    score: f32,
    left: usize,
    pair: (u32, u32),
    piece: TokenId,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}
impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Candidate {}

impl SentencePieceBpe {
    /// An encoder over `pieces`, whose texts are distinct, not empty, and at most [`MAX_PIECE_BYTES`] long.
    /// `vocab_size` is above every id.
    pub(crate) fn new(
        pieces: &[Piece<'_>],
        byte_tokens: [Option<TokenId>; 256],
        unknown: Option<TokenId>,
        vocab_size: u32,
    ) -> Self {
        let mut symbols: HashMap<&str, u32> = pieces.iter().map(|p| (p.text, p.id)).collect();
        let mut extra = vocab_size;
        let mut symbol_of_char = HashMap::new();
        for piece in pieces {
            for (at, c) in piece.text.char_indices() {
                symbol_of_char.entry(c).or_insert_with(|| {
                    *symbols.entry(&piece.text[at..at + c.len_utf8()]).or_insert_with(|| {
                        extra += 1;
                        extra - 1
                    })
                });
            }
        }
        let mut merges = HashMap::new();
        for piece in pieces {
            // Adding 0 turns -0 into 0, which must tie with it.
            let merge = Merge { piece: piece.id, score: piece.score + 0.0, unused: piece.unused };
            for (at, _) in piece.text.char_indices().skip(1) {
                let (left, right) = piece.text.split_at(at);
                if let (Some(&left), Some(&right)) = (symbols.get(left), symbols.get(right)) {
                    merges.insert((left, right), merge);
                }
            }
        }
        SentencePieceBpe { symbol_of_char, merges, first_extra: vocab_size, byte_tokens, unknown }
    }

    /// The merges that a merge list can say, in the order in which the scores have them tried: those of two tokens into a
    /// third.
    pub(crate) fn merge_list(&self, text_of: impl Fn(TokenId) -> Option<String>) -> Vec<Vec<String>> {
        let mut merges: Vec<(&Merge, String, String)> = Vec::with_capacity(self.merges.len());
        for ((left, right), merge) in &self.merges {
            if *left < self.first_extra
                && *right < self.first_extra
                && let (Some(left), Some(right)) = (text_of(*left), text_of(*right))
            {
                merges.push((merge, left, right));
            }
        }
        merges.sort_unstable_by(|(a, a_left, _), (b, b_left, _)| {
            b.score.total_cmp(&a.score).then(a.piece.cmp(&b.piece)).then(a_left.len().cmp(&b_left.len()))
        });
        merges.into_iter().map(|(_, left, right)| vec![left, right]).collect()
    }

    /// The tokens of `text`, in which spaces are already written `▁`. Offsets are bytes of `text`; the values are left
    /// empty.
    ///
    /// # Errors
    /// A character without piece, byte tokens and unknown token.
    pub(crate) fn tokenize(&self, text: &str) -> Result<Vec<Token>, String> {
        let (symbols, unused) = self.merge(text);
        let mut tokens: Vec<Token> = Vec::new();
        // The end of a run of unknown characters: they become one unknown token.
        let mut unknown_until = NONE;
        for Part { id, start, len } in parts(&symbols, &unused) {
            if id < self.first_extra {
                tokens.push(token(id, start, start + len));
                continue;
            }
            let end = start + len;
            let bytes = &text.as_bytes()[start..end];
            if bytes.iter().all(|&b| self.byte_tokens[usize::from(b)].is_some()) {
                for (offset, &byte) in (start..).zip(bytes) {
                    tokens.extend(self.byte_tokens[usize::from(byte)].map(|id| token(id, offset, offset + 1)));
                }
            } else if let Some(id) = self.unknown {
                match tokens.last_mut() {
                    Some(last) if unknown_until == start => last.offsets.1 = end,
                    _ => tokens.push(token(id, start, end)),
                }
                unknown_until = end;
            } else {
                return Err(format!(
                    "{:?} at byte {} is not in the vocabulary, which has neither byte tokens nor an unknown token for it",
                    &text[start..end],
                    start
                ));
            }
        }
        Ok(tokens)
    }

    /// Joins symbols until no pair is left; also tells how unused pieces came about.
    fn merge(&self, text: &str) -> (Vec<Symbol>, UnusedPieces) {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (start, c) in text.char_indices() {
            let index = symbols.len();
            let id = self.symbol_of_char.get(&c).copied().unwrap_or(UNKNOWN);
            let prev = index.checked_sub(1).unwrap_or(NONE);
            symbols.push(Symbol { id, prev, next: index + 1, start, len: c.len_utf8() });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }

        let mut unused = UnusedPieces::new();
        let mut queue = BinaryHeap::new();
        for left in 0..symbols.len() {
            self.push(&symbols, left, &mut queue, &mut unused);
        }
        while let Some(best) = queue.pop() {
            let left = symbols[best.left];
            if left.len == 0 || left.next == NONE || (left.id, symbols[left.next].id) != best.pair {
                continue; // one of the two has been joined to something else since
            }
            let right = symbols[left.next];
            symbols[left.next].len = 0;
            symbols[best.left] = Symbol { id: best.piece, len: left.len + right.len, next: right.next, ..left };
            if right.next != NONE {
                symbols[right.next].prev = best.left;
            }
            if left.prev != NONE {
                self.push(&symbols, left.prev, &mut queue, &mut unused);
            }
            self.push(&symbols, best.left, &mut queue, &mut unused);
        }
        (symbols, unused)
    }

    /// Puts the pair that starts at `left` in the queue, if it makes a piece.
    fn push(&self, symbols: &[Symbol], left: usize, queue: &mut BinaryHeap<Candidate>, unused: &mut UnusedPieces) {
        let next = symbols[left].next;
        if next == NONE {
            return;
        }
        let pair = (symbols[left].id, symbols[next].id);
        if let Some(merge) = self.merges.get(&pair) {
            queue.push(Candidate { score: merge.score, left, pair, piece: merge.piece });
            if merge.unused {
                unused.insert(merge.piece, (pair, symbols[left].len));
            }
        }
    }
}

/// Unused piece -> the two symbols it was last seen to be made of, and the length of the first.
type UnusedPieces = HashMap<TokenId, ((u32, u32), usize)>;

/// A symbol of the result.
struct Part {
    id: u32,
    start: usize,
    len: usize,
}

/// What the symbols have been joined to, unused pieces taken apart again. A piece has few characters, so this is not
/// deep.
fn parts(symbols: &[Symbol], unused: &UnusedPieces) -> Vec<Part> {
    fn add(part: Part, unused: &UnusedPieces, parts: &mut Vec<Part>) {
        match unused.get(&part.id) {
            Some(&((left, right), len)) => {
                add(Part { id: left, start: part.start, len }, unused, parts);
                add(Part { id: right, start: part.start + len, len: part.len - len }, unused, parts);
            }
            None => parts.push(part),
        }
    }
    let mut parts = Vec::new();
    for &Symbol { id, start, len, .. } in symbols.iter().filter(|s| s.len > 0) {
        add(Part { id, start, len }, unused, &mut parts);
    }
    parts
}

fn token(id: TokenId, start: usize, end: usize) -> Token {
    Token::new(id, String::new(), (start, end))
}
