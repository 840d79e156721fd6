"""A case that is a graph: its values, nodes and steps, and the files that the suite reads.

`Case` is built by `op_cases.py` and `module_cases.py`; `write_group` evaluates the cases of a group (`graph_numpy.py` in
float64, `graph_torch.py` to agree with it, `graph_numpy.py` again in float32 for the noise) and writes `GROUP.toml` and
`GROUP.safetensors`. The format is in `specs/conformance.md`.
"""

import json
from pathlib import Path

import gguf
import numpy as np

import graph_numpy
import graph_torch
from fixture_io import random_state, sha256, write_safetensors

# The references agree to this, relative to the largest value.
AGREEMENT = 1e-11
# The largest result of which all elements are stored, where a case lets some be left out.
STORED = 512
PLAIN = {"f32": np.dtype("<f4"), "f16": np.dtype("<f2"), "bf16": np.dtype("<u2"), "i32": np.dtype("<i4")}
# The coarser math classes that are emulated, in the suite's order, with the nmse and max/rms that they allow everywhere, and
# how many times the noise is allowed: those of conformance/src/tolerance.rs.
COARSE = {"f16": (3e-7, 3e-3), "f32-tf32": (8e-6, 3e-2), "bf16": (2e-5, 2.5e-2), "q8act": (1e-4, 5e-2)}
FACTORS = (2.0, 2.0)
BLOCKS = {"q4_0": "Q4_0", "q4_1": "Q4_1", "q5_0": "Q5_0", "q5_1": "Q5_1", "q8_0": "Q8_0"} | {
    f"q{n}_k": f"Q{n}_K" for n in (2, 3, 4, 5, 6)
}


