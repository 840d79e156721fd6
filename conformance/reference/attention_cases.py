"""The cases of operation `attention`: batches over a cache whose blocks lie anywhere, and what nobody owns is poisoned."""

import numpy as np

from graph_case import FIELDS, Case, hash_name

GARBAGE = [-7, 1 << 30, -1, (1 << 31) - 1]


class Batch:
    """Sequences as (new tokens, length after this step), laid out in blocks that are permuted over the cache."""

    def __init__(self, id: str, sequences: list[tuple[int, int]], block: int, spare: int = 2, shared: bool = False, padding: int = 0, top: bool = False) -> None:
        self.sequences, self.block, self.padding = sequences, block, padding
        generator = np.random.RandomState(hash_name(id))
        need = [-(-length // block) for _, length in sequences]
        self.width = max(max(need, default=1), 1) + 1
        self.blocks = sum(need) + spare
        # The last blocks there are, or any.
        order = list(range(self.blocks)) if top else list(generator.permutation(self.blocks))
        self.owned: list[list[int]] = []
        for s, count in enumerate(need):
            # A fork shares the whole blocks of the sequence before it.
            kept = min(count, (sequences[s - 1][1] // block)) if shared and s else 0
            self.owned.append(self.owned[s - 1][:kept] + [order.pop() for _ in range(count - kept)] if kept else [order.pop() for _ in range(count)])
        self.table = [row + [GARBAGE[(s + i) % len(GARBAGE)] for i in range(self.width - len(row))] for s, row in enumerate(self.owned)]
        self.q_start = [0, *np.cumsum([new for new, _ in sequences]).tolist()]
        self.rows = self.blocks * block

    @property
    def tokens(self) -> int:
        """Tokens of the step, padding included."""
        return self.q_start[-1] + self.padding

    def cache(self, scale: float = 1.0, kv: str = "f32") -> dict:
        """Normals, or blocks, in the rows that sequences own, poison everywhere else."""
        rows = {owned[j // self.block] * self.block + j % self.block for (_, length), owned in zip(self.sequences, self.owned, strict=True) for j in range(length)}
        gen = {"gen": "blocks", "scale": scale / FIELDS[kv][1]} if kv in FIELDS else {"gen": "normal", "scale": scale}
        return gen | {"rows": sorted(int(row) for row in rows)}


def batched(name: str, sequences: list, about: str, heads: int = 6, groups: int = 2, width: int = 10, block: int = 4, scale: float | None = None, window: int | None = None, q: str = "f32", kv: str = "f32", q_scale: float = 1.0, v_scale: float = 1.0, whole: bool = False, sampled: bool = False, **layout: object) -> Case:
    """One step over a batch; with `whole` the cache has numbers everywhere, and rows need not be listed."""
    types = "f32" if (q, kv) == ("f32", "f32") else f"{q}_{kv}"
    id = f"op/attention/{types}/{name}"
    batch = Batch(id, sequences, block, **layout)
    case = Case(id, about, "core" if types == "f32" else "quant" if kv in FIELDS else "half", "f32" if q == "f32" else q)
    case.sampled = sampled
    case.value("q", "input", q, ["T", heads * width], gen="normal", scale=q_scale)
    for part, size in (("k", 1.0), ("v", v_scale)):
        contents = {"gen": "normal", "scale": size} if whole else batch.cache(size, kv)
        case.value(part, "state", kv, [batch.rows, groups * width], **contents)
    case.value("q_start", "input", "i32", ["P"], ints=batch.q_start)
    case.value("seq_len", "input", "i32", ["S"], ints=[length for _, length in sequences])
    case.value("block_table", "input", "i32", ["S", batch.width], ints=batch.table)
    attrs = {"num_heads": heads, "num_kv_heads": groups, "head_dim": width, "block_size": block, "scale": float(scale or width**-0.5)}
    case.node("attention", "q k v q_start seq_len block_table", "y", **attrs | ({"window": window} if window else {}))
    return case.step("y", T=batch.tokens, S=len(sequences), L=max(length for _, length in sequences))


def attention() -> list[Case]:
    cases = []

    def one(*description: object, **shape: object) -> None:
        cases.append(batched(*description, **shape))

    for heads, groups in ((1, 1), (2, 1), (4, 4), (6, 2), (6, 3), (9, 3), (8, 1), (5, 5), (12, 4), (14, 2)):
        one(f"heads{heads}_of{groups}_prefill", [(7, 7)], "which query head reads which key head", heads, groups)
        one(f"heads{heads}_of{groups}_decode", [(1, 13)], "which query head reads which key head, one token", heads, groups)
    for width in (1, 2, 3, 8, 16, 24, 32, 33, 64, 65, 80, 96, 128, 130):
        one(f"width{width}_prefill", [(5, 5)], "the width of a head", 2, 1, width)
        one(f"width{width}_decode", [(1, 9)], "the width of a head, one token", 3, 1, width)
    for length in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129):
        one(f"decode{length}", [(1, length)], "the length of the context", 3, 1, 6)
    for length in (1, 2, 3, 8, 16, 17, 33, 64, 65):
        one(f"prefill{length}", [(length, length)], "the length of a prompt", 2, 1, 4)
    for length in (255, 256, 257, 511, 513, 1000, 1025):
        one(f"decode{length}", [(1, length)], "a long context", 2, 1, 2, 16)
    one("chunk_late", [(3, 600)], "a few tokens after a long context", 2, 1, 2, 16)
    for new, length in ((2, 5), (3, 4), (4, 8), (5, 33), (8, 9), (7, 21), (16, 32), (2, 65)):
        one(f"chunk{new}_of{length}", [(new, length)], "new tokens behind a context", 4, 2, 6)
    for block in (1, 2, 3, 4, 5, 7, 8, 16, 32, 64):
        one(f"block{block}_decode", [(1, 19)], "the size of a block", 4, 2, 6, block)
        one(f"block{block}_batch", [(5, 11), (1, 9), (3, 3)], "the size of a block, several sequences", 4, 2, 6, block)
    batches = {
        "two_decodes": [(1, 5), (1, 11)],
        "many_decodes": [(1, 3), (1, 17), (1, 8), (1, 1), (1, 32), (1, 9), (1, 16)],
        "mixed": [(6, 6), (1, 14), (3, 10), (1, 1)],
        "prompt_last": [(1, 20), (1, 4), (9, 9)],
        "nothing_new_first": [(0, 5), (3, 7)],
        "nothing_new_between": [(2, 5), (0, 9), (1, 7)],
        "nothing_new_last": [(4, 4), (0, 3)],
        "nobody_new_but_one": [(0, 4), (0, 6), (1, 3), (0, 8)],
        "empty_sequence": [(2, 5), (0, 0), (1, 7)],
        "equal": [(4, 9), (4, 9), (4, 9)],
    }
    for name, sequences in batches.items():
        one(name, sequences, "several sequences in a step")
        one(f"{name}_one_block", sequences, "several sequences, a block each", block=32)
        one(f"{name}_block1", sequences, "several sequences, a block a token", block=1)
    one("padding", [(3, 5), (1, 7)], "tokens past the last sequence give zeros", padding=4)
    one("padding_decode", [(1, 7)], "a token past the last sequence gives zeros", padding=1)
    one("padding_batch", [(2, 2), (0, 3), (5, 9)], "tokens past the last sequence give zeros", padding=3)
    one("shared", [(1, 13), (2, 14), (1, 9)], "forks share their first blocks", shared=True)
    one("shared_blocks", [(3, 20), (3, 18)], "forks share their first blocks", shared=True, block=5)
    one("scattered", [(2, 15), (1, 12)], "blocks lie far from each other", spare=30)
    for window in (1, 2, 3, 4, 5, 8, 100):
        one(f"window{window}_prefill", [(9, 9)], "how far a token sees", 4, 2, 6, window=window)
        one(f"window{window}_decode", [(1, 14)], "how far a token sees, one token", 4, 2, 6, window=window)
        one(f"window{window}_batch", [(5, 12), (1, 6), (2, 2)], "how far a token sees, several sequences", 4, 2, 6, window=window)
    for scale in (0.01, 0.5, 1.0, 2.0):
        one(f"scale{scale:g}", [(4, 9)], "a scale that is not 1/sqrt(width)", 4, 2, 6, scale=scale)
    one("steep", [(5, 12)], "scores so far apart that exp would overflow", 4, 2, 6, q_scale=200.0)
    one("steep_decode", [(1, 33)], "scores so far apart that exp would overflow", 4, 2, 6, q_scale=200.0)
    one("flat", [(5, 12)], "all positions alike", 4, 2, 6, q_scale=1e-6)
    for q, kv in (("f32", "f16"), ("f32", "bf16"), ("f16", "f16"), ("bf16", "bf16"), ("f16", "f32")):
        one("prefill", [(9, 9)], "16-bit types", q=q, kv=kv)
        one("decode", [(1, 33)], "16-bit types, one token", q=q, kv=kv)
        one("batch", [(4, 9), (1, 17), (0, 3), (2, 2)], "16-bit types, several sequences", q=q, kv=kv, block=5)
        one("window", [(6, 11)], "16-bit types, a window", q=q, kv=kv, window=4)
    for width in (32, 64, 96, 128, 160):
        one(f"width{width}_prefill", [(5, 5)], "heads of whole blocks", 2, 1, width, kv="q8_0")
        one(f"width{width}_decode", [(1, 9)], "heads of whole blocks, one token", 3, 1, width, kv="q8_0")
    for heads, groups in ((4, 4), (6, 2), (9, 3), (14, 2), (20, 1)):
        one(f"heads{heads}_of{groups}_prefill", [(7, 7)], "which query head reads which key head", heads, groups, 32, kv="q8_0")
        one(f"heads{heads}_of{groups}_decode", [(1, 13)], "which query head reads which key head, one token", heads, groups, 32, kv="q8_0")
    for length in (1, 15, 16, 17, 63, 64, 65, 130):
        one(f"decode{length}", [(1, length)], "the length of the context", 3, 1, 32, kv="q8_0")
    for block in (1, 5, 32):
        one(f"block{block}_batch", [(4, 9), (1, 17), (0, 3), (2, 2)], "several sequences, the size of a block", 4, 2, 32, block, kv="q8_0")
    for window in (1, 4, 100):
        one(f"window{window}_batch", [(6, 11), (1, 9)], "a window", 4, 2, 64, kv="q8_0", window=window)
    one("shared", [(1, 13), (2, 14), (1, 9)], "forks share their first blocks", 4, 2, 32, kv="q8_0", shared=True)
    one("padding", [(3, 5), (1, 7)], "tokens past the last sequence give zeros", 4, 2, 32, kv="q8_0", padding=4)
    one("large", [(3, 5), (1, 7)], "large scales of values", 4, 2, 32, kv="q8_0", v_scale=1e5)
    one("small", [(3, 5), (1, 7)], "subnormal scales of values", 4, 2, 32, kv="q8_0", v_scale=1e-4)
    for q in ("f16", "bf16"):
        one("batch", [(4, 9), (1, 17), (0, 3), (2, 2)], "queries of 16 bits", 4, 2, 32, 5, q=q, kv="q8_0")
    cases.append(_steps("op/attention/f32/steps"))
    cases.append(_appended("op/attention/f32/appended", "f32", None))
    cases.append(_appended("op/attention/f32/appended_window", "f32", 3))
    cases.append(_appended("op/attention/f32_f16/appended", "f16", None))
    cases.append(_appended("op/attention/f32_q8_0/appended", "q8_0", None, 32))
    cases.append(_appended("op/attention/f32_q8_0/appended_window", "q8_0", 3, 64))
    return cases


def _steps(id: str) -> Case:
    """One plan over many batches of one cache."""
    plans = [[(7, 7), (3, 9)], [(1, 8), (1, 10)], [(1, 9)], [(0, 9), (5, 15), (2, 4)]]
    block, width = 4, 6
    case = Case(id, "one plan: a prompt, decodes, another number of sequences")
    case.value("q", "input", "f32", ["T", 4 * width]).value("k", "state", "f32", [80, 2 * width]).value("v", "state", "f32", [80, 2 * width])
    for number, sequences in enumerate(plans):
        order = np.random.RandomState(hash_name(f"{id}{number}")).permutation(20).tolist()
        table = [[order.pop() if i * block < length else GARBAGE[i % 4] for i in range(5)] for _, length in sequences]
        contents = {
            "q_start": {"ints": [0, *np.cumsum([new for new, _ in sequences]).tolist()]},
            "seq_len": {"ints": [length for _, length in sequences]},
            "block_table": {"ints": table},
        }
        symbols = {"T": sum(new for new, _ in sequences), "S": len(sequences), "L": max(length for _, length in sequences)}
        if number == 0:
            for name, shape in (("q_start", ["P"]), ("seq_len", ["S"]), ("block_table", ["S", 5])):
                case.value(name, "input", "i32", shape, **contents[name])
            case.node("attention", "q k v q_start seq_len block_table", "y", num_heads=4, num_kv_heads=2, head_dim=width, block_size=block, scale=0.4)
            case.step("y", **symbols)
        else:
            case.step("y", write=contents | {"q": {"gen": "normal", "scale": 1.0}}, **symbols)
    return case


def _appended(id: str, kv: str, window: int | None, width: int = 4) -> Case:
    """Keys and values are stored and read in the same step, from a poisoned cache: a prompt, then tokens one by one."""
    block = 3
    profile, klass = {"f32": ("core", "f32"), "f16": ("half", "f16"), "q8_0": ("quant", "f32")}[kv]
    case = Case(id, "what is stored is seen in the same step, and in the next ones", profile, klass)
    case.value("q", "input", "f32", ["T", 6 * width]).value("newk", "input", "f32", ["T", 2 * width]).value("newv", "input", "f32", ["T", 2 * width])
    case.value("k", "state", kv, [27, 2 * width], gen="poison").value("v", "state", kv, [27, 2 * width], gen="poison")
    blocks = [[7, 2, 5, 0], [1, 8, 3, 6]]
    lengths = [0, 0]
    for number, news in enumerate([(5, 2), (1, 1), (1, 0), (2, 3), (1, 1)]):
        slots = []
        for s, new in enumerate(news):
            slots += [blocks[s][j // block] * block + j % block for j in range(lengths[s], lengths[s] + new)]
            lengths[s] += new
        contents = {
            "slot": {"ints": [*slots, -1]},
            "q_start": {"ints": [0, news[0], sum(news)]},
            "seq_len": {"ints": lengths},
            "block_table": {"ints": blocks},
        }
        symbols = {"T": sum(news) + 1, "S": 2, "L": max(lengths)}
        if number == 0:
            for name, shape in (("slot", ["T"]), ("q_start", ["P"]), ("seq_len", ["S"]), ("block_table", ["S", 4])):
                case.value(name, "input", "i32", shape, **contents[name])
            case.node("kv_append", "k newk slot", "k2").node("kv_append", "v newv slot", "v2")
            case.node("attention", "q k2 v2 q_start seq_len block_table", "y", num_heads=6, num_kv_heads=2, head_dim=width, block_size=block, scale=0.5, **({"window": window} if window else {}))
            case.step("y", **symbols)
        else:
            new = {name: {"gen": "normal", "scale": 1.0} for name in ("q", "newk", "newv")}
            case.step("y", write=contents | new, **symbols)
    return case
