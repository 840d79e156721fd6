//! From flags and files to a backend, a checkpoint, a model and a session.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use camelid_core::DType;
use camelid_engine::{CacheKind, LoadOptions, Model, SessionOptions};
use camelid_host::config::{CacheName, KvDtype, Repack};
use camelid_host::{Config, ConfigSources, DeviceHandle, Loaded};
use indicatif::{ProgressBar, ProgressStyle};

use crate::Error;
use crate::options::{PluginFlags, RunFlags};
use crate::source;

/// The backend that runs when nothing says which.
const DEFAULT_BACKEND: &str = "cpu";

/// The configuration from all its sources, `overrides` on top.
pub fn load_config(file: Option<&Path>, overrides: Config) -> Result<Loaded, Error> {
    let sources = ConfigSources {
        cwd: std::env::current_dir()?,
        explicit_file: file.map(Path::to_owned),
        env: camelid_host::config::environment()?,
        overrides,
    };
    Ok(Config::load(&sources)?)
}

/// The settings of a run, resolved.
#[derive(Debug)]
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// The name of the backend.
    pub backend: String,
    plugins: PluginFlags,
    threads: Option<u32>,
}

impl Setup {
    /// Reads the configuration under `flags` and the settings in `overrides`.
    pub fn new(flags: &RunFlags, overrides: Config) -> Result<Setup, Error> {
        let config = load_config(flags.config.as_deref(), overrides)?.config;
        let backend = config.backend.clone().unwrap_or_else(|| DEFAULT_BACKEND.to_owned());
        if config.backend.is_none() && !flags.plugins.plugin.is_empty() {
            tracing::warn!("--plugin makes a backend available; {backend} runs, because no --backend chooses it");
        }
        Ok(Setup { config, backend, plugins: flags.plugins.clone(), threads: flags.threads })
    }

    /// The configured device of the configured backend, opened.
    pub fn device(&self) -> Result<DeviceHandle, Error> {
        let registry = self.plugins.registry(&self.config)?;
        let (index, mut options) = self.config.device(&self.backend);
        if let Some(threads) = self.threads {
            options.set("threads", threads.to_string());
        }
        Ok(registry.open(&self.backend, index, &options)?)
    }

    /// The checkpoint on the device. Shows a bar while it loads, if somebody is looking.
    pub fn model(&self) -> Result<Arc<Model>, Error> {
        self.model_at(self.config.model.as_deref())
    }

    /// As [`Setup::model`], of another checkpoint; the bundled one if `None`.
    pub fn model_at(&self, path: Option<&Path>) -> Result<Arc<Model>, Error> {
        let device = self.device()?;
        let checkpoint = source::checkpoint(path)?;
        let bar = loading_bar();
        let options = LoadOptions { may_repack: self.config.engine.repack != Some(Repack::Never) };
        // A vocabulary of 50,000 tokens takes as long as the weights, if these are not repacked: both at once.
        let (model, tokenizer) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| source::tokenizer_of(&checkpoint, path));
            let model = Model::load(&checkpoint, None, device, options, &mut |done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            });
            (model, tokenizer.join())
        });
        // Its panic is this thread's.
        let tokenizer = tokenizer.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let model = model?.with_tokenizer(tokenizer);
        bar.finish_and_clear();
        Ok(Arc::new(model))
    }

    /// The session options that are configured. `needed` is how many tokens the caller will use; a context size that
    /// is not configured is that, and at most what the model was made for.
    pub fn session_options(&self, model: &Model, needed: Option<usize>) -> SessionOptions {
        let engine = &self.config.engine;
        let defaults = SessionOptions::default();
        let limit = model.config().position_limit().unwrap_or(usize::MAX);
        SessionOptions {
            context_size: engine.context_size.or(needed.map(|n| n.clamp(1, limit))),
            batch_size: engine.batch_size.unwrap_or(defaults.batch_size),
            max_sequences: engine.max_sequences.unwrap_or(defaults.max_sequences),
            cache: match engine.cache {
                Some(CacheName::Paged) => CacheKind::Paged { block_size: engine.block_size.unwrap_or(16) },
                Some(CacheName::Contiguous) | None => CacheKind::Contiguous,
            },
            kv_dtype: match engine.kv_dtype {
                Some(KvDtype::F16) => DType::F16,
                Some(KvDtype::Bf16) => DType::BF16,
                Some(KvDtype::Q8_0) => DType::Q8_0,
                Some(KvDtype::F32) | None => DType::F32,
            },
            on_unsupported: engine.on_unsupported.unwrap_or(defaults.on_unsupported),
        }
    }
}

fn loading_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("loading {bar:30} {bytes}/{total_bytes}").expect("a valid template");
    ProgressBar::new(0).with_style(style)
}
