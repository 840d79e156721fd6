//! What the model tests share: loading on the reference backend, and greedy generation.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::Path;
use std::sync::Arc;

use camelid_core::backend::{
    Backend, BackendError, Binding, BufferDesc, BufferId, Device, Devices, LoadedWeight, Location, Options, PlanId,
    Support, Weight,
};
use camelid_core::graph::{Graph, NodeId, SymbolValues};
use camelid_engine::sampling::SamplingParams;
use camelid_engine::{
    CancelToken, LoadOptions, Model, Outputs, Request, SequenceInput, Session, SessionOptions, generate,
};
use camelid_host::{DeviceHandle, PluginSpec, Registry};
use camelid_weights::Checkpoint;

use camelid_reference as _;

/// How a test reaches the reference backend.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// Linked into the test.
    Linked,
    /// Linked in, behind its own table of functions.
    Loopback,
    /// Loaded from its dynamic library.
    Plugin,
}

/// The reference backend with this many threads.
pub fn reference(threads: usize) -> DeviceHandle {
    reference_by(Way::Linked, threads)
}

/// [`reference`], reached one way or the other.
pub fn reference_by(way: Way, threads: usize) -> DeviceHandle {
    let mut options = Options::default();
    options.set("threads", threads.to_string());
    registry(way).open("reference", 0, &options).unwrap()
}

/// A registry that has the reference backend.
pub fn registry(way: Way) -> Registry {
    match way {
        Way::Linked => Registry::linked().unwrap(),
        Way::Loopback => {
            let mut registry = Registry::new();
            let backend = camelid_sdk::loopback(Box::new(camelid_reference::ReferenceBackend)).unwrap();
            registry.register(Box::new(backend)).unwrap();
            registry
        }
        Way::Plugin => {
            let mut registry = Registry::new();
            let path = camelid_test_plugins::reference();
            registry.add_plugin(PluginSpec { name: None, path, sha256: None }).unwrap();
            registry
        }
    }
}

/// The reference backend, denying that it has any macro operation.
pub fn reference_without_macros() -> DeviceHandle {
    core_only_registry().open("core-only", 0, &Options::default()).unwrap()
}

/// A registry that has it, as `core-only`.
pub fn core_only_registry() -> Registry {
    let mut registry = Registry::linked().unwrap();
    registry.register(Box::new(CoreOnly)).unwrap();
    registry
}

/// The checkpoint at `path` on `device`.
pub fn load(path: &Path, device: DeviceHandle) -> Arc<Model> {
    let checkpoint = Checkpoint::open(path).unwrap();
    let tokenizer = camelid_engine::tokenizer::load(&checkpoint).unwrap();
    Arc::new(Model::load(&checkpoint, tokenizer, device, LoadOptions::default(), &mut |_, _| {}).unwrap())
}

/// Greedy tokens after `prompt`, straight from the logits: for models without a tokenizer.
pub fn greedy(model: &Arc<Model>, prompt: &[u32], count: usize, eos: Vec<u32>) -> Vec<u32> {
    // Also beyond what the model says it was made for.
    let context_size = Some(prompt.len() + count);
    let mut session =
        Session::new(model.clone(), &SessionOptions { context_size, ..SessionOptions::default() }).unwrap();
    let sequence = session.create().unwrap();
    let mut new = prompt.to_vec();
    let mut tokens = Vec::new();
    while tokens.len() < count {
        let input = SequenceInput { sequence, tokens: &new, positions: None, outputs: Outputs::Last };
        let logits = session.step(&[input]).unwrap();
        let row = logits.last_of_input(0);
        // The first of equals, as max_by would not.
        let best = (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as u32;
        tokens.push(best);
        if eos.contains(&best) {
            break;
        }
        new = vec![best];
    }
    tokens
}

/// Greedy generation through the engine, for models with a tokenizer.
pub fn generate_greedy(model: &Arc<Model>, prompt: &[u32], count: usize) -> camelid_engine::Generation {
    let context_size = Some(prompt.len() + count);
    let mut session =
        Session::new(model.clone(), &SessionOptions { context_size, ..SessionOptions::default() }).unwrap();
    let request = Request {
        sequence: session.create().unwrap(),
        history: prompt.to_vec(),
        new_tokens: prompt.len(),
        sampling: SamplingParams::default(),
        max_new_tokens: count,
        stop: Vec::new(),
        eos: model.eos_token_ids(),
        logprobs: None,
    };
    let tokenizer = model.tokenizer().unwrap();
    let (mut generations, _) =
        generate(&mut session, tokenizer, vec![request], &CancelToken::default(), &mut |_| {}).unwrap();
    generations.remove(0)
}

/// The reference backend without its macro operations.
struct CoreOnly;

impl CoreOnly {
    fn inner() -> Box<dyn Backend> {
        let linked = camelid_core::inventory::iter::<camelid_core::backend::LinkedBackend>;
        (linked.into_iter().find(|b| b.name == "reference").unwrap().make)()
    }
}

impl Backend for CoreOnly {
    fn name(&self) -> &str {
        "core-only"
    }

    fn version(&self) -> &str {
        "0"
    }

    fn devices(&self) -> Result<Devices, BackendError> {
        CoreOnly::inner().devices()
    }

    fn open(&self, index: usize, options: &Options) -> Result<Box<dyn Device>, BackendError> {
        Ok(Box::new(CoreOnlyDevice(CoreOnly::inner().open(index, options)?)))
    }
}

struct CoreOnlyDevice(Box<dyn Device>);

impl Device for CoreOnlyDevice {
    fn supports(&self, graph: &Graph, node: NodeId) -> Support {
        if graph.node(node).op.is_macro() {
            return Support::Lower { reason: "core operations only".into() };
        }
        self.0.supports(graph, node)
    }

    fn alloc(&mut self, buffer: &BufferDesc) -> Result<BufferId, BackendError> {
        self.0.alloc(buffer)
    }

    fn load_weight(&mut self, weight: Weight) -> Result<LoadedWeight, BackendError> {
        self.0.load_weight(weight)
    }

    fn write(&mut self, buffer: BufferId, offset: usize, src: &[u8]) -> Result<(), BackendError> {
        self.0.write(buffer, offset, src)
    }

    fn read(&mut self, buffer: BufferId, offset: usize, dst: &mut [u8]) -> Result<(), BackendError> {
        self.0.read(buffer, offset, dst)
    }

    fn copy(&mut self, to: Location, from: Location, len: usize) -> Result<(), BackendError> {
        self.0.copy(to, from, len)
    }

    fn free(&mut self, buffer: BufferId) {
        self.0.free(buffer);
    }

    fn compile(&mut self, graph: &Graph, bindings: &[Binding]) -> Result<PlanId, BackendError> {
        self.0.compile(graph, bindings)
    }

    fn run(&mut self, plan: PlanId, symbols: &SymbolValues) -> Result<(), BackendError> {
        self.0.run(plan, symbols)
    }

    fn free_plan(&mut self, plan: PlanId) {
        self.0.free_plan(plan);
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.0.sync()
    }
}
