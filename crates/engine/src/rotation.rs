//! Cosines and sines of a model whose rotary embedding depends on how long a sequence is.
//!
//! Such a graph has no tables: its inputs `rope.cos` and `rope.sin` hold a row for each token, which are computed here,
//! in f64, before every run. The length that decides is that of the sequence after the whole step, so that it makes no
//! difference how a step is cut into runs: see [`camelid_core::llama::rope`].

use std::collections::HashMap;

use camelid_core::llama::{ROPE_COS, ROPE_SIN, rope::Rotary};
use camelid_host::{Buffer, HostError};

use crate::step::Run;

/// The rotary embedding, and where its rows are written.
pub(crate) struct Rotation {
    rotary: Rotary,
    cos: Buffer,
    sin: Buffer,
}

impl Rotation {
    /// The rotation of a graph that takes rows; `None` for one that has tables.
    pub fn new(rotary: Rotary, buffers: &HashMap<String, Buffer>) -> Option<Rotation> {
        if !rotary.depends_on_length() {
            return None;
        }
        Some(Rotation { rotary, cos: buffers.get(ROPE_COS)?.clone(), sin: buffers.get(ROPE_SIN)?.clone() })
    }

    /// Writes the rows of a run's tokens.
    pub fn write(&self, run: &Run<'_>) -> Result<(), HostError> {
        let (cos, sin) = rows(&self.rotary, run);
        self.cos.write(0, &cos)?;
        self.sin.write(0, &sin)
    }
}

/// The cosines and sines of a run's tokens, `[T, pairs] f32` each.
fn rows(rotary: &Rotary, run: &Run<'_>) -> (Vec<u8>, Vec<u8>) {
    let (mut cos, mut sin) = (Vec::new(), Vec::new());
    for part in &run.parts {
        let positions = (0..part.len()).map(|i| part.position(i));
        let (c, s) = rotary.rows(part.rope_length, positions);
        cos.extend(c.into_iter().flat_map(f32::to_ne_bytes));
        sin.extend(s.into_iter().flat_map(f32::to_ne_bytes));
    }
    (cos, sin)
}

#[cfg(test)]
mod tests {
    use camelid_core::cache::SequenceId;
    use camelid_core::llama::LlamaConfig;

    use super::*;
    use crate::step::{Content, Part};

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_ne_bytes(b.try_into().unwrap())).collect()
    }

    /// Each sequence has the frequencies of its own length, whatever it shares a run with, and every token its position.
    #[test]
    fn rows_follow_each_sequence_on_its_own() {
        let config = serde_json::json!({"hidden_size": 12, "num_attention_heads": 2, "max_position_embeddings": 8,
                                        "rope_scaling": {"type": "dynamic", "factor": 2.0}});
        let rotary = Rotary::new(&LlamaConfig::from_value(&config).unwrap(), None);
        let part = |sequence, start, tokens, positions, rope_length| Part {
            sequence: SequenceId(sequence),
            start,
            content: Content::Tokens(tokens),
            positions,
            rope_length,
            outputs: Vec::new(),
            mask: None,
        };
        let parts = vec![part(0, 30, &[5, 6], None, 40), part(1, 0, &[7], Some(&[3]), 4)];
        let (cos, sin) = rows(&rotary, &Run { parts });
        let (long, short) = (rotary.frequencies(40), rotary.frequencies(4));
        assert_ne!(long, short);
        let expected: Vec<f64> = [(30.0, &long), (31.0, &long), (3.0, &short)]
            .into_iter()
            .flat_map(|(position, f)| f.iter().map(move |f| position * f))
            .collect();
        assert_eq!(floats(&cos), expected.iter().map(|a| a.cos() as f32).collect::<Vec<_>>());
        assert_eq!(floats(&sin), expected.iter().map(|a| a.sin() as f32).collect::<Vec<_>>());
    }
}
