//! The tensors in what a pickle made: a dictionary of names and tensors.

use std::collections::HashSet;
use std::path::Path;

use super::machine::Loaded;
use super::value::{Id, Node, View};
use crate::WeightsError;
use crate::error::{MAKE_AGAIN, shown};

/// Keys under which training scripts put the dictionary of tensors.
const WRAPPERS: [&str; 3] = ["model", "state_dict", "module"];

/// Every tensor of the dictionary, in order. Other values beside them (a step, a loss) are passed over.
pub(super) fn tensors(path: &Path, loaded: &Loaded<'_>) -> Result<Vec<(String, View)>, WeightsError> {
    let heap = &loaded.heap;
    let wrong = |found: String| {
        let remedy = "a checkpoint is a dictionary of tensors: save it with torch.save(model.state_dict(), ...)";
        Err(WeightsError::malformed(path, "the pickle", found, remedy))
    };
    let Node::Dict(mut entries) = heap.get(loaded.root).clone() else {
        return wrong(format!("it holds {}", heap.get(loaded.root).kind()));
    };
    let is_tensor = |id: Id| matches!(heap.get(id), Node::Tensor(_));
    if !entries.iter().any(|(_, value)| is_tensor(*value)) {
        let inner = entries.iter().find_map(|(key, value)| match (heap.text(*key), heap.get(*value)) {
            (Some(key), Node::Dict(inner)) if WRAPPERS.contains(&key) => Some(inner.clone()),
            _ => None,
        });
        entries = inner.unwrap_or_default();
    }
    let mut tensors = Vec::new();
    let mut names = HashSet::new();
    for (key, value) in &entries {
        let Node::Tensor(view) = heap.get(*value) else { continue };
        let Some(name) = heap.text(*key) else {
            return wrong(format!("the name of a tensor is {}", heap.get(*key).kind()));
        };
        if !names.insert(name) {
            return Err(WeightsError::malformed(
                path,
                format!("tensor {}", shown(name)),
                "it is there twice",
                MAKE_AGAIN,
            ));
        }
        tensors.push((name.to_owned(), view.clone()));
    }
    if tensors.is_empty() {
        return wrong("its dictionary holds no tensor".into());
    }
    Ok(tensors)
}
