"""The cases of the operations that move bits: `gather_rows`, `scatter_rows`, `kv_append`, `cast`, `copy`, `reshape`.

Their results are compared bit for bit.
"""

import numpy as np

from graph_case import BLOCKS, Case, blocks, hash_name, random_blocks
from op_cases import HALVES, cased, f32, rng


def graph_blocks(name: str, rows: int, columns: int) -> np.ndarray:
    """Blocks of q8_0 that are stored with a case."""
    return random_blocks("q8_0", rows, columns, 0.01, hash_name(name))


def gather_rows() -> list[Case]:
    cases = []

    def one(name: str, n: int, d: int, shape: list, ints: object, about: str, table: str = "f32", kind: str = "weight", **symbols: int) -> Case:
        profile = "core" if table == "f32" else "half" if table in HALVES else "quant"
        case = cased(f"gather_rows/{table}/{name}", about, profile, "exact")
        contents = blocks(table, n, d) if table in BLOCKS else {}
        case.value("table", kind, table, [n, d], **contents).value("index", "input", "i32", shape, ints=ints)
        cases.append(case.node("gather_rows", "table index", "y").step("y", **symbols))
        return case

    for d in (1, 2, 3, 7, 8, 9, 16, 17, 33, 64, 65, 129, 257):
        one(f"d{d}", 11, d, ["T"], [10, 0, 5, -1, 5], "the length of a row", T=5)
    for t in (1, 2, 33, 257):
        one(f"t{t}", 13, 3, ["T"], rng(f"t{t}").randint(-1, 13, t), "the number of indices", T=t)
    one("all_none", 5, 9, ["T"], [-1] * 4, "-1 gives zeros", T=4)
    one("none_first", 5, 9, ["T"], [-1, 4], "-1 is not the last row", T=2)
    one("none_last", 5, 9, ["T"], [0, -1], "-1 is not the first row", T=2)
    one("repeated", 5, 9, ["T"], [3] * 7, "one row again and again", T=7)
    one("backwards", 9, 4, ["T"], range(8, -1, -1), "rows from the end", T=9)
    one("one_row", 1, 6, ["T"], [0, -1, 0], "a table of one row", T=3)
    one("many_rows", 1009, 2, ["T"], [1008, 512, 1, 1007, 257], "a large table", T=5)
    one("rank2", 7, 5, ["T", 3], rng("2").randint(-1, 7, 12), "indices in two dimensions", T=4)
    one("rank3", 7, 5, ["T", 3, "L"], rng("3").randint(-1, 7, 60), "indices in three dimensions", T=4, L=5)
    one("fixed", 7, 5, [4], [6, 2, -1, 0], "no symbol at all")
    one("table_is_input", 7, 5, ["T"], [6, 2, -1, 0], "a table that is written before every step", kind="input", T=4)
    one("table_is_state", 7, 5, ["T"], [6, 2, -1, 0], "a table that is kept", kind="state", T=4)
    one("rows_by_output", 7, 5, ["O"], [6, 2], "the rows whose logits are wanted", O=2)
    for table in HALVES:
        one("t5", 11, 17, ["T"], [10, 0, 5, -1, 5], "rows keep their type", table, T=5)
        one("rank2", 7, 6, ["T", 3], rng("2").randint(-1, 7, 12), "indices in two dimensions", table, T=4)
    for table in BLOCKS:
        width = 256 if table.endswith("_k") else 32
        one("t5", 6, width, ["T"], [5, 0, 3, -1, 3], "rows of blocks become f32", table, T=5)
        one("wide", 4, 2 * width, ["T"], [3, -1, 1], "two blocks a row", table, T=3)
    one("table_is_state", 7, 64, ["T"], [6, 2, -1, 0], "a table of blocks that is kept", "q8_0", "state", T=4)
    for bad in (7, 8, 1 << 20, -2, -(1 << 31), (1 << 31) - 1):
        case = cased(f"gather_rows/f32/outside_{'minus' if bad < 0 else ''}{abs(bad)}", "an index outside the table is an error, and the plan works on", "core", "exact")
        case.value("table", "weight", "f32", [7, 5]).value("index", "input", "i32", ["T"], ints=[6, 2, 0]).node("gather_rows", "table index", "y").step("y", T=3)
        case.step(error=True, write={"index": {"ints": [6, bad, 0]}}, T=3).step("y", write={"index": {"ints": [1, -1, 4]}}, T=3)
        cases.append(case)
    steps = cased("gather_rows/f32/steps", "one plan; the indices change", "core", "exact")
    steps.value("table", "weight", "f32", [11, 6]).value("index", "input", "i32", ["T"], ints=rng("s").randint(-1, 11, 20)).node("gather_rows", "table index", "y").step("y", T=20)
    for t in (1, 5, 21):
        steps.step("y", write={"index": {"ints": rng(f"s{t}").randint(-1, 11, t)}}, T=t)
    cases.append(steps)
    return cases


