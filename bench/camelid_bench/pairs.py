"""What is measured, and the order: every program once, then every program again, so that a machine that slows down slows
all of them."""

import sys
from dataclasses import asdict, dataclass
from statistics import median

from .errors import BenchError
from .gguf import Gguf
from .models import FORMATS, path_of
from .programs import Run, Workload
from .stats import Ratio, bandwidth_share, best

OURS = "camelid"
# Where long contexts and batches are measured by default: what the small model decodes there is attention and arithmetic.
LONG_FORMATS = ["bf16", "q8_0", "q4_0", "q4_1", "q4_k_m"]


@dataclass(frozen=True)
class Case:
    """One measurement that all programs make."""

    model: str
    format: str
    threads: int
    workload: Workload


def plan(models, formats, threads, workloads):
    """The cases; `formats` of None are all that a model has. Long contexts and batches run with the most threads only, and
    on the small model unless it was not asked for."""
    cases = []
    for model in models:
        chosen = [form for form in FORMATS[model] if formats is None or form in formats]
        for workload in workloads:
            is_long = workload.depth > 0 or workload.sequences > 1
            if is_long and model != models[0]:
                continue
            for form in chosen:
                if is_long and formats is None and form not in LONG_FORMATS:
                    continue
                for n in [max(threads)] if is_long else sorted(threads):
                    cases.append(Case(model, form, n, workload))
    return cases


def measure(case, programs, models, rounds, repetitions, launcher=(), cwd=None, memory=None):
    """Rows of the case, one a kind of speed, and what failed: ({...}, ...), [(program, error)].

    A program that fails is out of this case, and named; the others are measured on. `memory(threads)` gives the GB/s that
    the memory gives, and has its turn in every round of decoding.
    """
    how = Run(path_of(models, case.model, case.format), case.threads, repetitions)
    samples = {kind: {} for kind in case.workload.kinds()}
    limits = []
    able, failed = [p for p in programs if p.can(case.workload, how)], []
    for number in range(rounds):
        if memory and "decode" in samples:
            limits.append(memory(case.threads))
        for program in list(able):
            try:
                rates = program.measure(case.workload, how, launcher, cwd)
            except BenchError as error:
                able.remove(program)
                failed.append((program.name, str(error)))
                for rows in samples.values():
                    rows.pop(program.name, None)
                continue
            for kind, rows in samples.items():
                rows.setdefault(program.name, []).append(rates[kind])
        shown = "  ".join(f"{kind} " + " ".join(f"{name}={values[-1]:.0f}" for name, values in rows.items())
                          for kind, rows in samples.items())
        print(f"{label(case)} {number + 1}/{rounds}: {shown}", file=sys.stderr)
    out = [row(case, kind, rows) for kind, rows in samples.items() if rows]
    if limits:
        for made in out:
            add_bandwidth_share(made, how.model, limits)
    return out, failed


def label(case):
    return f"{case.model} {case.format} {case.workload.name} {case.threads} threads"


def row(case, kind, samples):
    """A row of the results: samples, and the ratios of ours to each peer and to the best of them."""
    peers = {name: values for name, values in samples.items() if name != OURS}
    out = {"model": case.model, "format": case.format, "threads": case.threads, "workload": asdict(case.workload),
           "kind": kind, "samples": samples, "ratios": {}, "better": best(peers)}
    if OURS in samples:
        out["ratios"] = {name: Ratio(samples[OURS], values).as_json() for name, values in peers.items()}
    return out


def add_bandwidth_share(row, path, limits):
    """Adds to a row of decoding the part that each program uses of the GB/s of the same round: the median of the rounds."""
    if row["kind"] != "decode":
        return
    gguf = Gguf(path)
    weights, kv = gguf.weight_bytes_per_token(), gguf.kv_bytes_per_position()
    work = row["workload"]
    row["gb_per_s"], row["weight_bytes"], row["kv_bytes_per_position"] = limits, weights, kv
    row["bandwidth_share"] = {
        name: median(bandwidth_share(weights, kv, work["depth"], work["gen"], work["sequences"], rate, limit)
                     for rate, limit in zip(values, limits, strict=True))
        for name, values in row["samples"].items()
    }
