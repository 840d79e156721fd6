"""The forward interface: tiny models with a language-model head and with a classifier's, and what transformers gives.

A fixture is a Hugging Face folder, `forward/NAME`, with `case.toml` and `expect.safetensors` beside the weights: for
each `[[case]]` the tensors `CASE.in.*` that go in and `CASE.out.*` that come out, float64, computed by transformers in
float64 (`oracle.py`) with eager attention and confirmed by `forward_numpy.py`. What comes out in the place of a masked
token is zero there: that is Camelid's rule, not transformers'.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from transformers import LlamaForCausalLM, LlamaForSequenceClassification
from transformers.cache_utils import DynamicCache

import tiny_models
from fixture_io import random_state, read_safetensors, sha256, write_safetensors, write_toml
from forward_numpy import (
    NumpyForward,
    class_loss,
    label_loss,
    packed_mask,
    padded_scores,
    token_loss,
)
from oracle import load_config, max_over_rms, true_float64
from tiny_cases import COMMON

# All different, 26 / 4 is no whole number, and two query heads share a key/value head.
SHAPE = {
    "vocab_size": 41,
    "hidden_size": 26,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "intermediate_size": 34,
    "num_hidden_layers": 2,
    "max_position_embeddings": 48,
}
ROPE = {"rope_theta": 10000.0, "rope_type": "default"}
PAD = 7


@dataclass(frozen=True)
class Call:
    """One forward pass: its options, and its inputs as a function of a seeded generator."""

    name: str
    about: str
    inputs: dict
    hidden_states: bool = False
    attentions: bool = False
    base: bool = False
    use_cache: bool = True
    keep: list[int] | int | None = None
    after: str | None = None  # the call whose tokens are the past


@dataclass(frozen=True)
class Model:
    """A tiny model and the calls made to it."""

    name: str
    description: str
    config: dict
    calls: list[Call]


def _config(**changes) -> dict:
    return copy.deepcopy(COMMON | SHAPE | {"dtype": "bfloat16", "rope_parameters": ROPE} | changes)


def _ids(name: str, batch: int, tokens: int, vocab: int = SHAPE["vocab_size"]) -> np.ndarray:
    return random_state("forward", name).randint(0, vocab, (batch, tokens)).astype(np.int64)


def _labels(name: str, batch: int, tokens: int) -> np.ndarray:
    """Token ids, a quarter of them -100."""
    state = random_state("forward", name, "labels")
    labels = state.randint(0, SHAPE["vocab_size"], (batch, tokens)).astype(np.int64)
    labels[state.uniform(size=labels.shape) < 0.25] = -100
    labels[0, 1] = 3
    return labels


def _rows(*rows: str) -> np.ndarray:
    return np.array([[int(c) for c in row] for row in rows], dtype=np.int64)


def _mixed_scores(tokens: int) -> np.ndarray:
    """A 4-D mask of numbers: biases, minus infinities, and a row of nothing but the least float32."""
    state = random_state("forward", "additive")
    added = state.standard_normal((2, 1, tokens, tokens)).astype(np.float32)
    added[state.uniform(size=added.shape) < 0.3] = -np.inf
    added[..., np.arange(tokens), np.arange(tokens)] = 0.5
    added[1, 0, 2] = np.finfo(np.float32).min
    return added


def _tree(tokens: int) -> np.ndarray:
    """Who may look at whom, in a way that no causal mask does: some look ahead."""
    state = random_state("forward", "tree")
    seen = state.uniform(size=(2, 1, tokens, tokens)) < 0.5
    seen[..., np.arange(tokens), np.arange(tokens)] = True
    return seen.astype(np.uint8)


LEFT = _rows("0001111", "1111111", "0000011")
RIGHT = _rows("1111000", "1111111", "1000000")
HOLES = _rows("0110101", "0000000", "1101110")


def _positions_of(mask: np.ndarray) -> np.ndarray:
    return np.maximum(np.cumsum(mask, axis=1) - 1, 0)


def _padded(labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Labels as a data collator makes them: none for padding."""
    return np.where(mask == 1, labels, -100)


