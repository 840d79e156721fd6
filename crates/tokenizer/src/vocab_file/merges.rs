//! The merges of a vocabulary that has none: every way to put a token together out of two others.

use std::collections::HashMap;

use camelid_core::tokenizer::TokenId;

use crate::error::LoadError;

/// Longest token, in bytes, that merges may make. Real vocabularies stay below 200.
pub(crate) const MAX_TOKEN_BYTES: usize = 512;

/// Most merges for each token of a vocabulary, on the average. LLaMA 2 has 2, Llama 3 has 2.2.
const MAX_MERGES_PER_TOKEN: usize = 32;

/// Which of two ways to make one token is tried first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The one whose left part has fewer characters (`generate_merges` of transformers).
    ShortestLeft,
    /// The one whose left part has the lower id (`TikTokenConverter` of transformers).
    LowestIds,
}

/// The merges that make the tokens of `mergeable`, those of low ids first. `tokens` are texts and ids in order of their
/// ids; `mergeable` tells which of them take part.
///
/// # Errors
/// A token that is too long, or a vocabulary with so many merges that no one trained it.
pub(crate) fn generate(
    tokens: &[(String, TokenId)],
    mergeable: impl Fn(TokenId) -> bool,
    order: Order,
    origin: &str,
) -> Result<Vec<(String, String)>, LoadError> {
    let ids: HashMap<&str, TokenId> =
        tokens.iter().filter(|(_, id)| mergeable(*id)).map(|(text, id)| (text.as_str(), *id)).collect();
    let most = tokens.len().saturating_mul(MAX_MERGES_PER_TOKEN).saturating_add(4096);
    let mut merges: Vec<(String, String)> = Vec::new();
    for (text, id) in tokens {
        if !mergeable(*id) {
            continue;
        }
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
        if order == Order::LowestIds {
            ways.sort_unstable_by_key(|(l, r, ..)| (*l, *r));
        }
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
    fn every_way_is_found_in_the_order_asked_for() {
        let tokens = vocabulary(&["c", "a", "é", "aé", "éc", "aéc", "<s>"]);
        let ways = generate(&tokens, |id| id != 6, Order::ShortestLeft, "x").unwrap();
        assert_eq!(pairs(&ways), [("a", "é"), ("é", "c"), ("a", "éc"), ("aé", "c")]);
        let ways = generate(&vocabulary(&["ab", "a", "b", "c", "bc", "abc"]), |_| true, Order::LowestIds, "x").unwrap();
        assert_eq!(pairs(&ways), [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")]);
    }

    #[test]
    fn a_token_out_of_proportion_is_refused() {
        let long = "x".repeat(MAX_TOKEN_BYTES + 1);
        let error =
            generate(&vocabulary(&["a", &long]), |_| true, Order::ShortestLeft, "file").unwrap_err().to_string();
        assert!(error.contains("file") && error.contains("token 1") && error.contains("513 bytes"), "{error}");
        assert!(generate(&vocabulary(&["a", &long]), |id| id == 0, Order::ShortestLeft, "file").unwrap().is_empty());
    }

    #[test]
    fn a_vocabulary_that_is_all_merges_is_refused() {
        let tokens: Vec<_> = (0..400).map(|n| ("a".repeat(n as usize + 1), n)).collect();
        let error = generate(&tokens, |_| true, Order::ShortestLeft, "file").unwrap_err().to_string();
        assert!(error.contains("merges for 400 tokens"), "{error}");
    }
}
