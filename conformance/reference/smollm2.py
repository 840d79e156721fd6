"""Goldens of a real model: SmolLM2-135M-Instruct in Q4_1, dequantized and run in float64."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import DynamicCache, LlamaForCausalLM

from fixture_io import random_state, sha256, write_safetensors, write_toml
from gguf_llama import GgufLlama
from numpy_llama import NumpyLlama
from oracle import Oracle, max_over_rms, top_gap, true_float64

GREEDY_STEPS = 32
COLUMNS = 512
MAX_ABS = 1e-3
# The two float64 references have thirty layers of rounding between them.
AGREEMENT = 1e-9

# The file the goldens belong to, and what its authors' package publishes it as.
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


@dataclass(frozen=True)
class Prompt:
    """A prompt: plain text to be continued, or a user's message to be put into the chat template."""

    name: str
    text: str
    chat: bool = False
    # The ids that the first tokens of the continuation must have, where they are known beforehand.
    known_tokens: tuple[int, ...] = ()


_LONG = """\
The lighthouse at the end of the northern pier was built in 1871, after two grain ships had been lost on the sandbank \
in a single winter. Its first keeper, a retired schoolmaster, kept a diary in which he wrote down the weather three \
times a day, the names of passing vessels, and, now and then, a few lines about the birds that struck the glass at \
night. The diary was thought lost until the tower was restored, when a carpenter found it behind a panel of the lamp \
room, wrapped in oilcloth and hardly damaged. It covers eleven years without a gap. Historians of the coast value it \
for the shipping, but meteorologists value it more: there is no other record of air pressure and wind from that shore \
before 1890, and the readings turn out to be careful and consistent. The keeper had no instruments of his own. He \
borrowed a barometer from the harbour master, checked it against a second one every spring, and noted the difference. \
When storms came he read it every hour. On the night of the great flood he made nineteen entries, the last of them in \
pencil because the ink had frozen. Today the diary lies in the town's museum, open at that page, beside the barometer. \
A copy was printed for schools, and every year the oldest pupils compare one month of it with the figures of the \
automatic station that now stands at the foot of the tower. The exercise shows them two things. The first is that the \
winters have become milder. The second is"""

PROMPTS = [
    Prompt("capital", "What is the capital of France?", True, (504, 3575, 282, 4649, 314, 7042, 30, 2)),
    Prompt("english", "Once upon a time, in a village between two rivers, there lived a clockmaker who"),
    Prompt("code", 'def is_prime(n: int) -> bool:\n    """Return True if n is a prime number."""\n    if n < 2:\n'),
    Prompt("digits", "How much is 1234 + 5678? Then subtract 90.", True),
    Prompt("unicode", "Übersetze ins Englische: «Die Straße ist 5 km lang — 日本語もOK 🙂, naïve café, Ελλάδα ½.»", True),
    Prompt("long", _LONG),
]


