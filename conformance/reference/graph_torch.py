"""The operations in PyTorch, float64, with its own functions wherever it has one: the second opinion on `graph_numpy.py`."""

import numpy as np
import torch
import torch.nn.functional as F


def exact(op: str, operands: list, attrs: dict, dtypes: list, symbols: dict) -> tuple[list, list]:
    """As `graph_numpy.exact`."""
    x = [torch.from_numpy(np.ascontiguousarray(o)) for o in operands]
    results = _OPS[op](x, attrs, dtypes, symbols)
    results = results if isinstance(results, list) else [results]
    if op == "cast":
        kinds = [attrs["to"]]
    elif op == "gather_rows":
        kinds = [dtypes[0] if dtypes[0] in ("f32", "f16", "bf16") else "f32"]
    else:
        kinds = [dtypes[0]] * len(results)
    return [r.numpy() for r in results], kinds


_TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def _q8_0(x: torch.Tensor) -> torch.Tensor:
    """The numbers that blocks of q8_0 keep."""
    blocks = x.float().unflatten(-1, (-1, 32))
    scale = blocks.abs().amax(dim=-1, keepdim=True) / 127.0
    codes = (blocks * torch.where(scale > 0, scale.reciprocal(), 0.0)).double()
    # `torch.round` takes halves to even: whole numbers away from zero, less one where the fraction is below a half.
    away = codes.sign() * codes.abs().ceil()
    codes = torch.where(codes.abs().frac().lt(0.5) & codes.abs().frac().gt(0.0), codes.trunc(), away)
    return (torch.nan_to_num(codes, nan=0.0) * scale.half().double()).flatten(-2)


def _rounded(x: torch.Tensor, dtype: str) -> torch.Tensor:
    if dtype == "q8_0":
        return _q8_0(x)
    return x if dtype == "i32" else x.float().to(_TYPES[dtype]).double()


def _gather_rows(x, attrs, dtypes, symbols):
    table = torch.cat([x[0], torch.zeros(1, x[0].shape[1], dtype=torch.float64)])
    index = torch.where(x[1] < 0, len(x[0]), x[1])
    return F.embedding(index, table)


def _rope(x, attrs, dtypes, symbols):
    heads = x[0].reshape(x[0].shape[0], -1, attrs["head_dim"])
    width = 2 * x[1].shape[1]
    cos, sin = (torch.cat([t, t], dim=-1)[:, None, :] for t in x[1:])
    part, rest = heads[..., :width], heads[..., width:]
    half = torch.cat([-part[..., width // 2 :], part[..., : width // 2]], dim=-1)
    return torch.cat([part * cos + half * sin, rest], dim=-1).reshape(x[0].shape)


def _activation(x, attrs, dtypes, symbols):
    return {
        "silu": F.silu,
        "gelu": F.gelu,
        "gelu_pytorch_tanh": lambda v: F.gelu(v, approximate="tanh"),
        "quick_gelu": lambda v: v * torch.sigmoid(1.702 * v),
        "relu": F.relu,
        "relu2": lambda v: F.relu(v).square(),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "mish": lambda v: v * torch.tanh(F.softplus(v, threshold=1000)),
    }[attrs["kind"]](x[0])


def _softmax(x, attrs, dtypes, symbols):
    scores = x[0] * float(np.float32(attrs.get("scale", 1.0)))
    if len(x) > 1:
        mask = x[1].reshape(x[1].shape[0], *[1] * (scores.dim() - 2), x[1].shape[1]).expand(scores.shape)
        hidden = mask <= float(np.float32(-1e30))
        scores = torch.where(hidden, -torch.inf, torch.where(hidden, 0.0, scores) + mask)
    return torch.nan_to_num(torch.softmax(scores, dim=-1), nan=0.0)


def _scatter_rows(x, attrs, dtypes, symbols):
    kept = x[2] >= 0
    return x[0].clone().index_put((x[2][kept],), x[1][kept])


def _kv_append(x, attrs, dtypes, symbols):
    return _scatter_rows([x[0], _rounded(x[1], dtypes[0]), x[2]], attrs, dtypes, symbols)


def _attention(x, attrs, dtypes, symbols):
    q, keys, values, q_start, seq_len, table = x
    heads, groups, width = attrs["num_heads"], attrs["num_kv_heads"], attrs["head_dim"]
    block, window = attrs["block_size"], attrs.get("window")
    y = torch.zeros_like(q)
    for s in range(len(seq_len)):
        first, last, length = int(q_start[s]), int(q_start[s + 1]), int(seq_len[s])
        if first == last:
            continue
        used = table[s, : (length + block - 1) // block]
        rows = (used[:, None] * block + torch.arange(block)[None, :]).reshape(-1)[:length]
        k = keys[rows].reshape(length, groups, width).transpose(0, 1).repeat_interleave(heads // groups, dim=0)
        v = values[rows].reshape(length, groups, width).transpose(0, 1).repeat_interleave(heads // groups, dim=0)
        query = q[first:last].reshape(last - first, heads, width).transpose(0, 1)
        at = torch.arange(length - (last - first), length)[:, None]
        seen = torch.arange(length)[None, :]
        mask = (seen <= at) if window is None else (seen <= at) & (seen > at - window)
        # Rows that no token of this step sees may hold anything.
        dead = ~mask.any(dim=0)
        k, v = k.clone(), v.clone()
        k[:, dead], v[:, dead] = 0.0, 0.0
        out = F.scaled_dot_product_attention(query[None], k[None], v[None], attn_mask=mask, scale=float(np.float32(attrs["scale"])))[0]
        y[first:last] = out.transpose(0, 1).reshape(last - first, heads * width)
    return y


def _rms_norm(x, attrs, dtypes, symbols):
    return F.rms_norm(x[0], (x[0].shape[-1],), x[1], eps=float(np.float32(attrs["eps"])))


def _bmm(x, attrs, dtypes, symbols):
    return torch.matmul(x[0], x[1].transpose(-1, -2) if attrs.get("transpose_b") else x[1])


def _qkv_linear(x, attrs, dtypes, symbols):
    biases = x[4:] or [None, None, None]
    return [F.linear(x[0], w, b) for w, b in zip(x[1:4], biases, strict=True)]


def _add_rms_norm(x, attrs, dtypes, symbols):
    total = x[0] + x[1]
    return [total, _rms_norm([total, x[2]], attrs, dtypes, symbols)]


_OPS = {
    "gather_rows": _gather_rows,
    "linear": lambda x, *_: F.linear(*x),
    "bmm": _bmm,
    "rms_norm": _rms_norm,
    "rope": _rope,
    "add": lambda x, *_: torch.add(x[0], x[1]),
    "mul": lambda x, *_: torch.mul(x[0], x[1]),
    "activation": _activation,
    "softmax": _softmax,
    "scatter_rows": _scatter_rows,
    "cast": lambda x, attrs, *_: _rounded(x[0], attrs["to"]),
    "copy": lambda x, *_: x[0].clone(),
    "reshape": lambda x, attrs, dtypes, symbols: x[0].reshape([symbols[d] if isinstance(d, str) else d for d in attrs["shape"]]),
    "kv_append": _kv_append,
    "attention": _attention,
    "swiglu": lambda x, *_: F.silu(x[0]) * x[1],
    "qkv_linear": _qkv_linear,
    "add_rms_norm": _add_rms_norm,
}
