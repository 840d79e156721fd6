//! What is tested: a backend by name or a plugin by path.

use std::ffi::OsString;
use std::path::PathBuf;

use camelid_conformance::subject::Way;
use camelid_conformance::{Claims, Subject};
use camelid_core::backend::{LinkedBackend, Options};
use camelid_core::inventory;
use camelid_host::{Config, PluginSpec, Registry};
use clap::Args;

use super::Failed;
use crate::setup::load_config;

/// What is tested.
#[derive(Args, Clone, Debug)]
pub struct TargetFlags {
    /// A backend by name, as `camelid backends` lists it
    #[arg(long, value_name = "NAME", required_unless_present = "plugin", conflicts_with = "plugin")]
    backend: Option<String>,
    /// A plugin's library; its manifest lies beside it
    #[arg(long, value_name = "PATH")]
    plugin: Option<PathBuf>,
    /// Drive a linked backend through the plugin interface's table of functions
    #[arg(long, requires = "backend")]
    loopback: bool,
    /// Which of the backend's devices
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: usize,
    /// An option of the device, as in [backends.NAME]; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// What the backend's authors claim: profiles, math classes, waivers
    #[arg(long, value_name = "FILE")]
    claims: Option<PathBuf>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

impl TargetFlags {
    /// The claims, or none.
    pub fn claims(&self) -> Result<Claims, Failed> {
        self.claims.as_deref().map_or_else(|| Ok(Claims::default()), Claims::read).map_err(Failed::usage)
    }

    /// The backend, not yet loaded.
    pub fn subject(&self) -> Result<Subject, Failed> {
        let (registry, name, mut options, way) = match (&self.plugin, &self.backend) {
            (Some(path), _) => self.plugin(path)?,
            (None, Some(name)) => self.named(name)?,
            (None, None) => return Err(Failed::usage("one of --backend and --plugin says what is tested")),
        };
        for (key, value) in &self.set {
            options.set(key, value);
        }
        let mut subject = Subject::new(registry, name, self.device, options);
        subject.way = way;
        subject.claims = self.claims()?;
        Ok(subject)
    }

    fn plugin(&self, path: &PathBuf) -> Result<(Registry, String, Options, Way), Failed> {
        let path = std::path::absolute(path)?;
        let mut registry = Registry::new();
        let spec = PluginSpec { name: None, path: path.clone(), sha256: None };
        registry.add_plugin(spec).map_err(Failed::usage)?;
        let Some(name) = registry.names().first().map(|name| (*name).to_owned()) else {
            let why = registry.known().find_map(|(_, _, fit)| fit.err());
            let why = why.map_or_else(|| "it has no name".to_owned(), |error| error.to_string());
            return Err(Failed::usage(format!("--plugin {}: {why}", path.display())));
        };
        Ok((registry, name, Options::default(), Way::Plugin(path)))
    }

    fn named(&self, name: &str) -> Result<(Registry, String, Options, Way), Failed> {
        let config = load_config(None, Config::default()).map_err(Failed::usage)?.config;
        let (_, options) = config.device(name);
        if !self.loopback {
            let registry = Registry::configured(&config).map_err(Failed::usage)?;
            return Ok((registry, name.to_owned(), options, Way::Linked));
        }
        let linked = inventory::iter::<LinkedBackend>.into_iter().find(|b| b.name == name);
        let linked = linked.ok_or_else(|| Failed::usage(format!("--loopback: no backend `{name}` is linked in")))?;
        let backend = camelid_sdk::loopback((linked.make)()).map_err(Failed::usage)?;
        let mut registry = Registry::new();
        registry.register(Box::new(backend)).map_err(Failed::usage)?;
        Ok((registry, name.to_owned(), options, Way::Loopback))
    }

    /// The same flags again, for a worker process.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut push = |flag: &str, value: OsString| arguments.extend([flag.into(), value]);
        if let Some(name) = &self.backend {
            push("--backend", name.into());
        }
        if let Some(path) = &self.plugin {
            push("--plugin", path.into());
        }
        push("--device", self.device.to_string().into());
        for (key, value) in &self.set {
            push("--set", format!("{key}={value}").into());
        }
        if let Some(path) = &self.claims {
            push("--claims", path.into());
        }
        if self.loopback {
            arguments.push("--loopback".into());
        }
        arguments
    }
}
