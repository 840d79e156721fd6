//! Several texts at once, or pairs of texts: cut to a length, filled up to one, with masks, types and offsets.
//!
//! The rules are those of calling a tokenizer of transformers 5.8.0 (`tokenization_utils_base.py`,
//! `tokenization_utils_tokenizers.py`); cutting and filling are done by the `tokenizers` library, as there.

use std::ops::Range;

use camelid_core::tokenizer::TokenId;
use tokenizers::utils::padding::{PaddingDirection, PaddingParams, PaddingStrategy};
use tokenizers::utils::truncation::{TruncationDirection, TruncationParams, TruncationStrategy, truncate_encodings};
use tokenizers::{Encoding, OffsetType, pad_encodings};

use crate::config::Side;
use crate::error::{BatchError, guarded};
use crate::hf::HfTokenizer;

/// A text, or two that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextInput<'a> {
    /// The text.
    pub text: &'a str,
    /// The second one.
    pub pair: Option<&'a str>,
}

impl<'a> From<&'a str> for TextInput<'a> {
    fn from(text: &'a str) -> Self {
        TextInput { text, pair: None }
    }
}

impl<'a> From<(&'a str, &'a str)> for TextInput<'a> {
    fn from((text, pair): (&'a str, &'a str)) -> Self {
        TextInput { text, pair: Some(pair) }
    }
}

/// How sequences are filled up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// Not at all.
    #[default]
    No,
    /// To the length of the longest.
    Longest,
    /// To `max_length` or, without it, to the most the model takes; not at all if neither is known.
    MaxLength,
}

/// How sequences are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Truncation {
    /// As [`LongestFirst`](Self::LongestFirst) if there is a `max_length` and no padding, otherwise not at all.
    #[default]
    Auto,
    /// Not at all.
    No,
    /// Of two texts, the longer one first.
    LongestFirst,
    /// Only the first text.
    OnlyFirst,
    /// Only the second text.
    OnlySecond,
}

/// What offsets count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetUnit {
    /// Bytes of the text.
    #[default]
    Bytes,
    /// Characters (Unicode scalar values), as in Python.
    Chars,
}

/// How to encode a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Put special tokens around the texts.
    pub add_special_tokens: bool,
    /// Take special tokens that are written out as plain text; `None` leaves it to the configuration.
    pub split_special_tokens: Option<bool>,
    /// How to fill up.
    pub padding: Padding,
    /// On which side; `None` leaves it to the configuration.
    pub padding_side: Option<Side>,
    /// Fill up to a multiple of this.
    pub pad_to_multiple_of: Option<usize>,
    /// How to cut.
    pub truncation: Truncation,
    /// On which side; `None` leaves it to the configuration.
    pub truncation_side: Option<Side>,
    /// The length to cut or fill up to, special tokens included; `None` is the most the model takes.
    pub max_length: Option<usize>,
    /// How many tokens of a piece that was cut off are those of the piece before.
    pub stride: usize,
    /// Give the pieces that were cut off as sequences of their own.
    pub overflowing: bool,
    /// What offsets count.
    pub offsets: OffsetUnit,
}

impl Default for BatchOptions {
    fn default() -> Self {
        BatchOptions {
            add_special_tokens: true,
            split_special_tokens: None,
            padding: Padding::No,
            padding_side: None,
            pad_to_multiple_of: None,
            truncation: Truncation::Auto,
            truncation_side: None,
            max_length: None,
            stride: 0,
            overflowing: false,
            offsets: OffsetUnit::Bytes,
        }
    }
}

/// A sequence of a batch. All lists are as long as `ids`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchEncoding {
    /// `input_ids`
    pub ids: Vec<TokenId>,
    /// 0 for padding, 1 for all else.
    pub attention_mask: Vec<u32>,
    /// 0 for the first text and what is around it, 1 for the second.
    pub token_type_ids: Vec<u32>,
    /// 1 for what was added: special tokens and padding.
    pub special_tokens_mask: Vec<u32>,
    /// What the token stands for in its text; `0..0` for what was added. (A byte-level tokenizer whose file says so
    /// leaves white space at the ends out.)
    pub offsets: Vec<Range<usize>>,
    /// Which of the two texts it is from.
    pub sequence_ids: Vec<Option<usize>>,
    /// Which input it is from: several are if pieces that were cut off are given (`overflow_to_sample_mapping`).
    pub sample: usize,
}

/// The strategies of one call, settled.
struct Settled {
    truncation: Option<TruncationParams>,
    padding: Option<PaddingParams>,
}

