"""The tiny models: one entry per case, what it is for, its config.json and how its tensors are stored.

The dimensions of a case differ pairwise and are no multiples of a vector width, so that swapped axes, a padded tail or
a head size derived from the wrong quotient cannot go unnoticed. `gqa` is the wide one; the variants are narrower to
keep the suite small.
"""

import copy
from dataclasses import dataclass

COMMON = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 160,
    "mlp_bias": False,
    "model_type": "llama",
    "pad_token_id": None,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": False,
    "use_cache": True,
}

WIDE = {
    "vocab_size": 263,
    "hidden_size": 90,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "intermediate_size": 200,
    "num_hidden_layers": 3,
}

# 54 / 6 = 9: a head size taken from hidden_size would be odd and wrong.
NARROW = {
    "vocab_size": 101,
    "hidden_size": 54,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "intermediate_size": 76,
    "num_hidden_layers": 3,
}

# Without head_dim and num_key_value_heads, as checkpoints of the first Llama have it: 60 / 6 = 10, six key/value heads.
DERIVED = {
    "vocab_size": 101,
    "hidden_size": 60,
    "num_attention_heads": 6,
    "intermediate_size": 76,
    "num_hidden_layers": 3,
}

# Short heads beside 36 / 4 = 9, for the many rope types and activations.
SLIM = {
    "vocab_size": 43,
    "hidden_size": 36,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 50,
    "num_hidden_layers": 2,
}

LLAMA3 = {
    "factor": 4.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 64,
    "rope_type": "llama3",
}


# The base leaves room for a ramp of some pairs.
YARN = {"rope_type": "yarn", "rope_theta": 100.0}

LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.05, 1.1, 1.3, 1.5, 1.9, 2.2, 3.0],
    "long_factor": [1.0, 1.4, 2.1, 3.5, 5.0, 8.0, 13.0, 21.0],
}


@dataclass(frozen=True)
class Case:
    """One tiny model."""

    name: str
    description: str
    config: dict
    dtype: str = "BF16"
    # dtype of the norm weights where it differs from the rest of the file
    norm_dtype: str | None = None
    shards: int = 1
    # False: tensors are named as in a bare LlamaModel, without `model.`
    prefixed: bool = True
    # eos_token_id becomes tokens that the greedy continuations do produce
    eos_from_greedy: bool = False


def _v5(shape: dict, rope: dict | None = None, dtype: str = "bfloat16", **changes) -> dict:
    """A config as transformers 5 writes it."""
    rope = rope or {"rope_theta": 10000.0, "rope_type": "default"}
    entries = copy.deepcopy(COMMON | shape | {"dtype": dtype, "rope_parameters": rope, "transformers_version": "5.8.0"})
    return entries | changes


def _v4(shape: dict, rope_theta: float, rope_scaling: dict, version: str) -> dict:
    """A config as transformers 4 wrote it."""
    old = {"rope_scaling": rope_scaling, "rope_theta": rope_theta, "torch_dtype": "bfloat16"}
    return copy.deepcopy(COMMON | shape | old | {"transformers_version": version})


