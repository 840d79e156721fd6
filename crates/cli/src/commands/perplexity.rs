//! `camelid perplexity`: how well a model predicts a text, and how far it is from another.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use camelid_core::tokenizer::{EncodeOptions, TokenId, Tokenizer};
use camelid_engine::perplexity::{Comparison, Estimate, Perplexity, Spread, Windows, compare, perplexity};
use camelid_engine::{Model, Session};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::Error;
use crate::interrupt;
use crate::options::RunFlags;
use crate::setup::Setup;

/// Measure how well a model predicts a text
///
/// Reads the text in windows as the page "Perplexity of fixed-length models" of the transformers documentation does: of
/// each window only the tokens that no window before it held are counted. The tokenizer adds its special tokens once, to
/// the whole text, so a model with a beginning-of-sequence token sees it in the first window alone.
#[derive(Args, Debug)]
pub struct PerplexityCommand {
    #[command(flatten)]
    pub run: RunFlags,
    /// Text in UTF-8; `-` reads standard input
    #[arg(long, value_name = "TEXT")]
    pub file: PathBuf,
    /// Tokens in a window [default: --context-size, else what the model was made for]
    #[arg(long, value_name = "N")]
    pub context: Option<usize>,
    /// Tokens from the beginning of one window to that of the next [default: 512, at most the context]
    #[arg(long, value_name = "N")]
    pub stride: Option<usize>,
    /// Model to compare the predictions with: KL divergence and how often the likeliest token is the same
    #[arg(long, value_name = "BASE")]
    pub against: Option<PathBuf>,
    /// Backend to compare the predictions with, on the model of --against, or on the same one if that is not given
    #[arg(long, value_name = "NAME")]
    pub against_backend: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The stride of the page.
const STRIDE: usize = 512;

/// The model that another is compared with.
pub enum Base<'a> {
    Bundled,
    At(&'a Path),
    /// That other itself: on another backend.
    Same,
}

/// What was measured.
enum Outcome {
    One(Perplexity),
    Two(Box<Against>),
}

/// What another model or backend said.
struct Against {
    /// The model's path.
    model: PathBuf,
    backend: String,
    comparison: Comparison,
}

/// What was measured, and how.
struct Measured {
    setup: Setup,
    model: Arc<Model>,
    windows: Windows,
    outcome: Outcome,
    /// Tokens a second.
    speed: f64,
}

impl PerplexityCommand {
    pub fn run(self) -> Result<(), Error> {
        let base = match (&self.against, &self.against_backend) {
            (Some(path), _) => Some(Base::At(path)),
            (None, Some(_)) => Some(Base::Same),
            (None, None) => None,
        };
        let measured = self.measure(base)?;
        let Measured { windows, speed, .. } = measured;
        if self.json {
            outln!("{}", serde_json::to_string_pretty(&self.result(&measured))?);
            return Ok(());
        }
        match &measured.outcome {
            Outcome::One(p) => print_perplexity(p, windows)?,
            Outcome::Two(against) => {
                print_perplexity(&against.comparison.model, windows)?;
                print_comparison(against)?;
            }
        }
        outln!("{speed:.1} tokens/s");
        Ok(())
    }

    /// How far the model is from `base`: printed, or as JSON, for another command.
    pub fn comparison(&self, base: Base<'_>) -> Result<Option<Value>, Error> {
        let measured = self.measure(Some(base))?;
        let Outcome::Two(against) = &measured.outcome else { return Ok(None) };
        if !self.json {
            print_perplexity(&against.comparison.model, measured.windows)?;
            print_comparison(against)?;
        }
        Ok(Some(comparison_json(against)))
    }

