//! Tokenizers and chat templates: everything between the words of a user and the token ids of a model.
//!
//! Here live [`HfTokenizer`], the one implementation of [`camelid_core::tokenizer::Tokenizer`] for `tokenizer.json` and
//! `tokenizer.model` files and GGUF vocabularies, which is transformers' [`LlamaTokenizer`] too; and [`ChatTemplate`],
//! which writes a conversation as the text a chat model was trained on.
//! Nothing here reads weights, samples, or decides when a generation ends; whoever parses a GGUF file hands over a
//! [`GgufVocab`].
//! Start reading at [`HfTokenizer`] (`hf.rs`), then `json.rs` for `tokenizer.json`, `llama.rs` for a tokenizer out of its
//! parts, `vocab_file/` for `tokenizer.model`, `gguf.rs` and `sentencepiece.rs` for GGUF, `specials.rs`, `batch.rs` and
//! `save.rs` for what can be done with a tokenizer, `template/mod.rs` for chat.
//!
//! ```
//! use camelid_core::tokenizer::{EncodeOptions, Tokenizer};
//! use camelid_tokenizer::{GgufVocab, HfTokenizer};
//!
//! let mut vocab = GgufVocab { model: "llama".to_owned(), ..GgufVocab::default() };
//! for (token, score, kind) in [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("▁", -4.0, 1), ("h", -5.0, 1),
//!     ("i", -6.0, 1), ("hi", -1.0, 1), ("▁hi", -0.5, 1)]
//! {
//!     vocab.tokens.push(token.to_owned());
//!     vocab.scores.get_or_insert_default().push(score);
//!     vocab.token_types.get_or_insert_default().push(kind);
//! }
//! let tokenizer = HfTokenizer::from_gguf(vocab)?;
//! let encoding = tokenizer.encode("hi hi", EncodeOptions::default())?;
//! assert_eq!(encoding.ids, [1, 7, 7]);
//! assert_eq!(tokenizer.decode(&encoding.ids, true)?, b"hi hi");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

mod batch;
mod config;
mod decoder;
mod error;
mod frame;
mod gguf;
mod hf;
mod json;
mod llama;
mod pre_tokenizer;
mod save;
mod sentencepiece;
mod specials;
pub mod template;
mod vocab_file;

pub use batch::{BatchEncoding, BatchOptions, OffsetUnit, Padding, TextInput, Truncation};
pub use config::{NamedTemplate, Side, SpecialToken, TokenizerConfig};
pub use error::{BatchError, LoadError, SaveError, SpecialsError};
pub use gguf::GgufVocab;
pub use hf::HfTokenizer;
pub use jiff::civil::DateTime;
pub use llama::{LlamaTokenizer, LlamaTokenizerBuilder, LlamaTokenizerFast, Merges, Vocabulary};
pub use pre_tokenizer::KNOWN_PRE_TOKENIZERS;
pub use specials::SpecialName;
pub use template::{ChatTemplate, RenderOptions, TemplateError};
pub use vocab_file::{llama3_special_tokens, llama31_special_tokens};
