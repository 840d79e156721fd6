"""What transformers' generate() gives in float64: rules for tokens on fixed logits, and whole searches on the tiny models.

`generate/processors.toml` holds logits and what is left of them after the processors that `generate` would make for a
configuration, in its order. `generate/searches.toml` holds prompts for models of the suite, a configuration, and the
texts that come of it, greedy or by beams, with the beams' scores. Configurations are spelled as in
generation_config.json.

generate() casts logits to float32 whatever the model's dtype, and keeps sums and biases in float32; `double_generate`
undoes that as `oracle.true_float64` does for the model. Where two texts are nearly as good, float32 may take the other:
prompts are drawn until every choice of a search (between the best tokens, between continuations, between finished
texts, whether to go on) is further than `MIN_GAP_OVER_RMS` of the logits' rms from being another one.
"""

import contextlib
import json
import logging
from pathlib import Path

import numpy as np
import torch
from transformers import GenerationConfig
from transformers.generation import logits_process
from transformers.generation import utils as generation_utils

import sampling_cases
import tiny_cases
from fixture_io import random_state
from oracle import Oracle, _TorchInDouble, true_float64
from tiny_models import MIN_GAP_OVER_RMS

PROCESSORS = "generate/processors"
SEARCHES = "generate/searches"

# Models of the searches: fast ones, and one with two end-of-sequence tokens.
MODELS = ("bias", "gqa", "eos_list")


class _Recorder(_TorchInDouble):
    """torch in double, whose topk notes how near the last of the best `num_beams` is to the next.

    Beam search asks for the best continuations, of which the first `num_beams` may end, for the best of those that go
    on, and for the best of those that have ended: each time that border is what decides.
    """

    def __init__(self, num_beams: int):
        self.num_beams, self.nearest = num_beams, float("inf")

    def topk(self, values, k, *args, **kwargs):
        best = torch.topk(values, min(self.num_beams + 1, values.shape[-1]))[0][..., -2:]
        # What does not exist yet, or has ended already, is far behind.
        if self.num_beams > 1 and best.numel() == 2 and (best > -1e8).all():
            self.note(float(best[0, 0] - best[0, 1]))
        return torch.topk(values, k, *args, **kwargs)

    def note(self, gap: float) -> None:
        self.nearest = min(self.nearest, gap)


@contextlib.contextmanager
def double_generate(num_beams: int = 1):
    """While entered, generate() computes in float64; yields what notes the nearest choices."""
    recorder = _Recorder(num_beams)
    mixin = generation_utils.GenerationMixin
    check, dtype = mixin._check_early_stop_heuristic, torch.get_default_dtype()

    def checked(**kwargs):
        running, finished = kwargs["running_beam_scores"][0, 0], kwargs["beam_scores"].min()
        if kwargs["is_sent_finished"].all() and running > -1e8:
            never = kwargs["early_stopping"] == "never" and kwargs["length_penalty"] > 0.0
            length = (kwargs["max_length"] if never else kwargs["cur_len"]) - kwargs["decoder_prompt_len"]
            recorder.note(abs(float(running / length ** kwargs["length_penalty"] - finished)))
        return check(**kwargs)

    generation_utils.torch = logits_process.torch = recorder
    mixin._check_early_stop_heuristic = staticmethod(checked)
    torch.set_default_dtype(torch.float64)
    try:
        yield recorder
    finally:
        generation_utils.torch = logits_process.torch = torch
        mixin._check_early_stop_heuristic = staticmethod(check)
        torch.set_default_dtype(dtype)


