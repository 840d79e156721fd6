//! What can go wrong between a checkpoint and a token.

use std::path::PathBuf;

use camelid_core::DType;
use camelid_core::cache::CacheError;
use camelid_core::graph::GraphError;
use camelid_core::llama::ConfigError;
use camelid_core::tokenizer::{TokenId, TokenizerError};
use camelid_host::HostError;
use camelid_weights::WeightsError;
use thiserror::Error;

/// An error of the engine.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The checkpoint could not be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The checkpoint's configuration is not one of a Llama.
    #[error("{path}: the configuration is wrong", path = path.display())]
    Config {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ConfigError,
    },
    /// The checkpoint's generation_config.json cannot be used.
    #[error("{path}: generation_config.json is wrong", path = path.display())]
    GenerationConfig {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: crate::generation_config::GenerationConfigError,
    },
    /// The checkpoint's tokenizer could not be made.
    #[error("{path}: the tokenizer cannot be used", path = path.display())]
    Tokenizer {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: camelid_tokenizer::LoadError,
    },
    /// The checkpoint brings no tokenizer.
    #[error("{path}: there is no tokenizer (tokenizer.json, tokenizer.model, or a vocabulary in the GGUF file)", path = path.display())]
    NoTokenizer {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The model has no logits of tokens.
    #[error("{path}: text cannot be generated: the model is {is}", path = path.display())]
    NoLanguageHead {
        /// The checkpoint.
        path: PathBuf,
        /// What it is, and what to do.
        is: String,
    },
    /// The model is no classifier.
    #[error(
        "{path}: the model is no classifier: its config.json does not name LlamaForSequenceClassification; use a \
         checkpoint with a `score.weight`", path = path.display()
    )]
    NoClassifier {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The inputs of a forward pass do not go together.
    #[error(transparent)]
    Forward(#[from] crate::forward::ForwardError),
    /// A file with a past cannot be written or used.
    #[error(transparent)]
    PastFile(#[from] crate::forward::PastFileError),
    /// Tokens that look at later ones, more than one run of the device takes.
    #[error(
        "the attention mask lets {tokens} tokens look at each other, but a run takes {limit} such tokens; use a mask \
         that looks ahead less far, or shorter sequences"
    )]
    MaskTooWide {
        /// Tokens that have to be computed together.
        tokens: usize,
        /// Tokens of a run.
        limit: usize,
    },
    /// The checkpoint brings no chat template.
    #[error(
        "{path}: the model has no chat template (`chat_template` in tokenizer_config.json or in the GGUF file); it may not \
         be a chat model: try without --chat", path = path.display()
    )]
    NoChatTemplate {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The chat template failed.
    #[error("the chat template cannot render this conversation")]
    ChatTemplate(#[from] camelid_tokenizer::TemplateError),
    /// The tokenizer refused.
    #[error(transparent)]
    Tokenize(#[from] TokenizerError),
    /// The weights do not make a graph.
    #[error("{path}: the tensors do not make a Llama graph", path = path.display())]
    Graph {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: GraphError,
    },
    /// The device or its host side refused.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The cache refused.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// An option of the engine makes no sense.
    #[error("`{option}` is {found}, but it must {rule}")]
    Option {
        /// Its name.
        option: &'static str,
        /// Its value.
        found: String,
        /// The rule.
        rule: String,
    },
    /// The backend does not take keys and values in this type, but in another.
    #[error("`kv_dtype` is {kv_dtype}, which the backend does not have for this model; use kv_dtype = \"{instead}\"")]
    KvDtype {
        /// The type asked for.
        kv_dtype: DType,
        /// One that the backend takes.
        instead: DType,
        /// What the backend said.
        #[source]
        source: Box<HostError>,
    },
    /// A token id the embedding table has no row for.
    #[error("token id {id} (at index {index} of its sequence's input) is not below vocab_size = {vocab_size}")]
    TokenOutOfRange {
        /// The id.
        id: TokenId,
        /// Where it stands.
        index: usize,
        /// Rows of the embedding table.
        vocab_size: usize,
    },
    /// A position the RoPE tables have no row for.
    #[error("position {position} is not below the context size {context_size}; raise `context_size`")]
    PositionOutOfRange {
        /// The position.
        position: u32,
        /// Rows of the tables.
        context_size: usize,
    },
    /// A step with no tokens, or with none for one of its sequences.
    #[error("there is nothing to compute: the input has no tokens")]
    EmptyInput,
    /// A prompt without tokens.
    #[error("the prompt is empty: it has no tokens, and the model's tokenizer adds none; give it some text")]
    EmptyPrompt,
    /// A prompt that leaves no room.
    #[error(
        "the prompt has {tokens} tokens, but the context holds {context_size}; shorten the prompt or raise \
         `context_size` (the model was made for {max_position_embeddings})"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens the context holds.
        context_size: usize,
        /// What the model was made for.
        max_position_embeddings: usize,
    },
    /// A sequence that appears twice in one step.
    #[error("sequence {0} appears twice in one step")]
    DuplicateSequence(u64),
    /// A request that grows more texts at a time than the session has room for.
    #[error(
        "request {request} needs {needed} sequences at a time (num_beams or num_return_sequences), but of the session's \
         {max_sequences} only {free} are free; raise `max_sequences`"
    )]
    TooFewSequences {
        /// Index of the request.
        request: usize,
        /// How many it needs, its own included.
        needed: usize,
        /// How many there are for it, its own included.
        free: usize,
        /// How many the session has.
        max_sequences: usize,
    },
    /// A draft model that does not fit.
    #[error(
        "{path}: this model cannot be a draft for {target}: {problem}; a draft must have the same vocabulary",
        path = path.display(), target = target.display()
    )]
    Draft {
        /// The draft's checkpoint.
        path: PathBuf,
        /// The checkpoint it was to guess for.
        target: PathBuf,
        /// How they differ.
        problem: String,
    },
    /// A request's sampling parameters make no sense, or its logits do not.
    #[error(transparent)]
    Sampling(#[from] crate::sampling::SamplingError),
    /// A stop string is empty.
    #[error(transparent)]
    Stop(#[from] crate::text::StopError),
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}
