"""`tokenizer.model`, SentencePiece's protobuf, from the vocabulary of a GGUF file.

A model with random weights needs a vocabulary only so that every program loads its file; Llama 2's has 32,000 pieces.
The fields are those that crates/weights/src/write/sentencepiece.rs lists.
"""

import struct

BPE = 2


def varint(n):
    """A protobuf varint; negative numbers as 64 bits of two's complement."""
    n &= (1 << 64) - 1
    out = bytearray()
    while True:
        n, low = n >> 7, n & 0x7F
        out.append(low | (0x80 if n else 0))
        if not n:
            return bytes(out)


def number(field, n):
    return varint(field << 3) + varint(n)


def message(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def model(metadata):
    """The bytes of tokenizer.model for the vocabulary in a GGUF file's metadata."""
    tokens, scores, kinds = (metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "scores", "token_type"))
    out = bytearray()
    for text, score, kind in zip(tokens, scores, kinds):
        piece = message(1, text.encode("utf-8")) + varint(2 << 3 | 5) + struct.pack("<f", score) + number(3, kind)
        out += message(1, piece)
    unk, bos, eos = (metadata.get(f"tokenizer.ggml.{key}_token_id", default)
                     for key, default in (("unknown", 0), ("bos", 1), ("eos", 2)))
    out += message(2, number(3, BPE) + number(40, unk) + number(41, bos) + number(42, eos) + number(43, -1))
    out += message(3, number(3, 1))
    return bytes(out)
