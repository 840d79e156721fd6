//! [`FaultyKeyed`]: the reference device with caches that are asked with too little, handles that are too narrow and queues
//! that are too short: what goes wrong only when much is done on one device.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use camelid_core::Bytes;
use camelid_core::backend::{
    BackendError, Binding, BufferDesc, BufferId, Device, LoadedWeight, Location, PlanId, Support, Weight,
};
use camelid_core::graph::{Graph, NodeId, SymbolValues, ValueKind};

use crate::{Level, Mutant, fire};

const fn mutant(id: &'static str, about: &'static str) -> Mutant {
    Mutant { id, level: Level::Abi, about, cases: &[] }
}

/// Every fault of a device that remembers; [`FaultyKeyed`] knows them by name.
pub(crate) const MUTANTS: &[Mutant] = &[
    mutant("kernels_by_operation", "what was compiled is found again by operations and sizes, not by attributes"),
    mutant("kernels_without_types", "what was compiled is found again by operations, not by element types or sizes"),
    mutant("plans_by_weight_names", "a plan of an equal graph reads the weights of the plan before it"),
    mutant("plans_by_graph", "a plan of an equal graph is the plan before it, memory and all"),
    mutant("plans_by_size", "a plan of a graph with as many nodes and values is the plan before it"),
    mutant("weights_by_name", "a weight of a name that was loaded before is that weight"),
    mutant("weights_by_beginning", "a weight that begins as another of its size is that weight"),
    mutant("weights_of_all_devices", "a weight of a name that any device loaded is that weight"),
    mutant("plan_handles_u8", "the 257th plan is the first"),
    mutant("buffer_handles_u16", "the 65537th buffer is the first"),
    mutant("frees_before_it_runs", "memory that is freed while a run is under way is cleared before it is read"),
    mutant("short_write_queue", "of writes between two runs only the last 256 arrive"),
    mutant("short_run_queue", "of runs between two reads only the last 128 are done"),
    mutant("short_copy_queue", "of copies between two reads only the last 64 are done"),
    mutant("reads_4_mib", "a read ends after 4 MiB"),
    mutant("writes_16_mib", "a write ends after 16 MiB"),
    mutant("offsets_24_bits", "offsets are counted in 24 bits"),
    mutant("many_values", "a plan has 512 bound values at most"),
    mutant("first_plan_is_large", "scratch memory is as large as the first plan of the device needs"),
    mutant("run_of_another_plan_is_lost", "a run is lost if another plan runs before anybody reads"),
    mutant("error_comes_twice", "an error is answered again by the next run of the device"),
    mutant("equal_writes", "a write of as many bytes with the same sum as the one before is left out"),
];

/// What devices of `weights_of_all_devices` loaded.
static LOADED: Mutex<Option<HashMap<String, Bytes>>> = Mutex::new(None);

/// The reference device with a fault in what it remembers.
pub struct FaultyKeyed {
    inner: Box<dyn Device>,
    fault: &'static str,
    sizes: HashMap<BufferId, usize>,
    buffers: Vec<BufferId>,
    /// What is in weights, by a key of the fault's choice.
    weights: HashMap<String, Bytes>,
    /// Graphs and bindings that were compiled, by a key of the fault's choice.
    seen: HashMap<String, (Graph, Vec<Binding>)>,
    plans: Vec<PlanId>,
    first: Option<usize>,
    graphs: HashMap<PlanId, (Graph, Vec<Binding>)>,
    writes: Vec<(BufferId, usize, Vec<u8>)>,
    runs: Vec<(PlanId, SymbolValues)>,
    copies: Vec<(Location, Location, usize)>,
    sums: HashMap<(BufferId, usize), (usize, u64)>,
    error: Option<BackendError>,
}

