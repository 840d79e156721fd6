//! What is called: the manifest, the entry, and the table of functions.

use core::ffi::{CStr, c_char, c_void};

use super::{Binding, Graph, KeyValue, Status, Str, TensorType};

/// `Manifest::magic`: "CMLD" read as a little-endian number.
pub const MAGIC: u32 = 0x444c_4d43;
/// The version of this interface whose change breaks plugins; also in the name of the entry symbol.
pub const ABI_MAJOR: u32 = 1;
/// Counts what was appended within a major version.
pub const ABI_MINOR: u32 = 0;
/// The symbol of the plugin's [`Manifest`].
pub const MANIFEST_SYMBOL: &CStr = c"camelid_plugin_manifest";
/// The symbol of the plugin's [`Entry`] for `ABI_MAJOR`.
pub const ENTRY_SYMBOL: &CStr = c"camelid_plugin_entry_v1";
/// Room that a host gives a message at least, in bytes.
pub const MESSAGE_CAPACITY: u32 = 1024;

/// A plugin, once its entry was called. The plugin's own.
#[derive(Debug)]
pub struct Plugin {
    _opaque: [u8; 0],
}

/// An open device. The plugin's own.
#[derive(Debug)]
pub struct Device {
    _opaque: [u8; 0],
}

/// Memory of a device. The plugin's own.
#[derive(Debug)]
pub struct Buffer {
    _opaque: [u8; 0],
}

/// A compiled graph of a device. The plugin's own.
#[derive(Debug)]
pub struct Plan {
    _opaque: [u8; 0],
}

/// Says what the library is, as data: read before any of its code is called. The exported symbol
/// `camelid_plugin_manifest` is this struct itself.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Manifest {
    /// [`MAGIC`].
    pub magic: u32,
    /// Size of this struct as the sender knows it.
    pub struct_size: u32,
    /// [`ABI_MAJOR`] it was built for.
    pub abi_major: u32,
    /// [`ABI_MINOR`] it was built for.
    pub abi_minor: u32,
    /// Name of the backend, NUL-terminated: lower-case letters, digits, `-` and `_`.
    pub name: *const c_char,
    /// Version of the plugin, NUL-terminated.
    pub version: *const c_char,
    /// What it was built for, NUL-terminated: `ARCHITECTURE-OS` as in "x86_64-linux".
    pub target: *const c_char,
}

// SAFETY: the pointers are to constant text that nobody changes.
unsafe impl Sync for Manifest {}

/// Where a message goes. The caller owns the memory and has cleared it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Error {
    /// Size of this struct as the sender knows it.
    pub struct_size: u32,
    /// Bytes at `message`; a longer message is cut.
    pub capacity: u32,
    /// UTF-8 text, ended by a NUL or by `capacity`.
    pub message: *mut c_char,
}

/// What the host offers a plugin. Lives for the process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Size of this struct as the sender knows it.
    pub struct_size: u32,
    /// [`ABI_MINOR`] of the host.
    pub abi_minor: u32,
    /// Goes back to the functions of this struct.
    pub ctx: *mut c_void,
    /// Writes to the host's log, from any thread: level (`LOG_*`), where from, what.
    pub log: Option<unsafe extern "C" fn(ctx: *mut c_void, level: u32, target: Str, message: Str)>,
}

// SAFETY: `ctx` is used by the host's own functions only, which may be called from any thread.
unsafe impl Sync for Host {}
// SAFETY: as above.
unsafe impl Send for Host {}

/// A device as the host shows it; the plugin fills it in.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DeviceInfo {
    /// Size of this struct as the host knows it.
    pub struct_size: u32,
    /// `DEVICE_*`.
    pub kind: u32,
    /// Memory in bytes; 0 if unknown.
    pub memory: u64,
    /// The maker's name for it: UTF-8, ended by a NUL or by the array's end.
    pub name: [c_char; 128],
}

/// The answer to one node; the plugin fills it in.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Support {
    /// Size of this struct as the host knows it.
    pub struct_size: u32,
    /// `SUPPORT_*`.
    pub verdict: u32,
    /// Bytes at `reason`.
    pub reason_capacity: u32,
    /// Zero.
    pub reserved: u32,
    /// Why, unless the verdict is yes: UTF-8, ended by a NUL or by `reason_capacity`.
    pub reason: *mut c_char,
}

/// What memory is asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BufferDesc {
    /// Size of this struct as the host knows it.
    pub struct_size: u32,
    /// `USAGE_*`.
    pub usage: u32,
    /// Bytes, at least 1.
    pub size: u64,
    /// What it is for, in messages.
    pub name: Str,
}

