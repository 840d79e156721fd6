"""The sampler's cases: logits, a history and parameters; which tokens may come, how likely, and which come for 24 seeds.

What is expected is computed twice in float64: from the definitions, in NumPy (`distribution`), and by transformers' logits
processors in the order in which `generate` applies them (`processed`), which must agree wherever transformers has the
parameter and does not leave the choice among equally likely tokens open. The numbers drawn are those of a ChaCha8
written down here from the description in RFC 8439.
"""

import json
import struct
from pathlib import Path

import numpy as np

NAME = "generate/sampler"
SEEDS = 24
VOCAB = 41


def vocabularies() -> dict[str, list[float]]:
    """Logits by name: smooth, with ties, peaked, with forbidden tokens, all alike, exact powers of two."""
    rng = np.random.default_rng(41)
    smooth = rng.normal(0, 2.2, VOCAB)
    tied = np.round(rng.normal(0, 1.5, VOCAB) * 2) / 2
    peaked = rng.normal(0, 1, VOCAB) - 4
    peaked[[5, 31]] = [6.0, 5.5]
    forbidden = rng.normal(0, 2, VOCAB)
    forbidden[rng.choice(VOCAB, 28, replace=False)] = -np.inf
    far = rng.normal(900, 3, VOCAB)
    alike = np.full(VOCAB, 0.75)
    tables = {"smooth": smooth, "tied": tied, "peaked": peaked, "forbidden": forbidden, "far": far, "alike": alike}
    made = {name: [float(np.float32(round(float(x), 3))) for x in values] for name, values in tables.items()}
    made["four"] = [1.0, 1.0, 1.0, 1.0]
    made["eight"] = [0.0, 3.0, 3.0, -1.0, 3.0, 0.0, 3.0, -2.0]
    made["infinite"] = [1.0, float("inf"), -3.0, float("inf"), 2.0]
    made["one"] = [0.5]
    return made


def cases():
    """Group, name of the logits, parameters, history, length of the prompt in it."""
    out = []

    def add(group, logits, history=(), prompt=None, **params):
        history = list(history)
        out.append((group, logits, params, history, len(history) if prompt is None else prompt))

    for logits in ("smooth", "tied", "forbidden", "alike", "far"):
        add("greedy", logits, temperature=0.0)
        add("greedy", logits, [3, 7, 7], 1, temperature=0.0, top_k=3, top_p=0.5, min_p=0.2)
    for t in (0.001, 0.3, 0.7, 1.0, 1.5, 4.0, 100.0):
        add("temperature", "smooth", temperature=t)
    for logits in ("tied", "peaked", "forbidden", "alike", "far", "infinite", "one", "eight"):
        add("temperature", logits, temperature=1.0)
    add("temperature", "far", temperature=0.05)
    for k in (1, 2, 3, 7, 40, 41, 42, 1000):
        add("top_k", "smooth", temperature=1.0, top_k=k)
    for k in (1, 2, 5, 12):
        add("top_k", "tied", temperature=0.8, top_k=k)
    add("top_k", "eight", temperature=1.0, top_k=3)
    add("top_k", "forbidden", temperature=1.0, top_k=20)
    for p in (0.0, 0.1, 0.35, 0.5, 0.8, 0.95, 0.999, 1.0):
        add("top_p", "smooth", temperature=1.0, top_p=p)
    for p in (0.25, 0.26, 0.5, 0.75, 0.76):
        add("top_p", "four", temperature=1.0, top_p=p)
    add("top_p", "tied", temperature=1.0, top_p=0.6)
    add("top_p", "peaked", temperature=2.0, top_p=0.9)
    add("top_p", "forbidden", temperature=1.0, top_p=0.99)
    for p in (0.0, 0.01, 0.1, 0.5, 1.0):
        add("min_p", "smooth", temperature=1.0, min_p=p)
    add("min_p", "tied", temperature=1.3, min_p=0.2)
    add("min_p", "eight", temperature=1.0, min_p=1.0)
    add("order", "smooth", temperature=2.0, top_p=0.7)
    add("order", "smooth", temperature=0.5, top_p=0.7)
    add("order", "smooth", temperature=1.0, top_k=4, top_p=0.7)
    add("order", "smooth", temperature=2.0, top_k=10, top_p=0.8, min_p=0.1)
    add("order", "smooth", temperature=3.0, min_p=0.3)
    add("order", "tied", temperature=1.7, top_k=9, top_p=0.9, min_p=0.05)
    add("order", "peaked", temperature=3.0, top_k=6, top_p=0.95)
    history = [4, 9, 9, 0, 17, 4, 4, 30, 2, 9]
    add("repetition", "smooth", history, temperature=1.0, repetition_penalty=1.3)
    add("repetition", "smooth", history, 4, temperature=1.0, repetition_penalty=1.3)
    add("repetition", "smooth", history, temperature=1.0, repetition_penalty=0.7)
    add("repetition", "smooth", history, temperature=0.0, repetition_penalty=5.0)
    add("repetition", "tied", history, temperature=0.7, repetition_penalty=1.8, top_k=8)
    for window in (0, 1, 2, 3, 9, 10, 500):
        add("window", "smooth", history, 5, temperature=1.0, repetition_penalty=1.5, penalty_window=window)
    add("presence", "smooth", history, 3, temperature=1.0, presence_penalty=1.5)
    add("presence", "smooth", history, temperature=1.0, presence_penalty=1.5)
    add("presence", "smooth", history, 0, temperature=1.0, presence_penalty=-0.8)
    add("frequency", "smooth", history, 3, temperature=1.0, frequency_penalty=0.9)
    add("frequency", "smooth", history, 0, temperature=1.0, frequency_penalty=0.9, presence_penalty=0.4)
    add("frequency", "tied", history, 2, temperature=0.0, frequency_penalty=3.0)
    for window in (1, 4, 8):
        add("window", "smooth", history, 3, temperature=1.0, frequency_penalty=1.1, penalty_window=window)
    add("penalties", "smooth", history, 4, temperature=0.9, repetition_penalty=1.2, presence_penalty=0.5,
        frequency_penalty=0.3, top_k=20, top_p=0.9)
    bias = [[3, 2.5], [31, -6.0], [40, 4.0]]
    add("bias", "smooth", temperature=1.0, logit_bias=bias)
    add("bias", "smooth", history, temperature=1.0, logit_bias=bias, repetition_penalty=1.5, top_k=9)
    add("bias", "smooth", temperature=0.0, logit_bias=[[0, 50.0]])
    add("bias", "peaked", temperature=0.0, logit_bias=[[5, float("-inf")]])
    add("bias", "peaked", temperature=1.0, logit_bias=[[5, float("-inf")], [31, float("-inf")]])
    add("bias", "infinite", temperature=1.0, logit_bias=[[1, float("-inf")]])
    return out


