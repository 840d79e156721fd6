//! The plugin's side: a [`Backend`] behind the ABI's table of functions.
//!
//! Every function catches a panic of the backend and answers [`abi::STATUS_PANIC`]; the payload is forgotten, because
//! its destructor may panic too. Handles of buffers and plans are the backend's ids, not addresses.

use std::any::Any;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use camelid_abi as abi;
use camelid_core::backend::{
    Backend, BackendError, Binding, BufferDesc, BufferId, BufferUsage, Device, DeviceKind, Location, Options,
    Placement, PlanId, Support, Weight,
};
use camelid_core::graph::ValueId;

use super::graph_in::{graph_in, symbols_in};
use super::message::{broken, status_of, write_error, write_text};
use super::weight::WeightIn;
use super::{has, slice_in, str_in, struct_size};
use crate::convert;

/// The functions of every plugin made with this crate.
pub(crate) static API: abi::Api = abi::Api {
    struct_size: struct_size::<abi::Api>(),
    abi_minor: abi::ABI_MINOR,
    shutdown: Some(shutdown),
    device_count: Some(device_count),
    device_info: Some(device_info),
    device_open: Some(device_open),
    device_close: Some(device_close),
    device_sync: Some(device_sync),
    graph_supports: Some(graph_supports),
    buffer_alloc: Some(buffer_alloc),
    weight_load: Some(weight_load),
    buffer_write: Some(buffer_write),
    buffer_read: Some(buffer_read),
    buffer_copy: Some(buffer_copy),
    buffer_free: Some(buffer_free),
    plan_compile: Some(plan_compile),
    plan_run: Some(plan_run),
    plan_free: Some(plan_free),
    extension: None,
};

/// What an `abi::Plugin` of this crate is.
struct PluginState {
    backend: Box<dyn Backend>,
}

/// What an `abi::Device` of this crate is.
struct DeviceState {
    device: Box<dyn Device>,
}

/// A plugin around `backend`, to be given to [`API`].
pub(crate) fn plugin_of(backend: Box<dyn Backend>) -> *mut abi::Plugin {
    Box::into_raw(Box::new(PluginState { backend })).cast()
}

/// The manifest of a plugin: see [`export_backend!`](crate::export_backend). Both texts end with a NUL.
pub const fn manifest(name: &'static str, version: &'static str) -> abi::Manifest {
    const fn terminated(text: &'static str) -> *const c_char {
        match CStr::from_bytes_with_nul(text.as_bytes()) {
            Ok(text) => text.as_ptr(),
            Err(_) => panic!("a manifest's text has one NUL, at its end"),
        }
    }
    abi::Manifest {
        magic: abi::MAGIC,
        struct_size: struct_size::<abi::Manifest>(),
        abi_major: abi::ABI_MAJOR,
        abi_minor: abi::ABI_MINOR,
        name: terminated(name),
        version: terminated(version),
        target: TARGET_BYTES.as_ptr().cast(),
    }
}

/// `ARCHITECTURE-OS` and a NUL; the rest is NULs too.
const TARGET_BYTES: &[u8; 64] = &{
    let parts = [std::env::consts::ARCH.as_bytes(), b"-", std::env::consts::OS.as_bytes()];
    let (mut bytes, mut at, mut part) = ([0; 64], 0, 0);
    while part < parts.len() {
        let mut i = 0;
        while i < parts[part].len() {
            bytes[at] = parts[part][i];
            (at, i) = (at + 1, i + 1);
        }
        part += 1;
    }
    bytes
};

/// The text of [`TARGET_BYTES`].
pub(crate) const TARGET: &str = {
    match CStr::from_bytes_until_nul(TARGET_BYTES) {
        Ok(text) => match text.to_str() {
            Ok(text) => text,
            Err(_) => panic!("the target is ASCII"),
        },
        Err(_) => panic!("the target is short"),
    }
};

