//! What can be wrong with the buffers a graph is bound to, checked once, when the plan is made.

use std::collections::{BTreeMap, HashMap, HashSet};

use camelid_core::backend::{Binding, BufferId, Location};
use camelid_core::graph::{Graph, Value, ValueId, ValueKind};

use super::buffers::Buffers;
use super::error::Error;

/// Where each of [`Graph::bound_values`] lives: each in a buffer of its kind that is large enough, and what is
/// written in bytes that are nobody else's.
pub(super) fn resolve<B>(
    graph: &Graph,
    bindings: &[Binding],
    buffers: &Buffers<B>,
) -> Result<BTreeMap<ValueId, Location>, Error> {
    let bindable: HashMap<ValueId, &Value> = graph.bound_values().collect();
    let in_place = graph.nodes().iter().filter_map(|n| Some(n.inputs[n.op.changes_in_place()?]));
    let changed: HashSet<ValueId> = in_place.map(|v| graph.storage_of(v)).collect();
    let mut bound = BTreeMap::new();
    let mut uses: HashMap<BufferId, Vec<Use<'_>>> = HashMap::new();
    for Binding { value: id, location } in bindings {
        if id.0 as usize >= graph.values().len() {
            return Err(Error::NoSuchValue { value: id.0, count: graph.values().len() });
        }
        let name = || graph.value(*id).name.clone();
        let Some(value) = bindable.get(id) else { return Err(Error::NotBindable(name())) };
        if bound.insert(*id, *location).is_some() {
            return Err(Error::BoundTwice(name()));
        }
        let len = check(graph, value, *location, buffers)?;
        let written = value.kind == ValueKind::Computed || changed.contains(id);
        if len > 0 {
            let end = location.offset + len;
            let found = Use { value: &value.name, start: location.offset, end, written };
            uses.entry(location.buffer).or_default().push(found);
        }
    }
    if let Some((_, value)) = graph.bound_values().find(|(id, _)| !bound.contains_key(id)) {
        return Err(Error::NotBound { value: value.name.clone(), ty: value.ty });
    }
    for (id, uses) in uses {
        if let Some((written, other)) = overlap(uses) {
            let buffer = buffers.get(id)?.name.clone();
            return Err(Error::SharedBytes { first: written.into(), second: other.into(), buffer });
        }
    }
    Ok(bound)
}

/// The bytes `value` takes at most, if they are there at `location` and it may live there.
fn check<B>(graph: &Graph, value: &Value, location: Location, buffers: &Buffers<B>) -> Result<usize, Error> {
    let (buffer, offset) = (buffers.get(location.buffer)?, location.offset);
    let (name, ty) = (value.name.clone(), value.ty);
    let buffer_name = buffer.name.clone();
    match (value.kind, buffer.weight) {
        (ValueKind::Weight, None) => return Err(Error::NotAWeight { value: name, buffer: buffer_name }),
        (ValueKind::Weight, Some(found)) if found != ty => {
            return Err(Error::OtherWeight { value: name, wanted: ty, buffer: buffer_name, found });
        }
        (ValueKind::Weight, Some(_)) if offset != 0 => {
            return Err(Error::WeightOffset { value: name, buffer: buffer_name, offset });
        }
        (ValueKind::Weight, Some(_)) | (_, None) => {}
        (_, Some(_)) => return Err(Error::WeightBuffer { value: name, buffer: buffer_name }),
    }
    let needed = ty.bytes(&graph.range().max).ok_or_else(|| Error::TooLarge { value: name.clone(), ty })?;
    if offset.checked_add(needed).is_none_or(|end| end > buffer.size) {
        let size = buffer.size.saturating_sub(offset);
        return Err(Error::BufferTooSmall { value: name, ty, needed, buffer: buffer_name, size, offset });
    }
    Ok(needed)
}

/// Bytes of a buffer that a value has.
#[derive(Clone, Copy)]
struct Use<'a> {
    value: &'a str,
    start: usize,
    end: usize,
    /// Whether a step changes them.
    written: bool,
}

/// Two values with bytes in common of which the first is written; values that are only read may share.
fn overlap(mut uses: Vec<Use<'_>>) -> Option<(&str, &str)> {
    uses.sort_by_key(|u| u.start);
    // In this order a value meets an earlier one if it starts before the end of the one that reaches furthest.
    let (mut furthest, mut furthest_written): (Option<Use<'_>>, Option<Use<'_>>) = (None, None);
    for this in uses {
        let earlier = if this.written { furthest } else { furthest_written };
        if let Some(earlier) = earlier.filter(|e| this.start < e.end) {
            let (written, other) = if this.written { (this, earlier) } else { (earlier, this) };
            return Some((written.value, other.value));
        }
        let reaches_further = |other: &Option<Use<'_>>| other.is_none_or(|o| this.end >= o.end);
        if reaches_further(&furthest) {
            furthest = Some(this);
        }
        if this.written && reaches_further(&furthest_written) {
            furthest_written = Some(this);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meet(uses: &[(usize, usize, bool)]) -> bool {
        let uses =
            uses.iter().map(|(start, end, written)| Use { value: "", start: *start, end: *end, written: *written });
        overlap(uses.collect()).is_some()
    }

    #[test]
    fn bytes_are_shared_by_readers_only() {
        assert!(!meet(&[(0, 8, false), (4, 12, false), (0, 12, false)]));
        assert!(!meet(&[(0, 8, true), (8, 12, true), (12, 16, false)]));
        assert!(meet(&[(0, 8, true), (7, 12, false)]));
        assert!(meet(&[(0, 8, false), (7, 12, true)]));
        assert!(meet(&[(0, 8, true), (0, 8, true)]));
    }

    #[test]
    fn a_long_value_is_remembered_past_short_ones() {
        assert!(meet(&[(0, 100, true), (200, 208, true), (90, 91, false)]));
        assert!(meet(&[(0, 100, false), (10, 20, false), (90, 91, true)]));
        assert!(!meet(&[(0, 100, false), (10, 20, false), (90, 91, false), (100, 101, true)]));
    }
}
