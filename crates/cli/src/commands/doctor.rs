//! `camelid doctor`: does each backend work, found out in a process of its own.
//!
//! A plugin that crashes, exits or hangs does so in a child process ([`child`]), which tells each step before it takes
//! it ([`probe`]); the parent, which loads no plugin, says which backend it was, at which step, and how it ended.

mod child;
mod probe;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use camelid_host::{BackendOrigin, Config};
use clap::Args;
use serde_json::{Value, json};

use self::child::{Fault, examine};
use self::probe::Works;
use crate::Error;
use crate::options::PluginFlags;
use crate::setup::load_config;

/// Check every backend in a process of its own
#[derive(Args, Debug)]
pub struct Doctor {
    #[command(flatten)]
    plugins: PluginFlags,
    /// Configuration file to read over ./camelid.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Seconds a backend may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    /// Check this one backend, here
    #[arg(long, value_name = "NAME", hide = true)]
    probe: Option<String>,
}

/// What was found out about a backend.
struct Finding {
    name: String,
    /// How it came into the registry; `None` if it is only asked for.
    origin: Option<BackendOrigin>,
    result: Result<Works, Fault>,
}

impl Doctor {
    pub fn run(self) -> Result<(), Error> {
        let config = load_config(self.config.as_deref(), Config::default())?.config;
        let registry = self.plugins.registry(&config)?;
        let limit = Duration::from_secs(self.timeout);
        if let Some(name) = &self.probe {
            return probe::run(registry, &config, name, limit);
        }
        let mut findings = Vec::new();
        for (name, origin, fit) in registry.known() {
            let result = match fit {
                Ok(()) => examine(self.check_of(&name)?, limit),
                Err(error) => Err(Fault::from(error.to_string())),
            };
            findings.push(Finding { name, origin: Some(origin), result });
        }
        // A backend that every run would ask for in vain is as bad as one that does not work.
        if let Some(name) = config.backend.filter(|name| !registry.names().contains(&name.as_str())) {
            let error = registry.get(&name).err().map_or_else(String::new, |error| error.to_string());
            findings.push(Finding { name, origin: None, result: Err(Fault::from(error)) });
        }
        if self.json {
            let list: Vec<Value> = findings.iter().map(Finding::to_json).collect();
            outln!("{}", serde_json::to_string_pretty(&list)?);
        } else {
            for finding in &findings {
                out!("{}", finding.to_text());
            }
        }
        match findings.iter().filter(|f| f.result.is_err()).count() {
            0 => Ok(()),
            n => Err(format!("{n} of {} backends cannot be used", findings.len()).into()),
        }
    }

    /// This program again, with the same sources of configuration, to check the backend `name` in.
    fn check_of(&self, name: &str) -> Result<Command, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["doctor", &format!("--probe={name}"), &format!("--timeout={}", self.timeout)]);
        let flag = |flag: &str, path: &PathBuf| {
            let mut argument = OsString::from(flag);
            argument.push(path);
            argument
        };
        command.args(self.plugins.plugin.iter().map(|path| flag("--plugin=", path)));
        command.args(self.config.iter().map(|path| flag("--config=", path)));
        Ok(command)
    }
}

impl Finding {
    fn to_json(&self) -> Value {
        let (origin, path, abi) = match &self.origin {
            Some(BackendOrigin::Plugin { path, abi }) => {
                let abi = abi.map(|(major, minor)| format!("{major}.{minor}"));
                (Some("plugin".to_owned()), Some(path.to_string_lossy()), abi)
            }
            other => (other.as_ref().map(ToString::to_string), None, None),
        };
        let (works, fault) = (self.result.as_ref().ok(), self.result.as_ref().err());
        json!({"name": self.name, "version": works.map(|w| &w.version), "origin": origin, "path": path, "abi": abi,
               "ok": works.is_some(), "devices": works.map_or(&[][..], |w| &w.devices),
               "device": works.map(|w| w.device), "note": works.and_then(|w| w.note.as_ref()),
               "error": fault.map(|f| &f.error), "step": fault.and_then(|f| f.step),
               "said": fault.map_or(&[][..], |f| &f.said)})
    }

    /// Lines for a person, with no character that would steer a terminal.
    fn to_text(&self) -> String {
        let origin = self.origin.as_ref().map_or("asked for".into(), ToString::to_string);
        let mut lines = Vec::new();
        match &self.result {
            Ok(works) => {
                let device = works.devices.get(works.device).map_or("?", |d| &d.name);
                lines.push(format!("{} {} ({origin}): works, on {device}", self.name, works.version));
                for (i, d) in works.devices.iter().enumerate() {
                    let memory = d.memory_bytes.map(|m| format!(", {:.1} GiB", m as f64 / (1u64 << 30) as f64));
                    lines.push(format!("  device {i}: {} [{}{}]", d.name, d.kind, memory.unwrap_or_default()));
                }
                lines.extend(works.note.as_ref().map(|note| format!("  note: {note}")));
            }
            Err(fault) => {
                lines.push(format!("{} ({origin}): DOES NOT WORK: {}", self.name, fault.error));
                lines.extend(fault.said.iter().map(|line| format!("  it said: {line}")));
            }
        }
        lines.iter().map(|line| printable(line) + "\n").collect()
    }
}

/// `text` with its control characters written out.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn control_characters_are_written_out_and_the_rest_is_kept() {
        assert_eq!(printable("a\x1b[2Jb\nc\u{9b}d é \\"), "a\\u{1b}[2Jb\\nc\\u{9b}d é \\");
    }
}
