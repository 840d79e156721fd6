//! [`Registry`]: the backends there are, by name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use camelid_core::Backend;
use camelid_core::backend::{BackendError, Devices, LinkedBackend, Options};
use camelid_core::inventory;
use camelid_sdk::import::PluginBackend;

use crate::config::{Config, Trust};
use crate::device::DeviceHandle;
use crate::error::HostError;
use crate::plugin::{PluginError, PluginSpec, Sidecar};
use crate::suggest::nearest;

/// The backends there are, by name.
///
/// A name stands for one backend: a second one of that name is an error that lists both, and a name that is not
/// there is an error that lists those that are. The registry never puts one backend in another's place.
///
/// A plugin is known by the manifest beside its library; its code is loaded when it is asked for. One that cannot be
/// loaded stays in the registry with the reason, and is not tried again.
#[derive(Default)]
pub struct Registry {
    backends: BTreeMap<String, Registered>,
    /// Plugins that did not get as far as a name.
    nameless: Vec<(PathBuf, PluginError)>,
}

enum Registered {
    Here { backend: Box<dyn Backend>, origin: BackendOrigin },
    Plugin(Box<Plugin>),
}

struct Plugin {
    spec: PluginSpec,
    sidecar: Result<Sidecar, PluginError>,
    loaded: OnceLock<Result<PluginBackend, PluginError>>,
}

impl Plugin {
    fn load(&self) -> Result<&PluginBackend, &PluginError> {
        self.sidecar.as_ref()?;
        self.loaded.get_or_init(|| self.spec.load()).as_ref()
    }
}

impl Registered {
    fn describe(&self) -> String {
        match self {
            Registered::Here { backend, origin } => format!("version {} ({origin})", backend.version()),
            Registered::Plugin(plugin) => format!("the plugin {}", plugin.spec.path.display()),
        }
    }

    fn version(&self) -> Option<String> {
        match self {
            Registered::Here { backend, .. } => Some(backend.version().to_owned()),
            Registered::Plugin(plugin) => plugin.sidecar.as_ref().ok().map(|s| s.version.clone()),
        }
    }

    fn origin(&self) -> BackendOrigin {
        match self {
            Registered::Here { origin, .. } => origin.clone(),
            Registered::Plugin(plugin) => {
                let abi = plugin.sidecar.as_ref().ok().map(|s| (s.abi_major, s.abi_minor));
                BackendOrigin::Plugin { path: plugin.spec.path.clone(), abi }
            }
        }
    }

    fn backend(&self, name: &str) -> Result<&dyn Backend, HostError> {
        match self {
            Registered::Here { backend, .. } => Ok(&**backend),
            Registered::Plugin(plugin) => match plugin.load() {
                Ok(backend) => Ok(backend),
                Err(error) => Err(failed(name, &plugin.spec.path, error)),
            },
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn failed(name: &str, path: &Path, error: &PluginError) -> HostError {
    HostError::Plugin { name: name.to_owned(), path: path.to_owned(), error: error.clone() }
}

/// How a backend came into the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendOrigin {
    /// Linked into the program and found through its [`LinkedBackend`].
    Linked,
    /// Handed over with [`Registry::register`].
    Registered,
    /// A dynamic library.
    Plugin {
        /// Its path.
        path: PathBuf,
        /// The version of the plugin interface that it says it was built for.
        abi: Option<(u32, u32)>,
    },
}

impl fmt::Display for BackendOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendOrigin::Linked => f.write_str("linked"),
            BackendOrigin::Registered => f.write_str("registered"),
            BackendOrigin::Plugin { path, abi: None } => write!(f, "plugin {}", path.display()),
            BackendOrigin::Plugin { path, abi: Some((major, minor)) } => {
                write!(f, "plugin {}, interface {major}.{minor}", path.display())
            }
        }
    }
}

