"""Strided perplexity and the divergence between two models, in float64: what `camelid perplexity` must compute.

    python conformance/reference/perplexity_cases.py --suite conformance/suite --out crates/engine/tests/data/perplexity.json
    python conformance/reference/perplexity_cases.py --suite conformance/suite --out FILE --check

Perplexity is the arithmetic of the page "Perplexity of fixed-length models" of the transformers documentation, line by
line (`page`), on the oracle's logits: windows of `context` tokens, each `stride` after the one before, labels of -100 for
tokens that an earlier window held, the mean loss of a window counted as often as it has labels less one. Two things differ
from running that page: the loss is taken in float64, where transformers casts logits to float32 first (the two are
compared, and must agree within 1e-5); and a window whose one label falls to the shift, for which the page multiplies
0 by a mean of nothing, is left out. The divergence is that of llama.cpp's `--kl-divergence`, written in NumPy from its
definition, over the same predictions.

The models are those of `conformance/suite/model`; a model beside its base is the base with another config.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np
import torch
from fixture_io import random_state
from oracle import Oracle, true_float64

# model, tokens, context, stride
TEXTS = [
    ("gqa", 150, 64, 32),
    ("gqa", 150, 64, 64),
    ("gqa", 129, 64, 64),  # the last window is one token, which nothing predicts
    ("gqa", 40, 160, 160),  # the text is shorter than a window
    ("gqa", 64, 64, 1),
    ("gqa", 70, 20, 1),  # every window but the first counts for nothing in the page's mean
    ("gqa", 2, 160, 16),
    ("bias", 111, 33, 7),
    ("tied", 100, 50, 49),
    ("llama3_rope", 150, 90, 45),
    ("linear_rope", 97, 31, 31),
]

# base, changes to its config that make the model, tokens, context, stride
PAIRS = [
    ("gqa", {"rms_norm_eps": 0.02}, 150, 64, 32),
    ("gqa", {"rope_parameters": {"rope_theta": 7000.0, "rope_type": "default"}}, 150, 64, 64),
    ("tied", {"rms_norm_eps": 0.5}, 90, 40, 13),
    ("bias", {}, 60, 30, 30),
]


def page(logits_of, ids: np.ndarray, max_length: int, stride: int):
    """The page's loop. Returns its mean, and the loss of each prediction with its window and the token's index."""
    seq_len = len(ids)
    nll_sum, n_tokens, losses, windows = 0.0, 0, [], 0
    prev_end_loc = 0
    for begin_loc in range(0, seq_len, stride):
        end_loc = min(begin_loc + max_length, seq_len)
        trg_len = end_loc - prev_end_loc
        input_ids = ids[begin_loc:end_loc]
        target_ids = input_ids.copy()
        target_ids[:-trg_len] = -100
        logits = logits_of(input_ids)
        windows += 1
        shifted = torch.from_numpy(np.append(target_ids[1:], -100))
        each = torch.nn.functional.cross_entropy(torch.from_numpy(logits), shifted, ignore_index=-100, reduction="none")
        kept = np.flatnonzero(shifted.numpy() != -100)
        losses += [(begin_loc + int(k) + 1, float(each[k]), logits[k]) for k in kept]
        num_loss_tokens = int((target_ids != -100).sum()) - 1
        if len(kept):
            nll_sum += float(each[kept].mean()) * num_loss_tokens
            n_tokens += num_loss_tokens
        prev_end_loc = end_loc
        if end_loc == seq_len:
            break
    return nll_sum / n_tokens, losses, windows


def estimate(values: np.ndarray) -> list[float]:
    """Mean and standard error, the latter as llama.cpp has it: 0 for one value."""
    n = len(values)
    variance = float(np.mean(values**2) - np.mean(values) ** 2)
    return [float(np.mean(values)), float(np.sqrt(max(variance, 0.0) / (n - 1))) if n > 1 else 0.0]


def log_softmax(row: np.ndarray) -> np.ndarray:
    """Of one row, in float64."""
    shifted = row - row.max()
    return shifted - np.log(np.exp(shifted).sum())


def spread(values: np.ndarray) -> dict[str, object]:
    """Mean, error and percentiles."""
    shares = {"min": 0, "median": 50, "p90": 90, "p95": 95, "p99": 99, "p999": 99.9, "max": 100}
    return {"mean": estimate(values)} | {name: float(np.percentile(values, p)) for name, p in shares.items()}


def perplexity(nll: float, losses, windows: int) -> dict[str, object]:
    """A model's own numbers."""
    return {
        "windows": windows,
        "scored": len(losses),
        "nll": nll,
        "perplexity": float(np.exp(nll)),
        "token_nll": estimate(np.array([loss for _, loss, _ in losses])),
    }


def text_case(suite: Path, model: str, tokens: int, context: int, stride: int) -> dict[str, object]:
    """One entry of TEXTS."""
    with true_float64():
        oracle = Oracle.from_folder(suite / "model" / model)
        ids = draw(oracle, model, tokens)
        nll, losses, windows = page(lambda x: oracle.logits(x[None])[0], ids, context, stride)
        check_against_transformers(oracle, ids[:context])
    case = {"model": model, "ids": ids.tolist(), "context": context, "stride": stride}
    return case | perplexity(nll, losses, windows)