CAUSAL = Model(
    "causal",
    "the forward interface of LlamaModel and LlamaForCausalLM",
    _config(),
    [
        Call(
            "all_outputs",
            "logits, loss, hidden states and attentions of whole rows",
            {"input_ids": _ids("all", 2, 7), "labels": _labels("all", 2, 7)},
            hidden_states=True,
            attentions=True,
        ),
        Call(
            "left_padding",
            "padding on the left; its tokens keep their positions, and the loss asks one of them",
            {"input_ids": _ids("left", 3, 7), "attention_mask": LEFT, "labels": _padded(_ids("left", 3, 7), LEFT)},
            hidden_states=True,
            attentions=True,
        ),
        Call(
            "right_padding",
            "padding on the right",
            {"input_ids": _ids("right", 3, 7), "attention_mask": RIGHT, "labels": _padded(_ids("right", 3, 7), RIGHT)},
            hidden_states=True,
        ),
        Call(
            "holes",
            "masked tokens in the middle, a row of nothing else, and positions that leave them out",
            {"input_ids": _ids("holes", 3, 7), "attention_mask": HOLES, "position_ids": _positions_of(HOLES)},
            attentions=True,
        ),
        Call(
            "positions",
            "positions in no order, the same for both rows",
            {"input_ids": _ids("positions", 2, 6), "position_ids": _rows("930514")},
            hidden_states=True,
        ),
        Call(
            "embeddings",
            "embeddings in place of ids, with padding",
            {
                "inputs_embeds": random_state("forward", "embeds").standard_normal((3, 7, 26)).astype(np.float32),
                "attention_mask": LEFT,
            },
            hidden_states=True,
        ),
        Call(
            "last_two",
            "logits_to_keep as a number, and the loss of what is kept",
            {"input_ids": _ids("last", 2, 6), "labels": _labels("last", 2, 2)},
            keep=2,
        ),
        Call(
            "chosen",
            "logits_to_keep as a list, out of order and with one index twice",
            {"input_ids": _ids("chosen", 2, 6), "labels": _labels("chosen", 2, 4)},
            keep=[4, -1, 0, 4],
        ),
        Call(
            "base_model",
            "the last hidden state, without the head",
            {"input_ids": _ids("base", 3, 7), "attention_mask": RIGHT},
            base=True,
        ),
        Call(
            "mask_4d",
            "a mask that says who looks at whom, later tokens among them",
            {"input_ids": _ids("tree", 2, 7), "attention_mask": _tree(7)},
            attentions=True,
        ),
        Call(
            "mask_4d_numbers",
            "a mask of numbers to add: biases, minus infinities, a row of the least number",
            {"input_ids": _ids("additive", 2, 7), "attention_mask": _mixed_scores(7)},
            hidden_states=True,
        ),
        Call(
            "packed",
            "without a cache, positions that start again begin another sequence",
            {"input_ids": _ids("packed", 2, 7), "position_ids": _rows("0120123", "0123456")},
            use_cache=False,
        ),
        Call(
            "past_first",
            "what the next calls continue: padded rows",
            {"input_ids": _ids("past", 3, 7), "attention_mask": LEFT},
        ),
        Call(
            "past_next",
            "more tokens after a padded past, which the mask goes on hiding",
            {"input_ids": _ids("next", 3, 2), "attention_mask": np.concatenate([LEFT, _rows("11", "11", "11")], axis=1)},
            hidden_states=True,
            attentions=True,
            after="past_first",
        ),
        Call(
            "past_hidden",
            "a mask that hides tokens of the past that were there",
            {
                "input_ids": _ids("hide", 3, 2),
                "attention_mask": np.concatenate([LEFT * _rows("1111011"), _rows("11", "11", "11")], axis=1),
            },
            after="past_first",
        ),
    ],
)

_CLASS_IDS = np.array(
    [[3, 9, 12, PAD, PAD], [PAD, PAD, 4, 5, 6], [1, PAD, 8, PAD, PAD], [PAD] * 5, [2, PAD, PAD, PAD, PAD]], dtype=np.int64
)
_CLASS_MASK = _rows("11100", "00111", "11100", "11111", "10000")

