//! [`evaluate`]: a graph on a device, once, to test a backend with.

use camelid_core::backend::{BackendError, Binding, BufferDesc, BufferUsage, Location, Weight};
use camelid_core::graph::{Graph, Output, SymbolValues, ValueKind};
use camelid_core::{Bytes, Device};

/// Runs one step of `graph` with every bound value in a buffer of its own, and gives back the bytes of
/// [`Graph::outputs`] in order.
///
/// `contents` are the bytes of weights, inputs and states by name; what is not there is left as the device made it.
/// Everything is freed before this returns.
///
/// # Errors
/// [`ErrorCode::Invalid`](camelid_core::backend::ErrorCode::Invalid) for a weight without contents and for contents
/// that no value is named after; whatever the device answers.
pub fn evaluate(
    device: &mut dyn Device,
    graph: &Graph,
    contents: &[(&str, Vec<u8>)],
    symbols: &SymbolValues,
) -> Result<Vec<Vec<u8>>, BackendError> {
    let mut bindings = Vec::new();
    let done = bind(device, graph, contents, &mut bindings).and_then(|()| {
        let plan = device.compile(graph, &bindings)?;
        let done = device.run(plan, symbols).and_then(|()| read(device, graph, &bindings, symbols));
        device.free_plan(plan);
        done
    });
    for binding in bindings {
        device.free(binding.location.buffer);
    }
    done
}

fn bind(
    device: &mut dyn Device,
    graph: &Graph,
    contents: &[(&str, Vec<u8>)],
    bindings: &mut Vec<Binding>,
) -> Result<(), BackendError> {
    if let Some((name, _)) = contents.iter().find(|(name, _)| graph.bound_values().all(|(_, v)| v.name != *name)) {
        return Err(BackendError::invalid(format!("contents of `{name}`: the graph has no bound value of this name")));
    }
    for (value, bound) in graph.bound_values() {
        let data = contents.iter().find(|(name, _)| *name == bound.name).map(|(_, data)| data);
        let (name, ty) = (bound.name.clone(), bound.ty);
        let mut keep = |buffer| bindings.push(Binding { value, location: Location { buffer, offset: 0 } });
        if bound.kind == ValueKind::Weight {
            let missing = || BackendError::invalid(format!("weight `{name}` ({ty}) has no contents"));
            let data = Bytes::from(data.ok_or_else(missing)?.clone());
            keep(device.load_weight(Weight { name, ty, data, may_repack: true })?.buffer);
            continue;
        }
        let too_large = || BackendError::invalid(format!("value `{name}` ({ty}) is too large to be counted"));
        let size = ty.bytes(&graph.range().max).ok_or_else(too_large)?;
        let buffer = device.alloc(&BufferDesc { name, size, usage: BufferUsage::State })?;
        keep(buffer);
        if let Some(data) = data {
            device.write(buffer, 0, data)?;
        }
    }
    Ok(())
}

fn read(
    device: &mut dyn Device,
    graph: &Graph,
    bindings: &[Binding],
    symbols: &SymbolValues,
) -> Result<Vec<Vec<u8>>, BackendError> {
    let read = |output: &Output| {
        let (storage, ty) = (graph.storage_of(output.value), graph.value(output.value).ty);
        let found = bindings.iter().find(|b| b.value == storage).map(|b| b.location);
        let missing = || BackendError::invalid(format!("output `{}` ({ty}) has no memory at this step", output.name));
        let (at, len) = found.zip(ty.bytes(symbols)).ok_or_else(missing)?;
        let mut bytes = vec![0; len];
        device.read(at.buffer, at.offset, &mut bytes)?;
        Ok(bytes)
    };
    graph.outputs().iter().map(read).collect()
}
