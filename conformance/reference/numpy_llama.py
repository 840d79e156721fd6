"""Llama from its definition, in NumPy float64: the second opinion beside `oracle.py`, sharing no code with it.

Reads `config.json` and safetensors by itself. One sequence or an equal-length batch, no cache, every position computed
anew; what a cache would hold where frequencies depend on the length is told by `lengths`. Arrays are commented with their shapes: B sequences, T tokens, D hidden, H query heads, K key/value heads,
d head dimension, F feed-forward, V vocabulary.
"""

import json
import math
from pathlib import Path

import numpy as np

from fixture_io import read_safetensors
from rope_numpy import attention_factor, inverse_frequencies, rope_settings


def silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x), written so that exp never overflows."""
    e = np.exp(-np.abs(x))
    return x * np.where(x >= 0, 1.0, e) / (1.0 + e)


def gelu_new(x: np.ndarray) -> np.ndarray:
    """The tanh form of GELU (Hendrycks and Gimpel, arXiv:1606.08415, section 2)."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), written so that exp never overflows."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def gelu(x: np.ndarray) -> np.ndarray:
    """x times the normal distribution's cumulative function."""
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


ACTIVATIONS = {
    "silu": silu,
    "gelu": gelu,
    "gelu_new": gelu_new,
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "relu": lambda x: np.maximum(x, 0.0),
    "relu2": lambda x: np.maximum(x, 0.0) ** 2,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "mish": lambda x: x * np.tanh(np.logaddexp(0.0, x)),
}


class NumpyLlama:
    """A Llama with a language-model head. `weights` maps Hugging Face names, with or without `model.`, to arrays."""

    def __init__(self, config: dict, weights: dict[str, np.ndarray]):
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.head_dim = config.get("head_dim") or config["hidden_size"] // self.heads
        self.eps = config["rms_norm_eps"]
        self.activation = ACTIVATIONS[config["hidden_act"]]
        self.rope = rope_settings(config)
        self.lengths = None
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

    def logits(self, input_ids: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """input_ids [B, T] -> logits [B, T, V].

        `lengths` [T] is how long the sequence was when each token was added to it, which decides the token's
        frequencies; T for all of them, a single step, if it is not given.
        """
        self.lengths = lengths
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
        """x [B, T, heads, d]: rotates the pair (i, i + R/2) by position * frequency[i]; elements from R on stay."""
        angle = self._angles(x.shape[1])[:, None, :]  # [T, 1, R/2]
        cos, sin = (attention_factor(self.rope) * f(angle) for f in (np.cos, np.sin))
        pairs = angle.shape[-1]
        first, second, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)

    def _angles(self, tokens: int) -> np.ndarray:
        """Position times frequency, [T, R/2]."""
        lengths = np.full(tokens, tokens) if self.lengths is None else self.lengths
        rows = {int(n): inverse_frequencies(self.rope, self.head_dim, int(n)) for n in set(lengths)}
        return np.array([position * rows[int(n)] for position, n in enumerate(lengths)])

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
