"""Comparison of a regenerated fixture with the committed one."""

import re
from pathlib import Path

import numpy as np

from fixture_io import read_safetensors, sha256

# float64 results may differ between machines by the order of their sums; float32 ones then by one rounding.
EXPECTATION_TOLERANCE = {"float64": 1e-12, "float32": 2.0**-23}


def compare(committed: Path, made: Path) -> list[str]:
    """Every difference between two fixtures (folders or single files), as lines for a reader; none means equal."""
    if not committed.exists():
        return [f"{committed}: missing; make it with make.py without --check"]
    if committed.is_file():
        return _compare_file(committed, made)
    names = sorted({path.name for folder in (committed, made) for path in folder.iterdir()})
    problems = []
    for name in names:
        if not (made / name).exists():
            problems.append(f"{committed / name}: nothing makes this file; remove it")
        elif not (committed / name).exists():
            problems.append(f"{committed / name}: missing; make it with make.py without --check")
        else:
            problems += _compare_file(committed / name, made / name)
    return problems


def _compare_file(committed: Path, made: Path) -> list[str]:
    if committed.name in ("expect.safetensors", "smollm2.safetensors"):
        return _compare_expectations(committed, made)
    if committed.suffix == ".toml":
        return _compare_toml(committed, made)
    if committed.read_bytes() != made.read_bytes():
        return [f"{committed}: bytes differ from what the generator makes"]
    return []


def _compare_expectations(committed: Path, made: Path) -> list[str]:
    old, new = read_safetensors(committed), read_safetensors(made)
    problems = [f"{committed}: {name}: in one of the two only" for name in sorted(set(old) ^ set(new))]
    for name in sorted(set(old) & set(new)):
        a, b = old[name], new[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            problems.append(f"{committed}: {name}: {a.dtype}{list(a.shape)} committed, {b.dtype}{list(b.shape)} made")
        elif a.dtype.kind != "f":
            if not np.array_equal(a, b):
                problems.append(f"{committed}: {name}: values differ")
        else:
            # Infinities, which masks have, must be the same and say nothing of the scale.
            same, finite = a == b, np.abs(a[np.isfinite(a)])
            limit = EXPECTATION_TOLERANCE[a.dtype.name] * max(1.0, float(finite.max(initial=0.0)))
            difference = float(np.abs(a.astype(np.float64)[~same] - b[~same]).max(initial=0.0))
            if not difference <= limit:
                problems.append(f"{committed}: {name}: differs by {difference:.1e}, allowed {limit:.1e}")
    return problems


def _compare_toml(committed: Path, made: Path) -> list[str]:
    """Text must be equal but for the digests of expectations, which must be those of the committed files."""
    digest = re.compile(r'^("(?:expect|smollm2)\.safetensors" = )"([0-9a-f]{64})"$', re.MULTILINE)
    old, new = committed.read_text(encoding="utf-8"), made.read_text(encoding="utf-8")
    problems = []
    if digest.sub(r"\1", old) != digest.sub(r"\1", new):
        problems.append(f"{committed}: text differs from what the generator makes")
    for name, value in re.findall(r'^"([^"]+)" = "([0-9a-f]{64})"$', old, re.MULTILINE):
        file = committed.parent / name
        if not file.exists() or sha256(file) != value:
            problems.append(f"{committed}: the SHA-256 of {name} is not that of the file beside it")
    return problems
