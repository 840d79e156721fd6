//! Chat templates: a conversation, written out as the text that a chat model was trained on.
//!
//! A template is Jinja with what transformers adds to it (`apply_chat_template`, `utils/chat_template_utils.py`): blocks
//! trimmed, loop controls, Python's string methods, `raise_exception`, `strftime_now`, a `tojson` that writes what
//! Python's `json.dumps` does, and `{% generation %}` blocks, which mark what a model is trained on and render as their
//! content.
//!
//! A template is part of a downloaded model and may do anything a template can, so its steps, its output, its recursion
//! and the stack it may need are bounded. One gap is left: minijinja 3.1 does not count the list that `+` makes of two
//! long lists after more than 32 additions, so a template made to do so can still use up memory.

mod python;

use std::error::Error as _;
use std::io::{self, Write};

use jiff::civil::DateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value as JinjaValue};
use serde_json::{Map, Value};
use thiserror::Error as ThisError;

const NAME: &str = "chat_template";

/// Steps that any template may take, those for each message on top, and the most for any input. A step is an
/// instruction, or 64 bytes of data made.
const BASE_STEPS: u64 = 500_000;
const STEPS_PER_MESSAGE: u64 = 1_000;
const MAX_STEPS: u64 = 4_000_000;
/// One and a half steps put a list into a list, and whatever walks such a value, even to free it, calls itself for each
/// level with less than 420 bytes of stack. So templates run on a stack of their own, of which only what is used counts.
const STACK_PER_STEP: u64 = 300;
const BASE_STACK: u64 = 16 << 20;
/// Bytes that any template may write, and how often it may write all that it was given.
const BASE_OUTPUT: usize = 4 << 20;
const OUTPUT_PER_INPUT: usize = 8;
/// Calls within calls. The library counts a macro as several.
const RECURSION_LIMIT: usize = 200;

/// Stands at the end of the message to continue while the template runs, to find that place in the result.
const CONTINUE_MARK: &str = "CAMELID_CONTINUES_HERE ";

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
}

/// What a template gets beside the messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RenderOptions {
    /// End with the header of an assistant's message, so that the model answers.
    pub add_generation_prompt: bool,
    /// Leave the last message open, so that the model goes on with it.
    pub continue_final_message: bool,
    /// `bos_token`, as text; undefined in the template if `None`.
    pub bos_token: Option<String>,
    /// `eos_token`, as text; undefined in the template if `None`.
    pub eos_token: Option<String>,
    /// `tools`: JSON schemas of functions; `none` in the template if `None`.
    pub tools: Option<Vec<Value>>,
    /// `documents` to answer from; `none` in the template if `None`.
    pub documents: Option<Vec<Value>>,
    /// Further variables.
    pub extra: Map<String, Value>,
    /// The time that `strftime_now` tells; the local time of the machine if `None`.
    pub now: Option<DateTime>,
}

/// Why a conversation could not be written out.
#[derive(Debug, ThisError)]
pub enum TemplateError {
    /// The template is not valid Jinja.
    #[error("chat template, line {line}: {message}")]
    Syntax {
        /// Line of the template, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The template refuses the conversation with `raise_exception`.
    #[error("the chat template refuses the messages (line {line}): {message}")]
    Raised {
        /// Line of the template, from 1.
        line: usize,
        /// The template's words.
        message: String,
    },
    /// The template failed on the conversation.
    #[error("chat template, line {line}: {message}")]
    Render {
        /// Line of the template, from 1.
        line: usize,
        /// What failed.
        message: String,
    },
    /// The template takes too many steps or makes too much data.
    #[error(
        "chat template, line {line}: stopped after {steps} steps; it loops without end or is far too slow for this input"
    )]
    TooManySteps {
        /// Line of the template, from 1.
        line: usize,
        /// The steps it had.
        steps: u64,
    },
    /// The template writes too much.
    #[error("the chat template writes more than {limit} bytes for {input} bytes of input")]
    TooLong {
        /// The most it may write.
        limit: usize,
        /// Size of messages, tools and other variables.
        input: usize,
    },
    /// A message, or an option, that no template can use.
    #[error("{field}: {found}")]
    Input {
        /// Which.
        field: String,
        /// What is wrong with it, and the remedy.
        found: String,
    },
    /// There is no template of this name.
    #[error("there is no chat template {name:?}; the model has {known:?}")]
    NoSuchTemplate {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
}