CLASSIFIERS = [
    Model(
        "classifier",
        "LlamaForSequenceClassification with three labels",
        _config(
            architectures=["LlamaForSequenceClassification"],
            id2label={"0": "bad", "1": "fair", "2": "good"},
            label2id={"bad": 0, "fair": 1, "good": 2},
            num_hidden_layers=1,
            pad_token_id=PAD,
        ),
        [
            Call(
                "classes",
                "the rightmost token that is not padding, left and right; a row of padding; cross entropy",
                {"input_ids": _CLASS_IDS, "labels": np.array([2, 0, 1, -100, 2], dtype=np.int64)},
                hidden_states=True,
            ),
            Call(
                "masked",
                "the same with the padding masked, and labels that are numbers: binary cross entropy",
                {
                    "input_ids": _CLASS_IDS,
                    "attention_mask": _CLASS_MASK,
                    "labels": random_state("forward", "soft").randint(0, 2, (5, 3)).astype(np.float32),
                },
            ),
            Call(
                "embeddings",
                "of embeddings the last position is classified",
                {"inputs_embeds": random_state("forward", "class").standard_normal((2, 4, 26)).astype(np.float32)},
                attentions=True,
            ),
            Call(
                "masked_token",
                "the token that is classified is masked: it is computed nevertheless",
                {"input_ids": _CLASS_IDS[:2], "attention_mask": _rows("11000", "00110")},
            ),
        ],
    ),
    Model(
        "regressor",
        "one label is a regression; without a padding token one row alone",
        _config(
            architectures=["LlamaForSequenceClassification"],
            id2label={"0": "stars"},
            label2id={"stars": 0},
            num_hidden_layers=1,
        ),
        [
            Call(
                "number",
                "the last token, and the squared error",
                {"input_ids": _ids("number", 1, 6), "labels": np.array([0.75], dtype=np.float32)},
            )
        ],
    ),
    Model(
        "multilabel",
        "four labels that each may hold, by problem_type",
        _config(
            architectures=["LlamaForSequenceClassification"],
            id2label={str(i): f"topic {i}" for i in range(4)},
            label2id={f"topic {i}": i for i in range(4)},
            num_hidden_layers=1,
            pad_token_id=PAD,
            problem_type="multi_label_classification",
        ),
        [
            Call(
                "labels",
                "binary cross entropy of every label",
                {"input_ids": _CLASS_IDS[:3], "labels": _rows("1010", "0001", "1111").astype(np.float32)},
            )
        ],
    ),
]

MODELS = [CAUSAL, *CLASSIFIERS]


