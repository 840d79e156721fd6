//! The subcommands, one file each.

mod backends;
mod bench;
mod chat;
mod classify;
mod completions;
mod config;
mod conformance;
mod convert;
mod detokenize;
mod doctor;
mod explain;
mod forward;
mod generate;
mod init;
mod inspect;
mod perplexity;
mod plugin;
mod pull;
mod quantize;
mod tokenize;

use std::process::ExitCode;

use clap::Subcommand;

use crate::Error;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Continue a text, or answer a prompt with --chat
    Generate(generate::Generate),
    /// Talk with a chat model
    Chat(chat::Chat),
    /// Classify texts with a LlamaForSequenceClassification checkpoint
    Classify(classify::Classify),
    /// Compute logits, losses, hidden states and attentions from a safetensors file
    Forward(forward::Forward),
    /// Make a model with random weights, as a Hugging Face folder
    Init(init::Init),
    /// Turn text into token ids
    Tokenize(tokenize::Tokenize),
    /// Turn token ids into text
    Detokenize(detokenize::Detokenize),
    /// Get a model from the Hugging Face Hub
    Pull(pull::Pull),
    /// Show what a checkpoint holds
    Inspect(inspect::Inspect),
    /// Convert a checkpoint: Meta's to Hugging Face's, and that to GGUF and back
    Convert(convert::Convert),
    /// Write a checkpoint as a GGUF file of another type
    Quantize(quantize::Quantize),
    /// List the backends and their devices
    Backends(backends::Backends),
    /// Check every backend in a process of its own
    Doctor(doctor::Doctor),
    /// Test a backend against the conformance suite
    Conformance(conformance::Conformance),
    /// Write the beginning of a backend of your own
    Plugin(plugin::PluginCommand),
    /// Check or show the configuration
    Config(config::ConfigCommand),
    /// Show the graph of a model as a backend computes it
    Explain(explain::Explain),
    /// Measure how well a model predicts a text
    Perplexity(perplexity::PerplexityCommand),
    /// Measure prefill and decode speed
    Bench(bench::Bench),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

impl Command {
    /// Does it; what the process then exits with.
    pub fn run(self) -> Result<ExitCode, Error> {
        match self {
            Command::Generate(c) => c.run(),
            Command::Chat(c) => c.run(),
            Command::Classify(c) => c.run(),
            Command::Forward(c) => c.run(),
            Command::Init(c) => c.run(),
            Command::Tokenize(c) => c.run(),
            Command::Detokenize(c) => c.run(),
            Command::Pull(c) => c.run(),
            Command::Inspect(c) => c.run(),
            Command::Convert(c) => c.run(),
            Command::Quantize(c) => c.run(),
            Command::Backends(c) => c.run(),
            Command::Doctor(c) => c.run(),
            Command::Conformance(c) => return c.run(),
            Command::Plugin(c) => c.run(),
            Command::Config(c) => c.run(),
            Command::Explain(c) => c.run(),
            Command::Perplexity(c) => c.run(),
            Command::Bench(c) => c.run(),
            Command::Completions(c) => c.run(),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

/// `text` itself, or all of standard input if it is `-`.
fn text_or_stdin(text: String) -> Result<String, Error> {
    if text != "-" {
        return Ok(text);
    }
    std::io::read_to_string(std::io::stdin()).map_err(|e| format!("standard input cannot be read as text: {e}").into())
}
