//! Whole searches on tiny models: the texts that transformers' `generate` gives, greedy and by beams.

use std::sync::Arc;

use camelid_core::cache::SequenceId;
use camelid_core::tokenizer::TokenId;
use camelid_engine::generation_config::GenerationConfig;
use camelid_engine::{
    CacheKind, CancelToken, DraftModel, Generation, Outputs, Request, SequenceInput, Session, SessionOptions, Strategy,
    Timings, generate_with_draft,
};
use serde::Deserialize;

use super::processors::parse;
use super::requests::Words;
use crate::case::{Case, Context, Evidence, Measure, Problem, Profile};
use crate::check;
use crate::levels::model::{Loaded, TinyModel};
use crate::suite::{Suite, SuiteError};
use crate::tolerance::MathClass;

const FILE: &str = "generate/searches.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Search>,
}

/// A prompt and what comes of it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    id: String,
    model: String,
    /// As in generation_config.json.
    config: String,
    prompt: Vec<TokenId>,
    eos: Vec<TokenId>,
    max_new_tokens: usize,
    texts: Vec<Vec<TokenId>>,
    /// Of beams, one a text; else none.
    scores: Vec<f64>,
}

/// Its cases.
pub(super) fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let damaged = |problem: String| SuiteError::Damaged { path: FILE.into(), problem };
    let file: File = toml::from_str(&suite.text(FILE)?).map_err(|e| damaged(e.to_string()))?;
    let mut cases = Vec::new();
    for search in &file.case {
        let (model, _) = TinyModel::find(suite, &search.model)?;
        let config = parse(&search.config).map_err(|problem| damaged(format!("`{}`: {problem}", search.id)))?;
        let search = search.clone();
        let about = "the texts and scores of one configuration, in two kinds of cache";
        cases.push(Case::new(search.id.clone(), Profile::Core, about, move |cx: &Context<'_>| {
            let rig = Rig::new(cx, &search.id, &model)?;
            let mut evidence = Evidence::default();
            for cache in [CacheKind::Contiguous, CacheKind::Paged { block_size: 3 }] {
                let (texts, _) = rig.run(&[(&search, &config)], cache, None)?;
                evidence.measures = rig.compare(&search, &texts)?.into_iter().collect();
            }
            Ok(evidence)
        }));
    }
    for name in ["bias", "gqa"] {
        let (model, _) = TinyModel::find(suite, name)?;
        let (draft, _) = TinyModel::find(suite, if name == "bias" { "eos_list" } else { name })?;
        let mut own = Vec::new();
        for search in file.case.iter().filter(|s| s.model == name) {
            own.push((search.clone(), parse(&search.config).map_err(damaged)?));
        }
        let own: Arc<[(Search, GenerationConfig)]> = own.into();
        let id = format!("generate/searches/batch_{name}");
        let (all, with, tiny) = (own.clone(), id.clone(), model.clone());
        let about = "all searches of a model in one batch, beams beside greedy ones, prompts of all lengths";
        cases.push(Case::new(id, Profile::Core, about, move |cx: &Context<'_>| {
            let rig = Rig::new(cx, &with, &tiny)?;
            let searches: Vec<_> = all.iter().map(|(s, c)| (s, c)).collect();
            let (texts, _) = rig.run(&searches, CacheKind::Contiguous, None)?;
            let mut texts = texts.into_iter().peekable();
            for (request, (search, _)) in all.iter().enumerate() {
                let own: Vec<Generation> = std::iter::from_fn(|| texts.next_if(|t| t.request == request)).collect();
                rig.compare(search, &own)?;
            }
            Ok(Evidence::default())
        }));
        let id = format!("generate/searches/guesses_{name}");
        let with = id.clone();
        let about = "with guesses from the prompt or of a draft model the texts are the same";
        cases.push(Case::new(id, Profile::Core, about, move |cx: &Context<'_>| {
            let rig = Rig::new(cx, &with, &model)?;
            let searches: Vec<_> = own.iter().filter(|(s, _)| s.scores.is_empty()).map(|(s, c)| (s, c)).collect();
            let lookup = Strategy::PromptLookup { num_tokens: 4, max_matching_ngram_size: 2 };
            let drafted = Strategy::Draft { num_tokens: 3 };
            let mut notes = Vec::new();
            for (strategy, name, always) in [(lookup, "the prompt", false), (drafted, "the draft", true)] {
                let draft = Rig::new(cx, &with, &draft)?;
                let guesses = Some((strategy, &draft));
                let (texts, timings) = rig.run(&searches, CacheKind::Contiguous, guesses)?;
                for ((search, _), text) in searches.iter().zip(&texts) {
                    rig.compare(search, std::slice::from_ref(text))?;
                }
                let guessed = timings.speculated;
                check!(guessed.accepted <= guessed.drafted, "{} of {} right", guessed.accepted, guessed.drafted);
                check!(guessed.drafted > 0 || !always, "{name} made no guess");
                notes.push(format!("{name}: {} of {} guesses right", guessed.accepted, guessed.drafted));
            }
            Ok(Evidence { measures: Vec::new(), notes })
        }));
    }
    Ok(cases)
}

