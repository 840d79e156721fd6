//! The phases: what is computed between two barriers.

mod attention;
mod attention_split;
mod attention_tiles;
mod cache_q8_0;
mod gate_up;
mod linear;
mod norm;
mod plain;
mod prepare;
mod rope_append;

pub(crate) use attention::Attention;
pub(crate) use attention_split::{AttentionJoin, AttentionPieces, OnTheWay, Partial};
pub(crate) use attention_tiles::AttentionTiles;
pub(crate) use gate_up::GateUp;
pub(crate) use linear::{Linear, Matrix, Prepared, Product, Source};
pub(crate) use norm::Norm;
pub(crate) use plain::{Bmm, Cast, Copy, Elementwise, Function, GatherRows, Softmax, Table};
pub(crate) use prepare::Prepare;
pub(crate) use rope_append::{Append, Rope, RopeAppend};