class SplitMix64:
    """The generator of Steele, Lea and Flood (2014), over whole arrays."""

    def __init__(self, seed: int) -> None:
        self.state = np.uint64(seed)

    def bits(self, count: int) -> np.ndarray:
        """`count` times 64 bits."""
        with np.errstate(over="ignore"):
            steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            z = self.state + steps
            self.state = z[-1] if count else self.state
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z ^= z >> np.uint64(31)
        return z

    def uniform(self, count: int) -> np.ndarray:
        """`count` numbers in 0..1, 53 bits each."""
        return (self.bits(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, count: int) -> np.ndarray:
        """The sum of twelve uniforms less six, added one after the other."""
        draws = self.uniform(12 * count).reshape(count, 12)
        total = np.zeros(count)
        for i in range(12):
            total = total + draws[:, i]
        return total - 6.0


def to_bf16(values: np.ndarray) -> np.ndarray:
    """float32 -> the bits of the nearest bfloat16, ties to even; NaN stays NaN."""
    bits = values.astype("<f4").view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def stored(values: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers as the plain type `dtype` stores them, rounded through float32; of blocks the float32 numbers that they mean."""
    with np.errstate(over="ignore"):
        if dtype in BLOCKS:
            return np.asarray(values).astype("<f4")
        single = np.asarray(values).astype("<f4")
        return {"f32": lambda: single, "f16": lambda: single.astype("<f2"), "bf16": lambda: to_bf16(single)}[dtype]()


def widened(array: np.ndarray, dtype: str) -> np.ndarray:
    """Stored numbers as float64, exactly."""
    if dtype == "bf16":
        array = (array.astype(np.uint32) << 16).view("<f4")
    return array.astype(np.float64)


# Of each block format the f16 fields, as (byte offset, factor), and what a code's standard deviation is about.
FIELDS = {
    "q4_0": ([(0, 1.0)], 4.6),
    "q4_1": ([(0, 1.0), (2, -7.5)], 4.6),
    "q5_0": ([(0, 1.0)], 9.2),
    "q5_1": ([(0, 1.0), (2, -15.5)], 9.2),
    "q8_0": ([(0, 1.0)], 74.0),
    "q2_k": ([(80, 1.0), (82, 1.0)], 20.0),
    "q3_k": ([(108, 1.0)], 60.0),
    "q4_k": ([(0, 1.0), (2, 1.0)], 250.0),
    "q5_k": ([(0, 1.0), (2, 1.0)], 500.0),
    "q6_k": ([(208, 1.0)], 2000.0),
}


def blocks(dtype: str, rows: int, columns: int) -> dict:
    """Contents for rows in a block format whose values are about 1/sqrt(columns)."""
    return {"gen": "blocks", "scale": float(1 / (FIELDS[dtype][1] * np.sqrt(columns)))}


def poisoned(dtype: str, shape: list, rows: list, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Blocks `drawn` in some rows, NaN in all others: as they are stored, and as the numbers they mean."""
    numbers = np.full(shape, np.nan)
    numbers[rows] = dequantized(dtype, drawn)
    raw = np.zeros((shape[0], drawn.shape[1]), np.uint8)
    raw[rows] = drawn
    return raw, numbers


def random_blocks(dtype: str, rows: int, columns: int, scale: float, seed: int) -> np.ndarray:
    """`u8 [rows, bytes]`: of each block random bytes first, then a number for each f16 field: factor * scale * (1/2 + u)."""
    elems, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[BLOCKS[dtype]]]
    fields, count, words = FIELDS[dtype][0], rows * columns // elems, -(-size // 8)
    draws = SplitMix64(seed).bits(count * (words + len(fields))).reshape(count, words + len(fields))
    raw = np.ascontiguousarray(draws[:, :words].astype("<u8")).view(np.uint8)[:, :size].copy()
    for i, (offset, factor) in enumerate(fields):
        u = (draws[:, words + i] >> np.uint64(11)).astype(np.float64) * 2.0**-53
        half = (factor * scale * (0.5 + u)).astype("<f4").astype("<f2")
        raw[:, offset : offset + 2] = half.view(np.uint8).reshape(count, 2)
    return raw.reshape(rows, columns // elems * size)


def dequantized(dtype: str, raw: np.ndarray) -> np.ndarray:
    """The float32 numbers that rows of blocks mean, widened."""
    values = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[BLOCKS[dtype]])
    return values.astype(np.float32).astype(np.float64)


class Case:
    """One case. `value`, `node` and `step` return the case, so that a table of them reads as a chain."""

    def __init__(self, id: str, about: str, profile: str = "core", klass: str = "f32") -> None:
        self.id, self.about, self.profile, self.klass = id, about, profile, klass
        self.values: list[dict] = []
        self.nodes: list[dict] = []
        self.steps: list[dict] = []
        self.files: dict[str, np.ndarray] = {}
        self.seed = 1
        # Of large results only some elements are stored: `points` says which.
        self.sampled = False

    def value(self, name: str, kind: str, dtype: str, shape: list, **contents: object) -> "Case":
        """A bound value. Contents: `gen` with its numbers, `ints`, `data` (stored), or nothing for a normal."""
        contents = contents or {"gen": "normal", "scale": 1.0}
        self.values.append({"name": name, "kind": kind, "dtype": dtype, "shape": shape} | self._contents(name, dtype, shape, contents))
        return self

    def _contents(self, name: str, dtype: str, shape: list, contents: dict) -> dict:
        if "data" in contents:
            tensor = f"{name}.{len(self.steps)}" if name in self.files else name
            self.files[tensor] = contents["data"]
            return {"file": tensor}
        if contents.get("gen") in ("normal", "uniform", "blocks") and "seed" not in contents:
            self.seed += 1
            contents = {"gen": contents["gen"], "scale": 1.0} | contents if contents["gen"] == "normal" else contents
            return contents | {"seed": self.seed + (hash_name(self.id) << 8)}
        if "ints" in contents:
            return {"ints": [int(i) for i in np.asarray(contents["ints"]).ravel()]}
        return contents

    def node(self, op: str, inputs: str, outputs: str, **attrs: object) -> "Case":
        """A node; operands and results are names separated by blanks."""
        self.nodes.append({"op": op, "inputs": inputs.split(), "outputs": outputs.split(), "attrs": attrs})
        return self

    def step(self, expect: str = "", error: bool = False, write: dict | None = None, **symbols: int) -> "Case":
        """A run of the plan: symbols, new contents by name, and what is compared."""
        by_name = {value["name"]: value for value in self.values}
        written = [
            {"name": name} | self._contents(name, by_name[name]["dtype"], by_name[name]["shape"], contents)
            for name, contents in (write or {}).items()
        ]
        self.steps.append({"symbols": {"T": 1, "S": 1, "O": 1, "L": 1} | symbols, "write": written, "expect": expect.split(), "error": error})
        return self

    def sizes(self, shape: list, symbols: dict) -> list[int]:
        """A shape in numbers."""
        table = symbols | {"P": symbols["S"] + 1}
        return [table[d] if isinstance(d, str) else d for d in shape]

    def contents(self, value: dict, contents: dict, symbols: dict) -> tuple[np.ndarray, np.ndarray]:
        """What a value holds: as it is stored, and as the numbers it means."""
        dtype, shape = value["dtype"], self.sizes(value["shape"], symbols)
        count = int(np.prod(shape, dtype=np.int64))
        if "file" in contents:
            raw = self.files[contents["file"]]
            if dtype in BLOCKS:
                return raw, dequantized(dtype, raw)
            return raw, (raw.astype(np.int64) if dtype == "i32" else widened(raw, dtype)).reshape(shape)
        if "ints" in contents:
            ints = np.array(contents["ints"], dtype="<i4").reshape(shape)
            return ints, ints.astype(np.int64)
        gen = contents["gen"]
        if dtype in BLOCKS and (gen == "poison" or "rows" in contents):
            rows = contents.get("rows", [])
            return poisoned(dtype, shape, rows, random_blocks(dtype, len(rows), shape[1], contents.get("scale", 1.0), contents.get("seed", 0)))
        if gen == "blocks":
            raw = random_blocks(dtype, shape[0], shape[1], contents["scale"], contents["seed"])
            return raw, dequantized(dtype, raw)
        if "rows" in contents:
            numbers = np.full(shape, np.nan)
            drawn = SplitMix64(contents["seed"]).normal(len(contents["rows"]) * shape[1]) * contents["scale"]
            numbers[contents["rows"]] = drawn.reshape(-1, shape[1])
            raw = stored(numbers, dtype)
            return raw, widened(raw, dtype)
        if gen == "normal":
            numbers = SplitMix64(contents["seed"]).normal(count) * contents["scale"]
            numbers = numbers + contents["mean"] if "mean" in contents else numbers
        elif gen == "uniform":
            numbers = contents["lo"] + (contents["hi"] - contents["lo"]) * SplitMix64(contents["seed"]).uniform(count)
        else:
            numbers = np.full(count, np.nan if gen == "poison" else contents["value"])
        raw = stored(numbers, dtype).reshape(shape)
        return raw, widened(raw, dtype)


def points(size: int, columns: int) -> np.ndarray:
    """Where a large result is compared: both ends, the ends of some rows, both sides of every power of two and of where grids
    of 65535 groups end, and anywhere. The suite draws the same ones."""
    edges = [1 << k for k in range(7, 25)] + [65535 * k for k in (1, 16, 32, 64, 128, 256)]
    random = SplitMix64(size)
    rows = (random.bits(16) % np.uint64(size // columns)).astype(np.int64) * columns
    found = [np.arange(min(size, 16)), np.arange(max(0, size - 64), size), rows, rows + columns - 1, (random.bits(80) % np.uint64(size)).astype(np.int64)]
    at = np.unique(np.concatenate(found + [np.arange(edge - 2, edge + 2) for edge in edges]))
    return at[at < size]


def hash_name(name: str) -> int:
    """31 bits of a name: seeds that no other case shares."""
    import zlib

    return zlib.crc32(name.encode()) >> 1


def evaluate(case: Case, engine: object) -> list[dict[str, np.ndarray]]:
    """What each step gives, by result, computed by `engine(op, operands, attrs, types)`."""
    held: dict[str, np.ndarray] = {}
    types = {value["name"]: value["dtype"] for value in case.values}
    results = []
    for number, step in enumerate(case.steps):
        writes = {entry["name"]: entry for entry in step["write"]}
        for value in case.values:
            if value["name"] in writes:
                held[value["name"]] = case.contents(value, writes[value["name"]], step["symbols"])[1]
            elif number == 0:
                held[value["name"]] = case.contents(value, value, step["symbols"])[1]
        if step["error"]:
            results.append({})
            continue
        env = dict(held)
        aliases: dict[str, str] = {}
        for node in case.nodes:
            operands = [env[name] for name in node["inputs"]]
            dtypes = [types[name] for name in node["inputs"]]
            out, kinds = engine(node["op"], operands, node["attrs"], dtypes, step["symbols"])
            for name, array, kind in zip(node["outputs"], out, kinds, strict=True):
                env[name], types[name] = array, kind
            if node["op"] in ("kv_append", "scatter_rows"):
                root = aliases.get(node["inputs"][0], node["inputs"][0])
                aliases[node["outputs"][0]] = root
                held[root] = out[0]
        results.append({name: env[name] for name in step["expect"]})
    return results, types


def measure(actual: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """nmse and max/rms over the finite elements."""
    finite = np.isfinite(expected)
    a, e = actual[finite], expected[finite]
    square = float(np.mean(e**2)) if e.size else 0.0
    if square == 0.0:
        return 0.0, 0.0
    return float(np.mean((a - e) ** 2) / square), float(np.max(np.abs(a - e)) / np.sqrt(square))


def coarse_noise(rough: dict[str, list[np.ndarray]], want: np.ndarray) -> dict[str, list[float]]:
    """By class the worst [nmse, max/rms] of its emulations, of those classes whose floors are below what it may be."""
    found = {}
    for klass, runs in rough.items():
        # What leaves the range of a type is no answer, and has no noise.
        noise = [measure(run, want) for run in runs if np.array_equal(np.isfinite(run), np.isfinite(want))]
        worst = [float(f"{max((n[i] for n in noise), default=0.0):.1e}") for i in range(2)]
        if any(factor * value > floor for factor, value, floor in zip(FACTORS, worst, COARSE[klass], strict=True)):
            found[klass] = worst
    return found


def write_group(level: str, group: str, cases: list[Case], out: Path) -> None:
    """Writes `out/LEVEL/GROUP.toml` and `.safetensors`."""
    tensors: dict[str, np.ndarray] = {}
    text = []
    for case in cases:
        if not case.id.startswith(f"{level}/{group}/"):
            raise ValueError(f"{case.id}: does not belong to {level}/{group}")
        expected, types = evaluate(case, graph_numpy.exact)
        other, _ = evaluate(case, graph_torch.exact)
        honest = [] if case.klass == "exact" else [evaluate(case, graph_numpy.honest(mode))[0] for mode in graph_numpy.MODES]
        classes = [] if case.klass == "exact" else list(COARSE)[list(COARSE).index(case.klass) if case.klass in COARSE else 0 :]
        few = min((np.size(array) for step in expected for array in step.values()), default=0)
        engines = {klass: graph_numpy.coarse(klass, few, set(types.values())) for klass in classes}
        coarse = {klass: [evaluate(case, engine)[0] for engine in made] for klass, made in engines.items()}
        for name, array in case.files.items():
            tensors[f"{case.id}#{name}"] = array
        steps = []
        for number, step in enumerate(case.steps):
            expects = []
            for name in step["expect"]:
                want = np.asarray(expected[number][name])
                agree(case.id, name, want, np.asarray(other[number][name]))
                entry = {"output": name}
                runs = [rounded(run[number][name], types[name]) for run in honest]
                rough = {klass: [rounded(run[number][name], types[name]) for run in made] for klass, made in coarse.items()}
                if case.sampled and want.size > STORED:
                    at = points(want.size, want.shape[-1])
                    want, runs = want.reshape(-1)[at], [run.reshape(-1)[at] for run in runs]
                    rough = {klass: [run.reshape(-1)[at] for run in made] for klass, made in rough.items()}
                    entry["sampled"] = True
                if case.klass == "exact":
                    array = want.astype("<i4") if types[name] == "i32" else stored(want, types[name])
                else:
                    array = want if want.size <= 256 else want.astype("<f4")
                    if np.isfinite(want).all() and not np.isfinite(array).all():
                        raise ValueError(f"{case.id}: {name} is out of float32's range")
                    noise = [measure(run, want) for run in runs]
                    entry["noise_nmse"] = float(f"{max(n[0] for n in noise):.1e}")
                    entry["noise_max"] = float(f"{max(n[1] for n in noise):.1e}")
                    if noisy := coarse_noise(rough, want):
                        entry["coarse"] = noisy
                tensors[f"{case.id}#{number}#{name}"] = array
                expects.append(entry)
            steps.append(expects)
        text.append(to_toml(case, steps))
    folder = out / level
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{group}.safetensors"
    # bfloat16 has no NumPy type: its bits are stored as they are.
    write_safetensors(data, tensors)
    head = f'# Made by conformance/reference/make.py; do not edit.\nsha256 = "{sha256(data)}"\n'
    (folder / f"{group}.toml").write_text(head + "".join(text), encoding="utf-8")


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """An honest program's result, stored in the result's type and widened."""
    return widened(stored(values, dtype), dtype)


def agree(id: str, name: str, one: np.ndarray, other: np.ndarray) -> None:
    """Both references give the same numbers."""
    if one.shape != other.shape or not np.array_equal(np.isnan(one), np.isnan(other)):
        raise ValueError(f"{id}: {name}: the references differ in shape or NaN: {one.shape} {other.shape}")
    finite = np.isfinite(one)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
        raise ValueError(f"{id}: {name}: the references differ in infinities")
    scale = np.max(np.abs(one[finite]), initial=0.0)
    if np.max(np.abs(one[finite] - other[finite]), initial=0.0) > AGREEMENT * scale:
        raise ValueError(f"{id}: {name}: the references differ by {np.max(np.abs(one[finite] - other[finite])):.2e} of {scale:.2e}")


def inline(value: object) -> str:
    """A TOML value, tables inline."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {inline(v)}" for k, v in value.items()) + " }" if value else "{ }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(inline(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, float):
        return "nan" if np.isnan(value) else ("inf" if value > 0 else "-inf") if np.isinf(value) else repr(float(value))
    return json.dumps(value)


def to_toml(case: Case, expects: list[list[dict]]) -> str:
    """The case as it stands in the file."""
    lines = ["", "[[case]]", f"id = {inline(case.id)}", f"about = {inline(case.about)}", f"profiles = [{inline(case.profile)}]", f"class = {inline(case.klass)}"]
    lines += ["values = ["] + [f"  {inline(value)}," for value in case.values] + ["]"]
    lines += ["nodes = ["] + [f"  {inline(node)}," for node in case.nodes] + ["]"]
    for step, expect in zip(case.steps, expects, strict=True):
        lines += ["[[case.step]]", f"symbols = {inline(step['symbols'])}"]
        if step["write"]:
            lines += ["write = ["] + [f"  {inline(entry)}," for entry in step["write"]] + ["]"]
        lines.append('error = "invalid"' if step["error"] else f"expect = {inline(expect)}")
    return "\n".join(lines) + "\n"
