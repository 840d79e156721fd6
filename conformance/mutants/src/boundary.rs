//! [`FaultyBoundary`]: the reference device with a fault in the life of devices, memory and plans: in what an author of a
//! driver gets wrong, not one of a kernel.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use camelid_core::Bytes;
use camelid_core::backend::{
    BackendError, Binding, BufferDesc, BufferId, Device, ErrorCode, LoadedWeight, Location, Placement, PlanId, Support,
    Weight,
};
use camelid_core::graph::{Graph, NodeId, SymbolValues};

use crate::{Level, Mutant, fire};

const fn mutant(id: &'static str, about: &'static str) -> Mutant {
    Mutant { id, level: Level::Abi, about, cases: &[] }
}

const fn leak(id: &'static str, about: &'static str, cases: &'static [&'static str]) -> Mutant {
    Mutant { id, level: Level::Stress, about, cases }
}

/// Every fault of a boundary; [`FaultyBoundary`] and the backend know them by name.
pub(crate) const MUTANTS: &[Mutant] = &[
    mutant("opens_what_is_not_there", "any index opens the first device"),
    mutant("takes_any_option", "options that are not known are ignored"),
    mutant("refuses_options_without_a_name", "an unknown option is refused, but not by its name"),
    mutant("name_cannot_be_written", "the name has capitals and spaces"),
    mutant("loses_its_device", "the device is listed only until it is opened"),
    mutant("one_device_at_a_time", "a second device cannot be opened while the first is open"),
    mutant("memory_for_all_devices", "two devices share the contents of their buffers"),
    mutant("scratch_for_all_threads", "results of all devices pass through one buffer"),
    mutant("writes_whole_words", "the last bytes of a write are lost if they are no word"),
    mutant("reads_whole_words", "the last bytes of a read are lost if they are no word"),
    mutant("copy_loses_its_tail", "the last bytes of a copy are lost if they are no word"),
    mutant("copy_from_the_beginning", "copies come from the beginning of a buffer"),
    mutant("copy_to_the_beginning", "copies go to the beginning of a buffer"),
    mutant("copies_late", "a copy is made when somebody reads"),
    mutant("copies_nothing", "a copy succeeds and does nothing"),
    mutant("runs_late", "a run is done when somebody reads"),
    mutant("reads_early", "a read does not wait for the last run"),
    mutant("sync_forgets", "sync drops the work that is not done"),
    mutant("frees_too_much", "freeing a plan frees all plans"),
    mutant("frees_the_next_buffer", "freeing a buffer clears the one made after it"),
    mutant("a_hundred_plans", "there may be a hundred plans and no more"),
    mutant("a_thousand_buffers", "there may be a thousand buffers and no more"),
    mutant("a_hundred_weights", "there may be a hundred weights and no more"),
    mutant("short_names", "names have 255 bytes at most"),
    mutant("ascii_names", "names have to be ASCII"),
    mutant("few_nodes", "graphs have 256 nodes at most"),
    mutant("weights_are_aligned", "a weight's bytes are read from the aligned address before them"),
    mutant("keeps_the_bytes", "a weight is called copied, but its bytes are kept"),
    mutant("never_lets_go", "the bytes of a weight are kept when it is freed"),
    mutant("one_weight_one_value", "a weight cannot be bound twice"),
    mutant("gives_an_exabyte", "memory that is not there is given"),
    mutant("panics_for_an_exabyte", "asking for too much panics"),
    mutant("lost_after_too_much", "after asking for too much the device is lost"),
    mutant("lost_after_an_index", "after an index outside a table the device is lost"),
    mutant("changes_its_mind", "a graph that was supported is not the second time"),
    mutant("answers_otherwise_alone", "a node alone gets another answer than in the whole graph"),
    mutant("forgets_states", "a state is cleared when another plan runs"),
    mutant("caches_inputs", "an operand that is written in part is not seen"),
    leak("leaks_runs", "each run leaves 4 KiB behind", &["stress/memory/*"]),
    leak("leaks_buffers", "the memory of a buffer is never given back", &["stress/memory/*"]),
    leak("leaks_weights", "the memory of a weight is never given back", &["stress/memory/*"]),
    leak("leaks_plans", "each plan leaves 8 KiB behind", &["stress/memory/*"]),
    leak("leaks_devices", "each device leaves 64 KiB behind", &["stress/memory/*"]),
    leak("leaks_errors", "each error leaves 4 KiB behind", &["stress/memory/*"]),
];

