//! The Llama architecture: its configuration, its rotary embedding, its tensors and its graph.
//!
//! The behaviour is that of `LlamaForCausalLM` in Hugging Face transformers 5.8, computed in the clear.

pub mod config;
mod graph;
pub mod rope;
pub mod tensors;

pub use config::{ConfigError, ConfigForm, LlamaConfig, ProblemType};
pub use graph::{GraphOptions, Head, Input, ROPE_COS, ROPE_SIN, build};
