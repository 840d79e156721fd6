"""Makes sampling.json, the expectations of tests/sampling_golden.rs, from transformers' logits processors.

    python make_sampling.py            # torch and transformers 5.8.0, numpy

Every case is a vocabulary of logits, a history, and parameters; its answer is the set of tokens that transformers'
processors leave, in the order in which `generate` applies them, with their probabilities, all computed in float64.
Where top-p has to choose among equally likely tokens transformers leaves open which it keeps (its sort is not stable);
such cases are marked, and only the probabilities are to be compared.

It also prints the numbers of `rng.rs`, from a ChaCha8 written down here from RFC 8439's description.
"""

import json
import pathlib
import struct

import numpy as np
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

VOCAB = 97


def vocabularies(rng):
    """Float32 logits: smooth, with many ties, peaked, with forbidden tokens, all alike."""
    smooth = rng.normal(0, 2.5, VOCAB)
    tied = np.round(rng.normal(0, 1.5, VOCAB) * 2) / 2
    peaked = rng.normal(0, 1, VOCAB) - 4
    peaked[[5, 61]] = [6.0, 5.5]
    forbidden = rng.normal(0, 2, VOCAB)
    forbidden[rng.choice(VOCAB, 60, replace=False)] = -np.inf
    alike = np.full(VOCAB, 0.75)
    return [v.astype(np.float32) for v in (smooth, tied, peaked, forbidden, alike)]


def processors(p):
    """As `generate` lists them: bias, repetition, temperature, top-k, top-p, min-p."""
    out = LogitsProcessorList()
    if p.get("logit_bias"):
        out.append(SequenceBiasLogitsProcessor([[[token], bias] for token, bias in p["logit_bias"]]))
    if p.get("repetition_penalty", 1.0) != 1.0:
        out.append(RepetitionPenaltyLogitsProcessor(p["repetition_penalty"]))
    if p["temperature"] != 1.0:
        out.append(TemperatureLogitsWarper(p["temperature"]))
    if p.get("top_k", 0) != 0:
        out.append(TopKLogitsWarper(p["top_k"]))
    if p.get("top_p", 1.0) < 1.0:
        out.append(TopPLogitsWarper(p["top_p"]))
    if p.get("min_p", 0.0) > 0.0:
        out.append(MinPLogitsWarper(p["min_p"]))
    return out


def answer(logits, history, p):
    ids = torch.tensor([history], dtype=torch.long)
    scores = torch.tensor(logits, dtype=torch.float64)[None]
    without_top_p = processors({**p, "top_p": 1.0, "min_p": 0.0})(ids, scores.clone())[0]
    final = processors(p)(ids, scores.clone())[0]
    kept = torch.isfinite(final)
    dropped = without_top_p[torch.isfinite(without_top_p) & ~kept]
    tie = dropped.numel() > 0 and dropped.max() == without_top_p[kept].min()
    return {
        "tokens": kept.nonzero()[:, 0].tolist(),
        "probabilities": [float(f"{x:.9g}") for x in torch.softmax(final, -1)[kept].tolist()],
        "tie_at_the_edge": bool(tie),
    }


def cases(rng, logits):
    fixed = [
        {"temperature": 1.0},
        {"temperature": 0.7},
        {"temperature": 0.05},
        {"temperature": 4.0, "top_k": 7},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.0, "top_k": 50, "top_p": 0.9},
        {"temperature": 0.6, "top_p": 0.9},
        {"temperature": 1.0, "top_p": 0.3},
        {"temperature": 1.0, "top_p": 0.0},
        {"temperature": 1.3, "min_p": 0.1},
        {"temperature": 1.0, "min_p": 1.0},
        {"temperature": 1.0, "repetition_penalty": 1.3},
        {"temperature": 1.0, "repetition_penalty": 0.8, "top_k": 12},
        {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.1},
        {"temperature": 1.0, "logit_bias": [[3, 2.5], [61, -6.0], [90, 4.0]], "repetition_penalty": 1.5, "top_k": 9},
    ]
    for which, values in enumerate(logits):
        drawn = [
            {
                "temperature": round(float(rng.uniform(0.2, 2.5)), 3),
                "top_k": int(rng.integers(1, VOCAB + 20)),
                "top_p": round(float(rng.uniform(0.05, 1.0)), 3),
                "min_p": round(float(rng.uniform(0.0, 0.2)), 3),
                "repetition_penalty": round(float(rng.uniform(0.7, 1.6)), 3),
            }
            for _ in range(6)
        ]
        for p in fixed + drawn:
            # With repetitions, as a history has them.
            history = rng.integers(0, VOCAB, 12).tolist()
            yield {"logits": which, "history": history + history[:3], "params": p, **answer(values, history, p)}


def chacha8_block(key, counter):
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


def drawn_bits(seed, index):
    word = 2 * index
    block = chacha8_block(struct.pack("<Q", seed) + bytes(24), word // 16)
    return struct.unpack_from("<Q", block, 4 * (word % 16))[0]


def main():
    rng = np.random.default_rng(20)
    logits = vocabularies(rng)
    table = [[None if np.isneginf(x) else float(x) for x in values] for values in logits]
    file = pathlib.Path(__file__).with_name("sampling.json")
    lines = ",\n".join(json.dumps(case) for case in cases(rng, logits))
    file.write_text('{"logits": ' + json.dumps(table) + ',\n"cases": [\n' + lines + "\n]}\n")
    for seed, index in [(0, 0), (0, 1), (0, 7), (0, 8), (1, 0), (42, 1000), (2**64 - 1, 2**32 + 5), (3, 2**62)]:
        print(f"({seed}, {index}, 0x{drawn_bits(seed, index) >> 11:014x}),")


if __name__ == "__main__":
    main()
