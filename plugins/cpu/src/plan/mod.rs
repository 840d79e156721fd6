//! A plan: a graph turned into phases, and the memory between them.
//!
//! Everything is decided here, once. The nodes are taken in groups that are computed together (`groups.rs`), every value gets
//! an address (`places.rs`), and each group becomes one or a few phases (`build.rs`). A step then allocates nothing and asks
//! nothing: the threads go from phase to phase, with a barrier after each that they divide among them. What is little work
//! each does for itself.

mod attend;
mod build;
mod groups;
mod phase;
mod places;
mod value;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use camelid_core::backend::{BackendError, Binding, Location};
use camelid_core::graph::{Graph, SymbolValues, ValueId};
use camelid_sdk::parts::{self, Buffers};

use crate::block::Block;
use crate::claims::CLAIMS;
use crate::isa::IsaName;
use crate::kernel::Kernels;
use crate::memory::Piece;
use crate::pool::{Barrier, Pool};

pub(crate) use phase::{Phase, Share, Step};
pub(crate) use value::Value;

/// A checked graph as phases.
pub(crate) struct Plan {
    graph: Graph,
    bound: BTreeMap<ValueId, Location>,
    phases: Vec<Named>,
    /// How many items of its share of each phase each thread has given away: `[phases][threads]`, all 0 between steps.
    taken: Vec<Taken>,
    /// A step failed on the way, so that they are not.
    failed: bool,
    /// Memory between the phases. Addresses in `phases` point into it.
    _blocks: Vec<Block>,
    /// Each thread's own memory.
    scratch: Vec<Scratch>,
}

/// A phase, and what an error of it is about.
struct Named {
    phase: Box<dyn Phase>,
    signature: String,
}

/// A counter on a line of the cache of its own.
#[derive(Default)]
#[repr(align(64))]
struct Taken(AtomicUsize);

impl Plan {
    /// The plan of `graph` for a team of `threads`.
    pub(crate) fn new(
        graph: &Graph,
        bindings: &[Binding],
        buffers: &mut Buffers<Piece>,
        kernels: Kernels,
        threads: usize,
    ) -> Result<Plan, BackendError> {
        parts::check(CLAIMS, graph)?;
        let bound = parts::bindings(graph, bindings, buffers)?;
        let built = build::build(graph, &bound, buffers, kernels, threads)?;
        let most = built.phases.iter().map(|p| p.phase.scratch()).max().unwrap_or(0);
        let mut blocks = built.blocks;
        let mut scratch = Vec::with_capacity(threads);
        for _ in 0..threads {
            let mut block = Block::new("memory of a thread", most)?;
            scratch.push(Scratch(block.start()));
            blocks.push(block);
        }
        let taken = (0..built.phases.len() * threads).map(|_| Taken::default()).collect();
        Ok(Plan { graph: graph.clone(), bound, phases: built.phases, taken, failed: false, _blocks: blocks, scratch })
    }

    /// Runs a step.
    pub(crate) fn run(
        &mut self,
        buffers: &Buffers<Piece>,
        pool: &Pool,
        isa: IsaName,
        symbols: &SymbolValues,
    ) -> Result<(), BackendError> {
        parts::check_step(&self.graph, &self.bound, buffers, symbols)?;
        if self.failed {
            self.taken.iter().for_each(|taken| taken.0.store(0, Ordering::Relaxed));
        }
        // Until the end is reached.
        self.failed = true;
        let errors = Errors::default();
        pool.run(&|thread, barrier| {
            self.thread(Share { thread, threads: pool.threads() }, barrier, isa, symbols, &errors)
        })?;
        if let Some((phase, _, BackendError { code, message })) = errors.into_first() {
            return Err(BackendError::new(code, format!("{}: {message}", self.phases[phase].signature)));
        }
        self.failed = false;
        Ok(())
    }

    /// What one thread does in a step.
    fn thread(&self, me: Share, barrier: &Barrier, isa: IsaName, symbols: &SymbolValues, errors: &Errors) {
        let scratch = self.scratch[me.thread].0;
        let mut at = Step { symbols, isa, me, each: false, scratch };
        for (i, (Named { phase, .. }, taken)) in self.phases.iter().zip(self.taken.chunks_exact(me.threads)).enumerate()
        {
            // SAFETY: addresses are those of buffers that are there and of this plan's own memory, and all threads have come
            // through the barrier of the phase before, if that was not each thread's own.
            let items = match unsafe { phase.items(symbols) } {
                Ok(0) => continue,
                Ok(items) => items,
                // All threads find the same and stop here.
                Err(error) => return errors.add(i, 0, error),
            };
            at.each = phase.each(symbols);
            if at.each {
                // SAFETY: as above; the results are this thread's copies.
                match unsafe { phase.run(&at, 0..items) } {
                    Ok(()) => continue,
                    Err(error) => return errors.add(i, 0, error),
                }
            }
            let grain = phase.grain(items, me.threads).max(1);
            // Its own share, and then what others have left of theirs.
            for thread in (me.thread..me.threads).chain(0..me.thread) {
                let share = Share { thread, ..me }.of(items);
                let taken = &taken[thread].0;
                // A look costs less than taking, which keeps the others from their own counter.
                while taken.load(Ordering::Relaxed) < share.len() {
                    let start = share.start.saturating_add(taken.fetch_add(grain, Ordering::Relaxed));
                    if start >= share.end {
                        break;
                    }
                    // SAFETY: as above; each item is taken once.
                    if let Err(error) = unsafe { phase.run(&at, start..share.end.min(start.saturating_add(grain))) } {
                        errors.add(i, start, error);
                        break;
                    }
                }
            }
            if !barrier.wait() || errors.any() {
                return;
            }
            // Nobody looks at it any more before the next step.
            taken[me.thread].0.store(0, Ordering::Relaxed);
        }
    }
}

/// What went wrong in a step: of several errors the first in order, whoever finds it.
#[derive(Default)]
struct Errors {
    any: AtomicBool,
    first: Mutex<Option<(usize, usize, BackendError)>>,
}

impl Errors {
    fn add(&self, phase: usize, item: usize, error: BackendError) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(|(p, i, _)| (phase, item) < (*p, *i)) {
            *first = Some((phase, item, error));
        }
        self.any.store(true, Ordering::Relaxed);
    }

    /// Whether there is one; certain after a barrier.
    fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    fn into_first(self) -> Option<(usize, usize, BackendError)> {
        self.first.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The beginning of a thread's own memory.
struct Scratch(*mut u8);

// SAFETY: each is used by one thread at a time.
unsafe impl Send for Scratch {}
// SAFETY: as above.
unsafe impl Sync for Scratch {}