    fn measure(&self, against: Option<Base<'_>>) -> Result<Measured, Error> {
        let setup = Setup::new(&self.run, self.run.overrides())?;
        let text = read_text(&self.file)?;
        let model = setup.model()?;
        let tokens = encode(&model, &text)?;
        let windows = self.windows(&setup, &model, tokens.len())?;
        let mut session = self.session(&setup, &model, windows, tokens.len())?;
        interrupt::cancels(session.cancel_token());
        let bar = bar();
        let start = Instant::now();
        let mut computed = 0;
        let mut progress = |done: usize, all: usize, so_far: usize| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
            bar.set_message(format!("{:.0} tokens/s", so_far as f64 / start.elapsed().as_secs_f64()));
            computed = so_far;
        };
        let outcome = match &against {
            None => Outcome::One(perplexity(&mut session, &tokens, windows, &mut progress)?),
            Some(against) => {
                let (base, path, backend) = self.base(against)?;
                if let Ok(other) = encode(&base, &text)
                    && other != tokens
                {
                    return Err(format!(
                        "{}: its tokenizer divides the text otherwise than that of {}: predictions of different tokens \
                         cannot be compared",
                        path.display(),
                        model.path().display()
                    )
                    .into());
                }
                let mut base = self.session(&setup, &base, windows, tokens.len())?;
                let comparison = compare(&mut session, &mut base, &tokens, windows, &mut progress)?;
                Outcome::Two(Box::new(Against { model: path, backend, comparison }))
            }
        };
        bar.finish_and_clear();
        let speed = computed as f64 / start.elapsed().as_secs_f64();
        Ok(Measured { setup, model, windows, outcome, speed })
    }

    fn windows(&self, setup: &Setup, model: &Model, tokens: usize) -> Result<Windows, Error> {
        let configured = setup.config.engine.context_size;
        let context = self.context.or(configured).unwrap_or(model.config().max_position_embeddings);
        let windows = Windows { context, stride: self.stride.unwrap_or(STRIDE.min(context)) };
        // Before there is a session, so that what makes no sense costs nothing.
        windows.over(tokens)?;
        if context > model.config().max_position_embeddings && tokens > model.config().max_position_embeddings {
            tracing::warn!(
                "windows of {context} tokens are longer than the {} that the model was made for",
                model.config().max_position_embeddings
            );
        }
        Ok(windows)
    }

    /// A session with room for a window.
    fn session(&self, setup: &Setup, model: &Arc<Model>, windows: Windows, tokens: usize) -> Result<Session, Error> {
        let mut options = setup.session_options(model, None);
        options.context_size = Some(windows.context.min(tokens));
        options.max_sequences = 1;
        Ok(Session::new(model.clone(), &options)?)
    }

    /// The model to compare with, its path, and the backend it is on: the same if no other is asked for.
    fn base(&self, base: &Base<'_>) -> Result<(Arc<Model>, PathBuf, String), Error> {
        let mut flags = self.run.clone();
        if self.against_backend.is_some() {
            flags.backend.clone_from(&self.against_backend);
        }
        let setup = Setup::new(&flags, flags.overrides())?;
        let path = match base {
            Base::Bundled => None,
            Base::At(path) => Some(*path),
            Base::Same => setup.config.model.as_deref(),
        };
        let shown = path.unwrap_or(Path::new("(bundled)")).to_owned();
        Ok((setup.model_at(path)?, shown, setup.backend))
    }

    fn result(&self, measured: &Measured) -> Value {
        let Measured { setup, model, windows, outcome, speed } = measured;
        let own = match outcome {
            Outcome::One(p) => p,
            Outcome::Two(against) => &against.comparison.model,
        };
        let mut result = json!({
            "model": model.path().display().to_string(),
            "backend": setup.backend,
            "file": self.file.display().to_string(),
            "context": windows.context,
            "stride": windows.stride,
            "tokens_per_s": speed,
        });
        if let (Some(result), Value::Object(own)) = (result.as_object_mut(), perplexity_json(own)) {
            result.extend(own);
            if let Outcome::Two(against) = outcome {
                result.insert("against".into(), comparison_json(against));
            }
        }
        result
    }
}

/// All of a file's text.
fn read_text(path: &Path) -> Result<String, Error> {
    let wrong = |what: String| -> Error { format!("{}: {what}", path.display()).into() };
    if path == Path::new("-") {
        return super::text_or_stdin("-".into()).and_then(|text| nonempty(text, &wrong));
    }
    let bytes = std::fs::read(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        wrong(format!("is not UTF-8 text: byte {at} is wrong; convert it first"))
    })?;
    nonempty(text, &wrong)
}