CASES = [
    Case("gqa", "grouped-query attention, three query heads to a key/value head, head_dim not hidden/heads", _v5(WIDE)),
    Case(
        "mha",
        "every query head has its own key/value head; head_dim and num_key_value_heads are absent",
        _v5(DERIVED),
    ),
    Case(
        "mqa",
        "one key/value head for all; norm weights stored in F32 beside BF16",
        _v5(NARROW, num_key_value_heads=1),
        norm_dtype="F32",
    ),
    Case(
        "head_dim",
        "hidden_size 56 is not a multiple of 6 heads: head_dim alone says how wide a head is",
        _v5(NARROW, hidden_size=56, head_dim=14),
    ),
    Case(
        "bias",
        "biases on q, k, v, o (attention_bias) and gate, up, down (mlp_bias)",
        _v5(NARROW, attention_bias=True, mlp_bias=True),
    ),
    Case("tied", "the head is the embedding; no lm_head.weight in the file", _v5(NARROW, tie_word_embeddings=True)),
    Case(
        "llama3_rope",
        "llama3 frequency scaling with all three bands, run to more than twice the original context",
        _v5(NARROW, rope=LLAMA3 | {"rope_theta": 500000.0}, head_dim=24),
    ),
    Case(
        "linear_rope",
        "linear position interpolation",
        _v5(NARROW, rope={"factor": 3.0, "rope_theta": 10000.0, "rope_type": "linear"}),
    ),
    Case("gelu_new", "tanh GELU as the gate's activation", _v5(NARROW, hidden_act="gelu_new")),
    Case("relu", "ReLU as the gate's activation", _v5(NARROW, hidden_act="relu")),
    Case(
        "old_config",
        "config.json of 2023: rope_theta at the top, rope_scaling with `type`, no head_dim",
        _v4(DERIVED, 50000.0, {"factor": 2.0, "type": "linear"}, "4.31.0"),
    ),
    Case(
        "llama31_config",
        "config.json as Llama 3.1 published it: rope_theta at the top, rope_scaling with `rope_type` llama3",
        _v4(NARROW | {"head_dim": 24}, 500000.0, LLAMA3, "4.43.0.dev0"),
    ),
    Case("sharded", "two files and an index", _v5(NARROW), shards=2),
    Case("eos_list", "eos_token_id is a list; some continuations end early", _v5(NARROW), eos_from_greedy=True),
    Case(
        "no_prefix",
        "F16, with the names of a bare LlamaModel: no `model.`",
        _v5(NARROW, dtype="float16"),
        dtype="F16",
        prefixed=False,
    ),
    Case("one_layer", "a single layer, F32", _v5(NARROW, dtype="float32", num_hidden_layers=1), dtype="F32"),
    Case(
        "yarn",
        "yarn with its defaults: attention_factor 0.1 ln factor + 1, a truncated ramp",
        _v5(SLIM, rope=YARN | {"factor": 4.0, "original_max_position_embeddings": 40}),
    ),
    Case(
        "yarn_mscale",
        "yarn with mscale over mscale_all_dim, betas, no truncation, and a factor that follows from the lengths",
        _v5(
            SLIM,
            rope=YARN
            | {
                "factor": None,
                "original_max_position_embeddings": 40,
                "beta_fast": 4,
                "beta_slow": 0.5,
                "mscale": 0.707,
                "mscale_all_dim": 1.3,
                "truncate": False,
            },
        ),
    ),
    Case(
        "yarn_old",
        "yarn as transformers 4 wrote it, with attention_factor, and the original context at the top",
        _v4(SLIM, 100.0, {"type": "yarn", "factor": 2.5, "attention_factor": 0.8, "beta_fast": 0}, "4.44.0")
        | {"original_max_position_embeddings": 64},
    ),
    Case(
        "dynamic",
        "dynamic scaling, below and above its limit of 16 positions; a cached key keeps the base it was turned with",
        _v4(SLIM, 10000.0, {"type": "dynamic", "factor": 3.0}, "4.31.0") | {"max_position_embeddings": 16},
    ),
    Case(
        "longrope",
        "longrope: short divisors up to 16 tokens, long ones above, and an attention factor from the two lengths",
        _v5(SLIM, rope=LONGROPE | {"original_max_position_embeddings": 16}),
    ),
    Case(
        "proportional_rope",
        "proportional: the first quarter of the pairs is turned, at the frequencies of a whole head",
        _v5(SLIM, rope={"rope_type": "proportional", "rope_theta": 10000.0, "partial_rotary_factor": 0.25, "factor": 2}),
    ),
    Case(
        "partial_linear",
        "linear scaling of a part of each head (6 of 16 elements); transformers' own Llama fails there",
        _v5(SLIM, rope={"rope_type": "linear", "rope_theta": 100.0, "partial_rotary_factor": 0.4, "factor": 2.0}),
    ),
    Case(
        "partial_default",
        "partial_rotary_factor with rope_type default, where transformers' Llama does not look at it",
        _v5(SLIM, partial_rotary_factor=0.5),
    ),
    *(
        Case(act, f"{act} as the gate's activation", _v5(SLIM, hidden_act=act, num_hidden_layers=1))
        for act in ("gelu", "quick_gelu", "relu2", "sigmoid", "tanh", "mish")
    ),
]
