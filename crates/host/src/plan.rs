//! [`Plan`]: a compiled graph, and the check of its bindings.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use camelid_core::backend::{Binding, BufferId, Location, PlanId};
use camelid_core::graph::{Graph, Symbol, SymbolRange, SymbolValues, Value, ValueId, ValueKind};

use crate::device::{Buffer, DeviceHandle, Shared};
use crate::error::HostError;

/// A compiled graph, bound to buffers that it keeps alive.
pub struct Plan {
    id: PlanId,
    range: SymbolRange,
    // Let go only after this plan's own `drop`, which frees the plan.
    _buffers: Vec<Buffer>,
    shared: Arc<Shared>,
}

impl Plan {
    /// Runs one step. May return before the work is done; reading a buffer waits for it.
    ///
    /// # Errors
    /// [`HostError::Symbol`] for a symbol outside the graph's range; [`HostError::Backend`].
    pub fn run(&self, symbols: &SymbolValues) -> Result<(), HostError> {
        if let Some((symbol, value)) = self.range.violation(symbols) {
            return Err(HostError::Symbol {
                backend: self.shared.backend().to_owned(),
                symbol,
                value,
                min: self.range.min.get(symbol),
                max: self.range.max.get(symbol),
            });
        }
        self.shared.call(|| "run".into(), |device| device.run(self.id, symbols))
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Plan");
        f.field("backend", &self.shared.backend()).field("id", &self.id.0).field("range", &self.range);
        f.finish_non_exhaustive()
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        self.shared.free_plan(self.id);
    }
}

impl DeviceHandle {
    /// Compiles `graph`, every node of which the device supports (see [`DeviceHandle::place`]), with each of its
    /// [bound values](Graph::bound_values) living in a buffer, so many bytes from its start.
    ///
    /// A buffer must be large enough for its value at the range's maximum. Weights live in the buffers
    /// [`DeviceHandle::load_weight`] gave, several weights of one type in one buffer if they are tied; states and
    /// outputs share their memory with nothing else. An offset is a whole number of the value's elements.
    ///
    /// # Errors
    /// [`HostError::Binding`] naming the value; [`HostError::ForeignBuffer`]; [`HostError::SymbolRange`];
    /// [`HostError::Backend`].
    pub fn compile(&self, graph: &Graph, bindings: &[(ValueId, Buffer, usize)]) -> Result<Plan, HostError> {
        self.check_range(graph.range())?;
        let homes = self.check_bindings(graph, bindings)?;
        check_sharing(&homes).map_err(|(value, problem)| self.binding(value, problem))?;

        let located: Vec<Binding> = bindings
            .iter()
            .map(|(value, buffer, offset)| Binding {
                value: *value,
                location: Location { buffer: buffer.id(), offset: *offset },
            })
            .collect();
        let operation = || format!("compile ({} nodes)", graph.nodes().len());
        let mut state = self.shared.lock(operation)?;
        let id = self.shared.check(&mut state, operation, |device| device.compile(graph, &located))?;
        self.shared.claim_plan(&mut state, id, operation)?;
        drop(state);
        let buffers = bindings.iter().map(|(_, buffer, _)| buffer.clone()).collect();
        Ok(Plan { id, range: *graph.range(), _buffers: buffers, shared: self.shared.clone() })
    }

    fn check_range(&self, range: &SymbolRange) -> Result<(), HostError> {
        let empty = |s: &Symbol| range.min.get(*s) > range.max.get(*s);
        match Symbol::ALL.into_iter().find(empty) {
            None => Ok(()),
            Some(symbol) => Err(HostError::SymbolRange {
                backend: self.backend().to_owned(),
                symbol,
                min: range.min.get(symbol),
                max: range.max.get(symbol),
            }),
        }
    }

