//! `camelid config`: is the configuration right, and what does it come to.

use std::path::PathBuf;

use camelid_host::{Config, Registry};
use clap::{Args, Subcommand};

use crate::Error;
use crate::setup::load_config;

/// Check or show the configuration
#[derive(Args, Debug)]
pub struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Report the first error, or that there is none
    Check(File),
    /// Print every setting and where it comes from
    Show(File),
}

#[derive(Args, Debug)]
struct File {
    /// Configuration file to read over ./camelid.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigCommand {
    pub fn run(self) -> Result<(), Error> {
        let (Action::Check(file) | Action::Show(file)) = &self.action;
        let loaded = load_config(file.config.as_deref(), Config::default())?;
        loaded.check_backends(&Registry::configured(&loaded.config)?.names())?;
        match self.action {
            Action::Check(_) => outln!("the configuration is right: {} settings", loaded.settings().len()),
            Action::Show(_) => {
                for setting in loaded.settings() {
                    outln!("{} = {}  # from {}", setting.key, setting.value, setting.origin);
                }
            }
        }
        Ok(())
    }
}
