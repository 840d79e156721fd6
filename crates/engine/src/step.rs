//! From a batch to the contents of the step inputs.

use std::ops::Range;

use camelid_core::Cache;
use camelid_core::cache::{CacheError, SequenceId};
use camelid_core::graph::{StepInput, SymbolValues};
use camelid_core::ops::softmax::MASKED;
use camelid_core::tokenizer::TokenId;

/// What the new tokens of a sequence are given as.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    /// Token ids.
    Tokens(&'a [TokenId]),
    /// Embeddings, `[tokens, width]`.
    Embeds { values: &'a [f32], width: usize },
}

impl<'a> Content<'a> {
    /// How many tokens.
    pub fn len(&self) -> usize {
        match self {
            Content::Tokens(ids) => ids.len(),
            Content::Embeds { values, width } => values.len() / width,
        }
    }

    /// Some of them.
    pub fn slice(&self, range: Range<usize>) -> Content<'a> {
        match *self {
            Content::Tokens(ids) => Content::Tokens(&ids[range]),
            Content::Embeds { values, width } => {
                Content::Embeds { values: &values[range.start * width..range.end * width], width }
            }
        }
    }
}

/// What each new token may look at, in place of everything before it: `[tokens, width]`, what is added to the score of
/// each token of the sequence, [`MASKED`] for none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaskRows<'a> {
    pub values: &'a [f32],
    /// Tokens of the sequence, the new ones included.
    pub width: usize,
}

impl<'a> MaskRows<'a> {
    /// The row of new token `i`.
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.values[i * self.width..(i + 1) * self.width]
    }
}

/// One sequence's part in a run of the device: some of its new tokens.
#[derive(Clone, Debug)]
pub(crate) struct Part<'a> {
    pub sequence: SequenceId,
    /// Index in the sequence of the first token.
    pub start: usize,
    pub content: Content<'a>,
    /// Positions for RoPE; the index in the sequence if `None`.
    pub positions: Option<&'a [u32]>,
    /// Length of the sequence after the whole step, for a rotary embedding that depends on it.
    pub rope_length: usize,
    /// The tokens whose logits are wanted, as indices into this part's.
    pub outputs: Vec<usize>,
    /// What they look at; each everything before it if `None`. Its rows are those of this part's tokens.
    pub mask: Option<MaskRows<'a>>,
}

impl Part<'_> {
    /// How many tokens.
    pub fn len(&self) -> usize {
        self.content.len()
    }

    /// Tokens of the sequence up to the last one of this part.
    pub fn end(&self) -> usize {
        self.start + self.len()
    }

    /// The position of token `i` of the part.
    pub fn position(&self, i: usize) -> usize {
        self.positions.map_or(self.start + i, |list| list[i] as usize)
    }
}

/// The parts of one run.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub parts: Vec<Part<'a>>,
}

