//! What a user chooses about a session.

use camelid_core::DType;
use camelid_core::ops::CACHE_TYPES;
use camelid_host::OnUnsupported;

use crate::error::EngineError;

/// How the cache divides its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// One run of rows a sequence.
    Contiguous,
    /// Blocks that sequences take as they grow, and share after a fork.
    Paged {
        /// Rows of a block.
        block_size: usize,
    },
}

/// What a user chooses about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Longest sequence in tokens; the model's `max_position_embeddings` if `None`.
    pub context_size: Option<usize>,
    /// Most tokens in one run of the device: longer prompts go in chunks.
    pub batch_size: usize,
    /// Most sequences at a time.
    pub max_sequences: usize,
    /// How the cache divides its memory.
    pub cache: CacheKind,
    /// Type of cached keys and values, one of [`CACHE_TYPES`]; q8_0 only where the model's `head_dim` is a multiple of 32.
    pub kv_dtype: DType,
    /// What to do with operations the backend does not have.
    pub on_unsupported: OnUnsupported,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions {
            context_size: None,
            batch_size: 512,
            max_sequences: 1,
            cache: CacheKind::Contiguous,
            kv_dtype: DType::F32,
            on_unsupported: OnUnsupported::Lower,
        }
    }
}

impl SessionOptions {
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let wrong = |option, found: String, rule: &str| Err(EngineError::Option { option, found, rule: rule.into() });
        let limit = 1 << 24;
        let block_size = match self.cache {
            CacheKind::Contiguous => 1,
            CacheKind::Paged { block_size } => block_size,
        };
        for (option, n) in [
            ("context_size", self.context_size.unwrap_or(1)),
            ("batch_size", self.batch_size),
            ("max_sequences", self.max_sequences),
            ("block_size", block_size),
        ] {
            if !(1..=limit).contains(&n) {
                return wrong(option, n.to_string(), "be a whole number from 1 to 16777216");
            }
        }
        if !CACHE_TYPES.contains(&self.kv_dtype) {
            return wrong("kv_dtype", self.kv_dtype.to_string(), "be f32, f16, bf16 or q8_0");
        }
        Ok(())
    }
}
