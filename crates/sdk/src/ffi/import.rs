//! The host's side: a plugin's table of functions as a [`Backend`].
//!
//! Nothing a plugin answers is taken on trust where it can be checked: codes, counts, null handles, texts. What it
//! does with memory and threads cannot be checked: a plugin is native code.

use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

use camelid_abi as abi;
use camelid_core::backend::{
    Backend, BackendError, Binding, BufferDesc, BufferId, BufferUsage, Device, DeviceInfo, DeviceKind, Devices,
    LoadedWeight, Location, Options, Placement, PlanId, Support, Weight,
};
use camelid_core::graph::{Graph, NodeId, SymbolValues};

use super::functions::Functions;
use super::graph_out::{GraphOut, symbols_out};
pub use super::manifest::{ConnectError, ManifestInfo, check_manifest};
use super::message::{Call, broken, read_text};
use super::{str_out, struct_size, weight};
use crate::convert;

/// More devices than this are taken for a mistake.
const MAX_DEVICES: u32 = 4096;
/// Bytes for the reason of a verdict.
const REASON_CAPACITY: usize = 256;

/// Calls a plugin's entry and takes its functions.
///
/// # Safety
/// `entry` is the entry of a library that stays loaded for the process, whose manifest gave `info`, and which keeps
/// the rules of `specs/plugin-abi.md`.
pub unsafe fn connect(
    info: ManifestInfo,
    entry: abi::Entry,
    host: &'static abi::Host,
) -> Result<PluginBackend, ConnectError> {
    let (mut plugin, mut api) = (ptr::null_mut(), ptr::null());
    // SAFETY: by contract.
    Call::run(|error| unsafe { entry(host, &mut plugin, &mut api, error) }).map_err(ConnectError::Entry)?;
    // SAFETY: the entry gave them.
    unsafe { adopt(info, plugin, api) }
}

/// A backend of a plugin and its functions.
///
/// # Safety
/// They were made by one plugin, which keeps the rules.
pub(super) unsafe fn adopt(
    info: ManifestInfo,
    plugin: *mut abi::Plugin,
    api: *const abi::Api,
) -> Result<PluginBackend, ConnectError> {
    let plugin = NonNull::new(plugin).ok_or(ConnectError::NoPlugin)?;
    // SAFETY: by contract.
    let functions = unsafe { Functions::read(api)? };
    Ok(PluginBackend { info, plugin: Arc::new(Plugin { plugin: Mutex::new(plugin), functions }) })
}

/// A plugin in use. Shut down when the backend and all its devices are gone.
struct Plugin {
    // Calls on a plugin take turns.
    plugin: Mutex<NonNull<abi::Plugin>>,
    functions: Functions,
}

// SAFETY: a plugin's functions may be called from any thread, one at a time, which the mutex sees to.
unsafe impl Send for Plugin {}
// SAFETY: as above.
unsafe impl Sync for Plugin {}

impl Plugin {
    fn with<R>(&self, f: impl FnOnce(*mut abi::Plugin, &Functions) -> R) -> R {
        let plugin = self.plugin.lock().unwrap_or_else(PoisonError::into_inner);
        f(plugin.as_ptr(), &self.functions)
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // SAFETY: every device is closed: each keeps this alive.
        self.with(|plugin, f| unsafe { (f.shutdown)(plugin) });
    }
}

/// A plugin as a [`Backend`].
pub struct PluginBackend {
    info: ManifestInfo,
    plugin: Arc<Plugin>,
}

impl PluginBackend {
    /// What the plugin says of itself.
    pub fn manifest(&self) -> &ManifestInfo {
        &self.info
    }

    /// Whether the plugin has the extension of this name.
    pub fn has_extension(&self, name: &str) -> bool {
        self.plugin.with(|plugin, f| match f.extension {
            // SAFETY: the name lives for the call.
            Some(extension) => !unsafe { extension(plugin, str_out(name)) }.is_null(),
            None => false,
        })
    }
}

