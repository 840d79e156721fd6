"""Makes crates/core/tests/data/rope_frequencies.json: what transformers' own functions give for many rope configs.

    python conformance/reference/rope_frequencies.py crates/core/tests/data/rope_frequencies.json

Each entry has a config.json's fields as they stand in a file, in the old or the new form, and for some lengths of the
sequence the inverse frequencies, in float64, and the factor of cosines and sines. They are confirmed by `rope_numpy.py`.
"""

import json
import sys
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True

import numpy as np
import torch
from transformers import LlamaConfig, modeling_rope_utils
from transformers.models.llama import modeling_llama
from transformers.utils import logging as transformers_logging

from fixture_io import random_state
from oracle import true_float64
from rope_numpy import attention_factor, inverse_frequencies, rope_settings

KINDS = ("default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional")
CASES_PER_KIND = 10
LENGTHS = (1, 24, 25, 500)


def main() -> int:
    """Writes the file and returns the exit status."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    transformers_logging.set_verbosity_error()
    cases = [_case(kind, i) for kind in KINDS for i in range(CASES_PER_KIND)]
    lines = ",\n".join(json.dumps(case) for case in cases)
    Path(sys.argv[1]).write_text(f"[\n{lines}\n]\n")
    return 0


def _case(kind: str, number: int) -> dict:
    config = _config(kind, random_state("rope", kind, number))
    # A copy: transformers writes into the dict it is given.
    parsed = LlamaConfig(**json.loads(json.dumps(config)))
    head_dim, settings = config["head_dim"], rope_settings(config)
    expected = []
    for length in LENGTHS:
        with true_float64(), mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
            if kind == "default":
                found, factor = modeling_llama.LlamaRotaryEmbedding.compute_default_rope_parameters(parsed)
            else:
                found, factor = modeling_rope_utils.ROPE_INIT_FUNCTIONS[kind](parsed, None, seq_len=length)
        found = found.double().numpy()
        second = inverse_frequencies(settings, head_dim, length)
        if not np.allclose(found, second, rtol=1e-13, atol=0) or abs(factor - attention_factor(settings)) > 1e-14:
            raise ValueError(f"{kind} {number}, length {length}: {found} {factor} against {second}")
        expected.append({"length": length, "frequencies": found.tolist(), "attention_factor": float(factor)})
    if all(e["frequencies"] == expected[0]["frequencies"] for e in expected):
        expected = expected[:1]
    return {"config": config, "expected": expected}


def _config(kind: str, rng: np.random.RandomState) -> dict:
    """A config with the parameters that the type has, each of the optional ones given or not."""
    maybe = lambda: rng.rand() < 0.5
    number = lambda low, high: round(float(rng.uniform(low, high)), 3)
    head_dim, heads = int(rng.choice([4, 6, 8, 12, 16])), int(rng.choice([1, 2, 3]))
    original = int(rng.choice([8, 24, 30, 400]))
    rope: dict = {}
    if kind in ("linear", "dynamic", "yarn", "llama3") or maybe():
        rope |= {"factor": number(1.0, 40.0)} if kind != "default" else {}
    if kind == "yarn":
        optional = {
            "beta_fast": [8, 64, 0, 2.5, None],
            "beta_slow": [2, 0.25, 0, None],
            "attention_factor": [0.7, 1.3, None],
            "mscale": [0.707, 1.0, 0, None],
            "mscale_all_dim": [0.9, 1.4, 0, None],
            "truncate": [True, False, None],
        }
        rope |= {key: values[rng.randint(len(values))] for key, values in optional.items() if maybe()}
        if rng.rand() < 0.3:
            rope["factor"] = None
    if kind == "llama3":
        rope |= {"low_freq_factor": number(0.5, 2.0), "high_freq_factor": number(2.5, 8.0)}
    partial = kind not in ("default", "proportional") and rng.rand() < 0.3 and head_dim >= 8
    share = number(0.4, 1.0) if partial or kind in ("default", "proportional") and maybe() else None
    if kind == "yarn" and share is not None:
        share = 0.5 if head_dim % 4 == 0 else None  # an odd number of elements has no ramp in transformers
    if kind == "longrope":
        width = int(head_dim * (1.0 if share is None else share))
        pairs = (width + 1) // 2
        rope |= {name: [number(1.0, 9.0) for _ in range(pairs)] for name in ("short_factor", "long_factor")}
        if maybe():
            rope["attention_factor"] = number(0.5, 1.5)
    config = {"hidden_size": heads * head_dim, "num_attention_heads": heads, "head_dim": head_dim}
    config["max_position_embeddings"] = int(rng.choice([24, 64, 512]))
    theta = float(rng.choice([100.0, 10000.0, 500000.0]))
    where = rng.randint(3)  # the original context: in the block, at the top, or not given
    if kind in ("yarn", "longrope", "llama3") and where < 2:
        (rope if where == 0 else config)["original_max_position_embeddings"] = original
    if maybe():
        config["rope_parameters"] = {"rope_type": kind, "rope_theta": theta} | rope
        block = config["rope_parameters"]
    else:
        config |= {"rope_theta": theta, "rope_scaling": {str(rng.choice(["type", "rope_type"])): kind} | rope}
        block = config["rope_scaling"]
    if share is not None:
        (block if maybe() else config)["partial_rotary_factor"] = share
    return config


if __name__ == "__main__":
    sys.exit(main())
