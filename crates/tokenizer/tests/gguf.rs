//! Vocabularies out of GGUF metadata: what the tokens are, and which vocabularies are refused.

mod common;

use camelid_core::tokenizer::{EncodeOptions, Tokenizer, TokenizerError};
use camelid_tokenizer::{GgufVocab, HfTokenizer, LoadError};
use common::{PARSE, PLAIN, add, byte_level, ids, sentencepiece, tokens};

fn load(vocab: GgufVocab) -> HfTokenizer {
    HfTokenizer::from_gguf(vocab).unwrap()
}

#[test]
fn sentencepiece_puts_a_space_in_front_and_takes_it_back() {
    let tokenizer = load(sentencepiece());
    assert_eq!(tokens(&tokenizer, "Banana", PLAIN), ["▁Ban", "ana"]);
    let ids = ids(&tokenizer, "Banana", EncodeOptions::default());
    assert_eq!(ids[0], 1);
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), b"Banana");
    // In the middle of a stream the space is part of the text.
    assert_eq!(tokenizer.token_bytes(ids[1]).unwrap(), b" Ban");
    assert_eq!(tokens(&tokenizer, "  ", PLAIN), ["▁▁", "▁"]);
    assert_eq!(tokens(&tokenizer, "   ", PLAIN), ["▁▁▁▁"]);
    assert!(tokens(&tokenizer, "", PLAIN).is_empty());

    let bare = load(GgufVocab { add_space_prefix: Some(false), ..sentencepiece() });
    assert_eq!(tokens(&bare, "Ban", PLAIN), ["B", "an"]);
    assert_eq!(bare.decode(&common::ids(&bare, " Ban", PLAIN), true).unwrap(), b" Ban");
}

#[test]
fn characters_outside_the_vocabulary_are_bytes() {
    let tokenizer = load(sentencepiece());
    let encoding = tokenizer.encode("é🦙", PLAIN).unwrap();
    let written: Vec<String> = encoding.ids.iter().map(|id| tokenizer.id_to_token(*id).unwrap()).collect();
    assert_eq!(written, ["▁", "é", "<0xF0>", "<0x9F>", "<0xA6>", "<0x99>"]);
    assert_eq!(encoding.offsets[1..], [0..2, 2..6, 2..6, 2..6, 2..6]);
    assert_eq!(tokenizer.decode(&encoding.ids, true).unwrap(), "é🦙".as_bytes());
    // A part of a character is not text, and not replaced either.
    assert_eq!(tokenizer.decode(&encoding.ids[..4], true).unwrap(), b"\xC3\xA9\xF0\x9F");
    assert_eq!(tokenizer.token_bytes(encoding.ids[3]).unwrap(), b"\x9F");
}

#[test]
fn without_byte_tokens_unknown_characters_are_one_unknown_token() {
    let mut vocab = GgufVocab { model: "llama".to_owned(), ..GgufVocab::default() };
    add(&mut vocab, "<unk>", 0.0, 2);
    for (piece, score) in [("▁", -1.0), ("a", -2.0), ("▁a", -3.0)] {
        add(&mut vocab, piece, score, 1);
    }
    let tokenizer = load(vocab.clone());
    let encoding = tokenizer.encode("a日本a", PLAIN).unwrap();
    assert_eq!(encoding.ids, [3, 0, 2]);
    assert_eq!(encoding.offsets[1], 1..7);

    // Nothing to write them with: an error that names the character.
    vocab.tokens[0] = "b".to_owned();
    vocab.token_types = None;
    let error = load(vocab).encode("a日b", PLAIN).unwrap_err().to_string();
    assert!(error.contains("日"), "{error}");
}

/// "aba" can be cut two ways into pieces of one score: SentencePiece takes the leftmost pair, a ranked list of merges
/// would take one and the same pair everywhere.
#[test]
fn equal_scores_merge_from_left_to_right() {
    let mut vocab = GgufVocab { model: "llama".to_owned(), add_space_prefix: Some(false), ..GgufVocab::default() };
    add(&mut vocab, "<unk>", 0.0, 2);
    for (piece, score) in [("a", -9.0), ("b", -9.0), ("ab", -1.0), ("ba", -1.0)] {
        add(&mut vocab, piece, score, 1);
    }
    let tokenizer = load(vocab.clone());
    assert_eq!(tokens(&tokenizer, "aba", PLAIN), ["ab", "a"]);
    assert_eq!(tokens(&tokenizer, "bab", PLAIN), ["ba", "b"]);
    // -0 and 0 are equal too.
    vocab.scores = Some(vec![0.0, -9.0, -9.0, -0.0, 0.0]);
    assert_eq!(tokens(&load(vocab.clone()), "aba", PLAIN), ["ab", "a"]);
    // Without scores all are equal.
    vocab.scores = None;
    assert_eq!(tokens(&load(vocab), "babab", PLAIN), ["ba", "ba", "b"]);
}

