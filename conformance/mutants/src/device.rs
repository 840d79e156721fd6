//! [`FaultyDevice`]: the reference device with a fault in what lies around the operations.

use std::collections::HashMap;

use camelid_core::backend::{
    BackendError, Binding, BufferDesc, BufferId, Device, LoadedWeight, Location, PlanId, Support, Weight,
};
use camelid_core::graph::{Graph, NodeId, SymbolValues, ValueKind};

use crate::fire;
use crate::{Level, Mutant};

const fn mutant(id: &'static str, about: &'static str) -> Mutant {
    Mutant {
        id,
        level: Level::Op,
        about,
        cases: &["op/linear/f32/*", "op/add/f32/*", "op/gather_rows/f32/*", "op/kv_append/f32/*"],
    }
}

/// Every fault around the operations; [`FaultyDevice`] knows them by name.
pub(crate) const MUTANTS: &[Mutant] = &[
    mutant("write_offset_lost", "writes go to the beginning of a buffer"),
    mutant("read_offset_lost", "reads come from the beginning of a buffer"),
    mutant("binding_offset_lost", "values lie at the beginning of their buffers"),
    mutant("writes_past_the_end", "four bytes behind an output are written"),
    mutant("writes_before_the_beginning", "four bytes before an output are written"),
    mutant("changes_an_input", "the first byte of an input is changed"),
    mutant("answers_from_before", "a second run gives what the first gave"),
    mutant("runs_nothing", "a run succeeds and does nothing"),
    mutant("runs_the_largest", "the symbols of the plan's range in place of the step's"),
    mutant("half_of_the_output", "the second half of an output is not written"),
    mutant("refuses_what_it_takes", "supports says Yes, compile refuses"),
    mutant("takes_what_it_refuses", "supports says No, compile takes it"),
    mutant("refuses_without_reason", "supports says No and not why"),
    mutant("lowers_a_core_operation", "supports answers Lower to a core operation"),
    mutant("swallows_errors", "an error of a run is not passed on"),
    mutant("errors_without_words", "errors have no message"),
    mutant("lost_after_an_error", "after an error nothing works any more"),
    mutant("panics", "a run panics"),
    mutant("aborts", "a run ends the process"),
    mutant("hangs", "a run never ends"),
];

/// The reference device with a fault.
pub struct FaultyDevice {
    inner: Box<dyn Device>,
    fault: &'static str,
    sizes: HashMap<BufferId, usize>,
    plans: HashMap<PlanId, Plan>,
    lost: bool,
    /// What the last run gave.
    last: Vec<u8>,
    random: u64,
}

struct Plan {
    graph: Graph,
    bindings: Vec<Binding>,
    /// What the outputs held after the last run.
    before: Option<Vec<(Location, Vec<u8>)>>,
}

impl FaultyDevice {
    /// `fault` is the id of one of [`MUTANTS`].
    pub fn new(inner: Box<dyn Device>, fault: &'static str) -> FaultyDevice {
        FaultyDevice {
            inner,
            fault,
            sizes: HashMap::new(),
            plans: HashMap::new(),
            lost: false,
            last: Vec::new(),
            random: 1,
        }
    }

    fn is(&self, fault: &str) -> bool {
        self.fault == fault
    }

    /// Where the plan's outputs lie, with their sizes at `symbols`.
    fn outputs(&self, plan: PlanId, symbols: &SymbolValues) -> Vec<(Location, usize)> {
        let Some(plan) = self.plans.get(&plan) else { return Vec::new() };
        let outputs = plan.graph.outputs().iter().filter_map(|output| {
            let storage = plan.graph.storage_of(output.value);
            let location = plan.bindings.iter().find(|b| b.value == storage)?.location;
            let size = plan.graph.value(output.value).ty.bytes(symbols)?;
            (plan.graph.value(storage).kind == ValueKind::Computed && size > 0).then_some((location, size))
        });
        outputs.collect()
    }