impl FaultyKeyed {
    /// `fault` is the id of one of [`MUTANTS`].
    pub fn new(inner: Box<dyn Device>, fault: &'static str) -> FaultyKeyed {
        FaultyKeyed {
            inner,
            fault,
            sizes: HashMap::new(),
            buffers: Vec::new(),
            weights: HashMap::new(),
            seen: HashMap::new(),
            plans: Vec::new(),
            first: None,
            graphs: HashMap::new(),
            writes: Vec::new(),
            runs: Vec::new(),
            copies: Vec::new(),
            sums: HashMap::new(),
            error: None,
        }
    }

    fn is(&self, fault: &str) -> bool {
        self.fault == fault
    }

    /// The graph as a cache sees it that looks at too little.
    fn key(&self, graph: &Graph) -> String {
        let mut key = String::new();
        if self.is("plans_by_size") {
            return format!("{} {}", graph.nodes().len(), graph.bound_values().count());
        }
        if self.is("plans_by_graph") || self.is("plans_by_weight_names") {
            return format!("{graph} {:?}", graph.range());
        }
        for node in graph.node_ids() {
            let _ = write!(key, "{} ", graph.node(node).op.name());
        }
        if self.is("kernels_by_operation") {
            for (_, value) in graph.bound_values() {
                let _ = write!(key, "{} ", value.ty);
            }
        }
        key
    }

    fn flush(&mut self) -> Result<(), BackendError> {
        for (buffer, offset, bytes) in std::mem::take(&mut self.writes) {
            self.inner.write(buffer, offset, &bytes)?;
        }
        for (to, from, len) in std::mem::take(&mut self.copies) {
            self.inner.copy(to, from, len)?;
        }
        for (plan, symbols) in std::mem::take(&mut self.runs) {
            self.inner.run(plan, &symbols)?;
        }
        Ok(())
    }

    fn queue<T>(queue: &mut Vec<T>, item: T, most: usize) {
        queue.push(item);
        if queue.len() > most {
            fire();
            queue.remove(0);
        }
    }
}

impl Device for FaultyKeyed {
    fn supports(&self, graph: &Graph, node: NodeId) -> Support {
        self.inner.supports(graph, node)
    }

    fn supports_all(&self, graph: &Graph) -> Result<Vec<Support>, BackendError> {
        self.inner.supports_all(graph)
    }

    fn alloc(&mut self, buffer: &BufferDesc) -> Result<BufferId, BackendError> {
        let id = self.inner.alloc(buffer)?;
        self.sizes.insert(id, buffer.size);
        self.buffers.push(id);
        Ok(id)
    }

    fn load_weight(&mut self, mut weight: Weight) -> Result<LoadedWeight, BackendError> {
        let key = match self.fault {
            "weights_by_name" | "weights_of_all_devices" => format!("{} {}", weight.name, weight.ty),
            "weights_by_beginning" => {
                format!("{} {:?}", weight.data.len(), &weight.data[..weight.data.len().min(64)])
            }
            _ => {
                let size = weight.data.len();
                let loaded = self.inner.load_weight(weight)?;
                self.sizes.insert(loaded.buffer, size);
                return Ok(loaded);
            }
        };
        let copy = Bytes::from(weight.data.to_vec());
        let mut shared = LOADED.lock().unwrap_or_else(|e| e.into_inner());
        let known = if self.is("weights_of_all_devices") { shared.get_or_insert_default() } else { &mut self.weights };
        let first = known.entry(key).or_insert(copy).clone();
        if first[..] != weight.data[..] {
            fire();
            weight.data = first;
        }
        drop(shared);
        self.inner.load_weight(weight)
    }