def search(model, prompt: list[int], config: dict, eos: list[int], max_new_tokens: int):
    """Texts without prompt and padding, their scores (None without beams), and the nearest choice over the logits' rms."""
    ids, num_beams = torch.tensor([prompt]), config.get("num_beams", 1)
    with double_generate(num_beams) as recorder:
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, eos_token_id=eos or None,
            pad_token_id=0, return_dict_in_generate=True, output_scores=True, output_logits=True,
            **_python(config),
        )
    rms = float(torch.cat(out.logits).pow(2).mean().sqrt())
    scores = [float(s) for s in out.sequences_scores] if num_beams > 1 else None
    for better, worse in zip(scores or [], (scores or [])[1:]):
        recorder.note(better - worse)
    if num_beams == 1:
        for step in out.scores:
            best = torch.topk(step[0], 2)[0]
            if torch.isfinite(best).all():
                recorder.note(float(best[0] - best[1]))
    texts = [_cut(row[len(prompt):], eos) for row in out.sequences.tolist()]
    return texts, scores, recorder.nearest / rms


def _cut(tokens: list[int], eos: list[int]) -> list[int]:
    """Without what was filled up behind the end."""
    ends = [i for i, token in enumerate(tokens) if token in eos]
    return tokens[: ends[0] + 1] if ends else tokens


def _python(config: dict) -> dict:
    """JSON has no tuples, and generate() wants some: as a list, a sequence bias may not have token 0."""
    config = dict(config)
    if pair := config.get("exponential_decay_length_penalty"):
        config["exponential_decay_length_penalty"] = tuple(pair)
    if pairs := config.get("sequence_bias"):
        config["sequence_bias"] = {tuple(tokens): bias for tokens, bias in pairs}
    return config


def processed(model, logits, config: dict, eos, history, prompt_len: int, max_new_tokens: int, beams: bool):
    """float64 scores after the processors that generate() makes for the configuration."""
    generation = GenerationConfig(**_python(config), eos_token_id=eos or None, max_new_tokens=max_new_tokens)
    generation.update(**GenerationConfig._get_default_generation_params(), defaults_only=True)
    if beams:
        generation.num_beams = 3
    prompt = torch.tensor([history[:prompt_len]])
    with double_generate():
        model._prepare_special_tokens(generation, True, device="cpu")
        generation = model._prepare_generated_length(
            generation, has_default_max_length=True, has_default_min_length="min_length" not in config,
            model_input_name="input_ids", input_ids_length=prompt_len, inputs_tensor=prompt,
        )
        processors = model._get_logits_processor(
            generation, input_ids_seq_length=prompt_len, encoder_input_ids=prompt, device="cpu"
        )
        scores = torch.tensor([logits], dtype=torch.float64)
        if beams:
            scores = torch.log_softmax(scores, -1)
        return processors(torch.tensor([history]), scores)[0].numpy()


HISTORY = [4, 9, 9, 0, 17, 4, 4, 30, 2, 9, 31, 9, 0]
SAMPLE = {"do_sample": True, "top_k": 0}

