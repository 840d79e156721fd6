//! What a session and a generation refuse, and that a refusal changes nothing; and what generation promises.

mod common;

use std::sync::Arc;

use camelid_conformance::fixtures::suite_dir;
use camelid_core::cache::SequenceId;
use camelid_core::tokenizer::{EncodeOptions, Encoding, SpecialTokens, TokenId, Tokenizer, TokenizerError};
use camelid_engine::sampling::SamplingParams;
use camelid_engine::{
    CacheKind, CancelToken, EngineError, FinishReason, Generation, Model, Outputs, Request, SequenceInput, Session,
    SessionOptions, generate,
};
use common::{greedy, load, reference};

fn model() -> Arc<Model> {
    load(&suite_dir().join("model/gqa"), reference(2))
}

fn session(context_size: usize, max_sequences: usize) -> Session {
    let options = SessionOptions {
        context_size: Some(context_size),
        max_sequences,
        cache: CacheKind::Paged { block_size: 4 },
        ..SessionOptions::default()
    };
    Session::new(model(), &options).unwrap()
}

fn input(sequence: SequenceId, tokens: &[TokenId]) -> SequenceInput<'_> {
    SequenceInput { sequence, tokens, positions: None, outputs: Outputs::Last }
}

#[test]
fn wrong_steps_are_refused_and_change_nothing() {
    let mut session = session(8, 2);
    let vocab_size = session.model().config().vocab_size as u32;
    let (a, b) = (session.create().unwrap(), session.create().unwrap());
    session.step(&[input(a, &[1, 2, 3])]).unwrap();

    let error = session.step(&[input(b, &[5]), input(a, &[4, vocab_size])]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("token id {vocab_size} (at index 1 of its sequence's input) is not below vocab_size = {vocab_size}")
    );
    let error = session.step(&[input(b, &[5]), input(a, &[1; 6])]).unwrap_err().to_string();
    assert!(error.contains("holds 3 tokens and has room for 5 more, but 6"), "{error}");
    assert!(matches!(session.step(&[]), Err(EngineError::EmptyInput)));
    assert!(matches!(session.step(&[input(a, &[])]), Err(EngineError::EmptyInput)));
    assert!(matches!(session.step(&[input(a, &[1]), input(a, &[2])]), Err(EngineError::DuplicateSequence(_))));
    let positions = SequenceInput { positions: Some(&[8]), ..input(a, &[1]) };
    assert!(matches!(
        session.step(&[positions]),
        Err(EngineError::PositionOutOfRange { position: 8, context_size: 8 })
    ));
    let positions = SequenceInput { positions: Some(&[1, 2]), ..input(a, &[1]) };
    assert!(session.step(&[positions]).unwrap_err().to_string().contains("`positions` is a list of 2"));
    let rows = SequenceInput { outputs: Outputs::Rows(&[1]), ..input(a, &[1]) };
    assert!(session.step(&[rows]).unwrap_err().to_string().contains("rising indices below 1"));
    assert_eq!((session.len(a).unwrap(), session.len(b).unwrap()), (3, 0), "nothing was appended");

    assert!(session.create().unwrap_err().to_string().contains("all 2 sequences are in use"));
    session.release(b).unwrap();
    assert!(session.step(&[input(b, &[1])]).unwrap_err().to_string().contains("does not exist"));
    session.step(&[input(a, &[4, 5, 6, 7, 8])]).unwrap();
    assert_eq!(session.room(a).unwrap(), 0);
}

#[test]
fn a_cancelled_step_leaves_the_sequence_as_it_was() {
    let mut session = session(32, 1);
    let sequence = session.create().unwrap();
    session.step(&[input(sequence, &[1, 2, 3])]).unwrap();
    session.cancel_token().cancel();
    assert!(matches!(session.step(&[input(sequence, &[4])]), Err(EngineError::Cancelled)));
    assert_eq!(session.len(sequence).unwrap(), 3);
    session.cancel_token().clear();
    session.step(&[input(sequence, &[4])]).unwrap();
}

