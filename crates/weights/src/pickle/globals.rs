//! The names that a pickle of tensors may use, and what is made of them. Everything else is refused.

use super::value::{Heap, Id, Node, StorageRef, View};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Element {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Element {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Element::F64 | Element::I64 => 8,
            Element::F32 | Element::I32 => 4,
            Element::F16 | Element::BF16 | Element::I16 => 2,
            Element::I8 | Element::U8 | Element::Bool => 1,
        }
    }

    /// PyTorch's name: "float32".
    pub fn name(self) -> &'static str {
        match self {
            Element::F64 => "float64",
            Element::F32 => "float32",
            Element::F16 => "float16",
            Element::BF16 => "bfloat16",
            Element::I64 => "int64",
            Element::I32 => "int32",
            Element::I16 => "int16",
            Element::I8 => "int8",
            Element::U8 => "uint8",
            Element::Bool => "bool",
        }
    }

    /// The type of the storage class of this name.
    fn of_storage(name: &str) -> Option<Element> {
        Some(match name {
            "DoubleStorage" => Element::F64,
            "FloatStorage" => Element::F32,
            "HalfStorage" => Element::F16,
            "BFloat16Storage" => Element::BF16,
            "LongStorage" => Element::I64,
            "IntStorage" => Element::I32,
            "ShortStorage" => Element::I16,
            "CharStorage" => Element::I8,
            "ByteStorage" => Element::U8,
            "BoolStorage" => Element::Bool,
            _ => return None,
        })
    }

    /// The type that `torch` calls this.
    fn of_dtype(name: &str) -> Option<Element> {
        Some(match name {
            "float64" | "double" => Element::F64,
            "float32" | "float" => Element::F32,
            "float16" | "half" => Element::F16,
            "bfloat16" => Element::BF16,
            "int64" | "long" => Element::I64,
            "int32" | "int" => Element::I32,
            "int16" | "short" => Element::I16,
            "int8" => Element::I8,
            "uint8" => Element::U8,
            "bool" => Element::Bool,
            _ => return None,
        })
    }
}

/// A name that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict()`: an empty dictionary.
    OrderedDict,
    /// `torch.Size(sizes)`: the sizes.
    Size,
    /// `torch._utils._rebuild_tensor(storage, offset, size, stride)`, and `_v2` with requires_grad, hooks and metadata.
    RebuildTensor,
    /// `torch._utils._rebuild_tensor_v3`: as `_v2`, with the type behind the hooks.
    RebuildTensorV3,
    /// `torch._utils._rebuild_parameter(tensor, requires_grad, hooks)`: the tensor.
    RebuildParameter,
    /// A storage class; its type, or none for bytes.
    Storage(Option<Element>),
    /// `torch.float32` and its like.
    DType(Element),
}

impl Global {
    /// The global of this module and name, or `None` for all that are not needed.
    pub(super) fn find(module: &str, name: &str) -> Option<Global> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch", "Size") => Global::Size,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v3") => Global::RebuildTensorV3,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::RebuildParameter,
            ("torch.storage" | "torch", "UntypedStorage") => Global::Storage(None),
            ("torch", _) => match Element::of_storage(name) {
                Some(element) => Global::Storage(Some(element)),
                None => Global::DType(Element::of_dtype(name)?),
            },
            _ => return None,
        })
    }

    /// What calling it with these arguments gives; the reason if they do not fit.
    pub(super) fn call<'a>(self, heap: &Heap<'a>, arguments: &[Id]) -> Result<Node<'a>, String> {
        let wrong = |what: &str| Err(format!("{what} of {} arguments does not fit", arguments.len()));
        match self {
            Global::OrderedDict if arguments.is_empty() => Ok(Node::Dict(Vec::new())),
            Global::OrderedDict => wrong("an OrderedDict"),
            Global::Size => match arguments {
                [sizes] if heap.items(*sizes).is_some() => {
                    Ok(Node::Tuple(heap.items(*sizes).unwrap_or_default().into()))
                }
                _ => wrong("a torch.Size"),
            },
            Global::RebuildParameter => match arguments {
                [tensor, ..] if matches!(heap.get(*tensor), Node::Tensor(_)) => Ok(heap.get(*tensor).clone()),
                _ => wrong("a parameter"),
            },
            Global::RebuildTensor => match arguments {
                [storage, offset, size, stride, ..] => rebuild(heap, *storage, *offset, *size, *stride, None),
                _ => wrong("a tensor"),
            },
            Global::RebuildTensorV3 => match arguments {
                [storage, offset, size, stride, _grad, _hooks, dtype, ..] => {
                    let Node::Global(Global::DType(element)) = heap.get(*dtype) else {
                        return Err(format!("the type of a tensor is {}", heap.get(*dtype).kind()));
                    };
                    rebuild(heap, *storage, *offset, *size, *stride, Some(*element))
                }
                _ => wrong("a tensor"),
            },
            Global::Storage(_) | Global::DType(_) => Err("a type is called, which no file of tensors does".into()),
        }
    }
}

/// Sizes beyond this are no tensor of a model.
const MAX_RANK: usize = 8;

fn rebuild<'a>(
    heap: &Heap<'a>,
    storage: Id,
    offset: Id,
    size: Id,
    stride: Id,
    element: Option<Element>,
) -> Result<Node<'a>, String> {
    let Node::Storage(StorageRef { key, element: stored, count }) = heap.get(storage) else {
        return Err(format!("the storage of a tensor is {}", heap.get(storage).kind()));
    };
    let Some(element) = element.or(*stored) else {
        return Err(format!("the storage {key:?} has no type"));
    };
    let storage_bytes = count.checked_mul(stored.map_or(1, Element::bytes) as u64);
    let counts = |id: Id| -> Option<Vec<u64>> {
        let items = heap.items(id).filter(|items| items.len() <= MAX_RANK)?;
        items.iter().map(|i| heap.count(*i)).collect()
    };
    match (storage_bytes, heap.count(offset), counts(size), counts(stride)) {
        (Some(storage_bytes), Some(offset), Some(shape), Some(stride)) if shape.len() == stride.len() => {
            Ok(Node::Tensor(View { key: (*key).to_owned(), element, storage_bytes, offset, shape, stride }))
        }
        _ => Err("the offset, sizes and strides of a tensor do not fit".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_tensors_need_is_found() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("builtins", "getattr"),
            ("__builtin__", "exec"),
            ("subprocess", "Popen"),
            ("torch.storage", "_load_from_bytes"),
            ("torch", "load"),
            ("torch._utils", "_rebuild_sparse_tensor"),
            ("torch.serialization", "load"),
            ("collections", "Counter"),
            ("collections.OrderedDict", ""),
            ("torch", "FloatStorage.from_file"),
            ("", ""),
        ] {
            assert_eq!(Global::find(module, name), None, "{module}.{name}");
        }
        assert_eq!(Global::find("torch", "BFloat16Storage"), Some(Global::Storage(Some(Element::BF16))));
        assert_eq!(Global::find("torch", "bfloat16"), Some(Global::DType(Element::BF16)));
    }
}
