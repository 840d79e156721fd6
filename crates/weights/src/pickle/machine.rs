//! The stack machine of pickles, protocols 2 to 5, as far as `torch.save` uses it.
//!
//! Opcodes are those of Python's `pickletools`. Every opcode takes a bounded number of values from the stack or those
//! above a mark, and makes at most one: time and memory grow with the length of the pickle, which is limited.

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

    /// Does one opcode; the result if it was STOP.
    fn step(&mut self) -> Result<Option<Id>, WeightsError> {
        match self.byte()? {
            b'.' => return self.pop().map(Some),
            0x80 => match self.byte()? {
                0..=5 => {}
                protocol => return Err(self.wrong(format!("protocol {protocol} is none of 0 to 5"))),
            },
            // The length of a frame tells readers of streams how much to read.
            0x95 => {
                self.take(8)?;
            }
            b'(' => {
                if self.marks.len() >= MAX_VALUES {
                    return Err(self.wrong(format!("it sets more than {MAX_VALUES} marks")));
                }
                self.marks.push(self.stack.len());
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.above_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.push_id(top)?;
            }
            b'N' => self.push(Node::None)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            b'J' => {
                let n = i32::from_le_bytes(self.array()?);
                self.push(Node::Int(n.into()))?;
            }
            b'K' => {
                let n = self.byte()?;
                self.push(Node::Int(n.into()))?;
            }
            b'M' => {
                let n = u16::from_le_bytes(self.array()?);
                self.push(Node::Int(n.into()))?;
            }
            0x8a => {
                let len = self.byte()?;
                self.long(len.into())?;
            }
            0x8b => {
                let len = self.u32()?;
                self.long(len.into())?;
            }
            b'G' => {
                self.take(8)?;
                self.push(Node::Float)?;
            }
            0x8c | b'U' => {
                let len = self.byte()?;
                self.text(len.into())?;
            }
            b'X' | b'T' => {
                let len = self.u32()?;
                self.text(len.into())?;
            }
            0x8d => {
                let len = u64::from_le_bytes(self.array()?);
                self.text(len)?;
            }
            b'C' => {
                let len = self.byte()?;
                self.blob(len.into())?;
            }
            b'B' => {
                let len = self.u32()?;
                self.blob(len.into())?;
            }
            0x8e => {
                let len = u64::from_le_bytes(self.array()?);
                self.blob(len)?;
            }
            b']' => self.push(Node::List(Vec::new()))?,
            b')' => self.push(Node::Tuple(Box::default()))?,
            b'}' => self.push(Node::Dict(Vec::new()))?,
            b'l' => {
                let items = self.above_mark()?;
                self.push(Node::List(items))?;
            }
            b't' => {
                let items = self.above_mark()?;
                self.push(Node::Tuple(items.into()))?;
            }
            b'd' => {
                let pairs = self.above_mark()?;
                self.push(Node::Dict(Vec::new()))?;
                self.set_items(&pairs)?;
            }
            count @ 0x85..=0x87 => {
                let mut items = Vec::with_capacity(3);
                for _ in 0..=count - 0x85 {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Node::Tuple(items.into()))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.above_mark()?;
                self.append(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let pairs = self.above_mark()?;
                self.set_items(&pairs)?;
            }
            b'q' => {
                let index = self.byte()?;
                self.memoize(index.into())?;
            }
            b'r' => {
                let index = self.u32()?;
                self.memoize(index)?;
            }
            0x94 => {
                // At most MAX_VALUES, which fits.
                let index = self.memo.len() as u32;
                self.memoize(index)?;
            }
            b'h' => {
                let index = self.byte()?;
                self.recall(index.into())?;
            }
            b'j' => {
                let index = self.u32()?;
                self.recall(index)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.heap.text(module), self.heap.text(name)) {
                    (Some(module), Some(name)) => self.global(module, name)?,
                    _ => return Err(self.wrong("the name of a function is no string")),
                }
            }
            b'R' => self.reduce()?,
            // The state of an object: of a dictionary, attributes such as a state dict's `_metadata`. Nothing needs it.
            b'b' => {
                self.pop()?;
                let object = self.top()?;
                if !matches!(self.heap.get(object), Node::Dict(_)) {
                    return Err(self.wrong(format!("a state is given to {}", self.heap.get(object).kind())));
                }
            }
            b'Q' => self.persistent_id()?,
            opcode => {
                self.at -= 1;
                return Err(self.wrong(match name_of(opcode) {
                    Some(name) => format!("the opcode {name} is not one that torch.save writes"),
                    None => format!("{opcode:#04x} is no opcode"),
                }));
            }
        }
        Ok(None)
    }
}

/// Opcodes that exist but are not done.
fn name_of(opcode: u8) -> Option<&'static str> {
    Some(match opcode {
        b'F' => "FLOAT",
        b'I' => "INT",
        b'L' => "LONG",
        b'P' => "PERSID",
        b'S' => "STRING",
        b'V' => "UNICODE",
        b'g' => "GET",
        b'i' => "INST",
        b'o' => "OBJ",
        b'p' => "PUT",
        0x81 => "NEWOBJ",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        0x8f => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        0x92 => "NEWOBJ_EX",
        0x96 => "BYTEARRAY8",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => return None,
    })
}
