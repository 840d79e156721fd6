"""Cases of level `op` for what only shows at some sizes: kernels for large shapes, tails of every length, indices that are
too narrow, grids that end, fields of blocks that random scales leave out.

Sizes at which programs change their mind are those of kernel bugs that were reported: grids of at most 65535 groups, contexts
that are a multiple of 256, more than eight query heads a key head, one token against long rows, tiles that divide evenly.
Of large results some elements are stored (`graph_case.points`); all others must be finite.
"""

import gguf
import numpy as np

from attention_cases import batched
from graph_case import BLOCKS, FIELDS, Case, blocks, hash_name, random_blocks, to_bf16
from op_cases import HALVES, cased, f32, rng, tables

FLAT = {"gen": "uniform", "lo": -1.0, "hi": 1.0}


def linear() -> list[Case]:
    cases = []

    def one(name: str, t: int, k: int, n: int, about: str, *, x: str = "f32", w: str = "f32", bias: bool = False) -> None:
        types = "f32" if (x, w) == ("f32", "f32") else w if w in BLOCKS else f"{x}_{w}"
        profile = "core" if types == "f32" else "quant" if w in BLOCKS else "half"
        case = cased(f"linear/{types}/{name}", about, profile, "f32" if x == "f32" else x)
        case.sampled = True
        case.value("x", "input", x, ["T", k], **FLAT)
        edge = float(np.sqrt(3 / k))
        case.value("w", "weight", w, [n, k], **(blocks(w, n, k) if w in BLOCKS else {"gen": "uniform", "lo": -edge, "hi": edge}))
        if bias:
            case.value("b", "weight", "f32", [n])
        cases.append(case.node("linear", "x w b" if bias else "x w", "y").step("y", T=t))

    for t, k, n in ((32, 32, 32), (64, 64, 64), (128, 128, 128), (64, 256, 64), (256, 64, 96), (512, 32, 16)):
        one(f"tile_t{t}_k{k}_n{n}", t, k, n, "sizes that tiles divide")
    for t, k, n in ((33, 35, 34), (65, 65, 65), (70, 300, 70), (100, 70, 130), (129, 130, 131), (257, 31, 129), (66, 1030, 66)):
        one(f"tile_t{t}_k{k}_n{n}", t, k, n, "sizes of tiles and a rest", bias=True)
    for t, k, n in ((1, 1024, 1024), (1, 1027, 70), (1, 2048, 256), (1, 2052, 130), (1, 4096, 128), (1, 8192, 64), (1, 64, 4096), (1, 96, 5003)):
        one(f"row_k{k}_n{n}", t, k, n, "one token against a real weight")
    for t in (4, 6, 8, 12, 16, 24):
        one(f"few_t{t}", t, 128, 64, "a small batch against a real weight")
    one("n65541", 1, 12, 65541, "more than 65535 rows of w")
    one("n65541_t3", 3, 8, 65541, "more than 65535 rows of w, three tokens")
    one("n131077", 1, 8, 131077, "more than 131072 rows of w, as large vocabularies have", bias=True)
    one("n65541_t20", 20, 4, 65541, "more than a million results")
    one("t1500", 1500, 9, 7, "more than a thousand tokens")
    one("t65540", 65540, 3, 2, "more than 65535 tokens")
    for types in HALVES:
        one("tile_t64_k64_n64", 64, 64, 64, "sizes that tiles divide", x=types, w=types)
        one("tile_t65_k130_n67", 65, 130, 67, "sizes of tiles and a rest", x=types, w=types)
        one("row_k4096_n64", 1, 4096, 64, "one token against a real weight", x=types, w=types)
        one("row_k2052_n130", 1, 2052, 130, "one token against a real weight", w=types)
        one("n65541", 1, 8, 65541, "more than 65535 rows of w", w=types)

    for name, sizes, about in (("row_every_k", range(1, 41), "one token, sums of every length"), ("row_long_k", (44, 52, 60, 68, 76, 84, 92, 100, 108, 116, 124, 130, 131, 132, 140, 196, 260, 516), "one token, tails of longer sums")):
        case = cased(f"linear/f32/{name}", about, "core", "f32")
        for k in sizes:
            case.value(f"x{k}", "input", "f32", ["T", k], **FLAT).value(f"w{k}", "weight", "f32", [7, k], **FLAT).node("linear", f"x{k} w{k}", f"y{k}")
        cases.append(case.step(" ".join(f"y{k}" for k in sizes), T=1))
    case = cased("linear/f32/row_every_n", "one token, every number of rows", "core", "f32").value("x", "input", "f32", ["T", 24], **FLAT)
    for n in range(1, 41):
        case.value(f"w{n}", "weight", "f32", [n, 24], **FLAT).node("linear", f"x w{n}", f"y{n}")
    cases.append(case.step(" ".join(f"y{n}" for n in range(1, 41)), T=1))

    def every_t(types: str, k: int, n: int, counts: list, profile: str, contents: dict) -> None:
        case = cased(f"linear/{types}/every_t", "one plan for batches of many sizes, which take other paths", profile, "f32")
        case.value("x", "input", "f32", ["T", k], **FLAT).value("w", "weight", types, [n, k], **contents).node("linear", "x w", "y")
        for i, t in enumerate(counts):
            case.step("y", write={"x": FLAT} if i else {}, T=t)
        cases.append(case)

    every_t("f32", 36, 3, [*range(1, 41), 48, 63, 64, 65], "core", FLAT)
    for w in BLOCKS:
        step = 256 if w.endswith("_k") else 32
        every_t(w, step, 3, [4, 6, 7, 8, 9, 10, 12, 16, 17, 32, 64, 65], "quant", blocks(w, 3, step))
        for count in (4, 5, 6, 8):
            one(f"row_blocks{count}", 1, count * step, 6, "a row of so many blocks, one token", w=w)
        one("few_blocks4", 3, 4 * step, 6, "four blocks a row", w=w)
        one("row_n64", 1, step, 64, "one token, rows that groups divide", w=w)
        one("row_n130", 1, 2 * step, 130, "one token, many rows", w=w)
    one("n65541", 1, 32, 65541, "more than 65535 rows of w", w="q8_0")
    one("n65541", 1, 32, 65541, "more than 65535 rows of w", w="q4_0")

    for name, scale in (("x_huge", 1e30), ("x_beyond_f16", 1e6), ("x_below_f16", 1e-12)):
        case = cased(f"linear/f32/{name}", "f16 in the middle cannot hold this", "core", "f32")
        case.value("x", "input", "f32", ["T", 40], gen="normal", scale=scale).value("w", "weight", "f32", [9, 40], gen="normal", scale=0.2)
        cases.append(case.node("linear", "x w", "y").step("y", T=4))
    case = cased("linear/f32/w_large", "weights that f16 cannot hold", "core", "f32")
    case.value("x", "input", "f32", ["T", 40]).value("w", "weight", "f32", [9, 40], gen="normal", scale=1e6)
    cases.append(case.node("linear", "x w", "y").step("y", T=4).step("y", T=1, write={"x": {"gen": "normal", "scale": 1.0}}))
    return cases