def check_against_transformers(oracle: Oracle, ids: np.ndarray) -> None:
    """The loss of the first window as transformers computes it is ours, but for its cast to float32."""
    with torch.no_grad():
        batch = torch.from_numpy(ids[None])
        theirs = float(oracle.model(batch, labels=batch, use_cache=False).loss)
    rows = oracle.logits(ids[None])[0]
    ours = float(np.mean([-log_softmax(rows[i])[ids[i + 1]] for i in range(len(ids) - 1)]))
    if abs(theirs - ours) > 1e-5 * abs(ours):
        raise ValueError(f"the loss is {ours}, but transformers computes {theirs}")


def pair_case(suite: Path, base: str, changes: dict, tokens: int, context: int, stride: int) -> dict[str, object]:
    """One entry of PAIRS."""
    results = []
    with true_float64(), tempfile.TemporaryDirectory() as scratch:
        changed = Path(scratch)
        folder = suite / "model" / base
        config = json.loads((folder / "config.json").read_text()) | changes
        (changed / "config.json").write_text(json.dumps(config))
        (changed / "model.safetensors").symlink_to((folder / "model.safetensors").resolve())
        base_oracle = Oracle.from_folder(folder)
        ids = draw(base_oracle, base, tokens)
        for oracle in (Oracle.from_folder(changed), base_oracle):
            results.append(page(lambda x: oracle.logits(x[None])[0], ids, context, stride))
    (nll, losses, windows), (base_nll, base_losses, _) = results
    kl, delta, same = [], [], []
    for (token, loss, row), (_, base_loss, base_row) in zip(losses, base_losses, strict=True):
        m, b = log_softmax(row), log_softmax(base_row)
        kl.append(float(np.sum(np.exp(b) * (b - m))))
        delta.append(float(np.exp(-loss) - np.exp(-base_loss)))
        same.append(int(row.argmax()) == int(base_row.argmax()))
    m, b = (np.array([loss for _, loss, _ in x]) for x in (losses, base_losses))
    n = len(m)
    covariance = float(np.mean(m * b) - m.mean() * b.mean()) / (n - 1)
    (mean_m, error_m), (mean_b, error_b) = estimate(m), estimate(b)
    ppl, base_ppl = float(np.exp(mean_m)), float(np.exp(mean_b))
    ln_error = float(np.sqrt(max(error_m**2 + error_b**2 - 2 * covariance, 0.0)))
    difference = ppl**2 * error_m**2 + base_ppl**2 * error_b**2 - 2 * ppl * base_ppl * covariance
    rate = float(np.mean(same))
    square = estimate(np.array(delta) ** 2)
    rms = float(np.sqrt(square[0]))
    return {
        "base_model": base,
        "changes": changes,
        "ids": ids.tolist(),
        "context": context,
        "stride": stride,
        "model": perplexity(nll, losses, windows),
        "base": perplexity(base_nll, base_losses, windows),
        "kl": spread(np.array(kl)),
        "same_top": [rate, float(np.sqrt(rate * (1 - rate) / (n - 1)))],
        "delta_p": spread(np.array(delta)),
        "delta_p_rms": [rms, 0.5 / rms * square[1] if rms else 0.0],
        "ln_ratio": [mean_m - mean_b, ln_error],
        "ratio": [ppl / base_ppl, ppl / base_ppl * ln_error],
        "difference": [ppl - base_ppl, float(np.sqrt(max(difference, 0.0)))],
        "relative": [abs(ppl - base_ppl) / base_ppl, ppl / base_ppl * ln_error],
        "correlation": covariance / (error_m * error_b),
    }


def draw(oracle: Oracle, name: str, tokens: int) -> np.ndarray:
    """Ids that the model half expects: every other token is the likeliest after the eight before it, the rest are drawn."""
    rng = random_state("perplexity", name)
    vocab = oracle.model.config.vocab_size
    ids = [int(rng.randint(vocab))]
    while len(ids) < tokens:
        likely = int(oracle.logits(np.array([ids[-8:]]))[0, -1].argmax())
        ids.append(likely if len(ids) % 2 else int(rng.randint(vocab)))
    return np.array(ids, dtype=np.int64)


def differences(path: str, made, committed) -> list[str]:
    """Where two JSON values differ by more than 1e-9 of themselves."""
    if isinstance(made, dict) and isinstance(committed, dict) and made.keys() == committed.keys():
        return [d for key in made for d in differences(f"{path}.{key}", made[key], committed[key])]
    if isinstance(made, list) and isinstance(committed, list) and len(made) == len(committed):
        return [d for i, pair in enumerate(zip(made, committed)) for d in differences(f"{path}[{i}]", *pair)]
    if isinstance(made, float) and isinstance(committed, float) and abs(made - committed) <= 1e-9 * abs(made) + 1e-12:
        return []
    return [] if made == committed else [f"{path}: {committed} is committed, {made} is made"]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, required=True, help="conformance/suite")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    parser.add_argument("--check", action="store_true", help="write nothing: compare with what is there")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the models are too small for more
    made = {
        "texts": [text_case(options.suite, *case) for case in TEXTS],
        "pairs": [pair_case(options.suite, *case) for case in PAIRS],
    }
    if options.check:
        problems = differences("", made, json.loads(options.out.read_text()))
        print("\n".join(problems) or "equal")
        return 1 if problems else 0
    # One case a line.
    lines = [f'"{key}": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]" for key, cases in made.items()]
    options.out.write_text("{" + ",\n".join(lines) + "}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
