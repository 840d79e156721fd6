"""What transformers' LlamaTokenizer, sentencepiece and tiktoken say: `crates/tokenizer/tests/data/llama/*`.

Small vocabularies of every form are trained here, on LICENSE-APACHE and the corpus of `tokenizer_cases.py`: `*.model` for sentencepiece (one
for each way to treat spaces), `ranks.model` for tiktoken. `cases.json` has what texts become with them, and what calls of
`LlamaTokenizer` with all kinds of parameters give; `strings.json` has, for those vocabularies and for the real ones of
Llama 2, Llama 3 and SmolLM2, digests of the ids of thousands of strings that both sides draw with the generator below.

    python conformance/reference/llama_tokenizer_cases.py --out crates/tokenizer/tests/data/llama --vocabularies DIR

DIR has the GGUF files that `cargo xtask fetch` fetches, in any folder below it. With --texts FILE it writes the strings as
JSON in place of that, and what each library makes of them, to compare by hand.
"""

import argparse
import base64
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import sentencepiece
import tiktoken
import transformers
from gguf import GGUFReader
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AddedToken, LlamaTokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter

from tokenizer_cases import CORPUS

HERE = Path(__file__).parent
MASK = (1 << 64) - 1
# Strings of a digest, and digests of a vocabulary.
GROUP, GROUPS, REAL_GROUPS = 64, 16, 48
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Kinds of characters, first and last one of each; the first four come up more often.
RANGES = [
    (0x61, 0x7A), (0x20, 0x7E), (0x20, 0x20), (0x41, 0x5A), (0x09, 0x0D), (0x30, 0x39), (0xA0, 0xFF), (0x300, 0x36F),
    (0x391, 0x451), (0x5D0, 0x64A), (0x905, 0x94D), (0xE01, 0xE5B), (0x2000, 0x206F), (0x3041, 0x30FF),
    (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1D400, 0x1D7FF), (0x1F300, 0x1F64F), (0xFE00, 0xFE0F), (0x00, 0x1F),
    (0x2581, 0x2581), (0x10FF00, 0x10FFFF),
]  # fmt: skip
WORDS = [
    "the", " the", " of", "model", " tokens", "Hello", " is", "ing", " 2024", "don't", "I'LL", "\n\n", "    ", "été",
    " camelid", "http://", "12345", " \t", "==", "#include", "▁", "  ", "</", "s>", "<0x0A>", "日本", "Привет", "🐪",
]  # fmt: skip


