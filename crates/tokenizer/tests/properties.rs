//! Properties that hold for any text and any vocabulary.

mod common;

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use camelid_core::tokenizer::{EncodeOptions, Tokenizer};
use camelid_tokenizer::{GgufVocab, HfTokenizer};
use common::{PARSE, PLAIN, add, byte_level, sentencepiece};
use proptest::collection::vec;
use proptest::prelude::*;

static TOKENIZERS: LazyLock<Vec<HfTokenizer>> = LazyLock::new(|| {
    let bare = GgufVocab { add_space_prefix: Some(false), ..sentencepiece() };
    let byte_level = ["llama-bpe", "smollm", "gpt-2", "default"].map(byte_level);
    [sentencepiece(), bare].into_iter().chain(byte_level).map(|v| HfTokenizer::from_gguf(v).unwrap()).collect()
});

/// Text of every kind, but for `▁`, which SentencePiece cannot tell from a space.
fn text() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "Banana", " the", "  ", "\n", "\r\n", "é", "日本", "🦙", "\u{200d}", "'LL", "123", "</s>", "<|end|>", "<tool>",
        "<unk>", "<0x41>", "<s", ">", "\u{85}", "\u{0}", "\u{fffd}",
    ]);
    let anything = any::<String>().prop_map(|s| s.replace('▁', "_"));
    vec(prop_oneof![2 => words.prop_map(str::to_owned), 1 => anything], 0..12).prop_map(|parts| parts.concat())
}

/// SentencePiece's rule, word for word: join the pair whose text is the piece of the highest score, the leftmost of
/// equals, until there is none.
fn by_the_rule(scores: &HashMap<String, f32>, text: &str) -> Vec<String> {
    let mut symbols: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let mut best: Option<(f32, usize)> = None;
        for at in 1..symbols.len() {
            let joined = [symbols[at - 1].as_str(), &symbols[at]].concat();
            if let Some(&score) = scores.get(&joined)
                && best.is_none_or(|(highest, _)| score > highest)
            {
                best = Some((score, at));
            }
        }
        let Some((_, at)) = best else { return symbols };
        let right = symbols.remove(at);
        symbols[at - 1].push_str(&right);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn sentencepiece_follows_its_rule(
        pieces in prop::collection::hash_map("[abé]{1,6}", (-4i8..4).prop_map(f32::from), 0..40),
        text in "[abéx]{0,40}",
    ) {
        let mut vocab = GgufVocab { model: "llama".to_owned(), add_space_prefix: Some(false), ..GgufVocab::default() };
        add(&mut vocab, "<unk>", 0.0, 2);
        for (piece, score) in &pieces {
            add(&mut vocab, piece, *score, 1);
        }
        let tokenizer = HfTokenizer::from_gguf(vocab).unwrap();
        let encoding = tokenizer.encode(&text, PLAIN).unwrap();
        let mut wanted: Vec<String> = Vec::new();
        let mut unknown = false;
        for symbol in by_the_rule(&pieces, &text) {
            let known = pieces.contains_key(&symbol);
            match wanted.last_mut() {
                Some(last) if unknown && !known => last.push_str(&symbol),
                _ => wanted.push(symbol),
            }
            unknown = !known;
        }
        let found: Vec<&str> = encoding.offsets.iter().map(|range| &text[range.clone()]).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn text_survives_encoding_and_decoding(text in text()) {
        for tokenizer in TOKENIZERS.iter() {
            let plain = tokenizer.encode(&text, PLAIN).unwrap().ids;
            // SentencePiece puts a space in front of what follows a user-defined token too, and that one stays.
            let spaced = tokenizer.token_to_id("▁").is_some() && text.contains("<tool>");
            prop_assert!(spaced || tokenizer.decode(&plain, true).unwrap() == text.as_bytes());
            prop_assert!(plain.iter().all(|id| !tokenizer.special_tokens().all.contains(id)));
        }
    }

    #[test]
    fn a_stream_of_tokens_is_the_text(text in text()) {
        for tokenizer in TOKENIZERS.iter() {
            let ids = tokenizer.encode(&text, PARSE).unwrap().ids;
            let mut streamed = Vec::new();
            for id in &ids {
                streamed.extend(tokenizer.token_bytes(*id).unwrap());
            }
            let whole = tokenizer.decode(&ids, false).unwrap();
            // Only the space in front may differ.
            prop_assert!(streamed == whole || streamed.strip_prefix(b" ") == Some(&whole), "{:?} {:?}", streamed, whole);
        }
    }

    #[test]
    fn offsets_are_whole_characters_in_order_and_cover_the_text(text in text()) {
        for tokenizer in TOKENIZERS.iter() {
            for options in [PLAIN, PARSE, EncodeOptions::default()] {
                let encoding = tokenizer.encode(&text, options).unwrap();
                prop_assert_eq!(encoding.ids.len(), encoding.offsets.len());
                let framed = if options.add_special_tokens { tokenizer.frame() } else { (&[][..], &[][..]) };
                let inner = framed.0.len()..encoding.ids.len() - framed.1.len();
                let (mut start, mut end) = (0, 0);
                for range in &encoding.offsets[inner] {
                    prop_assert!(text.get(range.clone()).is_some(), "{:?} in {:?}", range, text);
                    prop_assert!(range.start >= start && range.start <= end && range.end >= end, "{:?} after {}..{}", range, start, end);
                    (start, end) = (range.start, range.end);
                }
                prop_assert_eq!(end, text.len());
            }
        }
    }

    #[test]
    fn any_ids_decode_or_are_refused(ids in vec(prop_oneof![0u32..400, any::<u32>()], 0..20), skip in any::<bool>()) {
        for tokenizer in TOKENIZERS.iter() {
            let known = ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size());
            prop_assert_eq!(tokenizer.decode(&ids, skip).is_ok(), known);
        }
    }

    #[test]
    fn no_vocabulary_does_harm(vocab in any_vocab(), text in text()) {
        if let Ok(tokenizer) = HfTokenizer::from_gguf(vocab) {
            if let Ok(encoding) = tokenizer.encode(&text, EncodeOptions::default()) {
                for range in &encoding.offsets {
                    prop_assert!(text.get(range.clone()).is_some());
                }
                prop_assert!(tokenizer.decode(&encoding.ids, false).is_ok());
            }
            for id in 0..tokenizer.vocab_size() as u32 {
                let _ = tokenizer.token_bytes(id);
            }
        }
    }

    #[test]
    fn no_tokenizer_json_does_harm(at in 0usize..200, with in any_json(), text in text()) {
        let mut json: serde_json::Value = serde_json::from_str(include_str!("data/llama_tokenizer.json")).unwrap();
        let mut left = at;
        replace_node(&mut json, &mut left, &with);
        if let Ok(tokenizer) = HfTokenizer::from_tokenizer_json(json.to_string().as_bytes(), None)
            && let Ok(encoding) = tokenizer.encode(&text, EncodeOptions::default())
        {
            let _ = tokenizer.decode(&encoding.ids, true);
        }
    }
}