def scored(logits, history, prompt, p):
    """float64 scores after bias and penalties, from the definitions."""
    s = np.asarray(logits, dtype=np.float64).copy()
    for token, bias in p.get("logit_bias", []):
        s[token] = -np.inf if bias == -np.inf else s[token] + bias
    window = p.get("penalty_window", len(history))
    start = max(0, len(history) - window)
    for token in set(history[start:]):
        r = p.get("repetition_penalty", 1.0)
        s[token] = s[token] * r if s[token] < 0 else s[token] / r
    new = history[max(start, prompt):]
    for token in set(new):
        if np.isfinite(s[token]):
            s[token] -= p.get("presence_penalty", 0.0) + p.get("frequency_penalty", 0.0) * new.count(token)
    return s


def distribution(logits, history, prompt, p):
    """`[(token, probability)]` in order of token, from the definitions: temperature, top-k, top-p, min-p."""
    s = scored(logits, history, prompt, p)
    if p["temperature"] == 0.0:
        return [(int(np.argmax(s)), 1.0)]
    if np.isposinf(s).any():
        s = np.where(np.isposinf(s), 0.0, -np.inf)
    order = sorted(np.flatnonzero(s > -np.inf).tolist(), key=lambda t: (-s[t], t))
    k = p.get("top_k", 0)
    if 0 < k < len(order):
        order = [t for t in order if s[t] >= s[order[k - 1]]]
    weight = {t: float(np.exp((s[t] - s[order[0]]) / p["temperature"])) for t in order}
    total, top_p = sum(weight.values()), p.get("top_p", 1.0)
    if top_p < 1.0:
        kept, mass = [], 0.0
        for t in order:
            if kept and mass >= top_p * total:
                break
            kept.append(t)
            mass += weight[t]
        order = kept
    order = [t for t in order if weight[t] >= p.get("min_p", 0.0)]
    total = sum(weight[t] for t in order)
    return [(t, weight[t] / total) for t in sorted(order)]