impl Run<'_> {
    /// The symbols of this run.
    pub fn symbols(&self) -> SymbolValues {
        let context = self.parts.iter().map(Part::end).max().unwrap_or(0);
        SymbolValues::new(
            self.parts.iter().map(Part::len).sum(),
            self.parts.len(),
            self.parts.iter().map(|p| p.outputs.len()).sum(),
            context,
        )
    }

    /// Appends the bytes of one input to `out`, in the layout its documentation gives.
    pub fn contents(&self, input: StepInput, cache: &dyn Cache, out: &mut Vec<u8>) -> Result<(), CacheError> {
        match input {
            StepInput::Tokens => {
                for part in &self.parts {
                    if let Content::Tokens(ids) = part.content {
                        ints(out, ids.iter().map(|id| *id as usize));
                    }
                }
            }
            StepInput::Positions => ints(out, self.each_token().map(|(p, i)| p.position(i))),
            StepInput::Slot => {
                for (part, i) in self.each_token() {
                    ints(out, [cache.slot(part.sequence, part.start + i)?]);
                }
            }
            StepInput::BlockTable { blocks } => {
                let mut row = vec![0i32; blocks];
                for part in &self.parts {
                    row.fill(0);
                    cache.block_table(part.sequence, &mut row)?;
                    bytes(out, row.iter().map(|block| block.to_ne_bytes()));
                }
            }
            StepInput::SeqLen => ints(out, self.parts.iter().map(Part::end)),
            StepInput::QStart => {
                ints(out, self.starts());
                ints(out, [self.parts.iter().map(Part::len).sum()]);
            }
            StepInput::OutRow => {
                for (start, part) in self.starts().zip(&self.parts) {
                    ints(out, part.outputs.iter().map(|o| start + o));
                }
            }
            StepInput::ContextRow { kv_heads } => self.context_rows(kv_heads, cache, out)?,
            StepInput::ContextMask { window } => self.context_mask(window, out),
            StepInput::Embeds { .. } => {
                for part in &self.parts {
                    if let Content::Embeds { values, .. } = part.content {
                        bytes(out, values.iter().map(|x| x.to_ne_bytes()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Where each part's tokens begin among all of the run's.
    fn starts(&self) -> impl Iterator<Item = usize> {
        let mut next = 0;
        self.parts.iter().map(move |part| {
            next += part.len();
            next - part.len()
        })
    }

    /// Every token of the run: its part, and its index there.
    fn each_token(&self) -> impl Iterator<Item = (&Part<'_>, usize)> {
        self.parts.iter().flat_map(|part| (0..part.len()).map(move |i| (part, i)))
    }

    /// `[T, kv_heads, L]`: see [`StepInput::ContextRow`].
    fn context_rows(&self, kv_heads: usize, cache: &dyn Cache, out: &mut Vec<u8>) -> Result<(), CacheError> {
        let context = self.symbols().get(camelid_core::graph::Symbol::L);
        for part in &self.parts {
            let slots: Vec<usize> = (0..part.end()).map(|j| cache.slot(part.sequence, j)).collect::<Result<_, _>>()?;
            let mut token: Vec<i32> = Vec::with_capacity(kv_heads * context);
            for head in 0..kv_heads {
                token.extend(slots.iter().map(|slot| index(slot * kv_heads + head)));
                token.resize((head + 1) * context, -1);
            }
            for _ in 0..part.len() {
                bytes(out, token.iter().map(|row| row.to_ne_bytes()));
            }
        }
        Ok(())
    }

    /// `[T, L]`: see [`StepInput::ContextMask`].
    fn context_mask(&self, window: Option<usize>, out: &mut Vec<u8>) {
        let context = self.symbols().get(camelid_core::graph::Symbol::L);
        let mut row: Vec<f32> = Vec::with_capacity(context);
        for (part, i) in self.each_token() {
            row.clear();
            match &part.mask {
                Some(rows) => row.extend_from_slice(&rows.row(i)[..part.end()]),
                None => {
                    let end = part.start + i + 1;
                    row.resize(end.saturating_sub(window.unwrap_or(end)), MASKED);
                    row.resize(end, 0.0);
                }
            }
            row.resize(context, MASKED);
            bytes(out, row.iter().map(|x| x.to_ne_bytes()));
        }
    }
}

fn ints(out: &mut Vec<u8>, values: impl IntoIterator<Item = usize>) {
    bytes(out, values.into_iter().map(|v| index(v).to_ne_bytes()));
}

/// Token ids, rows and lengths fit: a session's capacity is checked against `i32` when it is made.
fn index(value: usize) -> i32 {
    i32::try_from(value).expect("a session's indices fit in i32")
}

fn bytes(out: &mut Vec<u8>, values: impl Iterator<Item = [u8; 4]>) {
    values.for_each(|value| out.extend_from_slice(&value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::PagedCache;

    fn contents(run: &Run<'_>, input: StepInput, cache: &dyn Cache) -> Vec<[u8; 4]> {
        let mut bytes = Vec::new();
        run.contents(input, cache, &mut bytes).unwrap();
        bytes.as_chunks().0.to_vec()
    }

    fn indices(run: &Run<'_>, input: StepInput, cache: &dyn Cache) -> Vec<i32> {
        contents(run, input, cache).into_iter().map(i32::from_ne_bytes).collect()
    }

    fn floats(run: &Run<'_>, input: StepInput, cache: &dyn Cache) -> Vec<f32> {
        contents(run, input, cache).into_iter().map(f32::from_ne_bytes).collect()
    }

    /// Two sequences in a paged cache of 2-row blocks: three tokens of the first (its last two new), one of the other.
    fn fixture(check: impl Fn(&Run<'_>, &dyn Cache)) {
        let mut cache = PagedCache::new(6, 2, 2, 8);
        let (a, b) = (cache.create().unwrap(), cache.create().unwrap());
        cache.append(b, 1).unwrap();
        cache.append(a, 3).unwrap();
        let part = |sequence, start, tokens, outputs| {
            let content = Content::Tokens(tokens);
            Part { sequence, start, content, positions: None, rope_length: 3, outputs, mask: None }
        };
        let run = Run { parts: vec![part(a, 1, &[7, 8], vec![1]), part(b, 0, &[9], vec![0])] };
        check(&run, &cache);
    }

    #[test]
    fn a_ragged_batch_lies_flat() {
        fixture(|run, cache| {
            let get = |input| indices(run, input, cache);
            assert_eq!(run.symbols(), SymbolValues::new(3, 2, 2, 3));
            assert_eq!(get(StepInput::Tokens), [7, 8, 9]);
            assert_eq!(get(StepInput::Positions), [1, 2, 0]);
            assert_eq!(get(StepInput::SeqLen), [3, 1]);
            assert_eq!(get(StepInput::QStart), [0, 2, 3]);
            assert_eq!(get(StepInput::OutRow), [1, 2]);
            let table = get(StepInput::BlockTable { blocks: 4 });
            let slots = get(StepInput::Slot);
            assert_eq!(slots, [table[0] * 2 + 1, table[1] * 2, table[4] * 2]);
        });
    }

    #[test]
    fn lowered_attention_gets_its_context_per_token_and_head() {
        fixture(|run, cache| {
            let rows = indices(run, StepInput::ContextRow { kv_heads: 2 }, cache);
            let slots = indices(run, StepInput::Slot, cache);
            let first: Vec<i32> = rows[..6].to_vec();
            assert_eq!(first[1..3], [slots[0] * 2, slots[1] * 2], "head 0, the sequence's last two rows");
            assert_eq!(first[4..6], [slots[0] * 2 + 1, slots[1] * 2 + 1], "head 1");
            assert_eq!(rows[12..15], [slots[2] * 2, -1, -1], "a shorter sequence is padded");

            let seen = |window| -> Vec<bool> {
                floats(run, StepInput::ContextMask { window }, cache).into_iter().map(|x| x == 0.0).collect()
            };
            assert_eq!(seen(None), [true, true, false, true, true, true, true, false, false]);
            assert_eq!(seen(Some(1)), [false, true, false, false, false, true, true, false, false]);
        });
    }
    #[test]
    fn a_mask_of_the_callers_takes_the_place_of_causality() {
        let mut cache = PagedCache::new(6, 2, 2, 8);
        let (a, b) = (cache.create().unwrap(), cache.create().unwrap());
        cache.append(a, 2).unwrap();
        cache.append(b, 3).unwrap();
        let rows = MaskRows { values: &[MASKED, -0.5, 0.0, MASKED], width: 2 };
        let content = Content::Embeds { values: &[1.0, 2.0, 3.0, 4.0], width: 2 };
        let rope_length = 2;
        let masked =
            Part { sequence: a, start: 0, content, positions: None, rope_length, outputs: vec![], mask: Some(rows) };
        let content = content.slice(1..2);
        let causal = Part { sequence: b, start: 2, content, positions: None, rope_length, outputs: vec![], mask: None };
        let run = Run { parts: vec![masked, causal] };
        let get = |input| floats(&run, input, &cache);
        let mask = get(StepInput::ContextMask { window: None });
        assert_eq!(mask, [MASKED, -0.5, MASKED, 0.0, MASKED, MASKED, 0.0, 0.0, 0.0]);
        assert_eq!(get(StepInput::Embeds { hidden_size: 2 }), [1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
    }
}