# (group, configuration, history, length of the prompt, most new tokens)
_RULES = [
    ("ngram", {"no_repeat_ngram_size": 1}, HISTORY, 5, 20),
    ("ngram", {"no_repeat_ngram_size": 2}, HISTORY, 5, 20),
    ("ngram", {"no_repeat_ngram_size": 3}, [4, 9, 31, 2, 4, 9], 2, 20),
    ("ngram", {"no_repeat_ngram_size": 7}, [4, 9, 31], 2, 20),
    ("ngram", {"encoder_no_repeat_ngram_size": 2}, HISTORY, 3, 20),
    ("ngram", {"encoder_no_repeat_ngram_size": 1, "no_repeat_ngram_size": 2}, HISTORY, 4, 20),
    ("bad_words", {"bad_words_ids": [[31], [2], [5, 31], [9, 0, 5]]}, HISTORY, 3, 20),
    ("bad_words", {"bad_words_ids": [[3, 31], [3, 5]]}, [3], 1, 20),
    ("bad_words", {"bad_words_ids": [[3, 31], [7, 3, 5]]}, [7, 3], 1, 20),
    ("sequence_bias", {"sequence_bias": [[[31], -2.5], [[9, 0, 5], 3.5], [[0, 5], 0.5], [[17, 5], 9.0]]}, HISTORY, 3, 20),
    ("sequence_bias", {"sequence_bias": [[[5], -64.0], [[40], 4.25]], "repetition_penalty": 1.5}, HISTORY, 3, 20),
    ("min_length", {"min_length": 14}, HISTORY, 3, 20),
    ("min_length", {"min_length": 13}, HISTORY, 3, 20),
    ("min_length", {"min_new_tokens": 11}, HISTORY, 3, 20),
    ("min_length", {"min_new_tokens": 10}, HISTORY, 3, 20),
    ("min_length", {"min_new_tokens": 1, "min_length": 40}, HISTORY, 3, 20),
    ("forced_bos", {"forced_bos_token_id": 7}, [5], 1, 20),
    ("forced_bos", {"forced_bos_token_id": 7}, [5, 7], 1, 20),
    ("forced_bos", {"forced_bos_token_id": 7, "begin_suppress_tokens": [5, 31]}, [5, 7], 1, 20),
    ("forced_bos", {"forced_bos_token_id": 7, "begin_suppress_tokens": [5, 31]}, [5, 7], 2, 20),
    ("forced_eos", {"forced_eos_token_id": 3}, HISTORY, 3, 11),
    ("forced_eos", {"forced_eos_token_id": [3, 31]}, HISTORY, 3, 11),
    ("forced_eos", {"forced_eos_token_id": 3}, HISTORY, 3, 12),
    ("decay", {"exponential_decay_length_penalty": [3, 1.2]}, HISTORY, 3, 20),
    ("decay", {"exponential_decay_length_penalty": [10, 1.2]}, HISTORY, 3, 20),
    ("decay", {"exponential_decay_length_penalty": [0, 0.9], "repetition_penalty": 1.3}, HISTORY, 3, 20),
    ("suppress", {"suppress_tokens": [5, 31, 500]}, HISTORY, 3, 20),
    ("suppress", {"begin_suppress_tokens": [5, 31]}, HISTORY, 13, 20),
    ("suppress", {"begin_suppress_tokens": [5, 31]}, HISTORY, 12, 20),
    ("encoder_penalty", {"encoder_repetition_penalty": 1.7}, HISTORY, 5, 20),
    ("encoder_penalty", {"encoder_repetition_penalty": 0.6, "repetition_penalty": 1.4}, HISTORY, 5, 20),
    ("order", {"no_repeat_ngram_size": 2, "bad_words_ids": [[5]], "min_new_tokens": 8, "suppress_tokens": [1],
               "exponential_decay_length_penalty": [4, 1.1], "repetition_penalty": 1.2,
               "sequence_bias": [[[0, 8], 2.0]]}, HISTORY, 5, 40),
    ("order", {"forced_eos_token_id": 3, "suppress_tokens": [5], "sequence_bias": [[[3], -2.0]]}, HISTORY, 3, 11),
]

_FILTERS = [
    ("typical", {"typical_p": p}) for p in (0.05, 0.2, 0.5, 0.9, 0.999)
] + [
    ("epsilon", {"epsilon_cutoff": p}) for p in (0.001, 0.02, 0.1, 0.9)
] + [
    ("eta", {"eta_cutoff": p}) for p in (0.0005, 0.01, 0.1, 0.6)
] + [
    ("top_h", {"top_h": p}) for p in (0.05, 0.3, 0.5, 0.8)
] + [
    ("filters", {"temperature": 1.7, "top_k": 20, "top_p": 0.9, "typical_p": 0.8}),
    ("filters", {"temperature": 0.6, "typical_p": 0.6, "epsilon_cutoff": 0.03}),
    ("filters", {"temperature": 2.5, "top_p": 0.95, "min_p": 0.05, "eta_cutoff": 0.02}),
    ("filters", {"temperature": 1.4, "top_h": 0.7, "top_k": 9, "top_p": 0.9}),
    ("filters", {"top_k": 3, "top_p": 0.3, "min_p": 0.9, "typical_p": 0.2}),
    ("filters", {"top_k": 12, "typical_p": 0.7, "renormalize_logits": True, "temperature": 1.5}),
    ("filters", {"repetition_penalty": 1.8, "no_repeat_ngram_size": 2, "temperature": 0.8, "typical_p": 0.9}),
]


