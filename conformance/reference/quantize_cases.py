"""Goldens of the quantizers: rows of floats, and the blocks that ggml's reference quantizers make of them.

    python quantize_cases.py --ggml libggml-base.so --out ../../crates/weights/tests/data/quantize.safetensors

The blocks of q4_k, q5_k and q6_k can only come from ggml itself: build it from the sdist of llama-cpp-python (cmake, target
`ggml-base`, without processor flags, as it is by default). Those of the formats of 32 elements come from the `gguf` package, and
must be ggml's too.
"""

import argparse
import ctypes
from pathlib import Path

import gguf
import numpy as np
from fixture_io import random_state, write_safetensors

BLOCK = 256
# Name, whether the gguf package has a quantizer.
FORMATS = [("q4_0", True), ("q4_1", True), ("q5_0", True), ("q5_1", True), ("q8_0", True)] + [
    (name, False) for name in ("q4_k", "q5_k", "q6_k")
]


def rows() -> np.ndarray:
    """f32 [rows, 256]: what weights look like, and what they look like at the edges of the formats."""
    r = random_state("quantize")
    normal = r.standard_normal((8, BLOCK))
    kinds = [
        *(0.02 * normal[:3]),
        *(normal[3:5] * np.array([[1e-4], [100.0]])),
        r.uniform(-1, 1, BLOCK),
        r.uniform(0, 1, BLOCK),
        r.uniform(-3, -1, BLOCK),
        r.standard_t(2, BLOCK),
        np.zeros(BLOCK),
        np.full(BLOCK, 0.25),
        np.full(BLOCK, -0.25),
        np.where(np.arange(BLOCK) == 77, 5.0, 1e-3 * normal[5]),
        np.where(np.arange(BLOCK) < 128, 0.0, normal[6]),
        np.where(np.arange(BLOCK) % 32 < 16, 1.0, -1.0),
        # Codes that lie just between two: multiples of a half.
        r.randint(-15, 16, BLOCK) * 0.5,
        r.randint(-254, 255, BLOCK) * 0.5,
        # Scales that are subnormal as f16, or zero, or nearly too large for it.
        1e-6 * normal[7],
        1e-12 * normal[7],
        1e-20 * normal[7],
        15000.0 * np.clip(normal[7], -4, 4),
        # Groups of very different size share the scale of their scales.
        normal[0] * np.repeat(10.0 ** np.arange(-4, 4), 32),
        np.repeat(r.standard_normal(8), 32) + 1e-3 * normal[1],
        np.sort(normal[2]),
    ]
    return np.stack(kinds).astype(np.float32)


def from_gguf(x: np.ndarray, name: str) -> np.ndarray:
    """u8 [rows, bytes] by the gguf package."""
    return gguf.quants.quantize(x, gguf.GGMLQuantizationType[name.upper()])


def from_ggml(library: ctypes.CDLL, x: np.ndarray, name: str) -> np.ndarray:
    """u8 [rows, bytes] by ggml's `quantize_row_*_ref`."""
    function = getattr(library, f"quantize_row_{name[:-2]}_{name[-1].upper()}_ref")
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    elems, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name.upper()]]
    out = np.zeros((x.shape[0], x.shape[1] // elems * size), np.uint8)
    x = np.ascontiguousarray(x)
    function(x.ctypes.data, out.ctypes.data, x.size)
    return out


def main() -> None:
    """Writes `x` and one tensor for each format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ggml", required=True, help="the shared library of ggml, libggml-base")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    library = ctypes.CDLL(arguments.ggml)
    x = rows()
    tensors = {"x": x}
    for name, in_gguf in FORMATS:
        tensors[name] = from_ggml(library, x, name)
        # The package takes the code of a block of zeros, or of scales that vanish, from NaNs: there ggml's rule holds.
        plain = np.abs(x).max(axis=1) > 1e-15
        if in_gguf and not np.array_equal(from_gguf(x, name)[plain], tensors[name][plain]):
            raise ValueError(f"{name}: the gguf package and ggml differ")
    write_safetensors(arguments.out, tensors)


if __name__ == "__main__":
    main()
