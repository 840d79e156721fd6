"""Block formats: stored bytes and the float32 values that the `gguf` package's own dequantization gives for them.

A file holds `blocks` u8 [rows, bytes] and `values` f32 [rows, elems]; a reader must reproduce `values` bit for bit,
the sign of zero included, which also forbids a fused multiply-add in `scale * code - minimum`.
"""

from pathlib import Path

import gguf
import numpy as np

from fixture_io import random_state, write_safetensors

# Every file stays under this.
MAX_BYTES = 60 * 1024

# Scales that break a sloppy half -> float conversion: both zeros, the smallest and largest subnormals, the smallest
# normals, one, a value with a full mantissa, and the largest finite ones.
SCALES = np.array(
    [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x83FF, 0x0400, 0x8400, 0x3C00, 0xBC00, 0x2E66, 0xAE66, 0x7BFF, 0xFBFF],
    dtype=np.uint16,
)

# Byte offsets of the float16 fields in a block, in the order scale, minimum (ggml-common.h, struct block_*).
HALF_FIELDS = {
    "Q8_0": [0],
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}

# Formats that the gguf package can also quantize to. The K formats have dequantization only.
QUANTIZABLE = {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"}

NAMES = [*HALF_FIELDS, "F16", "BF16"]


def make(name: str, out: Path) -> None:
    """Writes `out/NAME.safetensors`."""
    qtype = gguf.GGMLQuantizationType[name]
    blocks = _plain_patterns(name) if name in ("F16", "BF16") else _block_patterns(name, qtype)
    values = gguf.quants.dequantize(blocks, qtype).astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: a value is not finite, so a scale field is at another offset than HALF_FIELDS says")
    path = out / f"{name}.safetensors"
    write_safetensors(path, {"blocks": blocks, "values": values})
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path.name}: {path.stat().st_size} bytes, more than {MAX_BYTES}: use fewer rows")


def _block_patterns(name: str, qtype: gguf.GGMLQuantizationType) -> np.ndarray:
    """Rows of blocks: quantized normals where the package quantizes, then swept and random bytes under all SCALES."""
    block_elems, block_bytes = gguf.GGML_QUANT_SIZES[qtype]
    # An odd number of blocks a row, so that a row never ends on a power of two.
    per_row, random_rows = 3, (84 if block_elems == 32 else 13)
    generator = random_state("quant", name)
    rows = []
    if name in QUANTIZABLE:
        normals = generator.standard_normal((12, per_row * block_elems)).astype(np.float32)
        normals[1] *= 1e-6  # the scale becomes a float16 subnormal
        normals[2] *= 1e3
        normals[3, :block_elems] = 0.0  # a block of zeros
        rows.append(gguf.quants.quantize(normals, qtype))

    count = random_rows * per_row
    raw = generator.randint(0, 256, (count, block_bytes)).astype(np.uint8)
    # Every second block: within sixteen of them each nibble at each position takes all of its sixteen values.
    step, position = np.arange(len(raw[::2]))[:, None], np.arange(block_bytes)[None, :]
    raw[::2] = ((step + 13 * position) & 0xF) | (((step + 7 * position) & 0xF) << 4)
    for index, offset in enumerate(HALF_FIELDS[name]):
        scale = generator.randint(0, 1 << 16, count).astype(np.uint16)
        scale = np.where((scale & 0x7C00) == 0x7C00, scale & 0xBFFF, scale)  # no infinity, no NaN
        special = generator.permutation(count)[: len(SCALES) * (2 if count >= 64 else 1)]
        scale[special] = np.resize(np.roll(SCALES, 5 * index), len(special))
        raw[:, offset : offset + 2] = scale.astype("<u2").view(np.uint8).reshape(count, 2)
    rows.append(raw.reshape(random_rows, per_row * block_bytes))
    return np.ascontiguousarray(np.concatenate(rows))


def _plain_patterns(name: str) -> np.ndarray:
    """16-bit floats: each sign and exponent with the edge mantissas and random ones; no infinity and no NaN."""
    mantissa_bits = 10 if name == "F16" else 7
    exponents = (1 << (15 - mantissa_bits)) - 1  # the last exponent stands for infinity and NaN
    edge = [0, 1, 2, (1 << mantissa_bits) - 2, (1 << mantissa_bits) - 1, 1 << (mantissa_bits - 1)]
    per_exponent = 96 if name == "F16" else 14
    generator = random_state("quant", name)
    codes = []
    for high in range(2 * (exponents + 1)):
        if high % (exponents + 1) == exponents:
            continue
        free = np.setdiff1d(np.arange(1 << mantissa_bits), edge)
        chosen = generator.permutation(free)[: per_exponent - len(edge)]
        codes.append((high << mantissa_bits) | np.concatenate([edge, chosen]))
    flat = generator.permutation(np.concatenate(codes)).astype("<u2")
    return np.ascontiguousarray(flat.reshape(2 * exponents, per_exponent).view(np.uint8))
