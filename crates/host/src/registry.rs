//! [`Registry`]: the backends there are, by name.

use std::collections::BTreeMap;
use std::fmt;

use camelid_core::Backend;
use camelid_core::backend::{BackendError, Devices, LinkedBackend, Options};
use camelid_core::inventory;

use crate::device::DeviceHandle;
use crate::error::HostError;
use crate::suggest::nearest;

/// The backends there are, by name.
///
/// A name stands for one backend: a second one of that name is an error that lists both, and a name that is not
/// there is an error that lists those that are. The registry never puts one backend in another's place.
#[derive(Default)]
pub struct Registry {
    backends: BTreeMap<String, Registered>,
}

struct Registered {
    backend: Box<dyn Backend>,
    origin: BackendOrigin,
}

impl Registered {
    fn describe(&self) -> String {
        format!("version {} ({})", self.backend.version(), self.origin)
    }
}

/// How a backend came into the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendOrigin {
    /// Linked into the program and found through its [`LinkedBackend`].
    Linked,
    /// Handed over with [`Registry::register`].
    Registered,
}

impl fmt::Display for BackendOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BackendOrigin::Linked => "linked",
            BackendOrigin::Registered => "registered",
        })
    }
}

/// A backend as `camelid backends` shows it.
#[derive(Clone, Debug)]
pub struct BackendEntry {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// How it came here.
    pub origin: BackendOrigin,
    /// Its devices, or why it could not look for them.
    pub devices: Result<Devices, BackendError>,
}

impl Registry {
    /// A registry with no backends.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// All backends that are linked into the program.
    ///
    /// # Errors
    /// [`HostError::DuplicateBackend`] if two have one name, [`HostError::BackendName`] for a name that breaks the
    /// rule of [`Backend::name`] or is not the one in the registration.
    pub fn linked() -> Result<Registry, HostError> {
        Registry::collect(inventory::iter::<LinkedBackend>)
    }

    fn collect<'a>(linked: impl IntoIterator<Item = &'a LinkedBackend>) -> Result<Registry, HostError> {
        let mut registry = Registry::new();
        for LinkedBackend { name, make } in linked {
            let new = Registered { backend: make(), origin: BackendOrigin::Linked };
            if new.backend.name() != *name {
                let problem = format!("it is registered as `{name}`; the two names must be the same");
                return Err(bad_name(&new, problem));
            }
            registry.insert(new)?;
        }
        Ok(registry)
    }

    /// Adds a backend.
    ///
    /// # Errors
    /// As [`Registry::linked`].
    pub fn register(&mut self, backend: Box<dyn Backend>) -> Result<(), HostError> {
        self.insert(Registered { backend, origin: BackendOrigin::Registered })
    }

    fn insert(&mut self, new: Registered) -> Result<(), HostError> {
        let name = new.backend.name().to_owned();
        if !is_backend_name(&name) {
            return Err(bad_name(&new, format!("a backend's name is {BACKEND_NAME_RULE}")));
        }
        if let Some(old) = self.backends.get(&name) {
            return Err(HostError::DuplicateBackend { name, first: old.describe(), second: new.describe() });
        }
        self.backends.insert(name, new);
        Ok(())
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.backends.keys().map(String::as_str).collect()
    }

    /// The backend of this name.
    ///
    /// # Errors
    /// [`HostError::UnknownBackend`] with the nearest name and all there are.
    pub fn get(&self, name: &str) -> Result<&dyn Backend, HostError> {
        match self.backends.get(name) {
            Some(found) => Ok(&*found.backend),
            None => Err(HostError::UnknownBackend {
                name: name.to_owned(),
                nearest: nearest(name, self.names()).map(str::to_owned),
                known: self.backends.keys().cloned().collect(),
            }),
        }
    }

    /// Every backend with its devices, in order of name. Asking for the devices may take a backend some time.
    pub fn entries(&self) -> impl Iterator<Item = BackendEntry> {
        self.backends.iter().map(|(name, Registered { backend, origin })| BackendEntry {
            name: name.clone(),
            version: backend.version().to_owned(),
            origin: origin.clone(),
            devices: backend.devices(),
        })
    }

    /// Opens device `index` of the backend `name`.
    ///
    /// # Errors
    /// [`HostError::UnknownBackend`]; [`HostError::NoDevice`] with the devices there are or why there are none;
    /// [`HostError::Backend`] if the backend refuses an option or the device does not open.
    pub fn open(&self, name: &str, index: usize, options: &Options) -> Result<DeviceHandle, HostError> {
        let backend = self.get(name)?;
        let failed = |operation: String| move |error| HostError::Backend { backend: name.to_owned(), operation, error };
        let devices = backend.devices().map_err(failed("look for devices".into()))?;
        let Some(device) = devices.list.get(index) else {
            return Err(HostError::NoDevice { backend: name.to_owned(), index, found: describe(&devices) });
        };
        tracing::debug!(backend = name, index, device = device.name, "opening");
        let device = backend.open(index, options).map_err(failed(format!("open device {index}")))?;
        Ok(DeviceHandle::new(name, device))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.backends.iter().map(|(name, b)| (name, b.describe()))).finish()
    }
}

/// What [`is_backend_name`] checks, in words.
pub(crate) const BACKEND_NAME_RULE: &str = "lower-case letters, digits, `-` and `_`";

/// True for what [`Backend::name`] allows.
pub(crate) fn is_backend_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

fn bad_name(backend: &Registered, problem: String) -> HostError {
    let name = backend.backend.name().escape_debug().to_string();
    HostError::BackendName { name, from: backend.describe(), problem }
}

fn describe(devices: &Devices) -> String {
    let note = devices.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
    if devices.list.is_empty() {
        return format!("the backend found none{note}");
    }
    let list: Vec<String> = devices.list.iter().enumerate().map(|(i, d)| format!("{i} = {}", d.name)).collect();
    format!("the devices are: {}{note}", list.join(", "))
}

#[cfg(test)]
mod tests {
    use camelid_core::Device;

    use super::*;

    struct Named(&'static str);

    impl Backend for Named {
        fn name(&self) -> &str {
            self.0
        }

        fn version(&self) -> &str {
            "1.2.3"
        }

        fn devices(&self) -> Result<Devices, BackendError> {
            Ok(Devices::default())
        }

        fn open(&self, _: usize, _: &Options) -> Result<Box<dyn Device>, BackendError> {
            Err(BackendError::unsupported("it has no devices"))
        }
    }

    static NPU: LinkedBackend = LinkedBackend { name: "npu", make: || Box::new(Named("npu")) };

    #[test]
    fn two_linked_backends_with_one_name_are_an_error_that_lists_both() {
        assert_eq!(Registry::collect([&NPU]).unwrap().names(), ["npu"]);
        let error = Registry::collect([&NPU, &NPU]).unwrap_err().to_string();
        assert_eq!(
            error,
            "two backends are named `npu`: version 1.2.3 (linked) and version 1.2.3 (linked); leave one of them out"
        );
    }

    #[test]
    fn a_registration_under_another_name_is_refused() {
        let other = LinkedBackend { name: "gpu", make: || Box::new(Named("npu")) };
        let error = Registry::collect([&other]).unwrap_err().to_string();
        assert!(error.contains("`npu`") && error.contains("registered as `gpu`"), "{error}");
    }
}