class SplitMix:
    """SplitMix64 (Steele, Lea and Flood 2014)."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, bound: int) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % bound


def string(random: SplitMix) -> str:
    """Up to 24 words, characters of one kind, or of any."""
    parts = []
    only = random.below(len(RANGES) + 4)
    for _ in range(random.below(24) + 1):
        form = random.below(4)
        if form == 0:
            parts.append(WORDS[random.below(len(WORDS))])
            continue
        kind = only if form == 1 and only < len(RANGES) else random.below(len(RANGES) + 12)
        low, high = RANGES[kind if kind < len(RANGES) else kind % 4]
        parts.append(chr(low + random.below(high - low + 1)))
    return "".join(parts)


def strings(seed: int, count: int) -> list[str]:
    """The strings of a seed."""
    random = SplitMix(seed)
    return [string(random) for _ in range(count)]


def digest(rows: list[list[int]]) -> str:
    """FNV-1a with 64 bits over the ids as 32-bit little-endian numbers, each list with 2^32 - 1 behind it."""
    value = 0xCBF29CE484222325
    for row in rows:
        for byte in b"".join(n.to_bytes(4, "little") for n in [*row, 0xFFFFFFFF]):
            value = ((value ^ byte) * 0x100000001B3) & MASK
    return f"{value:016x}"


def digests(encode: Callable[[str], list[int]], texts: list[str]) -> list[str]:
    """One for each group of texts."""
    ids = [encode(text) for text in texts]
    return [digest(ids[at : at + GROUP]) for at in range(0, len(ids), GROUP)]


def inner(text: str) -> str:
    """The text where sentencepiece and transformers mean the same by spaces: not at its beginning, and not written `▁`."""
    return "a" + text.replace("▁", "_")


# --- vocabularies -----------------------------------------------------------------------------------------------------


def training_text() -> str:
    """A text that stays as it is."""
    return (HERE.parents[1] / "LICENSE-APACHE").read_text() + CORPUS


def train_sentencepiece(out: Path) -> None:
    """`*.model`: with byte fallback as LLaMA has it, with other treatments of spaces, without byte tokens."""
    plain = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    kinds = {
        "bytes": {**plain, "byte_fallback": True, "user_defined_symbols": ["<tool>"], "vocab_size": 560},
        "no_prefix": {**plain, "byte_fallback": True, "add_dummy_prefix": False, "vocab_size": 500},
        "trimmed": {**plain, "byte_fallback": True, "remove_extra_whitespaces": True, "vocab_size": 500},
        "unknown": {**plain, "bos_piece": "<begin>", "eos_piece": "<end>", "pad_id": 3, "vocab_size": 240},
    }
    text = training_text()
    for name, flags in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "text").write_text(text)
            prefix = str(Path(folder) / "model")
            sentencepiece.SentencePieceTrainer.train(
                input=str(Path(folder) / "text"), model_prefix=prefix, model_type="bpe", hard_vocab_limit=False,
                character_coverage=0.99, num_threads=1, minloglevel=2, **flags,
            )  # fmt: skip
            proto = sentencepiece_model_pb2.ModelProto.FromString(Path(prefix + ".model").read_bytes())
            proto.trainer_spec.ClearField("input")  # a path of this machine
            proto.trainer_spec.ClearField("model_prefix")
            (out / f"{name}.model").write_bytes(proto.SerializeToString(deterministic=True))


def train_ranks(out: Path, size: int) -> None:
    """`ranks.model`: bytes, then the most frequent pairs of a text cut by Llama 3's pattern."""
    import regex

    ranks = {bytes([b]): b for b in range(256)}
    words = [[bytes([b]) for b in word.encode()] for word in regex.findall(LLAMA3, training_text())]
    while len(ranks) < size:
        counts: dict[tuple[bytes, bytes], int] = {}
        for word in words:
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        best = max(counts, key=lambda pair: (counts[pair], pair))
        ranks[best[0] + best[1]] = len(ranks)
        for n, word in enumerate(words):
            at = 0
            while at + 1 < len(word):
                if (word[at], word[at + 1]) == best:
                    word[at : at + 2] = [best[0] + best[1]]
                at += 1
            words[n] = word
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()]
    (out / "ranks.model").write_text("".join(lines))


def load_llama(model: Path, **flags: object) -> LlamaTokenizer:
    """As `from_pretrained` does from a folder with this `tokenizer.model` alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(model.resolve(), Path(folder) / "tokenizer.model")
        return LlamaTokenizer.from_pretrained(folder, **flags)


def read_ranks(path: Path) -> dict[bytes, int]:
    rows = (line.split() for line in path.read_text().splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in rows}


def llama3_special_tokens() -> list[str]:
    """As `tokenizer.py` of Meta's llama3 lists them."""
    head = ["<|begin_of_text|>", "<|end_of_text|>", *(f"<|reserved_special_token_{i}|>" for i in range(4))]
    head += ["<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>"]
    return head + [f"<|reserved_special_token_{i}|>" for i in range(5, 256 - 5)]


def load_tiktoken(path: Path) -> tiktoken.Encoding:
    ranks = read_ranks(path)
    special = {token: len(ranks) + n for n, token in enumerate(llama3_special_tokens())}
    return tiktoken.Encoding("llama3", pat_str=LLAMA3, mergeable_ranks=ranks, special_tokens=special)


# --- cases ------------------------------------------------------------------------------------------------------------

TEXTS = [
    "", " ", "  ", "Hello this is a test", " the", "  the", "the ", "a\n b", "x<tool>the", "<tool> the", "the<tool>",
    "<s>the", "the</s> the", " <s> the ", "<unk>", "the 沙漠 🐪", "▁the", " ▁ the", "<0x41>", "\t\r\n", "é\u0301", "\x00",
    "    the     the", "1234567", "<|begin_of_text|> the<|eot_id|>",
]  # fmt: skip


