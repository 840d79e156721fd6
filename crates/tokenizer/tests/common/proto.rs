//! A writer of SentencePiece models, for tests that need one with a certain flaw, or a real vocabulary in this form.
#![allow(dead_code, reason = "each test file uses a part")]

/// A number as Protocol Buffers write it.
pub fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7F {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A field that is a number.
pub fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A field that is a string or a message.
pub fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

/// A piece of a model: its text, score and type.
pub fn piece(text: &str, score: f32, kind: u64) -> Vec<u8> {
    let score = [vec![2 << 3 | 5], score.to_le_bytes().to_vec()].concat();
    bytes(1, &[bytes(1, text.as_bytes()), score, number(3, kind)].concat())
}

/// `trainer_spec` of a BPE model, with or without byte tokens.
pub fn trainer(byte_fallback: bool) -> Vec<u8> {
    bytes(2, &[number(3, 2), number(35, byte_fallback.into())].concat())
}

/// `normalizer_spec` as LLaMA has it.
pub fn normalizer() -> Vec<u8> {
    bytes(3, &[bytes(1, b"identity"), number(3, 1), number(4, 0)].concat())
}

/// A model of these pieces, as LLaMA's.
pub fn model(pieces: &[(String, f32, u64)]) -> Vec<u8> {
    let pieces: Vec<u8> = pieces.iter().flat_map(|(text, score, kind)| piece(text, *score, *kind)).collect();
    [pieces, trainer(true), normalizer()].concat()
}
