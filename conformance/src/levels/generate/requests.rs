//! Whole requests on a tiny model: ends, streams, batches, seeds.
//!
//! What a request must give is told by a plain greedy run of the same prompt, whose tokens PyTorch has: a stop string
//! cuts that text, an end-of-sequence token those tokens. The vocabulary is made up: half characters, empty tokens,
//! tokens that share letters.

use camelid_core::tokenizer::{EncodeOptions, Encoding, SpecialTokens, TokenId, Tokenizer, TokenizerError};
use camelid_engine::sampling::{Sampler, SamplingParams};
use camelid_engine::{
    CancelToken, EngineError, FinishReason, Generation, Outputs, Request, SequenceInput, Session, SessionOptions,
    generate,
};

use crate::case::{Case, Context, Evidence, Problem, Profile};
use crate::check;
use crate::levels::model::{Loaded, TinyModel};
use crate::suite::{Suite, SuiteError};
use crate::tolerance::MathClass;

/// Models and the prompt of theirs whose greedy tokens lead the most.
const MODELS: &[(&str, usize)] = &[("bias", 0), ("bias", 1), ("mha", 2)];

/// Tokens of the plain run.
const COUNT: usize = 16;

type Ask = fn(&Setup<'_>) -> Result<(), Problem>;

const ASKED: &[(&str, &str, Ask)] = &[
    ("plain", "the reference's tokens, their text, and events that add up to it", |s| {
        let plain = s.plain()?;
        check!(plain.finish_reason == FinishReason::Length, "ended by {:?} and not by length", plain.finish_reason);
        s.expect(&plain, &s.tokens, FinishReason::Length)
    }),
    ("most_new_tokens", "0, 1, 5 and 15 tokens are the beginning of 16", |s| {
        for count in [0, 1, 5, 15] {
            let generation = s.one(s.request(|r| r.max_new_tokens = count))?;
            s.expect(&generation, &s.tokens[..count], FinishReason::Length)?;
        }
        Ok(())
    }),
    ("end_of_sequence", "each token in turn ends the sequence and is no part of the text", |s| {
        for eos in &s.tokens {
            let at = s.tokens.iter().position(|t| t == eos).expect("it is one of them");
            let generation = s.one(s.request(|r| r.eos = vec![s.absent(), *eos]))?;
            let (tokens, text) = (&s.tokens[..=at], s.text(&s.tokens[..at]));
            s.expect_text(&generation, tokens, &text, FinishReason::Eos)?;
        }
        Ok(())
    }),
    ("first_of_two_ends", "of two end-of-sequence tokens the first to come ends it", |s| {
        let [early, late] = [s.tokens[3], s.tokens[COUNT - 1]];
        let at = s.tokens.iter().position(|t| *t == early || *t == late).expect("they are among them");
        let generation = s.one(s.request(|r| r.eos = vec![late, early]))?;
        s.expect_text(&generation, &s.tokens[..=at], &s.text(&s.tokens[..at]), FinishReason::Eos)
    }),
    ("stop_strings", "every piece of the text ends it where it first is complete", |s| {
        let text: Vec<char> = s.text(&s.tokens).chars().collect();
        for len in [1, 2, 3, 5] {
            for from in 0..text.len().saturating_sub(len) {
                s.stopped_by(&[text[from..from + len].iter().collect()])?;
            }
        }
        Ok(())
    }),
    ("several_stop_strings", "the first to be complete counts", |s| {
        let text: Vec<char> = s.text(&s.tokens).chars().collect();
        let piece = |from: usize, len: usize| text[from.min(text.len() - len)..][..len].iter().collect::<String>();
        s.stopped_by(&[piece(9, 3), piece(4, 2), "never there".into()])?;
        s.stopped_by(&["☃".into(), piece(7, 1), piece(6, 4)])
    }),
    ("stop_string_that_is_not_there", "a stop string that does not come changes nothing", |s| {
        let last = s.text(&s.tokens).chars().last().unwrap_or('a');
        s.stopped_by(&[format!("{last}☃"), "☃".into()])
    }),
    ("special_tokens", "special tokens are no part of the text", |s| {
        let special = s.tokens[2];
        let tokenizer =
            Words { special: SpecialTokens { all: vec![special], ..SpecialTokens::default() }, ..s.words() };
        let generation = s.with(&tokenizer, vec![s.request(|_| {})])?.remove(0);
        let others: Vec<TokenId> = s.tokens.iter().copied().filter(|t| *t != special).collect();
        s.expect_text(&generation, &s.tokens, &s.text(&others), FinishReason::Length)
    }),
    ("log_probabilities", "each token's, and the four most likely, from the logits", log_probabilities),
    ("seeds", "a seed gives its tokens again, another one others", |s| {
        let sampled = |seed| s.one(s.request(|r| r.sampling = SamplingParams { temperature: 1.5, seed, ..sampling() }));
        let (first, again, other) = (sampled(7)?, sampled(7)?, sampled(8)?);
        s.equal(&first.tokens, &again.tokens, "the same seed")?;
        check!(first.tokens != other.tokens, "two seeds give the same {COUNT} tokens");
        check!(first.tokens.len() == COUNT, "{} tokens, asked for {COUNT}", first.tokens.len());
        Ok(())
    }),
    ("batch", "requests together give what each gives alone", |s| {
        let requests = |session: &mut Session| -> Result<Vec<Request>, Problem> {
            let mut all = Vec::new();
            for n in 0..4u64 {
                let mut request = s.request(|r| r.max_new_tokens = COUNT - 3 * n as usize);
                if n > 0 {
                    request.sampling = SamplingParams { temperature: 0.9, seed: n, top_k: 30, ..sampling() };
                    request.history.extend((0..2 * n as u32).map(|i| 11 * i + 1));
                    request.new_tokens = request.history.len();
                }
                request.sequence = session.create()?;
                all.push(request);
            }
            Ok(all)
        };
        let mut session = s.session(None)?;
        let all = requests(&mut session)?;
        let (together, _) = generate(&mut session, &s.words(), all.clone(), &CancelToken::default(), &mut |_| {})?;
        for (request, together) in all.into_iter().zip(together) {
            let alone = s.one(request)?;
            s.equal(&together.tokens, &alone.tokens, "together and alone")?;
            let same = s.class != MathClass::F32
                || (&together.text, together.finish_reason) == (&alone.text, alone.finish_reason);
            check!(same, "together {together:?}, alone {alone:?}");
        }
        Ok(())
    }),
    ("go_on", "a second request on the sequence goes on where the first ended", |s| {
        let mut session = s.session(None)?;
        let mut request = s.request(|r| r.max_new_tokens = 5);
        request.sequence = session.create()?;
        let sequence = request.sequence;
        let mut tokens = Vec::new();
        for count in [5, 1, 10] {
            request.max_new_tokens = count;
            let (generations, _) =
                generate(&mut session, &s.words(), vec![request.clone()], &CancelToken::default(), &mut |_| {})?;
            tokens.extend(&generations[0].tokens);
            request.history.extend(&generations[0].tokens);
            // The last token is not in the cache yet.
            request.new_tokens = 1;
            let len = session.len(sequence)?;
            check!(
                len + 1 == request.history.len(),
                "{len} tokens are cached of a history of {}",
                request.history.len()
            );
        }
        s.equal(&tokens, &s.tokens, "in three requests")
    }),
    ("context_ends", "generation ends where the context does", |s| {
        for room in [0, 1, 6] {
            let mut session = s.session(Some(s.prompt.len() + room))?;
            let mut request = s.request(|_| {});
            request.sequence = session.create()?;
            let (mut generations, _) =
                generate(&mut session, &s.words(), vec![request], &CancelToken::default(), &mut |_| {})?;
            // The last token needs no room: nothing is computed from it.
            s.expect(&generations.remove(0), &s.tokens[..=room], FinishReason::Length)?;
        }
        Ok(())
    }),
    ("prompt_too_long", "a prompt that does not fit is refused", |s| {
        let mut session = s.session(Some(s.prompt.len() + 2))?;
        let mut request = s.request(|r| r.history.extend([1, 2, 3]));
        request.new_tokens = request.history.len();
        request.sequence = session.create()?;
        let sequence = request.sequence;
        let answer = generate(&mut session, &s.words(), vec![request], &CancelToken::default(), &mut |_| {});
        let refused = matches!(answer, Err(EngineError::PromptTooLong { .. }));
        check!(refused, "a prompt of three tokens too many was taken");
        check!(session.len(sequence)? == 0, "a refused prompt left {} tokens", session.len(sequence)?);
        Ok(())
    }),
    ("cancelled_before", "cancelled before it begins, it gives nothing", |s| {
        let cancel = CancelToken::default();
        cancel.cancel();
        let mut session = s.session(None)?;
        let mut request = s.request(|_| {});
        request.sequence = session.create()?;
        let (mut generations, _) = generate(&mut session, &s.words(), vec![request], &cancel, &mut |_| {})?;
        s.expect(&generations.remove(0), &[], FinishReason::Cancelled)
    }),
    ("cancelled_on_the_way", "cancelled at a token, it gives what there is", |s| {
        for at in [1, 4] {
            let (cancel, mut seen) = (CancelToken::default(), 0);
            let mut session = s.session(None)?;
            let mut request = s.request(|_| {});
            request.sequence = session.create()?;
            let (mut generations, _) = generate(&mut session, &s.words(), vec![request], &cancel, &mut |event| {
                seen += usize::from(event.token.is_some());
                if seen == at {
                    cancel.cancel();
                }
            })?;
            s.expect(&generations.remove(0), &s.tokens[..at], FinishReason::Cancelled)?;
        }
        Ok(())
    }),
    ("refused_requests", "no prompt, an empty stop string, a negative temperature", |s| {
        let bad: [(&str, Request); 3] = [
            ("no new tokens", s.request(|r| r.new_tokens = 0)),
            ("an empty stop string", s.request(|r| r.stop = vec![String::new()])),
            ("a temperature of -1", s.request(|r| r.sampling.temperature = -1.0)),
        ];
        for (what, request) in bad {
            check!(s.one(request).is_err(), "a request with {what} was taken");
        }
        Ok(())
    }),
    ("as_step_by_step", "a request gives what steps and the sampler give one by one", step_by_step),
];

/// Its cases.
pub(super) fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let mut cases = Vec::new();
    for (name, prompt) in MODELS {
        let (model, _) = TinyModel::find(suite, name)?;
        for (asked, about, ask) in ASKED {
            let (model, id) = (model.clone(), format!("generate/{name}_{prompt}/{asked}"));
            let own = id.clone();
            cases.push(Case::new(id, Profile::Core, *about, move |cx: &Context<'_>| {
                ask(&Setup::new(cx, &own, &model, *prompt)?).map(|()| Evidence::default())
            }));
        }
    }
    Ok(cases)
}

