//! Which tensors a new model has, and which file each goes to.

use camelid_core::llama::LlamaConfig;
use camelid_core::llama::tensors::{self, EMBED_TOKENS, LM_HEAD};
use serde_json::{Map, Value, json};

use super::{InitDType, InitError};

/// The class of transformers that a new model is saved from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `LlamaForCausalLM`: with a head, unless it is tied to the embedding.
    CausalLm,
    /// `LlamaModel`: no head, and names without `model.`.
    Base,
    /// `LlamaForSequenceClassification`: `score.weight [num_labels, hidden_size]` for a head.
    SequenceClassification,
}

impl Class {
    const ALL: [Class; 3] = [Class::CausalLm, Class::Base, Class::SequenceClassification];

    /// The class that `architectures` names first; `LlamaForCausalLM` if it names none.
    ///
    /// # Errors
    /// [`InitError::Architecture`] for another.
    pub fn of(config: &LlamaConfig) -> Result<Class, InitError> {
        let Some(name) = config.architectures.first() else { return Ok(Class::CausalLm) };
        Class::ALL.into_iter().find(|c| c.name() == name).ok_or_else(|| InitError::Architecture {
            found: name.clone(),
            supported: Class::ALL.map(Class::name).join(", "),
        })
    }

    /// Its name in transformers.
    pub fn name(self) -> &'static str {
        match self {
            Class::CausalLm => "LlamaForCausalLM",
            Class::Base => "LlamaModel",
            Class::SequenceClassification => "LlamaForSequenceClassification",
        }
    }
}

/// What fills a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    Normal,
    Ones,
    Zeros,
}

/// A tensor to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTensor {
    /// Its name as `LlamaForCausalLM` has it, which the random numbers follow from.
    pub name: String,
    /// Its name in the file.
    pub stored_name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    pub(super) fill: Fill,
    /// A row of zeros among the others.
    pub(super) zero_row: Option<u64>,
}

impl NewTensor {
    fn new(name: &str, shape: Vec<usize>, class: Class) -> NewTensor {
        let fill = match name {
            n if n.ends_with("norm.weight") => Fill::Ones,
            n if n.ends_with(".bias") => Fill::Zeros,
            _ => Fill::Normal,
        };
        let bare = if class == Class::Base { name.strip_prefix("model.") } else { None };
        NewTensor { name: name.into(), stored_name: bare.unwrap_or(name).into(), shape, fill, zero_row: None }
    }

    /// Elements; dimensions are at most 2^28, so that two of them fit.
    pub(super) fn len(&self) -> u64 {
        self.shape.iter().map(|n| *n as u64).product()
    }

    pub(super) fn row_len(&self) -> u64 {
        self.shape[1..].iter().map(|n| *n as u64).product()
    }
}

/// Every tensor of the model.
pub(super) fn tensors(config: &LlamaConfig, class: Class) -> Vec<NewTensor> {
    let untied_head = class == Class::CausalLm && !config.tie_word_embeddings;
    let mut list: Vec<NewTensor> = tensors::expected(config, untied_head)
        .into_iter()
        .filter(|t| untied_head || t.name != LM_HEAD)
        .map(|t| NewTensor::new(&t.name, t.shape, class))
        .collect();
    if class == Class::SequenceClassification {
        list.push(NewTensor::new("score.weight", vec![config.num_labels, config.hidden_size], class));
    }
    // A padding id outside of the vocabulary is one that nothing is padded with.
    let padding = config.pad_token_id.filter(|id| (*id as usize) < config.vocab_size);
    for tensor in list.iter_mut().filter(|t| t.name == EMBED_TOKENS) {
        tensor.zero_row = padding.map(u64::from);
    }
    list
}

/// A file of tensors.
#[derive(Debug)]
pub(super) struct Shard<'a> {
    pub(super) file: String,
    pub(super) tensors: &'a [NewTensor],
    /// Bytes of the tensors.
    pub(super) bytes: u64,
}

/// The files, each as full as `limit` lets it be; `None` if sizes do not fit in 64 bits.
pub(super) fn shards(tensors: &[NewTensor], element: u64, limit: Option<u64>) -> Option<Vec<Shard<'_>>> {
    let mut cuts = vec![(0, 0u64)];
    let mut total = 0u64;
    for (i, tensor) in tensors.iter().enumerate() {
        let bytes = tensor.len().checked_mul(element)?;
        total = total.checked_add(bytes)?;
        let (begin, held) = *cuts.last()?;
        if i > begin && limit.is_some_and(|limit| held.saturating_add(bytes) > limit) {
            cuts.push((i, bytes));
        } else {
            cuts.last_mut()?.1 += bytes;
        }
    }
    let count = cuts.len();
    let ends = cuts.iter().skip(1).map(|c| c.0).chain([tensors.len()]);
    let shards = cuts.iter().zip(ends).enumerate().map(|(i, ((begin, bytes), end))| Shard {
        file: match count {
            1 => "model.safetensors".into(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
        },
        tensors: &tensors[*begin..end],
        bytes: *bytes,
    });
    Some(shards.collect())
}

/// What a safetensors file begins with: the length of the header, and where each tensor lies.
pub(super) fn header(tensors: &[NewTensor], dtype: InitDType) -> Vec<u8> {
    let mut map = Map::new();
    map.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut at = 0;
    for tensor in tensors {
        let end = at + tensor.len() * dtype.bytes();
        let entry = json!({"dtype": dtype.stored_name(), "shape": tensor.shape, "data_offsets": [at, end]});
        map.insert(tensor.stored_name.clone(), entry);
        at = end;
    }
    let mut text = Value::Object(map).to_string().into_bytes();
    // Tensors begin at a multiple of eight bytes.
    text.resize(text.len().next_multiple_of(8), b' ');
    [(text.len() as u64).to_le_bytes().to_vec(), text].concat()
}
