//! In the child: opens the backend's device and lets it compute, and tells each step before it takes it.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use camelid_core::backend::{BufferDesc, BufferUsage, Weight};
use camelid_core::graph::{Dim, GraphBuilder, Symbol, SymbolRange, SymbolValues, TensorType};
use camelid_core::{Bytes, DType};
use camelid_host::{Config, OnUnsupported, Registry};
use serde::{Deserialize, Serialize};

use crate::Error;

/// What begins a line of the child that is meant for its parent.
pub(super) const MARK: &str = "camelid doctor: ";
/// How much longer than its parent the child waits for a backend that hangs.
const GRACE: Duration = Duration::from_secs(5);

/// What the child tells its parent, each on a line of its own.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// What comes now.
    Step(Step),
    /// The backend computes rightly.
    Works(Works),
    /// Why the backend cannot be used.
    Fails(String),
}

/// A backend that computes rightly.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Works {
    pub(super) version: String,
    pub(super) devices: Vec<ShownDevice>,
    pub(super) note: Option<String>,
    /// Index of the device that computed.
    pub(super) device: usize,
}

/// A device, as `camelid backends --json` shows it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ShownDevice {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) memory_bytes: Option<u64>,
}

/// What the backend is asked to do.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    Load,
    Devices,
    Open,
    Supports,
    LoadWeight,
    Alloc,
    Compile,
    Write,
    Run,
    Read,
    Close,
    Shutdown,
    End,
}

impl fmt::Display for Step {
    /// What goes on, with the plugin's functions that are called.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Load => "being loaded (constructors, `camelid_plugin_entry_v1`)",
            Step::Devices => "listing its devices (`device_count`, `device_info`)",
            Step::Open => "opening its device (`device_open`)",
            Step::Supports => "answering for a linear layer (`graph_supports`)",
            Step::LoadWeight => "taking a weight (`weight_load`)",
            Step::Alloc => "allocating memory (`buffer_alloc`)",
            Step::Compile => "compiling a linear layer (`plan_compile`)",
            Step::Write => "being written to (`buffer_write`)",
            Step::Run => "running a linear layer (`plan_run`)",
            Step::Read => "being read from (`buffer_read`)",
            Step::Close => "freeing what it had (`plan_free`, `buffer_free`, `device_close`)",
            Step::Shutdown => "shutting down (`shutdown`)",
            Step::End => "being left with the process (destructors, `atexit`)",
        })
    }
}

/// Checks the backend `name` in this process and tells the parent. The backend may end the process at any moment.
pub(super) fn run(registry: Registry, config: &Config, name: &str, limit: Duration) -> Result<(), Error> {
    // If the parent is gone nobody else ends a backend that hangs.
    std::thread::spawn(move || {
        std::thread::sleep(limit + GRACE);
        std::process::abort();
    });
    let verdict = check(&registry, config, name);
    // Told first: an error is worth knowing even if the backend does not survive being shut down.
    tell(&verdict.map_or_else(|error| Report::Fails(error.to_string()), Report::Works))?;
    tell(&Report::Step(Step::Shutdown))?;
    drop(registry);
    tell(&Report::Step(Step::End))
}

/// Writes a report in one piece on a line of its own, wherever the plugin's own output left off.
fn tell(report: &Report) -> Result<(), Error> {
    let line = format!("\n{MARK}{}\n", serde_json::to_string(report)?);
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    Ok(stdout.flush()?)
}

/// The weight of the layer, `w [3, 4]`.
const W: [f32; 12] = [1.0, 2.0, 3.0, 4.0, 0.5, -1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0];
/// Steps of the layer: `x [T, 4]` and `x W^T [T, 3]`, all exact in every binary float format of 8 bits of precision. The
/// second finds a device that keeps what it computed first.
const STEPS: [(&[f32], &[f32]); 2] = [
    (&[1.0, 0.0, -1.0, 2.0, 0.25, 4.0, 8.0, -16.0], &[6.0, 4.5, 2.0, -31.75, -35.875, -16.0]),
    (&[0.0, 1.0, 0.0, -0.5], &[0.0, -2.0, -0.5]),
];
/// How far a result may be off; none is far from 1.
const TOLERANCE: f32 = 1e-3;

