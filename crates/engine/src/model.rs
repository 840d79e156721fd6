//! [`Model`]: a checkpoint whose weights are on a device.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use camelid_core::backend::{Placement, Weight};
use camelid_core::graph::TensorType;
use camelid_core::llama::rope::RopeScaling;
use camelid_core::llama::{LlamaConfig, tensors};
use camelid_core::tokenizer::{EncodeOptions, TokenId, Tokenizer as _};
use camelid_host::{Buffer, DeviceHandle};
use camelid_tokenizer::{HfTokenizer, RenderOptions};
use camelid_weights::{Checkpoint, Strictness};
use serde_json::Value;

use crate::error::EngineError;
use crate::generation_config::GenerationConfig;

/// A checkpoint whose weights are on a device, with its tokenizer.
pub struct Model {
    path: PathBuf,
    config: LlamaConfig,
    generation_config: GenerationConfig,
    tokenizer: Option<HfTokenizer>,
    // Before the device, so that weights are freed first.
    weights: HashMap<String, Buffer>,
    weight_types: HashMap<String, TensorType>,
    rope_divisors: Option<Vec<f32>>,
    device: DeviceHandle,
    report: LoadReport,
}

/// What loading did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Weight bytes the device reads where the file is mapped.
    pub bytes_aliased: usize,
    /// Weight bytes the device copied.
    pub bytes_copied: usize,
    /// Weight bytes the device put into a layout of its own.
    pub bytes_repacked: usize,
    /// Tensors of the checkpoint that nothing reads.
    pub unused_tensors: Vec<String>,
    /// How long it took.
    pub duration: Duration,
}

/// How to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Whether the device may keep weights in a layout of its own.
    pub may_repack: bool,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions { may_repack: true }
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("path", &self.path).field("config", &self.config).finish_non_exhaustive()
    }
}

impl Model {
    /// Checks `checkpoint` against its configuration and loads its weights. `tokenizer` is usually what [`crate::tokenizer::load`] finds. `progress` hears the bytes
    /// done and the bytes in all.
    ///
    /// A model without a tokenizer loads; what needs one says so.
    pub fn load(
        checkpoint: &Checkpoint,
        tokenizer: Option<HfTokenizer>,
        device: DeviceHandle,
        options: LoadOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Model, EngineError> {
        let start = Instant::now();
        let path = checkpoint.path().to_owned();
        let mut config = read_config(checkpoint)?;
        if checkpoint.rope_freqs().is_some() {
            // They hold what the scaling does already.
            config.rope.scaling = RopeScaling::Default;
        }
        let generation_config = match checkpoint.generation_config() {
            None => GenerationConfig::default(),
            Some(json) => GenerationConfig::from_value(json)
                .map_err(|source| EngineError::GenerationConfig { path: path.clone(), source })?,
        };
        let expected = tensors::expected(&config, checkpoint.tensor(tensors::LM_HEAD).is_some());
        let mut report = LoadReport {
            unused_tensors: checkpoint.check_against(&expected, Strictness::Lenient)?.unexpected,
            ..LoadReport::default()
        };
        if !report.unused_tensors.is_empty() {
            tracing::warn!(
                "{} tensors are not part of a Llama and stay unread: {:?}",
                report.unused_tensors.len(),
                report.unused_tensors
            );
        }
        if config.tie_word_embeddings {
            // transformers ties whatever the file holds.
            report.unused_tensors.extend(checkpoint.tensor(tensors::LM_HEAD).map(|t| t.name.clone()));
        }
        let needed = || {
            checkpoint.tensors().iter().filter(|t| {
                let tied_head = config.tie_word_embeddings && t.name == tensors::LM_HEAD;
                !tied_head && expected.iter().any(|e| e.name == t.name)
            })
        };
        let total: usize = needed().map(|t| t.byte_len() as usize).sum();
        let mut weights = HashMap::new();
        let mut weight_types = HashMap::new();
        let mut done = 0;
        for tensor in needed() {
            let dims: Vec<_> = tensor.shape.iter().map(|n| (*n).into()).collect();
            let ty = TensorType::new(tensor.dtype, &dims).expect("the reader checks rank and whole rows");
            let data = tensor.bytes();
            let len = data.len();
            let weight = Weight { name: tensor.name.clone(), ty, data, may_repack: options.may_repack };
            let (buffer, placement) = device.load_weight(weight)?;
            match placement {
                Placement::Aliased => report.bytes_aliased += len,
                Placement::Copied => report.bytes_copied += len,
                Placement::Repacked => report.bytes_repacked += len,
            }
            weights.insert(tensor.name.clone(), buffer);
            weight_types.insert(tensor.name.clone(), ty);
            done += len;
            progress(done, total);
        }
        report.duration = start.elapsed();
        tracing::debug!(?report, "weights loaded");
        Ok(Model {
            path,
            config,
            generation_config,
            tokenizer,
            weights,
            weight_types,
            rope_divisors: checkpoint.rope_freqs().map(<[f32]>::to_vec),
            device,
            report,
        })
    }

    /// Where the checkpoint is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The checkpoint's own generation settings.
    pub fn generation_config(&self) -> &GenerationConfig {
        &self.generation_config
    }

    /// What loading did.
    pub fn report(&self) -> &LoadReport {
        &self.report
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// [`EngineError::NoTokenizer`] if the checkpoint has none.
    pub fn tokenizer(&self) -> Result<&HfTokenizer, EngineError> {
        self.tokenizer.as_ref().ok_or_else(|| EngineError::NoTokenizer { path: self.path.clone() })
    }

    /// A conversation in the model's chat template, as tokens, with the model's turn begun.
    ///
    /// Special tokens that a message spells out count as such, as they do in transformers.
    ///
    /// # Errors
    /// [`EngineError::NoChatTemplate`] if the model has none, [`EngineError::ChatTemplate`] if it cannot be rendered.
    pub fn encode_chat(&self, messages: &[Value]) -> Result<Vec<TokenId>, EngineError> {
        let tokenizer = self.tokenizer()?;
        let template = tokenizer.chat_template(None, false)?;
        let template = template.ok_or_else(|| EngineError::NoChatTemplate { path: self.path.clone() })?;
        let options = RenderOptions { add_generation_prompt: true, ..tokenizer.render_options() };
        let text = template.render(messages, &options)?;
        // The template has written the special tokens itself.
        Ok(tokenizer.encode(&text, EncodeOptions { add_special_tokens: false, parse_special: true })?.ids)
    }

    /// Every id that ends a text: those of config.json, of generation_config.json and of the tokenizer.
    pub fn eos_token_ids(&self) -> Vec<TokenId> {
        let mut ids = self.config.eos_token_id.clone();
        ids.extend(&self.generation_config.eos_token_id);
        if let Some(tokenizer) = &self.tokenizer {
            ids.extend(&tokenizer.special_tokens().eos);
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    pub(crate) fn device(&self) -> &DeviceHandle {
        &self.device
    }

    pub(crate) fn weight(&self, name: &str) -> Option<&Buffer> {
        self.weights.get(name)
    }

    pub(crate) fn weight_types(&self) -> &HashMap<String, TensorType> {
        &self.weight_types
    }

    pub(crate) fn rope_divisors(&self) -> Option<&[f32]> {
        self.rope_divisors.as_deref()
    }
}

/// The configuration of a checkpoint.
pub fn read_config(checkpoint: &Checkpoint) -> Result<LlamaConfig, EngineError> {
    LlamaConfig::from_value(checkpoint.config())
        .map_err(|source| EngineError::Config { path: checkpoint.path().to_owned(), source })
}
