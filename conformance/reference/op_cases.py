"""The cases of level `op`, a function an operation: sizes that fit no vector width, values at the edge, several steps.

What a case is called is what it is: `op/linear/f32/t5_k88_n33`. `make.py` writes them with `graph_case.write_group`.
"""

import numpy as np

from graph_case import BLOCKS, Case, blocks, hash_name

SIZES = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257]
HALVES = ["f16", "bf16"]
ACTIVATIONS = ["silu", "gelu", "gelu_pytorch_tanh", "quick_gelu", "relu", "relu2", "sigmoid", "tanh", "mish"]


def rng(id: str) -> np.random.RandomState:
    """A generator of the case's own."""
    return np.random.RandomState(hash_name(id))


def f32(values: object) -> np.ndarray:
    """As float32 is stored."""
    return np.asarray(values, dtype="<f4")


def cased(id: str, about: str, profile: str, klass: str) -> Case:
    """A case of level op."""
    return Case(f"op/{id}", about, profile, klass)


# The contents that every kernel of floats meets; name, contents, what it catches.
REGIMES = [
    ("tiny", {"gen": "normal", "scale": 1e-3}, "small values"),
    ("minute", {"gen": "normal", "scale": 1e-18}, "values whose squares are subnormal"),
    ("large", {"gen": "normal", "scale": 1e4}, "large values"),
    ("offset", {"gen": "normal", "scale": 0.01, "mean": 100.0}, "a large common offset"),
    ("zeros", {"gen": "const", "value": 0.0}, "zeros everywhere"),
]


