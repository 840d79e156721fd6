//! The wire format of Protocol Buffers: fields of a message, one after the other, over bytes that nobody vouches for.
//!
//! <https://protobuf.dev/programming-guides/encoding/>. Nothing is copied and nothing recurses: a message inside is a
//! slice, which whoever wants it reads in turn.

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// Integers, booleans and enums.
    Varint(u64),
    /// `float` and `fixed32`.
    Fixed32([u8; 4]),
    /// `double` and `fixed64`.
    Fixed64,
    /// Strings, bytes and messages.
    Bytes(&'a [u8]),
}

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Field<'a> {
    pub number: u32,
    pub value: Value<'a>,
    /// Where in the file the field begins.
    pub at: usize,
}

/// What is wrong, and where in the file.
#[derive(Debug, PartialEq)]
pub(crate) struct Malformed {
    pub at: usize,
    pub found: &'static str,
}

/// The fields of a message; ends after the first one that cannot be read.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// The fields of `message`, which begins at byte `at` of its file.
    pub(crate) fn new(message: &'a [u8], at: usize) -> Self {
        Fields { rest: message, at }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        self.at += count;
        Some(taken)
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0u64;
        for place in 0..10 {
            let byte = self.take(1).ok_or("it ends inside a number")?[0];
            let bits = u64::from(byte & 0x7F);
            if place == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number of more than 64 bits")
    }

    fn field(&mut self) -> Result<Field<'a>, &'static str> {
        let at = self.at;
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|n| (1..1 << 29).contains(n));
        let number = number.ok_or("a field number that no message has")?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed64).ok_or("it ends inside a field")?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| "a field longer than the file")?;
                Value::Bytes(self.take(length).ok_or("a field longer than the file")?)
            }
            5 => {
                let bytes = self.take(4).and_then(|b| b.try_into().ok());
                Value::Fixed32(bytes.ok_or("it ends inside a field")?)
            }
            _ => return Err("a field of a type that is not used any more"),
        };
        Ok(Field { number, value, at })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let at = self.at;
        Some(self.field().map_err(|found| {
            self.rest = &[];
            Malformed { at, found }
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
        Fields::new(bytes, 0).map(|f| f.map(|f| (f.number, f.value))).collect()
    }

    #[test]
    fn every_type_is_read() {
        // The first is the example of the format's documentation: field 1 is 150.
        assert_eq!(read(&[0x08, 0x96, 0x01]).unwrap(), [(1, Value::Varint(150))]);
        assert_eq!(read(b"\x12\x07testing").unwrap(), [(2, Value::Bytes(b"testing"))]);
        assert_eq!(read(&[0x1D, 1, 2, 3, 4]).unwrap(), [(3, Value::Fixed32([1, 2, 3, 4]))]);
        assert_eq!(read(&[0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0x28, 1]).unwrap()[1], (5, Value::Varint(1)));
        let minus_one = [&[0x08][..], &[0xFF; 9], &[1]].concat();
        assert_eq!(read(&minus_one).unwrap(), [(1, Value::Varint(u64::MAX))]);
        assert_eq!(read(&[]).unwrap(), []);
    }

    #[test]
    fn what_is_cut_or_absurd_is_an_error_that_says_where() {
        for (bytes, at, words) in [
            (&[0x08, 1, 0x12, 0x05, b'a'][..], 2, "longer than the file"),
            (&[0x12, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], 0, "longer than the file"),
            (&[0x08, 0x80], 0, "inside a number"),
            (&[0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02], 0, "64 bits"),
            (&[0x1D, 0, 0], 0, "inside a field"),
            (&[0x0B], 0, "not used any more"),
            (&[0x00, 0x00], 0, "no message has"),
        ] {
            let error = read(bytes).unwrap_err();
            assert!(error.at == at && error.found.contains(words), "{bytes:x?}: {error:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let fields: Vec<_> = Fields::new(&bytes, 0).collect();
            prop_assert!(fields.len() <= bytes.len());
            prop_assert!(fields.iter().rev().skip(1).all(Result::is_ok));
        }
    }
}
