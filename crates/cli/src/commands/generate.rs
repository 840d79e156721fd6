//! `camelid generate`: continue a text, or answer a prompt.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use camelid_core::tokenizer::{EncodeOptions, TokenId, Tokenizer};
use camelid_engine::{DraftModel, Event, Generation, Model, Request, Session, Strategy, Timings, generate_with_draft};
use clap::Args;
use serde_json::{Value, json};

use super::chat::message;
use crate::Error;
use crate::interrupt;
use crate::options::{RunFlags, SamplingFlags};
use crate::setup::Setup;

/// Continue a text, or answer a prompt with --chat
#[derive(Args, Debug)]
pub struct Generate {
    /// Text to continue; `-` reads standard input
    #[arg(default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    prompt: String,
    #[command(flatten)]
    run: RunFlags,
    #[command(flatten)]
    sampling: SamplingFlags,
    /// Put the prompt into the model's chat template as the user's message
    #[arg(long)]
    chat: bool,
    /// System message for --chat
    #[arg(long, value_name = "S", requires = "chat")]
    system: Option<String>,
    /// Print one JSON object at the end instead of text as it comes
    #[arg(long)]
    json: bool,
}

impl Generate {
    pub fn run(self) -> Result<(), Error> {
        let mut overrides = self.run.overrides();
        self.sampling.add_to(&mut overrides);
        let setup = Setup::new(&self.run, overrides)?;
        let prompt = super::text_or_stdin(self.prompt.clone())?;
        let start = Instant::now();
        let model = setup.model()?;
        let tokens = self.prompt_tokens(&model, &prompt)?;
        let echo = !self.json && !self.chat && std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        if echo {
            eprint!("{prompt}");
        }

        let mut request = setup.request(&model, tokens.clone(), tokens.len())?;
        let needed = Some(tokens.len().saturating_add(request.max_new_tokens));
        let mut options = setup.session_options(&model, needed);
        options.max_sequences = options.max_sequences.max(request.sequences_needed());
        let mut session = Session::new(model.clone(), &options)?;
        let mut draft = setup.draft(&model, needed)?;
        let load_time = start.elapsed();
        request.sequence = session.create()?;
        let seed = request.sampling.seed;
        let guesses = matches!(request.strategy, Strategy::PromptLookup { .. } | Strategy::Draft { .. });
        let several = request.num_return_sequences > 1;
        let print = !self.json && !several;
        let (generations, timings) = stream(&mut session, draft.as_mut(), &model, request, print)?;
        if self.json {
            return print_json(&setup, &model, &tokens, seed, load_time, &generations, &timings);
        }
        if several {
            print_texts(&generations)?;
        } else {
            outln!();
        }
        report(load_time, &generations, &timings, tokens.len(), guesses);
        Ok(())
    }

    fn prompt_tokens(&self, model: &Model, prompt: &str) -> Result<Vec<TokenId>, Error> {
        if !self.chat {
            return Ok(model.tokenizer()?.encode(prompt, EncodeOptions::default())?.ids);
        }
        let mut messages = Vec::new();
        messages.extend(self.system.as_deref().map(|s| message("system", s)));
        messages.push(message("user", prompt));
        Ok(model.encode_chat(&messages)?)
    }
}

/// Generates, printing the text as it comes if `print`.
pub fn stream(
    session: &mut Session,
    draft: Option<&mut DraftModel>,
    model: &Arc<Model>,
    request: Request,
    print: bool,
) -> Result<(Vec<Generation>, Timings), Error> {
    let cancel = session.cancel_token();
    cancel.clear();
    interrupt::cancels(cancel.clone());
    let mut out = std::io::stdout().lock();
    let mut broken = None;
    let on_event = &mut |event: Event<'_>| {
        if print
            && !event.text.is_empty()
            && let Err(error) = out.write_all(event.text.as_bytes()).and_then(|()| out.flush())
        {
            // Nobody reads any more: there is no use in going on.
            broken.get_or_insert(error);
            cancel.cancel();
        }
    };
    let done = generate_with_draft(session, draft, model.tokenizer()?, vec![request], &cancel, on_event)?;
    match broken {
        Some(error) => Err(error.into()),
        None => Ok(done),
    }
}

/// Several texts, each under a line with its number and, of beams, its score.
fn print_texts(generations: &[Generation]) -> Result<(), Error> {
    for (n, generation) in generations.iter().enumerate() {
        let score = generation.score.map_or(String::new(), |s| format!(" score {s:.4}"));
        outln!("[{}]{score}", n + 1);
        outln!("{}", generation.text);
    }
    Ok(())
}

fn print_json(
    setup: &Setup,
    model: &Model,
    prompt_tokens: &[TokenId],
    seed: u64,
    load_time: Duration,
    generations: &[Generation],
    timings: &Timings,
) -> Result<(), Error> {
    let sequences: Vec<Value> = generations
        .iter()
        .map(|g| json!({"tokens": g.tokens, "text": g.text, "finish_reason": g.finish_reason.name(), "score": g.score}))
        .collect();
    let generation = &generations[0];
    let weights = model.report();
    let guessed = timings.speculated;
    let object = json!({
        "model": model.path().display().to_string(),
        "backend": setup.backend,
        "prompt_tokens": prompt_tokens,
        "tokens": generation.tokens,
        "text": generation.text,
        "finish_reason": generation.finish_reason.name(),
        "score": generation.score,
        "sequences": sequences,
        "seed": seed,
        "weight_bytes": {"aliased": weights.bytes_aliased, "copied": weights.bytes_copied,
                         "repacked": weights.bytes_repacked},
        "speculation": {
            "rounds": guessed.rounds,
            "drafted": guessed.drafted,
            "accepted": guessed.accepted,
            "acceptance_rate": guessed.acceptance_rate(),
        },
        "timings": {
            "load_s": load_time.as_secs_f64(),
            "prefill_s": timings.prefill.as_secs_f64(),
            "first_token_s": (load_time + timings.prefill).as_secs_f64(),
            "prefill_tokens_per_s": timings.prefill_tokens_per_s(),
            "decode_tokens_per_s": timings.decode_tokens_per_s(),
        },
    });
    outln!("{}", serde_json::to_string_pretty(&object)?);
    Ok(())
}

fn report(load_time: Duration, generations: &[Generation], timings: &Timings, prompt_tokens: usize, guesses: bool) {
    let reasons: Vec<&str> = generations.iter().map(|g| g.finish_reason.name()).collect();
    let guessed = timings.speculated;
    let guesses = match guesses {
        true => format!("; {} of {} guesses right in {} steps", guessed.accepted, guessed.drafted, guessed.rounds),
        false => String::new(),
    };
    eprintln!(
        "loaded in {:.2} s; {prompt_tokens} prompt tokens in {:.2} s ({:.1}/s); {} tokens generated ({:.1}/s){guesses}; {}",
        load_time.as_secs_f64(),
        timings.prefill.as_secs_f64(),
        timings.prefill_tokens_per_s(),
        generations.iter().map(|g| g.tokens.len()).sum::<usize>(),
        timings.decode_tokens_per_s(),
        reasons.join(", "),
    );
}