/// The body of a plugin's entry: see [`export_backend!`](crate::export_backend).
///
/// # Safety
/// The pointers are those the host gave the entry.
pub unsafe fn enter(
    host: *const abi::Host,
    plugin: *mut *mut abi::Plugin,
    api: *mut *const abi::Api,
    error: *mut abi::Error,
    name: &'static str,
    make: fn() -> Box<dyn Backend>,
) -> abi::Status {
    // SAFETY: by contract.
    unsafe {
        guard(error, || {
            if plugin.is_null() || api.is_null() {
                return Err(BackendError::invalid("the host gave no place for the plugin and its functions"));
            }
            super::log::connect(host);
            let backend = make();
            if backend.name() != name {
                return Err(broken(format!(
                    "the backend calls itself `{}`, but is exported as `{name}`",
                    backend.name()
                )));
            }
            *plugin = plugin_of(backend);
            *api = &API;
            Ok(())
        })
    }
}

/// Runs `f`, turning its error or its panic into a status and a message.
unsafe fn guard(error: *mut abi::Error, f: impl FnOnce() -> Result<(), BackendError>) -> abi::Status {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(())) => abi::STATUS_OK,
        Ok(Err(e)) => {
            // SAFETY: `error` is the caller's.
            unsafe { write_error(error, &e.message) }
            status_of(&e)
        }
        Err(payload) => {
            // SAFETY: as above.
            unsafe { write_error(error, &text_of(&*payload)) }
            std::mem::forget(payload);
            abi::STATUS_PANIC
        }
    }
}

/// Runs `f`, which has nobody to tell of a panic but the log.
fn guard_quiet(what: &str, f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        super::log::error(&format!("{what} panicked: {}", text_of(&*payload)));
        std::mem::forget(payload);
    }
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

/// A handle for an id: an address that is never looked at, and never null.
fn handle<T>(id: u64) -> Result<*mut T, BackendError> {
    match usize::try_from(id).ok().and_then(|id| id.checked_add(1)) {
        Some(address) => Ok(ptr::without_provenance_mut(address)),
        None => Err(broken(format!("the backend's id {id} is too large"))),
    }
}

fn id_of<T>(handle: *mut T) -> u64 {
    // A null handle becomes an id that no backend gives: `handle` refuses it.
    (handle.addr() as u64).wrapping_sub(1)
}

fn buffer_id(buffer: *mut abi::Buffer) -> BufferId {
    BufferId(id_of(buffer))
}

/// # Safety
/// `plugin` was made by [`plugin_of`] and not shut down.
unsafe fn backend<'a>(plugin: *mut abi::Plugin) -> &'a dyn Backend {
    // SAFETY: by contract.
    unsafe { &*(*plugin.cast::<PluginState>()).backend }
}

/// # Safety
/// `device` was made by [`device_open`], is not closed, and no other call uses it.
unsafe fn device<'a>(device: *mut abi::Device) -> &'a mut dyn Device {
    // SAFETY: by contract.
    unsafe { &mut *(*device.cast::<DeviceState>()).device }
}

fn offset(n: u64) -> Result<usize, BackendError> {
    usize::try_from(n).map_err(|_| BackendError::invalid(format!("{n} bytes are more than this machine can address")))
}

// SAFETY, for all that follow: the host calls them as the ABI says, and the pointers it gives live for the call.

unsafe extern "C" fn shutdown(plugin: *mut abi::Plugin) {
    guard_quiet("shutdown", || {
        // SAFETY: the host calls this once, last.
        drop(unsafe { Box::from_raw(plugin.cast::<PluginState>()) });
    });
}

unsafe extern "C" fn device_count(plugin: *mut abi::Plugin, count: *mut u32, error: *mut abi::Error) -> abi::Status {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let devices = backend(plugin).devices()?;
            if let Some(note) = &devices.note {
                write_error(error, note);
            }
            *count = u32::try_from(devices.list.len()).map_err(|_| broken("the backend lists too many devices"))?;
            Ok(())
        })
    }
}

unsafe extern "C" fn device_info(
    plugin: *mut abi::Plugin,
    index: u32,
    info: *mut abi::DeviceInfo,
    error: *mut abi::Error,
) -> abi::Status {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let devices = backend(plugin).devices()?;
            let found = devices.list.get(index as usize);
            let found = found.ok_or_else(|| BackendError::invalid(format!("there is no device {index}")))?;
            if !has!((*info).struct_size, abi::DeviceInfo, name) {
                return Err(BackendError::invalid("the host's DeviceInfo is too small"));
            }
            (*info).kind = match found.kind {
                DeviceKind::Cpu => abi::DEVICE_CPU,
                DeviceKind::Gpu => abi::DEVICE_GPU,
                DeviceKind::Accelerator => abi::DEVICE_ACCELERATOR,
            };
            (*info).memory = found.memory.unwrap_or(0);
            let capacity = (*info).name.len();
            write_text((&raw mut (*info).name).cast::<c_char>(), capacity, &found.name);
            Ok(())
        })
    }
}