def spm_cases(out: Path) -> dict:
    """For each model file: ids by transformers and by sentencepiece, and what comes back."""
    cases = {}
    for path in sorted(out.glob("*.model")):
        if path.stem == "ranks":
            continue
        flags = {}
        if path.stem == "no_prefix":
            flags = {"add_prefix_space": False}
        tokenizer = load_llama(path, add_bos_token=True, **flags)
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        rows = []
        for text in TEXTS:
            ids = tokenizer.encode(text)
            rows.append({
                "text": text, "ids": ids, "decoded": tokenizer.decode(ids),
                "skipped": tokenizer.decode(ids, skip_special_tokens=True), "sentencepiece": processor.encode(text),
            })  # fmt: skip
        special = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
        cases[path.stem] = {"texts": rows, "special": special, "all_special": tokenizer.all_special_tokens}
    return cases


def tiktoken_cases(out: Path) -> list[dict]:
    encoding = load_tiktoken(out / "ranks.model")
    converted = TikTokenConverter(str(out / "ranks.model"), extra_special_tokens=llama3_special_tokens()).converted()
    rows = []
    for text in TEXTS:
        ids = encoding.encode(text, allowed_special="all")
        assert ids == converted.encode(text, add_special_tokens=False).ids, text
        plain = encoding.encode(text, disallowed_special=())
        rows.append({"text": text, "ids": ids, "plain": plain, "bytes": encoding.decode_bytes(ids).hex()})
    return rows


