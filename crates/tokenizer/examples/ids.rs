//! Compares a tokenizer with ids that another program gave, to be run by hand:
//!
//! ```sh
//! cargo run -p camelid-tokenizer --example ids -- tokenizer.model texts.json ids.json
//! ```
//!
//! The first file is a `tokenizer.json` or a `tokenizer.model`, the second a JSON list of texts, the third a list of the
//! lists of their ids, nothing added and special tokens not recognised, as
//! `conformance/reference/llama_tokenizer_cases.py --texts COUNT` writes them. Says how many differ, and shows ten.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use camelid_core::tokenizer::{EncodeOptions, Tokenizer};
use camelid_tokenizer::HfTokenizer;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, texts, ids] = arguments.as_slice() else {
        return Err("give a tokenizer file, a file of texts and a file of ids".into());
    };
    let tokenizer = if file.ends_with(".model") {
        HfTokenizer::from_tokenizer_model(Path::new(file), None)?
    } else {
        HfTokenizer::from_tokenizer_file(Path::new(file), None)?
    };
    let texts: Vec<String> = serde_json::from_slice(&std::fs::read(texts)?)?;
    let expected: Vec<Vec<u32>> = serde_json::from_slice(&std::fs::read(ids)?)?;
    let options = EncodeOptions { add_special_tokens: false, parse_special: false };
    let mut out = std::io::stdout().lock();
    let mut differ = 0;
    for (text, expected) in texts.iter().zip(&expected) {
        let found = tokenizer.encode(text, options)?.ids;
        if found != *expected {
            differ += 1;
            if differ <= 10 {
                writeln!(out, "{text:?}\n  found    {found:?}\n  expected {expected:?}")?;
            }
        }
    }
    writeln!(out, "{} texts, {differ} differ", texts.len())?;
    Ok(())
}
