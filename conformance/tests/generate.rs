//! What generation promises whatever the strategy: guesses change nothing, requests of a batch do not know each other,
//! and a session is left as it was. On the reference backend all of it holds bit for bit.

mod common;

use std::sync::Arc;
use std::time::Duration;

use camelid_conformance::fixtures::suite_dir;
use camelid_core::cache::SequenceId;
use camelid_core::tokenizer::{EncodeOptions, Encoding, SpecialTokens, TokenId, Tokenizer, TokenizerError};
use camelid_engine::sampling::{Constraints, SamplingParams};
use camelid_engine::{
    BeamParams, CacheKind, CancelToken, DraftModel, EarlyStopping, EngineError, FinishReason, Generation, Model,
    Request, Session, SessionOptions, Strategy, Timings, generate, generate_with_draft,
};
use common::{load, reference};

fn model(name: &str) -> Arc<Model> {
    load(&suite_dir().join("model").join(name), reference(1))
}

const CACHES: [CacheKind; 2] = [CacheKind::Contiguous, CacheKind::Paged { block_size: 4 }];

fn session(model: &Arc<Model>, cache: CacheKind, max_sequences: usize) -> Session {
    let options = SessionOptions { context_size: Some(96), max_sequences, cache, ..SessionOptions::default() };
    Session::new(model.clone(), &options).unwrap()
}

/// Writes token `n` as ` n;`.
struct Numbers(SpecialTokens);

impl Tokenizer for Numbers {
    fn encode(&self, _: &str, _: EncodeOptions) -> Result<Encoding, TokenizerError> {
        Err(TokenizerError::Encode("numbers only go from ids to text".into()))
    }

    fn decode(&self, ids: &[TokenId], _: bool) -> Result<Vec<u8>, TokenizerError> {
        Ok(ids.iter().map(|id| format!(" {id};")).collect::<String>().into_bytes())
    }

    fn token_bytes(&self, id: TokenId) -> Result<Vec<u8>, TokenizerError> {
        self.decode(&[id], false)
    }

    fn token_to_id(&self, _: &str) -> Option<TokenId> {
        None
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

fn words() -> Numbers {
    Numbers(SpecialTokens::default())
}

/// Some prompt of `len` tokens below `vocab`, the same for the same seed; every third repeats itself.
fn prompt(seed: u32, len: usize, vocab: u32) -> Vec<TokenId> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let period = if seed.is_multiple_of(3) { 4 } else { len };
    let mut tokens: Vec<TokenId> = Vec::new();
    for i in 0..len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let token = if i < period { (state >> 8) % vocab } else { tokens[i - period] };
        tokens.push(token);
    }
    tokens
}

fn request(prompt: Vec<TokenId>, max_new_tokens: usize) -> Request {
    Request::new(SequenceId(u64::MAX), prompt, max_new_tokens)
}

/// All requests together, on sequences of their own.
fn run(
    session: &mut Session,
    draft: Option<&mut DraftModel>,
    mut requests: Vec<Request>,
) -> (Vec<Generation>, Timings) {
    for request in &mut requests {
        request.sequence = session.create().unwrap();
    }
    let sequences: Vec<SequenceId> = requests.iter().map(|r| r.sequence).collect();
    let mut heard = Vec::new();
    let done = generate_with_draft(session, draft, &words(), requests, &CancelToken::default(), &mut |event| {
        let at = (event.request, event.sequence);
        if !heard.iter().any(|(a, _, _)| *a == at) {
            heard.push((at, Vec::new(), String::new()));
        }
        let (_, tokens, text) = heard.iter_mut().find(|(a, _, _)| *a == at).unwrap();
        tokens.extend(event.token);
        text.push_str(event.text);
    });
    let (generations, timings) = done.unwrap();
    for g in &generations {
        let own = heard.iter().find(|(at, _, _)| *at == (g.request, g.sequence));
        let (tokens, text) = own.map_or((&[][..], ""), |(_, tokens, text)| (&tokens[..], text));
        assert_eq!((tokens, text), (&g.tokens[..], &g.text[..]), "events add up to the result");
    }
    sequences.into_iter().for_each(|s| session.release(s).unwrap());
    (generations, timings)
}

