//! The stack machine of pickles, protocols 2 to 5, as far as `torch.save` uses it.
//!
//! Opcodes ([`opcodes`]) are those of Python's `pickletools`. Every opcode takes a bounded number of values from the stack or those
//! above a mark, and makes at most one: time and memory grow with the length of the pickle, which is limited.

mod opcodes;

use std::collections::HashMap;
use std::path::Path;

use super::globals::Global;
use super::value::{Heap, Id, MAX_VALUES, Node, StorageRef};
use crate::WeightsError;
use crate::error::{MAKE_AGAIN, quoted, shown};

/// Longest pickle that is read: many times that of the largest Llama.
const MAX_PICKLE_BYTES: u64 = 64 << 20;
/// Longest name of a module or function.
const MAX_NAME_BYTES: usize = 256;

/// What a pickle made.
#[derive(Debug)]
pub(super) struct Loaded<'a> {
    pub(super) heap: Heap<'a>,
    pub(super) root: Id,
    /// Bytes of the pickle, its STOP included.
    pub(super) length: usize,
}

/// Runs the pickle at the beginning of `bytes`.
pub(super) fn run<'a>(path: &Path, bytes: &'a [u8]) -> Result<Loaded<'a>, WeightsError> {
    let limit = bytes.len().min(MAX_PICKLE_BYTES as usize);
    let mut machine = Machine {
        path,
        bytes: &bytes[..limit],
        at: 0,
        heap: Heap::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        if let Some(root) = machine.step()? {
            return Ok(Loaded { heap: machine.heap, root, length: machine.at });
        }
    }
}