impl HfTokenizer {
    /// Encodes a text or a pair; with `overflowing`, also what was cut off.
    ///
    /// # Errors
    /// As [`encode_batch`](Self::encode_batch).
    pub fn encode_one<'a>(
        &self,
        input: impl Into<TextInput<'a>>,
        options: &BatchOptions,
    ) -> Result<Vec<BatchEncoding>, BatchError> {
        self.encode_batch(&[input.into()], options)
    }

    /// Encodes texts or pairs, all with the same options.
    ///
    /// # Errors
    /// [`BatchError`]: padding without padding token, a length that special tokens alone fill, a stride that leaves
    /// nothing new, a text that the chosen strategy cannot cut.
    pub fn encode_batch(
        &self,
        inputs: &[TextInput<'_>],
        options: &BatchOptions,
    ) -> Result<Vec<BatchEncoding>, BatchError> {
        let settled = self.settle(options)?;
        let mut encodings = Vec::with_capacity(inputs.len());
        for input in inputs {
            encodings.push(self.encode_input(input, options, settled.truncation.as_ref())?);
        }
        if let Some(padding) = &settled.padding {
            guarded(|| pad_encodings(&mut encodings, padding)).map_err(BatchError::Library)?;
        }
        let mut out = Vec::with_capacity(encodings.len());
        for (sample, mut encoding) in encodings.into_iter().enumerate() {
            let overflowing = encoding.take_overflowing();
            out.push(convert(&encoding, sample));
            if options.overflowing {
                out.extend(overflowing.iter().map(|piece| convert(piece, sample)));
            }
        }
        Ok(out)
    }

    fn encode_input(
        &self,
        input: &TextInput<'_>,
        options: &BatchOptions,
        truncation: Option<&TruncationParams>,
    ) -> Result<Encoding, BatchError> {
        let offsets = match options.offsets {
            OffsetUnit::Bytes => OffsetType::Byte,
            OffsetUnit::Chars => OffsetType::Char,
        };
        let parse_special = !options.split_special_tokens.unwrap_or(self.config.split_special_tokens);
        let mut first = self.encode_text(input.text, parse_special, offsets)?;
        let mut second = input.pair.map(|text| self.encode_text(text, parse_special, offsets)).transpose()?;
        // Pieces that are cut off keep these types.
        if let Some(second) = &mut second {
            second.set_type_ids(vec![1; second.len()]);
        }
        if let Some(truncation) = truncation {
            let mut truncation = truncation.clone();
            if options.add_special_tokens {
                let around = self.num_special_tokens_to_add(input.pair.is_some());
                let Some(room) = truncation.max_length.checked_sub(around) else {
                    return Err(BatchError::NoRoom { max_length: truncation.max_length, special: around });
                };
                truncation.max_length = room;
            }
            let total = first.len() + second.as_ref().map_or(0, Encoding::len);
            if total > truncation.max_length && truncation.max_length > 0 && truncation.stride >= truncation.max_length
            {
                return Err(BatchError::Stride { stride: truncation.stride, room: truncation.max_length });
            }
            (first, second) =
                guarded(|| truncate_encodings(first, second, &truncation)).map_err(BatchError::Library)?;
        }
        guarded(|| self.library.post_process(first, second, options.add_special_tokens)).map_err(BatchError::Library)
    }

    /// `_get_padding_truncation_strategies` of transformers.
    fn settle(&self, options: &BatchOptions) -> Result<Settled, BatchError> {
        let mut padding = options.padding;
        let mut strategy = match options.truncation {
            Truncation::Auto if options.max_length.is_some() && padding == Padding::No => {
                Some(TruncationStrategy::LongestFirst)
            }
            Truncation::Auto | Truncation::No => None,
            Truncation::LongestFirst => Some(TruncationStrategy::LongestFirst),
            Truncation::OnlyFirst => Some(TruncationStrategy::OnlyFirst),
            Truncation::OnlySecond => Some(TruncationStrategy::OnlySecond),
        };
        let max_length = options.max_length.or(self.config.model_max_length);
        if max_length.is_none() {
            strategy = None;
            if padding == Padding::MaxLength {
                padding = Padding::No;
            }
        }
        let padding = match (padding, max_length) {
            (Padding::No, _) | (Padding::MaxLength, None) => None,
            (Padding::Longest, _) => Some(PaddingStrategy::BatchLongest),
            (Padding::MaxLength, Some(length)) => Some(PaddingStrategy::Fixed(length)),
        };
        let multiple = options.pad_to_multiple_of;
        if multiple == Some(0) {
            return Err(BatchError::Multiple { max_length: options.max_length.unwrap_or(0), multiple: 0 });
        }
        // The length counts where a caller names it, or where a strategy took it from the configuration.
        let counts = options.max_length.or(max_length.filter(|_| strategy.is_some()));
        if let (Some(_), Some(_), Some(length), Some(multiple)) = (&strategy, &padding, counts, multiple)
            && length % multiple != 0
        {
            return Err(BatchError::Multiple { max_length: length, multiple });
        }
        let padding = match padding {
            None => None,
            Some(strategy) => {
                let (Some(id), Some(token)) = (self.special.pad, &self.config.pad_token) else {
                    return Err(BatchError::NoPadToken);
                };
                Some(PaddingParams {
                    strategy,
                    direction: match options.padding_side.unwrap_or(self.config.padding_side()) {
                        Side::Left => PaddingDirection::Left,
                        Side::Right => PaddingDirection::Right,
                    },
                    pad_to_multiple_of: multiple,
                    pad_id: id,
                    pad_type_id: 0,
                    pad_token: token.content.clone(),
                })
            }
        };
        let truncation = strategy.zip(max_length).map(|(strategy, max_length)| TruncationParams {
            direction: match options.truncation_side.or(self.config.truncation_side) {
                Some(Side::Left) => TruncationDirection::Left,
                Some(Side::Right) | None => TruncationDirection::Right,
            },
            max_length,
            strategy,
            stride: options.stride,
        });
        Ok(Settled { truncation, padding })
    }
}

fn convert(encoding: &Encoding, sample: usize) -> BatchEncoding {
    BatchEncoding {
        ids: encoding.get_ids().to_vec(),
        attention_mask: encoding.get_attention_mask().to_vec(),
        token_type_ids: encoding.get_type_ids().to_vec(),
        special_tokens_mask: encoding.get_special_tokens_mask().to_vec(),
        offsets: encoding.get_offsets().iter().map(|&(start, end)| start..end).collect(),
        sequence_ids: encoding.get_sequence_ids(),
        sample,
    }
}
