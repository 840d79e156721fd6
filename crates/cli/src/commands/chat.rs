//! `camelid chat`: a conversation with its history.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;

use camelid_core::cache::SequenceId;
use camelid_core::tokenizer::TokenId;
use camelid_engine::{DraftModel, Model, Session};
use clap::Args;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::{Value, json};

use super::generate::stream;
use crate::Error;
use crate::options::{RunFlags, SamplingFlags};
use crate::setup::Setup;

/// Talk with a chat model
#[derive(Args, Debug)]
pub struct Chat {
    #[command(flatten)]
    run: RunFlags,
    #[command(flatten)]
    sampling: SamplingFlags,
    /// System message
    #[arg(long, value_name = "S")]
    system: Option<String>,
}

const HELP: &str = "/reset forgets the conversation, /exit or Ctrl-D leaves, Ctrl-C stops an answer";

impl Chat {
    pub fn run(self) -> Result<(), Error> {
        let mut overrides = self.run.overrides();
        self.sampling.add_to(&mut overrides);
        let setup = Setup::new(&self.run, overrides)?;
        let model = setup.model()?;
        // Asked for early: without a template there is no conversation.
        model.encode_chat(&[message("user", "")])?;
        let mut options = setup.session_options(&model, None);
        options.max_sequences = options.max_sequences.max(setup.request(&model, vec![0], 1)?.sequences_needed());
        let session = Session::new(model.clone(), &options)?;
        let mut conversation = Conversation::new(setup, model, session, self.system.as_deref())?;
        let mut input = Input::new()?;
        if let Input::Terminal(_) = input {
            eprintln!("{HELP}");
        }
        while let Some(line) = input.next_line()? {
            match line.trim() {
                "" => {}
                "/exit" | "/quit" => break,
                "/help" => eprintln!("{HELP}"),
                "/reset" => conversation.reset(),
                text => conversation.answer(text)?,
            }
        }
        Ok(())
    }
}

struct Conversation {
    setup: Setup,
    model: Arc<Model>,
    session: Session,
    draft: Option<DraftModel>,
    sequence: SequenceId,
    /// The tokens the cache holds.
    cached: Vec<TokenId>,
    system: Vec<Value>,
    messages: Vec<Value>,
}

impl Conversation {
    fn new(setup: Setup, model: Arc<Model>, mut session: Session, system: Option<&str>) -> Result<Conversation, Error> {
        let sequence = session.create()?;
        let draft = setup.draft(&model, None)?;
        let system: Vec<Value> = system.map(|s| message("system", s)).into_iter().collect();
        let messages = system.clone();
        Ok(Conversation { setup, model, session, draft, sequence, cached: Vec::new(), system, messages })
    }

    fn reset(&mut self) {
        self.messages = self.system.clone();
    }

    /// Adds the user's message and the model's answer. Only what differs from what the cache holds is computed.
    fn answer(&mut self, text: &str) -> Result<(), Error> {
        self.messages.push(message("user", text));
        let history = self.model.encode_chat(&self.messages)?;
        let common = history.iter().zip(&self.cached).take_while(|(a, b)| a == b).count();
        // The last token is computed again if need be: its logits choose the answer's first token.
        let keep = common.min(history.len().saturating_sub(1));
        self.session.truncate(self.sequence, keep)?;
        self.cached.truncate(keep);
        let mut request = self.setup.request(&self.model, history.clone(), history.len() - keep)?;
        request.sequence = self.sequence;
        // A conversation goes on with one answer, the best.
        request.num_return_sequences = 1;
        let (mut generations, _) = stream(&mut self.session, self.draft.as_mut(), &self.model, request, true)?;
        let generation = generations.swap_remove(0);
        outln!();
        self.cached = history;
        self.cached.extend(&generation.tokens);
        self.cached.truncate(self.session.len(self.sequence)?);
        self.messages.push(message("assistant", generation.text.trim()));
        Ok(())
    }
}

/// A message of a conversation.
pub fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

/// Where the user's lines come from.
enum Input {
    Terminal(Box<DefaultEditor>),
    Pipe(std::io::StdinLock<'static>),
}

impl Input {
    fn new() -> Result<Input, Error> {
        if std::io::stdin().is_terminal() {
            return Ok(Input::Terminal(Box::new(DefaultEditor::new()?)));
        }
        Ok(Input::Pipe(std::io::stdin().lock()))
    }

    fn next_line(&mut self) -> Result<Option<String>, Error> {
        match self {
            Input::Terminal(editor) => match editor.readline("> ") {
                Ok(line) => {
                    editor.add_history_entry(&line)?;
                    Ok(Some(line))
                }
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
                Err(error) => Err(error.into()),
            },
            Input::Pipe(stdin) => {
                let mut line = String::new();
                Ok((stdin.read_line(&mut line)? > 0).then_some(line))
            }
        }
    }
}