#[test]
fn a_piece_may_have_parts_that_are_no_pieces_and_unused_pieces_are_taken_apart() {
    let mut vocab = GgufVocab { model: "llama".to_owned(), add_space_prefix: Some(false), ..GgufVocab::default() };
    add(&mut vocab, "<unk>", 0.0, 2);
    add(&mut vocab, "xy", -1.0, 1);
    add(&mut vocab, "xyz", -2.0, 5);
    add(&mut vocab, "xyzxyz", -3.0, 1);
    let tokenizer = load(vocab);
    assert_eq!(tokens(&tokenizer, "xy", PLAIN), ["xy"]);
    assert_eq!(tokens(&tokenizer, "xyz", PLAIN), ["xy", "<unk>"]);
    assert_eq!(tokens(&tokenizer, "xyzxyz", PLAIN), ["xyzxyz"]);
}

#[test]
fn special_tokens_in_text_count_only_if_asked_for() {
    for vocab in [sentencepiece(), byte_level("llama-bpe"), byte_level("default")] {
        let special = if vocab.model == "llama" { "</s>" } else { "<|end|>" };
        let tokenizer = load(vocab);
        let id = tokenizer.token_to_id(special).unwrap();
        let text = format!("the{special}he<tool>");
        let parsed = ids(&tokenizer, &text, PARSE);
        let plain = ids(&tokenizer, &text, PLAIN);
        assert!(parsed.contains(&id) && !plain.contains(&id), "{special}: {parsed:?} {plain:?}");
        // User-defined tokens are no special tokens.
        let tool = tokenizer.token_to_id("<tool>").unwrap();
        assert!(parsed.ends_with(&[tool]) && plain.ends_with(&[tool]));
        assert_eq!(tokenizer.decode(&plain, true).unwrap(), text.as_bytes());
        assert_eq!(tokenizer.decode(&parsed, false).unwrap().len(), text.len() + usize::from(special == "</s>"));
        let skipped = tokenizer.decode(&parsed, true).unwrap();
        assert!(!String::from_utf8(skipped).unwrap().contains(special));
    }
}

/// Pieces "</" and "s>" are there, so that merging alone could spell the control token.
#[test]
fn merging_cannot_spell_a_control_token() {
    let tokenizer = load(sentencepiece());
    assert_eq!(tokens(&tokenizer, "</s>", PLAIN), ["▁", "</", "s>"]);
    // A byte-level vocabulary may even have the merges: the token is then written by its characters.
    let mut vocab = byte_level("gpt-2");
    vocab.tokens.push("!!".to_owned());
    vocab.token_types.as_mut().unwrap().push(3);
    vocab.merges.as_mut().unwrap().push("! !".to_owned());
    // SmolLM2 names a control token as the unknown one: it is no less special for that.
    vocab.unk = Some(vocab.tokens.len() as u32 - 1);
    let tokenizer = load(vocab);
    assert_eq!(tokens(&tokenizer, "!!", PARSE), ["!!"]);
    let encoding = tokenizer.encode(" !!?", PLAIN).unwrap();
    assert_eq!(encoding.ids, [" ", "!", "!", "?"].map(|c| tokenizer.token_to_id(&c.replace(' ', "Ġ")).unwrap()));
    assert_eq!(encoding.offsets, [0..1, 1..2, 2..3, 3..4]);
}

#[test]
fn byte_level_vocabularies_follow_their_merges() {
    let tokenizer = load(byte_level("smollm"));
    assert_eq!(tokens(&tokenizer, "in the 123é", PLAIN), ["in", "Ġthe", "Ġ", "1", "2", "3", "Ã©"]);
    let encoding = tokenizer.encode("日", PLAIN).unwrap();
    assert_eq!(encoding.offsets, [0..3, 0..3, 0..3]);
    assert_eq!(tokenizer.decode(&encoding.ids[..2], true).unwrap(), "日".as_bytes()[..2]);
    let llama3 = load(byte_level("llama-bpe"));
    assert_eq!(tokens(&llama3, "123 the", PLAIN), ["123", "Ġthe"]);
}

