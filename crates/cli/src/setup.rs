//! From flags and files to a backend, a checkpoint, a model and a session.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use camelid_core::DType;
use camelid_engine::sampling::SamplingParams;
use camelid_engine::{CacheKind, LoadOptions, Model, SessionOptions};
use camelid_host::config::{CacheName, KvDtype, Repack};
use camelid_host::{Config, ConfigSources, DeviceHandle, Loaded};
use indicatif::{ProgressBar, ProgressStyle};

use crate::Error;
use crate::options::{PluginFlags, RunFlags};
use crate::source;

/// The backend that runs when nothing says which.
const DEFAULT_BACKEND: &str = "reference";
/// Tokens to generate when nothing says how many.
const DEFAULT_MAX_NEW_TOKENS: usize = 256;

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
        let device = self.device()?;
        let (checkpoint, tokenizer) = source::open(self.config.model.as_deref())?;
        let bar = loading_bar();
        let options = LoadOptions { may_repack: self.config.engine.repack != Some(Repack::Never) };
        let model = Model::load(&checkpoint, tokenizer, device, options, &mut |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        })?;
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
                Some(KvDtype::F32) | None => DType::F32,
            },
            on_unsupported: engine.on_unsupported.unwrap_or(defaults.on_unsupported),
        }
    }

    /// How tokens are chosen: what is configured over what the model brings.
    pub fn sampling(&self, model: &Model) -> SamplingParams {
        let g = &self.config.generate;
        let mut recommended = model.generation_config().clone();
        // Who asks for a temperature asks for sampling, with what transformers then adds.
        recommended.do_sample = g.temperature.map(|t| t > 0.0).or(recommended.do_sample);
        let mut params = recommended.sampling_params();
        params.temperature = g.temperature.unwrap_or(params.temperature);
        params.top_k = g.top_k.unwrap_or(params.top_k);
        params.top_p = g.top_p.unwrap_or(params.top_p);
        params.min_p = g.min_p.unwrap_or(params.min_p);
        params.repetition_penalty = g.repetition_penalty.unwrap_or(params.repetition_penalty);
        params.presence_penalty = g.presence_penalty.unwrap_or(params.presence_penalty);
        params.frequency_penalty = g.frequency_penalty.unwrap_or(params.frequency_penalty);
        params.seed = g.seed.unwrap_or_else(random_seed);
        params
    }

    /// Most tokens to generate.
    pub fn max_new_tokens(&self, model: &Model) -> usize {
        let configured = self.config.generate.max_new_tokens;
        configured.or(model.generation_config().max_new_tokens).unwrap_or(DEFAULT_MAX_NEW_TOKENS)
    }

    /// Texts that end a generation.
    pub fn stop(&self, model: &Model) -> Vec<String> {
        let configured = self.config.generate.stop.clone();
        configured.unwrap_or_else(|| model.generation_config().stop_strings.clone())
    }
}

/// A seed that differs from run to run; it is reported, so that a run can be repeated.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // Kept below 2^53 so that every JSON reader gets it whole.
    RandomState::new().hash_one(std::process::id()) >> 11
}

fn loading_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("loading {bar:30} {bytes}/{total_bytes}").expect("a valid template");
    ProgressBar::new(0).with_style(style)
}