def make(model: Model, folder: Path) -> None:
    """Writes config.json, the weights, expect.safetensors and case.toml into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_models._write_config(model.config, folder)
    _write_weights(model, folder)
    with true_float64():
        oracle = _Oracle(folder, model.config)
        expect = {}
        for call in model.calls:
            expect |= {f"{call.name}.in.{name}": value for name, value in call.inputs.items()}
            expect |= {f"{call.name}.out.{name}": value for name, value in oracle.run(call).items()}
    _confirm(model, folder, expect)
    write_safetensors(folder / "expect.safetensors", expect)
    files = sorted(path for path in folder.iterdir() if path.name != "case.toml")
    write_toml(
        folder / "case.toml",
        {"id": f"forward/{model.name}", "level": "model", "description": model.description, "since": "0.1"},
        [
            ("tolerances", {"max_over_rms": tiny_models.MAX_OVER_RMS}),
            ("sha256", {path.name: sha256(path) for path in files}),
            *(("[call]", _entries(call)) for call in model.calls),
        ],
        "Made by conformance/reference/make.py; forward_cases.py there explains every tensor of expect.safetensors.",
    )


def _entries(call: Call) -> dict:
    entries = {"name": call.name, "about": call.about}
    for flag in ("hidden_states", "attentions", "base"):
        if getattr(call, flag):
            entries[flag] = True
    if not call.use_cache:
        entries["use_cache"] = False
    if call.keep is not None:
        entries["keep_last" if isinstance(call.keep, int) else "keep"] = call.keep
    if call.after:
        entries["after"] = call.after
    return entries


def _write_weights(model: Model, folder: Path) -> None:
    shapes = tiny_models._shapes(model.config)
    if "id2label" in model.config:
        del shapes["lm_head.weight"]
        shapes["score.weight"] = (len(model.config["id2label"]), model.config["hidden_size"])
    draw = lambda name, shape: torch.from_numpy(tiny_models._draw(f"forward/{model.name}", name, shape, False))
    tensors = {name: draw(name, shape).to(torch.bfloat16) for name, shape in shapes.items()}
    (folder / "model.safetensors").write_bytes(save(tensors, {"format": "pt"}))


class _Oracle:
    """transformers' model of a folder. Make and use it inside `true_float64()`."""

    def __init__(self, folder: Path, config: dict):
        kind = LlamaForSequenceClassification if "id2label" in config else LlamaForCausalLM
        self.model, info = kind.from_pretrained(
            folder,
            config=load_config(folder),
            dtype=torch.float64,
            attn_implementation="eager",
            output_loading_info=True,
        )
        problems = {what: found for what, found in info.items() if found}
        if problems:
            raise ValueError(f"{folder}: transformers did not take the checkpoint as it is: {problems}")
        self.model.eval()
        rotary = self.model.model.rotary_emb
        fresh = type(rotary)(self.model.config)
        rotary.inv_freq, rotary.original_inv_freq = fresh.inv_freq, fresh.original_inv_freq
        self.pasts: dict[str, DynamicCache] = {}

    @torch.no_grad()
    def run(self, call: Call) -> dict[str, np.ndarray]:
        """What comes out, float64, with zeros in the place of masked tokens."""
        tensors = {name: torch.from_numpy(value) for name, value in call.inputs.items()}
        for name, value in tensors.items():
            if value.is_floating_point():
                tensors[name] = value.double()
        mask = tensors.get("attention_mask")
        if mask is not None and mask.ndim == 4 and not mask.is_floating_point():
            # Eager attention adds what it is given; `true` means that the score stays.
            least = torch.tensor(torch.finfo(torch.float64).min, dtype=torch.float64)
            tensors["attention_mask"] = torch.where(mask != 0, torch.zeros_like(least), least)
        arguments = dict(
            tensors,
            use_cache=call.use_cache,
            output_hidden_states=call.hidden_states,
            output_attentions=call.attentions,
        )
        if call.use_cache:
            cache = copy.deepcopy(self.pasts[call.after]) if call.after else DynamicCache()
            arguments["past_key_values"] = cache
        if call.keep is not None:
            arguments["logits_to_keep"] = call.keep if isinstance(call.keep, int) else torch.tensor(call.keep)
        problem = self.model.config.problem_type
        out = (self.model.model if call.base else self.model)(**arguments)
        self.model.config.problem_type = problem  # transformers keeps what it inferred
        if call.use_cache:
            self.pasts[call.name] = cache
        results = {}
        if call.base:
            results["last_hidden_state"] = out.last_hidden_state
        else:
            results["logits"] = out.logits
            if out.loss is not None:
                results["loss"] = out.loss.reshape(1)
        if call.hidden_states:
            results["hidden_states"] = torch.stack(out.hidden_states)
        if call.attentions:
            results["attentions"] = torch.stack(out.attentions)
        return without_masked(call, {name: value.double().numpy().copy() for name, value in results.items()})


def masked(call: Call) -> np.ndarray | None:
    """Which new tokens are masked, [B, T]."""
    mask = call.inputs.get("attention_mask")
    if mask is None or mask.ndim != 2:
        return None
    given = call.inputs.get("input_ids", call.inputs.get("inputs_embeds"))
    return mask[:, -given.shape[1] :] == 0


def kept(call: Call, tokens: int) -> np.ndarray:
    """The positions that give logits, [K]."""
    if call.keep is None:
        return np.arange(tokens)
    return np.arange(tokens)[-call.keep :] if isinstance(call.keep, int) else np.arange(tokens)[call.keep]


