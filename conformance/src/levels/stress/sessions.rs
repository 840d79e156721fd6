//! Sessions beside each other, in threads, for a long time, at every size.

use camelid_core::cache::SequenceId;
use camelid_engine::{CacheKind, Outputs, SequenceInput, Session, SessionOptions};

use crate::case::{Case, Context, Evidence, Problem, Profile};
use crate::check;
use crate::levels::abi::together;
use crate::levels::model::{Loaded, TinyModel};
use crate::suite::{Suite, SuiteError};
use crate::tolerance::MathClass;

const MODELS: [&str; 4] = ["gqa", "mha", "mqa", "bias"];

/// What a case runs, given its own id.
type RunNamed = Box<dyn Fn(&str, &Context<'_>) -> Result<Evidence, Problem> + Send + Sync>;

/// Its cases.
pub(super) fn cases(suite: &Suite) -> Result<Vec<Case>, SuiteError> {
    let models = MODELS.map(|name| TinyModel::find(suite, name).map(|(model, _)| model));
    let models = models.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut cases = Vec::new();
    let mut add = |id: String, about: &str, run: RunNamed| {
        let own = id.clone();
        cases.push(Case::new(id, Profile::Core, about, move |cx: &Context<'_>| run(&own, cx)));
    };
    for (name, model) in MODELS.iter().zip(&models) {
        let own = model.clone();
        add(
            format!("stress/sizes/{name}/every_prompt_length"),
            "prompts of 1 to 37 tokens, the last row of each",
            Box::new(move |id, cx| every_length(&own.load(id, cx, MathClass::F32)?, cx)),
        );
        let own = model.clone();
        add(
            format!("stress/sizes/{name}/every_batch"),
            "one to twelve sequences of unequal length in a run",
            Box::new(move |id, cx| every_batch(&own.load(id, cx, MathClass::F32)?, cx)),
        );
        let own = model.clone();
        add(
            format!("stress/long/{name}/two_thousand_steps"),
            "after two thousand steps with cuts a prompt gives what it gave at first",
            Box::new(move |id, cx| long(&own.load(id, cx, MathClass::F32)?, cx)),
        );
        let own = model.clone();
        add(
            format!("stress/sessions/{name}/eight_in_turns"),
            "eight sessions on one device take turns",
            Box::new(move |id, cx| in_turns(&own.load(id, cx, MathClass::F32)?, cx, 8)),
        );
        let own = model.clone();
        add(
            format!("stress/threads/{name}/one_model"),
            "four threads, each with a session on the same model",
            Box::new(move |id, cx| {
                let loaded = own.load(id, cx, MathClass::F32)?;
                together(4, |_| prompt(&loaded, cx).map(drop))?;
                prompt(&loaded, cx)
            }),
        );
    }
    let all = models.clone();
    add(
        "stress/threads/four_models".into(),
        "four threads, each with a device and a model of its own",
        Box::new(move |id, cx| {
            together(all.len(), |n| {
                let loaded = all[n].load(id, cx, MathClass::F32)?;
                (0..5).try_for_each(|_| prompt(&loaded, cx).map(drop))
            })?;
            Ok(Evidence::default())
        }),
    );
    let all = models;
    add(
        "stress/sessions/load_and_drop".into(),
        "models loaded and dropped while another one is in use",
        Box::new(move |id, cx| {
            let kept = all[0].load(id, cx, MathClass::F32)?;
            for n in 0..12 {
                prompt(&all[n % all.len()].load(id, cx, MathClass::F32)?, cx)?;
                prompt(&kept, cx)?;
            }
            prompt(&kept, cx)
        }),
    );
    Ok(cases)
}

/// A session's sequence fed with the tokens of `p2`, so far as it got.
struct Progress {
    session: Session,
    sequence: SequenceId,
    fed: usize,
    logits: Vec<f32>,
}

impl Progress {
    fn new(loaded: &Loaded, cx: &Context<'_>, options: &SessionOptions) -> Result<Progress, Problem> {
        let mut session = cx.subject.session(loaded.model.clone(), options)?;
        let sequence = session.create()?;
        Ok(Progress { session, sequence, fed: 0, logits: Vec::new() })
    }

    fn feed(&mut self, tokens: &[u32], count: usize) -> Result<(), Problem> {
        let to = (self.fed + count).min(tokens.len());
        if to > self.fed {
            let tokens = &tokens[self.fed..to];
            let input = SequenceInput { sequence: self.sequence, tokens, positions: None, outputs: Outputs::All };
            self.logits.extend_from_slice(self.session.step(&[input])?.of_input(0));
            self.fed = to;
        }
        Ok(())
    }
}

fn tokens(loaded: &Loaded) -> Result<Vec<u32>, Problem> {
    Ok(loaded.ids("p2.input_ids")?.swap_remove(0))
}

fn compare(loaded: &Loaded, what: &str, actual: &[f32]) -> Result<Evidence, Problem> {
    let (shape, expected) = loaded.expected("p2.logits")?;
    loaded.compare_with(what, &shape, actual, &expected)
}

fn prompt(loaded: &Loaded, cx: &Context<'_>) -> Result<Evidence, Problem> {
    let tokens = tokens(loaded)?;
    let mut progress = Progress::new(loaded, cx, &SessionOptions::default())?;
    progress.feed(&tokens, tokens.len())?;
    compare(loaded, "p2.logits", &progress.logits)
}

fn every_length(loaded: &Loaded, cx: &Context<'_>) -> Result<Evidence, Problem> {
    let tokens = tokens(loaded)?;
    let mut session = cx.subject.session(loaded.model.clone(), &SessionOptions::default())?;
    let mut actual = Vec::new();
    for len in 1..=tokens.len() {
        let sequence = session.create()?;
        let input = SequenceInput { sequence, tokens: &tokens[..len], positions: None, outputs: Outputs::Last };
        actual.extend_from_slice(session.step(&[input])?.of_input(0));
        session.release(sequence)?;
    }
    compare(loaded, "the last row of each prompt", &actual)
}

/// Sequence `i` of a batch of `n` has the first `1 + (7 i + n) % 37` tokens.
fn every_batch(loaded: &Loaded, cx: &Context<'_>) -> Result<Evidence, Problem> {
    let tokens = tokens(loaded)?;
    let (shape, expected) = loaded.expected("p2.logits")?;
    let vocab_size = shape[2];
    let cache = CacheKind::Paged { block_size: 4 };
    let options = SessionOptions { max_sequences: 12, cache, ..SessionOptions::default() };
    let mut session = cx.subject.session(loaded.model.clone(), &options)?;
    let (mut actual, mut wanted) = (Vec::new(), Vec::new());
    for n in 1..=12 {
        let lens: Vec<usize> = (0..n).map(|i| 1 + (7 * i + n) % tokens.len()).collect();
        let sequences = lens.iter().map(|_| session.create()).collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<_> = sequences
            .iter()
            .zip(&lens)
            .map(|(sequence, len)| SequenceInput {
                sequence: *sequence,
                tokens: &tokens[..*len],
                positions: None,
                outputs: Outputs::Last,
            })
            .collect();
        let logits = session.step(&inputs)?;
        for (i, len) in lens.iter().enumerate() {
            actual.extend_from_slice(logits.of_input(i));
            wanted.extend_from_slice(&expected[(len - 1) * vocab_size..len * vocab_size]);
        }
        sequences.into_iter().try_for_each(|sequence| session.release(sequence))?;
    }
    let shape = [wanted.len() / vocab_size, vocab_size];
    loaded.compare_with("the last row of each sequence", &shape, &actual, &wanted)
}

fn long(loaded: &Loaded, cx: &Context<'_>) -> Result<Evidence, Problem> {
    let tokens = tokens(loaded)?;
    let options = SessionOptions { cache: CacheKind::Paged { block_size: 16 }, ..SessionOptions::default() };
    let mut progress = Progress::new(loaded, cx, &options)?;
    progress.feed(&tokens, 20)?;
    let (session, sequence) = (&mut progress.session, progress.sequence);
    for step in 0..2_000u32 {
        if session.room(sequence)? == 0 {
            session.truncate(sequence, 20 + step as usize % 7)?;
        }
        let token = [step * 13 % loaded.model.config().vocab_size as u32];
        let outputs = if step % 50 == 0 { Outputs::Last } else { Outputs::None };
        let logits = session.step(&[SequenceInput { sequence, tokens: &token, positions: None, outputs }])?;
        check!(logits.of_input(0).iter().all(|x| x.is_finite()), "step {step}: a logit is not finite");
    }
    progress.session.truncate(progress.sequence, 20)?;
    progress.feed(&tokens, tokens.len())?;
    compare(loaded, "p2.logits", &progress.logits)
}

fn in_turns(loaded: &Loaded, cx: &Context<'_>, count: usize) -> Result<Evidence, Problem> {
    let tokens = tokens(loaded)?;
    let make = |n: usize| {
        let cache = if n.is_multiple_of(2) { CacheKind::Contiguous } else { CacheKind::Paged { block_size: 1 + n } };
        Progress::new(loaded, cx, &SessionOptions { cache, ..SessionOptions::default() })
    };
    let mut sessions = (0..count).map(make).collect::<Result<Vec<_>, _>>()?;
    while sessions.iter().any(|s| s.fed < tokens.len()) {
        for (n, session) in sessions.iter_mut().enumerate() {
            session.feed(&tokens, 1 + n)?;
        }
    }
    let mut evidence = Evidence::default();
    for (n, session) in sessions.iter().enumerate() {
        evidence.measures.extend(compare(loaded, &format!("session {n}"), &session.logits)?.measures);
    }
    Ok(evidence)
}