def make(gguf_path: Path, out: Path) -> None:
    """Writes `out/smollm2.safetensors` and `out/smollm2.toml`."""
    log = logging.getLogger("reference")
    found = sha256(gguf_path)
    if found != GGUF_SHA256:
        raise ValueError(f"{gguf_path}: SHA-256 is {found}, the goldens belong to {GGUF_SHA256}")
    source = GgufLlama(gguf_path)
    weights = source.weights()
    _compare_with_transformers_loader(gguf_path, weights)
    log.info("smollm2: transformers' GGUF loader gives the same %d tensors bit for bit", len(weights))
    second = NumpyLlama(source.config(), weights)
    tokenizer = source.tokenizer()

    columns = np.sort(random_state("smollm2", "columns").permutation(source.config()["vocab_size"])[:COLUMNS])
    tensors = {"columns": columns.astype(np.int64)}
    tables = [("tolerances", {"max_abs": MAX_ABS})]
    with true_float64():
        oracle = Oracle(source.model(weights))
        oracle.refresh_frequencies()
        for k, prompt in enumerate(PROMPTS):
            text = prompt.text
            if prompt.chat:
                message = [{"role": "user", "content": text}]
                text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
            ids = np.array([tokenizer.encode(text, add_special_tokens=False)], dtype=np.int64)
            if tokenizer.decode(ids[0], clean_up_tokenization_spaces=False) != text:
                raise ValueError(f"smollm2 {prompt.name}: the ids don't decode to the prompt")
            tokens = _greedy(oracle.model, ids)
            logits, gaps = _confirm(oracle, prompt, ids, tokens)
            difference = max_over_rms(second.logits(ids), logits)
            log.info("smollm2 %s: %d tokens, NumPy %.1e, least gap %.2e", prompt.name, ids.size, difference, gaps.min())
            if not difference <= AGREEMENT:
                raise ValueError(f"smollm2 {prompt.name}: NumPy and transformers differ by {difference:.1e} of the rms")

            rows = np.array([0, ids.size // 2], dtype=np.int64)
            eos = np.flatnonzero(tokens == source.field("tokenizer.ggml.eos_token_id"))
            stop = int(eos[0]) + 1 if len(eos) else len(tokens)
            tensors |= {
                f"p{k}.input_ids": ids,
                f"p{k}.logits": logits[:, -1:].astype(np.float32),
                f"p{k}.rows": rows,
                f"p{k}.row_logits": logits[:, rows][:, :, columns].astype(np.float32),
                f"g{k}.tokens": tokens,
                f"g{k}.gap": gaps,
                f"g{k}.stop": np.array([stop], dtype=np.int64),
            }
            tables.append((
                "[prompt]",
                {
                    "name": prompt.name,
                    "chat": prompt.chat,
                    "text": prompt.text,
                    **({"rendered": text} if prompt.chat else {}),
                    "prompt_tokens": ids.size,
                    "generated_text": tokenizer.decode(tokens[:stop], clean_up_tokenization_spaces=False),
                },
            ))
    out.mkdir(parents=True, exist_ok=True)
    write_safetensors(out / "smollm2.safetensors", tensors)
    tables.insert(1, ("sha256", {"smollm2.safetensors": sha256(out / "smollm2.safetensors")}))
    tables.insert(1, ("model", {"file": gguf_path.name, "sha256": found}))
    write_toml(
        out / "smollm2.toml",
        {
            "id": "real/smollm2",
            "level": "real",
            "description": "SmolLM2-135M-Instruct, Q4_1 dequantized, float64: prompts, greedy tokens, logits",
            "since": "0.1",
        },
        tables,
        "Made by conformance/reference/make.py. The n-th prompt below is p<n>.* and g<n>.* of smollm2.safetensors.",
    )


def _compare_with_transformers_loader(path: Path, weights: dict[str, np.ndarray]) -> None:
    """transformers' own GGUF reader must give the same parameters, bit for bit, and the same geometry."""
    loaded = LlamaForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    parameters = dict(loaded.named_parameters())
    if set(parameters) != set(weights):
        raise ValueError(f"names differ: {sorted(set(parameters) ^ set(weights))[:6]}")
    for name, values in weights.items():
        if not np.array_equal(parameters[name].detach().numpy(), values):
            raise ValueError(f"{name}: transformers' GGUF loader gives other values than the direct mapping")
    for key, value in GgufLlama(path).config().items():
        theirs = getattr(loaded.config, key)
        if theirs != value:
            raise ValueError(f"config {key}: transformers' GGUF loader says {theirs!r}, the direct mapping {value!r}")


@torch.no_grad()
def _greedy(model: LlamaForCausalLM, ids: np.ndarray) -> np.ndarray:
    """32 greedy tokens with a float64 cache, through any end of sequence; `_confirm` checks them without a cache."""
    cache = DynamicCache(config=model.config)
    step, tokens = torch.from_numpy(ids), []
    for _ in range(GREEDY_STEPS):
        logits = model(step, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        tokens.append(int(logits[0, -1].argmax()))
        step = torch.tensor([[tokens[-1]]])
    return np.array(tokens, dtype=np.int64)


def _confirm(oracle: Oracle, prompt: Prompt, ids: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One uncached forward over prompt and continuation, in which every token must be its row's best.

    Since no row sees later tokens, that is what a full forward for each step would give. Returns the prompt's logits
    [1, T, V] and the gaps [32].
    """
    length = ids.shape[1]
    logits = oracle.logits(np.concatenate([ids, tokens[None, :-1]], axis=1))
    rows = logits[0, length - 1 :]
    if not np.array_equal(rows.argmax(axis=-1), tokens):
        raise ValueError(f"smollm2 {prompt.name}: the cached and the uncached greedy tokens differ")
    known = prompt.known_tokens
    if tuple(tokens[: len(known)]) != known:
        raise ValueError(f"smollm2 {prompt.name}: the tokens begin {tokens[: len(known)]}, expected {known}")
    return logits[:, :length], np.array([top_gap(row) for row in rows])