    fn write(&mut self, buffer: BufferId, offset: usize, src: &[u8]) -> Result<(), BackendError> {
        if self.is("buffer_handles_u16")
            && self.buffers.len() > 65_536
            && self.buffers.last() == Some(&buffer)
            && let Some(first) = self.buffers.first().filter(|first| self.sizes.contains_key(first)).copied()
        {
            fire();
            let len = src.len().min(self.sizes[&first]);
            self.inner.write(first, 0, &src[..len])?;
        }
        let mut at = offset;
        let mut src = src;
        match self.fault {
            "writes_16_mib" if src.len() > 16 << 20 => {
                fire();
                src = &src[..16 << 20];
            }
            "offsets_24_bits" if offset >= 1 << 24 => {
                fire();
                at = offset & 0xff_ffff;
                src = &src[..src.len().min(self.sizes[&buffer] - at)];
            }
            "short_write_queue" => {
                FaultyKeyed::queue(&mut self.writes, (buffer, offset, src.to_vec()), 256);
                return Ok(());
            }
            "short_run_queue" | "short_copy_queue" | "frees_before_it_runs" | "run_of_another_plan_is_lost" => {
                self.flush()?
            }
            "equal_writes" => {
                let sum = (src.len(), src.iter().map(|b| u64::from(*b)).sum());
                if self.sums.insert((buffer, offset), sum) == Some(sum) {
                    let mut old = vec![0; src.len()];
                    self.inner.read(buffer, offset, &mut old)?;
                    if old != src {
                        fire();
                    }
                    return Ok(());
                }
            }
            _ => {}
        }
        self.inner.write(buffer, at, src)
    }

    fn read(&mut self, buffer: BufferId, offset: usize, dst: &mut [u8]) -> Result<(), BackendError> {
        self.flush()?;
        match self.fault {
            "reads_4_mib" if dst.len() > 4 << 20 => {
                fire();
                self.inner.read(buffer, offset, &mut dst[..4 << 20])
            }
            "offsets_24_bits" if offset >= 1 << 24 => {
                fire();
                let at = offset & 0xff_ffff;
                let len = dst.len().min(self.sizes[&buffer] - at);
                self.inner.read(buffer, at, &mut dst[..len])
            }
            _ => self.inner.read(buffer, offset, dst),
        }
    }

    fn copy(&mut self, to: Location, from: Location, len: usize) -> Result<(), BackendError> {
        if self.is("short_copy_queue") {
            FaultyKeyed::queue(&mut self.copies, (to, from, len), 64);
            return Ok(());
        }
        self.flush()?;
        self.inner.copy(to, from, len)
    }

    fn free(&mut self, buffer: BufferId) {
        if self.is("frees_before_it_runs")
            && !self.runs.is_empty()
            && let Some(size) = self.sizes.get(&buffer)
        {
            fire();
            let _ = self.inner.write(buffer, 0, &vec![0; *size]);
        }
        let _ = self.flush();
        self.sizes.remove(&buffer);
        self.inner.free(buffer);
    }

    fn compile(&mut self, graph: &Graph, bindings: &[Binding]) -> Result<PlanId, BackendError> {
        self.flush()?;
        if self.is("many_values") && bindings.len() > 512 {
            fire();
            return Err(BackendError::unsupported("there are more than 512 values"));
        }
        let (mut graph, mut bindings) = (graph.clone(), bindings.to_vec());
        let key = self.key(&graph);
        let keyed = [
            "kernels_by_operation",
            "kernels_without_types",
            "plans_by_weight_names",
            "plans_by_graph",
            "plans_by_size",
        ];
        if keyed.contains(&self.fault) {
            let (old, places) = self.seen.entry(key).or_insert_with(|| (graph.clone(), bindings.clone())).clone();
            let alive = |b: &Binding| self.sizes.contains_key(&b.location.buffer);
            match self.fault {
                "kernels_by_operation" | "kernels_without_types" => {
                    // The old kernel with the new memory, where it fits.
                    let fits = |b: &Binding| {
                        old.bound_values().any(|(id, v)| id == b.value && v.kind == graph.value(b.value).kind)
                    };
                    let large = |b: &Binding| {
                        let size = old.value(b.value).ty.bytes(&old.range().max);
                        let room = self.sizes.get(&b.location.buffer).map(|size| size - b.location.offset);
                        room.is_none_or(|room| size.is_some_and(|size| size <= room))
                    };
                    if old.bound_values().count() == bindings.len()
                        && bindings.iter().all(|b| fits(b) && large(b))
                        && format!("{old}") != format!("{graph}")
                        && old.range() == graph.range()
                    {
                        fire();
                        graph = old;
                    }
                }
                "plans_by_weight_names" => {
                    for (b, o) in bindings.iter_mut().zip(&places) {
                        if graph.value(b.value).kind == ValueKind::Weight && b != o && b.value == o.value && alive(o) {
                            fire();
                            *b = *o;
                        }
                    }
                }
                _ => {
                    if places != bindings && places.iter().all(alive) {
                        fire();
                        (graph, bindings) = (old, places);
                    }
                }
            }
        }
        let compiled = self.inner.compile(&graph, &bindings);
        // A weight that was freed cannot be bound again: then the fault is not seen here.
        let plan = compiled?;
        self.plans.push(plan);
        let need: usize = bindings.iter().filter_map(|b| graph.value(b.value).ty.bytes(&graph.range().max)).sum();
        self.first.get_or_insert(need);
        self.graphs.insert(plan, (graph, bindings));
        Ok(plan)
    }

