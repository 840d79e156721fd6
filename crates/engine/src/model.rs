//! [`Model`]: a checkpoint whose weights are on a device.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use camelid_core::backend::{Placement, Weight};
use camelid_core::graph::TensorType;
use camelid_core::llama::rope::RopeScaling;
use camelid_core::llama::{Head, LlamaConfig, tensors};
use camelid_core::tokenizer::{EncodeOptions, TokenId, Tokenizer as _};
use camelid_host::{Buffer, DeviceHandle};
use camelid_tokenizer::{HfTokenizer, RenderOptions};
use camelid_weights::{Checkpoint, Strictness};
use serde_json::Value;
use sha2::{Digest, Sha256};

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
    kind: Kind,
    fingerprint: String,
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
        let kind = Kind::of(checkpoint, &config);
        let language_model = kind.head == Head::LanguageModel;
        let mut expected = tensors::expected(&config, language_model && checkpoint.tensor(tensors::LM_HEAD).is_some());
        if let Head::Classes { num_labels } = kind.head {
            expected.push(tensors::score(&config, num_labels));
        }
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
        if config.tie_word_embeddings && language_model {
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
        let fingerprint = fingerprint(checkpoint, &config);
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
            kind,
            fingerprint,
            device,
            report,
        })
    }

    /// The same with this tokenizer: who has one made while the weights are loaded hands it in afterwards.
    pub fn with_tokenizer(self, tokenizer: Option<HfTokenizer>) -> Model {
        Model { tokenizer, ..self }
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

    /// What the model ends in: the head of a language model, of a classifier, or none.
    pub fn head(&self) -> Head {
        self.kind.head
    }

    /// Columns of the logits; 1 for a model without a head.
    pub fn logits_width(&self) -> usize {
        match self.kind.head {
            Head::LanguageModel => self.config.vocab_size,
            Head::Classes { num_labels } => num_labels,
            Head::None => 1,
        }
    }

    /// Whether `config.json` says that this is a base model, `LlamaModel`, even where its embeddings would make a head.
    pub fn is_base_model(&self) -> bool {
        self.kind.base
    }

    /// `pad_token_id` as `config.json` has it; old checkpoints write -1, which no token is.
    pub fn pad_token_id(&self) -> Option<i64> {
        self.kind.pad_token_id
    }

    /// A digest that tells models apart: of the configuration, and of the names, types, shapes and first bytes of the
    /// tensors.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// # Errors
    /// [`EngineError::NoLanguageHead`] if the model gives no logits of tokens.
    pub fn require_language_head(&self) -> Result<(), EngineError> {
        let is = match self.kind.head {
            Head::LanguageModel => return Ok(()),
            Head::Classes { num_labels } => format!("a classifier of {num_labels} labels; use `camelid classify`"),
            Head::None => "a base model, which has no lm_head.weight; use a LlamaForCausalLM checkpoint".into(),
        };
        Err(EngineError::NoLanguageHead { path: self.path.clone(), is })
    }

    /// How many labels the classifier scores.
    ///
    /// # Errors
    /// [`EngineError::NoClassifier`] if the model is none.
    pub fn num_labels(&self) -> Result<usize, EngineError> {
        match self.kind.head {
            Head::Classes { num_labels } => Ok(num_labels),
            _ => Err(EngineError::NoClassifier { path: self.path.clone() }),
        }
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

/// What a checkpoint is.
#[derive(Clone, Copy, Debug)]
struct Kind {
    head: Head,
    base: bool,
    pad_token_id: Option<i64>,
}

impl Kind {
    /// By the architectures that `config.json` names and the tensors that are there: a classifier if it says so, or says
    /// nothing and has a score head alone; a base model if it names no language model and has no head; otherwise a
    /// language model, whose head is the embedding table where the checkpoint has none.
    fn of(checkpoint: &Checkpoint, config: &LlamaConfig) -> Kind {
        let json = checkpoint.config();
        let named = json.get("architectures").and_then(Value::as_array).into_iter().flatten();
        let named: Vec<&str> = named.filter_map(Value::as_str).collect();
        let is = |suffix: &str| named.iter().any(|n| n.ends_with(suffix));
        let has = |tensor| checkpoint.tensor(tensor).is_some();
        let language_model = named.is_empty() || is("ForCausalLM");
        let classifier =
            is("ForSequenceClassification") || (named.is_empty() && has(tensors::SCORE) && !has(tensors::LM_HEAD));
        // A GGUF file says nothing of labels: there are as many as the head has rows.
        let says_labels = ["id2label", "num_labels"].iter().any(|key| json.get(*key).is_some_and(|v| !v.is_null()));
        let rows = checkpoint.tensor(tensors::SCORE).and_then(|t| t.shape.first().copied());
        let num_labels = rows.filter(|_| named.is_empty() && !says_labels).unwrap_or(config.num_labels);
        let head = if classifier {
            Head::Classes { num_labels }
        } else if language_model || has(tensors::LM_HEAD) || config.tie_word_embeddings {
            Head::LanguageModel
        } else {
            Head::None
        };
        let base = !classifier && !language_model;
        Kind { head, base, pad_token_id: json.get("pad_token_id").and_then(Value::as_i64) }
    }
}

fn fingerprint(checkpoint: &Checkpoint, config: &LlamaConfig) -> String {
    use std::fmt::Write;
    let mut digest = Sha256::new();
    let c = config;
    let sizes = [c.num_hidden_layers, c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim];
    digest.update(format!("{sizes:?} {} {:?} {:?}", c.rms_norm_eps, c.hidden_act, c.rope));
    for tensor in checkpoint.tensors() {
        digest.update(format!("{} {} {:?}", tensor.name, tensor.dtype, tensor.shape));
        let bytes = tensor.bytes();
        digest.update(&bytes[..bytes.len().min(64)]);
    }
    digest.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The configuration of a checkpoint.
pub fn read_config(checkpoint: &Checkpoint) -> Result<LlamaConfig, EngineError> {
    LlamaConfig::from_value(checkpoint.config())
        .map_err(|source| EngineError::Config { path: checkpoint.path().to_owned(), source })
}