#[test]
fn options_out_of_range_are_named() {
    let message = |options: SessionOptions| Session::new(model(), &options).unwrap_err().to_string();
    let defaults = SessionOptions::default();
    assert!(message(SessionOptions { batch_size: 0, ..defaults }).contains("`batch_size` is 0"));
    assert!(message(SessionOptions { context_size: Some(0), ..defaults }).contains("`context_size` is 0"));
    assert!(message(SessionOptions { max_sequences: 1 << 30, ..defaults }).contains("`max_sequences`"));
    let huge = SessionOptions { context_size: Some(1 << 24), max_sequences: 1 << 24, ..defaults };
    assert!(message(huge).contains("context_size * max_sequences"));
    let kv = SessionOptions { kv_dtype: camelid_core::DType::Q4_0, ..defaults };
    assert!(message(kv).contains("`kv_dtype` is q4_0, but it must be f32, f16, bf16 or q8_0"));
}

#[test]
fn capacity_comes_from_the_model() {
    let session = Session::new(model(), &SessionOptions::default()).unwrap();
    assert_eq!(session.context_size(), session.model().config().max_position_embeddings);
}

#[test]
fn half_precision_caches_stay_close() {
    let prompt: Vec<u32> = (0..40).map(|i| (i * 37 + 5) % 260).collect();
    let logits = |kv_dtype| {
        let options = SessionOptions { kv_dtype, ..SessionOptions::default() };
        let mut session = Session::new(model(), &options).unwrap();
        let sequence = session.create().unwrap();
        session.step(&[input(sequence, &prompt)]).unwrap().last_of_input(0).to_vec()
    };
    let exact: Vec<f64> = logits(camelid_core::DType::F32).into_iter().map(f64::from).collect();
    // Keys and values with 11 and 8 significant bits: errors of about 2^-12 and 2^-9 each, amplified by a few layers.
    for (dtype, bound) in [(camelid_core::DType::F16, 3e-3), (camelid_core::DType::BF16, 3e-2)] {
        let error = camelid_conformance::fixtures::max_over_rms(&logits(dtype), &exact).unwrap();
        assert!(error > 0.0 && error < bound, "{dtype}: {error:e}");
    }
}

/// Writes token `n` as ` n;`; token 5 is a special token without text.
struct Numbers(SpecialTokens);

impl Numbers {
    fn new() -> Numbers {
        Numbers(SpecialTokens { all: vec![5], ..SpecialTokens::default() })
    }
}

impl Tokenizer for Numbers {
    fn encode(&self, text: &str, _: EncodeOptions) -> Result<Encoding, TokenizerError> {
        let ids = text.split_whitespace().map(|w| w.parse().unwrap()).collect();
        Ok(Encoding { ids, offsets: Vec::new() })
    }

    fn decode(&self, ids: &[TokenId], _: bool) -> Result<Vec<u8>, TokenizerError> {
        Ok(ids.iter().map(|id| format!(" {id};")).collect::<String>().into_bytes())
    }

    fn token_bytes(&self, id: TokenId) -> Result<Vec<u8>, TokenizerError> {
        self.decode(&[id], false)
    }

    fn token_to_id(&self, token: &str) -> Option<TokenId> {
        token.parse().ok()
    }

    fn id_to_token(&self, id: TokenId) -> Option<String> {
        Some(id.to_string())
    }

    fn vocab_size(&self) -> usize {
        263
    }

    fn special_tokens(&self) -> &SpecialTokens {
        &self.0
    }
}

fn request(session: &mut Session, prompt: &[TokenId]) -> Request {
    Request::new(session.create().unwrap(), prompt.to_vec(), 12)
}

fn run(session: &mut Session, requests: Vec<Request>) -> Vec<Generation> {
    generate(session, &Numbers::new(), requests, &CancelToken::default(), &mut |_| {}).unwrap().0
}

const PROMPT: [TokenId; 5] = [7, 11, 13, 17, 19];

#[test]
fn a_generation_is_the_greedy_tokens_and_their_text() {
    let expected = greedy(&model(), &PROMPT, 12, Vec::new());
    let mut session = session(64, 1);
    let request = request(&mut session, &PROMPT);
    let mut streamed = String::new();
    let mut tokens = Vec::new();
    let (generations, timings) =
        generate(&mut session, &Numbers::new(), vec![request], &CancelToken::default(), &mut |event| {
            streamed.push_str(event.text);
            tokens.extend(event.token);
        })
        .unwrap();
    let text: String = expected.iter().filter(|t| **t != 5).map(|t| format!(" {t};")).collect();
    assert_eq!((&generations[0].tokens, &generations[0].text), (&expected, &text));
    assert_eq!((streamed, tokens), (text, expected));
    assert_eq!(generations[0].finish_reason, FinishReason::Length);
    assert_eq!((timings.prefill_tokens, timings.decode_tokens), (5, 11));
}

