//! What can be wrong with the buffers a graph is bound to, checked once, when the plan is made.

use std::collections::{HashMap, HashSet};

use camelid_core::backend::{Binding, Location};
use camelid_core::graph::{Graph, Value, ValueId, ValueKind};

use crate::buffers::Buffers;
use crate::error::Error;

/// Where each bound value lives: all of [`Graph::bound_values`], each in a buffer that is large enough and of its
/// kind.
pub(crate) fn resolve(
    graph: &Graph,
    bindings: &[Binding],
    buffers: &Buffers,
) -> Result<HashMap<ValueId, Location>, Error> {
    let bindable: HashMap<ValueId, &Value> = graph.bound_values().collect();
    let in_place = graph.nodes().iter().filter_map(|n| Some(n.inputs[n.op.changes_in_place()?]));
    let changed: HashSet<ValueId> = in_place.map(|v| graph.storage_of(v)).collect();
    let mut homes = HashMap::new();
    let mut taken = Vec::new();
    for Binding { value: id, location } in bindings {
        if id.0 as usize >= graph.values().len() {
            return Err(Error::NoSuchValue { value: id.0, count: graph.values().len() });
        }
        let name = || graph.value(*id).name.clone();
        let Some(value) = bindable.get(id) else { return Err(Error::NotBindable(name())) };
        if homes.insert(*id, *location).is_some() {
            return Err(Error::BoundTwice(name()));
        }
        let len = check(graph, value, *location, buffers)?;
        let written = value.kind == ValueKind::Computed || changed.contains(id);
        taken.push(Taken { id: *id, location: *location, len, written });
    }
    for (id, value) in graph.bound_values() {
        if !homes.contains_key(&id) {
            return Err(Error::NotBound { value: value.name.clone(), ty: value.ty });
        }
    }
    no_shared_bytes(graph, taken, buffers)?;
    Ok(homes)
}

/// The bytes `value` takes at most, if they are there at `location` and it may live there.
fn check(graph: &Graph, value: &Value, location: Location, buffers: &Buffers) -> Result<usize, Error> {
    let (buffer, offset) = (buffers.get(location.buffer)?, location.offset);
    let (name, ty) = (value.name.clone(), value.ty);
    let buffer_name = buffer.name.clone();
    match (value.kind, buffer.weight_type()) {
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
    let size = buffer.bytes().len();
    if offset.checked_add(needed).is_none_or(|end| end > size) {
        return Err(Error::BufferTooSmall { value: name, ty, needed, buffer: buffer_name, size, offset });
    }
    Ok(needed)
}

/// Bytes of a buffer that a value has.
struct Taken {
    id: ValueId,
    location: Location,
    len: usize,
    /// Whether a step changes them.
    written: bool,
}

/// Checks that what is written is nobody else's: bytes are shared by values that are only read.
fn no_shared_bytes(graph: &Graph, mut taken: Vec<Taken>, buffers: &Buffers) -> Result<(), Error> {
    taken.retain(|t| t.len > 0);
    taken.sort_by_key(|t| (t.location.buffer.0, t.location.offset));
    // In this order, ranges of a buffer overlap if one begins before an earlier one ends. The earlier one that ends
    // last, and among those that are written the one that ends last, are all that have to be remembered.
    let end = |t: &Taken| t.location.offset + t.len;
    let (mut last, mut last_written): (Option<&Taken>, Option<&Taken>) = (None, None);
    for t in &taken {
        let earlier = if t.written { last } else { last_written };
        if let Some(other) = earlier
            && other.location.buffer == t.location.buffer
            && t.location.offset < end(other)
        {
            let (first, second) = if other.written { (other, t) } else { (t, other) };
            let name = |t: &Taken| graph.value(t.id).name.clone();
            let buffer = buffers.get(t.location.buffer)?.name.clone();
            return Err(Error::SharedBytes { first: name(first), second: name(second), buffer });
        }
        let later =
            |kept: Option<&Taken>| kept.is_none_or(|k| k.location.buffer != t.location.buffer || end(k) <= end(t));
        if later(last) {
            last = Some(t);
        }
        if t.written && later(last_written) {
            last_written = Some(t);
        }
    }
    Ok(())
}