    /// Where every bound value lives, after each has been found to be bound once and to fit.
    fn check_bindings<'a>(
        &self,
        graph: &'a Graph,
        bindings: &[(ValueId, Buffer, usize)],
    ) -> Result<Vec<Home<'a>>, HostError> {
        let mut homes: Vec<Option<Home<'a>>> = vec![None; graph.values().len()];
        for (id, buffer, offset) in bindings {
            let Some(value) = graph.values().get(id.0 as usize) else {
                return Err(self.binding(&format!("%{}", id.0), "the graph has no such value".into()));
            };
            let name = display_name(graph, *id);
            self.owns(buffer, "compile")?;
            let wrong = |problem| self.binding(name, problem);
            if homes[id.0 as usize].is_some() {
                return Err(wrong("it is bound twice; bind it once".into()));
            }
            let range = fit(graph, value, buffer, *offset).map_err(wrong)?;
            let changes = matches!(value.kind, ValueKind::State | ValueKind::Computed);
            homes[id.0 as usize] = Some(Home { name, buffer: buffer.id(), range, changes });
        }
        let mut found = Vec::with_capacity(bindings.len());
        for (id, value) in graph.bound_values() {
            let Some(home) = homes[id.0 as usize].take() else {
                let problem =
                    format!("it ({}) is bound to no buffer; bind every input, weight, state and output", value.ty);
                return Err(self.binding(display_name(graph, id), problem));
            };
            found.push(home);
        }
        // What is left was bound without need: a result that the plan keeps to itself.
        match homes.into_iter().flatten().next() {
            None => Ok(found),
            Some(home) => Err(self.binding(
                home.name,
                "it is computed inside the graph and no output (or lives in another value's memory); leave it unbound"
                    .into(),
            )),
        }
    }

    fn binding(&self, value: &str, problem: String) -> HostError {
        HostError::Binding { backend: self.backend().to_owned(), value: value.to_owned(), problem }
    }
}

/// Where a bound value lives.
#[derive(Clone, Debug)]
struct Home<'a> {
    name: &'a str,
    buffer: BufferId,
    /// Bytes of the buffer, at the range's maximum.
    range: Range<usize>,
    /// Whether running the plan changes it.
    changes: bool,
}

/// An output goes by the name it has for the host.
fn display_name(graph: &Graph, id: ValueId) -> &str {
    let computed = graph.value(id).kind == ValueKind::Computed;
    graph.output_in(id).filter(|_| computed).map_or(&graph.value(id).name, |o| &o.name)
}

/// The bytes of `buffer` that `value` takes at `offset`, or why it may not live there.
fn fit(graph: &Graph, value: &Value, buffer: &Buffer, offset: usize) -> Result<Range<usize>, String> {
    let (ty, name, size) = (value.ty, buffer.name(), buffer.size());
    match (value.kind, buffer.weight()) {
        (ValueKind::Weight, Some(loaded)) if loaded != ty => {
            return Err(format!("it is a weight of type {ty}, but `{name}` was loaded as {loaded}"));
        }
        (ValueKind::Weight, None) => {
            return Err(format!("it is a weight, but `{name}` is plain memory; load it with load_weight"));
        }
        (kind, Some(_)) if kind != ValueKind::Weight => {
            return Err(format!("it is no weight, but `{name}` is one; bind it to allocated memory"));
        }
        _ => {}
    }
    let max = &graph.range().max;
    let needed = ty.bytes(max).ok_or_else(|| format!("the size of {ty} overflows at the range's maximum"))?;
    let element = ty.dtype.block_bytes();
    if !offset.is_multiple_of(element) {
        return Err(format!("offset {offset} in `{name}` is no whole number of its elements of {element} bytes"));
    }
    match offset.checked_add(needed) {
        Some(end) if end <= size => Ok(offset..end),
        _ => Err(format!(
            "it takes {needed} bytes ({ty} at the range's maximum), but `{name}` has {size} and it lies at \
             offset {offset}"
        )),
    }
}

/// Refuses memory that the plan changes under one name and uses under another.
fn check_sharing<'a>(homes: &[Home<'a>]) -> Result<(), (&'a str, String)> {
    let mut sorted: Vec<&Home<'a>> = homes.iter().filter(|h| !h.range.is_empty()).collect();
    sorted.sort_by_key(|h| (h.buffer.0, h.range.start));
    // The values so far that reach furthest: any, and any that changes.
    let (mut any, mut changed): (Option<&Home<'a>>, Option<&Home<'a>>) = (None, None);
    for home in sorted {
        let meets = |other: &&&Home<'a>| other.buffer == home.buffer && other.range.end > home.range.start;
        let clash = if home.changes { any.as_ref().filter(meets) } else { changed.as_ref().filter(meets) };
        if let Some(other) = clash {
            let problem =
                format!("it shares memory with `{}`, and a run changes that memory; bind them apart", other.name);
            return Err((home.name, problem));
        }
        let further =
            |old: Option<&Home<'a>>| old.is_none_or(|o| o.buffer != home.buffer || o.range.end < home.range.end);
        if further(any) {
            any = Some(home);
        }
        if home.changes && further(changed) {
            changed = Some(home);
        }
    }
    Ok(())
}
