//! What the plugin interface costs: decoding on the reference backend linked in, behind its own table of functions, and
//! loaded from its library, by turns.
//!
//! `bench/results/2026-11-24-plugin-boundary.md` has the commands and the figures.

#![allow(clippy::print_stdout, reason = "a program whose result is a table")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use camelid_core::backend::Options;
use camelid_engine::{LoadOptions, Model, Outputs, SequenceInput, Session, SessionOptions};
use camelid_host::{PluginSpec, Registry};
use camelid_weights::Checkpoint;

use camelid_reference as _;

/// Tokens of the prompt, and decoded in each turn.
const PROMPT: usize = 16;
const TOKENS: usize = 32;
const ROUNDS: usize = 15;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, plugin] = &arguments[..] else { return Err("usage: boundary MODEL PLUGIN".into()) };

    let mut loopback = Registry::new();
    loopback.register(Box::new(camelid_sdk::loopback(Box::new(camelid_reference::ReferenceBackend))?))?;
    let mut loaded = Registry::new();
    loaded.add_plugin(PluginSpec { name: None, path: std::path::absolute(plugin)?, sha256: None })?;
    let ways = [("linked", Registry::linked()?), ("loopback", loopback), ("plugin", loaded)];
    let mut sessions = Vec::new();
    for (name, registry) in &ways {
        sessions.push((name, open(model, registry)?, Vec::new()));
    }
    for round in 0..ROUNDS {
        // Another one begins in each round, so that none always follows the same.
        for i in 0..sessions.len() {
            let n = sessions.len();
            let (_, session, times) = &mut sessions[(i + round) % n];
            let seconds = decode(session)?;
            if round > 0 {
                times.push(seconds / TOKENS as f64);
            }
        }
    }
    let medians: Vec<f64> = sessions.iter_mut().map(|(_, _, times)| median(times)).collect();
    println!("{:<10} {:>12} {:>12} {:>8}", "way", "ms/token", "tokens/s", "ratio");
    for ((name, _, _), seconds) in sessions.iter().zip(&medians) {
        println!("{name:<10} {:>12.4} {:>12.2} {:>8.4}", seconds * 1e3, 1.0 / seconds, seconds / medians[0]);
    }
    Ok(())
}

fn open(path: &Path, registry: &Registry) -> Result<Session, Box<dyn Error>> {
    let mut options = Options::default();
    options.set("threads", "1");
    let device = registry.open("reference", 0, &options)?;
    let checkpoint = Checkpoint::open(path)?;
    let model = Model::load(&checkpoint, None, device, LoadOptions::default(), &mut |_, _| {})?;
    let context_size = Some(PROMPT + TOKENS);
    Ok(Session::new(Arc::new(model), &SessionOptions { context_size, ..SessionOptions::default() })?)
}

/// Seconds that decoding takes after the prompt.
fn decode(session: &mut Session) -> Result<f64, Box<dyn Error>> {
    session.reset();
    let sequence = session.create()?;
    let prompt: Vec<u32> = (1..=PROMPT as u32).collect();
    session.step(&[SequenceInput { sequence, tokens: &prompt, positions: None, outputs: Outputs::Last }])?;
    let start = Instant::now();
    for token in 0..TOKENS as u32 {
        session.step(&[SequenceInput { sequence, tokens: &[token], positions: None, outputs: Outputs::Last }])?;
    }
    Ok(start.elapsed().as_secs_f64())
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
