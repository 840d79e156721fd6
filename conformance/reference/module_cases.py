"""The cases of level `module`: what several operations do together, with what lies between them compared too.

A block is written as a model's graph is: from the normalisation to the residual sum, keys and values through a cache whose
blocks are permuted and otherwise poisoned; a prompt first, then a batch of decodes on the same plan.
"""

import numpy as np

from graph_case import BLOCKS, Case, blocks, hash_name


def rope_tables(kind: str, width: int, positions: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines `[positions, width / 2]` as the framework makes them, in float64, rounded once."""
    half = width // 2
    frequencies = 10000.0 ** (-np.arange(half) / half)
    if kind == "linear":
        frequencies = frequencies / 4.0
    if kind == "llama3":
        # Long waves slow down by 8, short ones stay, between them it blends (Llama 3.1, scaled to a context of 32).
        wave = 2 * np.pi / frequencies
        blend = np.clip((32 / wave - 1.0) / (4.0 - 1.0), 0, 1)
        frequencies = (1 - blend) * frequencies / 8 + blend * frequencies
    angles = np.outer(np.arange(positions), frequencies)
    return np.cos(angles).astype("<f4"), np.sin(angles).astype("<f4")


class Block:
    """Builds the graph of a layer piece by piece."""

    def __init__(self, id: str, about: str, hidden: int, heads: int, groups: int, width: int, weight: str = "f32", kv: str = "f32", rope: str = "default", bias: bool = False, window: int | None = None, block: int = 4, outlier: bool = False) -> None:
        profile = "quant" if weight in BLOCKS else "half" if weight != "f32" or kv != "f32" else "core"
        self.case = Case(f"module/{id}", about, profile, kv if kv != "f32" else "f32")
        self.hidden, self.heads, self.groups, self.width = hidden, heads, groups, width
        self.weight, self.kv, self.rope, self.bias, self.window, self.block, self.outlier = weight, kv, rope, bias, window, block, outlier
        self.steps = [[(6, 6), (3, 3)], [(1, 7), (1, 4)], [(2, 9), (0, 4)], [(1, 10), (4, 8)]]
        self.slots = 40

    def matrix(self, name: str, rows: int, columns: int) -> None:
        """A weight whose results are about as large as what it multiplies."""
        if self.weight in BLOCKS:
            self.case.value(name, "weight", self.weight, [rows, columns], **blocks(self.weight, rows, columns))
        else:
            self.case.value(name, "weight", self.weight, [rows, columns], gen="normal", scale=float(columns**-0.5))

    def norm(self, name: str) -> None:
        """A norm's weight; with `outlier` one channel is a hundred times as large as the others."""
        if not self.outlier:
            self.case.value(name, "weight", "f32", [self.hidden], gen="uniform", lo=0.5, hi=1.5)
            return
        values = np.random.RandomState(hash_name(self.case.id + name)).uniform(0.5, 1.5, self.hidden)
        values[self.hidden // 3] *= 100
        self.case.value(name, "weight", "f32", [self.hidden], data=values.astype("<f4"))

    def attention(self, x: str, out: str, tag: str = "") -> list[str]:
        """From `x` to the residual sum `out`; what is worth comparing on the way."""
        case, h, w = self.case, self.hidden, self.width
        q, kv = self.heads * w, self.groups * w
        self.norm(f"norm{tag}")
        case.node("rms_norm", f"{x} norm{tag}", f"h{tag}", eps=1e-5)
        for part, rows in (("q", q), ("k", kv), ("v", kv)):
            self.matrix(f"w{part}{tag}", rows, h)
        operands = f"h{tag} wq{tag} wk{tag} wv{tag}"
        if self.bias:
            for part, rows in (("q", q), ("k", kv), ("v", kv)):
                case.value(f"b{part}{tag}", "weight", "f32", [rows], gen="normal", scale=0.3)
            operands += f" bq{tag} bk{tag} bv{tag}"
        case.node("qkv_linear", operands, f"q{tag} k{tag} v{tag}")
        for part in "qk":
            case.node("rope", f"{part}{tag} cos sin", f"{part}r{tag}", head_dim=w)
        for part in ("kr", "v"):
            case.value(f"cache_{part}{tag}", "state", self.kv, [self.slots, kv], gen="poison")
            case.node("kv_append", f"cache_{part}{tag} {part}{tag} slot", f"new_{part}{tag}")
        attrs = {"num_heads": self.heads, "num_kv_heads": self.groups, "head_dim": w, "block_size": self.block, "scale": float(w**-0.5)}
        attrs |= {"window": self.window} if self.window else {}
        case.node("attention", f"qr{tag} new_kr{tag} new_v{tag} q_start seq_len block_table", f"a{tag}", **attrs)
        self.matrix(f"wo{tag}", h, q)
        operands = f"a{tag} wo{tag}"
        if self.bias:
            case.value(f"bo{tag}", "weight", "f32", [h], gen="normal", scale=0.3)
            operands += f" bo{tag}"
        case.node("linear", operands, f"o{tag}").node("add", f"{x} o{tag}", out)
        return [f"qr{tag}", f"a{tag}", out]

    def mlp(self, x: str, out: str, inner: int, tag: str = "", residual: str | None = None) -> list[str]:
        """Gate, up, down and the residual sum."""
        case = self.case
        for name, rows, columns in ((f"gate{tag}", inner, self.hidden), (f"up{tag}", inner, self.hidden), (f"down{tag}", self.hidden, inner)):
            self.matrix(name, rows, columns)
        case.node("linear", f"{x} gate{tag}", f"g{tag}").node("linear", f"{x} up{tag}", f"u{tag}").node("swiglu", f"g{tag} u{tag}", f"s{tag}")
        case.node("linear", f"s{tag} down{tag}", f"d{tag}").node("add", f"{residual or x} d{tag}", out)
        return [f"s{tag}", out]

    def indices(self) -> None:
        """The inputs of the batch and the tables of the rotary embedding."""
        cos, sin = rope_tables(self.rope, self.width)
        self.case.value("cos_table", "weight", "f32", list(cos.shape), data=cos).value("sin_table", "weight", "f32", list(sin.shape), data=sin)
        for name, value in self.contents(0).items():
            shape = {"positions": ["T"], "slot": ["T"], "q_start": ["P"], "seq_len": ["S"], "block_table": ["S", self.slots // self.block // 2]}[name]
            self.case.value(name, "input", "i32", shape, **value)
        self.case.node("gather_rows", "cos_table positions", "cos").node("gather_rows", "sin_table positions", "sin")

    def contents(self, number: int) -> dict:
        """The indices of step `number`."""
        order = np.random.RandomState(hash_name(self.case.id)).permutation(self.slots // self.block).reshape(2, -1)
        slots, positions = [], []
        for s, (new, length) in enumerate(self.steps[number]):
            for j in range(length - new, length):
                slots.append(int(order[s][j // self.block]) * self.block + j % self.block)
                positions.append(j)
        news = [new for new, _ in self.steps[number]]
        lengths = [length for _, length in self.steps[number]]
        return {
            "positions": {"ints": positions},
            "slot": {"ints": slots},
            "q_start": {"ints": [0, *np.cumsum(news).tolist()]},
            "seq_len": {"ints": lengths},
            "block_table": {"ints": order},
        }

    def finish(self, expect: list[str], inputs: list[str], extra: object = None) -> Case:
        """Adds the steps: a prompt and decodes, with new `inputs` each time."""
        # Results of wide models take room: of those with block formats only the last is kept.
        expect = expect[-1:] if self.weight in BLOCKS else expect
        for number, sequences in enumerate(self.steps):
            symbols = {"T": sum(new for new, _ in sequences), "S": 2, "L": max(length for _, length in sequences)}
            write = {} if number == 0 else self.contents(number) | {name: {"gen": "normal", "scale": 1.0} for name in inputs}
            if extra:
                more, counts = extra(number, symbols["T"])
                symbols |= counts
                write |= more if number else {}
            self.case.step(" ".join(expect if number < 2 else expect[-1:]), write=write, **symbols)
        return self.case


# name, about, and what differs from the plain block.
VARIANTS = [
    ("gqa", "groups of three query heads", {"heads": 6, "groups": 2}),
    ("mha", "every head has its own keys", {"heads": 4, "groups": 4}),
    ("mqa", "one head of keys", {"heads": 5, "groups": 1}),
    ("wide_heads", "heads wider than the model", {"heads": 3, "groups": 1, "width": 24}),
    ("bias", "biases everywhere", {"bias": True}),
    ("window", "a sliding window", {"window": 3}),
    ("window_of_one", "a token sees only itself", {"window": 1}),
    ("linear_rope", "positions stretched", {"rope": "linear"}),
    ("llama3_rope", "frequencies in three bands", {"rope": "llama3"}),
    ("block_of_1", "a block a token", {"block": 1}),
    ("block_of_5", "blocks of five", {"block": 5}),
    ("block_of_20", "a block a sequence", {"block": 20}),
    ("outlier", "one channel a hundred times as large", {"outlier": True}),
    ("kv_f16", "keys and values in f16", {"kv": "f16"}),
    ("kv_bf16", "keys and values in bf16", {"kv": "bf16"}),
    ("f16", "weights in f16", {"weight": "f16"}),
    ("bf16", "weights in bf16", {"weight": "bf16"}),
    *((kind, "weights in blocks", {"weight": kind, "hidden": 256 if kind.endswith("_k") else 64}) for kind in BLOCKS),
]


def plain(group: str, name: str, about: str, variant: dict) -> Block:
    """The block of a variant."""
    return Block(f"{group}/{name}", about, **{"hidden": 42, "heads": 6, "groups": 2, "width": 8} | variant)


def heads(block: Block) -> Block:
    """Heads whose joint width the output projection can read in blocks."""
    if block.weight in BLOCKS:
        step = 256 if block.weight.endswith("_k") else 32
        block.heads, block.groups, block.width = (8, 2, 32) if step == 256 else (4, 2, 8)
    return block


def attention_block() -> list[Case]:
    cases = []
    for name, about, variant in VARIANTS:
        block = heads(plain("attention_block", name, about, variant))
        block.case.value("x", "input", "f32", ["T", block.hidden])
        block.indices()
        cases.append(block.finish(block.attention("x", "y"), ["x"]))
    return cases


def mlp() -> list[Case]:
    cases = []
    for name, about, variant in VARIANTS:
        if set(variant) - {"weight", "hidden", "outlier"} and name != "gqa":
            continue
        for tokens in ([3, 1], [1, 2]) if variant.get("weight") in BLOCKS else ([5, 1, 8], [1, 33]):
            block = plain("mlp", f"{name}_t{tokens[0]}", about, variant)
            block.case.value("x", "input", "f32", ["T", block.hidden])
            inner = 110 if block.weight not in BLOCKS else 512 if block.weight.endswith("_k") else 96
            expect = block.mlp("x", "y", inner)
            for number, t in enumerate(tokens):
                block.case.step(" ".join(expect if t < 9 and block.weight not in BLOCKS else expect[-1:]), write={} if number == 0 else {"x": {"gen": "normal", "scale": 1.0}}, T=t)
            cases.append(block.case)
    return cases


def decoder_layer() -> list[Case]:
    cases = []
    for name, about, variant in VARIANTS:
        block = heads(plain("decoder_layer", name, about, variant))
        block.case.value("x", "input", "f32", ["T", block.hidden])
        block.indices()
        expect = block.attention("x", "r")
        block.norm("norm2")
        block.case.node("rms_norm", "r norm2", "n", eps=1e-5)
        inner = 70 if block.weight not in BLOCKS else 256 if block.weight.endswith("_k") else 96
        expect += block.mlp("n", "y", inner, residual="r")
        cases.append(block.finish(expect[1:], ["x"]))
    return cases


def two_layers() -> list[Case]:
    """The norm after a residual sum belongs to the next sublayer: `add_rms_norm` over two layers."""
    cases = []
    for name, about, variant in VARIANTS:
        if variant.get("weight", "f32") in BLOCKS:
            continue
        block = plain("two_layers", name, about, variant)
        block.case.value("x", "input", "f32", ["T", block.hidden])
        block.indices()
        block.attention("x", "r")
        block.norm("norm2")
        block.case.node("rms_norm", "r norm2", "n", eps=1e-5)
        block.mlp("n", "m", 50, residual="r")
        expect = block.attention("m", "y", ".1")
        cases.append(block.finish(["m", expect[-1]], ["x"]))
    return cases


def lm_head() -> list[Case]:
    """The end of a model: the last sum and norm, the rows that are wanted, the vocabulary."""
    cases = []
    for name, about, variant in VARIANTS:
        if set(variant) - {"weight", "hidden", "outlier", "bias"} and name != "gqa":
            continue
        for fused in (True, False):
            block = plain("lm_head", f"{name}_{'sum' if fused else 'norm'}", about, variant)
            case = block.case.value("x", "input", "f32", ["T", block.hidden]).value("out_row", "input", "i32", ["O"], ints=[4, 0, 4])
            block.norm("norm")
            if fused:
                case.value("r", "input", "f32", ["T", block.hidden]).node("add_rms_norm", "x r norm", "sum n", eps=1e-6)
            else:
                case.node("rms_norm", "x norm", "n", eps=1e-6)
            block.matrix("head", 53, block.hidden)
            case.node("gather_rows", "n out_row", "rows").node("linear", "rows head", "logits").step("rows logits", T=5, O=3)
            new = {name: {"gen": "normal", "scale": 1.0} for name in (["x", "r"] if fused else ["x"])}
            case.step("logits", write=new | {"out_row": {"ints": [0]}}, T=1, O=1)
            case.step("logits", write=new | {"out_row": {"ints": [8, 2]}}, T=9, O=2)
            cases.append(case)
    return cases


MODULES = [attention_block, mlp, decoder_layer, two_layers, lm_head]
