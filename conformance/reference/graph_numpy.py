"""The operations in NumPy: in float64, in float32 as honest programs do in several orders, and in float64 between numbers
rounded as the coarser math classes allow.

Both are written from the operations' definitions (crates/core/src/ops); nothing here is shared with `graph_torch.py`.
An engine takes an operation, its operands as numbers, its attributes, their element types and the step's symbols, and
gives its results with their types.
"""

import math

import numpy as np

MODES = ("sequential", "blocked", "reversed")
MASKED = -1e30


class Float64:
    """Plain float64: sums as NumPy makes them."""

    kind = np.float64

    def dot(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """[.., M, K] x [.., N, K] -> [.., M, N]."""
        return np.einsum("...mk,...nk->...mn", a, b)

    def sum(self, x: np.ndarray) -> np.ndarray:
        """Over the last dimension."""
        return x.sum(axis=-1)


class Float32:
    """float32 throughout, summed in the order `mode` says."""

    kind = np.float32

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def dot(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """[.., M, K] x [.., N, K] -> [.., M, N]."""
        return self._ordered(a.shape[-1], lambda k: a[..., :, None, k] * b[..., None, :, k], np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) + (a.shape[-2], b.shape[-2]))

    def sum(self, x: np.ndarray) -> np.ndarray:
        """Over the last dimension."""
        return self._ordered(x.shape[-1], lambda k: x[..., k], x.shape[:-1])

    def _ordered(self, count: int, term: object, shape: tuple) -> np.ndarray:
        order = range(count - 1, -1, -1) if self.mode == "reversed" else range(count)
        block = 32 if self.mode == "blocked" else max(count, 1)
        total = np.zeros(shape, np.float32)
        for start in range(0, count, block):
            part = np.zeros(shape, np.float32)
            for k in order[start : start + block]:
                part = part + term(k)
            total = total + part
        return total


def exact(op: str, operands: list, attrs: dict, dtypes: list, symbols: dict) -> tuple[list, list]:
    """In float64."""
    return _apply(Float64(), op, operands, attrs, dtypes, symbols)


def honest(mode: str) -> object:
    """An engine in float32."""

    def engine(op: str, operands: list, attrs: dict, dtypes: list, symbols: dict) -> tuple[list, list]:
        narrow = [x if d == "i32" else np.asarray(x, np.float32) for x, d in zip(operands, dtypes, strict=True)]
        results, kinds = _apply(Float32(mode), op, narrow, attrs, dtypes, symbols)
        return [np.asarray(r, np.float64) for r in results], kinds

    return engine


# The grids of a class's emulations: numbers are multiplied, rounded and divided again, so that each grid makes other errors of
# the same size, and what a case amplifies is not left to the luck of one.
GRIDS = tuple(1.0 + i * 0.6180339887498949 % 1.0 for i in range(16))
# Operands of products that are weights, and those that are activations.
WEIGHTS = {"linear": (1,), "qkv_linear": (1, 2, 3)}
ACTIVATIONS = {"linear": (0,), "qkv_linear": (0,), "bmm": (0, 1), "attention": (0, 1, 2)}
# What moves numbers, or keeps them in the memory of a state.
MOVES = ("gather_rows", "scatter_rows", "kv_append", "cast", "copy", "reshape")


def _bits(count: int, smallest: int, largest: float) -> object:
    """Rounds to `count` significant bits, multiples of 2^smallest, infinite from `largest`."""

    def narrow(values: np.ndarray, grid: float) -> np.ndarray:
        x = np.asarray(values, np.float64) * grid
        finite = np.where(np.isfinite(x), x, 0.0)
        step = np.exp2(np.maximum(np.frexp(finite)[1] - count, smallest).astype(np.float64))
        y = np.round(finite / step) * step
        y = np.where(np.abs(y) >= largest, np.copysign(np.inf, y), y)
        return np.where(np.isfinite(x), y, x) / grid

    return narrow


FORMATS = {"f16": _bits(11, -24, 65520.0), "f32-tf32": _bits(11, -149, 2.0**128), "bf16": _bits(8, -149, 2.0**128)}


def _blocks(values: np.ndarray, block: int, grid: float) -> np.ndarray:
    """Rows in blocks of 8-bit multiples of a step: the largest of a block has the code 127, or a little less with a grid."""
    x = np.asarray(values, np.float64)
    columns, fill = x.shape[-1], -x.shape[-1] % block
    padded = np.concatenate([x, np.zeros((*x.shape[:-1], fill))], axis=-1)
    padded = padded.reshape(*x.shape[:-1], (columns + fill) // block, block)
    step = np.abs(padded).max(axis=-1, keepdims=True, initial=0.0) / np.round(127 / (1 + (grid - 1) / 8))
    usable = np.isfinite(step) & (step > 0)
    step = np.where(usable, step, 1.0)
    y = np.where(usable, np.round(padded / step) * step, padded)
    return y.reshape(*x.shape[:-1], columns + fill)[..., :columns]


def coarse(klass: str, results: int, types: set[str]) -> list:
    """Engines that compute as coarsely as a math class allows: float64 but for what is rounded. A case of few results, which
    are lucky more easily, gets more of them; `types` are those of its values."""
    grids = GRIDS if results <= 64 else GRIDS[:4]
    if klass == "q8act":
        blocks = (32, None) if any(t.endswith("_k") for t in types) else (32,)
        return [_quantizing(block, grid) for grid in grids for block in blocks]
    parts = [("w",), ("w", "x")] + ([("w", "x", "y")] if klass != "f32-tf32" else [])
    return [_rounding(klass, part, grid) for grid in grids for part in parts]


def _rounding(klass: str, parts: tuple, grid: float) -> object:
    """Rounds weights of products (`w`), their activations (`x`), and results of whatever computes (`y`). What is of the class's
    own type is rounded to it and to no other grid."""
    own = "f16" if klass == "f32-tf32" else klass

    def narrow(values: np.ndarray, dtype: str) -> np.ndarray:
        return FORMATS[klass](values, 1.0 if dtype == own else grid)

    def engine(op: str, operands: list, attrs: dict, dtypes: list, symbols: dict) -> tuple[list, list]:
        at = (WEIGHTS.get(op, ()) if "w" in parts else ()) + (ACTIVATIONS.get(op, ()) if "x" in parts else ())
        narrowed = [narrow(x, d) if i in at else x for i, (x, d) in enumerate(zip(operands, dtypes, strict=True))]
        results, kinds = exact(op, narrowed, attrs, dtypes, symbols)
        if "y" in parts and op not in MOVES:
            results = [narrow(r, kind) for r, kind in zip(results, kinds, strict=True)]
        return results, kinds

    return engine


def _quantizing(block: int | None, grid: float) -> object:
    """Activations of products with weights in 8 bits; without a `block`, in blocks of the weights' own size."""

    def engine(op: str, operands: list, attrs: dict, dtypes: list, symbols: dict) -> tuple[list, list]:
        if op in WEIGHTS:
            size = block or (256 if dtypes[1].endswith("_k") else 32)
            operands = [_blocks(operands[0], size, grid), *operands[1:]]
        return exact(op, operands, attrs, dtypes, symbols)

    return engine


def q8_0(values: np.ndarray) -> np.ndarray:
    """Rows stored in q8_0 (crates/core/src/ops/cast.rs): the numbers that are left of them, scale * code."""
    x = np.asarray(values).astype(np.float32)
    blocks = x.reshape(-1, 32)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        d = np.abs(blocks).max(axis=1, keepdims=True, initial=np.float32(0)) / np.float32(127)
        scaled = (blocks * np.where(d == 0, np.float32(0), np.float32(1) / d)).astype(np.float64)
        # Half a code more or less, and cut: halves go away from zero.
        codes = np.trunc(scaled + np.copysign(0.5, scaled))
        codes = np.where(np.isfinite(codes), codes, 0.0)
        numbers = codes * d.astype(np.float16).astype(np.float64)
    near = np.abs(np.abs(scaled - np.trunc(scaled)) - 0.5)
    # Another program may divide where this one multiplies, which is the same only by powers of two: no code may hang on it.
    if np.any((near > 0) & (near < 3e-5) & (np.frexp(d)[0] != 0.5)):
        raise ValueError("a number is all but half way between two codes; draw others")
    return numbers.reshape(x.shape)


def _apply(f: object, op: str, x: list, attrs: dict, dtypes: list, symbols: dict) -> tuple[list, list]:
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        results = _OPS[op](f, x, attrs, dtypes, symbols)
    results = results if isinstance(results, list) else [results]
    if op == "cast":
        kinds = [attrs["to"]]
    elif op == "gather_rows":
        kinds = [dtypes[0] if dtypes[0] in ("f32", "f16", "bf16") else "f32"]
    else:
        kinds = [dtypes[0]] * len(results)
    return results, kinds


def _round(values: np.ndarray, dtype: str) -> np.ndarray:
    from graph_case import stored, widened

    if dtype == "q8_0":
        return q8_0(values).astype(np.asarray(values).dtype)
    return values if dtype == "i32" else widened(stored(values, dtype), dtype)


def _gather_rows(f, x, attrs, dtypes, symbols):
    table, index = x
    rows = table[np.where(index < 0, 0, index)] if len(table) else np.zeros((*index.shape, table.shape[1]))
    return np.where((index < 0)[..., None], 0.0, rows)


def _linear(f, x, attrs, dtypes, symbols):
    flat = x[0].reshape(-1, x[0].shape[-1]) if x[0].size else np.zeros((0, x[0].shape[-1]), f.kind)
    y = f.dot(flat, x[1])
    if len(x) > 2:
        y = y + x[2]
    return y.reshape(*x[0].shape[:-1], x[1].shape[0])


def _bmm(f, x, attrs, dtypes, symbols):
    b = x[1] if attrs.get("transpose_b") else np.swapaxes(x[1], -1, -2)
    return f.dot(x[0], b)


def _rms_norm(f, x, attrs, dtypes, symbols):
    mean = f.sum(x[0] * x[0]) / f.kind(x[0].shape[-1])
    return x[0] / np.sqrt(mean + f.kind(np.float32(attrs["eps"])))[..., None] * x[1]


def _rope(f, x, attrs, dtypes, symbols):
    values, cos, sin = x
    heads = values.reshape(values.shape[0], -1, attrs["head_dim"])
    half = cos.shape[1]
    low, high = heads[:, :, :half], heads[:, :, half : 2 * half]
    c, s = cos[:, None, :], sin[:, None, :]
    turned = [low * c - high * s, high * c + low * s, heads[:, :, 2 * half :]]
    return np.concatenate(turned, axis=2).reshape(values.shape)


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _activation(f, x, attrs, dtypes, symbols):
    v, kind = x[0], attrs["kind"]
    k = f.kind
    match kind:
        case "silu":
            return v * _sigmoid(v)
        case "gelu":
            return (v * k(0.5) * (k(1) + _erf(v / np.sqrt(k(2))).astype(k))).astype(k)
        case "gelu_pytorch_tanh":
            inner = np.sqrt(k(2 / math.pi)) * (v + k(0.044715) * v * v * v)
            if k is np.float32:
                # As it is written, which cancels where x is far below zero: honest programs do.
                return v * k(0.5) * (k(1) + np.tanh(inner))
            # 1 + tanh(z) = 2 sigmoid(2z), which does not cancel.
            return v * _sigmoid(2 * inner)
        case "quick_gelu":
            return v * _sigmoid(k(1.702) * v)
        case "relu":
            return np.maximum(v, 0)
        case "relu2":
            return np.maximum(v, 0) ** 2
        case "sigmoid":
            return _sigmoid(v)
        case "tanh":
            return np.tanh(v)
        case "mish":
            return v * np.tanh(_softplus(v))
    raise ValueError(f"activation {kind} is not known")


def _softmax(f, x, attrs, dtypes, symbols):
    scores = x[0] * f.kind(np.float32(attrs.get("scale", 1.0)))
    hidden = np.zeros(scores.shape, bool)
    if len(x) > 1:
        mask = x[1].reshape(x[1].shape[0], *[1] * (scores.ndim - 2), x[1].shape[1])
        hidden = np.broadcast_to(mask <= f.kind(np.float32(MASKED)), scores.shape)
        scores = np.where(hidden, 0, scores) + np.where(hidden, 0, np.broadcast_to(mask, scores.shape))
    if scores.shape[-1] == 0:
        return scores
    scores = np.where(hidden, -np.inf, scores)
    top = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0)).astype(f.kind)
    total = f.sum(weights)[..., None]
    return np.where(total > 0, weights / np.where(total > 0, total, 1), 0)


