//! `camelid backends`: what there is to run on.

use std::path::PathBuf;

use camelid_host::{BackendEntry, BackendOrigin, Config};
use clap::Args;
use serde_json::{Value, json};

use crate::Error;
use crate::options::PluginFlags;
use crate::setup::load_config;

/// List the backends and their devices
#[derive(Args, Debug)]
pub struct Backends {
    #[command(flatten)]
    plugins: PluginFlags,
    /// Configuration file to read over ./camelid.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

impl Backends {
    pub fn run(self) -> Result<(), Error> {
        let config = load_config(self.config.as_deref(), Config::default())?.config;
        let registry = self.plugins.registry(&config)?;
        if self.json {
            let list: Vec<Value> = registry.entries().map(to_json).collect();
            outln!("{}", serde_json::to_string_pretty(&list)?);
            return Ok(());
        }
        for e in registry.entries() {
            outln!("{} {} ({})", e.name, e.version.as_deref().unwrap_or("?"), e.origin);
            match &e.devices {
                Ok(devices) => {
                    for (i, d) in devices.list.iter().enumerate() {
                        let memory = d.memory.map(|m| format!(", {:.1} GiB", m as f64 / (1u64 << 30) as f64));
                        outln!("  device {i}: {} [{}{}]", d.name, d.kind, memory.unwrap_or_default());
                    }
                    if let Some(note) = &devices.note {
                        outln!("  note: {note}");
                    }
                }
                Err(error) => outln!("  not usable: {error}"),
            }
        }
        Ok(())
    }
}

fn to_json(e: BackendEntry) -> Value {
    let (devices, note, error) = match &e.devices {
        Ok(devices) => (devices.list.as_slice(), devices.note.clone(), None),
        Err(error) => (&[][..], None, Some(error.to_string())),
    };
    let devices: Vec<_> =
        devices.iter().map(|d| json!({"name": d.name, "kind": d.kind.to_string(), "memory_bytes": d.memory})).collect();
    let (origin, path, abi) = match &e.origin {
        BackendOrigin::Plugin { path, abi } => {
            // A path need not be UTF-8, and JSON must.
            let path = path.to_string_lossy().into_owned();
            ("plugin".to_owned(), Some(path), abi.map(|(major, minor)| format!("{major}.{minor}")))
        }
        other => (other.to_string(), None, None),
    };
    json!({"name": e.name, "version": e.version, "origin": origin, "path": path, "abi": abi, "devices": devices,
           "note": note, "error": error})
}
