"""As much of GGUF as is needed to know what decoding a token reads, and to take a vocabulary out of a file."""

import math
import struct
from pathlib import Path

from .errors import BenchError

# Elements and bytes of a block of the tensor types (ggml.h), by their number.
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 30: (1, 2),
}
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9


class Gguf:
    """The metadata of a GGUF file, and its tensors as {name: (shape, type, bytes)}."""

    def __init__(self, path):
        self.path = Path(path)
        try:
            with open(path, "rb") as file:
                self._read(file)
        except OSError as error:
            raise BenchError(f"{path} cannot be read: {error.strerror}", "give the path of a GGUF file") from None
        except (struct.error, UnicodeDecodeError, KeyError, MemoryError, OverflowError, ValueError) as error:
            raise BenchError(f"{path} is no GGUF file that can be read ({error})",
                             "delete it and run again: it is made anew") from None

    def _read(self, file):
        def scalar(form):
            return struct.unpack(form, file.read(struct.calcsize(form)))[0]

        def string():
            return file.read(scalar("<Q")).decode("utf-8")

        def value(kind):
            if kind == STRING:
                return string()
            if kind == ARRAY:
                inner, count = scalar("<I"), scalar("<Q")
                return [value(inner) for _ in range(count)]
            return scalar(SCALARS[kind])

        if file.read(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version = scalar("<I")
        if version not in (2, 3):
            raise ValueError(f"version {version}")
        tensors, pairs = scalar("<Q"), scalar("<Q")
        self.metadata = {}
        for _ in range(pairs):
            key = string()
            self.metadata[key] = value(scalar("<I"))
        self.tensors = {}
        for _ in range(tensors):
            name = string()
            shape = [scalar("<Q") for _ in range(scalar("<I"))]
            kind, _offset = scalar("<I"), scalar("<Q")
            elements, size = BLOCKS[kind]
            self.tensors[name] = (shape, kind, math.prod(shape) // elements * size)

    def weight_bytes_per_token(self):
        """Bytes of weights that decoding one token reads: all of them, but of an embedding that is not also the output
        head one row."""
        total = 0
        for name, (shape, _kind, size) in self.tensors.items():
            row_only = name == "token_embd.weight" and "output.weight" in self.tensors
            total += size // shape[1] if row_only else size
        return total

    def kv_bytes_per_position(self, element_bytes=2):
        """Bytes of keys and values that decoding a token reads for each position before it; f16 by default."""
        key = lambda name: self.metadata[f"llama.{name}"]
        try:
            heads, kv_heads = key("attention.head_count"), key("attention.head_count_kv")
            head_dim = self.metadata.get("llama.attention.key_length", key("embedding_length") // heads)
            return 2 * key("block_count") * kv_heads * head_dim * element_bytes
        except KeyError as error:
            raise BenchError(f"{self.path} has no {error}", "give the GGUF file of a Llama model") from None