def outliers(id: str, rows: int, columns: int) -> np.ndarray:
    """Normals with one channel a hundred times as large, as trained models have."""
    x = rng(id).standard_normal((rows, columns))
    x[:, columns // 3] *= 100
    return f32(x)


def linear() -> list[Case]:
    cases = []

    def one(name: str, t: object, k: int, n: int, about: str = "a size", *, x: str = "f32", w: str = "f32", bias: bool = False, kind: str = "weight", lead: list | None = None, **contents: object) -> Case:
        profile = "quant" if w in BLOCKS else "half" if x != "f32" or w != "f32" else "core"
        kinds = {"core": "f32", "half": f"{x}_{w}", "quant": w if x == "f32" else f"{x}_{w}"}
        id = f"linear/{kinds[profile]}/{name}"
        klass = "f32" if x == "f32" else x
        case = cased(id, about, profile, klass)
        case.value("x", "input", x, [*(lead or []), "T" if isinstance(t, int) else t[0], k], **contents)
        if w in BLOCKS:
            case.value("w", kind, w, [n, k], **blocks(w, n, k))
        else:
            case.value("w", kind, w, [n, k], gen="normal", scale=1 / np.sqrt(k))
        if bias:
            case.value("b", "weight", x if x == w else "f32", [n], gen="normal", scale=0.5)
        case.node("linear", "x w b" if bias else "x w", "y").step("y", T=t if isinstance(t, int) else 1)
        cases.append(case)
        return case

    for i, k in enumerate(SIZES):
        one(f"k{k}", 3, k, 5, "the number of elements summed")
        one(f"n{k}", 2, 11, k, "the number of rows of w", bias=i % 2 == 0)
        one(f"t{k}", k, 13, 3, "the number of tokens", bias=i % 2 == 1)
    one("k4096_n3_t1", 1, 4096, 3, "a long sum, one token")
    one("k4096_n3_t2", 2, 4096, 3, "a long sum, two tokens")
    one("k14336_n3", 1, 14336, 3, "the longest sum of a common model")
    one("n1000_t1", 1, 24, 1000, "a tail of the vocabulary")
    one("n1031_t2", 2, 9, 1031, "a prime number of rows")
    one("t300", 300, 17, 2, "more tokens than any tile")
    one("square_t1", 1, 40, 40, "a square weight: transposing it shows")
    one("square_t7", 7, 40, 40, "a square weight: transposing it shows")
    one("bias_t1", 1, 88, 33, "the bias, one token", bias=True)
    one("bias_t5", 5, 88, 33, "the bias, several tokens", bias=True)
    one("w_is_input", 5, 30, 14, "w that is written before every step", kind="input")
    one("fixed_t", (6,), 30, 14, "a fixed number of tokens")
    one("rank3", 3, 18, 7, "leading dimensions", lead=[2])
    one("rank4", 2, 18, 7, "leading dimensions", lead=[3, 2])
    for name, contents, about in REGIMES:
        one(f"x_{name}", 4, 50, 9, about, **contents)
    id = "outliers"
    case = one(f"x_{id}", 4, 66, 9, "one channel a hundred times as large", data=outliers(id, 4, 66))
    for x in ["f32", *HALVES]:
        for w in ["f32", *HALVES]:
            if (x, w) == ("f32", "f32"):
                continue
            one("t1_k64_n20", 1, 64, 20, "16-bit types, one token", x=x, w=w)
            one("t7_k65_n19", 7, 65, 19, "16-bit types, a size that fits nothing", x=x, w=w, bias=True)
            one("t33_k257_n3", 33, 257, 3, "16-bit types, many tokens", x=x, w=w)
            one("t2_k2048_n3", 2, 2048, 3, "16-bit types, a long sum", x=x, w=w)
    for w in BLOCKS:
        step = 256 if w.endswith("_k") else 32
        one("t1", 1, step, 7, "one block a row, one token", w=w)
        one("t5", 5, 3 * step, 5, "three blocks a row", w=w, bias=True)
        one("t33", 33, 2 * step, 3, "many tokens", w=w)
        one("t2_long", 2, 7 * step if step == 256 else 43 * step, 3, "a long sum", w=w)
        one("n129", 1, step, 65 if step == 256 else 129, "many rows", w=w)
        one("x_large", 3, 2 * step, 6, "large activations", w=w, gen="normal", scale=1e3)
        one("x_outliers", 3, 2 * step, 6, "one channel a hundred times as large", w=w, data=outliers(w, 3, 2 * step))
        one("t3", 3, step, 5, "16-bit activations", x="f16", w=w)
    several = cased("linear/f32/steps", "one plan for many, few, one and many tokens", "core", "f32")
    several.value("x", "input", "f32", ["T", 29]).value("w", "weight", "f32", [23, 29], gen="normal", scale=0.2)
    several.value("b", "weight", "f32", [23]).node("linear", "x w b", "y").step("y", T=37)
    for t in (5, 1, 38, 2):
        several.step("y", write={"x": {"gen": "normal", "scale": 1.0}}, T=t)
    cases.append(several)
    empty = cased("linear/f32/no_tokens", "a step without tokens between two others", "core", "f32")
    empty.value("x", "input", "f32", ["O", 12]).value("w", "weight", "f32", [5, 12], gen="normal", scale=0.3)
    empty.node("linear", "x w", "y").step("y", O=3).step("y", write={"x": {"gen": "normal", "scale": 1.0}}, O=0)
    empty.step("y", write={"x": {"gen": "normal", "scale": 1.0}}, O=2)
    cases.append(empty)
    changed = cased("linear/f32/w_changes", "w is an input that changes between steps", "core", "f32")
    changed.value("x", "input", "f32", ["T", 12]).value("w", "input", "f32", [5, 12], gen="normal", scale=0.3)
    changed.node("linear", "x w", "y").step("y", T=3).step("y", write={"w": {"gen": "normal", "scale": 0.3}}, T=3)
    cases.append(changed)
    twice = cased("linear/f32/one_weight_twice", "one weight read by two nodes", "core", "f32")
    twice.value("x", "input", "f32", ["T", 21]).value("w", "weight", "f32", [21, 21], gen="normal", scale=0.2)
    twice.node("linear", "x w", "h").node("linear", "h w", "y").step("h y", T=4)
    cases.append(twice)
    return cases


def rms_norm() -> list[Case]:
    cases = []

    def one(name: str, t: int, d: int, eps: float = 1e-5, about: str = "a size", *, x: str = "f32", w: str = "f32", lead: list | None = None, weight: dict | None = None, **contents: object) -> None:
        profile = "core" if (x, w) == ("f32", "f32") else "half"
        case = cased(f"rms_norm/{'f32' if profile == 'core' else f'{x}_{w}'}/{name}", about, profile, "f32" if x == "f32" else x)
        case.value("x", "input", x, [*(lead or []), "T", d], **contents)
        case.value("w", "weight", w, [d], **(weight or {"gen": "uniform", "lo": 0.5, "hi": 1.5}))
        case.node("rms_norm", "x w", "y", eps=eps).step("y", T=t)
        cases.append(case)

    for d in SIZES:
        one(f"d{d}", 3, d, about="the length of a row")
    for t in SIZES[1:]:
        one(f"t{t}", t, 5, about="the number of rows")
    one("d4096", 2, 2049, about="a long row")
    for eps in (1e-12, 1e-6, 1e-5, 1e-3, 1.0):
        one(f"eps{eps:g}", 3, 27, eps, "which eps")
        one(f"eps{eps:g}_tiny", 3, 27, eps, "eps decides", gen="normal", scale=1e-3)
        one(f"eps{eps:g}_minute", 3, 27, eps, "almost only eps", gen="normal", scale=1e-8)
    for name, contents, about in REGIMES:
        one(f"x_{name}", 4, 45, about=about, **contents)
    one("x_outliers", 4, 66, about="one channel a hundred times as large", data=outliers("rms", 4, 66))
    one("w_signs", 3, 34, about="weights of both signs", weight={"gen": "normal", "scale": 1.0})
    one("w_zero", 3, 34, about="a weight of zeros", weight={"gen": "const", "value": 0.0})
    one("rank3", 2, 19, about="leading dimensions", lead=[3])
    one("rank4", 2, 19, about="leading dimensions", lead=[3, 2])
    x = f32(rng("rows").standard_normal((5, 31)) * np.array([1e-4, 1, 1e4, 0, 10])[:, None])
    one("rows_differ", 5, 31, about="every row has its own size", data=x)
    for x in ["f32", *HALVES]:
        for w in ["f32", *HALVES]:
            if (x, w) != ("f32", "f32"):
                one("t4_d67", 4, 67, about="16-bit types", x=x, w=w)
                one("t1_d576", 1, 576, about="16-bit types, a real width", x=x, w=w)
    one("large", 3, 130, about="squares beyond f16", x="f16", w="f16", gen="normal", scale=300.0)
    steps = cased("rms_norm/f32/steps", "one plan for many, one and many rows", "core", "f32")
    steps.value("x", "input", "f32", ["T", 21]).value("w", "weight", "f32", [21]).node("rms_norm", "x w", "y", eps=1e-6).step("y", T=40)
    for t in (1, 7, 41):
        steps.step("y", write={"x": {"gen": "normal", "scale": 2.0}}, T=t)
    cases.append(steps)
    return cases


def tables(case: Case, t: int, half: int, angles: bool = False) -> Case:
    """Cosines and sines: random, so that a swapped or conjugated use shows, or of angles."""
    if not angles:
        return case.value("cos", "input", "f32", ["T", half]).value("sin", "input", "f32", ["T", half])
    turn = np.outer(np.array([0, 1, 2, 7, 100, 4095, 131071])[:t], 500000.0 ** (-np.arange(half) / half))
    case.value("cos", "input", "f32", ["T", half], data=f32(np.cos(turn)))
    return case.value("sin", "input", "f32", ["T", half], data=f32(np.sin(turn)))


def rope() -> list[Case]:
    cases = []

    def one(name: str, t: int, heads: int, width: int, half: int | None = None, about: str = "heads and widths", x: str = "f32", angles: bool = False, **contents: object) -> None:
        half = width // 2 if half is None else half
        case = cased(f"rope/{x}/{name}", about, "core" if x == "f32" else "half", x)
        case.value("x", "input", x, ["T", heads * width], **contents)
        tables(case, t, half, angles).node("rope", "x cos sin", "y", head_dim=width).step("y", T=t)
        cases.append(case)

    for width in (2, 4, 6, 8, 10, 16, 24, 34, 64, 66, 80, 96, 128, 130):
        one(f"width{width}", 3, 3, width, about="the width of a head")
    for heads in (1, 2, 3, 5, 7, 8, 9, 16, 33):
        one(f"heads{heads}", 2, heads, 10, about="the number of heads")
    for t in (1, 2, 7, 8, 9, 31, 32, 33, 64, 65, 129, 257):
        one(f"t{t}", t, 2, 6, about="the number of tokens")
    for width, half in ((8, 1), (8, 2), (8, 3), (24, 6), (80, 16), (64, 16), (7, 3), (9, 2)):
        one(f"partial{2 * half}_of{width}", 4, 3, width, half, "only the first elements of a head are turned")
    one("angles", 7, 2, 64, about="cosines and sines of real angles, far positions among them", angles=True)
    one("angles_wide", 7, 1, 128, about="cosines and sines of real angles", angles=True)
    for name, contents, about in REGIMES:
        one(f"x_{name}", 3, 2, 12, about=about, **contents)
    for x in HALVES:
        one("t5", 5, 3, 14, about="16-bit types", x=x)
        one("t1", 1, 9, 64, about="16-bit types, one token", x=x)
        one("partial", 3, 2, 20, 4, about="16-bit types, partial", x=x)
    steps = cased("rope/f32/steps", "one plan; tables and tokens change", "core", "f32")
    tables(steps.value("x", "input", "f32", ["T", 30]), 9, 5).node("rope", "x cos sin", "y", head_dim=10).step("y", T=9)
    for t in (1, 4, 11):
        steps.step("y", write={name: {"gen": "normal", "scale": 1.0} for name in ("x", "cos", "sin")}, T=t)
    cases.append(steps)
    both = cased("rope/f32/q_and_k", "queries and keys of other head counts under one table", "core", "f32")
    both.value("q", "input", "f32", ["T", 60]).value("k", "input", "f32", ["T", 20])
    tables(both, 5, 5).node("rope", "q cos sin", "y", head_dim=10).node("rope", "k cos sin", "z", head_dim=10).step("y z", T=5)
    cases.append(both)
    return cases


def elementwise() -> list[Case]:
    cases = []
    for op in ("add", "mul"):

        def one(name: str, shape: list, t: int, about: str, x: str = "f32", a: dict | None = None, b: dict | None = None) -> None:
            case = cased(f"{op}/{x}/{name}", about, "core" if x == "f32" else "half", x)
            case.value("a", "input", x, shape, **(a or {})).value("b", "input", x, shape, **(b or {}))
            cases.append(case.node(op, "a b", "y").step("y", T=t))

        for n in SIZES[::2]:
            one(f"n{n}", ["T", n], 2, "the length of a row")
        for t in (1, 33, 257):
            one(f"t{t}", ["T", 3], t, "the number of rows")
        one("rank1", ["T"], 37, "one dimension")
        one("rank3", [2, "T", 5], 3, "three dimensions")
        one("rank4", [2, 3, "T", 5], 3, "four dimensions")
        one("fixed", [7, 11], 1, "no symbol at all")
        one("scales", ["T", 33], 3, "large and small", a={"gen": "normal", "scale": 1e4}, b={"gen": "normal", "scale": 1e-3})
        one("cancel", ["T", 33], 3, "what is left of a difference", a={"gen": "const", "value": 100.0}, b={"gen": "normal", "scale": 0.01, "mean": -100.0})
        for x in HALVES:
            one("t5", ["T", 29], 5, "16-bit types", x=x)
            one("t1", ["T", 576], 1, "16-bit types", x=x)
        same = cased(f"{op}/f32/with_itself", "one value as both operands", "core", "f32").value("a", "input", "f32", ["T", 19])
        cases.append(same.node(op, "a a", "y").step("y", T=5))
        chain = cased(f"{op}/f32/chain", "a result is the next operand, and both are read", "core", "f32")
        chain.value("a", "input", "f32", ["T", 19]).value("b", "input", "f32", ["T", 19])
        chain.node(op, "a b", "y").node(op, "y b", "z").node(op, "z y", "u").step("y z u", T=5).step("u y", T=2, write={"a": {"gen": "normal", "scale": 3.0}, "b": {"gen": "normal", "scale": 3.0}})
        cases.append(chain)
    return cases


def activation() -> list[Case]:
    cases = []
    grid = np.concatenate([np.linspace(-30, 30, 241), np.linspace(-1e-2, 1e-2, 11), [88.0, 89.0, 100.0, 1e4, -87.0, -88.0, -100.0, -1e4, 1e-30, -1e-30, 0.0, 0.0]])
    for kind in ACTIVATIONS:
        profile = "core" if kind == "silu" else "extra"

        def one(name: str, shape: list, t: int, about: str, x: str = "f32", kind: str = kind, profile: str = profile, **contents: object) -> None:
            case = cased(f"activation/{x}/{kind}_{name}", about, profile if x == "f32" or profile == "extra" else "half", x)
            cases.append(case.value("x", "input", x, shape, **contents).node("activation", "x", "y", kind=kind).step("y", T=t))

        one("grid", ["T", len(grid)], 1, "from -1e4 to 1e4", data=f32(grid).reshape(1, -1))
        one("near", ["T", 241], 1, "where it bends", data=f32(np.linspace(-6, 6, 241)).reshape(1, -1))
        one("small", ["T", 33], 2, "values near zero", gen="normal", scale=1e-3)
        one("negative", ["T", 65], 2, "only the left branch", gen="uniform", lo=-12.0, hi=-4.0)
        one("t33", ["T", 7], 33, "many rows")
        one("t1_n257", ["T", 257], 1, "a long row", gen="normal", scale=3.0)
        one("rank4", [2, 3, "T", 5], 2, "four dimensions", gen="normal", scale=3.0)
        for x in HALVES:
            one("t5", ["T", 29], 5, "16-bit types", x=x, gen="normal", scale=3.0)
    return cases


def softmax() -> list[Case]:
    cases = []

    def one(name: str, shape: list, about: str, mask: np.ndarray | None = None, scale: float = 1.0, x: str = "f32", t: int = 1, l: int = 1, **contents: object) -> None:
        case = cased(f"softmax/{x}/{name}", about, "core" if x == "f32" else "half", x).value("x", "input", x, shape, **contents)
        if mask is not None:
            case.value("mask", "input", "f32", [shape[0], shape[-1]], data=f32(mask))
        cases.append(case.node("softmax", "x mask" if mask is not None else "x", "y", scale=scale).step("y", T=t, L=l))

    for l in SIZES:
        one(f"l{l}", ["T", 2, "L"], "the length of a row", t=2, l=l, gen="normal", scale=2.0)
    one("l1025", ["T", 1, "L"], "a long row", t=1, l=1025, gen="normal", scale=2.0)
    for t in (1, 7, 33, 129):
        one(f"t{t}", ["T", "L"], "the number of rows", t=t, l=5)
    one("rank1", ["L"], "one dimension", l=37)
    one("rank4", ["T", 2, 3, "L"], "four dimensions", t=3, l=9)
    one("fixed", [4, 11], "no symbol at all")
    for scale in (0.125, 0.7, 3.0, -1.0, 0.0):
        case = cased(f"softmax/f32/scale{scale:g}", "which scale", "core", "f32").value("x", "input", "f32", ["T", "L"], gen="normal", scale=2.0)
        cases.append(case.node("softmax", "x", "y", scale=scale).step("y", T=3, L=17))
    for name, contents in (("offset", {"gen": "normal", "scale": 1.0, "mean": 1e4}), ("offset_down", {"gen": "normal", "scale": 1.0, "mean": -1e4}), ("steep", {"gen": "normal", "scale": 60.0}), ("flat", {"gen": "const", "value": 3.0}), ("tiny", {"gen": "normal", "scale": 1e-4})):
        case = cased(f"softmax/f32/{name}", "where exp would overflow, vanish, or see nothing", "core", "f32").value("x", "input", "f32", ["T", "L"], **contents)
        cases.append(case.node("softmax", "x", "y", scale=1.0).step("y", T=3, L=19))
    hide = -1e30
    causal = np.where(np.tril(np.ones((9, 13)), 4) > 0, 0, hide)
    one("causal", ["T", 2, 3, "L"], "a causal mask", causal, t=9, l=13)
    one("causal_rank2", ["T", "L"], "a causal mask", causal, t=9, l=13)
    one("causal_rank3", ["T", 5, "L"], "a causal mask and a scale", causal, 0.35, t=9, l=13)
    all_hidden = causal.copy()
    all_hidden[[0, 4, 8]] = hide
    one("hidden_rows", ["T", 2, "L"], "rows with nothing left are zeros", all_hidden, t=9, l=13)
    first = np.full((3, 11), hide)
    first[:, 0] = 0
    one("only_first", ["T", 3, "L"], "one element is seen", first, t=3, l=11)
    one("only_last", ["T", 3, "L"], "one element is seen", first[:, ::-1], t=3, l=11)
    soft = rng("soft").uniform(-3, 3, (4, 10))
    one("soft_mask", ["T", 2, "L"], "a mask of plain numbers is added after the scale", soft, 0.25, t=4, l=10)
    soft[:, ::3] = hide
    one("mixed_mask", ["T", 2, "L"], "numbers and hidden elements", soft, 2.0, t=4, l=10)
    hidden = np.zeros((2, 8))
    hidden[:, [1, 5]] = hide
    x = rng("anything").standard_normal((2, 3, 8))
    x[:, :, 1], x[:, :, 5] = np.nan, 3e38
    one("hidden_is_not_looked_at", ["T", 3, "L"], "what is hidden may be anything, NaN too", hidden, t=2, l=8, data=f32(x))
    deeper = np.zeros((2, 8))
    deeper[:, 3] = -3e38
    one("below_hidden", ["T", 3, "L"], "a mask below -1e30 hides too", deeper, t=2, l=8)
    for x in HALVES:
        one("t5", ["T", 2, "L"], "16-bit types", x=x, t=5, l=23)
        one("causal", ["T", 2, "L"], "16-bit types, a mask", causal, 0.5, x=x, t=9, l=13)
    steps = cased("softmax/f32/steps", "one plan; the context grows and shrinks", "core", "f32")
    steps.value("x", "input", "f32", ["T", 2, "L"], gen="normal", scale=2.0).value("mask", "input", "f32", ["T", "L"], gen="uniform", lo=-2.0, hi=2.0)
    steps.node("softmax", "x mask", "y", scale=0.5).step("y", T=3, L=41)
    for t, l in ((1, 42), (5, 3), (2, 50)):
        steps.step("y", write={"x": {"gen": "normal", "scale": 2.0}, "mask": {"gen": "uniform", "lo": -2.0, "hi": 2.0}}, T=t, L=l)
    cases.append(steps)
    return cases


def bmm() -> list[Case]:
    cases = []

    def one(name: str, lead: list, m: object, k: object, n: object, transpose: bool, about: str, x: str = "f32", **symbols: int) -> None:
        b = [*lead, n, k] if transpose else [*lead, k, n]
        case = cased(f"bmm/{x}/{name}{'_bt' if transpose else ''}", about, "core" if x == "f32" else "half", x)
        case.value("a", "input", x, [*lead, m, k]).value("b", "input", x, b)
        cases.append(case.node("bmm", "a b", "y", transpose_b=transpose).step("y", **symbols))

    for transpose in (False, True):
        for size in (1, 2, 7, 8, 9, 31, 33, 65, 129, 257):
            one(f"k{size}", [3], 2, size, 5, transpose, "the number of elements summed")
            one(f"n{size}", [2], 3, 4, size, transpose, "the number of columns")
        for size in (1, 7, 33, 65):
            one(f"m{size}", [2], size, 5, 3, transpose, "the number of rows")
        one("square", [3], 6, 6, 6, transpose, "square matrices: transposing shows")
        one("batch17", [17], 2, 3, 4, transpose, "many matrices")
        one("rank4", ["T", 2], 3, 7, 5, transpose, "tokens and heads in front", T=4)
        one("context", ["T", 2], 3, 10, "L", transpose, "scores over a context", T=3, L=19)
        one("context_sum", ["T", 2], 3, "L", 10, transpose, "values over a context", T=3, L=19)
        for x in HALVES:
            one("rank4", ["T", 2], 3, 17, 5, transpose, "16-bit types", x=x, T=4)
    steps = cased("bmm/f32/steps", "one plan; tokens and context change", "core", "f32")
    steps.value("a", "input", "f32", ["T", 2, 3, "L"]).value("b", "input", "f32", ["T", 2, "L", 5]).node("bmm", "a b", "y").step("y", T=2, L=33)
    for t, l in ((1, 34), (3, 1), (2, 20)):
        steps.step("y", write={"a": {"gen": "normal", "scale": 1.0}, "b": {"gen": "normal", "scale": 1.0}}, T=t, L=l)
    cases.append(steps)
    return cases


def fused() -> list[Case]:
    """`swiglu`, `qkv_linear` and `add_rms_norm`."""
    cases = []
    for x in ("f32", *HALVES):
        profile = "core" if x == "f32" else "half"
        for name, shape, t, gate in (
            ("t1", ["T", 1536], 1, {"gen": "normal", "scale": 2.0}), ("t5", ["T", 37], 5, {"gen": "normal", "scale": 2.0}), ("t33", ["T", 9], 33, {"gen": "normal", "scale": 2.0}), ("t257", ["T", 2], 257, {}),
            ("rank3", [2, "T", 11], 3, {}), ("one", ["T", 1], 1, {}), ("steep", ["T", 65], 2, {"gen": "uniform", "lo": -90.0, "hi": 90.0}), ("negative", ["T", 33], 2, {"gen": "uniform", "lo": -15.0, "hi": -3.0}),
            ("tiny", ["T", 33], 2, {"gen": "normal", "scale": 1e-4}),
        ):
            case = cased(f"swiglu/{x}/{name}", "silu(gate) * up, and not the other way round", profile, x)
            cases.append(case.value("gate", "input", x, shape, **gate).value("up", "input", x, shape, gen="normal", scale=0.7).node("swiglu", "gate up", "y").step("y", T=t))
        for name, t, d, eps, scale in (("t1", 1, 576, 1e-5, 1.0), ("t5", 5, 37, 1e-5, 1.0), ("t33", 33, 9, 1e-6, 1.0), ("t129", 129, 3, 1e-5, 1.0), ("d1", 3, 1, 1e-5, 1.0), ("d257", 2, 257, 1e-5, 1.0), ("eps_decides", 3, 21, 1e-5, 1e-3), ("eps_large", 3, 21, 0.5, 1.0)):
            case = cased(f"add_rms_norm/{x}/{name}", "the sum and its norm, both of them", profile, x)
            case.value("x", "input", x, ["T", d], gen="normal", scale=scale).value("residual", "input", x, ["T", d], gen="normal", scale=2 * scale).value("weight", "weight", x, [d], gen="uniform", lo=0.5, hi=1.5)
            cases.append(case.node("add_rms_norm", "x residual weight", "sum y", eps=eps).step("sum y", T=t))
    cancel = cased("add_rms_norm/f32/cancel", "the residual takes almost all of x away", "core", "f32")
    x = f32(rng("cancel").standard_normal((3, 19)))
    cancel.value("x", "input", "f32", ["T", 19], data=x).value("residual", "input", "f32", ["T", 19], data=f32(-x + f32(rng("c2").standard_normal((3, 19)) * 1e-3))).value("weight", "weight", "f32", [19])
    cases.append(cancel.node("add_rms_norm", "x residual weight", "sum y", eps=1e-5).step("sum y", T=3))

    def qkv(name: str, t: int, k: int, sizes: tuple, bias: bool, about: str, x: str = "f32", w: tuple = ("f32", "f32", "f32")) -> None:
        quant = any(kind in BLOCKS for kind in w)
        profile = "quant" if quant else "half" if x != "f32" or set(w) != {"f32"} else "core"
        types = "f32" if profile == "core" else f"{x}_" + (w[0] if len(set(w)) == 1 else "mixed")
        case = cased(f"qkv_linear/{types}/{name}", about, profile, "f32" if x == "f32" else x).value("x", "input", x, ["T", k])
        for part, n, kind in zip("qkv", sizes, w, strict=True):
            contents = blocks(kind, n, k) if kind in BLOCKS else {"gen": "normal", "scale": 1 / np.sqrt(k)}
            case.value(f"w{part}", "weight", kind, [n, k], **contents)
        names = "x wq wk wv"
        if bias:
            for part, n in zip("qkv", sizes, strict=True):
                case.value(f"b{part}", "weight", x, [n])
            names += " bq bk bv"
        cases.append(case.node("qkv_linear", names, "q k v").step("q k v", T=t))

    for bias in (False, True):
        end = "_bias" if bias else ""
        qkv(f"t1{end}", 1, 88, (36, 12, 12), bias, "three projections, one token")
        qkv(f"t5{end}", 5, 53, (30, 10, 10), bias, "three projections")
        qkv(f"t33{end}", 33, 17, (9, 3, 3), bias, "many tokens")
        qkv(f"mha{end}", 3, 20, (20, 20, 20), bias, "square weights: which is which shows")
        qkv(f"mqa{end}", 3, 31, (33, 1, 1), bias, "one column of keys")
    for x in HALVES:
        qkv("t5", 5, 53, (30, 10, 10), True, "16-bit types", x, (x, x, x))
        qkv("t5", 5, 53, (30, 10, 10), False, "16-bit weights", "f32", (x, x, x))
    qkv("t5", 5, 53, (30, 10, 10), False, "weights of three types", "f32", ("f32", "f16", "bf16"))
    for w in BLOCKS:
        qkv("t3", 3, 256, (18, 6, 6), False, "weights in blocks", "f32", (w, w, w))
    qkv("q4k_q6k", 3, 256, (18, 6, 6), False, "weights of other formats beside each other", "f32", ("q4_k", "q4_k", "q6_k"))
    qkv("q4_0_f32", 2, 64, (18, 6, 6), False, "weights of other formats beside each other", "f32", ("q4_0", "q8_0", "f32"))
    return cases
