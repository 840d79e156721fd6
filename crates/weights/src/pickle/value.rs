//! The data a pickle builds.
//!
//! Values lie in one [`Heap`] and name each other by index. So a value that holds itself, or one nested a million deep,
//! is as cheap to make and to drop as any other, and the number of values can be limited.

use super::globals::{Element, Global};

/// A value of the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id(u32);

/// What a pickle can make. Text and bytes are slices of the pickle.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer that does not fit 64 bits, little-endian two's complement.
    BigInt(&'a [u8]),
    Float,
    Text(&'a str),
    Bytes,
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(StorageRef<'a>),
    Tensor(View),
}

/// A storage, as a persistent id names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StorageRef<'a> {
    pub(super) key: &'a str,
    /// The type of its elements; none for a storage of bytes.
    pub(super) element: Option<Element>,
    /// Elements, or bytes if it has no type.
    pub(super) count: u64,
}

/// A tensor: a view of a storage. All numbers count elements and are checked when the storage is placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) key: String,
    pub(super) element: Element,
    /// Bytes of the storage.
    pub(super) storage_bytes: u64,
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    pub(super) stride: Vec<u64>,
}

impl Node<'_> {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Node::None => "None",
            Node::Bool(_) => "a bool",
            Node::Int(_) | Node::BigInt(_) => "an integer",
            Node::Float => "a float",
            Node::Text(_) => "a string",
            Node::Bytes => "bytes",
            Node::Tuple(_) => "a tuple",
            Node::List(_) => "a list",
            Node::Dict(_) => "a dictionary",
            Node::Global(_) => "a function or class",
            Node::Storage(_) => "a storage",
            Node::Tensor(_) => "a tensor",
        }
    }
}

/// All values of a pickle.
#[derive(Debug, Default)]
pub(super) struct Heap<'a> {
    nodes: Vec<Node<'a>>,
}

/// More values than any checkpoint has: the largest Llama has some two thousand tensors of twenty values each.
pub(super) const MAX_VALUES: usize = 1 << 21;

impl<'a> Heap<'a> {
    /// Keeps a value; `None` if there are too many.
    pub(super) fn add(&mut self, node: Node<'a>) -> Option<Id> {
        let id = u32::try_from(self.nodes.len()).ok().filter(|_| self.nodes.len() < MAX_VALUES)?;
        self.nodes.push(node);
        Some(Id(id))
    }

    pub(super) fn get(&self, id: Id) -> &Node<'a> {
        // Ids come from `add` alone, and nothing is ever removed.
        self.nodes.get(id.0 as usize).unwrap_or(&Node::None)
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Node<'a>> {
        self.nodes.get_mut(id.0 as usize)
    }

    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An integer that is not negative.
    pub(super) fn count(&self, id: Id) -> Option<u64> {
        match self.get(id) {
            Node::Int(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// All storages that were named.
    pub(super) fn storages(&self) -> impl Iterator<Item = StorageRef<'a>> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Storage(storage) => Some(*storage),
            _ => None,
        })
    }

    /// The items of a tuple or list.
    pub(super) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Node::Tuple(items) => Some(items),
            Node::List(items) => Some(items),
            _ => None,
        }
    }
}
