"""Makes one tiny model: config.json, weights, and what the float64 oracle expects of it."""

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from fixture_io import random_state, sha256, write_safetensors, write_toml
from numpy_llama import NumpyLlama
from oracle import Oracle, max_over_rms, true_float64
from rope_numpy import LENGTH_DEPENDENT, inverse_frequencies, llama3_band, rope_settings, yarn_heights
from tiny_cases import Case

PROMPT_LENGTHS = (1, 5, 37, 120)
BATCH_SHAPE = (3, 23)
GREEDY_STEPS = 16
# Of the longest prompt's logits: the last eight rows and eight others, at and beside round numbers.
CHOSEN_ROWS = (0, 1, 15, 16, 31, 63, 64, 97, *range(112, 120))

# A step whose two best tokens are nearer than this (times the rms of its logits) would make an honest float32 backend
# fail by chance, so prompts are drawn until every step of theirs is further apart: 25 times the two-sided tolerance.
MIN_GAP_OVER_RMS = 1e-3
MAX_OVER_RMS = 2e-5

# Random models like to fall into repeating one token, where attention has nothing to tell apart. Such prompts are
# passed over too.
MIN_DISTINCT_TOKENS = 6

# How closely the two float64 references must agree, as max abs / rms.
AGREEMENT = 1e-9

_TORCH = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Measured:
    """Largest difference over rms, over all logits of a case, against the float64 oracle.

    `stock64` and `stock32` are NaN for a model that transformers, as it comes, cannot run.
    """

    numpy64: float
    stock64: float
    stock32: float


def make(case: Case, folder: Path) -> Measured:
    """Writes config.json, the weights, expect.safetensors and case.toml into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(case.config)
    _write_weights(case, config, folder)
    _write_config(config, folder)
    _check_bands(config)

    with true_float64():
        expect = _expectations(Oracle.from_folder(folder), case, config)
    if case.eos_from_greedy:
        # One token that ends the second prompt's continuation and one that ends the third's.
        config["eos_token_id"] = [int(expect["g1.tokens"][4]), int(expect["g2.tokens"][9])]
        _write_config(config, folder)
    for k in range(len(PROMPT_LENGTHS)):
        expect[f"g{k}.stop"] = np.array([_stop(expect[f"g{k}.tokens"], config["eos_token_id"])], dtype=np.int64)
    write_safetensors(folder / "expect.safetensors", expect)
    _write_case(case, folder)
    return _measure(folder, expect)


def _shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names, as LlamaForCausalLM has them, and shapes [out, in] of all tensors of the file."""
    hidden, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", heads)
    head_dim = config.get("head_dim", hidden // heads)
    attention = {
        "q_proj": (heads * head_dim, hidden),
        "k_proj": (kv_heads * head_dim, hidden),
        "v_proj": (kv_heads * head_dim, hidden),
        "o_proj": (hidden, heads * head_dim),
    }
    mlp = {"gate_proj": (ffn, hidden), "up_proj": (ffn, hidden), "down_proj": (hidden, ffn)}

    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}{norm}.weight"] = (hidden,)
        for block, linears, biased in (
            ("self_attn", attention, config["attention_bias"]),
            ("mlp", mlp, config["mlp_bias"]),
        ):
            for name, shape in linears.items():
                shapes[f"{prefix}{block}.{name}.weight"] = shape
                if biased:
                    shapes[f"{prefix}{block}.{name}.bias"] = shape[:1]
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, hidden)
    return shapes


def _draw(case_name: str, name: str, shape: tuple[int, ...], tied: bool) -> np.ndarray:
    """Random values that keep every part of the model audible: attention neither uniform nor one-hot.

    A tied embedding is scaled as the head it also is; at unit scale the best next token would be the input token.
    """
    generator = random_state("model", case_name, name)
    if name.endswith("norm.weight"):
        return generator.uniform(0.5, 1.5, shape)
    normal = generator.standard_normal(shape)
    if name.endswith(".bias"):
        return 0.1 * normal
    return normal if name.endswith("embed_tokens.weight") and not tied else normal / math.sqrt(shape[1])


