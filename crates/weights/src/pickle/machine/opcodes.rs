//! The opcodes, one arm each, and the names of those that are not done.

use super::Machine;
use crate::WeightsError;
use crate::pickle::value::{Id, MAX_VALUES, Node};

impl Machine<'_, '_> {
    /// Does one opcode; the result if it was STOP.
    pub(super) fn step(&mut self) -> Result<Option<Id>, WeightsError> {
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