/// Llama 3 looks a whole word up before it merges; the others do not.
#[test]
fn only_llama3_ignores_merges() {
    let with_word = |pre: &str| {
        let mut vocab = byte_level(pre);
        vocab.tokens.push("Ġllama".to_owned());
        vocab.token_types.as_mut().unwrap().push(1);
        load(vocab)
    };
    assert_eq!(tokens(&with_word("llama-bpe"), " llama", PLAIN), ["Ġllama"]);
    assert_eq!(tokens(&with_word("smollm"), " llama", PLAIN), ["Ġ", "ll", "a", "m", "a"]);
}

#[test]
fn of_equal_merges_the_first_counts() {
    let mut vocab = byte_level("gpt-2");
    vocab.merges.as_mut().unwrap().push("Ġ t".to_owned());
    assert_eq!(tokens(&load(vocab), " the", PLAIN), ["Ġthe"]);
}

#[test]
fn the_frame_is_what_the_file_says_or_the_kind_implies() {
    let frame = |vocab: GgufVocab| {
        let tokenizer = load(vocab);
        (tokenizer.frame().0.to_vec(), tokenizer.frame().1.to_vec())
    };
    assert_eq!(frame(sentencepiece()), (vec![1], vec![]));
    assert_eq!(frame(GgufVocab { add_bos: Some(false), add_eos: Some(true), ..sentencepiece() }), (vec![], vec![2]));
    let (bos, eos) = (byte_level("default").bos.unwrap(), byte_level("default").eos.unwrap());
    assert_eq!(frame(byte_level("llama-bpe")), (vec![bos], vec![]));
    assert_eq!(frame(byte_level("smollm")), (vec![], vec![]));
    let both = GgufVocab { add_bos: Some(true), add_eos: Some(true), ..byte_level("smollm") };
    assert_eq!(frame(both.clone()), (vec![bos], vec![eos]));
    let encoding = load(both).encode("the", EncodeOptions::default()).unwrap();
    assert_eq!((encoding.offsets.first(), encoding.offsets.last()), (Some(&(0..0)), Some(&(0..0))));
}

#[test]
fn every_end_of_turn_ends_a_sequence() {
    let mut vocab = byte_level("llama-bpe");
    for text in ["<|eot_id|>", "<|eom_id|>"] {
        vocab.tokens.push(text.to_owned());
        vocab.token_types.as_mut().unwrap().push(3);
    }
    let count = vocab.tokens.len() as u32;
    let tokenizer = load(vocab);
    assert_eq!(tokenizer.special_tokens().eos, [tokenizer.token_to_id("<|end|>").unwrap(), count - 2, count - 1]);
    assert_eq!(tokenizer.vocab_size(), count as usize);
}

#[test]
fn an_empty_token_keeps_its_id() {
    let mut vocab = sentencepiece();
    let id = add(&mut vocab, "", -1.0, 1);
    let tokenizer = load(vocab);
    assert_eq!(tokenizer.id_to_token(id).unwrap(), format!("[EMPTY_{id}]"));
    assert!(!ids(&tokenizer, &format!("[EMPTY_{id}]"), PLAIN).contains(&id));
}