    fn run(&mut self, plan: PlanId, symbols: &SymbolValues) -> Result<(), BackendError> {
        let mut plan = plan;
        match self.fault {
            "short_write_queue" | "short_copy_queue" => self.flush()?,
            "short_run_queue" => {
                FaultyKeyed::queue(&mut self.runs, (plan, *symbols), 128);
                return Ok(());
            }
            "run_of_another_plan_is_lost" => {
                if self.runs.iter().any(|(other, _)| *other != plan) {
                    fire();
                    self.runs.clear();
                }
                self.runs.push((plan, *symbols));
                return Ok(());
            }
            "frees_before_it_runs" => {
                self.runs.push((plan, *symbols));
                return Ok(());
            }
            "plan_handles_u8" => {
                let at = self.plans.iter().position(|p| *p == plan).filter(|at| *at >= 256);
                if let Some(first) = at.map(|at| self.plans[at % 256]).filter(|p| self.graphs.contains_key(p)) {
                    fire();
                    plan = first;
                }
            }
            "error_comes_twice" => {
                if let Some(error) = self.error.take() {
                    fire();
                    return Err(error);
                }
            }
            _ => {}
        }
        let outcome = self.inner.run(plan, symbols);
        if let Err(error) = &outcome {
            self.error = Some(error.clone());
        }
        if self.is("first_plan_is_large")
            && let Some((graph, bindings)) = self.graphs.get(&plan)
        {
            let need: usize = bindings.iter().filter_map(|b| graph.value(b.value).ty.bytes(symbols)).sum();
            let outputs: Vec<(Location, usize)> = graph
                .outputs()
                .iter()
                .filter_map(|o| {
                    let storage = graph.storage_of(o.value);
                    let at = bindings.iter().find(|b| b.value == storage)?.location;
                    Some((at, graph.value(o.value).ty.bytes(symbols)?))
                })
                .collect();
            if self.first.is_some_and(|first| need > first) {
                for (at, size) in outputs.into_iter().filter(|(_, size)| *size >= 4) {
                    fire();
                    self.inner.write(at.buffer, at.offset + size - 4, &[0; 4])?;
                }
            }
        }
        outcome
    }

    fn free_plan(&mut self, plan: PlanId) {
        if !self.is("frees_before_it_runs") {
            let _ = self.flush();
        }
        self.graphs.remove(&plan);
        if self.is("frees_before_it_runs") && self.runs.iter().any(|(p, _)| *p == plan) {
            // The work goes on; the plan goes when it is done.
            return;
        }
        self.inner.free_plan(plan);
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.flush()?;
        self.inner.sync()
    }
}
