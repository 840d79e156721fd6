//! What a decode step costs besides the device's work: `cargo run --release -p camelid-engine --example overhead`.
//!
//! The backend here computes nothing: a run returns at once, and reading the logits copies them from where they always
//! lie. So the time of `Session::step` is the engine's, the host's and, in the second column, that of the plugin
//! interface. Then the time `Sampler::sample` takes to choose a token, by what it was asked to follow.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use camelid_core::backend::{
    Backend, BackendError, Binding, BufferDesc, BufferId, Device, DeviceInfo, DeviceKind, Devices, LoadedWeight,
    Location, Options, Placement, PlanId, Support, Weight,
};
use camelid_core::graph::{Graph, NodeId, SymbolValues};
use camelid_core::llama::LlamaConfig;
use camelid_engine::sampling::{Sampler, SamplingParams};
use camelid_engine::{LoadOptions, Model, Outputs, SequenceInput, Session, SessionOptions};
use camelid_host::Registry;
use camelid_weights::Checkpoint;
use camelid_weights::init::{InitDType, InitOptions, write_model};

type Error = Box<dyn std::error::Error>;

struct Null {
    logits: Vec<u8>,
}

impl Backend for Null {
    fn name(&self) -> &str {
        "null"
    }

    fn version(&self) -> &str {
        "0"
    }

    fn devices(&self) -> Result<Devices, BackendError> {
        let list = vec![DeviceInfo { name: "nothing".into(), kind: DeviceKind::Accelerator, memory: None }];
        Ok(Devices { list, note: None })
    }

    fn open(&self, _index: usize, _options: &Options) -> Result<Box<dyn Device>, BackendError> {
        Ok(Box::new(NullDevice { logits: self.logits.clone(), next: 0 }))
    }
}

struct NullDevice {
    logits: Vec<u8>,
    next: u64,
}

impl NullDevice {
    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Device for NullDevice {
    fn supports(&self, _graph: &Graph, _node: NodeId) -> Support {
        Support::Yes
    }

    fn alloc(&mut self, _buffer: &BufferDesc) -> Result<BufferId, BackendError> {
        Ok(BufferId(self.id()))
    }

    fn load_weight(&mut self, _weight: Weight) -> Result<LoadedWeight, BackendError> {
        Ok(LoadedWeight { buffer: BufferId(self.id()), placement: Placement::Copied })
    }

    fn write(&mut self, _buffer: BufferId, _offset: usize, _src: &[u8]) -> Result<(), BackendError> {
        Ok(())
    }

    fn read(&mut self, _buffer: BufferId, _offset: usize, dst: &mut [u8]) -> Result<(), BackendError> {
        for row in dst.chunks_mut(self.logits.len()) {
            row.copy_from_slice(&self.logits[..row.len()]);
        }
        Ok(())
    }

    fn copy(&mut self, _to: Location, _from: Location, _len: usize) -> Result<(), BackendError> {
        Ok(())
    }

    fn free(&mut self, _buffer: BufferId) {}

    fn compile(&mut self, _graph: &Graph, _bindings: &[Binding]) -> Result<PlanId, BackendError> {
        Ok(PlanId(self.id()))
    }

    fn run(&mut self, _plan: PlanId, _symbols: &SymbolValues) -> Result<(), BackendError> {
        Ok(())
    }

    fn free_plan(&mut self, _plan: PlanId) {}

    fn sync(&mut self) -> Result<(), BackendError> {
        Ok(())
    }
}

/// Microseconds that one call takes: the fastest of seven rounds.
fn micros(calls: usize, mut call: impl FnMut(usize) -> Result<(), Error>) -> Result<f64, Error> {
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let start = Instant::now();
        (0..calls).try_for_each(&mut call)?;
        best = best.min(start.elapsed().as_secs_f64() * 1e6 / calls as f64);
    }
    Ok(best)
}