fn same(a: &Generation, b: &Generation, what: &str) {
    assert_eq!((&a.tokens, &a.text, a.finish_reason), (&b.tokens, &b.text, b.finish_reason), "{what}");
    assert_eq!((a.score.map(f64::to_bits), &a.logprobs), (b.score.map(f64::to_bits), &b.logprobs), "{what}");
}

/// Greedy, sampled, penalized, constrained.
fn samplings() -> Vec<SamplingParams> {
    let plain = SamplingParams::default;
    let bans = Constraints { no_repeat_ngram_size: 2, min_new_tokens: Some(6), ..Constraints::default() };
    vec![
        plain(),
        SamplingParams { repetition_penalty: 1.3, ..plain() },
        SamplingParams { constraints: bans, ..plain() },
        SamplingParams { temperature: 0.7, top_k: 20, seed: 11, ..plain() },
        SamplingParams { temperature: 1.3, typical_p: 0.8, presence_penalty: 0.5, seed: 12, ..plain() },
    ]
}

#[test]
fn guesses_change_nothing_but_the_number_of_steps() {
    let mut right = 0;
    for (name, draft_name) in [("gqa", "gqa"), ("bias", "eos_list"), ("mha", "bias")] {
        let (target, draft) = (model(name), model(draft_name));
        let vocab = target.config().vocab_size as u32;
        for (c, cache) in CACHES.into_iter().enumerate() {
            let mut own = session(&target, cache, 1);
            let mut drafts = DraftModel::new(session(&draft, cache, 1), &target).unwrap();
            for seed in 0..9 {
                let prompt = prompt(seed + 100 * c as u32, [1, 2, 7, 12, 30][seed as usize % 5], vocab);
                let sampling = samplings().swap_remove(seed as usize % 5);
                let eos = vec![seed, 17 + seed, 40];
                let asked =
                    Request { sampling, eos, logprobs: Some(1), stop: vec![" 77;".into()], ..request(prompt, 24) };
                let (plain, _) = run(&mut own, None, vec![asked.clone()]);
                for strategy in [
                    Strategy::PromptLookup { num_tokens: 1 + seed as usize, max_matching_ngram_size: 1 + c },
                    Strategy::Draft { num_tokens: 1 + seed as usize % 6 },
                ] {
                    let guessed = Request { strategy, ..asked.clone() };
                    let (found, timings) = run(&mut own, Some(&mut drafts), vec![guessed]);
                    same(&found[0], &plain[0], &format!("{name} {cache:?} {strategy:?} prompt {seed}"));
                    right += timings.speculated.accepted;
                    let chosen = found[0].tokens.len() - 1;
                    assert!(timings.decode_tokens <= chosen, "{timings:?}");
                    if draft_name == name && matches!(strategy, Strategy::Draft { .. }) {
                        assert_eq!(timings.speculated.accepted, timings.speculated.drafted, "its own draft is right");
                    }
                }
            }
        }
    }
    assert!(right > 200, "only {right} guesses were right: the test shows little");
}

#[test]
fn a_sequence_holds_the_same_after_guesses() {
    let target = model("gqa");
    for cache in CACHES {
        let mut own = session(&target, cache, 1);
        let mut len = |strategy| {
            let sequence = own.create().unwrap();
            // Room for the context to end it, too.
            let asked = Request { strategy, ..Request::new(sequence, prompt(3, 60, 263), 50) };
            let (generations, _) =
                generate(&mut own, &words(), vec![asked], &CancelToken::default(), &mut |_| {}).unwrap();
            let len = own.len(sequence).unwrap();
            own.release(sequence).unwrap();
            (generations[0].tokens.clone(), generations[0].finish_reason, len)
        };
        let plain = len(Strategy::OneByOne);
        assert_eq!((plain.0.len(), plain.1, plain.2), (37, FinishReason::Length, 96));
        assert_eq!(len(Strategy::PromptLookup { num_tokens: 7, max_matching_ngram_size: 2 }), plain);
    }
}

fn beams(num_beams: usize, early_stopping: EarlyStopping) -> Strategy {
    Strategy::Beams(BeamParams { num_beams, early_stopping, ..BeamParams::default() })
}

