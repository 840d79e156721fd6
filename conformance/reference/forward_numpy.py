"""The forward pass with masks, positions and embeddings in NumPy float64: the second opinion on `forward_cases.py`.

It shares the layers of `numpy_llama.py` and no code with transformers. B sequences, T tokens, P tokens of the past, D
hidden, H query heads, d head dimension.
"""

import math

import numpy as np

from numpy_llama import NumpyLlama
from rope_numpy import inverse_frequencies

LEAST = float(np.finfo(np.float64).min)


def padded_scores(mask: np.ndarray, past: int) -> np.ndarray:
    """[B, P + T] of 0 and 1 -> [B, 1, T, P + T], what eager attention adds: the least number where nothing is seen."""
    tokens = mask.shape[1] - past
    before = np.arange(mask.shape[1]) <= np.arange(tokens)[:, None] + past
    return np.where(before & (mask[:, None, None, :] != 0), 0.0, LEAST)


def packed_mask(positions: np.ndarray) -> np.ndarray:
    """positions [B, T] -> bool [B, 1, T, T]: a sequence ends where a position is not one more than the last."""
    starts = np.diff(positions, axis=1, prepend=positions[:, :1] - 1) != 1
    sequence = np.cumsum(starts, axis=1)
    causal = np.tril(np.ones((positions.shape[1],) * 2, dtype=bool))
    return (causal & (sequence[:, :, None] == sequence[:, None, :]))[:, None]


class NumpyForward(NumpyLlama):
    """A Llama without a head that gives all it computes."""

    def embed(self, input_ids: np.ndarray) -> np.ndarray:
        """input_ids [B, T] -> [B, T, D]."""
        return self.weights["embed_tokens.weight"][input_ids]

    def run(self, x: np.ndarray, positions: np.ndarray, added: np.ndarray, past: list | None = None):
        """x [B, T, D], positions [B, T], added [B, 1, T, P + T] -> hidden states, attentions [B, H, T, P + T], a past.

        The hidden states are those after the embedding and each layer, [B, T, D], the last after the final norm. The
        past is a pair of rotated keys and values [B, P + T, K, d] for each layer.
        """
        hidden, attentions, kept = [x], [], []
        for layer in range(self.layers):
            prefix = f"layers.{layer}."
            normed = self._norm(prefix + "input_layernorm", x)
            out, weights, pair = self._look(prefix + "self_attn.", normed, positions, added, past and past[layer])
            x = x + out
            x = x + self._mlp(prefix + "mlp.", self._norm(prefix + "post_attention_layernorm", x))
            hidden.append(x)
            attentions.append(weights)
            kept.append(pair)
        hidden[-1] = self._norm("norm", x)
        return hidden, attentions, kept

    def _turn(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """x [B, T, heads, d]: rotates the pair (i, i + d/2) by position * frequency[i]; the models here turn whole heads."""
        frequencies = inverse_frequencies(self.rope, self.head_dim, int(positions.max()) + 1)
        angle = positions[:, :, None, None] * frequencies
        first, second = np.split(x, 2, axis=-1)
        cos, sin = np.cos(angle), np.sin(angle)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def _look(self, prefix: str, x: np.ndarray, positions: np.ndarray, added: np.ndarray, past):
        batch, tokens, _ = x.shape
        q = self._linear(prefix + "q_proj", x).reshape(batch, tokens, self.heads, self.head_dim)
        k = self._linear(prefix + "k_proj", x).reshape(batch, tokens, self.kv_heads, self.head_dim)
        v = self._linear(prefix + "v_proj", x).reshape(batch, tokens, self.kv_heads, self.head_dim)
        q, k = self._turn(q, positions), self._turn(k, positions)
        if past is not None:
            k, v = np.concatenate([past[0], k], axis=1), np.concatenate([past[1], v], axis=1)
        weights = np.empty((batch, self.heads, tokens, k.shape[1]))
        out = np.empty_like(q)
        for head in range(self.heads):
            kv = head // (self.heads // self.kv_heads)
            scores = q[:, :, head] @ k[:, :, kv].transpose(0, 2, 1) / math.sqrt(self.head_dim) + added[:, 0]
            exponents = np.exp(scores - scores.max(axis=-1, keepdims=True))
            weights[:, head] = exponents / exponents.sum(axis=-1, keepdims=True)
            out[:, :, head] = weights[:, head] @ v[:, :, kv]
        return self._linear(prefix + "o_proj", out.reshape(batch, tokens, -1)), weights, (k, v)


def token_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """logits [B, K, V] and labels [B, K], of which each answers for the position before it; -100 is ignored."""
    pairs = [
        (row, label)
        for rows, list_ in zip(logits, labels, strict=True)
        for row, label in zip(rows[:-1], list_[1:], strict=True)
        if label != -100
    ]
    return float(np.mean([class_loss(row, label) for row, label in pairs]))


def class_loss(row: np.ndarray, label: int) -> float:
    """Cross entropy of logits [V] and a class."""
    return float(np.log(np.exp(row - row.max()).sum()) + row.max() - row[label])


def label_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Binary cross entropy of logits and labels of one shape."""
    p = 1.0 / (1.0 + np.exp(-logits))
    return float(-np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p)))
