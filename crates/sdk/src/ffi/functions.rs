//! A plugin's table of functions, after it was found complete.

use std::ffi::c_void;
use std::ptr::NonNull;

use camelid_abi as abi;

use super::has;
use super::manifest::ConnectError;

macro_rules! functions {
    ($($name:ident: fn($($arg:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions every plugin has.
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct Functions {
            $(pub(crate) $name: unsafe extern "C" fn($($arg),*) $(-> $result)?,)*
            /// The one that may be missing.
            pub(crate) extension: Option<unsafe extern "C" fn(*mut abi::Plugin, abi::Str) -> *const c_void>,
        }

        impl Functions {
            /// The names of the required functions, in the order of the table.
            #[cfg(test)]
            pub(crate) const REQUIRED: &[&str] = &[$(stringify!($name)),*];

            fn complete(api: &abi::Api) -> Result<Functions, ConnectError> {
                Ok(Functions {
                    $($name: api.$name.ok_or(ConnectError::MissingFunction { function: stringify!($name) })?,)*
                    extension: api.extension,
                })
            }
        }
    };
}

functions! {
    shutdown: fn(*mut abi::Plugin);
    device_count: fn(*mut abi::Plugin, *mut u32, *mut abi::Error) -> abi::Status;
    device_info: fn(*mut abi::Plugin, u32, *mut abi::DeviceInfo, *mut abi::Error) -> abi::Status;
    device_open: fn(*mut abi::Plugin, u32, *const abi::KeyValue, usize, *mut *mut abi::Device, *mut abi::Error)
        -> abi::Status;
    device_close: fn(*mut abi::Device);
    device_sync: fn(*mut abi::Device, *mut abi::Error) -> abi::Status;
    graph_supports: fn(*mut abi::Device, *const abi::Graph, *const *mut abi::Support, *mut abi::Error) -> abi::Status;
    buffer_alloc: fn(*mut abi::Device, *const abi::BufferDesc, *mut *mut abi::Buffer, *mut abi::Error) -> abi::Status;
    weight_load: fn(*mut abi::Device, *mut abi::Weight, *mut *mut abi::Buffer, *mut abi::Error) -> abi::Status;
    buffer_write: fn(*mut abi::Device, *mut abi::Buffer, u64, *const c_void, usize, *mut abi::Error) -> abi::Status;
    buffer_read: fn(*mut abi::Device, *mut abi::Buffer, u64, *mut c_void, usize, *mut abi::Error) -> abi::Status;
    buffer_copy: fn(*mut abi::Device, *mut abi::Buffer, u64, *mut abi::Buffer, u64, u64, *mut abi::Error)
        -> abi::Status;
    buffer_free: fn(*mut abi::Device, *mut abi::Buffer);
    plan_compile: fn(*mut abi::Device, *const abi::Graph, *const abi::Binding, usize, *mut *mut abi::Plan,
        *mut abi::Error) -> abi::Status;
    plan_run: fn(*mut abi::Device, *mut abi::Plan, *const u64, usize, *mut abi::Error) -> abi::Status;
    plan_free: fn(*mut abi::Device, *mut abi::Plan);
}

impl Functions {
    /// The functions of a table, which may be longer or, without optional functions, shorter than this version's.
    ///
    /// # Safety
    /// `api` is null or points to as many bytes as its `struct_size` says.
    pub(crate) unsafe fn read(api: *const abi::Api) -> Result<Functions, ConnectError> {
        let api = NonNull::new(api.cast_mut()).ok_or(ConnectError::NoTable)?;
        // SAFETY: by contract; the size is looked at before anything else is.
        unsafe {
            let size = (*api.as_ptr()).struct_size;
            if !has!(size, abi::Api, plan_free) {
                return Err(ConnectError::SmallTable { size, needed: std::mem::offset_of!(abi::Api, extension) });
            }
            let mut known = abi::Api::default();
            let bytes = size_of::<abi::Api>().min(size as usize);
            std::ptr::copy_nonoverlapping(api.as_ptr().cast::<u8>(), (&raw mut known).cast::<u8>(), bytes);
            if !has!(size, abi::Api, extension) {
                known.extension = None;
            }
            Functions::complete(&known)
        }
    }
}