#[test]
fn requests_of_a_batch_do_not_know_each_other() {
    let target = model("bias");
    let mut all = Vec::new();
    for (i, sampling) in samplings().into_iter().enumerate() {
        let i = i as u32;
        let base = |n: u32| Request {
            sampling: sampling.clone(),
            eos: vec![5, 60 + i],
            logprobs: Some(2),
            ..request(prompt(10 * i + n, 1 + (7 * i + 3 * n) as usize % 23, 101), 4 + (5 * i + n) as usize % 14)
        };
        all.push(base(0));
        all.push(Request { strategy: beams(3, EarlyStopping::No), num_return_sequences: 2, ..base(1) });
        all.push(Request { strategy: beams(2, EarlyStopping::Yes), stop: vec!["7;".into()], ..base(2) });
        let lookup = Strategy::PromptLookup { num_tokens: 4, max_matching_ngram_size: 2 };
        all.push(Request { strategy: lookup, ..base(3) });
        all.push(Request { strategy: Strategy::Draft { num_tokens: 3 }, ..base(4) });
        if sampling.temperature > 0.0 {
            all.push(Request { num_return_sequences: 3, ..base(5) });
        }
    }
    for cache in CACHES {
        let needed = all.iter().map(Request::sequences_needed).sum();
        let draft = model("eos_list");
        let mut drafts = DraftModel::new(session(&draft, cache, all.len()), &target).unwrap();
        let (together, _) = run(&mut session(&target, cache, needed), Some(&mut drafts), all.clone());
        let mut together = together.into_iter().peekable();
        for (index, asked) in all.iter().enumerate() {
            let mut alone = session(&target, cache, asked.sequences_needed());
            let mut drafts = DraftModel::new(session(&draft, cache, 1), &target).unwrap();
            let (alone, _) = run(&mut alone, Some(&mut drafts), vec![asked.clone()]);
            for (sequence, alone) in alone.iter().enumerate() {
                let found = together.next().unwrap();
                assert_eq!((found.request, found.sequence), (index, sequence));
                same(&found, alone, &format!("{cache:?}: {asked:?}"));
            }
        }
        assert!(together.next().is_none());
    }
}

#[test]
fn several_samples_are_those_of_the_following_seeds() {
    let target = model("gqa");
    let sampling = SamplingParams { temperature: 1.0, seed: u64::MAX - 1, ..SamplingParams::default() };
    let asked = Request { sampling, eos: vec![9, 30, 100], ..request(prompt(4, 9, 263), 10) };
    for cache in CACHES {
        let several = Request { num_return_sequences: 4, ..asked.clone() };
        let (found, timings) = run(&mut session(&target, cache, 4), None, vec![several]);
        assert_eq!((found.len(), timings.prefill_tokens), (4, 9), "the prompt is computed once");
        for (n, found) in found.iter().enumerate() {
            let mut alone = asked.clone();
            alone.sampling.seed = alone.sampling.seed.wrapping_add(n as u64);
            same(found, &run(&mut session(&target, cache, 1), None, vec![alone]).0[0], "alone");
        }
        assert!(found.iter().any(|g| g.tokens != found[0].tokens));
    }
}

#[test]
fn cold_beam_sampling_is_beam_search() {
    let target = model("bias");
    for seed in 0..6 {
        let strategy = beams(3, EarlyStopping::No);
        let search = Request { strategy, num_return_sequences: 3, ..request(prompt(seed, 8, 101), 9) };
        let search = Request { eos: vec![seed, 20, 33, 54, 71], ..search };
        let cold = SamplingParams { temperature: 1e-4, seed: 5, ..SamplingParams::default() };
        let sampled = Request { sampling: cold, ..search.clone() };
        let mut own = session(&target, CacheKind::Contiguous, 3);
        let texts = |g: Vec<Generation>| g.into_iter().map(|g| g.tokens).collect::<Vec<_>>();
        let expected = texts(run(&mut own, None, vec![search]).0);
        assert_eq!(texts(run(&mut own, None, vec![sampled]).0), expected);
    }
}

