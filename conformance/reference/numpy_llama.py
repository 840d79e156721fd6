"""Llama from its definition, in NumPy float64: the second opinion beside `oracle.py`, sharing no code with it.

Reads `config.json` and safetensors by itself. One sequence or an equal-length batch, no cache, every position computed
anew. Arrays are commented with their shapes: B sequences, T tokens, D hidden, H query heads, K key/value heads,
d head dimension, F feed-forward, V vocabulary.
"""

import json
import math
from pathlib import Path

import numpy as np

from fixture_io import read_safetensors


def silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x), written so that exp never overflows."""
    e = np.exp(-np.abs(x))
    return x * np.where(x >= 0, 1.0, e) / (1.0 + e)


def gelu_new(x: np.ndarray) -> np.ndarray:
    """The tanh form of GELU (Hendrycks and Gimpel, arXiv:1606.08415, section 2)."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {"silu": silu, "gelu_new": gelu_new, "relu": lambda x: np.maximum(x, 0.0)}


def rope_settings(config: dict) -> dict:
    """The rope entry of a config in any of its three spellings, as one dict with `rope_type` and `rope_theta`.

    transformers 5 writes `rope_parameters`; before, `rope_theta` stood at the top and `rope_scaling` named its type
    `rope_type` (from 4.45 on) or `type`.
    """
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    rope["rope_type"] = rope.get("rope_type") or rope.pop("type", None) or "default"
    return rope


def inverse_frequencies(rope: dict, head_dim: int) -> np.ndarray:
    """Radians per position of each rotated pair, [d/2]."""
    frequencies = float(rope["rope_theta"]) ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    kind = rope["rope_type"]
    if kind == "default":
        return frequencies
    if kind == "linear":
        return frequencies / rope["factor"]
    if kind == "llama3":
        return np.array([_llama3_frequency(f, rope) for f in frequencies])
    raise ValueError(f"rope_type {kind!r} is not one of default, linear, llama3")


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


class NumpyLlama:
    """A Llama with a language-model head. `weights` maps Hugging Face names, with or without `model.`, to arrays."""

    def __init__(self, config: dict, weights: dict[str, np.ndarray]):
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.head_dim = config.get("head_dim") or config["hidden_size"] // self.heads
        self.eps = config["rms_norm_eps"]
        self.activation = ACTIVATIONS[config["hidden_act"]]
        self.frequencies = inverse_frequencies(rope_settings(config), self.head_dim)
        self.weights = {
            name.removeprefix("model."): np.asarray(value, dtype=np.float64) for name, value in weights.items()
        }
        if config.get("tie_word_embeddings"):
            self.weights["lm_head.weight"] = self.weights["embed_tokens.weight"]

    @classmethod
    def from_folder(cls, folder: Path) -> "NumpyLlama":
        """Loads a Hugging Face folder: config.json and every safetensors file named model*."""
        weights = {}
        for file in sorted(Path(folder).glob("model*.safetensors")):
            weights.update(read_safetensors(file))
        return cls(json.loads((Path(folder) / "config.json").read_text()), weights)

    def logits(self, input_ids: np.ndarray) -> np.ndarray:
        """input_ids [B, T] -> logits [B, T, V]."""
        x = self.weights["embed_tokens.weight"][input_ids]  # [B, T, D]
        for layer in range(self.layers):
            prefix = f"layers.{layer}."
            x = x + self._attention(prefix + "self_attn.", self._norm(prefix + "input_layernorm", x))
            x = x + self._mlp(prefix + "mlp.", self._norm(prefix + "post_attention_layernorm", x))
        return self._linear("lm_head", self._norm("norm", x))

    def _linear(self, name: str, x: np.ndarray) -> np.ndarray:
        """x [.., in] -> [.., out]; the weight is stored [out, in]."""
        y = x @ self.weights[name + ".weight"].T
        bias = self.weights.get(name + ".bias")
        return y if bias is None else y + bias

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang and Sennrich, arXiv:1910.07467)."""
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps) * self.weights[name + ".weight"]

    def _mlp(self, prefix: str, x: np.ndarray) -> np.ndarray:
        gate = self.activation(self._linear(prefix + "gate_proj", x))  # [B, T, F]
        return self._linear(prefix + "down_proj", gate * self._linear(prefix + "up_proj", x))

    def _rotate(self, x: np.ndarray) -> np.ndarray:
        """x [B, T, heads, d]: rotates the pair (i, i + d/2) by position * frequency[i]."""
        angle = np.arange(x.shape[1], dtype=np.float64)[:, None, None] * self.frequencies  # [T, 1, d/2]
        cos, sin = np.cos(angle), np.sin(angle)
        first, second = np.split(x, 2, axis=-1)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def _attention(self, prefix: str, x: np.ndarray) -> np.ndarray:
        batch, tokens, _ = x.shape
        q = self._linear(prefix + "q_proj", x).reshape(batch, tokens, self.heads, self.head_dim)
        k = self._linear(prefix + "k_proj", x).reshape(batch, tokens, self.kv_heads, self.head_dim)
        v = self._linear(prefix + "v_proj", x).reshape(batch, tokens, self.kv_heads, self.head_dim)
        q, k = self._rotate(q), self._rotate(k)
        future = np.triu(np.ones((tokens, tokens), dtype=bool), 1)
        group = self.heads // self.kv_heads
        out = np.empty_like(q)
        for head in range(self.heads):
            kv = head // group  # consecutive query heads share one key/value head
            scores = q[:, :, head] @ k[:, :, kv].transpose(0, 2, 1) / math.sqrt(self.head_dim)  # [B, T, T]
            scores = np.where(future, -np.inf, scores)
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[:, :, head] = weights / weights.sum(axis=-1, keepdims=True) @ v[:, :, kv]
        return self._linear(prefix + "o_proj", out.reshape(batch, tokens, self.heads * self.head_dim))
