//! Flags that several subcommands share. A flag that is not given leaves the choice to the configuration.

use std::path::PathBuf;

use camelid_host::config::KvDtype;
use camelid_host::{Config, PluginSpec, Registry};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::Error;
use crate::decoding::DecodingFlags;

/// Which model, which backend, and how it runs.
#[derive(Args, Clone, Debug, Default)]
pub struct RunFlags {
    /// Hugging Face folder, .gguf file, .safetensors file beside its config.json, or the name of a pulled model, such as
    /// ORG/NAME or hf:ORG/NAME:FILE [default: the bundled model]
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// Backend to run on; `camelid backends` lists them
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    #[command(flatten)]
    pub plugins: PluginFlags,
    /// Configuration file to read over ./camelid.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Threads the backend may use
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
    /// Tokens a sequence may hold [default: as many as are needed, at most what the model was made for]
    #[arg(long, value_name = "N")]
    pub context_size: Option<usize>,
    /// Type of cached keys and values
    #[arg(long, value_name = "TYPE", value_parser = kv_dtype())]
    pub kv_dtype: Option<KvDtype>,
}

fn kv_dtype() -> impl TypedValueParser<Value = KvDtype> {
    PossibleValuesParser::new(KvDtype::NAMES).map(|name| KvDtype::from_name(&name).expect("one of the names"))
}

impl RunFlags {
    /// The settings these flags make, for the top layer of the configuration.
    pub fn overrides(&self) -> Config {
        let mut config = Config::default();
        config.model.clone_from(&self.model);
        config.backend.clone_from(&self.backend);
        config.engine.context_size = self.context_size;
        config.engine.kv_dtype = self.kv_dtype;
        config
    }
}

/// Plugins beside those of the configuration.
#[derive(Args, Clone, Debug, Default)]
pub struct PluginFlags {
    /// Plugin to use beside those of the configuration: a library's path; may be given several times
    #[arg(long, value_name = "PATH")]
    pub plugin: Vec<PathBuf>,
}

impl PluginFlags {
    /// All backends there are under `config` and these flags.
    pub fn registry(&self, config: &Config) -> Result<Registry, Error> {
        let mut registry = Registry::configured(config)?;
        for path in &self.plugin {
            // A bare name is looked for nowhere, least of all in the working directory.
            if path.components().count() < 2 {
                let here = std::env::current_dir()?.join(path);
                return Err(format!(
                    "--plugin {}: a plugin is named by its path, such as {}",
                    path.display(),
                    here.display()
                )
                .into());
            }
            registry.add_chosen_plugin(PluginSpec { name: None, path: std::path::absolute(path)?, sha256: None })?;
        }
        Ok(registry)
    }
}

/// How tokens are chosen.
#[derive(Args, Clone, Debug, Default)]
pub struct SamplingFlags {
    /// Most tokens to generate [default: the model's, or 256]
    #[arg(long, value_name = "N")]
    pub max_new_tokens: Option<usize>,
    /// 0 always takes the likeliest token; higher is more varied [default: the model's, or 0]
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Sample among the N likeliest tokens; 0 for all [default: the model's, or 50]
    #[arg(long, value_name = "N")]
    pub top_k: Option<usize>,
    /// Sample among the likeliest tokens that together have this probability
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Sample among tokens at least this likely compared with the likeliest
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub min_p: Option<f64>,
    /// Above 1, tokens that were there before become less likely
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub repetition_penalty: Option<f64>,
    /// Seed of the sampler; the same seed gives the same text [default: a new one each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Text that ends the generation; may be given several times
    #[arg(long, value_name = "S")]
    pub stop: Vec<String>,
    #[command(flatten)]
    pub decoding: DecodingFlags,
}

impl SamplingFlags {
    /// Adds the settings these flags make to `config`.
    pub fn add_to(&self, config: &mut Config) {
        let g = &mut config.generate;
        self.decoding.add_to(g);
        g.max_new_tokens = self.max_new_tokens;
        g.temperature = self.temperature;
        g.top_k = self.top_k;
        g.top_p = self.top_p;
        g.min_p = self.min_p;
        g.repetition_penalty = self.repetition_penalty;
        g.seed = self.seed;
        g.stop = (!self.stop.is_empty()).then(|| self.stop.clone());
    }
}