#[test]
fn warm_beam_sampling_follows_its_seed() {
    let target = model("bias");
    let mut own = session(&target, CacheKind::Paged { block_size: 4 }, 3);
    let mut texts = |seed| {
        let sampling = SamplingParams { temperature: 1.5, seed, ..SamplingParams::default() };
        let asked = Request { sampling, strategy: beams(3, EarlyStopping::No), ..request(prompt(2, 8, 101), 9) };
        run(&mut own, None, vec![Request { num_return_sequences: 3, ..asked }]).0
    };
    let first = texts(1);
    assert_eq!(
        texts(1).iter().map(|g| &g.tokens).collect::<Vec<_>>(),
        first.iter().map(|g| &g.tokens).collect::<Vec<_>>()
    );
    assert!((2..6).any(|seed| texts(seed)[0].tokens != first[0].tokens));
    assert!(first.iter().all(|g| g.tokens.len() == 9 && g.finish_reason == FinishReason::Length));
    assert!(first.is_sorted_by(|a, b| a.score >= b.score));
}

#[test]
fn a_stop_string_ends_a_beam() {
    let target = model("bias");
    let mut own = session(&target, CacheKind::Contiguous, 4);
    let asked = |stop: &[String]| Request {
        strategy: beams(4, EarlyStopping::Yes),
        num_return_sequences: 4,
        stop: stop.to_vec(),
        ..request(prompt(1, 8, 101), 8)
    };
    let (plain, _) = run(&mut own, None, vec![asked(&[])]);
    let token = plain[0].tokens[3];
    let stop = format!(" {token};");
    let (stopped, _) = run(&mut own, None, vec![asked(std::slice::from_ref(&stop))]);
    assert!(stopped.iter().any(|g| g.finish_reason == FinishReason::Stop), "{stopped:?}");
    for g in &stopped {
        assert!(!g.text.contains(&stop), "{g:?}");
        let at = g.tokens.iter().position(|t| *t == token);
        assert_eq!(g.finish_reason == FinishReason::Stop, at.is_some(), "{g:?}");
        assert!(at.is_none_or(|at| at + 1 == g.tokens.len()), "{g:?}");
    }
}

#[test]
fn time_ends_a_text_after_its_next_token() {
    let target = model("bias");
    for (strategy, count) in [(Strategy::OneByOne, 1), (beams(3, EarlyStopping::No), 2)] {
        let asked = Request { strategy, num_return_sequences: count, ..request(prompt(1, 8, 101), 50) };
        let now = Request { max_time: Some(Duration::ZERO), ..asked.clone() };
        let (found, _) = run(&mut session(&target, CacheKind::Contiguous, 3), None, vec![now]);
        assert_eq!(found.len(), count);
        for g in found {
            assert_eq!((g.tokens.len(), g.finish_reason), (1, FinishReason::Time));
        }
        let later = Request { max_time: Some(Duration::from_secs(3600)), ..asked };
        let (found, _) = run(&mut session(&target, CacheKind::Contiguous, 3), None, vec![later]);
        assert_eq!((found[0].tokens.len(), found[0].finish_reason), (50, FinishReason::Length));
    }
}

#[test]
fn a_cancelled_beam_search_gives_its_best_so_far() {
    let target = model("bias");
    let mut own = session(&target, CacheKind::Contiguous, 4);
    let cancel = CancelToken::default();
    let sequences = [own.create().unwrap(), own.create().unwrap()];
    let searched =
        Request { strategy: beams(3, EarlyStopping::No), ..Request::new(sequences[0], prompt(1, 8, 101), 9) };
    let single = Request::new(sequences[1], prompt(2, 5, 101), 9);
    let mut heard = 0;
    let (found, _) = generate(&mut own, &words(), vec![searched, single], &cancel, &mut |event| {
        heard += usize::from(event.request == 1);
        if heard == 4 {
            cancel.cancel();
        }
    })
    .unwrap();
    assert!(found.iter().all(|g| g.tokens.len() == 4 && g.finish_reason == FinishReason::Cancelled), "{found:?}");
    // Before its beginning.
    own.reset();
    let sequence = own.create().unwrap();
    let asked = Request { strategy: beams(3, EarlyStopping::No), ..Request::new(sequence, prompt(1, 8, 101), 9) };
    let (found, _) = generate(&mut own, &words(), vec![asked], &cancel, &mut |_| {}).unwrap();
    assert_eq!((found[0].tokens.len(), found[0].finish_reason), (0, FinishReason::Cancelled));
}