impl fmt::Debug for PluginBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginBackend").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Backend for PluginBackend {
    fn name(&self) -> &str {
        &self.info.name
    }

    fn version(&self) -> &str {
        &self.info.version
    }

    fn devices(&self) -> Result<Devices, BackendError> {
        self.plugin.with(|plugin, f| {
            let mut count = u32::MAX;
            // SAFETY: the pointers live for the call.
            let note = Call::with_note(|error| unsafe { (f.device_count)(plugin, &mut count, error) })?;
            if count > MAX_DEVICES {
                return Err(broken(format!("the plugin answered OK but counts {count} devices; this is a bug in it")));
            }
            let list = (0..count).map(|i| device_info(plugin, f, i)).collect::<Result<_, _>>()?;
            Ok(Devices { list, note: (!note.is_empty()).then_some(note) })
        })
    }

    fn open(&self, index: usize, options: &Options) -> Result<Box<dyn Device>, BackendError> {
        let index = u32::try_from(index).map_err(|_| BackendError::invalid(format!("there is no device {index}")))?;
        let settings: Vec<abi::KeyValue> =
            options.iter().map(|(k, v)| abi::KeyValue { key: str_out(k), value: str_out(v) }).collect();
        let mut device = ptr::null_mut();
        self.plugin.with(|plugin, f| {
            // SAFETY: the pointers live for the call.
            Call::run(|error| unsafe {
                (f.device_open)(plugin, index, settings.as_ptr(), settings.len(), &mut device, error)
            })
        })?;
        let device = NonNull::new(device).ok_or_else(|| no_handle("device_open", "a device"))?;
        Ok(Box::new(PluginDevice { device, plugin: self.plugin.clone() }))
    }
}

fn no_handle(function: &str, what: &str) -> BackendError {
    broken(format!("`{function}` answered OK but gave no handle of {what}; this is a bug in the plugin"))
}

fn device_info(plugin: *mut abi::Plugin, f: &Functions, index: u32) -> Result<DeviceInfo, BackendError> {
    let mut info =
        abi::DeviceInfo { struct_size: struct_size::<abi::DeviceInfo>(), kind: 0, memory: 0, name: [0; 128] };
    // SAFETY: the pointers live for the call.
    Call::run(|error| unsafe { (f.device_info)(plugin, index, &mut info, error) })?;
    let kind = match info.kind {
        0 => return Err(broken(format!("`device_info` answered OK but says nothing of device {index}"))),
        abi::DEVICE_CPU => DeviceKind::Cpu,
        abi::DEVICE_GPU => DeviceKind::Gpu,
        _ => DeviceKind::Accelerator,
    };
    let name = read_text(&info.name.map(|c| c as u8));
    Ok(DeviceInfo { name, kind, memory: (info.memory > 0).then_some(info.memory) })
}

/// A device of a plugin. Closed before its plugin is shut down.
struct PluginDevice {
    device: NonNull<abi::Device>,
    plugin: Arc<Plugin>,
}

// SAFETY: a device may be driven from any thread, by one at a time.
unsafe impl Send for PluginDevice {}

impl PluginDevice {
    fn call(
        &self,
        function: impl FnOnce(&Functions, *mut abi::Device, *mut abi::Error) -> abi::Status,
    ) -> Result<(), BackendError> {
        Call::run(|error| function(&self.plugin.functions, self.device.as_ptr(), error))
    }
}

impl Drop for PluginDevice {
    fn drop(&mut self) {
        // SAFETY: once; the host freed plans and buffers before.
        unsafe { (self.plugin.functions.device_close)(self.device.as_ptr()) }
    }
}

/// The id that stands for a handle, and the handle of an id.
fn id<T>(handle: NonNull<T>) -> u64 {
    handle.as_ptr().expose_provenance() as u64
}

fn handle<T>(id: u64) -> *mut T {
    ptr::with_exposed_provenance_mut(id as usize)
}

impl Device for PluginDevice {
    fn supports(&self, graph: &Graph, node: NodeId) -> Support {
        match self.supports_all(graph) {
            Ok(all) => all[node.0 as usize].clone(),
            Err(error) => Support::No { reason: error.to_string() },
        }
    }