def _scatter_rows(f, x, attrs, dtypes, symbols):
    table, rows, index = x
    table = table.copy()
    for row, at in zip(rows, index, strict=True):
        if at >= 0:
            table[at] = row
    return table


def _kv_append(f, x, attrs, dtypes, symbols):
    return _scatter_rows(f, [x[0], _round(x[1], dtypes[0]), x[2]], attrs, dtypes, symbols)


def _attention(f, x, attrs, dtypes, symbols):
    q, keys, values, q_start, seq_len, table = x
    heads, groups, width = attrs["num_heads"], attrs["num_kv_heads"], attrs["head_dim"]
    block, scale, window = attrs["block_size"], f.kind(np.float32(attrs["scale"])), attrs.get("window")
    y = np.zeros(q.shape, f.kind)
    for s in range(len(seq_len)):
        first, last = int(q_start[s]), int(q_start[s + 1])
        for t in range(first, last):
            i = int(seq_len[s]) - (last - t)
            begin = 0 if window is None else max(0, i - window + 1)
            rows = [int(table[s, j // block]) * block + j % block for j in range(begin, i + 1)]
            k = keys[rows].reshape(len(rows), groups, width)
            v = values[rows].reshape(len(rows), groups, width)
            for h in range(heads):
                g = h // (heads // groups)
                query = q[t, h * width : (h + 1) * width][None, :]
                scores = f.dot(query, k[:, g])[0] * scale
                weights = np.exp(scores - scores.max()).astype(f.kind)
                weights = weights / f.sum(weights)
                y[t, h * width : (h + 1) * width] = f.dot(weights[None, :], v[:, g].T)[0]
    return y


def _cast(f, x, attrs, dtypes, symbols):
    return _round(x[0], attrs["to"])


def _reshape(f, x, attrs, dtypes, symbols):
    return x[0].reshape([symbols[d] if isinstance(d, str) else d for d in attrs["shape"]])


def _qkv_linear(f, x, attrs, dtypes, symbols):
    biases = [[b] for b in x[4:]] or [[], [], []]
    return [_linear(f, [x[0], w, *b], attrs, dtypes, symbols) for w, b in zip(x[1:4], biases, strict=True)]


def _add_rms_norm(f, x, attrs, dtypes, symbols):
    total = x[0] + x[1]
    return [total, _rms_norm(f, [total, x[2]], attrs, dtypes, symbols)]


def _swiglu(f, x, attrs, dtypes, symbols):
    return x[0] * _sigmoid(x[0]) * x[1]


_OPS = {
    "gather_rows": _gather_rows,
    "linear": _linear,
    "bmm": _bmm,
    "rms_norm": _rms_norm,
    "rope": _rope,
    "add": lambda f, x, *_: x[0] + x[1],
    "mul": lambda f, x, *_: x[0] * x[1],
    "activation": _activation,
    "softmax": _softmax,
    "scatter_rows": _scatter_rows,
    "cast": _cast,
    "copy": lambda f, x, *_: x[0],
    "reshape": _reshape,
    "kv_append": _kv_append,
    "attention": _attention,
    "swiglu": _swiglu,
    "qkv_linear": _qkv_linear,
    "add_rms_norm": _add_rms_norm,
}
