//! Where the bytes of tensors are: storages by key, and views checked against them.

use std::collections::HashMap;
use std::path::Path;

use super::TorchTensor;
use super::value::View;
use crate::WeightsError;
use crate::error::{MAKE_AGAIN, shown};

/// The storages of a file: where each begins, and how many bytes it has.
#[derive(Debug, Default)]
pub(super) struct Storages {
    by_key: HashMap<String, (u64, u64)>,
}

impl Storages {
    pub(super) fn add(&mut self, key: &str, start: u64, bytes: u64) {
        self.by_key.insert(key.to_owned(), (start, bytes));
    }

    /// The tensor that `view` describes. All of it must lie inside its storage, and that inside the file.
    pub(super) fn place(
        &self,
        path: &Path,
        name: String,
        view: &View,
        file_len: u64,
    ) -> Result<TorchTensor, WeightsError> {
        let wrong =
            |found: String| Err(WeightsError::malformed(path, format!("tensor {}", shown(&name)), found, MAKE_AGAIN));
        let Some(&(start, held)) = self.by_key.get(&view.key) else {
            return wrong(format!("there is no storage {}", shown(&view.key)));
        };
        if held < view.storage_bytes {
            return wrong(format!("its storage should have {} bytes, but has {held}", view.storage_bytes));
        }
        let size = view.element.bytes() as u64;
        let empty = view.shape.contains(&0);
        let span = view
            .shape
            .iter()
            .zip(&view.stride)
            .try_fold(1u64, |span, (size, stride)| span.checked_add(size.saturating_sub(1).checked_mul(*stride)?));
        let end = span
            .map(|span| if empty { 0 } else { span })
            .and_then(|span| view.offset.checked_add(span))
            .and_then(|elements| elements.checked_mul(size));
        if end.is_none_or(|end| end > view.storage_bytes) {
            return wrong(format!(
                "{:?} elements from element {} on, {:?} apart, do not fit its storage of {} bytes",
                view.shape, view.offset, view.stride, view.storage_bytes
            ));
        }
        if start.checked_add(held).is_none_or(|end| end > file_len) {
            let (start, end) = (start, start.saturating_add(held));
            return Err(WeightsError::OutOfFile { path: path.to_owned(), tensor: shown(&name), start, end, file_len });
        }
        // A stride of 0 repeats elements: such a tensor can be larger than the file that holds it. Nor may the other
        // sizes of an empty one be more than can be counted.
        let limit = if empty { file_len } else { view.storage_bytes };
        let bytes = view.shape.iter().try_fold(size, |n, size| n.checked_mul((*size).max(1)));
        if bytes.is_none_or(|bytes| bytes > limit) {
            return wrong(format!("its sizes {:?} take more than its storage has", view.shape));
        }
        // All were compared with the length of the file, which is mapped.
        let sizes = |values: &[u64]| values.iter().map(|v| *v as usize).collect();
        let (shape, stride) = (sizes(&view.shape), sizes(&view.stride));
        Ok(TorchTensor { name, element: view.element, shape, stride, offset: start + view.offset * size })
    }
}