def _write_weights(case: Case, config: dict, folder: Path) -> None:
    for stale in folder.glob("model*"):
        stale.unlink()
    tensors = {}
    for name, shape in _shapes(config).items():
        dtype = case.norm_dtype if case.norm_dtype and name.endswith("norm.weight") else case.dtype
        stored = torch.from_numpy(_draw(case.name, name, shape, config["tie_word_embeddings"])).to(_TORCH[dtype])
        tensors[name if case.prefixed else name.removeprefix("model.")] = stored
    metadata = {"format": "pt"}
    if case.shards == 1:
        (folder / "model.safetensors").write_bytes(save(tensors, metadata))
        return
    names = list(tensors)
    # The cut goes through the middle of a layer, as it does in real checkpoints.
    size = -(-len(names) // case.shards)
    weight_map = {}
    for shard in range(case.shards):
        file = f"model-{shard + 1:05}-of-{case.shards:05}.safetensors"
        part = names[shard * size : (shard + 1) * size]
        (folder / file).write_bytes(save({name: tensors[name] for name in part}, metadata))
        weight_map |= dict.fromkeys(part, file)
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _write_config(config: dict, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _check_bands(config: dict) -> None:
    """A llama3 case that leaves one of the three bands empty would prove nothing about it.

    Nor would one of yarn without a ramp, or one of a length-dependent type whose limit no continuation crosses.
    """
    rope = rope_settings(config)
    if rope["rope_type"] == "yarn":
        heights = yarn_heights(rope, config["head_dim"])
        if not (min(heights) < 0.1 and max(heights) == 1.0 and any(0.1 < h < 0.9 for h in heights)):
            raise ValueError(f"the ramp of yarn is {heights}: choose another original context")
    if rope["rope_type"] in LENGTH_DEPENDENT:
        limit = rope.get("original_max_position_embeddings", rope["max_position_embeddings"])
        if not PROMPT_LENGTHS[1] < limit < PROMPT_LENGTHS[1] + GREEDY_STEPS - 1 < PROMPT_LENGTHS[2]:
            raise ValueError(f"no continuation crosses the limit {limit}")
    if rope["rope_type"] == "llama3":
        plain = inverse_frequencies(rope | {"rope_type": "default"}, config["head_dim"])
        bands = [llama3_band(frequency, rope) for frequency in plain]
        if set(bands) != {"kept", "blended", "scaled"}:
            raise ValueError(f"the frequencies fall into {sorted(set(bands))} only: choose another original context")


def _expectations(oracle: Oracle, case: Case, config: dict) -> dict[str, np.ndarray]:
    vocab = config["vocab_size"]
    expect: dict[str, np.ndarray] = {}
    for k, length in enumerate(PROMPT_LENGTHS):
        prompt, tokens, gaps = _prompt_and_continuation(oracle, case.name, k, length, vocab)
        logits = oracle.logits(prompt)
        if length == PROMPT_LENGTHS[-1]:
            expect[f"p{k}.rows"] = np.array(CHOSEN_ROWS, dtype=np.int64)
            logits = logits[:, CHOSEN_ROWS]
        expect |= {f"p{k}.input_ids": prompt, f"p{k}.logits": logits}
        expect |= {f"g{k}.input_ids": prompt, f"g{k}.tokens": tokens, f"g{k}.gap": gaps}
    if oracle.depends_on_length():
        # Token by token, each with the frequencies of the length it made.
        ids = expect["p2.input_ids"]
        expect["s2.logits"] = oracle.stepwise(ids, 1)
    batch = random_state("batch", case.name).randint(0, vocab, BATCH_SHAPE).astype(np.int64)
    return expect | {"batch.input_ids": batch, "batch.logits": oracle.logits(batch)}


def _prompt_and_continuation(oracle: Oracle, name: str, k: int, length: int, vocab: int):
    """The first drawn prompt whose continuation has variety and no near tie: ids [1, T], tokens [16], gaps [16]."""
    for attempt in range(100):
        prompt = random_state("prompt", name, k, attempt).randint(0, vocab, (1, length)).astype(np.int64)
        if length > 2:
            prompt[0, :2] = vocab - 1, 0  # both ends of the embedding table
        tokens, gaps, scales = oracle.greedy(prompt, GREEDY_STEPS)
        if (gaps >= MIN_GAP_OVER_RMS * scales).all() and len(set(tokens)) >= MIN_DISTINCT_TOKENS:
            return prompt, tokens, gaps
    raise ValueError(f"{name}: none of 100 prompts of {length} tokens has a varied continuation without a near tie")


def _stop(tokens: np.ndarray, eos: int | list[int]) -> int:
    """How many tokens a generation that obeys eos_token_id emits, the eos included."""
    ends = np.flatnonzero(np.isin(tokens, eos))
    return int(ends[0]) + 1 if len(ends) else len(tokens)


def _write_case(case: Case, folder: Path) -> None:
    files = sorted(path for path in folder.iterdir() if path.name != "case.toml")
    write_toml(
        folder / "case.toml",
        {"id": f"model/{case.name}", "level": "model", "description": case.description, "since": "0.1"},
        [("tolerances", {"max_over_rms": MAX_OVER_RMS}), ("sha256", {path.name: sha256(path) for path in files})],
        "Made by conformance/reference/make.py; the README there explains every tensor of expect.safetensors.",
    )


def _measure(folder: Path, expect: dict[str, np.ndarray]) -> Measured:
    """Compares the NumPy reference, and transformers as it comes in float64 and float32, with the oracle."""
    models = {
        "numpy64": NumpyLlama.from_folder(folder),
        "stock64": Oracle.from_folder(folder),
        "stock32": Oracle.from_folder(folder, torch.float32),
    }
    if not models["stock64"].runs_as_it_comes():
        del models["stock64"], models["stock32"]
    worst = dict.fromkeys(("numpy64", "stock64", "stock32"), math.nan)
    for name, model in models.items():
        worst[name] = 0.0
        for key in [f"p{k}" for k in range(len(PROMPT_LENGTHS))] + ["batch"]:
            actual = model.logits(expect[f"{key}.input_ids"])
            if f"{key}.rows" in expect:
                actual = actual[:, expect[f"{key}.rows"]]
            worst[name] = max(worst[name], max_over_rms(actual, expect[f"{key}.logits"]))
    if "s2.logits" in expect:
        ids = expect["p2.input_ids"]
        actual = models["numpy64"].logits(ids, np.arange(1, ids.shape[1] + 1))
        worst["numpy64"] = max(worst["numpy64"], max_over_rms(actual, expect["s2.logits"]))
    if not worst["numpy64"] <= AGREEMENT:
        raise ValueError(f"{folder.name}: NumPy and transformers differ by {worst['numpy64']:.1e} of the rms")
    measured = Measured(**worst)
    logging.getLogger("reference").info(
        "%s: NumPy %.1e, stock transformers float64 %.1e, float32 %.1e", folder.name, *worst.values()
    )
    return measured