unsafe extern "C" fn device_open(
    plugin: *mut abi::Plugin,
    index: u32,
    options: *const abi::KeyValue,
    n_options: usize,
    opened: *mut *mut abi::Device,
    error: *mut abi::Error,
) -> abi::Status {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let mut known = Options::default();
            for option in slice_in(options, n_options) {
                known.set(str_in(option.key), str_in(option.value));
            }
            let device = backend(plugin).open(index as usize, &known)?;
            *opened = Box::into_raw(Box::new(DeviceState { device })).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn device_close(closed: *mut abi::Device) {
    guard_quiet("closing a device", || {
        // SAFETY: the host calls this once, after all else is freed.
        drop(unsafe { Box::from_raw(closed.cast::<DeviceState>()) });
    });
}

unsafe extern "C" fn device_sync(synced: *mut abi::Device, error: *mut abi::Error) -> abi::Status {
    // SAFETY: see above.
    unsafe { guard(error, || device(synced).sync()) }
}

unsafe extern "C" fn graph_supports(
    asked: *mut abi::Device,
    graph: *const abi::Graph,
    answers: *const *mut abi::Support,
    error: *mut abi::Error,
) -> abi::Status {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let read = graph_in(graph)?;
            let found = device(asked).supports_all(&read.graph)?;
            for (node, answer) in read.nodes.into_iter().zip(slice_in(answers, (*graph).n_nodes as usize)) {
                let support = match node {
                    Ok(id) => {
                        found.get(id.0 as usize).cloned().ok_or_else(|| broken("the backend leaves out a node"))?
                    }
                    // The host knows whether it has a lowering.
                    Err(unknown) => Support::Lower { reason: unknown },
                };
                let (verdict, reason) = match support {
                    Support::Yes => (abi::SUPPORT_YES, String::new()),
                    Support::Lower { reason } => (abi::SUPPORT_LOWER, reason),
                    Support::No { reason } => (abi::SUPPORT_NO, reason),
                };
                (**answer).verdict = verdict;
                write_text((**answer).reason, (**answer).reason_capacity as usize, &reason);
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn buffer_alloc(
    owner: *mut abi::Device,
    desc: *const abi::BufferDesc,
    buffer: *mut *mut abi::Buffer,
    error: *mut abi::Error,
) -> abi::Status {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let abi::BufferDesc { usage, size, name, .. } = *desc;
            let usage = match usage {
                abi::USAGE_INPUT => BufferUsage::Input,
                abi::USAGE_OUTPUT => BufferUsage::Output,
                abi::USAGE_STATE => BufferUsage::State,
                other => return Err(BackendError::unsupported(format!("buffer usage {other} is not known"))),
            };
            let desc = BufferDesc { name: str_in(name), size: offset(size)?, usage };
            *buffer = handle(device(owner).alloc(&desc)?.0)?;
            Ok(())
        })
    }
}

unsafe extern "C" fn weight_load(
    owner: *mut abi::Device,
    weight: *mut abi::Weight,
    buffer: *mut *mut abi::Buffer,
    error: *mut abi::Error,
) -> abi::Status {
    // SAFETY: see above.
    unsafe {
        if !has!((*weight).struct_size, abi::Weight, placement) {
            write_error(error, "the host's Weight is too small");
            return abi::STATUS_INVALID;
        }
        let Some(bytes) = WeightIn::new(&*weight) else {
            write_error(error, "the weight has no bytes");
            return abi::STATUS_INVALID;
        };
        let status = guard(error, || {
            let ty = convert::type_from_abi(&(*weight).ty);
            let ty = ty.ok_or_else(|| BackendError::unsupported("the weight has a type this plugin does not know"))?;
            let taken = Weight {
                name: str_in((*weight).name),
                ty,
                data: bytes.bytes(),
                may_repack: (*weight).flags & abi::WEIGHT_MAY_REPACK != 0,
            };
            let loaded = device(owner).load_weight(taken)?;
            *buffer = handle(loaded.buffer.0)?;
            (*weight).placement = match loaded.placement {
                _ if bytes.is_kept() => abi::PLACEMENT_ALIASED,
                Placement::Repacked => abi::PLACEMENT_REPACKED,
                Placement::Aliased | Placement::Copied => abi::PLACEMENT_COPIED,
            };
            Ok(())
        });
        if status == abi::STATUS_OK && (*weight).placement == abi::PLACEMENT_ALIASED {
            bytes.arm();
        } else if bytes.is_kept() {
            // The host is about to take the bytes back; only after a panic it lets them be.
            write_error(error, "the backend kept the bytes of a weight that it did not take");
            return abi::STATUS_PANIC;
        }
        status
    }
}