/// Devices that are open.
pub(crate) static OPEN: AtomicUsize = AtomicUsize::new(0);
/// What all devices of `memory_for_all_devices` wrote, by the order in which they made their buffers.
static SHARED: Mutex<Option<HashMap<u64, Vec<u8>>>> = Mutex::new(None);
/// What all devices of `scratch_for_all_threads` pass their results through.
static SCRATCH: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// The reference device with a fault around memory and plans.
pub struct FaultyBoundary {
    inner: Box<dyn Device>,
    fault: &'static str,
    /// Buffers with their sizes, in the order in which they were made.
    buffers: Vec<(BufferId, usize)>,
    made: HashMap<BufferId, u64>,
    weights: HashMap<BufferId, Bytes>,
    plans: HashMap<PlanId, (Graph, Vec<Binding>)>,
    freed: HashSet<PlanId>,
    copies: Vec<(Location, Location, usize)>,
    runs: Vec<(PlanId, SymbolValues)>,
    /// What outputs held before the last run.
    before: Option<(Location, Vec<u8>)>,
    loaded: usize,
    asked: std::cell::Cell<usize>,
    lost: bool,
}

impl Drop for FaultyBoundary {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::SeqCst);
        if self.is("leaks_devices") {
            fire();
            leak_bytes(64 << 10);
        }
    }
}

fn leak_bytes(count: usize) {
    // Memory that nobody looks at may be optimised away.
    std::hint::black_box(Box::leak(vec![1u8; count].into_boxed_slice()));
}

impl FaultyBoundary {
    /// `fault` is the id of one of [`MUTANTS`].
    pub fn new(inner: Box<dyn Device>, fault: &'static str) -> FaultyBoundary {
        OPEN.fetch_add(1, Ordering::SeqCst);
        FaultyBoundary {
            inner,
            fault,
            buffers: Vec::new(),
            made: HashMap::new(),
            weights: HashMap::new(),
            plans: HashMap::new(),
            freed: HashSet::new(),
            copies: Vec::new(),
            runs: Vec::new(),
            before: None,
            loaded: 0,
            asked: std::cell::Cell::new(0),
            lost: false,
        }
    }

    fn is(&self, fault: &str) -> bool {
        self.fault == fault
    }

    /// Where the first output of a plan lies, and its bytes at `symbols`.
    fn output(&self, plan: PlanId, symbols: &SymbolValues) -> Option<(Location, usize)> {
        let (graph, bindings) = self.plans.get(&plan)?;
        let output = graph.outputs().first()?;
        let storage = graph.storage_of(output.value);
        let location = bindings.iter().find(|b| b.value == storage)?.location;
        Some((location, graph.value(output.value).ty.bytes(symbols)?))
    }

    /// Does what was put off.
    fn catch_up(&mut self) -> Result<(), BackendError> {
        for (to, from, len) in std::mem::take(&mut self.copies) {
            self.inner.copy(to, from, len)?;
        }
        for (plan, symbols) in std::mem::take(&mut self.runs) {
            if !self.freed.contains(&plan) {
                self.inner.run(plan, &symbols)?;
            }
        }
        Ok(())
    }

    fn clear(&mut self, buffer: BufferId) -> Result<(), BackendError> {
        if let Some((_, size)) = self.buffers.iter().find(|(id, _)| *id == buffer).copied() {
            fire();
            self.inner.write(buffer, 0, &vec![0; size])?;
        }
        Ok(())
    }

    fn refuse(&self, what: &str) -> BackendError {
        fire();
        BackendError::unsupported(what)
    }

    fn check_name(&self, name: &str) -> Result<(), BackendError> {
        match self.fault {
            "short_names" if name.len() > 255 => Err(self.refuse("a name is too long")),
            "ascii_names" if !name.is_ascii() => Err(self.refuse("a name is not ASCII")),
            _ => Ok(()),
        }
    }
}

/// As many bytes as make whole words.
fn words(len: usize) -> usize {
    len / 4 * 4
}

impl Device for FaultyBoundary {
    fn supports(&self, graph: &Graph, node: NodeId) -> Support {
        if self.is("answers_otherwise_alone") {
            fire();
            return Support::No { reason: "not alone".into() };
        }
        self.inner.supports(graph, node)
    }

    fn supports_all(&self, graph: &Graph) -> Result<Vec<Support>, BackendError> {
        let mut answers = self.inner.supports_all(graph)?;
        self.asked.set(self.asked.get() + 1);
        if self.is("changes_its_mind") && self.asked.get() > 1 {
            fire();
            answers.fill(Support::No { reason: "not any more".into() });
        }
        Ok(answers)
    }

