//! `camelid generate`: continue a text, or answer a prompt.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use camelid_core::tokenizer::{EncodeOptions, TokenId, Tokenizer};
use camelid_engine::{Generation, Model, Request, Session, Timings, generate};
use clap::Args;
use serde_json::json;

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

        let max_new_tokens = setup.max_new_tokens(&model);
        let needed = tokens.len().saturating_add(max_new_tokens);
        let mut session = Session::new(model.clone(), &setup.session_options(&model, Some(needed)))?;
        let load_time = start.elapsed();
        let sampling = setup.sampling(&model);
        let seed = sampling.seed;
        let request = Request {
            sequence: session.create()?,
            new_tokens: tokens.len(),
            history: tokens.clone(),
            sampling,
            max_new_tokens,
            stop: setup.stop(&model),
            eos: model.eos_token_ids(),
            logprobs: None,
        };
        let (generation, timings) = stream(&mut session, &model, request, !self.json)?;
        if self.json {
            print_json(&setup, &model, &tokens, seed, load_time, &generation, &timings)?;
        } else {
            outln!();
            report(load_time, &generation, &timings, tokens.len());
        }
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
    model: &Arc<Model>,
    request: Request,
    print: bool,
) -> Result<(Generation, Timings), Error> {
    let cancel = session.cancel_token();
    cancel.clear();
    interrupt::cancels(cancel.clone());
    let mut out = std::io::stdout().lock();
    let mut broken = None;
    let (mut generations, timings) = generate(session, model.tokenizer()?, vec![request], &cancel, &mut |event| {
        if print
            && !event.text.is_empty()
            && let Err(error) = out.write_all(event.text.as_bytes()).and_then(|()| out.flush())
        {
            // Nobody reads any more: there is no use in going on.
            broken.get_or_insert(error);
            cancel.cancel();
        }
    })?;
    match broken {
        Some(error) => Err(error.into()),
        None => Ok((generations.remove(0), timings)),
    }
}

fn print_json(
    setup: &Setup,
    model: &Model,
    prompt_tokens: &[TokenId],
    seed: u64,
    load_time: Duration,
    generation: &Generation,
    timings: &Timings,
) -> Result<(), Error> {
    let object = json!({
        "model": model.path().display().to_string(),
        "backend": setup.backend,
        "prompt_tokens": prompt_tokens,
        "tokens": generation.tokens,
        "text": generation.text,
        "finish_reason": generation.finish_reason.name(),
        "seed": seed,
        "timings": {
            "load_s": load_time.as_secs_f64(),
            "prefill_s": timings.prefill.as_secs_f64(),
            "prefill_tokens_per_s": timings.prefill_tokens_per_s(),
            "decode_tokens_per_s": timings.decode_tokens_per_s(),
        },
    });
    outln!("{}", serde_json::to_string_pretty(&object)?);
    Ok(())
}

fn report(load_time: Duration, generation: &Generation, timings: &Timings, prompt_tokens: usize) {
    eprintln!(
        "loaded in {:.2} s; {prompt_tokens} prompt tokens in {:.2} s ({:.1}/s); {} tokens generated ({:.1}/s); {}",
        load_time.as_secs_f64(),
        timings.prefill.as_secs_f64(),
        timings.prefill_tokens_per_s(),
        generation.tokens.len(),
        timings.decode_tokens_per_s(),
        generation.finish_reason.name(),
    );
}