def _rule_cases():
    """Everything on fixed logits: (group, name of the logits, configuration, history, prompt, new tokens, beams)."""
    for group, config, history, prompt, most in _RULES:
        yield group, "smooth", config, history, prompt, most, False
        yield group, "smooth", SAMPLE | config, history, prompt, most, False
        yield group, "smooth", config, history, prompt, most, True
    for group, config in _FILTERS:
        for logits in ("smooth", "peaked", "forbidden"):
            yield group, logits, SAMPLE | config, HISTORY, 5, 20, False
        yield group, "smooth", SAMPLE | config, HISTORY, 5, 20, True


def make_processors(suite: Path, out: Path) -> Path:
    """Writes `generate/processors.toml` under `out`; needs the tiny models of `suite`."""
    tables = sampling_cases.vocabularies()
    used = ("smooth", "peaked", "forbidden")
    lines = ["# Made by conformance/reference/make.py; do not edit.", "", "[logits]"]
    lines += [f"{name} = [{', '.join(repr(x) for x in tables[name])}]" for name in used] + [""]
    counts: dict[str, int] = {}
    with true_float64():
        model = Oracle.from_folder(suite / "model" / MODELS[0]).model
        for group, name, config, history, prompt, most, beams in _rule_cases():
            eos = [3, 40] if beams else [3]

            def left(logits):
                return processed(model, logits, config, eos, history, prompt, most, beams)

            scores, n = left(tables[name]), counts.get(group, 0)
            noise = random_state("processors", group, n).uniform(-1e-9, 1e-9, len(scores))
            if np.isnan(scores).any():
                raise ValueError(f"{PROCESSORS}: {group} {config}: transformers gives NaN")
            if (np.isfinite(left([x + e for x, e in zip(tables[name], noise)])) != np.isfinite(scores)).any():
                raise ValueError(f"{PROCESSORS}: {group} {name} {config}: rounding decides what is left")
            counts[group] = n + 1
            kept = np.flatnonzero(np.isfinite(scores)).tolist()
            if config.get("do_sample") and not beams:
                values = np.exp(scores - scores[kept].max())
                values /= values.sum()
            elif beams:
                values = scores
            else:
                kept, values = [int(scores.argmax())], np.ones_like(scores)
            lines += [
                "[[case]]", f'id = "{PROCESSORS}/{group}_{n}"', f'logits = "{name}"', f"config = '{json.dumps(config)}'",
                f"eos = {eos}", f"history = {history}", f"prompt_len = {prompt}", f"max_new_tokens = {most}",
                f"beams = {str(beams).lower()}", f"tokens = {kept}",
                f"values = [{', '.join(f'{values[t]:.12e}' for t in kept)}]", "",
            ]
    path = out / f"{PROCESSORS}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))
    return path