/// Logits as a model gives them, about: many unlikely tokens and a few likely ones.
fn logits(vocab_size: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..vocab_size).map(|_| (0..6).map(|_| uniform()).sum::<f32>() * 4.0 - 10.0).collect()
}

fn step_micros(folder: &Path, values: &[f32], plugin: bool, sequences: usize) -> Result<f64, Error> {
    let null: Box<dyn Backend> = Box::new(Null { logits: values.iter().flat_map(|x| x.to_ne_bytes()).collect() });
    let mut registry = Registry::new();
    registry.register(if plugin { Box::new(camelid_sdk::loopback(null)?) } else { null })?;
    let device = registry.open("null", 0, &Options::default())?;
    let model = Model::load(&Checkpoint::open(folder)?, None, device, LoadOptions::default(), &mut |_, _| {})?;
    let options = SessionOptions { context_size: Some(4096), max_sequences: sequences, ..SessionOptions::default() };
    let mut session = Session::new(Arc::new(model), &options)?;
    let ids = (0..sequences).map(|_| session.create()).collect::<Result<Vec<_>, _>>()?;
    micros(400, |_| {
        let input = |sequence| SequenceInput { sequence, tokens: &[7], positions: None, outputs: Outputs::Last };
        let inputs: Vec<_> = ids.iter().copied().map(input).collect();
        std::hint::black_box(session.step(&inputs)?);
        Ok(())
    })
}

fn main() -> Result<(), Error> {
    let sampling = SamplingParams { temperature: 0.8, seed: 3, ..SamplingParams::default() };
    let followed = [
        ("greedy", SamplingParams::default()),
        ("greedy, repetition penalty", SamplingParams { repetition_penalty: 1.1, ..SamplingParams::default() }),
        ("top-k 50", SamplingParams { top_k: 50, ..sampling.clone() }),
        ("top-k 50, top-p 0.9", SamplingParams { top_k: 50, top_p: 0.9, ..sampling.clone() }),
        ("top-p 0.9", SamplingParams { top_p: 0.9, ..sampling.clone() }),
        ("min-p 0.05", SamplingParams { min_p: 0.05, ..sampling.clone() }),
        ("typical-p 0.9", SamplingParams { typical_p: 0.9, ..sampling.clone() }),
        ("top-h 0.5", SamplingParams { top_h: Some(0.5), ..sampling.clone() }),
        ("epsilon 0.001", SamplingParams { epsilon_cutoff: 0.001, ..sampling.clone() }),
        ("all tokens", sampling),
    ];
    for vocab_size in [49152, 128256] {
        println!("vocabulary {vocab_size}, microseconds:");
        let values = logits(vocab_size);
        let folder = tempfile::tempdir()?;
        let config = serde_json::json!({"vocab_size": vocab_size, "hidden_size": 8, "intermediate_size": 8,
                                        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
                                        "max_position_embeddings": 4096, "architectures": ["LlamaForCausalLM"]});
        let options = InitOptions { seed: 0, dtype: InitDType::BF16, shard_size: None, force: true };
        write_model(&LlamaConfig::from_value(&config)?, &options, folder.path(), &mut |_, _| {})?;
        for sequences in [1, 16] {
            let linked = step_micros(folder.path(), &values, false, sequences)?;
            let plugin = step_micros(folder.path(), &values, true, sequences)?;
            println!(
                "  step of {sequences:>2} sequences {linked:>12.1} linked in {plugin:>10.1} behind the plugin interface"
            );
        }
        for (name, params) in &followed {
            let mut sampler = Sampler::new(params.clone())?;
            let history: Vec<u32> = (0..200).map(|i| i * 37 % vocab_size as u32).collect();
            let time = micros(40, |i| {
                std::hint::black_box(sampler.sample(&values, &history[..100 + i], 50)?);
                Ok(())
            })?;
            println!("  sample, {name:<28} {time:>8.1}");
        }
    }
    Ok(())
}