    fn supports_all(&self, graph: &Graph) -> Result<Vec<Support>, BackendError> {
        let out = GraphOut::new(graph)?;
        let n = graph.nodes().len();
        let mut reasons = vec![0u8; n * REASON_CAPACITY];
        let mut answers: Vec<abi::Support> = reasons
            .chunks_mut(REASON_CAPACITY)
            .map(|reason| abi::Support {
                struct_size: struct_size::<abi::Support>(),
                verdict: 0,
                reason_capacity: REASON_CAPACITY as u32,
                reserved: 0,
                reason: reason.as_mut_ptr().cast(),
            })
            .collect();
        let places: Vec<*mut abi::Support> = answers.iter_mut().map(ptr::from_mut).collect();
        // SAFETY: the pointers live for the call.
        self.call(|f, device, error| unsafe { (f.graph_supports)(device, out.as_ptr(), places.as_ptr(), error) })?;
        // SAFETY: each place is one of `answers`; read through the pointers the plugin wrote through.
        let verdicts = places.iter().map(|place| unsafe { (**place).verdict });
        let reasons = reasons.chunks(REASON_CAPACITY).map(read_text);
        verdicts
            .zip(reasons)
            .enumerate()
            .map(|(i, (verdict, reason))| match verdict {
                abi::SUPPORT_YES => Ok(Support::Yes),
                abi::SUPPORT_LOWER => Ok(Support::Lower { reason }),
                abi::SUPPORT_NO => Ok(Support::No { reason }),
                0 => Err(broken(format!(
                    "`graph_supports` answered OK but says nothing of node {i}, {}; this is a bug in the plugin",
                    graph.signature(NodeId(i as u32))
                ))),
                other => Ok(Support::No { reason: format!("{reason} (verdict {other}, which is not known)") }),
            })
            .collect()
    }

    fn alloc(&mut self, buffer: &BufferDesc) -> Result<BufferId, BackendError> {
        let desc = abi::BufferDesc {
            struct_size: struct_size::<abi::BufferDesc>(),
            usage: match buffer.usage {
                BufferUsage::Input => abi::USAGE_INPUT,
                BufferUsage::Output => abi::USAGE_OUTPUT,
                BufferUsage::State => abi::USAGE_STATE,
            },
            size: buffer.size as u64,
            name: str_out(&buffer.name),
        };
        let mut made = ptr::null_mut();
        // SAFETY: the pointers live for the call.
        self.call(|f, device, error| unsafe { (f.buffer_alloc)(device, &desc, &mut made, error) })?;
        NonNull::new(made).map(|made| BufferId(id(made))).ok_or_else(|| no_handle("buffer_alloc", "a buffer"))
    }

    fn load_weight(&mut self, taken: Weight) -> Result<LoadedWeight, BackendError> {
        let Weight { name, ty, data, may_repack } = taken;
        let abi_ty = convert::type_to_abi(&ty)
            .ok_or_else(|| BackendError::invalid(format!("weight `{name}` ({ty}) is too large for a plugin")))?;
        let mut sent = abi::Weight {
            struct_size: struct_size::<abi::Weight>(),
            flags: abi::WEIGHT_MAY_ALIAS | if may_repack { abi::WEIGHT_MAY_REPACK } else { 0 },
            ty: abi_ty,
            data: data.as_ptr().cast(),
            size: data.len() as u64,
            name: str_out(&name),
            release: Some(weight::release),
            release_ctx: ptr::null_mut(),
            placement: 0,
            reserved: 0,
        };
        let lent = weight::lend(data);
        sent.release_ctx = lent;
        let mut made = ptr::null_mut();
        let mut status = abi::STATUS_OK;
        let result = self.call(|f, device, error| {
            // SAFETY: the pointers live for the call, and the bytes until they are released.
            status = unsafe { (f.weight_load)(device, &mut sent, &mut made, error) };
            status
        });
        let placement = match sent.placement {
            abi::PLACEMENT_COPIED => Some(Placement::Copied),
            abi::PLACEMENT_ALIASED => Some(Placement::Aliased),
            abi::PLACEMENT_REPACKED => Some(Placement::Repacked),
            _ => None,
        };
        // Bytes that the plugin may still look at stay: those it aliases, and those of a call that went wrong midway.
        let may_be_kept = match result {
            Ok(()) => !matches!(placement, Some(Placement::Copied | Placement::Repacked)),
            Err(_) => status == abi::STATUS_PANIC,
        };
        if !may_be_kept {
            // SAFETY: the plugin does not keep them, so it does not release them.
            unsafe { weight::take_back(lent) };
        }
        result?;
        let made = NonNull::new(made).ok_or_else(|| no_handle("weight_load", "a buffer"))?;
        let buffer = BufferId(id(made));
        match placement {
            Some(placement) => Ok(LoadedWeight { buffer, placement }),
            None => {
                self.free(buffer);
                Err(broken(format!(
                    "`weight_load` answered OK but gave the placement {}, which is not known; this is a bug in the plugin",
                    sent.placement
                )))
            }
        }
    }