impl ChatTemplate {
    /// Compiles the Jinja source of a template.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] with the line.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| TemplateError::Syntax { line: 1, message: words(&e) })?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_recursion_limit(RECURSION_LIMIT);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", python::tojson);
        // Both write nested values with an indent that grows without being counted.
        environment.remove_filter("pprint");
        environment.remove_global("debug");
        environment.add_function("raise_exception", raise_exception);
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|e| TemplateError::Syntax { line: e.line().unwrap_or(1), message: words(&e) })?;
        Ok(ChatTemplate { environment })
    }

    /// Writes `messages` out. Each is an object with a `role` and, as a rule, a `content` that is a string or a list of
    /// parts; further fields (`tool_calls`, ...) reach the template as they are.
    ///
    /// The text holds the special tokens already: it is to be encoded with `parse_special` and without
    /// `add_special_tokens`.
    ///
    /// # Errors
    /// What the template refuses or gets wrong, with its line; input that no template can use; and templates without end.
    pub fn render(&self, messages: &[Value], options: &RenderOptions) -> Result<String, TemplateError> {
        check_messages(messages)?;
        if !options.continue_final_message {
            return self.write(messages, options);
        }
        if options.add_generation_prompt {
            return Err(input(
                "continue_final_message",
                "cannot go with add_generation_prompt, which opens a new message",
            ));
        }
        let mut messages = messages.to_vec();
        let last = mark_last(&mut messages)?;
        let text = self.write(&messages, options)?;
        up_to_mark(&text, &last)
    }

    fn write(&self, messages: &[Value], options: &RenderOptions) -> Result<String, TemplateError> {
        let context = context(messages, options)?;
        let size = size_of(&context);
        let steps = (BASE_STEPS + STEPS_PER_MESSAGE * messages.len() as u64 + size as u64 / 4).min(MAX_STEPS);
        let limit = BASE_OUTPUT + OUTPUT_PER_INPUT * size;

        let mut environment = self.environment.clone();
        environment.set_fuel(Some(steps));
        let now = options.now;
        environment.add_function("strftime_now", move |format: &str| {
            python::strftime(format, now.unwrap_or_else(|| jiff::Zoned::now().datetime()))
        });
        let run = move || {
            let mut output = Bounded { text: Vec::new(), limit, exceeded: false };
            let written = environment
                .get_template(NAME)
                .and_then(|template| template.render_captured_to(Serde(&context), &mut output).map(drop));
            match written {
                Err(_) if output.exceeded => Err(TemplateError::TooLong { limit, input: size }),
                Err(e) => Err(render_error(&e, steps)),
                Ok(()) => String::from_utf8(output.text).map_err(|e| failed(e.to_string())),
            }
        };
        let stack = usize::try_from(BASE_STACK + STACK_PER_STEP * steps).unwrap_or(usize::MAX);
        std::thread::Builder::new()
            .name(NAME.to_owned())
            .stack_size(stack)
            .spawn(run)
            .map_err(|e| failed(format!("cannot start a thread with {stack} bytes of stack: {e}")))?
            .join()
            .unwrap_or_else(|_| Err(failed("the template engine failed".to_owned())))
    }
}

fn failed(message: String) -> TemplateError {
    TemplateError::Render { line: 1, message }
}

/// `{% generation %}` and its end, made into a block that is always rendered: the library does not know the tag.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open);
        out.push_str(before);
        let Some(close) = tag.find("%}") else { break };
        let (inner, after) = (&tag[2..close], &tag[close + 2..]);
        // White space control stays: it is part of the block.
        let word = inner.trim_matches(['-', '+']).trim();
        let block = match word {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => {
                out.push_str("{%");
                rest = &tag[2..];
                continue;
            }
        };
        out.push_str("{%");
        out.push_str(&inner.replacen(word, &format!(" {block} "), 1));
        out.push_str("%}");
        rest = after;
    }
    out.push_str(rest);
    out
}