    fn flip(&mut self, at: Location) -> Result<(), BackendError> {
        let mut bytes = [0; 4];
        self.inner.read(at.buffer, at.offset, &mut bytes)?;
        fire();
        self.inner.write(at.buffer, at.offset, &bytes.map(|b| !b))
    }

    fn run_wrongly(&mut self, plan: PlanId, symbols: &SymbolValues) -> Result<(), BackendError> {
        let outputs = self.outputs(plan, symbols);
        let max = self.plans.get(&plan).map(|p| p.graph.range().max);
        match self.fault {
            "panics" => {
                fire();
                panic!("the kernel has a bug")
            }
            "aborts" => std::process::abort(),
            "hangs" => loop {
                std::thread::sleep(std::time::Duration::from_secs(1));
            },
            "runs_nothing" => {
                fire();
                return Ok(());
            }
            "runs_the_largest" => {
                if max.is_some_and(|max| max != *symbols) {
                    fire();
                }
                return self.inner.run(plan, &max.unwrap_or(*symbols));
            }
            "answers_from_before" => {
                let before = self.plans.get_mut(&plan).and_then(|p| p.before.take());
                if let Some(before) = before {
                    fire();
                    for (at, bytes) in &before {
                        self.inner.write(at.buffer, at.offset, bytes)?;
                    }
                    return Ok(());
                }
            }
            _ => {}
        }
        self.inner.run(plan, symbols)?;
        if ["zeros", "echo", "random"].contains(&self.fault) {
            return self.answer(&outputs);
        }
        for (at, size) in outputs {
            let room = self.sizes.get(&at.buffer).copied().unwrap_or(0);
            match self.fault {
                "writes_past_the_end" => {
                    let ty = max.and_then(|max| self.largest(plan, at, &max)).unwrap_or(size);
                    if at.offset + ty + 4 <= room {
                        self.flip(Location { offset: at.offset + ty, ..at })?;
                    }
                }
                "writes_before_the_beginning" if at.offset >= 4 => {
                    self.flip(Location { offset: at.offset - 4, ..at })?
                }
                "half_of_the_output" if size >= 8 => {
                    fire();
                    self.inner.write(at.buffer, at.offset + size / 2, &vec![0x7f; size - size / 2])?;
                }
                "answers_from_before" => {
                    let mut bytes = vec![0; size];
                    self.inner.read(at.buffer, at.offset, &mut bytes)?;
                    let plan = self.plans.get_mut(&plan).expect("it ran");
                    plan.before.get_or_insert_default().push((at, bytes));
                }
                _ => {}
            }
        }
        if self.is("changes_an_input") {
            let input = self.plans.get(&plan).and_then(|p| {
                let (id, _) = p.graph.bound_values().find(|(_, v)| v.kind == ValueKind::Input)?;
                p.bindings.iter().find(|b| b.value == id).map(|b| b.location)
            });
            if let Some(at) = input {
                self.flip(at)?;
            }
        }
        Ok(())
    }

    /// What a trivial backend answers, in place of what was computed.
    fn answer(&mut self, outputs: &[(Location, usize)]) -> Result<(), BackendError> {
        let mut given = Vec::new();
        for (at, size) in outputs.iter().copied() {
            let mut right = vec![0; size];
            self.inner.read(at.buffer, at.offset, &mut right)?;
            let mut wrong = match self.fault {
                "echo" => self.last.clone(),
                "random" => (0..size.div_ceil(4)).flat_map(|_| self.number().to_le_bytes()).collect(),
                _ => Vec::new(),
            };
            wrong.resize(size, 0);
            fire();
            self.inner.write(at.buffer, at.offset, &wrong)?;
            given.extend(right);
        }
        self.last = given;
        Ok(())
    }