unsafe extern "C" fn buffer_write(
    owner: *mut abi::Device,
    buffer: *mut abi::Buffer,
    at: u64,
    data: *const c_void,
    size: usize,
    error: *mut abi::Error,
) -> abi::Status {
    // SAFETY: see above.
    unsafe { guard(error, || device(owner).write(buffer_id(buffer), offset(at)?, slice_in(data.cast::<u8>(), size))) }
}

unsafe extern "C" fn buffer_read(
    owner: *mut abi::Device,
    buffer: *mut abi::Buffer,
    at: u64,
    data: *mut c_void,
    size: usize,
    error: *mut abi::Error,
) -> abi::Status {
    // SAFETY: see above; the host gives memory that holds bytes.
    unsafe {
        guard(error, || {
            let data: &mut [u8] =
                if size == 0 { &mut [] } else { std::slice::from_raw_parts_mut(data.cast::<u8>(), size) };
            device(owner).read(buffer_id(buffer), offset(at)?, data)
        })
    }
}

unsafe extern "C" fn buffer_copy(
    owner: *mut abi::Device,
    to: *mut abi::Buffer,
    to_offset: u64,
    from: *mut abi::Buffer,
    from_offset: u64,
    size: u64,
    error: *mut abi::Error,
) -> abi::Status {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let to = Location { buffer: buffer_id(to), offset: offset(to_offset)? };
            let from = Location { buffer: buffer_id(from), offset: offset(from_offset)? };
            device(owner).copy(to, from, offset(size)?)
        })
    }
}

unsafe extern "C" fn buffer_free(owner: *mut abi::Device, buffer: *mut abi::Buffer) {
    // SAFETY: see above.
    guard_quiet("freeing a buffer", || unsafe { device(owner).free(buffer_id(buffer)) });
}

unsafe extern "C" fn plan_compile(
    owner: *mut abi::Device,
    graph: *const abi::Graph,
    bindings: *const abi::Binding,
    n_bindings: usize,
    plan: *mut *mut abi::Plan,
    error: *mut abi::Error,
) -> abi::Status {
    // SAFETY: see above.
    unsafe {
        guard(error, || {
            let graph = graph_in(graph)?.complete()?;
            let place = |b: &abi::Binding| {
                let location = Location { buffer: buffer_id(b.buffer), offset: offset(b.offset)? };
                Ok(Binding { value: ValueId(b.value), location })
            };
            let bindings: Vec<_> =
                slice_in(bindings, n_bindings).iter().map(place).collect::<Result<_, BackendError>>()?;
            *plan = handle(device(owner).compile(&graph, &bindings)?.0)?;
            Ok(())
        })
    }
}

unsafe extern "C" fn plan_run(
    owner: *mut abi::Device,
    plan: *mut abi::Plan,
    symbols: *const u64,
    n_symbols: usize,
    error: *mut abi::Error,
) -> abi::Status {
    // SAFETY: see above.
    unsafe { guard(error, || device(owner).run(PlanId(id_of(plan)), &symbols_in(slice_in(symbols, n_symbols))?)) }
}

unsafe extern "C" fn plan_free(owner: *mut abi::Device, plan: *mut abi::Plan) {
    // SAFETY: see above.
    guard_quiet("freeing a plan", || unsafe { device(owner).free_plan(PlanId(id_of(plan))) });
}
