//! The outputs' file.

use std::collections::HashMap;
use std::path::Path;

use camelid_engine::forward::ForwardOutputs;
use safetensors::serialize_to_file;
use safetensors::tensor::{Dtype, TensorView};

use crate::Error;

/// Writes what there is of `outputs`, all f32.
pub fn write(path: &Path, outputs: &ForwardOutputs) -> Result<(), Error> {
    let arrays = [
        ("logits", &outputs.logits),
        ("hidden_states", &outputs.hidden_states),
        ("attentions", &outputs.attentions),
        ("last_hidden_state", &outputs.last_hidden_state),
    ];
    let mut tensors: Vec<(&str, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, array) in arrays {
        if let Some(array) = array {
            let bytes = array.data().iter().flat_map(|x| x.to_le_bytes()).collect();
            tensors.push((name, array.shape().to_vec(), bytes));
        }
    }
    if let Some(loss) = outputs.loss {
        tensors.push(("loss", vec![1], (loss as f32).to_le_bytes().to_vec()));
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    serialize_to_file(views, None::<HashMap<String, String>>, path)
        .map_err(|e| format!("{}: the results cannot be written: {e}", path.display()).into())
}
