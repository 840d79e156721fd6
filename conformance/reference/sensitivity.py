"""Shows that the tiny models can tell a wrong Llama from a right one.

    python conformance/reference/sensitivity.py --suite conformance/suite

Each mistake below is put into the NumPy reference, and the table says in how many cases, and by how much at most, it
exceeds the tolerance of case.toml. Exit status 1 if a mistake goes unnoticed in every case.
"""

import argparse
import copy
import json
import sys
import tomllib
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np

from fixture_io import read_safetensors
from numpy_llama import NumpyLlama
from oracle import max_over_rms
from rope_numpy import LENGTH_DEPENDENT, rope_settings


class InterleavedRope(NumpyLlama):
    """Rotates neighbours (2i, 2i + 1) where the checkpoint has halves."""

    def _rotate(self, x):
        halves = np.concatenate([x[..., 0::2], x[..., 1::2]], axis=-1)
        turned = super()._rotate(halves)
        out = np.empty_like(x)
        out[..., 0::2], out[..., 1::2] = np.split(turned, 2, axis=-1)
        return out


class ReversedKeyRope(NumpyLlama):
    """Rotates the keys, the second call of each layer, the other way."""

    keys = False

    def _rotate(self, x):
        right = self._angles
        if self.keys:
            self._angles = lambda tokens: -right(tokens)
        turned = super()._rotate(x)
        self._angles, self.keys = right, not self.keys
        return turned


class GateUpSwap(NumpyLlama):
    """Activates up_proj where gate_proj should be."""

    def _mlp(self, prefix, x):
        up = self.activation(self._linear(prefix + "up_proj", x))
        return self._linear(prefix + "down_proj", up * self._linear(prefix + "gate_proj", x))


class MeanSubtractingNorm(NumpyLlama):
    """LayerNorm's centring in RMSNorm."""

    def _norm(self, name, x):
        return super()._norm(name, x - x.mean(axis=-1, keepdims=True))


class LastVocabularyRowLost(NumpyLlama):
    """A kernel that forgets the tail: the last logit is zero."""

    def logits(self, input_ids):
        out = super().logits(input_ids)
        out[..., -1] = 0.0
        return out


class TiledKeyValueHeads(NumpyLlama):
    """Query head h uses key/value head h mod K."""

    def _linear(self, name, x):
        y = super()._linear(name, x)
        if name.endswith(("k_proj", "v_proj")):
            spread = y.reshape(*y.shape[:-1], self.kv_heads, self.head_dim)
            y = spread[..., np.arange(self.heads) % self.kv_heads, :].reshape(*y.shape[:-1], -1)
        return y

    def _attention(self, prefix, x):
        wide = copy.copy(self)
        wide._linear = lambda name, y: TiledKeyValueHeads._linear(self, name, y)
        wide.kv_heads = self.heads
        return NumpyLlama._attention(wide, prefix, x)


def _edited(**edits):
    """A mistake in reading config.json: entries replaced before the model is built."""
    return lambda config, weights: NumpyLlama(config | edits, weights)


def _with_rope(**edits):
    """A mistake in the rope entry."""

    def build(config, weights):
        model = NumpyLlama(config, weights)
        model.rope = rope_settings(config) | edits
        return model

    return build


def _scaled_scores(config, weights):
    """1/sqrt(hidden/heads) in place of 1/sqrt(head_dim)."""
    model = NumpyLlama(config, weights)
    factor = np.sqrt(model.head_dim / (config["hidden_size"] / model.heads))
    plain = model._linear
    model._linear = lambda name, x: plain(name, x) * (factor if name.endswith("q_proj") else 1.0)
    return model


def _without_bias(config, weights):
    return NumpyLlama(config, {name: value for name, value in weights.items() if not name.endswith(".bias")})


def _half_llama3(config, weights):
    """Only whole bands: the blended frequencies are kept as they are."""
    rope = rope_settings(config)
    if rope["rope_type"] != "llama3":
        return NumpyLlama(config, weights)
    return _with_rope(low_freq_factor=rope["high_freq_factor"] - 1e-9)(config, weights)


def _length_forgotten(config, weights):
    """Frequencies of a sequence of one token, however long it is."""
    model = NumpyLlama(config, weights)
    if model.rope["rope_type"] in LENGTH_DEPENDENT:
        plain = model.logits
        model.logits = lambda ids: plain(ids, np.ones(ids.shape[1], dtype=np.int64))
    return model


def _always_partial(config, weights):
    """partial_rotary_factor obeyed with `default` too, where transformers' Llama does not."""
    if rope_settings(config)["rope_type"] != "default":
        return NumpyLlama(config, weights)
    return _with_rope(rope_type="linear", factor=1.0)(config, weights)


MISTAKES = {
    "rope interleaved": InterleavedRope,
    "rope of k reversed": ReversedKeyRope,
    "rope_theta 10000 always": _with_rope(rope_theta=10000.0),
    "rope scaling ignored": _with_rope(rope_type="default"),
    "llama3 without blending": _half_llama3,
    "yarn always truncated": _with_rope(truncate=True),
    "mscale ignored": _with_rope(mscale=None),
    "attention factor 1": _with_rope(attention_factor=1.0),
    "length forgotten": _length_forgotten,
    "partial_rotary_factor ignored": _with_rope(partial_rotary_factor=1.0),
    "partial_rotary_factor with default": _always_partial,
    "kv heads tiled": TiledKeyValueHeads,
    "scores by hidden/heads": _scaled_scores,
    "gate and up swapped": GateUpSwap,
    "norm subtracts the mean": MeanSubtractingNorm,
    "eps 0": _edited(rms_norm_eps=0.0),
    "eps 1e-6": _edited(rms_norm_eps=1e-6),
    "biases dropped": _without_bias,
    "silu always": _edited(hidden_act="silu"),
    "last logit lost": LastVocabularyRowLost,
}


def main() -> int:
    """Prints the table and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, required=True)
    folders = sorted(path.parent for path in (parser.parse_args().suite / "model").glob("*/case.toml"))
    if not folders:
        parser.error("no case.toml below SUITE/model")
    found: dict[str, list[float]] = {name: [] for name in MISTAKES}
    for folder in folders:
        tolerance = tomllib.loads((folder / "case.toml").read_text())["tolerances"]["max_over_rms"]
        config = json.loads((folder / "config.json").read_text())
        expect = read_safetensors(folder / "expect.safetensors")
        weights = {}
        for file in sorted(folder.glob("model*.safetensors")):
            weights |= read_safetensors(file)
        for name, build in MISTAKES.items():
            error = max_over_rms(build(config, weights).logits(expect["p2.input_ids"]), expect["p2.logits"])
            if error > tolerance:
                found[name].append(error)
    for name, errors in found.items():
        span = f"{min(errors):.1e} to {max(errors):.1e}" if errors else "NOT NOTICED"
        print(f"{name:26} {len(errors):2} of {len(folders)} cases   {span}")
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