struct Machine<'p, 'a> {
    path: &'p Path,
    bytes: &'a [u8],
    /// The next byte.
    at: usize,
    heap: Heap<'a>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'_, 'a> {
    fn wrong(&self, found: impl Into<String>) -> WeightsError {
        WeightsError::malformed(self.path, format!("the pickle, near its byte {}", self.at), found, MAKE_AGAIN)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], WeightsError> {
        let rest = &self.bytes[self.at..];
        match usize::try_from(count).ok().and_then(|count| rest.get(..count)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None if self.bytes.len() as u64 == MAX_PICKLE_BYTES => {
                Err(self.wrong(format!("it is longer than the {MAX_PICKLE_BYTES} bytes that are read")))
            }
            None => Err(self.wrong(format!("it ends inside a value of {count} bytes"))),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WeightsError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }

    fn byte(&mut self) -> Result<u8, WeightsError> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, WeightsError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Text up to the end of the line.
    fn line(&mut self) -> Result<&'a str, WeightsError> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(MAX_NAME_BYTES + 1).position(|b| *b == b'\n');
        let Some(end) = end else { return Err(self.wrong("a name does not end")) };
        let line = self.take(end as u64)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| self.wrong(format!("the name {} is not UTF-8", quoted(line))))
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), WeightsError> {
        match self.heap.add(node) {
            Some(id) => self.push_id(id),
            None => Err(self.wrong(format!("it makes more than {MAX_VALUES} values"))),
        }
    }

    fn push_id(&mut self, id: Id) -> Result<(), WeightsError> {
        if self.stack.len() >= MAX_VALUES {
            return Err(self.wrong(format!("it stacks more than {MAX_VALUES} values")));
        }
        self.stack.push(id);
        Ok(())
    }

    /// The uppermost value, which must lie above the last mark.
    fn pop(&mut self) -> Result<Id, WeightsError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.wrong("the stack is empty where a value is needed"));
        }
        self.stack.pop().ok_or_else(|| self.wrong("the stack is empty where a value is needed"))
    }

    fn top(&self) -> Result<Id, WeightsError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.last().filter(|_| self.stack.len() > floor);
        top.copied().ok_or_else(|| self.wrong("the stack is empty where a value is needed"))
    }

    /// All values above the last mark, which is taken away.
    fn above_mark(&mut self) -> Result<Vec<Id>, WeightsError> {
        let mark = self.marks.pop().ok_or_else(|| self.wrong("there is no mark where one is needed"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn memoize(&mut self, index: u32) -> Result<(), WeightsError> {
        let top = self.top()?;
        if self.memo.len() >= MAX_VALUES {
            return Err(self.wrong(format!("it remembers more than {MAX_VALUES} values")));
        }
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), WeightsError> {
        match self.memo.get(&index).copied() {
            Some(id) => self.push_id(id),
            None => Err(self.wrong(format!("it recalls value {index}, which it never remembered"))),
        }
    }

    fn text(&mut self, len: u64) -> Result<(), WeightsError> {
        let bytes = self.take(len)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => self.push(Node::Text(text)),
            Err(_) => Err(self.wrong(format!("the string {} is not UTF-8", quoted(bytes)))),
        }
    }

    fn blob(&mut self, len: u64) -> Result<(), WeightsError> {
        self.take(len)?;
        self.push(Node::Bytes)
    }

    fn long(&mut self, len: u64) -> Result<(), WeightsError> {
        let bytes = self.take(len)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let fits = bytes.len() <= 8;
        if !fits {
            return self.push(Node::BigInt(bytes));
        }
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Node::Int(i64::from_le_bytes(wide)))
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), WeightsError> {
        match Global::find(module, name) {
            Some(global) => self.push(Node::Global(global)),
            None => Err(WeightsError::ForeignGlobal {
                path: self.path.to_owned(),
                global: format!("{}.{}", shown(module), shown(name)),
            }),
        }
    }

    fn reduce(&mut self) -> Result<(), WeightsError> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let Node::Global(global) = *self.heap.get(callable) else {
            return Err(self.wrong(format!("{} is called", self.heap.get(callable).kind())));
        };
        let Node::Tuple(items) = self.heap.get(arguments) else {
            return Err(self.wrong(format!("a call has {} for its arguments", self.heap.get(arguments).kind())));
        };
        let made = global.call(&self.heap, items).map_err(|reason| self.wrong(reason))?;
        self.push(made)
    }

    /// A storage, named by `("storage", class, key, device, count)`; the older form has `None` behind.
    fn persistent_id(&mut self) -> Result<(), WeightsError> {
        let id = self.pop()?;
        let heap = &self.heap;
        let storage = match heap.items(id) {
            Some([kind, class, key, _device, count, rest @ ..]) if heap.text(*kind) == Some("storage") => {
                let whole = rest.iter().all(|r| *heap.get(*r) == Node::None);
                match (heap.get(*class), heap.text(*key), heap.count(*count)) {
                    (Node::Global(Global::Storage(element)), Some(key), Some(count)) if whole && rest.len() <= 1 => {
                        Some(StorageRef { key, element: *element, count })
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        match storage {
            Some(storage) => self.push(Node::Storage(storage)),
            None => Err(self.wrong("a persistent id does not name a storage as torch.save does")),
        }
    }

    fn set_items(&mut self, pairs: &[Id]) -> Result<(), WeightsError> {
        let dict = self.top()?;
        if !pairs.len().is_multiple_of(2) {
            return Err(self.wrong("a dictionary gets a key without a value"));
        }
        match self.heap.get_mut(dict) {
            Some(Node::Dict(entries)) => {
                entries.extend(pairs.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value)));
                Ok(())
            }
            _ => Err(self.wrong(format!("keys are set in {}", self.heap.get(dict).kind()))),
        }
    }

    fn append(&mut self, items: &[Id]) -> Result<(), WeightsError> {
        let list = self.top()?;
        match self.heap.get_mut(list) {
            Some(Node::List(list)) => {
                list.extend_from_slice(items);
                Ok(())
            }
            _ => Err(self.wrong(format!("items are appended to {}", self.heap.get(list).kind()))),
        }
    }
}
