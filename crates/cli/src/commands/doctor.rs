//! `camelid doctor`: does each backend work, found out in a process of its own.
//!
//! A plugin that crashes, exits or hangs does so in a child process; the parent says which one and how it ended.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use camelid_core::backend::{BufferDesc, BufferUsage, Weight};
use camelid_core::graph::{GraphBuilder, Symbol, SymbolRange, SymbolValues, TensorType};
use camelid_core::{Bytes, DType};
use camelid_host::{Config, OnUnsupported, Registry};
use clap::Args;
use serde_json::json;

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
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
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
    origin: String,
    /// The device that computed, or what went wrong.
    result: Result<String, String>,
}

/// What the last line of a child that came to its end begins with.
const VERDICT: &str = "camelid doctor: ";
/// How much a child may have to say.
const MAX_OUTPUT: u64 = 1 << 16;

impl Doctor {
    pub fn run(self) -> Result<(), Error> {
        let config = load_config(self.config.as_deref(), Config::default())?.config;
        let registry = self.plugins.registry(&config)?;
        if let Some(name) = self.probe {
            let verdict = probe(&registry, &config, &name);
            // What the backend does when it is let go belongs to the check.
            drop(registry);
            let (ok, text) = verdict.map_or_else(|e| (false, e.to_string()), |device| (true, device));
            outln!("{VERDICT}{}", json!({"ok": ok, "text": text}));
            return Ok(());
        }
        let findings: Vec<Finding> = registry
            .known()
            .map(|(name, origin, usable)| {
                let result = match usable {
                    Ok(()) => self.examine(&name),
                    Err(error) => Err(error.to_string()),
                };
                Finding { name, origin: origin.to_string(), result }
            })
            .collect();
        self.print(&findings)?;
        match findings.iter().filter(|f| f.result.is_err()).count() {
            0 => Ok(()),
            n => Err(format!("{n} of {} backends cannot be used", findings.len()).into()),
        }
    }

    fn print(&self, findings: &[Finding]) -> Result<(), Error> {
        if self.json {
            let list: Vec<_> = findings
                .iter()
                .map(|f| {
                    json!({"name": f.name, "origin": f.origin, "ok": f.result.is_ok(),
                           "device": f.result.as_ref().ok(), "error": f.result.as_ref().err()})
                })
                .collect();
            outln!("{}", serde_json::to_string_pretty(&list)?);
            return Ok(());
        }
        for Finding { name, origin, result } in findings {
            match result {
                Ok(device) => outln!("{name} ({origin}): works, on {device}"),
                Err(error) => outln!("{name} ({origin}): DOES NOT WORK: {error}"),
            }
        }
        Ok(())
    }

    /// Checks the backend `name` in a child process.
    fn examine(&self, name: &str) -> Result<String, String> {
        let mut command = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
        command.args(["doctor", "--probe", name]);
        for plugin in &self.plugins.plugin {
            command.arg("--plugin").arg(plugin);
        }
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|e| format!("the check cannot be started: {e}"))?;
        let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
        let status = wait(&mut child, Duration::from_secs(self.timeout));
        // A thread or a child of the plugin may hold the pipes open; what was said by then is enough.
        let text = |handle: Collected| handle.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        let (out, err) = (text(out), text(err));
        let Some(status) = status else {
            return Err(format!("it hangs: nothing came of it in {} s; it was ended", self.timeout));
        };
        let verdict = out.lines().last().and_then(|line| line.strip_prefix(VERDICT));
        let verdict = verdict.and_then(|json| serde_json::from_str::<serde_json::Value>(json).ok());
        match verdict {
            Some(v) if status.success() => {
                let text = v["text"].as_str().unwrap_or_default().to_owned();
                if v["ok"] == true { Ok(text) } else { Err(text) }
            }
            _ => {
                let said = err.lines().last().map_or_else(String::new, |line| format!("; it said: {line}"));
                Err(format!("it ended the process: {}{said}", how(status)))
            }
        }
    }
}

type Collected = std::sync::mpsc::Receiver<String>;

/// Reads a pipe in a thread of its own, so that a child that says much is not kept waiting.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Collected {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = (&mut pipe).take(MAX_OUTPUT).read_to_end(&mut bytes);
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        }
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// Waits for `child`; ends it and gives `None` if it takes too long.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if start.elapsed() >= limit {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn how(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let name = match signal {
            4 => " (illegal instruction)",
            6 => " (abort)",
            7 => " (bus error)",
            8 => " (arithmetic error)",
            9 => " (killed)",
            11 => " (segmentation fault)",
            _ => "",
        };
        return format!("signal {signal}{name}");
    }
    status.to_string()
}

/// Opens the configured device of the backend and lets it compute `y = x W^T`; returns the device's name.
fn probe(registry: &Registry, config: &Config, name: &str) -> Result<String, Error> {
    let (index, options) = config.device(name);
    let device = registry.open(name, index, &options)?;
    let shown = registry.get(name)?.devices()?.list.get(index).map_or_else(String::new, |d| d.name.clone());

    let values = |n: usize| SymbolValues::new(n, 1, 1, 1);
    let mut g = GraphBuilder::new(SymbolRange { min: values(1), max: values(2) });
    let ty = |dims: &[camelid_core::graph::Dim]| TensorType::new(DType::F32, dims).expect("f32 has any shape");
    let x = g.input("x", ty(&[Symbol::T.into(), 4.into()]))?;
    let w = g.weight("w", ty(&[3.into(), 4.into()]))?;
    let y = g.linear(x, w, None)?;
    g.output("y", y)?;
    let placed = device.place(&g.finish(), OnUnsupported::Lower)?;

    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let rows: [f32; 12] = [1.0, 2.0, 3.0, 4.0, 0.5, -1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0];
    let inputs: [f32; 8] = [1.0, 0.0, -1.0, 2.0, 0.25, 4.0, 8.0, -16.0];
    let weight =
        Weight { name: "w".into(), ty: ty(&[3.into(), 4.into()]), data: Bytes::from(bytes(&rows)), may_repack: true };
    let (weight, _) = device.load_weight(weight)?;
    let memory = |name: &str, size, usage| device.alloc(BufferDesc { name: name.into(), size, usage });
    let (input, output) = (memory("x", 32, BufferUsage::Input)?, memory("y", 24, BufferUsage::Output)?);
    let plan = device.compile(&placed.graph, &[(x, input.clone(), 0), (w, weight, 0), (y, output.clone(), 0)])?;
    input.write(0, &bytes(&inputs))?;
    plan.run(&values(2))?;
    let mut found = [0; 24];
    output.read(0, &mut found)?;
    let expected = [6.0, 4.5, 2.0, -31.75, -35.875, -16.0];
    let found: Vec<f32> = found.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    if found.iter().zip(expected).any(|(a, b): (&f32, f32)| (a - b).abs() > 1e-3) {
        return Err(format!("it computes wrongly: x W^T is {expected:?}, and it gave {found:?}").into());
    }
    Ok(shown)
}
