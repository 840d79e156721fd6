"""Checkpoints in Meta's own format, made from tiny Hugging Face models by the inverse of transformers' conversion script.

    python meta_cases.py --out ../../crates/weights/tests/data/meta
    python meta_cases.py --verify FOLDER --case v2_two_shards   # does transformers load what was converted?

A case is a folder: `consolidated.NN.pth` and `params.json` as Meta distributes them, and `expect.json` with the type, shape and
SHA-256 of every tensor of the Hugging Face model, and with the config that `convert_llama_weights_to_hf.py` gives it. All dimensions
differ, so that a wrong cut or head count cannot go unseen.
"""

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fixture_io import random_state
from transformers import LlamaConfig, LlamaForCausalLM

CONTEXT = {"1": 2048, "2": 4096, "3": 8192, "3.1": 131072, "3.2": 131072}


@dataclass(frozen=True)
class Case:
    """One checkpoint; `params` as in params.json."""

    name: str
    version: str
    shards: int
    dtype: torch.dtype
    vocab: int
    params: dict
    instruct: bool = False
    tied: bool = False
    # torch.save's format before PyTorch 1.6.
    legacy: bool = False
    # Tensors that are saved as views: of a larger storage, or transposed.
    views: bool = False


CASES = [
    Case(
        "v1_legacy", "1", 1, torch.float32, 14,
        {"dim": 24, "multiple_of": 40, "n_heads": 6, "n_layers": 1, "norm_eps": 1e-6, "vocab_size": -1}, legacy=True,
    ),
    Case(
        "v2_two_shards", "2", 2, torch.float16, 14,
        {"dim": 24, "multiple_of": 16, "n_heads": 6, "n_kv_heads": 2, "n_layers": 2, "norm_eps": 1e-5, "vocab_size": 14},
    ),
    Case(
        "v2_views", "2", 2, torch.float16, 10,
        {"dim": 24, "multiple_of": 8, "n_heads": 6, "n_kv_heads": 2, "n_layers": 1, "norm_eps": 1e-5, "rope_theta": 1e6},
        views=True,
    ),
    Case(
        "v3_four_shards", "3", 4, torch.bfloat16, 20,
        {"dim": 32, "ffn_dim_multiplier": 1.3, "multiple_of": 4, "n_heads": 8, "n_kv_heads": 4, "n_layers": 1,
         "norm_eps": 1e-5, "rope_theta": 500000.0, "vocab_size": 20},
        instruct=True,
    ),
    Case(
        "v3_1_two_shards", "3.1", 2, torch.bfloat16, 14,
        {"dim": 24, "ffn_dim_multiplier": 1.5, "multiple_of": 8, "n_heads": 6, "n_kv_heads": 2, "n_layers": 2,
         "norm_eps": 1e-5, "rope_theta": 500000.0, "use_scaled_rope": True, "vocab_size": 14},
    ),
    Case(
        "v3_2_tied", "3.2", 1, torch.bfloat16, 14,
        {"dim": 24, "ffn_dim_multiplier": 1.0, "multiple_of": 8, "n_heads": 6, "n_kv_heads": 3, "n_layers": 1,
         "norm_eps": 1e-5, "rope_theta": 500000.0, "use_scaled_rope": True, "vocab_size": 14},
        tied=True,
    ),
]  # fmt: skip