def _search_cases():
    """(group, configuration, how many ends, length of the prompt, most new tokens)."""
    for size in (2, 3, 5):
        yield "beams", {"num_beams": size, "num_return_sequences": size}, 0, 7, 8
    for stopping in (True, False, "never"):
        for penalty in (-1.0, 0.0, 0.6, 1.0, 2.0):
            config = {"num_beams": 3, "num_return_sequences": 3, "length_penalty": penalty, "early_stopping": stopping}
            yield "stopping", config, 6, 5, 14
    for ends in (1, 2, 12):
        for stopping in (True, False, "never"):
            yield "ends", {"num_beams": 4, "num_return_sequences": 2, "early_stopping": stopping}, ends, 9, 12
    beams = {"num_beams": 3, "num_return_sequences": 3}
    yield "beams", beams, 6, 1, 1
    yield "beams", beams, 6, 30, 30
    for group, config, ends in [
        ("no_repeat", {"no_repeat_ngram_size": 2}, 3),
        ("no_repeat", {"no_repeat_ngram_size": 1}, 0),
        ("no_repeat", {"encoder_no_repeat_ngram_size": 1}, 2),
        ("repetition", {"repetition_penalty": 1.6}, 3),
        ("repetition", {"encoder_repetition_penalty": 1.4, "repetition_penalty": 1.2}, 3),
        ("least", {"min_new_tokens": 9}, 8),
        ("least", {"min_length": 14}, 8),
        ("forced", {"forced_eos_token_id": 7}, 2),
        ("forced", {"forced_eos_token_id": 7}, 0),
        ("words", {"bad_words_ids": [[t] for t in range(20, 45)] + [[50, 51]]}, 2),
        ("words", {"suppress_tokens": list(range(30, 70)), "begin_suppress_tokens": list(range(70, 90))}, 4),
        ("words", {"sequence_bias": [[[t], 1.5] for t in range(5, 12)] + [[[t], -3.0] for t in range(60, 90)]}, 4),
        ("decay", {"exponential_decay_length_penalty": [2, 1.3]}, 2),
        ("normalized", {"renormalize_logits": True, "suppress_tokens": list(range(40, 80))}, 4),
        ("all", {"no_repeat_ngram_size": 3, "repetition_penalty": 1.3, "min_new_tokens": 4, "bad_words_ids": [[33], [5, 6]],
                 "exponential_decay_length_penalty": [6, 1.1], "suppress_tokens": [8, 9]}, 6),
    ]:
        yield group, config, ends, 8, 12
        yield group, config | beams, ends, 8, 12
    yield "forced", {"forced_bos_token_id": 17}, 3, 1, 8
    yield "forced", {"forced_bos_token_id": 17, "num_beams": 3, "num_return_sequences": 2}, 3, 1, 8


def draw(vocab: int, seed: tuple, ends: int, length: int) -> tuple[list[int], list[int]]:
    """A prompt and tokens that end it."""
    state = random_state(*seed)
    prompt = state.randint(0, vocab, length).tolist()
    return prompt, state.choice(vocab, ends, replace=False).tolist()


def make_searches(suite: Path, out: Path) -> Path:
    """Writes `generate/searches.toml` under `out`; needs the tiny models of `suite`."""
    lines = ["# Made by conformance/reference/make.py; do not edit.", ""]
    counts: dict[str, int] = {}
    vocab = {case.name: case.config["vocab_size"] for case in tiny_cases.CASES}
    with true_float64():
        models = {name: Oracle.from_folder(suite / "model" / name).model for name in MODELS}
        for number, (group, config, ends, length, most) in enumerate(_search_cases()):
            if "num_beams" in config and "encoder_repetition_penalty" in config:
                continue  # transformers applies it to the first beam alone
            name = MODELS[number % len(MODELS)]
            n = counts[group] = counts.get(group, -1) + 1
            for attempt in range(400):
                prompt, eos = draw(vocab[name], ("search", group, n, attempt), ends, length)
                texts, scores, nearest = search(models[name], prompt, config, eos, most)
                # Where it can be had, an end before the last token; long texts may be better than any that end.
                early = any(len(text) < most for text in texts) or ends == 0 or attempt >= 20
                if nearest >= MIN_GAP_OVER_RMS and early:
                    break
            else:
                raise ValueError(f"{SEARCHES}: {group} {config}: every one of 400 prompts has a near choice")
            logging.getLogger("reference").info("%s_%d: prompt %d, nearest choice %.1e", group, n, attempt, nearest)
            lines += [
                "[[case]]", f'id = "{SEARCHES}/{group}_{n}"', f'model = "{name}"', f"config = '{json.dumps(config)}'",
                f"prompt = {prompt}", f"eos = {eos}", f"max_new_tokens = {most}", f"texts = {texts}",
                f"scores = [{', '.join(f'{s:.12e}' for s in scores or [])}]", "",
            ]
    path = out / f"{SEARCHES}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))
    return path
