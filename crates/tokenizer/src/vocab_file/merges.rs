//! The merges of a vocabulary that has none: every way to put a token together out of two others.

use std::collections::HashMap;

use camelid_core::tokenizer::TokenId;

use crate::error::LoadError;

/// Longest token, in bytes, that merges may make. Real vocabularies stay below 200.
pub(crate) const MAX_TOKEN_BYTES: usize = 512;

/// Most merges for each token of a vocabulary, on the average. LLaMA 2 has 2, Llama 3 has 2.2.
const MAX_MERGES_PER_TOKEN: usize = 32;

/// The merges that make `tokens`, which are in order of their ids: those of low ids first and, of two ways to make one
/// token, the one whose left part has the lower id (as `TikTokenConverter` of transformers has them).
///
/// # Errors
/// A token that is too long, or a vocabulary with so many merges that no one trained it.
pub(crate) fn generate(tokens: &[(String, TokenId)], origin: &str) -> Result<Vec<(String, String)>, LoadError> {
    let ids: HashMap<&str, TokenId> = tokens.iter().map(|(text, id)| (text.as_str(), *id)).collect();
    let most = tokens.len().saturating_mul(MAX_MERGES_PER_TOKEN).saturating_add(4096);
    let mut merges: Vec<(String, String)> = Vec::new();
    for (text, id) in tokens {
        if text.len() > MAX_TOKEN_BYTES {
            let remedy = format!("a token that merges make has at most {MAX_TOKEN_BYTES}");
            return Err(LoadError::field(origin, format!("token {id}"), format!("{} bytes", text.len()), remedy));
        }
        let mut ways: Vec<(TokenId, TokenId, &str, &str)> = Vec::new();
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                ways.push((l, r, left, right));
            }
        }
        ways.sort_unstable_by_key(|(l, r, ..)| (*l, *r));
        if merges.len() + ways.len() > most {
            let found = format!("more than {most} merges for {} tokens", tokens.len());
            return Err(LoadError::field(origin, "the vocabulary", found, "no training makes this: fetch it again"));
        }
        merges.extend(ways.into_iter().map(|(_, _, left, right)| (left.to_owned(), right.to_owned())));
    }
    Ok(merges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(texts: &[&str]) -> Vec<(String, TokenId)> {
        (0..).zip(texts).map(|(id, text)| ((*text).to_owned(), id)).collect()
    }

    fn pairs(merges: &[(String, String)]) -> Vec<(&str, &str)> {
        merges.iter().map(|(l, r)| (l.as_str(), r.as_str())).collect()
    }

    #[test]
    fn every_way_is_found_in_the_order_of_the_ids() {
        let ways = generate(&vocabulary(&["é", "a", "c", "ac", "éa", "éac", "x"]), "x").unwrap();
        assert_eq!(pairs(&ways), [("a", "c"), ("é", "a"), ("é", "ac"), ("éa", "c")]);
        let ways = generate(&vocabulary(&["ab", "a", "b", "c", "bc", "abc"]), "x").unwrap();
        assert_eq!(pairs(&ways), [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")]);
    }

    #[test]
    fn a_token_out_of_proportion_is_refused() {
        let long = "x".repeat(MAX_TOKEN_BYTES + 1);
        let error = generate(&vocabulary(&["a", &long]), "file").unwrap_err().to_string();
        assert!(error.contains("file") && error.contains("token 1") && error.contains("513 bytes"), "{error}");
    }

    #[test]
    fn a_vocabulary_that_is_all_merges_is_refused() {
        let tokens: Vec<_> = (0..400).map(|n| ("a".repeat(n as usize + 1), n)).collect();
        let error = generate(&tokens, "file").unwrap_err().to_string();
        assert!(error.contains("merges for 400 tokens"), "{error}");
    }
}
