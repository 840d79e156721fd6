"""Rotary embedding from its definitions, in Python floats: every rope type of transformers 5.8, with the length of the
sequence as an argument where frequencies depend on it. Shares no code with `oracle.py`.
"""

import math

import numpy as np

# The types whose frequencies follow from the length of the sequence.
LENGTH_DEPENDENT = ("dynamic", "longrope")
# The types that have an original context, which `max_position_embeddings` is unless it is given.
WITH_ORIGINAL = ("llama3", "yarn", "longrope")


def rope_settings(config: dict) -> dict:
    """The rope entry of a config in any of its three spellings, as one dict.

    transformers 5 writes `rope_parameters`; before, `rope_theta` stood at the top and `rope_scaling` named its type
    `rope_type` (from 4.45 on) or `type`. The result has `rope_type`, `rope_theta`, `max_position_embeddings` and,
    where the type has one, `original_max_position_embeddings`.
    """
    rope = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    rope["rope_type"] = rope.get("rope_type") or rope.pop("type", None) or "default"
    rope["max_position_embeddings"] = config.get("max_position_embeddings", 2048)
    share = rope.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    rope["partial_rotary_factor"] = 1.0 if share is None else share
    if rope["rope_type"] in WITH_ORIGINAL:
        inner = rope.get("original_max_position_embeddings", rope["max_position_embeddings"])
        rope["original_max_position_embeddings"] = config.get("original_max_position_embeddings", inner)
    return rope


def stretch(rope: dict) -> float:
    """By how much yarn and longrope lengthen the context: `factor`, or the ratio of the two lengths."""
    given = rope.get("factor")
    return rope["max_position_embeddings"] / rope["original_max_position_embeddings"] if given is None else given


def inverse_frequencies(rope: dict, head_dim: int, length: int = 1) -> np.ndarray:
    """Radians per position of each rotated pair, [pairs], in a sequence of `length` tokens."""
    kind, theta = rope["rope_type"], float(rope["rope_theta"])
    whole = kind in ("default", "proportional")
    width = head_dim if whole else int(head_dim * rope.get("partial_rotary_factor", 1.0))
    if kind == "dynamic":
        limit = rope["max_position_embeddings"]
        if length > limit:
            theta *= (rope["factor"] * length / limit - (rope["factor"] - 1)) ** (width / (width - 2))
    plain = [theta ** (-2.0 * i / width) for i in range((width + 1) // 2)]
    if kind in ("default", "dynamic"):
        scaled = plain
    elif kind == "linear":
        scaled = [f / rope["factor"] for f in plain]
    elif kind == "proportional":
        turned = math.floor(rope.get("partial_rotary_factor", 1.0) * head_dim / 2)
        scaled = [f / rope.get("factor", 1.0) if i < turned else 0.0 for i, f in enumerate(plain)]
    elif kind == "llama3":
        scaled = [_llama3_frequency(f, rope) for f in plain]
    elif kind == "yarn":
        scaled = _yarn_frequencies(plain, width, rope)
    elif kind == "longrope":
        name = "long_factor" if length > rope["original_max_position_embeddings"] else "short_factor"
        scaled = [f / divisor for f, divisor in zip(plain, rope[name], strict=True)]
    else:
        raise ValueError(f"rope_type {kind!r} has no rule here")
    return np.array(scaled)


def attention_factor(rope: dict) -> float:
    """What cosines and sines are multiplied by."""
    kind = rope["rope_type"]
    if kind not in ("yarn", "longrope"):
        return 1.0
    if rope.get("attention_factor") is not None:
        return rope["attention_factor"]
    factor = stretch(rope)
    if factor <= 1.0:
        return 1.0
    if kind == "longrope":
        return math.sqrt(1.0 + math.log(factor) / math.log(rope["original_max_position_embeddings"]))
    grow = lambda weight: 1.0 + 0.1 * weight * math.log(factor)
    above, below = rope.get("mscale"), rope.get("mscale_all_dim")
    return grow(above) / grow(below) if above and below else grow(1.0)


def llama3_band(frequency: float, rope: dict) -> str:
    """Which of the three bands of the Llama 3.1 rule a frequency falls in: `kept`, `blended` or `scaled`."""
    turns = rope["original_max_position_embeddings"] * frequency / (2.0 * math.pi)  # within the original context
    if turns > rope["high_freq_factor"]:
        return "kept"
    return "scaled" if turns < rope["low_freq_factor"] else "blended"


def _llama3_frequency(frequency: float, rope: dict) -> float:
    band = llama3_band(frequency, rope)
    if band == "kept":
        return frequency
    if band == "scaled":
        return frequency / rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] * frequency / (2.0 * math.pi)
    kept = (turns - low) / (high - low)
    return kept * frequency + (1.0 - kept) * frequency / rope["factor"]


def yarn_heights(rope: dict, width: int) -> list[float]:
    """How far each pair is up the ramp: 0 keeps its frequency, 1 divides it."""
    context, theta = rope["original_max_position_embeddings"], float(rope["rope_theta"])
    # The index at which the wavelength theta^(2i / width) * 2 pi is a `turns`-th of the context.
    index = lambda turns: width * math.log(context / (2.0 * math.pi * turns)) / (2.0 * math.log(theta))
    begin, end = index(rope.get("beta_fast") or 32), index(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        begin, end = math.floor(begin), math.ceil(end)
    begin, end = max(begin, 0), min(end, width - 1)
    if begin == end:
        end += 0.001
    return [min(max((i - begin) / (end - begin), 0.0), 1.0) for i in range(width // 2)]


def _yarn_frequencies(plain: list[float], width: int, rope: dict) -> list[float]:
    factor = stretch(rope)
    return [h * f / factor + (1.0 - h) * f for h, f in zip(yarn_heights(rope, width), plain, strict=True)]
