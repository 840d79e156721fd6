//! [`Subject`]: what is tested, and how to get at it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use camelid_core::Cache;
use camelid_core::backend::{Backend, Device, Options};
use camelid_core::tokenizer::{TokenId, Tokenizer};
use camelid_engine::sampling::{Sampled, Sampler, SamplingError};
use camelid_engine::{EngineError, LoadOptions, Model, Session, SessionOptions};
use camelid_host::{DeviceHandle, HostError, Registry};
use camelid_weights::Checkpoint;

use crate::case::Problem;
use crate::claims::Claims;
use crate::report::SubjectInfo;

/// Parts of the engine that a test of the suite itself puts in place of the real ones.
#[derive(Default)]
pub struct Parts {
    /// Wraps every cache.
    pub cache: Option<Wrap<dyn Cache>>,
    /// Wraps every tokenizer.
    pub tokenizer: Option<Wrap<dyn Tokenizer>>,
    /// Samples a token: as [`Sampler::sample`].
    pub sample: Option<SampleFn>,
    /// How often a fault changed something since it was last asked: then the backend is one of the suite's own tests.
    pub fired: Option<fn() -> u64>,
}

/// Puts something around a part.
pub type Wrap<T> = Box<dyn Fn(Box<T>) -> Box<T> + Send + Sync>;

/// As [`Sampler::sample`]: sampler, logits, history, length of the prompt in it.
pub type SampleFn = fn(&mut Sampler, &[f32], &[TokenId], usize) -> Result<Sampled, SamplingError>;

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("sample", &self.sample).finish_non_exhaustive()
    }
}

/// How a backend is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Linked into the program.
    Linked,
    /// Linked in, behind its own table of functions.
    Loopback,
    /// Loaded from this library.
    Plugin(PathBuf),
}

/// What is tested: a backend by name in a registry, and parts of the engine.
pub struct Subject {
    registry: Registry,
    backend: String,
    device: usize,
    options: Options,
    /// How the backend was reached.
    pub way: Way,
    /// What the backend claims beyond the core profile, and its waivers.
    pub claims: Claims,
    /// Parts of the engine that are tested in place of its own.
    pub parts: Parts,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("backend", &self.backend).field("device", &self.device).finish_non_exhaustive()
    }
}

impl Subject {
    /// Device `device` of the backend `backend` in `registry`, opened with `options`.
    pub fn new(registry: Registry, backend: impl Into<String>, device: usize, options: Options) -> Subject {
        Subject {
            registry,
            backend: backend.into(),
            device,
            options,
            way: Way::Linked,
            claims: Claims::default(),
            parts: Parts::default(),
        }
    }

    /// The backend's name.
    pub fn name(&self) -> &str {
        &self.backend
    }

    /// The index of the device that is tested.
    pub fn device_index(&self) -> usize {
        self.device
    }

    /// What the device is opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The backend.
    ///
    /// # Errors
    /// If it cannot be loaded.
    pub fn backend(&self) -> Result<&dyn Backend, HostError> {
        self.registry.get(&self.backend)
    }

    /// What a report says about it, after opening the device once.
    ///
    /// # Errors
    /// If it cannot be loaded or its device does not open.
    pub fn info(&self) -> Result<SubjectInfo, Problem> {
        let backend = self.backend().map_err(|e| Problem::Blocked(e.to_string()))?;
        let devices = backend.devices()?;
        let Some(device) = devices.list.get(self.device) else {
            let note = devices.note.map(|note| format!(" ({note})")).unwrap_or_default();
            let (found, index) = (devices.list.len(), self.device);
            return Err(Problem::Blocked(format!("the backend has {found} devices and no device {index}{note}")));
        };
        drop(self.open()?);
        let library = if let Way::Plugin(path) = &self.way { Some(path) } else { None };
        Ok(SubjectInfo {
            backend: backend.name().to_owned(),
            version: backend.version().to_owned(),
            way: match self.way {
                Way::Linked => "linked",
                Way::Loopback => "loopback",
                Way::Plugin(_) => "plugin",
            }
            .to_owned(),
            library: library.and_then(|p| p.file_name()).map(|name| name.to_string_lossy().into_owned()),
            sha256: library.and_then(|path| camelid_fetch::sha256::of_file(path).ok()),
            device: device.name.clone(),
            device_kind: device.kind.to_string(),
            options: self.options.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        })
    }

    /// A freshly opened device, without the host's checks around it: for cases that speak to the interface.
    ///
    /// # Errors
    /// [`Problem::Blocked`] if the backend cannot be loaded; a failure if the device does not open.
    pub fn open(&self) -> Result<Box<dyn Device>, Problem> {
        let backend = self.backend().map_err(|e| Problem::Blocked(e.to_string()))?;
        Ok(backend.open(self.device, &self.options)?)
    }

    /// A freshly opened device behind the host's handle: for cases that go through the engine.
    ///
    /// # Errors
    /// What the host says.
    pub fn handle(&self) -> Result<DeviceHandle, HostError> {
        self.registry.open(&self.backend, self.device, &self.options)
    }

    /// The checkpoint at `path` on a fresh device, without a tokenizer.
    ///
    /// # Errors
    /// What the engine says.
    pub fn load(&self, path: &Path) -> Result<Arc<Model>, EngineError> {
        let checkpoint = Checkpoint::open(path)?;
        let model = Model::load(&checkpoint, None, self.handle()?, LoadOptions::default(), &mut |_, _| {})?;
        Ok(Arc::new(model))
    }

    /// A session whose cache is the engine's, or the one under test.
    ///
    /// # Errors
    /// What the engine says.
    pub fn session(&self, model: Arc<Model>, options: &SessionOptions) -> Result<Session, EngineError> {
        let Some(wrap) = &self.parts.cache else { return Session::new(model, options) };
        let cache = camelid_engine::make_cache(options, &model)?;
        Session::with_cache(model, options, wrap(cache))
    }

    /// The cache, or the one under test over it.
    pub fn cache(&self, cache: Box<dyn Cache>) -> Box<dyn Cache> {
        match &self.parts.cache {
            Some(wrap) => wrap(cache),
            None => cache,
        }
    }

    /// The tokenizer, or the one under test over it.
    pub fn tokenizer(&self, tokenizer: Box<dyn Tokenizer>) -> Box<dyn Tokenizer> {
        match &self.parts.tokenizer {
            Some(wrap) => wrap(tokenizer),
            None => tokenizer,
        }
    }

    /// One token by the engine's sampler, or by the one under test.
    ///
    /// # Errors
    /// What the sampler says.
    pub fn sample(
        &self,
        sampler: &mut Sampler,
        logits: &[f32],
        history: &[TokenId],
        prompt_len: usize,
    ) -> Result<Sampled, SamplingError> {
        match self.parts.sample {
            Some(sample) => sample(sampler, logits, history, prompt_len),
            None => sampler.sample(logits, history, prompt_len),
        }
    }
}