def sixteen(values: np.ndarray, dtype: str) -> np.ndarray:
    """As it is stored."""
    return to_bf16(f32(values)) if dtype == "bf16" else f32(values).astype("<f2")


def rounding() -> list[Case]:
    """Results of 16-bit types are rounded to the nearest, ties to even: sums and products that f32 holds exactly."""
    cases = []
    for x, bits in (("f16", 11), ("bf16", 8)):
        generator = rng(f"rounding{x}")
        # Whole numbers of which 16 bits hold every one; sums and products have a few bits more.
        top = 1 << bits
        a, b = generator.randint(top // 2, top, (2, 3, 21)) * generator.choice([-1, 1], (2, 3, 21))
        for op, left, right in (("add", a, b * 2.0**-3), ("mul", a, b * 2.0**-bits)):
            case = cased(f"{op}/{x}/rounding", "results are rounded to the nearest, ties to even, not cut", "half", "exact")
            case.value("a", "input", x, ["T", 21], data=sixteen(left, x)).value("b", "input", x, ["T", 21], data=sixteen(right, x))
            cases.append(case.node(op, "a b", "y").step("y", T=3))
        case = cased(f"linear/{x}_{x}/rounding", "results are rounded to the nearest, ties to even, not cut", "half", "exact")
        weight = np.zeros((7, 21))
        weight[np.arange(7), generator.permutation(21)[:7]] = 1.0
        weight[np.arange(7), generator.permutation(21)[7:14]] = 2.0**-3
        case.value("x", "input", x, ["T", 21], data=sixteen(a, x)).value("w", "weight", x, [7, 21], data=sixteen(weight, x))
        cases.append(case.node("linear", "x w", "y").step("y", T=3))
        case = cased(f"add_rms_norm/{x}/rounding", "the sum is rounded to the nearest, ties to even, not cut", "half", "exact")
        case.value("x", "input", x, ["T", 21], data=sixteen(a, x)).value("residual", "input", x, ["T", 21], data=sixteen(b * 2.0**-3, x))
        case.value("weight", "weight", x, [21], data=sixteen(np.ones(21), x))
        cases.append(case.node("add_rms_norm", "x residual weight", "sum y", eps=1e-5).step("sum", T=3))
        # A row whose mean square is 4, so that y = x w / 2; for odd w past 2/3 of the range no product is a tie.
        row = np.zeros(16)
        row[[1, 4, 6, 9, 14]] = 7, -3, 2, 1, -1
        w = generator.randint(7 * top // 20, top // 2, 16) * 2 + 1
        case = cased(f"rms_norm/{x}_{x}/rounding", "results are rounded to the nearest, not cut", "half", "exact")
        case.value("x", "input", x, ["T", 16], data=sixteen(np.stack([row, row[::-1], np.roll(row, 5)]), x))
        case.value("w", "weight", x, [16], data=sixteen(w, x)).node("rms_norm", "x w", "y", eps=1e-12)
        cases.append(case.step("y", T=3))
        # All scores are zero: every output is the mean of two values.
        case = cased(f"attention/{x}_{x}/rounding", "results are rounded to the nearest, ties to even, not cut", "half", "exact")
        case.value("q", "input", x, ["T", 8], gen="const", value=0.0).value("k", "state", x, [4, 4])
        case.value("v", "state", x, [4, 4], data=sixteen(np.stack([a[0, :4], a[0, 4:8] * 2.0**-3, a[1, :4], a[1, 4:8]]), x))
        for name, shape, ints in (("q_start", ["P"], [0, 1]), ("seq_len", ["S"], [2]), ("block_table", ["S", 1], [0])):
            case.value(name, "input", "i32", shape, ints=ints)
        case.node("attention", "q k v q_start seq_len block_table", "y", num_heads=2, num_kv_heads=1, head_dim=4, block_size=4, scale=0.5)
        cases.append(case.step("y", T=1, S=1, L=2))
    return cases


# f16 fields that random scales leave out: both signs, zeros, subnormals, the largest.
EDGES = {
    "signs": ("scales and minimums of both signs", [0x2E66, 0xAE66, 0x3C00, 0xBC00, 0x3001, 0xB555]),
    "subnormal": ("scales below the normal f16", [0x0001, 0x8001, 0x03FF, 0x83FF, 0x0200, 0x0155]),
    "zeros": ("scales of zero beside others", [0x0000, 0x8000, 0x2E66, 0x0000, 0xAE66, 0x8000]),
    "large": ("scales near the end of f16", [0x7BFF, 0xFBFF, 0x7800, 0xF801, 0x7BFE, 0x7000]),
}


def edge_blocks(id: str, dtype: str, rows: int, columns: int, codes: list[int]) -> np.ndarray:
    """`u8 [rows, bytes]`: random codes under f16 fields that are drawn from `codes`."""
    elems, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[BLOCKS[dtype]]]
    raw = random_blocks(dtype, rows, columns, 1.0, hash_name(id)).reshape(-1, size)
    generator = rng(id)
    for offset, _ in FIELDS[dtype][0]:
        drawn = np.array([codes[(i + generator.randint(len(codes))) % len(codes)] for i in range(len(raw))], dtype="<u2")
        raw[:, offset : offset + 2] = drawn.view(np.uint8).reshape(-1, 2)
    return raw.reshape(rows, columns // elems * size)


def quant_edges() -> list[Case]:
    cases = []
    for w in BLOCKS:
        step = 256 if w.endswith("_k") else 32
        for name, (about, codes) in EDGES.items():
            case = cased(f"linear/{w}/scales_{name}", about, "quant", "f32")
            case.value("x", "input", "f32", ["T", 2 * step]).value("w", "weight", w, [3, 2 * step], data=edge_blocks(case.id, w, 3, 2 * step, codes))
            cases.append(case.node("linear", "x w", "y").step("y", T=2).step("y", T=1, write={"x": FLAT}))
            if name in ("signs", "subnormal"):
                case = cased(f"gather_rows/{w}/scales_{name}", about, "quant", "exact")
                case.value("table", "weight", w, [3, step], data=edge_blocks(case.id, w, 3, step, codes)).value("index", "input", "i32", ["T"], ints=[2, 0, 1])
                cases.append(case.node("gather_rows", "table index", "y").step("y", T=3))
                case = cased(f"cast/{w}_f32/scales_{name}", about, "quant", "exact")
                cases.append(case.value("x", "weight", w, [3, step], data=edge_blocks(case.id, w, 3, step, codes)).node("cast", "x", "y", to="f32").step("y"))
    return cases


def rows() -> list[Case]:
    """`gather_rows`, `scatter_rows` and `kv_append` on large tables, and with many or long rows."""
    cases = []

    def gather(name: str, n: int, d: int, ints: list, about: str, table: str = "f32") -> None:
        case = cased(f"gather_rows/{table}/{name}", about, "core" if table == "f32" else "half" if table in HALVES else "quant", "exact")
        case.sampled = True
        contents = blocks(table, n, d) if table in BLOCKS else FLAT
        case.value("table", "weight", table, [n, d], **contents).value("index", "input", "i32", ["T"], ints=ints)
        cases.append(case.node("gather_rows", "table index", "y").step("y", T=len(ints)))

    high = [65535, 65536, 65537, 3, 65539, -1, 32768, 0]
    gather("n65540", 65540, 3, high, "more than 65535 rows")
    gather("n131080", 131080, 2, [131071, 131072, 131079, 65536, 7, -1], "more than 131072 rows, as large vocabularies have")
    gather("n131080_d129", 131080, 129, [131079, 130055, 130056, 65536, 1], "more than 2^24 elements")
    for table in ("f16", "q8_0", "q4_0"):
        gather("n65540", 65540, 32, high, "more than 65535 rows", table)
    gather("d1030", 5, 1030, [4, 0, 2], "a long row")
    gather("d4096", 5, 4096, [4, 0, 2], "a row of a real model")
    gather("t1500", 1031, 3, list(rng("t1500").randint(-1, 1031, 1500)), "more than a thousand indices")
    nothing = cased("gather_rows/f32/no_rows", "a step that wants no rows between two others", "core", "exact")
    nothing.value("table", "input", "f32", ["T", 5]).value("index", "input", "i32", ["O"], ints=[1, 0]).node("gather_rows", "table index", "y")
    cases.append(nothing.step("y", T=3, O=2).step("y", T=3, O=0, write={"index": {"ints": []}}).step("y", T=3, O=1, write={"index": {"ints": [2]}}))
    for op, part, index in (("scatter_rows", "rows", "index"), ("kv_append", "rows", "slot")):

        def store(name: str, n: int, d: int, ints: list, about: str, op: str = op, part: str = part, index: str = index) -> None:
            case = cased(f"{op}/f32/{name}", about, "core", "exact")
            case.sampled = True
            case.value("table", "state", "f32", [n, d], **FLAT).value(part, "input", "f32", ["T", d], **FLAT).value(index, "input", "i32", ["T"], ints=ints)
            cases.append(case.node(op, f"table {part} {index}", "y").step("y", T=len(ints)))

        store("n65540", 65540, 2, high, "more than 65535 rows")
        store("d1030", 5, 1030, [3, 0], "a long row")
        store("t1500", 2000, 2, list(rng("store").permutation(2000)[:1500]), "more than a thousand rows at once")
    return cases


def attention() -> list[Case]:
    cases = []

    def one(*description: object, **shape: object) -> None:
        cases.append(batched(*description, sampled=True, **shape))

    for length in (2048, 4096, 4097, 8200):
        one(f"long_decode{length}", [(1, length)], "a long context", 2, 1, 4, 16, whole=True)
    one("long_decode_blocks", [(1, 1100)], "more blocks than a byte counts", 2, 1, 4, 2, whole=True)
    one("long_decode_block1", [(1, 300)], "more blocks than a byte counts, a block a token", 2, 1, 4, 1)
    one("long_batch", [(1, 2100), (1, 5), (3, 1030), (1, 256)], "long contexts beside short ones", 4, 2, 4, 16, whole=True)
    one("long_chunk", [(5, 1500)], "a few tokens after a long context", 2, 1, 4, 16, whole=True)
    one("long_chunk_wide", [(40, 200)], "many tokens after a long context", 2, 1, 8, 16)
    one("long_window", [(1, 700), (4, 300)], "a window far from the beginning", 2, 1, 4, 16, window=9, whole=True)
    for window in (5, 64, 100):
        one(f"window{window}_far", [(3, 210), (1, 300)], "a window far from the beginning", 4, 2, 6, window=window)
        one(f"window{window}_long_prefill", [(140, 140)], "a window much shorter than the prompt", 2, 1, 4, window=window)
    for heads, groups in ((16, 1), (32, 2), (7, 1), (14, 1), (16, 4), (32, 8), (24, 3), (40, 40), (71, 1)):
        one(f"many_heads{heads}_of{groups}_prefill", [(4, 4)], "which query head reads which key head", heads, groups, 6)
        one(f"many_heads{heads}_of{groups}_decode", [(1, 9), (1, 4)], "which query head reads which key head, one token", heads, groups, 6)
    for width in (112, 160, 192, 256, 320):
        one(f"wide{width}_prefill", [(4, 4)], "wide heads", 2, 1, width)
        one(f"wide{width}_decode", [(1, 7)], "wide heads, one token", 3, 1, width)
    one("real_prefill", [(64, 64)], "a prompt and heads that tiles divide", 2, 1, 64, 16)
    one("real_prefill_more", [(70, 70)], "a prompt that leaves a rest", 2, 1, 64, 16)
    one("real_prefill_128", [(128, 128)], "a prompt and heads that tiles divide", 2, 1, 32, 16)
    one("real_prefill_two", [(66, 66), (64, 64)], "prompts of one step", 2, 1, 32, 16)
    one("real_chunk", [(64, 128)], "a chunk that tiles divide behind another", 2, 1, 32, 16)
    for length in (256, 257, 512):
        one(f"real_decode{length}", [(1, length)], "real heads over a context that may be a whole number of tiles", 8, 2, 64, 16, whole=True)
        one(f"real_decode{length}_128", [(1, length)], "real heads over a context that may be a whole number of tiles", 4, 1, 128, 32, whole=True)
    one("sequences33", [(1, 1 + 7 * i % 23) for i in range(33)], "more sequences than any group", 2, 1, 4)
    one("sequences300", [(1, 1 + 5 * i % 9) for i in range(300)], "hundreds of sequences", 2, 1, 2)
    one("sequences70_chunks", [(1 + i % 3, 4 + 3 * i % 11) for i in range(70)], "sequences with other counts of new tokens", 2, 1, 4)
    for block in (128, 256, 100):
        one(f"block{block}_decode", [(1, 150)], "a large block", 4, 2, 6, block)
        one(f"block{block}_batch", [(3, 130), (1, 9), (2, 101)], "a large block, several sequences", 4, 2, 6, block)
    one("rows65540", [(2, 70), (1, 90)], "rows past the 65535th of a cache", 2, 1, 2, 64, spare=1026, top=True)
    one("blocks65540", [(2, 7), (1, 9)], "blocks past the 65535th of a cache", 2, 1, 2, 1, spare=65540, top=True)
    one("v_beyond_f16", [(4, 9), (1, 30)], "values that f16 cannot hold", 4, 2, 6, v_scale=1e6)
    one("v_tiny", [(4, 9), (1, 30)], "values that f16 cannot hold", 4, 2, 6, v_scale=1e-9)
    one("v_huge", [(4, 9), (1, 30)], "values near the end of f32", 4, 2, 6, v_scale=1e30)
    for kv in HALVES:
        one("long_decode2100", [(1, 2100)], "a long context in 16 bits", 2, 1, 4, 16, q="f32", kv=kv, whole=True)
        one("real_prefill", [(64, 64)], "a prompt and heads that tiles divide", 2, 1, 64, 16, q=kv, kv=kv)
        one("real_decode256", [(1, 256)], "real heads over a whole number of tiles", 8, 2, 64, 16, q=kv, kv=kv, whole=True)
    return cases


def norms() -> list[Case]:
    cases = []

    def one(name: str, t: int, d: int, about: str, x: str = "f32", **contents: object) -> None:
        case = cased(f"rms_norm/{'f32' if x == 'f32' else f'{x}_{x}'}/{name}", about, "core" if x == "f32" else "half", x)
        case.sampled = True
        case.value("x", "input", x, ["T", d], **(contents or FLAT)).value("w", "weight", x, [d], gen="uniform", lo=0.5, hi=1.5)
        cases.append(case.node("rms_norm", "x w", "y", eps=1e-5).step("y", T=t))

    for d in (512, 1024, 2048, 4096, 5120, 8192, 8200, 16388):
        one(f"row{d}", 2, d, "a row of a real model")
    one("row4096_t33", 33, 4096, "many rows of a real model")
    one("t1500", 1500, 9, "more than a thousand rows")
    one("t65540", 65540, 3, "more than 65535 rows")
    one("x_beyond_f16", 3, 66, "values that f16 cannot hold", gen="normal", scale=1e6)
    for x in HALVES:
        one("row4096", 2, 4096, "a row of a real model", x)
    for d, t in ((1024, 2), (4096, 1), (576, 65)):
        case = cased(f"add_rms_norm/f32/row{d}_t{t}", "rows of a real model", "core", "f32")
        case.sampled = True
        case.value("x", "input", "f32", ["T", d], **FLAT).value("residual", "input", "f32", ["T", d], **FLAT).value("weight", "weight", "f32", [d], gen="uniform", lo=0.5, hi=1.5)
        cases.append(case.node("add_rms_norm", "x residual weight", "sum y", eps=1e-5).step("sum y", T=t))
    case = cased("add_rms_norm/f32/beyond_f16", "sums that f16 cannot hold", "core", "f32")
    case.value("x", "input", "f32", ["T", 20], gen="normal", scale=1e6).value("residual", "input", "f32", ["T", 20], gen="normal", scale=1e6).value("weight", "weight", "f32", [20])
    cases.append(case.node("add_rms_norm", "x residual weight", "sum y", eps=1e-5).step("sum y", T=2))

    def soft(name: str, t: int, l: int, about: str, x: str = "f32") -> None:
        case = cased(f"softmax/{x}/{name}", about, "core" if x == "f32" else "half", x)
        case.sampled = True
        cases.append(case.value("x", "input", x, ["T", "L"], gen="uniform", lo=-2.0, hi=2.0).node("softmax", "x", "y", scale=1.0).step("y", T=t, L=l))

    for l in (512, 1024, 2048, 4100, 8192, 65540):
        soft(f"long{l}", 2 if l < 9000 else 1, l, "a long row")
    soft("rows1500", 1500, 7, "more than a thousand rows")
    soft("rows65540", 65540, 3, "more than 65535 rows")
    soft("rows70_long300", 70, 300, "many long rows")
    for x in HALVES:
        soft("long4100", 1, 4100, "a long row in 16 bits", x)
    return cases


def elements() -> list[Case]:
    """`rope`, `add`, `mul`, `activation`, `swiglu`, `cast` and `copy` over many elements."""
    cases = []

    def rope(name: str, t: int, heads: int, width: int, half: int | None = None, about: str = "many heads", scale: float = 1.0) -> None:
        case = cased(f"rope/f32/{name}", about, "core", "f32")
        case.sampled = True
        case.value("x", "input", "f32", ["T", heads * width], gen="uniform", lo=-scale, hi=scale)
        cases.append(tables(case, t, width // 2 if half is None else half).node("rope", "x cos sin", "y", head_dim=width).step("y", T=t))

    for width in (160, 192, 256, 320):
        rope(f"wide{width}", 2, 2, width, about="wide heads")
    rope("wide256_partial", 2, 2, 256, 32, "wide heads that are turned in part")
    rope("many_heads71", 2, 71, 4, about="more heads than any group")
    rope("many_heads130", 1, 130, 4, about="more heads than any group")
    rope("tokens1500", 1500, 2, 4, about="more than a thousand tokens")
    rope("heads_and_tokens", 1100, 60, 2, about="more than 65535 heads of all tokens")
    rope("real_t64", 64, 9, 64, about="a prompt of a real model")
    rope("beyond_f16", 3, 2, 12, about="values that f16 cannot hold", scale=1e6)

    def many(op: str, name: str, shape: list, t: int, about: str, a: dict, b: dict | None = None, x: str = "f32", **attrs: object) -> None:
        case = cased(f"{op}/{name}", about, "core", "exact" if op in ("cast", "copy") else "f32")
        case.sampled = True
        names = {"swiglu": "gate up"}.get(op, "a b" if b is not None else "x").split()
        for part, contents in zip(names, [a, b], strict=False):
            case.value(part, "input", x, shape, **contents)
        cases.append(case.node(op, " ".join(names), "y", **attrs).step("y", T=t))

    wide = {"gen": "uniform", "lo": -4.0, "hi": 4.0}
    for op, attrs, two in (("add", {}, True), ("mul", {}, True), ("activation", {"kind": "silu"}, False), ("swiglu", {}, True), ("cast", {"to": "f32"}, False), ("copy", {}, False)):
        at = {"activation": "f32/silu_", "cast": "f32_f32/"}.get(op, "f32/")
        many(op, f"{at}many_t300", ["T", 301], 300, "more than 65535 elements", wide, FLAT if two else None, **attrs)
        many(op, f"{at}many_1100_by_4000", [1100, 4000], 1, "more elements than 65535 groups of 64", wide, FLAT if two else None, **attrs)
    for op in ("add", "mul", "swiglu"):
        size = {"gen": "normal", "scale": 1e6 if op != "mul" else 1e4}
        case = cased(f"{op}/f32/beyond_f16", "values that f16 cannot hold", "core", "f32")
        names = ("gate", "up") if op == "swiglu" else ("a", "b")
        case.value(names[0], "input", "f32", ["T", 31], **size).value(names[1], "input", "f32", ["T", 31], **size)
        cases.append(case.node(op, " ".join(names), "y").step("y", T=3))
    case = cased("activation/f32/silu_beyond_f16", "values that f16 cannot hold", "core", "f32")
    cases.append(case.value("x", "input", "f32", ["T", 31], gen="normal", scale=1e6).node("activation", "x", "y", kind="silu").step("y", T=3))
    case = cased("activation/f32/silu_left", "far left silu is small and not zero", "core", "f32")
    cases.append(case.value("x", "input", "f32", ["T", 31], gen="uniform", lo=-40.0, hi=-20.0).node("activation", "x", "y", kind="silu").step("y", T=3))
    return cases


def bmm() -> list[Case]:
    cases = []

    def one(name: str, lead: list, m: object, k: object, n: object, about: str, transpose: bool = False, scale: float = 1.0, **symbols: int) -> None:
        case = cased(f"bmm/f32/{name}{'_bt' if transpose else ''}", about, "core", "f32")
        case.sampled = True
        case.value("a", "input", "f32", [*lead, m, k], gen="uniform", lo=-scale, hi=scale).value("b", "input", "f32", [*lead, n, k] if transpose else [*lead, k, n], **FLAT)
        cases.append(case.node("bmm", "a b", "y", transpose_b=transpose).step("y", **symbols))

    for transpose in (False, True):
        one("tile32", [2], 32, 32, 32, "sizes that tiles divide", transpose)
        one("tile64", [2], 64, 64, 64, "sizes that tiles divide", transpose)
        one("tile70", [2], 70, 66, 65, "sizes of tiles and a rest", transpose)
        one("batch300", [300], 2, 3, 4, "hundreds of matrices", transpose)
        one("long_k", [2], 3, 2050, 5, "a long sum", transpose)
        one("real_scores", ["T", 3], 2, 64, "L", "scores of a real head", transpose, T=3, L=256)
    one("batch65540", ["T", 60], 1, 2, 3, "more than 65535 matrices", T=1100)
    one("beyond_f16", [2], 3, 9, 5, "values that f16 cannot hold", scale=1e6)
    return cases


def qkv() -> list[Case]:
    cases = []
    for name, t, k, sizes in (("tile_t32", 32, 64, (64, 32, 32)), ("tile_t65", 65, 66, (96, 33, 33)), ("row_real", 1, 576, (576, 192, 192)), ("t12_real", 12, 128, (256, 64, 64))):
        for bias in (False, True):
            case = cased(f"qkv_linear/f32/{name}{'_bias' if bias else ''}", "projections of a real model", "core", "f32")
            case.sampled = True
            case.value("x", "input", "f32", ["T", k], **FLAT)
            edge = float(np.sqrt(3 / k))
            for part, n in zip("qkv", sizes, strict=True):
                case.value(f"w{part}", "weight", "f32", [n, k], gen="uniform", lo=-edge, hi=edge)
            names = "x wq wk wv"
            if bias:
                for part, n in zip("qkv", sizes, strict=True):
                    case.value(f"b{part}", "weight", "f32", [n])
                names += " bq bk bv"
            cases.append(case.node("qkv_linear", names, "q k v").step("q k v", T=t))
    return cases


LARGE = [linear, rounding, quant_edges, rows, attention, norms, elements, bmm, qkv]