/// Made-up words by token id.
#[derive(Clone, Debug)]
pub(super) struct Words {
    vocab_size: usize,
    special: SpecialTokens,
}

impl Words {
    pub(super) fn of(vocab_size: usize) -> Words {
        Words { vocab_size, special: SpecialTokens::default() }
    }

    fn bytes(id: TokenId) -> Vec<u8> {
        match id % 9 {
            0 => format!(" w{id}").into_bytes(),
            1 => b"a".to_vec(),
            2 => b"\xc3".to_vec(),
            3 => b"\xa9x".to_vec(),
            4 => b"ab".to_vec(),
            5 => b"ba\n".to_vec(),
            6 => "é!".into(),
            7 => Vec::new(),
            _ => "😀".into(),
        }
    }
}

impl Tokenizer for Words {
    fn encode(&self, _: &str, _: EncodeOptions) -> Result<Encoding, TokenizerError> {
        Err(TokenizerError::Encode("the made-up words only go from ids to text".into()))
    }

    fn decode(&self, ids: &[TokenId], _: bool) -> Result<Vec<u8>, TokenizerError> {
        let bytes = ids.iter().map(|id| self.token_bytes(*id)).collect::<Result<Vec<_>, _>>()?;
        Ok(bytes.concat())
    }

    fn token_bytes(&self, id: TokenId) -> Result<Vec<u8>, TokenizerError> {
        let vocab_size = self.vocab_size;
        if (id as usize) < vocab_size {
            Ok(Words::bytes(id))
        } else {
            Err(TokenizerError::UnknownId { id, vocab_size })
        }
    }