/// Opens the configured device of the backend and lets it compute `y = x W^T`.
fn check(registry: &Registry, config: &Config, name: &str) -> Result<Works, Error> {
    let step = |step| tell(&Report::Step(step));
    step(Step::Load)?;
    let backend = registry.get(name)?;
    step(Step::Devices)?;
    let (index, options) = config.device(name);
    let found = backend.devices().map_err(|error| format!("the devices cannot be listed: {error}"))?;
    let devices =
        found.list.into_iter().map(|d| ShownDevice { name: d.name, kind: d.kind.to_string(), memory_bytes: d.memory });
    let works =
        Works { version: backend.version().to_owned(), devices: devices.collect(), note: found.note, device: index };
    step(Step::Open)?;
    let device = registry.open(name, index, &options)?;

    let values = |t: usize| SymbolValues::new(t, 1, 1, 1);
    let ty = |dims: &[Dim]| TensorType::new(DType::F32, dims).expect("f32 has any shape");
    let mut g = GraphBuilder::new(SymbolRange { min: values(1), max: values(2) });
    let x = g.input("x", ty(&[Symbol::T.into(), 4.into()]))?;
    let w = g.weight("w", ty(&[3.into(), 4.into()]))?;
    let y = g.linear(x, w, None)?;
    g.output("y", y)?;
    step(Step::Supports)?;
    let placed = device.place(&g.finish(), OnUnsupported::Lower)?;
    step(Step::LoadWeight)?;
    let weight =
        Weight { name: "w".into(), ty: ty(&[3.into(), 4.into()]), data: Bytes::from(bytes(&W)), may_repack: true };
    let (weight, _) = device.load_weight(weight)?;
    step(Step::Alloc)?;
    let memory = |name: &str, size, usage| device.alloc(BufferDesc { name: name.into(), size, usage });
    let (input, output) = (memory("x", 32, BufferUsage::Input)?, memory("y", 24, BufferUsage::Output)?);
    step(Step::Compile)?;
    let plan =
        device.compile(&placed.graph, &[(x, input.clone(), 0), (w, weight.clone(), 0), (y, output.clone(), 0)])?;
    for (x, expected) in STEPS {
        step(Step::Write)?;
        input.write(0, &bytes(x))?;
        step(Step::Run)?;
        plan.run(&values(x.len() / 4))?;
        step(Step::Read)?;
        // NaNs, until the device has put something in their place.
        let mut read = vec![0xff; expected.len() * 4];
        output.read(0, &mut read)?;
        let found: Vec<f32> = read.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if !close(&found, expected) {
            return Err(format!("it computes wrongly: x W^T is {expected:?}, and it gave {found:?}").into());
        }
    }
    step(Step::Close)?;
    drop((plan, input, output, weight, device));
    Ok(works)
}

/// Whether each result is near what is expected. A NaN is near nothing.
fn close(found: &[f32], expected: &[f32]) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| (f - e).abs() <= TOLERANCE)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_results_are_those_of_the_formula() {
        for (x, expected) in STEPS {
            let product = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(a, b)| a * b).sum::<f32>();
            let y: Vec<f32> = x.chunks(4).flat_map(|x| W.chunks(4).map(move |w| product(x, w))).collect();
            assert_eq!(y, expected);
        }
    }

    #[test]
    fn only_near_results_are_right() {
        assert!(close(&[1.0, 2.0], &[1.0, 2.0005]));
        assert!(!close(&[1.0, 2.0], &[1.0, 2.01]));
        assert!(!close(&[1.0], &[1.0, 2.0]));
        assert!(!close(&[f32::NAN], &[1.0]) && !close(&[f32::INFINITY], &[1.0]));
    }
}
