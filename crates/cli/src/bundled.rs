//! The bundled model: a small Llama inside the program, so that the first command needs no download.

use std::sync::Arc;

use camelid_core::Bytes;
use camelid_tokenizer::{HfTokenizer, TokenizerConfig};
use camelid_weights::Checkpoint;
use camelid_weights::write::TokenizerFiles;

use crate::Error;

/// What the model is called in results; there is no such file.
pub const NAME: &str = "(bundled)";

const CONFIG: &[u8] = include_bytes!("../bundled/model/config.json");
const GENERATION_CONFIG: &[u8] = include_bytes!("../bundled/model/generation_config.json");
const WEIGHTS: &[u8] = include_bytes!("../bundled/model/model.safetensors");
const TOKENIZER: &[u8] = include_bytes!("../bundled/model/tokenizer.json");
const TOKENIZER_CONFIG: &[u8] = include_bytes!("../bundled/model/tokenizer_config.json");

/// The bundled model's configurations and weights.
pub fn checkpoint() -> Result<Checkpoint, Error> {
    Ok(Checkpoint::from_bytes(NAME, CONFIG, GENERATION_CONFIG, Bytes::new(Arc::new(WEIGHTS)))?)
}

/// The bundled model's tokenizer.
pub fn tokenizer() -> Result<HfTokenizer, Error> {
    let config = TokenizerConfig::from_json(TOKENIZER_CONFIG, NAME)?;
    Ok(HfTokenizer::from_tokenizer_json(TOKENIZER, Some(config))?)
}

/// The files of the bundled model's tokenizer.
pub fn tokenizer_files() -> TokenizerFiles {
    TokenizerFiles {
        json: Some(TOKENIZER.to_vec()),
        config: Some(TOKENIZER_CONFIG.to_vec()),
        ..TokenizerFiles::default()
    }
}
