//! How a GGUF byte-level vocabulary cuts text into words before merging, by the name in `tokenizer.ggml.pre`.
//!
//! The patterns are those of the models' own tokenizers, as llama.cpp's `src/llama-vocab.cpp` lists them by name.

use tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use crate::error::LoadError;

/// The names that [`GgufVocab::pre`](crate::GgufVocab::pre) may have.
pub const KNOWN_PRE_TOKENIZERS: [&str; 6] = ["llama-bpe", "llama3", "llama-v3", "smollm", "gpt-2", "default"];

/// Contractions, words, numbers, punctuation and white space of GPT-2, each with one space in front. White space that
/// nothing matches is a word too.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";

/// Llama 3: contractions in any case, numbers in groups of three, line ends apart from other white space.
pub(crate) const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// A pre-tokenizer and what goes with its name.
pub(crate) struct PreTokenizer {
    pub steps: PreTokenizerWrapper,
    /// A word that is a token as a whole is that token, whatever the merges make of it.
    pub ignore_merges: bool,
    /// Put the beginning-of-sequence token in front if the file does not say.
    pub add_bos: bool,
}

/// The pre-tokenizer of a name. A file without one is read as `default`, as llama.cpp does.
pub(crate) fn by_name(pre: Option<&str>) -> Result<PreTokenizer, LoadError> {
    let pre = pre.unwrap_or_else(|| {
        tracing::warn!(
            "the GGUF vocabulary has no tokenizer.ggml.pre; reading it as \"default\" may give wrong tokens"
        );
        "default"
    });
    let llama3 = matches!(pre, "llama-bpe" | "llama3" | "llama-v3");
    let mut steps: Vec<PreTokenizerWrapper> = match pre {
        "llama-bpe" | "llama3" | "llama-v3" => vec![split(LLAMA3)?],
        "smollm" => vec![Digits::new(true).into(), split(GPT2)?],
        "gpt-2" => vec![split(GPT2)?],
        "default" => {
            vec![split(r"[\p{P}\$\+<=>\^~\|]+")?, split(GPT2)?, split(r"\p{N}+")?, split("[0-9][0-9][0-9]")?]
        }
        unknown => {
            return Err(LoadError::UnknownPreTokenizer {
                pre: unknown.to_owned(),
                known: KNOWN_PRE_TOKENIZERS.join(", "),
            });
        }
    };
    // Last, every byte is written as a printable character, the alphabet of the vocabulary.
    steps.push(ByteLevel::new(false, true, false).into());
    Ok(PreTokenizer { steps: Sequence::new(steps).into(), ignore_merges: llama3, add_bos: llama3 })
}

/// Every match of `pattern`, and everything between two matches, is a word.
fn split(pattern: &str) -> Result<PreTokenizerWrapper, LoadError> {
    Split::new(SplitPattern::Regex(pattern.to_owned()), SplitDelimiterBehavior::Isolated, false)
        .map(Into::into)
        .map_err(|e| LoadError::library("the pre-tokenizer", e))
}

#[cfg(test)]
mod tests {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    use super::*;

    fn words(pre: &str, text: &str) -> Vec<String> {
        let mut string = PreTokenizedString::from(text);
        by_name(Some(pre)).unwrap().steps.pre_tokenize(&mut string).unwrap();
        let splits = string.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(_, (start, end), _)| text[start..end].to_owned()).collect()
    }

    #[test]
    fn each_name_cuts_as_its_model_was_trained() {
        assert_eq!(
            words("llama-bpe", "I'LL pay 12345€\n\n ok  "),
            ["I", "'LL", " pay", " ", "123", "45", "€\n\n", " ok", "  "]
        );
        assert_eq!(
            words("smollm", "I'LL pay 123.\n ok"),
            ["I", "'", "LL", " pay", " ", "1", "2", "3", ".", "\n", " ok"]
        );
        assert_eq!(words("gpt-2", "we're 12345  here"), ["we", "'re", " 12345", " ", " here"]);
        assert_eq!(words("default", "a=$b 12345"), ["a", "=$", "b", " ", "123", "45"]);
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_the_known_ones() {
        let error = by_name(Some("tekken")).err().unwrap().to_string();
        assert!(
            error.contains("\"tekken\"") && KNOWN_PRE_TOKENIZERS.iter().all(|name| error.contains(name)),
            "{error}"
        );
    }
}
