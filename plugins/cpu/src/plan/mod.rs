//! A plan: a graph turned into phases, and the memory between them.
//!
//! Everything is decided here, once. The nodes are taken in groups that are computed together (`groups.rs`), every value gets
//! an address (`places.rs`), and each group becomes one or a few phases (`build.rs`). A step then allocates nothing and asks
//! nothing: the threads go from phase to phase, with a barrier after each.

mod build;
mod groups;
mod phase;
mod places;
mod value;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use camelid_core::backend::{BackendError, Binding, Location};
use camelid_core::graph::{Graph, SymbolValues, ValueId};
use camelid_sdk::parts::{self, Buffers};

use crate::block::Block;
use crate::claims::CLAIMS;
use crate::isa::IsaName;
use crate::memory::Piece;
use crate::pool::Pool;

pub(crate) use phase::{Phase, Step};
pub(crate) use value::Value;

/// A checked graph as phases.
pub(crate) struct Plan {
    graph: Graph,
    bound: BTreeMap<ValueId, Location>,
    phases: Vec<Named>,
    /// The next item of each phase, on a line of the cache of its own.
    next: Vec<Next>,
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

#[repr(align(64))]
struct Next(AtomicUsize);

impl Plan {
    /// The plan of `graph` for a team of `threads`.
    pub(crate) fn new(
        graph: &Graph,
        bindings: &[Binding],
        buffers: &mut Buffers<Piece>,
        isa: IsaName,
        threads: usize,
    ) -> Result<Plan, BackendError> {
        parts::check(CLAIMS, graph)?;
        let bound = parts::bindings(graph, bindings, buffers)?;
        let built = build::build(graph, &bound, buffers, isa)?;
        let most = built.phases.iter().map(|p| p.phase.scratch()).max().unwrap_or(0);
        let mut blocks = built.blocks;
        let mut scratch = Vec::with_capacity(threads);
        for _ in 0..threads {
            let mut block = Block::new("memory of a thread", most)?;
            scratch.push(Scratch(block.start()));
            blocks.push(block);
        }
        let next = built.phases.iter().map(|_| Next(AtomicUsize::new(0))).collect();
        Ok(Plan { graph: graph.clone(), bound, phases: built.phases, next, _blocks: blocks, scratch })
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
        for next in &self.next {
            next.0.store(0, Ordering::Relaxed);
        }
        let failed = AtomicUsize::new(usize::MAX);
        let error: Mutex<Option<(usize, BackendError)>> = Mutex::new(None);
        let threads = pool.threads();
        pool.run(&|me, barrier| {
            let at = Step { symbols, isa, scratch: self.scratch[me].0 };
            for (i, (named, next)) in self.phases.iter().zip(&self.next).enumerate() {
                let items = named.phase.items(symbols);
                let grain = named.phase.grain(items, threads).max(1);
                // Where everything is one piece, it is the caller's, and the others wait.
                loop {
                    let start = next.0.fetch_add(grain, Ordering::Relaxed);
                    if start >= items {
                        break;
                    }
                    // SAFETY: addresses are those of buffers that are there and of this plan's own memory; all threads have
                    // come through the barrier of the phase before, and each item is taken once.
                    let done = unsafe { named.phase.run(&at, start..(start + grain).min(items)) };
                    if let Err(found) = done {
                        let mut error = error.lock().unwrap_or_else(PoisonError::into_inner);
                        // Of several the first in order, whoever finds it.
                        if error.as_ref().is_none_or(|(at, _)| start < *at) {
                            *error = Some((start, found));
                        }
                        failed.store(i, Ordering::Relaxed);
                        break;
                    }
                }
                if !barrier.wait() || failed.load(Ordering::Relaxed) != usize::MAX {
                    return;
                }
            }
        })?;
        let error = error.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some((_, BackendError { code, message })) = error else { return Ok(()) };
        let phase = &self.phases[failed.load(Ordering::Relaxed)];
        Err(BackendError::new(code, format!("{}: {message}", phase.signature)))
    }
}

/// The beginning of a thread's own memory.
struct Scratch(*mut u8);

// SAFETY: each is used by one thread at a time.
unsafe impl Send for Scratch {}
// SAFETY: as above.
unsafe impl Sync for Scratch {}
