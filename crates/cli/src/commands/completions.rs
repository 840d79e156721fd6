//! `camelid completions`: scripts that complete the command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Error;

/// Print a completion script for a shell
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> Result<(), Error> {
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "camelid", &mut std::io::stdout());
        Ok(())
    }
}