#[test]
fn ids_outside_the_vocabulary_are_errors() {
    let tokenizer = load(sentencepiece());
    let count = tokenizer.vocab_size();
    for id in [count as u32, u32::MAX] {
        for skip in [false, true] {
            match tokenizer.decode(&[5, id], skip) {
                Err(TokenizerError::UnknownId { id: found, vocab_size }) => {
                    assert_eq!((found, vocab_size), (id, count));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(tokenizer.token_bytes(id), Err(TokenizerError::UnknownId { .. })));
        assert_eq!(tokenizer.id_to_token(id), None);
    }
}

#[test]
fn what_does_not_fit_together_is_an_error_that_names_the_place() {
    let refused = |vocab: GgufVocab, words: &[&str]| {
        let error = HfTokenizer::from_gguf(vocab).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error} lacks one of {words:?}");
    };
    let spm = sentencepiece;
    let bpe = || byte_level("llama-bpe");
    let count = spm().tokens.len();

    refused(GgufVocab { model: "bert".to_owned(), ..spm() }, &["tokenizer.ggml.model", "\"bert\"", "llama", "gpt2"]);
    refused(byte_level("deepseek-llm"), &["tokenizer.ggml.pre", "\"deepseek-llm\"", "llama-bpe", "smollm", "default"]);
    refused(GgufVocab { tokens: vec![], ..bpe() }, &["tokenizer.ggml.tokens", "no tokens"]);
    refused(
        GgufVocab { scores: Some(vec![0.0; 3]), ..spm() },
        &["tokenizer.ggml.scores", "3 entries", &count.to_string()],
    );
    refused(GgufVocab { token_types: Some(vec![1; 4]), ..spm() }, &["tokenizer.ggml.token_type", "4 entries"]);
    refused(GgufVocab { token_types: Some(vec![9; count]), ..spm() }, &["tokenizer.ggml.token_type[0]", "9"]);
    let mut nan = spm();
    nan.scores.as_mut().unwrap()[7] = f32::NAN;
    refused(nan, &["tokenizer.ggml.scores[7]", "not a number"]);
    let mut twice = spm();
    add(&mut twice, "▁Ban", 0.0, 1);
    refused(twice, &[&format!("tokenizer.ggml.tokens[{count}]"), "\"▁Ban\" again"]);
    let mut byte = spm();
    add(&mut byte, "<0xGG>", 0.0, 6);
    refused(byte, &[&format!("tokenizer.ggml.tokens[{count}]"), "<0xGG>", "type byte"]);
    let mut long = spm();
    add(&mut long, &"long".repeat(1000), 0.0, 1);
    refused(long, &[&format!("tokenizer.ggml.tokens[{count}]"), "4000 bytes"]);

    refused(
        GgufVocab { bos: Some(u32::MAX), ..spm() },
        &["tokenizer.ggml.bos_token_id", "4294967295", &count.to_string()],
    );
    refused(GgufVocab { pad: Some(count as u32), ..spm() }, &["tokenizer.ggml.padding_token_id"]);
    refused(GgufVocab { eot: Some(70000), ..bpe() }, &["tokenizer.ggml.eot_token_id", "70000"]);
    refused(GgufVocab { bos: None, add_bos: Some(true), ..bpe() }, &["tokenizer.ggml.add_bos_token"]);
    refused(GgufVocab { eos: None, add_eos: Some(true), ..bpe() }, &["tokenizer.ggml.add_eos_token"]);

    refused(GgufVocab { merges: None, ..bpe() }, &["tokenizer.ggml.merges", "missing"]);
    let merges =
        |merges: &[&str]| GgufVocab { merges: Some(merges.iter().map(|m| (*m).to_owned()).collect()), ..bpe() };
    refused(merges(&["Ġ t", "t q"]), &["tokenizer.ggml.merges[1]", "\"tq\"", "not a token"]);
    refused(merges(&["日 t"]), &["tokenizer.ggml.merges[0]", "\"日\""]);
    for bad in ["", " ", "t", "t ", "the  in", "日"] {
        refused(merges(&[bad]), &["tokenizer.ggml.merges[0]"]);
    }
}

#[test]
fn a_missing_pre_tokenizer_is_read_as_default() {
    let tokenizer = load(GgufVocab { pre: None, ..byte_level("default") });
    let default = load(byte_level("default"));
    assert_eq!(ids(&tokenizer, "a=$b 12345", PLAIN), ids(&default, "a=$b 12345", PLAIN));
    assert!(matches!(HfTokenizer::from_gguf(byte_level("")), Err(LoadError::UnknownPreTokenizer { .. })));
}

/// The byte is left out, as `tokenizers` and llama.cpp do; SmolLM2's vocabulary lacks some.
#[test]
fn a_byte_without_token_is_left_out() {
    let mut vocab = byte_level("smollm");
    let at = vocab.tokens.iter().position(|t| t == "x").unwrap();
    vocab.tokens[at] = "replaced".to_owned();
    let tokenizer = load(vocab);
    assert_eq!(tokenizer.decode(&ids(&tokenizer, "axb", PLAIN), true).unwrap(), b"ab");
}