fn check_messages(messages: &[Value]) -> Result<(), TemplateError> {
    for (index, message) in messages.iter().enumerate() {
        let field = format!("messages[{index}]");
        match message {
            Value::Object(message) if message.contains_key("role") => {}
            Value::Object(_) => return Err(input(field, "it has no `role`")),
            _ => return Err(input(field, "it has to be an object with `role` and `content`")),
        }
    }
    Ok(())
}

fn context(messages: &[Value], options: &RenderOptions) -> Result<Map<String, Value>, TemplateError> {
    let list = |values: &Option<Vec<Value>>| values.clone().map_or(Value::Null, Value::Array);
    let mut context = Map::new();
    for (name, token) in [("bos_token", &options.bos_token), ("eos_token", &options.eos_token)] {
        if let Some(token) = token {
            context.insert(name.to_owned(), token.clone().into());
        }
    }
    for (name, value) in &options.extra {
        if ["messages", "tools", "documents", "add_generation_prompt"].contains(&name.as_str()) {
            return Err(input(format!("extra.{name}"), "this variable has an option of its own"));
        }
        context.insert(name.clone(), value.clone());
    }
    context.insert("messages".to_owned(), messages.to_vec().into());
    context.insert("tools".to_owned(), list(&options.tools));
    context.insert("documents".to_owned(), list(&options.documents));
    context.insert("add_generation_prompt".to_owned(), options.add_generation_prompt.into());
    Ok(context)
}

/// Marks the end of the last message, and gives its text without the mark.
fn mark_last(messages: &mut [Value]) -> Result<String, TemplateError> {
    let nothing = || input("continue_final_message", "the last message has no text to go on with");
    let content = messages.last_mut().and_then(|message| message.get_mut("content")).ok_or_else(nothing)?;
    let text = match content {
        Value::Array(parts) => parts.iter_mut().rev().find_map(|part| part.get_mut("text")).ok_or_else(nothing)?,
        content => content,
    };
    let Value::String(text) = text else { return Err(nothing()) };
    let unmarked = text.clone();
    text.push_str(CONTINUE_MARK);
    Ok(unmarked)
}

/// The text before the mark. A template that trims its messages takes the mark's space too, and what it would have
/// trimmed goes then.
fn up_to_mark(text: &str, last: &str) -> Result<String, TemplateError> {
    let mark = CONTINUE_MARK.trim_end();
    match text.rfind(mark) {
        Some(at) if text.contains(last.trim()) => {
            let before = &text[..at];
            let kept = text[at..].starts_with(CONTINUE_MARK);
            Ok(if kept { before } else { before.trim_end() }.to_owned())
        }
        _ => Err(input(
            "continue_final_message",
            "the template leaves the last message out or changes it, so that it cannot be continued",
        )),
    }
}

/// How much a template was given, in bytes of JSON.
fn size_of(context: &Map<String, Value>) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail, and JSON values can always be written.
    let _ = serde_json::to_writer(&mut count, context);
    count.0
}

/// Output that ends at a limit.
struct Bounded {
    text: Vec<u8>,
    limit: usize,
    exceeded: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.limit {
            self.exceeded = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a template said with `raise_exception`.
#[derive(Debug, ThisError)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: String) -> Result<JinjaValue, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

/// The outermost line is the one in the template's own flow; macros it calls come below.
fn render_error(error: &Error, steps: u64) -> TemplateError {
    let line = error.line().unwrap_or(1);
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = cause {
        if let Some(Raised(message)) = e.downcast_ref() {
            return TemplateError::Raised { line, message: message.clone() };
        }
        if e.downcast_ref::<Error>().is_some_and(|e| e.kind() == ErrorKind::OutOfFuel) {
            return TemplateError::TooManySteps { line, steps };
        }
        cause = e.source();
    }
    TemplateError::Render { line, message: words(error) }
}

/// The message of an error and of what caused it, without the library's own "(in template:line)".
fn words(error: &Error) -> String {
    let mut words = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    let mut cause = error.source();
    while let Some(e) = cause {
        words.push_str(&format!(": {e}"));
        cause = e.source();
    }
    words
}

fn input(field: impl Into<String>, found: impl Into<String>) -> TemplateError {
    TemplateError::Input { field: field.into(), found: found.into() }
}