/// A backend as `camelid backends` shows it.
#[derive(Debug)]
pub struct BackendEntry {
    /// Its name; that of its file for a plugin whose name is not known.
    pub name: String,
    /// Its version, if it is known.
    pub version: Option<String>,
    /// How it came here.
    pub origin: BackendOrigin,
    /// Its devices, or why it is not usable.
    pub devices: Result<Devices, HostError>,
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
            let backend = make();
            if backend.name() != *name {
                let problem = format!("it is registered as `{name}`; the two names must be the same");
                return Err(bad_name(&*backend, BackendOrigin::Linked, problem));
            }
            registry.add(backend, BackendOrigin::Linked)?;
        }
        Ok(registry)
    }

    /// All backends that are linked in, and the plugins that `config` names and trusts.
    ///
    /// # Errors
    /// [`HostError::DuplicateBackend`] if two have one name. A plugin that cannot be used is no error until it is asked
    /// for.
    pub fn configured(config: &Config) -> Result<Registry, HostError> {
        let mut registry = Registry::linked()?;
        let trust = config.plugins.trust.unwrap_or_default();
        for spec in &config.plugin {
            let refused = (trust == Trust::Hash && spec.sha256.is_none()).then(|| spec.not_pinned());
            registry.add_plugin_unless(spec.clone(), refused)?;
        }
        for folder in config.plugins.folders.iter().flatten().map(PathBuf::from) {
            let found = match trust {
                Trust::Hash => Err(PluginError::FolderNotTrusted),
                Trust::Path => PluginSpec::in_folder(&folder),
            };
            match found {
                Ok(specs) => specs.into_iter().try_for_each(|spec| registry.add_plugin(spec))?,
                Err(error) => registry.nameless.push((folder, error)),
            }
        }
        Ok(registry)
    }

    /// Adds a backend.
    ///
    /// # Errors
    /// As [`Registry::linked`].
    pub fn register(&mut self, backend: Box<dyn Backend>) -> Result<(), HostError> {
        self.add(backend, BackendOrigin::Registered)
    }

    fn add(&mut self, backend: Box<dyn Backend>, origin: BackendOrigin) -> Result<(), HostError> {
        let name = backend.name().to_owned();
        if !is_backend_name(&name) {
            return Err(bad_name(&*backend, origin, format!("a backend's name is {BACKEND_NAME_RULE}")));
        }
        self.insert(name, Registered::Here { backend, origin })
    }

    /// Adds a plugin by the manifest beside its library. None of its code runs until it is asked for; what is wrong with
    /// it is told then.
    ///
    /// # Errors
    /// [`HostError::DuplicateBackend`] if its name is taken.
    pub fn add_plugin(&mut self, spec: PluginSpec) -> Result<(), HostError> {
        self.add_plugin_unless(spec, None)
    }

    /// [`Registry::add_plugin`] for a plugin that a person named by its path, now: a backend of its name that is linked in
    /// makes way for it.
    ///
    /// # Errors
    /// [`HostError::DuplicateBackend`] if its name is taken by another plugin.
    pub fn add_chosen_plugin(&mut self, spec: PluginSpec) -> Result<(), HostError> {
        let name = spec.sidecar().ok().map(|s| s.name);
        if let Some(name) = name
            && let Some(Registered::Here { origin: BackendOrigin::Linked, .. }) = self.backends.get(&name)
        {
            tracing::info!(name, path = %spec.path.display(), "the plugin takes the place of the backend that is linked in");
            self.backends.remove(&name);
        }
        self.add_plugin(spec)
    }

    /// [`Registry::add_plugin`], as one that is not to be used if it was refused.
    fn add_plugin_unless(&mut self, spec: PluginSpec, refused: Option<PluginError>) -> Result<(), HostError> {
        let sidecar = spec.sidecar();
        let sidecar = refused.map_or(sidecar, Err);
        match spec.name.as_deref().or(sidecar.as_ref().ok().map(|s| s.name.as_str())).map(str::to_owned) {
            Some(name) => {
                let plugin = Plugin { spec, sidecar, loaded: OnceLock::new() };
                self.insert(name, Registered::Plugin(Box::new(plugin)))
            }
            None => {
                self.nameless.extend(sidecar.err().map(|error| (spec.path, error)));
                Ok(())
            }
        }
    }

    fn insert(&mut self, name: String, new: Registered) -> Result<(), HostError> {
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

    /// The backend of this name; a plugin is loaded.
    ///
    /// # Errors
    /// [`HostError::UnknownBackend`] with the nearest name and all there are; [`HostError::Plugin`].
    pub fn get(&self, name: &str) -> Result<&dyn Backend, HostError> {
        match self.backends.get(name) {
            Some(found) => found.backend(name),
            None => Err(HostError::UnknownBackend {
                name: name.to_owned(),
                nearest: nearest(name, self.names()).map(str::to_owned),
                known: self.backends.keys().cloned().collect(),
                failed: self.nameless.iter().map(|(path, error)| format!("{}: {error}", path.display())).collect(),
            }),
        }
    }

    /// Every backend by name with where it comes from, and whether it is fit to be loaded, as far as can be told without
    /// loading it.
    pub fn known(&self) -> impl Iterator<Item = (String, BackendOrigin, Result<(), HostError>)> {
        let named = self.backends.iter().map(|(name, registered)| {
            let fit = match registered {
                Registered::Plugin(plugin) => match &plugin.sidecar {
                    Err(error) => Err(failed(name, &plugin.spec.path, error)),
                    Ok(_) => Ok(()),
                },
                Registered::Here { .. } => Ok(()),
            };
            (name.clone(), registered.origin(), fit)
        });
        named.chain(self.nameless.iter().map(|(path, error)| {
            let name = file_name(path);
            let error = failed(&name, path, error);
            (name, BackendOrigin::Plugin { path: path.clone(), abi: None }, Err(error))
        }))
    }

    /// Every backend with its devices, in order of name, then the plugins whose names are not known. Loads all plugins;
    /// asking for the devices may take a backend some time.
    pub fn entries(&self) -> impl Iterator<Item = BackendEntry> {
        let named = self.backends.iter().map(|(name, registered)| {
            let devices = registered.backend(name).and_then(|backend| devices_of(name, backend));
            BackendEntry { name: name.clone(), version: registered.version(), origin: registered.origin(), devices }
        });
        let nameless = self.nameless.iter().map(|(path, error)| {
            let name = file_name(path);
            let devices = Err(failed(&name, path, error));
            BackendEntry {
                name,
                version: None,
                origin: BackendOrigin::Plugin { path: path.clone(), abi: None },
                devices,
            }
        });
        named.chain(nameless)
    }

    /// Opens device `index` of the backend `name`.
    ///
    /// # Errors
    /// [`HostError::UnknownBackend`]; [`HostError::Plugin`]; [`HostError::NoDevice`] with the devices there are or why
    /// there are none; [`HostError::Backend`] if the backend refuses an option or the device does not open.
    pub fn open(&self, name: &str, index: usize, options: &Options) -> Result<DeviceHandle, HostError> {
        let backend = self.get(name)?;
        let devices = devices_of(name, backend)?;
        let Some(device) = devices.list.get(index) else {
            return Err(HostError::NoDevice { backend: name.to_owned(), index, found: describe(&devices) });
        };
        tracing::debug!(backend = name, index, device = device.name, "opening");
        let device = backend.open(index, options).map_err(during(name, format!("open device {index}")))?;
        Ok(DeviceHandle::new(name, device))
    }
}

fn devices_of(name: &str, backend: &dyn Backend) -> Result<Devices, HostError> {
    backend.devices().map_err(during(name, "look for devices".into()))
}

fn during(name: &str, operation: String) -> impl FnOnce(BackendError) -> HostError {
    let backend = name.to_owned();
    move |error| HostError::Backend { backend, operation, error }
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

fn bad_name(backend: &dyn Backend, origin: BackendOrigin, problem: String) -> HostError {
    let name = backend.name().escape_debug().to_string();
    HostError::BackendName { name, from: format!("version {} ({origin})", backend.version()), problem }
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