def scatter() -> list[Case]:
    """`scatter_rows` and `kv_append`."""
    cases = []
    for op, rows, index in (("scatter_rows", "rows", "index"), ("kv_append", "rows", "slot")):

        def one(name: str, n: int, d: int, ints: object, about: str, table: str = "f32", x: str | None = None, op: str = op, rows: str = rows, index: str = index, **contents: object) -> Case:
            x = x or table
            types = table if x == table else f"{x}_{table}"
            case = cased(f"{op}/{types}/{name}", about, "core" if types == "f32" else "quant" if table in BLOCKS else "half", "exact")
            case.value("table", "state", table, [n, d], **(blocks(table, n, d) if table in BLOCKS else {}))
            case.value(rows, "input", x, ["T", d], **(contents or (blocks(x, len(list(ints)), d) if x in BLOCKS else {})))
            case.value(index, "input", "i32", ["T"], ints=ints)
            cases.append(case.node(op, f"table {rows} {index}", "y").step("y", T=len(list(ints))))
            return case

        for d in (1, 3, 8, 9, 17, 32, 33, 65, 129, 257):
            one(f"d{d}", 7, d, [6, 0, 3], "the length of a row")
        one("none", 7, 5, [2, -1, 5, -1], "-1 is left out")
        one("none_first", 7, 5, [-1, 6], "-1 is not the last row")
        one("none_last", 7, 5, [0, -1], "-1 is not the first row")
        one("all_none", 7, 5, [-1, -1, -1], "nothing is stored: the table stays as it was")
        one("one", 7, 5, [4], "one row")
        one("one_row", 1, 5, [0], "a table of one row")
        one("permuted", 9, 4, rng("p").permutation(9), "every row, in another order")
        one("backwards", 40, 3, range(39, 2, -1), "rows from the end")
        one("t257", 300, 2, rng("257").permutation(300)[:257], "many rows")
        one("large", 7, 5, [1, 3], "large values are moved as they are", gen="normal", scale=1e30)
        for table in HALVES:
            one("t3", 7, 9, [6, -1, 2], "16-bit types", table)
            if op == "kv_append":
                one("t3", 7, 9, [6, -1, 2], "rows are rounded to the cache's type", table, "f32")
                ties = f32([[1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-8, 1 + 3 * 2**-8, 65519.0, 1e-7, -0.0, 2.0**-24, 3 * 2.0**-25]])
                one("ties", 4, 9, [2], "ties go to even", table, "f32", data=ties)
        if op == "kv_append":
            one("t3", 7, 9, [6, -1, 2], "16-bit rows in an f32 cache", "f32", "f16")
            cases.extend(in_blocks())
        else:
            for d in (32, 96, 160):
                one(f"d{d}", 7, d, [6, -1, 2], "rows of blocks are moved as they are", "q8_0")
            one("permuted", 9, 64, rng("p").permutation(9), "every row, in another order", "q8_0")
        for bad in (7, -2, 1 << 30):
            case = cased(f"{op}/f32/outside_{'minus' if bad < 0 else ''}{abs(bad)}", "a row outside the table is an error, and the plan works on", "core", "exact")
            case.value("table", "state", "f32", [7, 5]).value(rows, "input", "f32", ["T", 5]).value(index, "input", "i32", ["T"], ints=[6, 2])
            case.node(op, f"table {rows} {index}", "y").step("y", T=2)
            case.step(error=True, write={index: {"ints": [bad, bad]}}, T=2)
            # Whatever an error stored, all rows are written again.
            case.step("y", write={rows: {"gen": "normal", "scale": 1.0}, index: {"ints": [6, 0, 3, 2, 5, 1, 4]}}, T=7)
            cases.append(case)
        steps = cased(f"{op}/f32/steps", "what one step stored is there in the next", "core", "exact")
        steps.value("table", "state", "f32", [17, 6]).value(rows, "input", "f32", ["T", 6]).value(index, "input", "i32", ["T"], ints=[0, 1, 2, 3, 4, 5, 6])
        steps.node(op, f"table {rows} {index}", "y").step("y", T=7)
        for ints in ([7], [8, 9, 10], [3, 16], [-1], list(range(11, 16))):
            steps.step("y", write={rows: {"gen": "normal", "scale": 1.0}, index: {"ints": ints}}, T=len(ints))
        cases.append(steps)
        twice = cased(f"{op}/f32/twice", "two changes of one table in one step", "core", "exact")
        twice.value("table", "state", "f32", [9, 4]).value(rows, "input", "f32", ["T", 4]).value("more", "input", "f32", ["T", 4])
        twice.value(index, "input", "i32", ["T"], ints=[8, 1, 4]).value("other", "input", "i32", ["T"], ints=[4, 0, -1])
        twice.node(op, f"table {rows} {index}", "h").node(op, "h more other", "y").step("y", T=3)
        cases.append(twice)
        two = cased(f"{op}/f32/two_tables", "keys and values: two tables, one index", "core", "exact")
        two.value("k", "state", "f32", [9, 4]).value("v", "state", "f32", [9, 4]).value(rows, "input", "f32", ["T", 4]).value("more", "input", "f32", ["T", 4])
        two.value(index, "input", "i32", ["T"], ints=[8, 1, 4]).node(op, f"k {rows} {index}", "y").node(op, f"v more {index}", "z").step("y z", T=3)
        cases.append(two)
    return cases


