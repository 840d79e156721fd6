"""Reading and writing of fixture files: safetensors, TOML and digests, always the same bytes for the same content."""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save as save_numpy

# safetensors dtype -> NumPy dtype of the bytes as they lie in the file.
_STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


def random_state(*names: object) -> np.random.RandomState:
    """A generator seeded by a name, so that adding a case or a tensor leaves all other numbers as they are.

    `RandomState` is the one generator whose streams NumPy promises never to change.
    """
    return np.random.RandomState(zlib.crc32("/".join(map(str, names)).encode()))


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a file, BF16 and F16 widened to float32 (which is exact), the rest as stored.

    Written out here, not taken from a library, so that the NumPy reference shares no code with the PyTorch one.
    """
    raw = Path(path).read_bytes()
    header_bytes = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + header_bytes])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        data = np.frombuffer(raw[8 + header_bytes + begin : 8 + header_bytes + end], _STORED[entry["dtype"]])
        if entry["dtype"] == "BF16":
            data = (data.astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"] == "F16":
            data = data.astype(np.float32)
        tensors[name] = data.reshape(entry["shape"])
    return tensors


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Writes tensors in the order of dtype and name that the safetensors library chooses."""
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    Path(path).write_bytes(save_numpy(contiguous, metadata))


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def toml_value(value: object) -> str:
    """One TOML value. JSON strings without non-ASCII escapes are valid TOML basic strings."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    # JSON leaves DEL as it is and TOML does not allow it; nothing else differs.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def write_toml(path: Path, top: dict[str, object], tables: list[tuple[str, dict[str, object]]], comment: str) -> None:
    """Writes `top` keys, then each table; a name in double brackets (`[[prompt]]`) is an array of tables."""
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += [f"{key} = {toml_value(value)}" for key, value in top.items()]
    for name, entries in tables:
        lines += ["", f"[{name}]"] + [f"{_toml_key(key)} = {toml_value(value)}" for key, value in entries.items()]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml_key(key: str) -> str:
    bare = key.replace("_", "").replace("-", "").isalnum() and key.isascii()
    return key if bare else json.dumps(key)