/// A weight on its way to a device.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Weight {
    /// Size of this struct as the host knows it.
    pub struct_size: u32,
    /// `WEIGHT_*`.
    pub flags: u32,
    /// Element type and shape; all dimensions fixed.
    pub ty: TensorType,
    /// The bytes, row after row, at any alignment.
    pub data: *const c_void,
    /// Bytes.
    pub size: u64,
    /// The tensor's name in Hugging Face form.
    pub name: Str,
    /// Lets go of the bytes. The plugin calls it exactly once, from any thread, if it answered OK and
    /// `PLACEMENT_ALIASED`, and never otherwise.
    pub release: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    /// Goes to `release`.
    pub release_ctx: *mut c_void,
    /// Out: `PLACEMENT_*`.
    pub placement: u32,
    /// Zero.
    pub reserved: u32,
}

/// The plugin's functions. Lives for the process. All but `extension` are required.
///
/// Calls are serialized by the host: one at a time for a plugin's own functions, and one at a time for each device.
/// Pointers are borrowed for the call. What is freed is never null.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Api {
    /// Size of this struct as the plugin knows it.
    pub struct_size: u32,
    /// [`ABI_MINOR`] the plugin was built for.
    pub abi_minor: u32,
    /// Ends the plugin: all devices are closed; its threads end before this returns. The library stays loaded.
    pub shutdown: Option<unsafe extern "C" fn(*mut Plugin)>,
    /// Counts the devices. With 0 the message says why there are none, though the status is OK.
    pub device_count: Option<unsafe extern "C" fn(*mut Plugin, count: *mut u32, *mut Error) -> Status>,
    /// Describes device `index`.
    pub device_info: Option<unsafe extern "C" fn(*mut Plugin, index: u32, info: *mut DeviceInfo, *mut Error) -> Status>,
    /// Opens device `index`. An unknown option is `STATUS_INVALID`.
    pub device_open: Option<
        unsafe extern "C" fn(
            *mut Plugin,
            index: u32,
            options: *const KeyValue,
            n_options: usize,
            device: *mut *mut Device,
            *mut Error,
        ) -> Status,
    >,
    /// Closes a device whose plans and buffers are freed.
    pub device_close: Option<unsafe extern "C" fn(*mut Device)>,
    /// Waits until all work of the device is done.
    pub device_sync: Option<unsafe extern "C" fn(*mut Device, *mut Error) -> Status>,
    /// Says of each node whether the device computes it: `answers` has an entry for each.
    pub graph_supports: Option<
        unsafe extern "C" fn(*mut Device, graph: *const Graph, answers: *const *mut Support, *mut Error) -> Status,
    >,
    /// Memory, contents unspecified.
    pub buffer_alloc: Option<
        unsafe extern "C" fn(*mut Device, desc: *const BufferDesc, buffer: *mut *mut Buffer, *mut Error) -> Status,
    >,
    /// Takes a weight.
    pub weight_load:
        Option<unsafe extern "C" fn(*mut Device, weight: *mut Weight, buffer: *mut *mut Buffer, *mut Error) -> Status>,
    /// Copies `size` bytes into a buffer; `data` may be reused once the call returns.
    pub buffer_write: Option<
        unsafe extern "C" fn(
            *mut Device,
            *mut Buffer,
            offset: u64,
            data: *const c_void,
            size: usize,
            *mut Error,
        ) -> Status,
    >,
    /// Copies `size` bytes from a buffer after all earlier work is done.
    pub buffer_read: Option<
        unsafe extern "C" fn(
            *mut Device,
            *mut Buffer,
            offset: u64,
            data: *mut c_void,
            size: usize,
            *mut Error,
        ) -> Status,
    >,
    /// Copies between buffers of the device, or inside one where the ranges do not overlap.
    pub buffer_copy: Option<
        unsafe extern "C" fn(
            *mut Device,
            to: *mut Buffer,
            to_offset: u64,
            from: *mut Buffer,
            from_offset: u64,
            size: u64,
            *mut Error,
        ) -> Status,
    >,
    /// Gives a buffer back.
    pub buffer_free: Option<unsafe extern "C" fn(*mut Device, *mut Buffer)>,
    /// Makes a plan of a graph: everything that can be decided is decided here. Keep what you need of the graph.
    pub plan_compile: Option<
        unsafe extern "C" fn(
            *mut Device,
            graph: *const Graph,
            bindings: *const Binding,
            n_bindings: usize,
            plan: *mut *mut Plan,
            *mut Error,
        ) -> Status,
    >,
    /// Runs one step with the values of the symbols T, S, O, L; may return before the work is done.
    pub plan_run: Option<
        unsafe extern "C" fn(*mut Device, *mut Plan, symbols: *const u64, n_symbols: usize, *mut Error) -> Status,
    >,
    /// Gives a plan back.
    pub plan_free: Option<unsafe extern "C" fn(*mut Device, *mut Plan)>,
    /// Optional: a table of functions by name ("vendor.thing/1"), or null if the plugin does not have it.
    pub extension: Option<unsafe extern "C" fn(*mut Plugin, name: Str) -> *const c_void>,
}

/// The function `camelid_plugin_entry_v1`: takes what the host offers and gives the plugin and its functions.
pub type Entry = unsafe extern "C" fn(
    host: *const Host,
    plugin: *mut *mut Plugin,
    api: *mut *const Api,
    error: *mut Error,
) -> Status;