    fn write(&mut self, buffer: BufferId, offset: usize, src: &[u8]) -> Result<(), BackendError> {
        // SAFETY: the pointers live for the call.
        self.call(|f, device, error| unsafe {
            (f.buffer_write)(device, handle(buffer.0), offset as u64, src.as_ptr().cast(), src.len(), error)
        })
    }

    fn read(&mut self, buffer: BufferId, offset: usize, dst: &mut [u8]) -> Result<(), BackendError> {
        // SAFETY: the pointers live for the call.
        self.call(|f, device, error| unsafe {
            (f.buffer_read)(device, handle(buffer.0), offset as u64, dst.as_mut_ptr().cast(), dst.len(), error)
        })
    }

    fn copy(&mut self, to: Location, from: Location, len: usize) -> Result<(), BackendError> {
        let (to_offset, from_offset) = (to.offset as u64, from.offset as u64);
        // SAFETY: the handles are of this device.
        self.call(|f, device, error| unsafe {
            let (to, from) = (handle(to.buffer.0), handle(from.buffer.0));
            (f.buffer_copy)(device, to, to_offset, from, from_offset, len as u64, error)
        })
    }

    fn free(&mut self, buffer: BufferId) {
        // SAFETY: the handle is of this device.
        unsafe { (self.plugin.functions.buffer_free)(self.device.as_ptr(), handle(buffer.0)) }
    }

    fn compile(&mut self, graph: &Graph, bindings: &[Binding]) -> Result<PlanId, BackendError> {
        let out = GraphOut::new(graph)?;
        let bindings: Vec<abi::Binding> = bindings
            .iter()
            .map(|b| abi::Binding {
                value: b.value.0,
                reserved: 0,
                buffer: handle(b.location.buffer.0),
                offset: b.location.offset as u64,
            })
            .collect();
        let mut made = ptr::null_mut();
        // SAFETY: the pointers live for the call.
        self.call(|f, device, error| unsafe {
            (f.plan_compile)(device, out.as_ptr(), bindings.as_ptr(), bindings.len(), &mut made, error)
        })?;
        NonNull::new(made).map(|made| PlanId(id(made))).ok_or_else(|| no_handle("plan_compile", "a plan"))
    }

    fn run(&mut self, plan: PlanId, symbols: &SymbolValues) -> Result<(), BackendError> {
        let symbols = symbols_out(symbols);
        // SAFETY: the pointers live for the call.
        self.call(|f, device, error| unsafe {
            (f.plan_run)(device, handle(plan.0), symbols.as_ptr(), symbols.len(), error)
        })
    }

    fn free_plan(&mut self, plan: PlanId) {
        // SAFETY: the handle is of this device.
        unsafe { (self.plugin.functions.plan_free)(self.device.as_ptr(), handle(plan.0)) }
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        // SAFETY: the pointers live for the call.
        self.call(|f, device, error| unsafe { (f.device_sync)(device, error) })
    }
}