def config_of(case: Case) -> LlamaConfig:
    """The config that the conversion script makes of params.json."""
    p = case.params
    base = p.get("rope_theta", 10000.0)
    third = case.version.startswith("3")
    ffn = int(p.get("ffn_dim_multiplier", 1) * int(8 * p["dim"] / 3))
    multiple = p["multiple_of"]
    scaling = None
    if case.version in ("3.1", "3.2"):
        scaling = {
            "factor": 32.0 if case.version == "3.2" else 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        }
    return LlamaConfig(
        hidden_size=p["dim"],
        intermediate_size=multiple * ((ffn + multiple - 1) // multiple),
        num_attention_heads=p["n_heads"],
        num_hidden_layers=p["n_layers"],
        rms_norm_eps=p["norm_eps"],
        num_key_value_heads=p.get("n_kv_heads", p["n_heads"]),
        vocab_size=case.vocab,
        rope_theta=base,
        rope_scaling=scaling,
        max_position_embeddings=16384 if base > 10000.0 and not third else CONTEXT[case.version],
        bos_token_id=128000 if third else 1,
        eos_token_id=([128001, 128008, 128009] if case.instruct else 128001) if third else 2,
        tie_word_embeddings=case.version == "3.2",
        dtype=case.dtype,
        architectures=["LlamaForCausalLM"],
    )


def model_of(case: Case) -> LlamaForCausalLM:
    """The Hugging Face model, with weights drawn for the case."""
    model = LlamaForCausalLM(config_of(case)).to(case.dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = random_state("meta", case.name, name).standard_normal(tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(drawn.astype(np.float32)).to(case.dtype))
    return model


def unpermute(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """The inverse of the script's `permute`: from halves of a head to neighbours."""
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def meta_tensors(case: Case, model: LlamaForCausalLM) -> dict[str, tuple[torch.Tensor, int | None]]:
    """Meta's name -> the whole tensor, and the dimension it is cut along."""
    state = model.state_dict()
    heads = case.params["n_heads"]
    kv_heads = case.params.get("n_kv_heads", heads)
    tensors = {
        "tok_embeddings.weight": (state["model.embed_tokens.weight"], 0 if case.version.startswith("3") else 1),
        "norm.weight": (state["model.norm.weight"], None),
        "output.weight": (state["lm_head.weight"], 0),
    }
    for i in range(case.params["n_layers"]):
        layer = lambda part: state[f"model.layers.{i}.{part}.weight"]  # noqa: E731
        tensors |= {
            f"layers.{i}.attention.wq.weight": (unpermute(layer("self_attn.q_proj"), heads), 0),
            f"layers.{i}.attention.wk.weight": (unpermute(layer("self_attn.k_proj"), kv_heads), 0),
            f"layers.{i}.attention.wv.weight": (layer("self_attn.v_proj"), 0),
            f"layers.{i}.attention.wo.weight": (layer("self_attn.o_proj"), 1),
            f"layers.{i}.feed_forward.w1.weight": (layer("mlp.gate_proj"), 0),
            f"layers.{i}.feed_forward.w2.weight": (layer("mlp.down_proj"), 1),
            f"layers.{i}.feed_forward.w3.weight": (layer("mlp.up_proj"), 0),
            f"layers.{i}.attention_norm.weight": (layer("input_layernorm"), None),
            f"layers.{i}.ffn_norm.weight": (layer("post_attention_layernorm"), None),
        }
    return tensors


def write(case: Case, out: Path) -> None:
    """Writes the case's folder."""
    folder = out / case.name
    folder.mkdir(parents=True, exist_ok=True)
    model = model_of(case)
    tensors = meta_tensors(case, model)
    head_dim = case.params["dim"] // case.params["n_heads"]
    for shard in range(case.shards):
        held = {}
        for name, (tensor, cut) in tensors.items():
            part = tensor if cut is None else tensor.chunk(case.shards, cut)[shard]
            held[name] = part if case.views else part.clone(memory_format=torch.contiguous_format)
        if case.views:
            # Without cloning a column cut shares its storage with the other shards; one more is stored transposed.
            held["layers.0.feed_forward.w1.weight"] = held["layers.0.feed_forward.w1.weight"].t().contiguous().t()
        held["rope.freqs"] = torch.arange(head_dim // 2, dtype=torch.float32)
        path = folder / f"consolidated.{shard:02}.pth"
        torch.save(held, path, _use_new_zipfile_serialization=not case.legacy)
    (folder / "params.json").write_text(json.dumps(case.params) + "\n")

    expected = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and case.tied:
            continue
        raw = tensor.contiguous().view(torch.uint8).numpy().tobytes()
        expected[name] = {
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "sha256": hashlib.sha256(raw).hexdigest(),
        }
    config = json.loads(config_of(case).to_json_string(use_diff=False))
    # Not written into a folder that is no work of transformers; the rest are defaults of every model of theirs.
    kept = set(json.loads(config_of(case).to_json_string(use_diff=True))) | {"pad_token_id"}
    config = {key: value for key, value in config.items() if key in kept and key != "transformers_version"}
    case_of = {"version": case.version, "instruct": case.instruct}
    text = json.dumps({"case": case_of, "config": config, "tensors": expected}, indent=1, sort_keys=True)
    (folder / "expect.json").write_text(text + "\n")


def verify(case: Case, folder: Path) -> None:
    """Loads a converted folder with transformers and compares every tensor with the model it began with."""
    loaded, info = LlamaForCausalLM.from_pretrained(folder, dtype=case.dtype, output_loading_info=True)
    if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
        raise ValueError(f"{case.name}: {info}")
    original = model_of(case).state_dict()
    for name, tensor in loaded.state_dict().items():
        if not torch.equal(tensor.view(torch.uint8), original[name].view(torch.uint8)):
            raise ValueError(f"{case.name}: {name} differs")
    print(f"{case.name}: transformers loads it, {len(original)} tensors equal")


def main() -> None:
    """Writes every case, or verifies one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--verify", type=Path, help="a folder that was converted from --case")
    parser.add_argument("--case", choices=[case.name for case in CASES])
    arguments = parser.parse_args()
    for case in CASES:
        if arguments.case not in (None, case.name):
            continue
        if arguments.verify:
            verify(case, arguments.verify)
        else:
            write(case, arguments.out)


if __name__ == "__main__":
    main()
