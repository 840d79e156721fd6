//! `camelid tokenize`: text in, token ids out.

use std::path::PathBuf;

use camelid_core::tokenizer::Tokenizer;
use camelid_tokenizer::{
    BatchEncoding, BatchOptions, HfTokenizer, OffsetUnit, Padding, Side, SpecialName, TextInput, Truncation,
};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::{Error, source};

/// Turn text into token ids
#[derive(Args, Debug)]
pub struct Tokenize {
    /// Text; `-` reads standard input
    #[arg(allow_hyphen_values = true, required_unless_present = "texts")]
    text: Option<String>,
    /// Further texts: a batch
    #[arg(value_name = "TEXT")]
    more: Vec<String>,
    /// Read the texts from a file with a JSON list of strings
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    texts: Option<PathBuf>,
    /// The second text of a pair, once for each TEXT
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pair: Vec<String>,
    /// Model whose tokenizer to use: a checkpoint, a folder with a tokenizer, a tokenizer.json or a tokenizer.model
    /// [default: the bundled model]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Do not frame the text with the model's special tokens
    #[arg(long, visible_alias = "no-special")]
    no_special_tokens: bool,
    /// Take special tokens written out in the text as plain text
    #[arg(long)]
    split_special_tokens: bool,
    /// Cut to N tokens, or fill up to N with --padding max_length
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// What to cut [default: longest_first with --max-length alone, otherwise do_not_truncate]
    #[arg(long, value_name = "RULE")]
    truncation: Option<TruncationRule>,
    /// Which side to cut
    #[arg(long, value_name = "SIDE")]
    truncation_side: Option<SideName>,
    /// Also give what was cut off, as further sequences
    #[arg(long)]
    overflowing: bool,
    /// Tokens that such a sequence has in common with the one before
    #[arg(long, value_name = "N", default_value_t = 0)]
    stride: usize,
    /// Fill up to the longest text or to --max-length
    #[arg(long, value_name = "RULE")]
    padding: Option<PaddingRule>,
    /// Which side to fill up
    #[arg(long, value_name = "SIDE")]
    padding_side: Option<SideName>,
    /// Fill up to a multiple of N
    #[arg(long, value_name = "N")]
    pad_to_multiple_of: Option<usize>,
    /// The token to fill up with, for tokenizers without one
    #[arg(long, value_name = "TOKEN")]
    pad_token: Option<String>,
    /// Show what each token stands for, counted in characters or in bytes
    #[arg(long, value_name = "UNIT", num_args = 0..=1, default_missing_value = "chars", require_equals = true)]
    offsets: Option<OffsetName>,
    /// With --json, also give token types and the mask of special tokens
    #[arg(long)]
    masks: bool,
    /// Print JSON: a list of ids, or an object as transformers calls its parts if more than ids is asked for
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum TruncationRule {
    LongestFirst,
    OnlyFirst,
    OnlySecond,
    DoNotTruncate,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum PaddingRule {
    Longest,
    MaxLength,
    DoNotPad,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SideName {
    Left,
    Right,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OffsetName {
    Chars,
    Bytes,
}

impl From<SideName> for Side {
    fn from(side: SideName) -> Side {
        match side {
            SideName::Left => Side::Left,
            SideName::Right => Side::Right,
        }
    }
}

impl Tokenize {
    pub fn run(self) -> Result<(), Error> {
        let mut tokenizer = source::tokenizer(self.model.as_deref())?;
        if let Some(token) = &self.pad_token {
            tokenizer.set_special_token(SpecialName::Pad, Some(token.as_str().into()))?;
        }
        let texts = self.input_texts()?;
        if !self.pair.is_empty() && self.pair.len() != texts.len() {
            return Err(format!("--pair is there {} times for {} texts", self.pair.len(), texts.len()).into());
        }
        let pairs = self.pair.iter().map(|pair| Some(pair.as_str())).chain(std::iter::repeat(None));
        let inputs: Vec<TextInput<'_>> = texts.iter().zip(pairs).map(|(text, pair)| TextInput { text, pair }).collect();
        let encodings = tokenizer.encode_batch(&inputs, &self.options())?;
        // As transformers gives it: without the dimension of the batch for one text.
        let flat = texts.len() == 1 && self.texts.is_none() && !self.overflowing;
        if self.json {
            outln!("{}", self.as_json(&encodings, flat));
            return Ok(());
        }
        for (n, encoding) in encodings.iter().enumerate() {
            if n > 0 {
                outln!();
            }
            self.list(&tokenizer, encoding)?;
        }
        Ok(())
    }

    fn input_texts(&self) -> Result<Vec<String>, Error> {
        let Some(file) = &self.texts else {
            return self.text.iter().chain(&self.more).cloned().map(super::text_or_stdin).collect();
        };
        let failed =
            |e: &dyn std::fmt::Display| format!("{}: {e}; it has to be a JSON list of strings", file.display());
        let bytes = std::fs::read(file).map_err(|e| failed(&e))?;
        Ok(serde_json::from_slice(&bytes).map_err(|e| failed(&e))?)
    }

    fn options(&self) -> BatchOptions {
        BatchOptions {
            add_special_tokens: !self.no_special_tokens,
            split_special_tokens: self.split_special_tokens.then_some(true),
            padding: match self.padding {
                None | Some(PaddingRule::DoNotPad) => Padding::No,
                Some(PaddingRule::Longest) => Padding::Longest,
                Some(PaddingRule::MaxLength) => Padding::MaxLength,
            },
            padding_side: self.padding_side.map(Into::into),
            pad_to_multiple_of: self.pad_to_multiple_of,
            truncation: match self.truncation {
                None => Truncation::Auto,
                Some(TruncationRule::LongestFirst) => Truncation::LongestFirst,
                Some(TruncationRule::OnlyFirst) => Truncation::OnlyFirst,
                Some(TruncationRule::OnlySecond) => Truncation::OnlySecond,
                Some(TruncationRule::DoNotTruncate) => Truncation::No,
            },
            truncation_side: self.truncation_side.map(Into::into),
            max_length: self.max_length,
            stride: self.stride,
            overflowing: self.overflowing,
            offsets: match self.offsets {
                Some(OffsetName::Chars) => OffsetUnit::Chars,
                Some(OffsetName::Bytes) | None => OffsetUnit::Bytes,
            },
        }
    }

    /// The ids alone or, if more was asked for, an object.
    fn as_json(&self, encodings: &[BatchEncoding], flat: bool) -> Value {
        let rows = |row: &dyn Fn(&BatchEncoding) -> Value| {
            let mut rows: Vec<Value> = encodings.iter().map(row).collect();
            if flat { rows.pop().unwrap_or_default() } else { rows.into() }
        };
        let ids = rows(&|e| json!(e.ids));
        let more = self.masks || self.overflowing || self.padding.is_some() || self.offsets.is_some();
        if !more && self.pair.is_empty() {
            return ids;
        }
        let mut object = Map::new();
        object.insert("input_ids".into(), ids);
        object.insert("attention_mask".into(), rows(&|e| json!(e.attention_mask)));
        if self.masks {
            object.insert("token_type_ids".into(), rows(&|e| json!(e.token_type_ids)));
            object.insert("special_tokens_mask".into(), rows(&|e| json!(e.special_tokens_mask)));
        }
        if self.offsets.is_some() {
            let pairs = |e: &BatchEncoding| e.offsets.iter().map(|r| [r.start, r.end]).collect::<Vec<_>>();
            object.insert("offset_mapping".into(), rows(&|e| json!(pairs(e))));
        }
        if self.overflowing {
            object.insert("overflow_to_sample_mapping".into(), rows(&|e| json!(e.sample)));
        }
        object.into()
    }

    /// A line for each token.
    fn list(&self, tokenizer: &HfTokenizer, encoding: &BatchEncoding) -> Result<(), Error> {
        for (id, range) in encoding.ids.iter().zip(&encoding.offsets) {
            let token = tokenizer.id_to_token(*id).unwrap_or_default();
            match self.offsets {
                Some(_) => outln!("{id:>7}  {:<12} {token:?}", format!("{}..{}", range.start, range.end)),
                None => outln!("{id:>7}  {token:?}"),
            }
        }
        Ok(())
    }
}