/// Vocabularies that may or may not hold together.
fn any_vocab() -> impl Strategy<Value = GgufVocab> {
    let token = prop_oneof![
        4 => "[abcĠ▁ ]{1,4}",
        1 => any::<String>(),
        1 => prop::sample::select(vec!["<s>", "</s>", "<unk>", "<0x41>", "<0xC3>", "", "a", "b"]).prop_map(str::to_owned),
    ];
    let tokens = vec(token, 0..30);
    let kinds = prop::option::of(vec(prop_oneof![6 => 1i32..7, 1 => any::<i32>()], 0..30));
    let scores = prop::option::of(vec(prop_oneof![9 => -9.0f32..0.0, 1 => any::<f32>()], 0..30));
    let merges = prop::option::of(vec("[abcĠ]{0,2} ?[abcĠ]{0,2}", 0..20));
    let id = || prop::option::of(prop_oneof![5 => 0u32..30, 1 => any::<u32>()]);
    let flag = || prop::option::of(any::<bool>());
    let pre = prop::option::of(prop::sample::select(vec!["llama-bpe", "smollm", "gpt-2", "default", "?"]));
    (
        (prop::sample::select(vec!["llama", "gpt2"]), pre),
        (tokens, kinds, scores, merges),
        (id(), id(), id(), id()),
        (flag(), flag(), flag()),
        any::<bool>(),
    )
        .prop_map(
            |(
                (model, pre),
                (mut tokens, mut kinds, mut scores, merges),
                (bos, eos, unk, pad),
                (add_bos, add_eos, add_space_prefix),
                fit,
            )| {
                if fit {
                    // Lists of one length, distinct tokens: past the first checks.
                    let mut seen = std::collections::HashSet::new();
                    tokens.retain(|t| seen.insert(t.clone()));
                    kinds = kinds.map(|k| k.into_iter().chain(std::iter::repeat(1)).take(tokens.len()).collect());
                    scores = scores.map(|s| s.into_iter().chain(std::iter::repeat(0.0)).take(tokens.len()).collect());
                }
                GgufVocab {
                    model: model.to_owned(),
                    pre: pre.map(str::to_owned),
                    tokens,
                    scores,
                    token_types: kinds,
                    merges,
                    bos,
                    eos,
                    unk,
                    pad,
                    add_bos,
                    add_eos,
                    add_space_prefix,
                    ..GgufVocab::default()
                }
            },
        )
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::json;
    prop_oneof![
        Just(json!(null)),
        Just(json!(-1)),
        Just(json!(u32::MAX)),
        Just(json!(u64::MAX)),
        Just(json!(1e300)),
        Just(json!("")),
        Just(json!("日")),
        Just(json!([])),
        Just(json!({})),
        Just(json!(true)),
        Just(json!(["a", "b"])),
        Just(json!("a b")),
        Just(json!([["é", "a"]])),
        any::<String>().prop_map(serde_json::Value::from),
    ]
}

/// Puts `with` in place of the `left`-th value inside.
fn replace_node(json: &mut serde_json::Value, left: &mut usize, with: &serde_json::Value) -> bool {
    let children: Vec<&mut serde_json::Value> = match json {
        serde_json::Value::Array(list) => list.iter_mut().collect(),
        serde_json::Value::Object(map) => map.values_mut().collect(),
        _ => Vec::new(),
    };
    for child in children {
        if *left == 0 {
            *child = with.clone();
            return true;
        }
        *left -= 1;
        if replace_node(child, left, with) {
            return true;
        }
    }
    false
}

/// A quadratic step somewhere would take minutes on these.
#[test]
fn a_megabyte_of_anything_takes_seconds() {
    let megabyte = |unit: &str| unit.repeat((1 << 20) / unit.len());
    let spaces_then_word = megabyte(" ") + "x";
    let texts = ["a", " ", "🦙", "\u{200d}", "ab", "7", "<|end|>", " the"];
    for text in texts.map(megabyte).iter().chain([&spaces_then_word]) {
        for tokenizer in [&TOKENIZERS[0], &TOKENIZERS[2], &TOKENIZERS[5]] {
            let start = Instant::now();
            let ids = tokenizer.encode(text, PLAIN).unwrap().ids;
            assert_eq!(tokenizer.decode(&ids, true).unwrap(), text.as_bytes());
            let shown: String = text.chars().take(8).collect();
            assert!(start.elapsed() < Duration::from_secs(30), "{shown:?}... took {:?}", start.elapsed());
        }
    }
}