    fn token_to_id(&self, _: &str) -> Option<TokenId> {
        None
    }

    fn id_to_token(&self, _: TokenId) -> Option<String> {
        None
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn special_tokens(&self) -> &SpecialTokens {
        &self.special
    }
}

fn sampling() -> SamplingParams {
    SamplingParams::default()
}

struct Setup<'a> {
    cx: &'a Context<'a>,
    loaded: Loaded,
    class: MathClass,
    prompt: Vec<TokenId>,
    /// What a plain greedy run gives.
    tokens: Vec<TokenId>,
}

impl<'a> Setup<'a> {
    fn new(cx: &'a Context<'a>, id: &str, model: &TinyModel, prompt: usize) -> Result<Setup<'a>, Problem> {
        let loaded = model.load(id, cx, MathClass::F32)?;
        let class = cx.subject.claims.class(id, MathClass::F32);
        let tokens = loaded.ids(&format!("g{prompt}.tokens"))?.swap_remove(0);
        let prompt = loaded.ids(&format!("g{prompt}.input_ids"))?.swap_remove(0);
        check!(tokens.len() == COUNT, "the fixture has {} tokens, not {COUNT}", tokens.len());
        let mut setup = Setup { cx, loaded, class, prompt, tokens };
        if class != MathClass::F32 {
            // A looser class may flip a token; then its own run is what the rest is held against.
            setup.tokens = setup.plain()?.tokens;
        }
        Ok(setup)
    }

    fn session(&self, context_size: Option<usize>) -> Result<Session, Problem> {
        let options = SessionOptions { context_size, max_sequences: 4, ..SessionOptions::default() };
        Ok(self.cx.subject.session(self.loaded.model.clone(), &options)?)
    }

    fn words(&self) -> Words {
        Words::of(self.loaded.model.config().vocab_size)
    }

    /// A greedy request for [`COUNT`] tokens; its sequence is set when it runs.
    fn request(&self, adjust: impl FnOnce(&mut Request)) -> Request {
        let nowhere = camelid_core::cache::SequenceId(u64::MAX);
        let mut request = Request::new(nowhere, self.prompt.clone(), COUNT);
        adjust(&mut request);
        request
    }

    /// In a session of their own; the events must add up to the results.
    fn with(&self, tokenizer: &dyn Tokenizer, mut requests: Vec<Request>) -> Result<Vec<Generation>, Problem> {
        let mut session = self.session(None)?;
        for request in &mut requests {
            request.sequence = session.create()?;
        }
        let mut heard = vec![(Vec::new(), String::new()); requests.len()];
        let (generations, _) = generate(&mut session, tokenizer, requests, &CancelToken::default(), &mut |event| {
            heard[event.request].0.extend(event.token);
            heard[event.request].1.push_str(event.text);
        })?;
        for (generation, (tokens, text)) in generations.iter().zip(heard) {
            check!(generation.tokens == tokens, "events told of {tokens:?}, the result has {:?}", generation.tokens);
            check!(generation.text == text, "events told {text:?}, the result is {:?}", generation.text);
        }
        Ok(generations)
    }

    fn one(&self, request: Request) -> Result<Generation, Problem> {
        Ok(self.with(&self.words(), vec![request])?.remove(0))
    }

    fn plain(&self) -> Result<Generation, Problem> {
        self.one(self.request(|_| {}))
    }

    /// A token that the plain run does not give.
    fn absent(&self) -> TokenId {
        (0..).find(|t| !self.tokens.contains(t)).expect("there are more tokens than it gives")
    }

    fn text(&self, tokens: &[TokenId]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|t| Words::bytes(*t)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Tokens that must be equal, unless the backend's class may flip one.
    fn equal(&self, found: &[TokenId], expected: &[TokenId], what: &str) -> Result<(), Problem> {
        if self.class == MathClass::F32 {
            check!(found == expected, "{what}: tokens {found:?}, expected {expected:?}");
        }
        check!(found.len() == expected.len(), "{what}: {} tokens, expected {}", found.len(), expected.len());
        Ok(())
    }

    fn expect(&self, found: &Generation, tokens: &[TokenId], reason: FinishReason) -> Result<(), Problem> {
        self.expect_text(found, tokens, &self.text(tokens), reason)
    }

    fn expect_text(
        &self,
        found: &Generation,
        tokens: &[TokenId],
        text: &str,
        reason: FinishReason,
    ) -> Result<(), Problem> {
        self.equal(&found.tokens, tokens, "generation")?;
        check!(found.finish_reason == reason, "ended by {:?}, expected {reason:?}", found.finish_reason);
        let text = if found.tokens == tokens { text.to_owned() } else { self.text(&found.tokens) };
        check!(found.text == text, "the text is {:?}, expected {text:?}", found.text);
        Ok(())
    }

    /// Ended by the first of `stops` that the plain text completes, with the fewest tokens that complete it.
    fn stopped_by(&self, stops: &[String]) -> Result<(), Problem> {
        // Half a character at the end of a token becomes text only when the next one shows that it stays half.
        let shown = |n: usize| {
            let bytes: Vec<u8> = self.tokens[..n].iter().flat_map(|t| Words::bytes(*t)).collect();
            match std::str::from_utf8(&bytes) {
                Err(e) if e.error_len().is_none() => String::from_utf8_lossy(&bytes[..e.valid_up_to()]).into_owned(),
                _ => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let half = bytes.utf8_chunks().last().is_some_and(|c| {
                        let invalid = c.invalid();
                        !invalid.is_empty() && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none())
                    });
                    if half { text.strip_suffix('\u{fffd}').unwrap_or(&text).to_owned() } else { text }
                }
            }
        };
        let first = |text: &str| {
            let ends = text.char_indices().map(|(i, c)| i + c.len_utf8());
            ends.into_iter().find_map(|end| {
                let here = stops.iter().filter(|s| text[..end].ends_with(s.as_str()));
                here.map(String::len).max().map(|len| end - len)
            })
        };
        let generation = self.one(self.request(|r| r.stop = stops.to_vec()))?;
        for n in 1..=COUNT {
            let text = shown(n);
            if let Some(cut) = first(&text) {
                return self.expect_text(&generation, &self.tokens[..n], &text[..cut], FinishReason::Stop);
            }
        }
        // What was held back at the end may complete it still.
        let text = self.text(&self.tokens);
        let cut = first(&text).unwrap_or(text.len());
        self.expect_text(&generation, &self.tokens, &text[..cut], FinishReason::Length)
    }

    /// The logits after the prompt and `tokens`, by one step.
    fn logits(&self, history: &[TokenId]) -> Result<Vec<f32>, Problem> {
        let mut session = self.session(None)?;
        let sequence = session.create()?;
        let input = SequenceInput { sequence, tokens: history, positions: None, outputs: Outputs::Last };
        Ok(session.step(&[input])?.last_of_input(0).to_vec())
    }
}

