//! `camelid backends`: what there is to run on.

use camelid_host::Registry;
use clap::Args;
use serde_json::json;

use crate::Error;

/// List the backends and their devices
#[derive(Args, Debug)]
pub struct Backends {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

impl Backends {
    pub fn run(self) -> Result<(), Error> {
        let registry = Registry::linked()?;
        if self.json {
            let list: Vec<_> = registry
                .entries()
                .map(|e| {
                    let (devices, note) = match &e.devices {
                        Ok(devices) => (devices.list.as_slice(), devices.note.clone()),
                        Err(error) => (&[][..], Some(error.to_string())),
                    };
                    let devices: Vec<_> = devices
                        .iter()
                        .map(|d| json!({"name": d.name, "kind": d.kind.to_string(), "memory_bytes": d.memory}))
                        .collect();
                    json!({"name": e.name, "version": e.version, "origin": e.origin.to_string(),
                           "devices": devices, "note": note})
                })
                .collect();
            outln!("{}", serde_json::to_string_pretty(&list)?);
            return Ok(());
        }
        for e in registry.entries() {
            outln!("{} {} ({})", e.name, e.version, e.origin);
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