    fn alloc(&mut self, buffer: &BufferDesc) -> Result<BufferId, BackendError> {
        if self.lost {
            return Err(BackendError::new(ErrorCode::DeviceLost, "the device was lost"));
        }
        self.check_name(&buffer.name)?;
        let mut asked = buffer.clone();
        if buffer.size > 1 << 50 {
            match self.fault {
                "gives_an_exabyte" => {
                    fire();
                    asked.size = 1;
                }
                "panics_for_an_exabyte" => {
                    fire();
                    panic!("capacity overflow")
                }
                "lost_after_too_much" => {
                    fire();
                    self.lost = true;
                }
                _ => {}
            }
        }
        if self.is("a_thousand_buffers") && self.buffers.len() >= 1_000 {
            return Err(self.refuse("there are a thousand buffers"));
        }
        let id = self.inner.alloc(&asked)?;
        self.made.insert(id, self.made.len() as u64);
        self.buffers.push((id, buffer.size));
        Ok(id)
    }

    fn load_weight(&mut self, mut weight: Weight) -> Result<LoadedWeight, BackendError> {
        self.check_name(&weight.name)?;
        self.loaded += 1;
        if self.is("a_hundred_weights") && self.loaded > 100 {
            return Err(self.refuse("there are a hundred weights"));
        }
        let kept = weight.data.clone();
        // Where the bytes would begin if their address were rounded down, as far as that can be seen from here.
        let off = weight.data.as_ptr().addr() % 4;
        if self.is("weights_are_aligned") && off > 0 {
            fire();
            let mut shifted = vec![0xa5; off];
            shifted.extend_from_slice(&weight.data[..weight.data.len() - off]);
            weight.data = Bytes::from(shifted);
        }
        let mut loaded = self.inner.load_weight(weight)?;
        match self.fault {
            "keeps_the_bytes" | "never_lets_go" | "leaks_weights" => {
                fire();
                if self.is("never_lets_go") {
                    loaded.placement = Placement::Aliased;
                    std::mem::forget(kept.clone());
                }
                if self.is("leaks_weights") {
                    leak_bytes(kept.len());
                } else {
                    self.weights.insert(loaded.buffer, kept);
                    if self.is("keeps_the_bytes") {
                        loaded.placement = Placement::Copied;
                    }
                }
            }
            _ => {}
        }
        Ok(loaded)
    }

    fn write(&mut self, buffer: BufferId, offset: usize, src: &[u8]) -> Result<(), BackendError> {
        let mut src = src;
        match self.fault {
            "writes_whole_words" if !src.len().is_multiple_of(4) => {
                fire();
                src = &src[..words(src.len())];
            }
            "caches_inputs"
                if offset > 0 && self.plans.values().any(|(_, b)| b.iter().any(|b| b.location.buffer == buffer)) =>
            {
                fire();
                return Ok(());
            }
            "memory_for_all_devices" => {
                let mut shared = SHARED.lock().unwrap_or_else(|e| e.into_inner());
                let all = shared.get_or_insert_default().entry(self.made[&buffer]).or_default();
                all.resize(all.len().max(offset + src.len()), 0);
                all[offset..offset + src.len()].copy_from_slice(src);
            }
            _ => {}
        }
        self.inner.write(buffer, offset, src)
    }

    fn read(&mut self, buffer: BufferId, offset: usize, dst: &mut [u8]) -> Result<(), BackendError> {
        self.catch_up()?;
        if self.is("reads_early")
            && let Some((at, bytes)) = self.before.take_if(|(at, _)| at.buffer == buffer)
        {
            self.inner.read(buffer, offset, dst)?;
            let from = offset.saturating_sub(at.offset).min(bytes.len());
            let old = &bytes[from..(from + dst.len()).min(bytes.len())];
            if offset >= at.offset && dst[..old.len()] != *old {
                fire();
                dst[..old.len()].copy_from_slice(old);
            }
            return Ok(());
        }
        if self.is("reads_whole_words") && !dst.len().is_multiple_of(4) {
            fire();
            let len = words(dst.len());
            return if len == 0 { Ok(()) } else { self.inner.read(buffer, offset, &mut dst[..len]) };
        }
        self.inner.read(buffer, offset, dst)?;
        if self.is("memory_for_all_devices") {
            let mut shared = SHARED.lock().unwrap_or_else(|e| e.into_inner());
            let all = shared.get_or_insert_default().get(&self.made[&buffer]);
            if let Some(bytes) = all.and_then(|all| all.get(offset..offset + dst.len())).filter(|bytes| *bytes != dst) {
                fire();
                dst.copy_from_slice(bytes);
            }
        }
        Ok(())
    }

    fn copy(&mut self, mut to: Location, mut from: Location, mut len: usize) -> Result<(), BackendError> {
        match self.fault {
            "copy_loses_its_tail" if !len.is_multiple_of(4) => {
                fire();
                len = words(len);
            }
            "copy_from_the_beginning" if from.offset > 0 && to.buffer != from.buffer => {
                fire();
                from.offset = 0;
            }
            "copy_to_the_beginning" if to.offset > 0 && to.buffer != from.buffer => {
                fire();
                to.offset = 0;
            }
            "copies_late" => {
                fire();
                self.copies.push((to, from, len));
                return Ok(());
            }
            "copies_nothing" => {
                fire();
                return Ok(());
            }
            _ => {}
        }
        if len == 0 { Ok(()) } else { self.inner.copy(to, from, len) }
    }