#[test]
fn the_context_ends_beams_as_well() {
    let target = model("bias");
    for cache in CACHES {
        let mut own = session(&target, cache, 3);
        let asked = Request { strategy: beams(3, EarlyStopping::No), ..request(prompt(1, 90, 101), 30) };
        let (found, _) = run(&mut own, None, vec![asked]);
        assert_eq!((found[0].tokens.len(), found[0].finish_reason), (7, FinishReason::Length));
    }
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_the_session_as_it_was() {
    let target = model("bias");
    let mut own = session(&target, CacheKind::Contiguous, 3);
    let sequence = own.create().unwrap();
    let message = |session: &mut Session, request: Request| {
        let asked = vec![Request { sequence, ..request }];
        let error = generate(session, &words(), asked, &CancelToken::default(), &mut |_| {}).unwrap_err();
        let free: Vec<SequenceId> = std::iter::from_fn(|| session.create().ok()).collect();
        assert_eq!((free.len(), session.len(sequence).unwrap()), (2, 0), "{error}");
        free.into_iter().for_each(|s| session.release(s).unwrap());
        error.to_string()
    };
    let plain = || request(prompt(1, 4, 101), 5);
    let error = message(&mut own, Request { strategy: beams(4, EarlyStopping::No), ..plain() });
    assert!(error.contains("needs 4 sequences at a time") && error.contains("only 3 are free"), "{error}");
    assert!(error.contains("raise `max_sequences`"), "{error}");
    let sampled = SamplingParams { temperature: 1.0, ..SamplingParams::default() };
    let many = Request { num_return_sequences: 4, sampling: sampled.clone(), ..plain() };
    assert!(message(&mut own, many).contains("needs 4 sequences"));
    let two = Request { num_return_sequences: 2, ..plain() };
    assert!(
        message(&mut own, two.clone()).contains("`num_return_sequences` is 2, but it must be 1 for a greedy choice")
    );
    assert!(message(&mut own, Request { num_return_sequences: 0, ..plain() }).contains("at least 1"));
    let lookup = Strategy::PromptLookup { num_tokens: 3, max_matching_ngram_size: 2 };
    let lookup = Request { strategy: lookup, sampling: sampled, ..two.clone() };
    assert!(message(&mut own, lookup).contains("be 1 with prompt lookup"));
    let three = Request { num_return_sequences: 3, strategy: beams(2, EarlyStopping::No), ..plain() };
    assert!(message(&mut own, three).contains("be at most num_beams = 2"));
    let nan = BeamParams { length_penalty: f64::NAN, ..BeamParams::default() };
    assert!(message(&mut own, Request { strategy: Strategy::Beams(nan), ..plain() }).contains("`length_penalty`"));
    let drafted = Request { strategy: Strategy::Draft { num_tokens: 2 }, ..plain() };
    assert!(message(&mut own, drafted).contains("generate_with_draft"));
    assert!(message(&mut own, Request { new_tokens: 5, ..plain() }).contains("`new_tokens` is 5"));
    // On the way: a token outside of the vocabulary.
    let outside = Constraints { bad_words_ids: vec![vec![999]], ..Constraints::default() };
    let sampling = SamplingParams { constraints: outside, ..SamplingParams::default() };
    let asked = Request { sequence, sampling, strategy: beams(3, EarlyStopping::No), ..plain() };
    let error = generate(&mut own, &words(), vec![asked], &CancelToken::default(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("token id 999 in the bad words"), "{error}");
    assert_eq!(std::iter::from_fn(|| own.create().ok()).count(), 2, "the forks were given back");
}

#[test]
fn a_draft_of_another_vocabulary_is_refused() {
    let (target, draft) = (model("gqa"), model("bias"));
    let error = DraftModel::new(session(&draft, CacheKind::Contiguous, 1), &target).unwrap_err();
    assert!(matches!(error, EngineError::Draft { .. }));
    let error = error.to_string();
    assert!(error.contains("vocab_size is 101 here and 263 there") && error.contains("same vocabulary"), "{error}");
}