#[test]
fn end_tokens_stop_strings_and_the_context_end_a_generation() {
    let expected = greedy(&model(), &PROMPT, 12, Vec::new());
    let third = expected[2];
    assert!(!expected[..2].contains(&third), "the test needs a token that is new");
    let mut session = session(64, 1);

    let mut with_eos = request(&mut session, &PROMPT);
    with_eos.eos = vec![third];
    let generation = run(&mut session, vec![with_eos]).remove(0);
    assert_eq!((generation.tokens.as_slice(), generation.finish_reason), (&expected[..3], FinishReason::Eos));
    let two = format!(" {}; {};", expected[0], expected[1]);
    assert_eq!(generation.text, two, "the end token has no text");

    session.reset();
    let mut with_stop = request(&mut session, &PROMPT);
    with_stop.stop = vec![format!(" {third};")];
    let generation = run(&mut session, vec![with_stop]).remove(0);
    assert_eq!(generation.finish_reason, FinishReason::Stop);
    assert_eq!(generation.text, two);

    let mut short = self::session(8, 1);
    let to_the_brim = request(&mut short, &PROMPT);
    let generation = run(&mut short, vec![to_the_brim]).remove(0);
    // Five prompt tokens and three generated fill eight rows; the fourth is chosen but not stored.
    assert_eq!((generation.tokens.as_slice(), generation.finish_reason), (&expected[..4], FinishReason::Length));
}

#[test]
fn requests_together_give_what_each_gives_alone() {
    let prompts: [&[TokenId]; 3] = [&PROMPT, &[1], &[250, 3, 3, 90, 41, 8, 77]];
    let sampling = |i: u64| SamplingParams { temperature: 1.3, top_k: 40, seed: 90 + i, ..SamplingParams::default() };
    let alone: Vec<Vec<TokenId>> = (0..3)
        .map(|i| {
            let mut session = session(64, 1);
            let mut one = request(&mut session, prompts[i]);
            one.sampling = sampling(i as u64);
            run(&mut session, vec![one]).remove(0).tokens
        })
        .collect();
    let mut session = session(64, 3);
    let requests: Vec<Request> = (0..3)
        .map(|i| {
            let mut one = request(&mut session, prompts[i]);
            one.sampling = sampling(i as u64);
            one
        })
        .collect();
    let together: Vec<Vec<TokenId>> = run(&mut session, requests).into_iter().map(|g| g.tokens).collect();
    assert_eq!(together, alone);
    assert_ne!(alone[0], alone[1]);
}

#[test]
fn log_probabilities_come_with_every_token() {
    let mut session = session(64, 1);
    let mut with_logprobs = request(&mut session, &PROMPT);
    with_logprobs.logprobs = Some(3);
    let generation = run(&mut session, vec![with_logprobs]).remove(0);
    assert_eq!(generation.logprobs.len(), generation.tokens.len());
    for (token, entries) in generation.tokens.iter().zip(&generation.logprobs) {
        assert_eq!(entries[0].token, *token, "the chosen token comes first");
        assert!(entries.iter().all(|e| e.logprob <= 0.0));
    }
}

#[test]
fn prompts_that_are_empty_or_too_long_are_refused() {
    let mut session = session(8, 1);
    let empty = request(&mut session, &[]);
    let sequence = empty.sequence;
    let result = generate(&mut session, &Numbers::new(), vec![empty], &CancelToken::default(), &mut |_| {});
    assert!(result.unwrap_err().to_string().starts_with("the prompt is empty"));
    session.release(sequence).unwrap();
    let long = request(&mut session, &[1; 9]);
    let result = generate(&mut session, &Numbers::new(), vec![long], &CancelToken::default(), &mut |_| {});
    let message = result.unwrap_err().to_string();
    assert!(message.contains("the prompt has 9 tokens, but the context holds 8"), "{message}");
}

#[test]
fn cancelling_keeps_what_there_is() {
    let mut session = session(64, 1);
    let request = request(&mut session, &PROMPT);
    let cancel = CancelToken::default();
    let stop_after_three = cancel.clone();
    let mut count = 0;
    let (generations, _) = generate(&mut session, &Numbers::new(), vec![request], &cancel, &mut |event| {
        count += usize::from(event.token.is_some());
        if count == 3 {
            stop_after_three.cancel();
        }
    })
    .unwrap();
    assert_eq!(generations[0].finish_reason, FinishReason::Cancelled);
    assert_eq!(generations[0].tokens.len(), 3);
}