    fn free(&mut self, buffer: BufferId) {
        // An error of what was put off has nobody to go to.
        let _ = self.catch_up();
        if self.is("frees_the_next_buffer")
            && let Some(next) = self.buffers.iter().skip_while(|(id, _)| *id != buffer).nth(1)
        {
            let _ = self.clear(next.0);
        }
        if let Some((_, size)) = self.buffers.iter().find(|(id, _)| *id == buffer)
            && self.is("leaks_buffers")
        {
            fire();
            leak_bytes(*size);
        }
        self.buffers.retain(|(id, _)| *id != buffer);
        self.weights.remove(&buffer);
        self.inner.free(buffer);
    }

    fn compile(&mut self, graph: &Graph, bindings: &[Binding]) -> Result<PlanId, BackendError> {
        for (_, value) in graph.bound_values() {
            self.check_name(&value.name)?;
        }
        if self.is("a_hundred_plans") && self.plans.len() >= 100 {
            return Err(self.refuse("there are a hundred plans"));
        }
        if self.is("few_nodes") && graph.nodes().len() > 256 {
            return Err(self.refuse("there are more than 256 nodes"));
        }
        let mut seen = HashSet::new();
        if self.is("one_weight_one_value") && bindings.iter().any(|b| !seen.insert(b.location.buffer)) {
            return Err(self.refuse("a buffer is bound twice"));
        }
        if self.is("leaks_plans") {
            fire();
            leak_bytes(8 << 10);
        }
        let plan = self.inner.compile(graph, bindings)?;
        self.freed.remove(&plan);
        self.plans.insert(plan, (graph.clone(), bindings.to_vec()));
        Ok(plan)
    }

    fn run(&mut self, plan: PlanId, symbols: &SymbolValues) -> Result<(), BackendError> {
        if self.lost {
            return Err(BackendError::new(ErrorCode::DeviceLost, "the device was lost"));
        }
        if self.freed.contains(&plan) {
            fire();
            return Err(BackendError::invalid("the plan was freed"));
        }
        match self.fault {
            "runs_late" | "sync_forgets" => {
                fire();
                self.runs.push((plan, *symbols));
                return Ok(());
            }
            "leaks_runs" => {
                fire();
                leak_bytes(4 << 10);
            }
            "reads_early" => {
                if let Some((at, size)) = self.output(plan, symbols).filter(|(_, size)| *size > 0) {
                    let mut bytes = vec![0; size];
                    self.inner.read(at.buffer, at.offset, &mut bytes)?;
                    self.before = Some((at, bytes));
                }
            }
            "forgets_states" => {
                let states: Vec<BufferId> = self
                    .plans
                    .iter()
                    .filter(|(id, _)| **id != plan)
                    .flat_map(|(_, (graph, bindings))| {
                        let state = |b: &&Binding| graph.value(b.value).kind == camelid_core::graph::ValueKind::State;
                        bindings.iter().filter(state).map(|b| b.location.buffer)
                    })
                    .collect();
                states.into_iter().try_for_each(|state| self.clear(state))?;
            }
            _ => {}
        }
        let outcome = self.inner.run(plan, symbols);
        if outcome.is_err() {
            match self.fault {
                "lost_after_an_index" => {
                    fire();
                    self.lost = true;
                }
                "leaks_errors" => {
                    fire();
                    leak_bytes(4 << 10);
                }
                _ => {}
            }
        }
        if self.is("scratch_for_all_threads")
            && let Some((at, size)) = self.output(plan, symbols).filter(|(_, size)| *size > 0)
        {
            let mut bytes = vec![0; size];
            self.inner.read(at.buffer, at.offset, &mut bytes)?;
            SCRATCH.lock().unwrap_or_else(|e| e.into_inner()).clone_from(&bytes);
            std::thread::sleep(std::time::Duration::from_micros(200));
            let mut passed = SCRATCH.lock().unwrap_or_else(|e| e.into_inner()).clone();
            passed.resize(size, 0);
            if passed != bytes {
                fire();
                self.inner.write(at.buffer, at.offset, &passed)?;
            }
        }
        outcome
    }

    fn free_plan(&mut self, plan: PlanId) {
        let _ = self.catch_up();
        if self.is("frees_too_much") {
            self.freed.extend(self.plans.keys().copied());
        }
        self.plans.remove(&plan);
        self.freed.remove(&plan);
        self.inner.free_plan(plan);
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        if self.is("sync_forgets") && !self.runs.is_empty() {
            fire();
            self.runs.clear();
        }
        self.catch_up()?;
        self.inner.sync()
    }
}