fn log_probabilities(s: &Setup<'_>) -> Result<(), Problem> {
    let generation = s.one(s.request(|r| r.logprobs = Some(4)))?;
    s.expect(&generation, &s.tokens, FinishReason::Length)?;
    check!(generation.logprobs.len() == COUNT, "log-probabilities of {} tokens", generation.logprobs.len());
    let tolerance = 2.0 * s.class.model_limits().max;
    for (n, list) in generation.logprobs.iter().enumerate() {
        let history: Vec<TokenId> = s.prompt.iter().chain(&generation.tokens[..n]).copied().collect();
        let logits: Vec<f64> = s.logits(&history)?.into_iter().map(f64::from).collect();
        let rms = (logits.iter().map(|x| x * x).sum::<f64>() / logits.len() as f64).sqrt();
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = logits.iter().map(|x| (x - max).exp()).sum::<f64>().ln() + max;
        check!(list.len() == 5, "token {n}: {} entries, expected the token and four more", list.len());
        check!(list[0].token == generation.tokens[n], "token {n}: the first entry is of token {}", list[0].token);
        for entry in list {
            let expected = logits[entry.token as usize] - log_sum;
            let near = (entry.logprob - expected).abs() <= tolerance * rms.max(1.0);
            check!(near, "token {n}: log-probability {} of {}, expected {expected}", entry.logprob, entry.token);
        }
        check!(list[1..].is_sorted_by(|a, b| a.logprob >= b.logprob), "token {n}: not from the most likely down");
    }
    Ok(())
}