    /// A number in -1..1.
    fn number(&mut self) -> f32 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    fn largest(&self, plan: PlanId, at: Location, max: &SymbolValues) -> Option<usize> {
        let plan = self.plans.get(&plan)?;
        let value = plan.bindings.iter().find(|b| b.location == at)?.value;
        plan.graph.value(value).ty.bytes(max)
    }
}

impl Device for FaultyDevice {
    fn supports(&self, graph: &Graph, node: NodeId) -> Support {
        let answer = self.inner.supports(graph, node);
        match self.fault {
            "takes_what_it_refuses" | "refuses_everything" => Support::No { reason: "it does not feel like it".into() },
            "refuses_without_reason" => Support::No { reason: String::new() },
            "lowers_a_core_operation" if !graph.node(node).op.is_macro() => {
                Support::Lower { reason: "lower it".into() }
            }
            _ => answer,
        }
    }

    fn supports_all(&self, graph: &Graph) -> Result<Vec<Support>, BackendError> {
        if ["takes_what_it_refuses", "refuses_everything", "refuses_without_reason", "lowers_a_core_operation"]
            .contains(&self.fault)
        {
            fire();
        }
        Ok(graph.node_ids().map(|node| self.supports(graph, node)).collect())
    }

    fn alloc(&mut self, buffer: &BufferDesc) -> Result<BufferId, BackendError> {
        let id = self.inner.alloc(buffer)?;
        self.sizes.insert(id, buffer.size);
        Ok(id)
    }

    fn load_weight(&mut self, weight: Weight) -> Result<LoadedWeight, BackendError> {
        self.inner.load_weight(weight)
    }

    fn write(&mut self, buffer: BufferId, offset: usize, src: &[u8]) -> Result<(), BackendError> {
        if self.is("write_offset_lost") && offset > 0 {
            fire();
            return self.inner.write(buffer, 0, src);
        }
        self.inner.write(buffer, offset, src)
    }

    fn read(&mut self, buffer: BufferId, offset: usize, dst: &mut [u8]) -> Result<(), BackendError> {
        if self.is("read_offset_lost") && offset > 0 {
            fire();
            return self.inner.read(buffer, 0, dst);
        }
        self.inner.read(buffer, offset, dst)
    }

    fn copy(&mut self, to: Location, from: Location, len: usize) -> Result<(), BackendError> {
        self.inner.copy(to, from, len)
    }

    fn free(&mut self, buffer: BufferId) {
        self.sizes.remove(&buffer);
        self.inner.free(buffer);
    }

    fn compile(&mut self, graph: &Graph, bindings: &[Binding]) -> Result<PlanId, BackendError> {
        if self.is("refuses_what_it_takes") {
            fire();
            return Err(BackendError::unsupported("not after all"));
        }
        if self.is("refuses_everything") {
            return Err(BackendError::unsupported("it does not feel like it"));
        }
        let mut bindings = bindings.to_vec();
        if self.is("binding_offset_lost") && bindings.iter().any(|b| b.location.offset > 0) {
            fire();
            bindings.iter_mut().for_each(|b| b.location.offset = 0);
        }
        let plan = self.inner.compile(graph, &bindings)?;
        self.plans.insert(plan, Plan { graph: graph.clone(), bindings, before: None });
        Ok(plan)
    }

    fn run(&mut self, plan: PlanId, symbols: &SymbolValues) -> Result<(), BackendError> {
        if self.lost {
            fire();
            return Err(BackendError::invalid("the device had an error before"));
        }
        let outcome = self.run_wrongly(plan, symbols);
        match outcome {
            Err(_) if self.is("swallows_errors") => {
                fire();
                Ok(())
            }
            Err(error) if self.is("errors_without_words") => {
                fire();
                Err(BackendError::new(error.code, ""))
            }
            Err(error) if self.is("lost_after_an_error") => {
                self.lost = true;
                Err(error)
            }
            other => other,
        }
    }

    fn free_plan(&mut self, plan: PlanId) {
        self.plans.remove(&plan);
        self.inner.free_plan(plan);
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.inner.sync()
    }
}