/// A model to search with.
struct Rig<'a> {
    cx: &'a Context<'a>,
    loaded: Loaded,
    class: MathClass,
}

impl<'a> Rig<'a> {
    fn new(cx: &'a Context<'a>, id: &str, model: &TinyModel) -> Result<Rig<'a>, Problem> {
        let class = cx.subject.claims.class(id, MathClass::F32);
        Ok(Rig { cx, loaded: model.load(id, cx, MathClass::F32)?, class })
    }

    fn session(&self, max_sequences: usize, cache: CacheKind) -> Result<Session, Problem> {
        let options = SessionOptions { max_sequences, cache, ..SessionOptions::default() };
        Ok(self.cx.subject.session(self.loaded.model.clone(), &options)?)
    }

    /// All searches together; with `guesses`, by that strategy and the draft for it.
    fn run(
        &self,
        searches: &[(&Search, &GenerationConfig)],
        cache: CacheKind,
        guesses: Option<(Strategy, &Rig<'_>)>,
    ) -> Result<(Vec<Generation>, Timings), Problem> {
        let mut requests = Vec::new();
        for (search, config) in searches {
            let strategy = config.strategy().map_err(|e| Problem::fail(e.to_string()))?;
            requests.push(Request {
                sampling: config.sampling_params(),
                eos: search.eos.clone(),
                strategy: guesses.as_ref().map_or(strategy, |(strategy, _)| *strategy),
                num_return_sequences: config.num_return_sequences.unwrap_or(1),
                ..Request::new(SequenceId(u64::MAX), search.prompt.clone(), search.max_new_tokens)
            });
        }
        let mut session = self.session(requests.iter().map(Request::sequences_needed).sum(), cache)?;
        for request in &mut requests {
            request.sequence = session.create()?;
        }
        let mut draft = match &guesses {
            Some((Strategy::Draft { .. }, rig)) => {
                Some(DraftModel::new(rig.session(requests.len(), cache)?, &self.loaded.model)?)
            }
            _ => None,
        };
        let sequences: Vec<SequenceId> = requests.iter().map(|r| r.sequence).collect();
        let words = Words::of(self.loaded.model.config().vocab_size);
        let cancel = CancelToken::default();
        let done = generate_with_draft(&mut session, draft.as_mut(), &words, requests, &cancel, &mut |_| {})?;
        for sequence in sequences {
            session.release(sequence)?;
        }
        // Whatever was forked has been given back.
        let free = session.create().is_ok();
        check!(free, "the session has no room for a sequence after all of them were released");
        Ok(done)
    }

    fn compare(&self, search: &Search, found: &[Generation]) -> Result<Option<Measure>, Problem> {
        let texts: Vec<&Vec<TokenId>> = found.iter().map(|g| &g.tokens).collect();
        let expected: Vec<&Vec<TokenId>> = search.texts.iter().collect();
        check!(texts.len() == expected.len(), "{}: {} texts, expected {}", search.id, texts.len(), expected.len());
        if self.class != MathClass::F32 {
            // A looser class may take another token; then only the order can be told.
            check!(found.is_sorted_by(|a, b| a.score >= b.score), "{}: not from the best down", search.id);
            return Ok(None);
        }
        check!(texts == expected, "{}: the texts are {texts:?}, expected {expected:?}", search.id);
        let scores = found.iter().map(|g| g.score);
        if search.scores.is_empty() {
            check!(scores.into_iter().all(|s| s.is_none()), "{}: a score without beams", search.id);
            return Ok(None);
        }
        let rms = self.rms(&search.prompt)?.max(1.0);
        let mut nearest: Option<Measure> = None;
        for (generation, expected) in found.iter().zip(&search.scores) {
            // Of every token's log-probability the logit and the sum may be off, and a penalty may double that.
            let len = generation.tokens.len() as f64;
            let limit = 4.0 * self.class.model_limits().max * rms * len.max(expected.abs());
            let score = generation.score.unwrap_or(f64::NAN);
            let off = (score - expected).abs();
            check!(off <= limit, "{}: the score is {score}, expected {expected}", search.id);
            if nearest.as_ref().is_none_or(|m| off / limit > m.value / m.limit) {
                nearest = Some(Measure { metric: "max".into(), what: "score".into(), value: off, limit });
            }
        }
        Ok(nearest)
    }

    /// Root mean square of the logits after a prompt.
    fn rms(&self, prompt: &[TokenId]) -> Result<f64, Problem> {
        let mut session = self.session(1, CacheKind::Contiguous)?;
        let sequence = session.create()?;
        let input = SequenceInput { sequence, tokens: prompt, positions: None, outputs: Outputs::Last };
        let logits = session.step(&[input])?;
        let row = logits.last_of_input(0);
        Ok((row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / row.len() as f64).sqrt())
    }
}