fn step_by_step(s: &Setup<'_>) -> Result<(), Problem> {
    let settings = [
        SamplingParams { temperature: 0.8, top_k: 20, seed: 3, ..sampling() },
        SamplingParams { temperature: 1.2, top_p: 0.9, min_p: 0.02, seed: 4, ..sampling() },
        SamplingParams { repetition_penalty: 1.4, ..sampling() },
        SamplingParams { temperature: 1.0, repetition_penalty: 1.2, penalty_window: Some(3), seed: 5, ..sampling() },
        SamplingParams { presence_penalty: 0.7, frequency_penalty: 0.4, ..sampling() },
        SamplingParams { temperature: 0.7, logit_bias: vec![(5, 2.0), (9, f32::NEG_INFINITY)], seed: 6, ..sampling() },
    ];
    for params in settings {
        let generation = s.one(s.request(|r| r.sampling = params.clone()))?;
        let mut sampler = Sampler::new(params.clone()).map_err(|e| Problem::fail(e.to_string()))?;
        let mut session = s.session(None)?;
        let sequence = session.create()?;
        let (mut history, mut new) = (s.prompt.clone(), s.prompt.clone());
        for _ in 0..COUNT {
            let input = SequenceInput { sequence, tokens: &new, positions: None, outputs: Outputs::Last };
            let logits = session.step(&[input])?;
            let sampled = s.cx.subject.sample(&mut sampler, logits.last_of_input(0), &history, s.prompt.len());
            let token = sampled.map_err(|e| Problem::fail(e.to_string()))?.token;
            history.push(token);
            new = vec![token];
        }
        s.equal(&generation.tokens, &history[s.prompt.len()..], &format!("{params:?}"))?;
    }
    Ok(())
}
