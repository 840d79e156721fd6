//! `camelid bench`: how fast a model runs here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use camelid_core::cache::SequenceId;
use camelid_core::tokenizer::TokenId;
use camelid_engine::{Model, Outputs, SequenceInput, Session, SessionOptions};
use clap::Args;
use serde_json::{Value, json};

use crate::Error;
use crate::options::RunFlags;
use crate::setup::Setup;

/// Measure prefill and decode speed
///
/// Prefill is of one sequence. Decode steps take one token of each of --sequences, and its tokens per second are those of
/// all sequences together.
#[derive(Args, Debug)]
pub struct Bench {
    #[command(flatten)]
    run: RunFlags,
    /// Tokens of the prompt whose prefill is timed
    #[arg(long, value_name = "N", default_value_t = 512)]
    prompt_tokens: usize,
    /// Tokens of each sequence whose decoding is timed, one a step
    #[arg(long, value_name = "N", default_value_t = 128)]
    gen_tokens: usize,
    /// Sequences decoded together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    sequences: u32,
    /// Tokens already in the context when the timing starts
    #[arg(long, value_name = "N", default_value_t = 0)]
    depth: usize,
    /// Measurements; the median is reported
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub fn run(self) -> Result<(), Error> {
        let setup = Setup::new(&self.run, self.run.overrides())?;
        let start = Instant::now();
        let model = setup.model()?;
        let needed = self.depth.saturating_add(self.prompt_tokens.max(self.gen_tokens));
        let mut options = setup.session_options(&model, Some(needed));
        options.max_sequences = options.max_sequences.max(self.sequences as usize);
        if needed > options.context_size.unwrap_or(needed) {
            let most = options.context_size.unwrap_or(needed);
            return Err(
                format!("depth and tokens need a context of {needed}, but it is {most}; see --context-size").into()
            );
        }
        let mut session = Session::new(model.clone(), &options)?;
        let load_time = start.elapsed();
        let (mut prefill, mut decode) = (Vec::new(), Vec::new());
        // One round that is not counted warms caches and pages.
        for round in 0..=self.repetitions {
            let rates = self.round(&mut session, &model)?;
            if round > 0 {
                prefill.extend(rates.0);
                decode.extend(rates.1);
            }
        }
        let result = self.result(&setup, &model, &options, load_time, &prefill, &decode);
        if self.json {
            outln!("{}", serde_json::to_string_pretty(&result)?);
        } else {
            outln!("{} on {}", model.path().display(), setup.backend);
            outln!("prefill {:>6} tokens: {}", self.prompt_tokens, Spread::of(&prefill));
            let together = match self.sequences {
                1 => String::new(),
                n => format!(", {n} sequences together"),
            };
            outln!("decode  {:>6} tokens: {}{together}", self.gen_tokens, Spread::of(&decode));
        }
        Ok(())
    }

    /// Tokens a second of one prefill and of one run of decode steps; `None` where nothing was asked for.
    fn round(&self, session: &mut Session, model: &Arc<Model>) -> Result<(Option<f64>, Option<f64>), Error> {
        let vocab_size = model.config().vocab_size;
        let prefill = match self.prompt_tokens {
            0 => None,
            n => {
                session.reset();
                let sequence = self.at_depth(session, 0, vocab_size)?;
                let tokens = tokens(n, self.depth, vocab_size);
                let start = Instant::now();
                session.step(&[SequenceInput {
                    sequence,
                    tokens: &tokens,
                    positions: None,
                    outputs: Outputs::Last,
                }])?;
                Some(n as f64 / start.elapsed().as_secs_f64())
            }
        };
        let decode = match self.gen_tokens {
            0 => None,
            n => {
                session.reset();
                let sequences = (0..self.sequences as usize).map(|s| self.at_depth(session, s, vocab_size));
                let sequences = sequences.collect::<Result<Vec<_>, _>>()?;
                let texts: Vec<_> = (0..sequences.len()).map(|s| tokens(n, self.depth + s, vocab_size)).collect();
                let start = Instant::now();
                for i in 0..n {
                    let inputs: Vec<_> = sequences
                        .iter()
                        .zip(&texts)
                        .map(|(sequence, text)| SequenceInput {
                            sequence: *sequence,
                            tokens: &text[i..=i],
                            positions: None,
                            outputs: Outputs::Last,
                        })
                        .collect();
                    session.step(&inputs)?;
                }
                Some((n * sequences.len()) as f64 / start.elapsed().as_secs_f64())
            }
        };
        Ok((prefill, decode))
    }

    /// A new sequence of `--depth` tokens; those of each `shift` differ.
    fn at_depth(&self, session: &mut Session, shift: usize, vocab_size: usize) -> Result<SequenceId, Error> {
        let sequence = session.create()?;
        if self.depth > 0 {
            let tokens = tokens(self.depth, shift, vocab_size);
            session.step(&[SequenceInput { sequence, tokens: &tokens, positions: None, outputs: Outputs::None }])?;
        }
        Ok(sequence)
    }

    fn result(
        &self,
        setup: &Setup,
        model: &Model,
        options: &SessionOptions,
        load_time: Duration,
        prefill: &[f64],
        decode: &[f64],
    ) -> Value {
        let (p, d) = (Spread::of(prefill), Spread::of(decode));
        let report = model.report();
        json!({
            "model": model.path().display().to_string(),
            "backend": setup.backend,
            "camelid": env!("CARGO_PKG_VERSION"),
            "threads": self.run.threads,
            "prompt_tokens": self.prompt_tokens,
            "gen_tokens": self.gen_tokens,
            "depth": self.depth,
            "sequences": self.sequences,
            "kv_dtype": options.kv_dtype.to_string(),
            "repetitions": self.repetitions,
            "prefill_tokens_per_s": p.median,
            "prefill_spread": {"min": p.min, "max": p.max},
            "decode_tokens_per_s": d.median,
            "decode_spread": {"min": d.min, "max": d.max},
            "load_s": load_time.as_secs_f64(),
            "weight_bytes": {"aliased": report.bytes_aliased, "copied": report.bytes_copied,
                             "repacked": report.bytes_repacked},
            "peak_rss_bytes": peak_rss_bytes(),
        })
    }
}

/// Ids that differ from place to place: speed does not depend on them, but caches may.
fn tokens(count: usize, start: usize, vocab_size: usize) -> Vec<TokenId> {
    (start..start + count).map(|i| ((i * 7919 + 11) % vocab_size) as TokenId).collect()
}

/// Smallest, middle and largest of some measurements; `None` if there are none.
struct Spread {
    min: Option<f64>,
    median: Option<f64>,
    max: Option<f64>,
}

impl Spread {
    fn of(values: &[f64]) -> Spread {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let median = (n > 0).then(|| (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0);
        Spread { min: sorted.first().copied(), median, max: sorted.last().copied() }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.min, self.median, self.max) {
            (Some(min), Some(median), Some(max)) => write!(f, "{median:.1} tokens/s ({min:.1} to {max:.1})"),
            _ => f.write_str("not measured"),
        }
    }
}

/// The most memory this process has held, where the system tells.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!((spread.min, spread.median, spread.max), (Some(1.0), Some(2.5), Some(4.0)));
        assert_eq!(Spread::of(&[]).median, None);
    }
}