fn nonempty(text: String, wrong: &dyn Fn(String) -> Error) -> Result<String, Error> {
    if text.is_empty() { Err(wrong("is empty: there is nothing to predict".into())) } else { Ok(text) }
}

/// The text's tokens, with the special ones that the tokenizer adds.
fn encode(model: &Model, text: &str) -> Result<Vec<TokenId>, Error> {
    Ok(model.tokenizer()?.encode(text, EncodeOptions::default())?.ids)
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} windows {eta} {msg}");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn perplexity_json(p: &Perplexity) -> Value {
    let per_token = p.per_token();
    json!({
        "tokens": p.tokens,
        "windows": p.windows,
        "scored_tokens": p.scored,
        "perplexity": p.value(),
        "nll": p.nll,
        "token_perplexity": per_token.mean,
        "token_perplexity_error": per_token.error,
        "token_nll": p.token_nll.mean,
        "token_nll_error": p.token_nll.error,
    })
}

fn comparison_json(Against { model, backend, comparison: c }: &Against) -> Value {
    let estimate = |e: &Estimate| json!({"value": e.mean, "error": e.error});
    let spread = |s: &Spread| {
        json!({"mean": s.mean.mean, "error": s.mean.error, "min": s.min, "median": s.median, "p90": s.p90, "p95": s.p95,
               "p99": s.p99, "p99.9": s.p999, "max": s.max})
    };
    let mut result = json!({
        "model": model.display().to_string(),
        "backend": backend,
        "kl": spread(&c.kl),
        "same_top": estimate(&c.same_top),
        "delta_p": spread(&c.delta_p),
        "delta_p_rms": estimate(&c.delta_p_rms),
        "ln_ppl_ratio": estimate(&c.ln_ratio),
        "ppl_ratio": estimate(&c.ratio),
        "ppl_difference": estimate(&c.difference),
        "ppl_relative_difference": estimate(&c.relative),
        "correlation": c.correlation,
    });
    if let (Some(result), Value::Object(base)) = (result.as_object_mut(), perplexity_json(&c.base)) {
        result.extend(base);
    }
    result
}

fn print_perplexity(p: &Perplexity, windows: Windows) -> Result<(), Error> {
    let Windows { context, stride } = windows;
    let per_token = p.per_token();
    outln!("{} tokens in {} windows of {context}, stride {stride}; {} predicted", p.tokens, p.windows, p.scored);
    outln!("perplexity          {:.6} (windows weighed as in the transformers documentation)", p.value());
    outln!("  mean of tokens    {:.6} ± {:.6}", per_token.mean, per_token.error);
    Ok(())
}

fn print_comparison(Against { model, backend, comparison: c }: &Against) -> Result<(), Error> {
    let line = |e: &Estimate, scale: f64| format!("{:.6} ± {:.6}", e.mean * scale, e.error * scale);
    let base = c.base.per_token();
    outln!("base                {} on {backend}", model.display());
    outln!("base perplexity     {:.6}", c.base.value());
    outln!("  mean of tokens    {}", line(&base, 1.0));
    outln!("PPL / base          {}", line(&c.ratio, 1.0));
    outln!("ln(PPL / base)      {}", line(&c.ln_ratio, 1.0));
    outln!("PPL - base          {}", line(&c.difference, 1.0));
    outln!("|PPL - base| / base {} %", line(&c.relative, 100.0));
    outln!("correlation         {:.2} %", c.correlation * 100.0);
    outln!("KL(base || model), nats a token");
    outln!("  mean              {}", line(&c.kl.mean, 1.0));
    for (name, value) in [("median", c.kl.median), ("90 %", c.kl.p90), ("99 %", c.kl.p99), ("max", c.kl.max)] {
        outln!("  {name:<17} {value:.6}");
    }
    outln!("same top token      {} %", line(&c.same_top, 100.0));
    outln!("delta p, mean       {} %", line(&c.delta_p.mean, 100.0));
    outln!("delta p, rms        {} %", line(&c.delta_p_rms, 100.0));
    Ok(())
}
