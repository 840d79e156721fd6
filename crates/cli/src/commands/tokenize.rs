//! `camelid tokenize`: text in, token ids out.

use std::path::PathBuf;

use camelid_core::tokenizer::{EncodeOptions, Tokenizer};
use clap::Args;

use crate::{Error, source};

/// Turn text into token ids
#[derive(Args, Debug)]
pub struct Tokenize {
    /// Text; `-` reads standard input
    #[arg(allow_hyphen_values = true)]
    text: String,
    /// Model whose tokenizer to use [default: the bundled model]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Do not frame the text with the model's special tokens
    #[arg(long)]
    no_special_tokens: bool,
    /// Print a JSON array of ids
    #[arg(long)]
    json: bool,
}

impl Tokenize {
    pub fn run(self) -> Result<(), Error> {
        let tokenizer = source::tokenizer(self.model.as_deref())?;
        let text = super::text_or_stdin(self.text)?;
        let options = EncodeOptions { add_special_tokens: !self.no_special_tokens, ..EncodeOptions::default() };
        let ids = tokenizer.encode(&text, options)?.ids;
        if self.json {
            outln!("{}", serde_json::to_string(&ids)?);
            return Ok(());
        }
        for id in ids {
            outln!("{id:>7}  {:?}", tokenizer.id_to_token(id).unwrap_or_default());
        }
        Ok(())
    }
}