def piece_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary of `conformance/suite/tokenizer/pieces.vocab.json`, which the tests read too."""
    path = HERE.parent / "suite" / "tokenizer" / "pieces.vocab.json"
    model = json.loads(path.read_text())["tokenizer"]["model"]
    return model["vocab"], [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]


def token_flags(token: object) -> object:
    """A token as the tests read it: a string, or an object."""
    if isinstance(token, str):
        return token
    state = token.__getstate__()
    return {key: state[key] for key in ("content", "single_word", "lstrip", "rstrip", "normalized", "special")}


PARAMETERS = [
    {},
    {"add_bos_token": True},
    {"add_eos_token": True},
    {"add_bos_token": True, "add_eos_token": True},
    {"add_prefix_space": False, "add_bos_token": True},
    {"legacy": True, "add_bos_token": True},
    {"legacy": True, "add_prefix_space": False},
    {"clean_up_tokenization_spaces": True},
    {"use_default_system_prompt": True, "pad_token": "<pad>", "add_bos_token": True},
    {"bos_token": AddedToken("<tool>", lstrip=True, rstrip=True), "add_bos_token": True},
    {"bos_token": AddedToken("the", single_word=True), "eos_token": "<end>", "add_eos_token": True, "add_bos_token": True},
    {"unk_token": "<x>", "pad_token": AddedToken("<p>", rstrip=True), "extra_special_tokens": ["<tool>", "of"]},
    {"split_special_tokens": True, "add_bos_token": True},
]


def builder_cases() -> list[dict]:
    """`LlamaTokenizer(vocab=..., merges=..., ...)` with every parameter."""
    vocab, merges = piece_vocabulary()
    cases = []
    texts = [*TEXTS, "The camel , the desert .", "<tool>  the<tool>", "the the", "of<p> the", " <end> "]
    for parameters in PARAMETERS:
        tokenizer = LlamaTokenizer(vocab=dict(vocab), merges=list(merges), **parameters)
        rows = []
        for text in texts:
            ids = tokenizer.encode(text)
            skipped = tokenizer.decode(ids, skip_special_tokens=True)
            rows.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids), "skipped": skipped})
        pair = tokenizer("the camel", "of water", return_token_type_ids=True, return_special_tokens_mask=True)
        finished = pair["input_ids"] + [0, 1, 2]
        cases.append({
            "parameters": {k: [token_flags(t) for t in v] if isinstance(v, list) else token_flags(v) if not isinstance(v, bool) else v for k, v in parameters.items()},
            "texts": rows, "size": len(tokenizer), "pair": dict(pair), "finished": finished,
            "mask": tokenizer.get_special_tokens_mask(finished, already_has_special_tokens=True),
            "special_ids": tokenizer.all_special_ids,
            "to_add": [tokenizer.num_special_tokens_to_add(), tokenizer.num_special_tokens_to_add(pair=True)],
            "unknown": tokenizer.convert_tokens_to_ids(["the", "no such token", "</s>"]),
            "tokens": tokenizer.convert_ids_to_tokens([0, 1, 2, 300], skip_special_tokens=True),
        })  # fmt: skip
    return cases


BATCHES = [
    {},
    {"padding": True},
    {"padding": "longest", "padding_side": "right"},
    {"padding": "max_length", "max_length": 12},
    {"padding": True, "pad_to_multiple_of": 8},
    {"padding": True, "max_length": 4},
    {"padding": "max_length", "max_length": 6, "truncation": True},
    {"padding": "max_length", "max_length": 16, "truncation": True, "pad_to_multiple_of": 8, "padding_side": "right"},
    {"max_length": 5},
    {"max_length": 5, "truncation": False},
    {"max_length": 5, "truncation": "only_first"},
    {"max_length": 7, "truncation": "longest_first", "stride": 2, "return_overflowing_tokens": True},
    {"max_length": 9, "truncation": True, "stride": 1, "return_overflowing_tokens": True, "padding": True},
    {"truncation": True, "add_special_tokens": False, "max_length": 3},
    {"padding": "max_length"},
    {"truncation": True},
    {"max_length": 3, "truncation": True},
    {"max_length": 2, "truncation": True, "return_overflowing_tokens": True},
]
BATCH = ["the camel crosses the desert", "water", "in 12 days; l'été, пустыня 🐪", ""]
SECOND = ["of the", "the camel is an animal of the desert", "", "x"]


def batch_cases() -> list[dict]:
    """Calls with padding and truncation, of texts and of pairs."""
    vocab, merges = piece_vocabulary()
    cases = []
    for made in (
        {"add_bos_token": True, "pad_token": "</s>"},
        {"add_bos_token": True, "add_eos_token": True, "pad_token": "<unk>", "truncation_side": "left", "model_max_length": 10},
    ):
        tokenizer = LlamaTokenizer(vocab=dict(vocab), merges=list(merges), **made)
        for second in (None, SECOND):
            for call in BATCHES:
                asked = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "return_token_type_ids": True}
                try:
                    found = dict(tokenizer(BATCH, second, **asked, **call))
                except BaseException as error:  # noqa: BLE001: the library panics on some
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    found = {"refused": type(error).__name__}
                cases.append({"made": made, "pairs": second is not None, "call": call, "found": found})
    return cases


# --- real vocabularies ------------------------------------------------------------------------------------------------


def gguf_vocabulary(path: Path) -> dict:
    reader = GGUFReader(path)

    def column(key: str) -> list | None:
        field = reader.fields.get(f"tokenizer.ggml.{key}")
        return field and [field.parts[at] for at in field.data]

    return {
        "tokens": [bytes(part).decode() for part in column("tokens")],
        "types": [int(part[0]) for part in column("token_type")],
        "scores": (scores := column("scores")) and [float(part[0]) for part in scores],
        "merges": (merges := column("merges")) and [tuple(bytes(part).decode().split(" ")) for part in merges],
    }


def sentencepiece_file(vocabulary: dict, path: Path) -> None:
    """A `tokenizer.model` with the pieces of a GGUF vocabulary, and the flags of LLaMA's.

    transformers 5.8.0 orders the merges of such a file by the ids of the pieces, not by their scores, so that runs of
    spaces, whose pieces have low ids and the lowest scores, become other tokens than the model was trained on. Hence
    sentencepiece is the reference here.
    """
    proto = sentencepiece_model_pb2.ModelProto()
    for text, score, kind in zip(vocabulary["tokens"], vocabulary["scores"], vocabulary["types"]):
        proto.pieces.add(piece=text, score=score, type=kind)
    proto.trainer_spec.model_type = 2
    proto.trainer_spec.byte_fallback = True
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.remove_extra_whitespaces = False
    path.write_bytes(proto.SerializeToString())


def ranks_file(vocabulary: dict, path: Path) -> None:
    """A tiktoken file with the tokens of a byte-level GGUF vocabulary that are not special."""
    bytes_of = {char: byte for byte, char in tiktoken_alphabet().items()}
    lines = []
    for rank, (text, kind) in enumerate(zip(vocabulary["tokens"], vocabulary["types"])):
        if kind == 1:
            token = bytes(bytes_of[char] for char in text)
            lines.append(f"{base64.b64encode(token).decode()} {rank}\n")
    path.write_text("".join(lines))


def tiktoken_alphabet() -> dict[int, str]:
    """GPT-2's printable characters for bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def smollm2(vocabulary: dict) -> Tokenizer:
    """As the `tokenizer.json` of the model has it."""
    ids = {text: n for n, text in enumerate(vocabulary["tokens"])}
    tokenizer = Tokenizer(models.BPE(ids, vocabulary["merges"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def real_encoders(vocabularies: Path) -> dict[str, Callable[[str], list[int]]]:
    """The ids of texts by each library, nothing added; special tokens in texts are recognised by none."""
    find = lambda name: next(vocabularies.rglob(name))  # noqa: E731
    folder = Path(tempfile.mkdtemp())
    sentencepiece_file(gguf_vocabulary(find("ggml-vocab-llama-spm.gguf")), folder / "llama2.model")
    ranks_file(gguf_vocabulary(find("ggml-vocab-llama-bpe.gguf")), folder / "llama3.model")
    llama2 = load_llama(folder / "llama2.model", split_special_tokens=True)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "llama2.model"))
    llama3 = load_tiktoken(folder / "llama3.model")
    converted = TikTokenConverter(str(folder / "llama3.model")).converted()
    small = smollm2(gguf_vocabulary(find("SmolLM2-135M-Instruct.Q4_1.gguf")))
    return {
        "llama2": lambda text: llama2.encode(text, add_special_tokens=False),
        "llama2_sentencepiece": pieces.encode,
        "llama3": lambda text: llama3.encode(text, disallowed_special=()),
        "llama3_transformers": lambda text: converted.encode(text, add_special_tokens=False).ids,
        "smollm2": lambda text: small.encode(text, add_special_tokens=False).ids,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocabularies", type=Path, required=True)
    parser.add_argument("--texts", type=int, metavar="COUNT", help="write COUNT strings and their ids, and nothing else")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ["TIKTOKEN_CACHE_DIR"] = ""  # it would take a file of the same path from before for this one
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    write = lambda name, data: (out / name).write_text(json.dumps(data, ensure_ascii=True, separators=(",", ":")) + "\n")  # noqa: E731
    real = real_encoders(options.vocabularies)
    if options.texts:
        texts = strings(options.seed, options.texts)
        write("texts.json", texts)
        for name, encode in real.items():
            write(f"{name}.ids.json", [encode(text) for text in texts])
        return
    train_sentencepiece(out)
    train_ranks(out, 640)
    write("cases.json", {
        "sentencepiece": spm_cases(out), "tiktoken": tiktoken_cases(out), "builder": builder_cases(),
        "batch": batch_cases(),
    })  # fmt: skip
    encoders = {"ranks": lambda text, e=load_tiktoken(out / "ranks.model"): e.encode(text, disallowed_special=())}
    for path in sorted(out.glob("*.model")):
        if path.stem != "ranks":
            flags = {"add_prefix_space": False} if path.stem == "no_prefix" else {}
            llama = load_llama(path, split_special_tokens=True, **flags)
            encoders[path.stem] = lambda text, t=llama: t.encode(text, add_special_tokens=False)
            processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
            encoders[f"{path.stem}_sentencepiece"] = lambda text, p=processor: p.encode(inner(text))
    many = strings(1, GROUP * REAL_GROUPS)
    assert digests(real["llama3"], many) == digests(real["llama3_transformers"], many)
    write("strings.json", {
        "first": strings(1, 8),
        "small": {name: digests(encode, strings(1, GROUP * GROUPS)) for name, encode in encoders.items()},
        "real": {
            "llama2_sentencepiece": digests(lambda text: real["llama2_sentencepiece"](inner(text)), many),
            "llama3": digests(real["llama3"], many),
            "smollm2": digests(real["smollm2"], many),
        },
    })  # fmt: skip


if __name__ == "__main__":
    main()
