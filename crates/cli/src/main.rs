//! The `camelid` command line: arguments in, the engine's functions called, results out.
//!
//! One file a subcommand in `commands/`; [`setup`] turns configuration into a backend, a model and a session. Nothing
//! is computed here: what a library could do belongs in a library. Results go to stdout, everything else to stderr.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a command line is for")]

#[macro_use]
mod output;

mod bundled;
mod commands;
mod decoding;
mod interrupt;
mod options;
mod requests;
mod setup;
mod source;

// The backends this binary brings. Everything else only knows them by name.
use camelid_cpu as _;
use camelid_reference as _;
use clap::Parser;
use std::process::ExitCode;

/// Any error, with its sources.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Run Llama models on any backend.
#[derive(Debug, Parser)]
#[command(name = "camelid", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    init_logging();
    match cli.command.run() {
        Ok(code) => code,
        // A reader such as `head` that has gone away wants no more.
        Err(error) if output::is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&*error);
            ExitCode::FAILURE
        }
    }
}

/// `CAMELID_LOG` takes filters such as `debug` or `camelid_host=trace`; warnings are shown without it.
fn init_logging() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_env_var("CAMELID_LOG")
        .with_default_directive(tracing::Level::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .without_time()
        .init();
}

/// The error and its sources, each on a line; a source that an error's own text already holds is not repeated.
fn report(error: &(dyn std::error::Error + 'static)) {
    let mut said = error.to_string();
    eprintln!("error: {said}");
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !said.contains(&text) {
            eprintln!("  caused by: {text}");
        }
        said = text;
        source = cause.source();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_arguments_are_consistent() {
        <super::Cli as clap::CommandFactory>::command().debug_assert();
    }
}
