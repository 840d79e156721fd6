//! The values of GGUF metadata: scalars, and arrays that stay in the memory map.

use std::fmt;

/// The distance between noted places in an array of strings.
pub(super) const MARK_EVERY: u64 = 64;

/// The type of a scalar (`enum gguf_metadata_value_type` of the GGUF specification).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Type {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    U64,
    I64,
    F64,
}

impl Type {
    pub(super) fn from_id(id: u32) -> Option<Type> {
        use Type::*;
        Some(match id {
            0 => U8,
            1 => I8,
            2 => U16,
            3 => I16,
            4 => U32,
            5 => I32,
            6 => F32,
            7 => Bool,
            8 => String,
            10 => U64,
            11 => I64,
            12 => F64,
            _ => return None,
        })
    }

    /// Bytes of a value, or the fewest that a string takes.
    pub(super) fn min_bytes(self) -> u64 {
        match self {
            Type::U8 | Type::I8 | Type::Bool => 1,
            Type::U16 | Type::I16 => 2,
            Type::U32 | Type::I32 | Type::F32 => 4,
            Type::U64 | Type::I64 | Type::F64 | Type::String => 8,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Type::U8 => "u8",
            Type::I8 => "i8",
            Type::U16 => "u16",
            Type::I16 => "i16",
            Type::U32 => "u32",
            Type::I32 => "i32",
            Type::F32 => "f32",
            Type::Bool => "bool",
            Type::String => "string",
            Type::U64 => "u64",
            Type::I64 => "i64",
            Type::F64 => "f64",
        }
    }

    /// The value in `bytes`, which are as long as the type takes.
    pub(super) fn value(self, bytes: &[u8]) -> Option<Value<'_>> {
        Some(match self {
            Type::U8 => Value::Unsigned(u64::from(*bytes.first()?)),
            Type::I8 => Value::Signed(i64::from(*bytes.first()? as i8)),
            Type::U16 => Value::Unsigned(u64::from(u16::from_le_bytes(*bytes.first_chunk()?))),
            Type::I16 => Value::Signed(i64::from(i16::from_le_bytes(*bytes.first_chunk()?))),
            Type::U32 => Value::Unsigned(u64::from(u32::from_le_bytes(*bytes.first_chunk()?))),
            Type::I32 => Value::Signed(i64::from(i32::from_le_bytes(*bytes.first_chunk()?))),
            Type::F32 => Value::F32(f32::from_le_bytes(*bytes.first_chunk()?)),
            Type::Bool => Value::Bool(*bytes.first()? != 0),
            Type::U64 => Value::Unsigned(u64::from_le_bytes(*bytes.first_chunk()?)),
            Type::I64 => Value::Signed(i64::from_le_bytes(*bytes.first_chunk()?)),
            Type::F64 => Value::F64(f64::from_le_bytes(*bytes.first_chunk()?)),
            Type::String => {
                let len = usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()?;
                Value::String(bytes.get(8..)?.get(..len)?)
            }
        })
    }
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// An unsigned integer of any width.
    Unsigned(u64),
    /// A signed integer of any width.
    Signed(i64),
    /// A single-precision number.
    F32(f32),
    /// A double-precision number.
    F64(f64),
    /// True or false.
    Bool(bool),
    /// Text: UTF-8 by the specification, but not in every file.
    String(&'a [u8]),
    /// Values of one type.
    Array(Array<'a>),
}

impl Value<'_> {
    pub(super) fn integer(self) -> Option<i128> {
        match self {
            Value::Unsigned(n) => Some(i128::from(n)),
            Value::Signed(n) => Some(i128::from(n)),
            _ => None,
        }
    }
}

impl fmt::Display for Value<'_> {
    /// Strings as they are (what is not UTF-8 replaced), of arrays only type and length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unsigned(n) => write!(f, "{n}"),
            Value::Signed(n) => write!(f, "{n}"),
            Value::F32(x) => write!(f, "{x}"),
            Value::F64(x) => write!(f, "{x}"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::String(s) => f.write_str(&String::from_utf8_lossy(s)),
            Value::Array(a) => write!(f, "[{}; {}]", a.scalar.name(), a.count),
        }
    }
}

/// The values of an array, in the memory map.
#[derive(Clone, Copy, PartialEq)]
pub struct Array<'a> {
    pub(super) scalar: Type,
    pub(super) count: u64,
    pub(super) bytes: &'a [u8],
    /// Where elements 64, 128, ... begin, if they are strings.
    pub(super) marks: &'a [u64],
}

impl<'a> Array<'a> {
    /// The type of the elements.
    pub fn scalar(&self) -> Type {
        self.scalar
    }

    /// Number of elements.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The element at `index`.
    pub fn get(&self, index: u64) -> Option<Value<'a>> {
        if index >= self.count {
            return None;
        }
        if self.scalar != Type::String {
            let size = self.scalar.min_bytes();
            return self.scalar.value(self.bytes.get((index * size) as usize..)?);
        }
        let mark = match index / MARK_EVERY {
            0 => 0,
            n => *self.marks.get(n as usize - 1)?,
        };
        let from = StringsFrom { bytes: self.bytes.get(mark as usize..)?, left: index % MARK_EVERY + 1 };
        from.last().map(Value::String)
    }

    /// All elements, in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let size = self.scalar.min_bytes() as usize;
        let scalar = self.scalar;
        let strings = (scalar == Type::String).then_some(StringsFrom { bytes: self.bytes, left: self.count });
        let scalars = if scalar == Type::String { &[][..] } else { self.bytes };
        strings
            .into_iter()
            .flatten()
            .map(Value::String)
            .chain(scalars.chunks_exact(size).filter_map(move |bytes| scalar.value(bytes)))
    }

    /// The elements of an array of strings, or `None` for other types.
    pub fn strings(&self) -> Option<impl Iterator<Item = &'a [u8]> + use<'a>> {
        (self.scalar == Type::String).then_some(StringsFrom { bytes: self.bytes, left: self.count })
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}; {}]", self.scalar.name(), self.count)
    }
}

/// Walks over strings that were found to lie inside the file.
struct StringsFrom<'a> {
    bytes: &'a [u8],
    left: u64,
}

impl<'a> Iterator for StringsFrom<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let (len, rest) = self.bytes.split_first_chunk()?;
        let (string, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        self.bytes = rest;
        Some(string)
    }
}