# Of numbers with few bits many lie close to half way between two codes; those that are drawn with these do not.
SEEDS = {"f32": 1, "f16": 1, "bf16": 1}


def in_blocks() -> list[Case]:
    """Rows that `kv_append` stores in a q8_0 cache."""
    cases = []

    def one(name: str, n: int, d: int, ints: object, about: str, x: str = "f32", poison: bool = False, **contents: object) -> Case:
        case = cased(f"kv_append/{x}_q8_0/{name}", about, "quant", "exact")
        case.value("table", "state", "q8_0", [n, d], **({"gen": "poison"} if poison else blocks("q8_0", n, d)))
        case.value("rows", "input", x, ["T", d], **contents).value("slot", "input", "i32", ["T"], ints=ints)
        cases.append(case.node("kv_append", "table rows slot", "y").step("y", T=len(list(ints))))
        return case

    for d in (32, 64, 96, 128, 160, 288):
        one(f"d{d}", 5, d, [4, 0, 3], "the length of a row, a multiple of 32")
    for x in HALVES:
        one("t3", 7, 64, [6, -1, 2], "rows of 16-bit types", x, gen="normal", scale=1.0, seed=SEEDS[x])
    one("none", 7, 32, [2, -1, 5, -1], "-1 is left out")
    one("all_none", 7, 64, [-1, -1], "nothing is stored: the table stays as it was")
    one("permuted", 9, 32, rng("p").permutation(9), "every row, in another order")
    one("t33", 40, 32, rng("33").permutation(40)[:33], "many rows")
    one("poison", 3, 64, [1], "a row among others that were never written", poison=True)
    one("large", 5, 64, [1, 3], "scales near the largest of f16", gen="normal", scale=1e6)
    one("tiny", 5, 64, [1, 3], "subnormal scales", gen="normal", scale=1e-4)
    one("minute", 5, 64, [1, 3], "numbers whose scale is 0 as f16", gen="normal", scale=1e-9)
    one("subnormal", 5, 64, [1, 3], "subnormal numbers, whose scale has an infinite inverse", gen="normal", scale=1e-42)
    one("zeros", 5, 96, [2], "zeros have no scale", data=f32(np.zeros((1, 96))))
    lone = np.zeros((2, 96))
    lone[0, 0], lone[0, 63], lone[0, 64], lone[1, 95] = 3.0, -5.0, -0.0, 1e-3
    one("alone", 5, 96, [4, 1], "one number among zeros: blocks have scales of their own", data=f32(lone))
    mixed = rng("mixed").standard_normal((2, 128)) * np.repeat([1.0, 1e4, 1e-3, 30.0], 32)
    one("mixed", 5, 128, [3, 0], "blocks of very different sizes side by side", data=f32(mixed))
    # The scale is 1 where 127 is among the numbers, and 2^-3 where 127 / 8 is.
    steps = np.concatenate([[127.0], np.arange(31) - 15.5])
    halves = np.stack([np.concatenate([steps, -steps]), np.concatenate([steps / 8, -steps * 16])])
    one("ties", 5, 64, [0, 4], "half way between two codes: away from zero", data=f32(halves))
    below = np.concatenate([[-127.0], np.nextafter(f32(np.arange(31) - 15.5), np.float32(0))])
    one("below_ties", 5, 32, [2], "just short of half way", data=f32(below[None, :]))
    scales = np.array([127 * (1 + 2**-11), 127 * (1 + 3 * 2**-11), 127 * (1 + 2**-10), 127 * 2.0**-24, 127 * 2.0**-25, 127 * 1.5 * 2.0**-24])
    tops = np.zeros((6, 32))
    tops[:, 7], tops[:, 8] = scales, scales * (-89.25 / 127)
    one("scales", 7, 32, [6, 5, 4, 3, 2, 1], "scales half way between two f16: to even", data=f32(tops))
    # By the scale that was rounded to f16 these would be other codes.
    fine = 1 + 2**-11 - 2**-14
    grid = np.concatenate([[127.0], np.arange(96, 127) + 0.48]) * fine
    one("before_rounding", 5, 32, [1], "codes are by the scale as it was before it became f16", data=f32(grid[None, :]))
    odd = np.ones((3, 96))
    odd[0, 5], odd[1, 40], odd[2, 95] = np.nan, np.inf, -np.inf
    one("odd", 5, 96, [4, 1, 3], "a block with an infinity or a NaN is NaN, and no other", data=f32(odd))
    over = np.ones((1, 64))
    over[0, 9] = 9e6
    one("overflow", 5, 64, [2], "a scale past f16 is infinite", data=f32(over))
    for bad in (7, -2):
        case = cased(f"kv_append/f32_q8_0/outside_{'minus' if bad < 0 else ''}{abs(bad)}", "a row outside the table is an error, and the plan works on", "quant", "exact")
        case.value("table", "state", "q8_0", [7, 32], **blocks("q8_0", 7, 32)).value("rows", "input", "f32", ["T", 32]).value("slot", "input", "i32", ["T"], ints=[6, 2])
        case.node("kv_append", "table rows slot", "y").step("y", T=2).step(error=True, write={"slot": {"ints": [bad, bad]}}, T=2)
        case.step("y", write={"rows": {"gen": "normal", "scale": 1.0}, "slot": {"ints": [6, 0, 3, 2, 5, 1, 4]}}, T=7)
        cases.append(case)
    steps = cased("kv_append/f32_q8_0/steps", "what one step stored is there in the next", "quant", "exact")
    steps.value("table", "state", "q8_0", [17, 64], **blocks("q8_0", 17, 64)).value("rows", "input", "f32", ["T", 64]).value("slot", "input", "i32", ["T"], ints=[0, 1, 2, 3])
    steps.node("kv_append", "table rows slot", "y").step("y", T=4)
    for ints in ([7], [8, 9, 10], [3, 16], [-1]):
        steps.step("y", write={"rows": {"gen": "normal", "scale": 1.0}, "slot": {"ints": ints}}, T=len(ints))
    cases.append(steps)
    # What a layer does with its keys: the rows that are stored are rotated in the same step. A quarter turn is exact.
    for heads, width in ((2, 32), (4, 16), (1, 96)):
        turned = cased(f"kv_append/f32_q8_0/rotated_{heads}x{width}", "rotated heads go into the cache, also those that are no whole blocks", "quant", "exact")
        turned.value("table", "state", "q8_0", [5, heads * width], **blocks("q8_0", 5, heads * width)).value("x", "input", "f32", ["T", heads * width])
        turned.value("cos", "input", "f32", ["T", width // 2], data=f32(np.zeros((3, width // 2)))).value("sin", "input", "f32", ["T", width // 2], data=f32(np.ones((3, width // 2))))
        turned.value("slot", "input", "i32", ["T"], ints=[3, -1, 0])
        cases.append(turned.node("rope", "x cos sin", "r", head_dim=width).node("kv_append", "table r slot", "y").step("y", T=3))
    return cases


def moves() -> list[Case]:
    """`cast`, `copy` and `reshape`."""
    cases = []
    edge = [0.0, -0.0, 1.0, -1.0, 65504.0, 65519.0, 65520.0, 1e5, -1e6, 3e38, 2.0**-14, 2.0**-24, 2.0**-25, 1.5 * 2.0**-25, 1e-40, 1e-45]
    ties = [1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-11 + 2**-20, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -(1 + 2**-11), -(1 + 2**-8), 2049.0, 2051.0, 257.0, 259.0]
    odd = [np.inf, -np.inf, np.nan, 1.0]
    for name, values, about in (("edge", edge, "the ends of the range"), ("ties", ties, "ties go to even"), ("odd", odd, "infinities stay, NaN stays NaN")):
        for to in ("f32", *HALVES):
            case = cased(f"cast/f32_{to}/{name}", about, "core" if to == "f32" else "half", "exact")
            cases.append(case.value("x", "input", "f32", [len(values)], data=f32(values)).node("cast", "x", "y", to=to).step("y"))
    for a in ("f32", *HALVES):
        for to in ("f32", *HALVES):
            for name, shape, t in (("t5", ["T", 37], 5), ("t257", ["T", 3], 257), ("rank4", [2, 3, "T", 5], 2), ("rank1", [129], 1)):
                profile = "core" if (a, to) == ("f32", "f32") else "half"
                cases.append(cased(f"cast/{a}_{to}/{name}", "every pair of types", profile, "exact").value("x", "input", a, shape).node("cast", "x", "y", to=to).step("y", T=t))
    halves = {"f16": np.arange(0, 1 << 16, 37).astype("<u2").view("<f2"), "bf16": np.arange(0, 1 << 16, 37).astype("<u2")}
    for a, data in halves.items():
        nan = np.isnan(data.astype("<f4")) if a == "f16" else (data & 0x7FFF) > 0x7F80
        data = data[~nan]
        cases.append(cased(f"cast/{a}_f32/sweep", "a sweep over all exponents", "half", "exact").value("x", "input", a, [len(data)], data=data).node("cast", "x", "y", to="f32").step("y"))
    for a in BLOCKS:
        width = 256 if a.endswith("_k") else 32
        cases.append(cased(f"cast/{a}_f32/rows", "what the blocks mean", "quant", "exact").value("x", "weight", a, [5, 2 * width], **blocks(a, 5, 2 * width)).node("cast", "x", "y", to="f32").step("y"))
    # The rule is that of `kv_append`, whose lowering casts: more of it is asked there.
    for name, shape, t in (("t5", ["T", 64], 5), ("rank3", [2, "T", 96], 3), ("rank1", [160], 1)):
        for a in ("f32", *HALVES):
            cases.append(cased(f"cast/{a}_q8_0/{name}", "rows become blocks", "quant", "exact").value("x", "input", a, shape, gen="normal", scale=1.0, seed=SEEDS[a]).node("cast", "x", "y", to="q8_0").step("y", T=t))
    tied = np.concatenate([[127.0], np.arange(31) - 15.5, [np.nan], np.ones(31), np.zeros(32)])
    cases.append(cased("cast/f32_q8_0/edge", "half way between two codes, NaN, zeros", "quant", "exact").value("x", "input", "f32", [2, 96], data=f32(np.stack([tied, -tied]))).node("cast", "x", "y", to="q8_0").step("y"))
    for name, shape, new in (("heads", [6, 96], [18, 32]), ("together", [3, 4, 32], [3, 128]), ("same_rows", [2, 3, 64], [6, 64])):
        case = cased(f"reshape/q8_0/{name}", "the same blocks in other rows, as the heads of a cache", "quant", "exact")
        rows = int(np.prod(shape[:-1]))
        case.value("x", "input", "q8_0", shape, data=graph_blocks(name, rows, shape[-1]))
        cases.append(case.node("reshape", "x", "y", shape=new).step("y"))
    for op in ("copy", "reshape"):
        for a in ("f32", *HALVES, "i32"):
            for name, shape, new, symbols in (
                ("rank2", ["T", 12], ["T", 3, 4], {"T": 5}),
                ("rank3", ["T", 3, 4], ["T", 12], {"T": 7}),
                ("rank4", ["T", 2, 3, 5], ["T", 6, 5], {"T": 3}),
                ("rank1", [77], [7, 11], {}),
                ("one", [1, 1], [1], {}),
                ("long", ["T", 2, 129], ["T", 129, 2], {"T": 9}),
            ):
                profile = "core" if a in ("f32", "i32") else "half"
                case = cased(f"{op}/{a}/{name}", "the same bits in the same order", profile, "exact")
                count = int(np.prod([symbols.get(d, d) for d in shape]))
                contents = {"ints": rng(name).randint(-(1 << 31), (1 << 31) - 1, count)} if a == "i32" else {}
                case.value("x", "input", a, shape, **contents)
                cases.append(case.node(op, "x", "y", **({"shape": new} if op == "reshape" else {})).step("y", **symbols))
        odd_bits = cased(f"{op}/f32/odd", "infinities, NaN, subnormals and -0 are moved as they are", "core", "exact")
        values = f32([np.inf, -np.inf, np.nan, -0.0, 1e-45, 3.4e38, 0.0, -1e-40])
        cases.append(odd_bits.value("x", "input", "f32", ["T", 2], data=values.reshape(4, 2)).node(op, "x", "y", **({"shape": [2, "T"]} if op == "reshape" else {})).step("y", T=4))
        steps = cased(f"{op}/f32/steps", "one plan; fewer and more tokens", "core", "exact").value("x", "input", "f32", ["T", 6])
        steps.node(op, "x", "y", **({"shape": ["T", 2, 3]} if op == "reshape" else {})).step("y", T=33)
        for t in (1, 12, 34):
            steps.step("y", write={"x": {"gen": "normal", "scale": 1.0}}, T=t)
        cases.append(steps)
        own = cased(f"{op}/f32/then_changed", "the copy of a table stays as it was when the table changes", "core", "exact")
        if op == "copy":
            own.value("table", "state", "f32", [5, 3]).value("rows", "input", "f32", ["T", 3]).value("index", "input", "i32", ["T"], ints=[1, 4])
            cases.append(own.node("copy", "table", "y").node("scatter_rows", "table rows index", "z").step("y z", T=2))
    return cases
