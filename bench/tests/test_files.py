import struct
import tempfile
import unittest
from pathlib import Path

from camelid_bench import models, sentencepiece
from camelid_bench.errors import BenchError
from camelid_bench.gguf import Gguf


def string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def gguf(tensors, numbers):
    """A GGUF file without data: {name: (shape, type)} and {key: u32}."""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(numbers))
    for key, value in numbers.items():
        out += string(key) + struct.pack("<II", 4, value)
    for name, (shape, kind) in tensors.items():
        out += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, 0)
    return out


class Files(unittest.TestCase):
    def open(self, data):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.gguf"
            path.write_bytes(data)
            return Gguf(path)

    def test_a_token_reads_all_weights_but_one_row_of_an_embedding(self):
        head = {"token_embd.weight": ([64, 10], 8), "blk.0.ffn_up.weight": ([64, 4], 2)}
        numbers = {"llama.block_count": 3, "llama.embedding_length": 64, "llama.attention.head_count": 4,
                   "llama.attention.head_count_kv": 2}
        tied = self.open(gguf(head, numbers))
        self.assertEqual(tied.weight_bytes_per_token(), 10 * 68 + 4 * 36)
        self.assertEqual(tied.kv_bytes_per_position(), 2 * 3 * 2 * 16 * 2)
        apart = self.open(gguf({**head, "output.weight": ([64, 10], 0)}, numbers))
        self.assertEqual(apart.weight_bytes_per_token(), 68 + 4 * 36 + 64 * 10 * 4)

    def test_a_file_that_is_cut_off_or_something_else_is_named(self):
        whole = gguf({"a": ([32, 2], 8)}, {"k": 1})
        for data in (b"", b"GGML", whole[:30], whole[:-3], b"GGUF" + struct.pack("<I", 9)):
            with self.subTest(data), self.assertRaisesRegex(BenchError, "m.gguf is no GGUF file"):
                self.open(data)

    def test_a_vocabulary_becomes_a_model_of_sentencepiece(self):
        self.assertEqual([sentencepiece.varint(n) for n in (1, 300)], [b"\x01", b"\xac\x02"])
        made = sentencepiece.model({"tokenizer.ggml.tokens": ["<unk>", "ab"], "tokenizer.ggml.scores": [0.0, -1.0],
                                    "tokenizer.ggml.token_type": [2, 1]})
        # A piece: its text, its score, its type.
        self.assertTrue(made.startswith(b"\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02\x0a\x0b\x0a\x02ab\x15\0\0\x80\xbf\x18\x01"))
        # BPE; unk, bos, eos and no pad; a space before the text.
        self.assertTrue(made.endswith(b"\x18\x02\xc0\x02\x00\xc8\x02\x01\xd0\x02\x02\xd8\x02" + b"\xff" * 9 + b"\x01\x1a\x02\x18\x01"))

    def test_formats_there_are_not_are_refused(self):
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(BenchError, "llama-1b comes in bf16, q8_0"):
            models.make(folder, "camelid", [("llama-1b", "f32")])


if __name__ == "__main__":
    unittest.main()
