//! `camelid detokenize`: token ids in, text out.

use std::io::Write;
use std::path::PathBuf;

use camelid_core::tokenizer::{TokenId, Tokenizer};
use clap::Args;

use crate::{Error, source};

/// Turn token ids into text
#[derive(Args, Debug)]
pub struct Detokenize {
    /// Token ids, as numbers or as a JSON array; an array of arrays is a batch, with a text on each line; `-` reads
    /// standard input
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Model whose tokenizer to use [default: the bundled model]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Leave special tokens out of the text
    #[arg(long)]
    skip_special_tokens: bool,
    /// Print a JSON string
    #[arg(long)]
    json: bool,
}

impl Detokenize {
    pub fn run(self) -> Result<(), Error> {
        let text = match self.ids.as_slice() {
            [one] if one == "-" => super::text_or_stdin(one.clone())?,
            ids => ids.join(" "),
        };
        let tokenizer = source::tokenizer(self.model.as_deref())?;
        if let Ok(batch) = serde_json::from_str::<Vec<Vec<TokenId>>>(&text) {
            let mut texts = Vec::with_capacity(batch.len());
            for ids in &batch {
                let bytes = tokenizer.decode(ids, self.skip_special_tokens)?;
                texts.push(String::from_utf8_lossy(&bytes).into_owned());
            }
            if self.json {
                outln!("{}", serde_json::to_string(&texts)?);
            } else {
                texts.iter().try_for_each(|text| -> Result<(), Error> {
                    outln!("{text}");
                    Ok(())
                })?;
            }
            return Ok(());
        }
        let bytes = tokenizer.decode(&parse(&text)?, self.skip_special_tokens)?;
        if self.json {
            outln!("{}", serde_json::to_string(&String::from_utf8_lossy(&bytes))?);
            return Ok(());
        }
        // The bytes as they are: tokens may end inside a character.
        let mut out = std::io::stdout().lock();
        out.write_all(&bytes)?;
        writeln!(out)?;
        Ok(())
    }
}

/// Numbers between anything that is neither a digit nor a sign: `1 2`, `1,2` and `[1, 2]` are the same.
fn parse(text: &str) -> Result<Vec<TokenId>, Error> {
    let separator = |c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']');
    text.split(separator)
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().map_err(|_| format!("`{word}` is not a token id: ids are numbers from 0").into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn ids_come_as_words_or_as_json() {
        assert_eq!(parse("1 2").unwrap(), [1, 2]);
        assert_eq!(parse("[1, 2]\n").unwrap(), [1, 2]);
        assert!(parse("1 -2").unwrap_err().to_string().contains("`-2`"));
        assert!(parse("99999999999").is_err());
    }
}