def processed(logits, history, p):
    """The same by transformers, or `None` where it lacks a parameter or leaves a tie open."""
    import torch
    from transformers import (
        LogitsProcessorList,
        MinPLogitsWarper,
        RepetitionPenaltyLogitsProcessor,
        SequenceBiasLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    lacks = {"penalty_window", "presence_penalty", "frequency_penalty"} & set(p)
    if lacks or p["temperature"] == 0.0 or np.isposinf(logits).any() or (p.get("repetition_penalty") and not history):
        return None

    def run(top_p, min_p):
        steps = LogitsProcessorList()
        if p.get("logit_bias"):
            steps.append(SequenceBiasLogitsProcessor([[[token], bias] for token, bias in p["logit_bias"]]))
        if p.get("repetition_penalty", 1.0) != 1.0:
            steps.append(RepetitionPenaltyLogitsProcessor(p["repetition_penalty"]))
        steps.append(TemperatureLogitsWarper(p["temperature"]))
        if p.get("top_k", 0):
            steps.append(TopKLogitsWarper(p["top_k"]))
        if top_p < 1.0:
            steps.append(TopPLogitsWarper(top_p))
        if min_p > 0.0:
            steps.append(MinPLogitsWarper(min_p))
        ids = torch.tensor([history or [0]], dtype=torch.long)
        return steps(ids, torch.tensor([logits], dtype=torch.float64))[0]

    final, without = run(p.get("top_p", 1.0), p.get("min_p", 0.0)), run(1.0, 0.0)
    kept = torch.isfinite(final)
    dropped = without[torch.isfinite(without) & ~kept]
    if dropped.numel() and dropped.max() == without[kept].min():
        return None
    if p.get("top_p") == 0.0 or p.get("top_p", 1.0) < 1.0 and len(logits) == 4:
        return None  # sums that end exactly on the border: transformers adds them from the other end
    tokens, values = kept.nonzero()[:, 0].tolist(), torch.softmax(final, -1)[kept].tolist()
    return list(zip(tokens, values))


def chacha8_block(key: bytes, counter: int) -> bytes:
    """64 bytes of key stream: a 64-bit block counter and a 64-bit nonce of 0."""
    state = list(struct.unpack("<4I", b"expand 32-byte k") + struct.unpack("<8I", key))
    state += [counter & 0xFFFFFFFF, counter >> 32, 0, 0]
    x = list(state)

    def quarter(a, b, c, d):
        for target, source, mixed, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[target] = (x[target] + x[source]) & 0xFFFFFFFF
            v = x[mixed] ^ x[target]
            x[mixed] = ((v << turn) | (v >> (32 - turn))) & 0xFFFFFFFF

    for _ in range(4):
        for column in range(4):
            quarter(column, column + 4, column + 8, column + 12)
        for d in range(4):
            quarter(d, (d + 1) % 4 + 4, (d + 2) % 4 + 8, (d + 3) % 4 + 12)
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(x, state)))


def uniform(seed: int, index: int) -> float:
    """The number drawn for the `index`-th token of a request with this seed."""
    word = 2 * index
    block = chacha8_block(struct.pack("<Q", seed) + bytes(24), word // 16)
    return (struct.unpack_from("<Q", block, 4 * (word % 16))[0] >> 11) / 2.0**53


def drawn(expected, seed: int, index: int) -> int:
    """The token for this seed, or -1 where rounding may decide it."""
    u, cumulative = uniform(seed, index), 0.0
    for token, probability in expected:
        if abs(cumulative - u) < 1e-9 and cumulative > 0.0:
            return -1
        cumulative += probability
        if probability > 0.0 and cumulative > u:
            return -1 if cumulative - u < 1e-9 and token != expected[-1][0] else token
    return -1


def seed(n: int) -> int:
    """The n-th seed: small ones, and some that need all their bits."""
    return n if n < 16 else (2**63 - 1) // (n - 14)


def _number(x) -> str:
    if isinstance(x, int):
        return str(x)
    return repr(x)


def make(out: Path) -> Path:
    """Writes `generate/sampler.toml` under `out`."""
    lines = ["# Made by conformance/reference/make.py; do not edit.", ""]
    tables = vocabularies()
    lines += ["[logits]"] + [f"{name} = [{', '.join(map(_number, values))}]" for name, values in tables.items()] + [""]
    counts: dict[str, int] = {}
    for group, name, params, history, prompt in cases():
        expected = distribution(tables[name], history, prompt, params)
        other = processed(tables[name], history, params)
        if other is not None:
            agree = [t for t, _ in other] == [t for t, _ in expected]
            if not agree or max(abs(a[1] - b[1]) for a, b in zip(other, expected)) > 1e-12:
                raise ValueError(f"{NAME}: {group} {name} {params}: {expected} by definition, {other} by transformers")
        n = counts[group] = counts.get(group, -1) + 1
        lines += ["[[case]]", f'id = "{NAME}/{group}_{n}"', f'logits = "{name}"']
        fields = []
        for key, value in params.items():
            text = json.dumps(value) if key != "logit_bias" else (
                "[" + ", ".join(f"[{t}, {_number(float(b))}]" for t, b in value) + "]")
            fields.append(f"{key} = {text}")
        lines += [f"params = {{ {', '.join(fields)} }}", f"history = {history}", f"prompt_len = {prompt}"]
        lines += [f"tokens = {[t for t, _ in expected]}", f"probabilities = [{', '.join(f'{p:.12e}' for _, p in expected)}]"]
        index = len(history) - prompt
        lines += [f"drawn = {[drawn(expected, seed(i), index) for i in range(SEEDS)]}", ""]
    lines.insert(2, f"seeds = {[seed(i) for i in range(SEEDS)]}\n")
    path = out / f"{NAME}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))
    return path