def without_masked(call: Call, results: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Zeros in the place of masked tokens."""
    gone = masked(call)
    if gone is None:
        return results
    for name, value in results.items():
        if name == "hidden_states":
            value[:, gone] = 0.0
        elif name == "last_hidden_state":
            value[gone] = 0.0
        elif name == "attentions":
            value.transpose(0, 1, 3, 2, 4)[:, gone] = 0.0
        elif name == "logits" and value.ndim == 3:
            value[gone[:, kept(call, gone.shape[1])]] = 0.0
    return results


def _confirm(model: Model, folder: Path, expect: dict[str, np.ndarray]) -> None:
    """NumPy must give the same from the stored weights."""
    stored = {name: np.asarray(v, dtype=np.float64) for name, v in read_safetensors(folder / "model.safetensors").items()}
    head = stored.get("lm_head.weight", stored.get("score.weight"))
    numpy = NumpyForward(model.config, stored)
    pasts = {}
    for call in model.calls:
        results, pasts[call.name] = _by_numpy(numpy, model.config, head, call, pasts.get(call.after))
        for name, value in without_masked(call, results).items():
            error = max_over_rms(value, expect[f"{call.name}.out.{name}"])
            if not error <= tiny_models.AGREEMENT * (1e3 if name == "loss" else 1.0):
                # transformers computes the loss of a language model in float32.
                raise ValueError(f"{folder.name}: {call.name}: NumPy and transformers differ in {name} by {error:.1e}")
        missing = {n.split(".out.")[1] for n in expect if n.startswith(f"{call.name}.out.")} - set(results)
        if missing:
            raise ValueError(f"{folder.name}: {call.name}: nothing confirms {sorted(missing)}")


def _by_numpy(numpy: NumpyForward, config: dict, head: np.ndarray, call: Call, past):
    inputs = call.inputs
    x = np.asarray(inputs["inputs_embeds"], dtype=np.float64) if "inputs_embeds" in inputs else numpy.embed(inputs["input_ids"])
    batch, tokens, _ = x.shape
    before = past[0][0].shape[1] if past else 0
    positions = inputs.get("position_ids", np.arange(before, before + tokens)[None])
    positions = np.broadcast_to(positions, (batch, tokens))
    mask = inputs.get("attention_mask")
    if mask is None:
        added = padded_scores(np.ones((batch, before + tokens)), before)
        if not call.use_cache:
            added = np.where(packed_mask(positions), 0.0, -np.inf)
    elif mask.ndim == 2:
        added = padded_scores(mask, before)
    else:
        added = mask.astype(np.float64) if mask.dtype.kind == "f" else np.where(mask != 0, 0.0, -np.inf)
    hidden, attentions, after = numpy.run(x, positions, added, past)
    results = {}
    if call.hidden_states:
        results["hidden_states"] = np.stack(hidden)
    if call.attentions:
        results["attentions"] = np.stack(attentions)
    labels = inputs.get("labels")
    if call.base:
        results["last_hidden_state"] = hidden[-1].copy()
    elif "id2label" not in config:
        results["logits"] = hidden[-1][:, kept(call, tokens)] @ head.T
        if labels is not None:
            results["loss"] = np.array([token_loss(results["logits"], labels)])
    else:
        at = [tokens - 1] * batch
        if "input_ids" in inputs and config["pad_token_id"] is not None:
            at = [max(np.flatnonzero(row != config["pad_token_id"]), default=0) for row in inputs["input_ids"]]
        pooled = hidden[-1][np.arange(batch), at] @ head.T
        results["logits"] = pooled
        if labels is not None:
            if pooled.shape[1] == 1:
                loss = np.mean((pooled[:, 0] - labels) ** 2)
            elif labels.dtype.kind == "i":
                loss = np.mean([class_loss(r, c) for r, c in zip(pooled, labels, strict=True) if c != -100])
            else:
                loss = label_loss(pooled, labels)
            results["loss"] = np.array([loss])
    return results, after
