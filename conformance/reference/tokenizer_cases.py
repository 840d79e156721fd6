"""Small vocabularies, texts, and the ids that belong to them: `tokenizer/*.json`.

Three kinds: `bytes` is byte-level BPE as SmolLM2 has it, `pattern` the same with Llama 3's pattern and a template that
adds a token in front, `pieces` SentencePiece BPE with byte fallback as LLaMA 2 has it, as tokenizer.json and, as `scored`,
with the values of a GGUF file. `ranks` is `pattern` as a tiktoken file, `model` is `pieces` as a SentencePiece model, of
which transformers' LlamaTokenizer puts the space in front of the first word only, and not where there is one. They are trained by `tokenizers` on the text below; what a text becomes is computed by
the encoders of this file, which are written from the published descriptions, and by `tokenizers`, which must agree.
"""

import base64
import json
import math
import random
from pathlib import Path

import regex
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

NAME = "tokenizer"

CORPUS = """
The camel carries what it is given across the desert and needs little water on the way. A caravan of forty camels,
each with two hundred kilograms on its back, walks thirty kilometres a day. When the wind comes up the camels close their
nostrils, and the drivers wrap their heads in cloth. In the evening they sit around the fire, and somebody tells a story
that everybody knows. The story is about a merchant who wanted to count the stars; he began on the first evening, and the
next evening he had forgotten the number, so he began again. "That's how it is," they say, "you'll never get it done, but
you've seen the sky every night." It's 1234 steps from the well to the gate, and 56 from the gate to the tree.
Das Kamel trägt, was man ihm auflädt, über weite Strecken; es überquert die Wüste in zwölf Tagen und trinkt danach
hundert Liter Wasser. Le chameau traverse le désert, où l'été est brûlant et l'hiver glacé. El camello cruza el desierto
despacio; mañana llegará al pozo. Верблюд идёт через пустыню медленно, но верно. 骆驼穿过沙漠，走得很慢。ラクダは砂漠を渡る。
def count(stars):
    total = 0
    for star in stars:
        total += 1
    return total
"""

TEXTS = {
    "empty": "", "space": " ", "two_spaces": "  ", "nine_spaces": " " * 9, "tab": "\t", "newline": "\n", "newlines": "\n\n\n",
    "word": "camel", "capital": "Camel", "hello": "Hello this is a test", "banana": "Banana", "leading_space": " the camel",
    "leading_spaces": "   the camel", "trailing_space": "the camel ", "inner_spaces": "the    camel  walks",
    "sentence": "The camel crosses the desert.", "question": "Who counts the stars, and why?!", "quotes": "\"It's\" 'quoted' “so”",
    "contractions": "it's you'll they've I'm don't WE'LL he'd 's", "digits": "1234567890", "numbers": "3.14 1,000,000 12th 0x1F",
    "crlf": "one\r\ntwo\r\n\r\nthree", "indent": "def f(x):\n    return x + 1\n\n\tpass", "symbols": "#$%&()*+-/:;<=>@[]^_`{|}~",
    "dots": "... ..... …", "url": "https://example.org/a?b=c&d=e#f", "german": "Größenwahn über Straßen", "french": "l'été où ça brûle",
    "decomposed": "cafe\u0301 nin\u0303o", "russian": "Верблюд идёт", "greek": "καμήλα στην έρημο", "chinese": "骆驼穿过沙漠",
    "japanese": "ラクダは砂漠を渡る", "korean": "낙타가 사막을 건넌다", "arabic": "الجمل في الصحراء", "hebrew": "גמל במדבר", "hindi": "ऊँट रेगिस्तान में",
    "thai": "อูฐในทะเลทราย", "emoji": "🐪🐫", "emoji_joined": "👩‍👩‍👧‍👦 ❤️ 🇩🇪", "emoji_in_words": "a🐪b c🐫", "controls": "\x01\x02\x7f",
    "nul": "a\x00b", "byte_order_mark": "\ufeffcamel", "private_use": "\ue000\uf8ff", "non_characters": "\ufffe\uffff\ufffd",
    "four_bytes": "\U0001d54f\U00020000\U0010ffff", "no_break_space": "a\u00a0b\u2003c\u200bd", "long_word": "a" * 300,
    "long_mixed": "camelsnostrilsxyzzy" * 12, "meta_space": "▁the▁camel", "meta_space_alone": "▁", "byte_literal": "<0x0A> <0x41>",
    "unk_literal": "<unk>", "special_front": "<s>The camel", "special_inside": "the</s> camel</s>walks", "special_spaces": " <s> the </s> ",
    "specials_only": "<s></s><s>", "chatml": "<|im_start|>user\nWho?<|im_end|>\n", "llama3": "<|begin_of_text|>Who?<|eot_id|>",
    "half_special": "<|im_start| <s </s <|eot_id", "user_defined": "call <tool>count</tool> now", "rtl_marks": "\u202eabc\u202c",
    "combining": "a\u0300\u0301\u0302\u0303", "ligatures": "ﬁ ﬂ Ĳ Å", "turkish": "İstanbul ıI", "repeats": "the the the the the",
}

SMOLLM = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA3 = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
LLAMA2 = ["<unk>", "<s>", "</s>"]
TOOLS = ["<tool>", "</tool>"]
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                  r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def _alphabet() -> list[str]:
    """The printable character of every byte, as GPT-2 has it."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(rest)) for b in range(256)]


ALPHABET = _alphabet()


class ByteBpe:
    """Byte-level BPE: words by a pattern, in each the merge of the lowest rank first, the leftmost of equals."""

    def __init__(self, vocab, merges, pattern, single_digits, whole_words, specials, bos):
        self.vocab, self.ranks = vocab, {tuple(m): r for r, m in enumerate(merges)}
        self.pattern, self.single_digits, self.whole_words = regex.compile(pattern), single_digits, whole_words
        self.specials, self.bos = specials, bos
        self.bytes_of = {i: bytes(ALPHABET.index(c) for c in t) for t, i in vocab.items() if t not in specials}
        self.bytes_of |= {vocab[t]: t.encode() for t in specials}

    def words(self, text):
        parts = regex.split(r"(\p{N})", text) if self.single_digits else [text]
        return [w for part in parts if part for w in self.pattern.findall(part)]

    def word(self, word):
        symbols = [ALPHABET[b] for b in word.encode()]
        if self.whole_words and "".join(symbols) in self.vocab:
            return [self.vocab["".join(symbols)]]
        while len(symbols) > 1:
            ranked = [(self.ranks.get(pair, math.inf), i) for i, pair in enumerate(zip(symbols, symbols[1:]))]
            rank, i = min(ranked)
            if rank == math.inf:
                break
            symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
        return [self.vocab[s] for s in symbols]

    def section(self, text, at_start):
        return [i for w in self.words(text) for i in self.word(w)]

    def decode(self, ids, skip):
        drop = {self.vocab[t] for t in self.specials} if skip else set()
        return b"".join(self.bytes_of[i] for i in ids if i not in drop)


class PieceBpe:
    """SentencePiece BPE: of all neighbours the pair that makes the piece of the highest score first, the leftmost of equals."""

    def __init__(self, tokens, scores, specials, user_defined, first_only=False):
        self.first_only = first_only
        self.tokens, self.vocab = tokens, {t: i for i, t in enumerate(tokens)}
        self.specials, self.bos, self.user_defined = specials, "<s>", user_defined
        self.scores = {t: scores[i] for i, t in enumerate(tokens) if i > 258 and t not in user_defined}

    def section(self, text, at_start):
        marked = text.replace(" ", "▁")
        if text and (not self.first_only or at_start and not marked.startswith("▁")):
            marked = "▁" + marked
        symbols = list(marked)
        while len(symbols) > 1:
            joined = [(-self.scores.get(a + b, -math.inf), i) for i, (a, b) in enumerate(zip(symbols, symbols[1:]))]
            score, i = min(joined)
            if score == math.inf:
                break
            symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
        out = []
        for s in symbols:
            out += [self.vocab[s]] if s in self.scores else [self.vocab[f"<0x{b:02X}>"] for b in s.encode()]
        return out

    def decode(self, ids, skip):
        drop = {self.vocab[t] for t in self.specials} if skip else set()
        out, first = b"", True
        for i in (i for i in ids if i not in drop):
            token = self.tokens[i]
            if 3 <= i <= 258:
                out += bytes([i - 3])
            else:
                text = token.replace("▁", " ") if token not in (*self.specials, *self.user_defined) else token
                out += (text[1:] if first and text.startswith(" ") else text).encode()
            first = False
        return out


def encode(encoder, text, parse, add):
    """Ids of a text: special tokens first if they are to be recognised, then what lies between them."""
    names = sorted(encoder.specials, key=len, reverse=True) if parse else []
    names += getattr(encoder, "user_defined", [])
    sections = regex.split("(" + "|".join(map(regex.escape, names)) + ")", text) if names else [text]
    ids = [encoder.vocab[encoder.bos]] if add and encoder.bos else []
    at = 0
    for section in sections:
        ids += [encoder.vocab[section]] if section in names else encoder.section(section, at == 0)
        at += len(section)
    return ids


def _trained(pre_tokenizer, specials, size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, initial_alphabet=ALPHABET, show_progress=False)
    tokenizer.train_from_iterator(CORPUS.splitlines(keepends=True), trainer)
    return tokenizer


def _model(tokenizer):
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [m if isinstance(m, list) else m.split(" ") for m in model["merges"]]


def byte_level():
    """`bytes`, as SmolLM2: digits one by one, then GPT-2's words; nothing is added."""
    split = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer = _trained(split, SMOLLM, 480)
    tokenizer.decoder = decoders.ByteLevel()
    vocab, merges = _model(tokenizer)
    config = {"bos_token": SMOLLM[1], "eos_token": SMOLLM[2], "unk_token": SMOLLM[0]}
    return tokenizer, ByteBpe(vocab, merges, GPT2_PATTERN, True, False, SMOLLM, None), config


def pattern():
    """`pattern`, as Llama 3: its own words, whole words before merges, a token in front."""
    words = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    trained = _trained(words, [], 500)
    vocab, merges = _model(trained)
    # As in Llama 3 a word may be in the vocabulary that no merges lead to, and special tokens come last.
    vocab = {**vocab, "Ġcaravanserai": len(vocab)}
    tokenizer = Tokenizer(models.BPE(vocab, [tuple(m) for m in merges], ignore_merges=True))
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in LLAMA3])
    vocab = {**vocab, **{t: len(vocab) + i for i, t in enumerate(LLAMA3)}}
    bos = LLAMA3[0]
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, vocab[bos])]),
    ])
    config = {"bos_token": bos, "eos_token": LLAMA3[1]}
    return tokenizer, ByteBpe(vocab, merges, LLAMA3_PATTERN, False, True, LLAMA3, bos), config


def pieces():
    """`pieces`, as LLaMA 2: bytes for what is no piece, a space in front, `<s>` before it."""
    marks = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = marks
    byte_tokens = [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=560, special_tokens=LLAMA2 + byte_tokens, limit_alphabet=70, show_progress=False)
    tokenizer.train_from_iterator([w for line in CORPUS.splitlines() for w in line.split()], trainer)
    vocab, _ = _model(tokenizer)
    learned = [t for t, _ in sorted(vocab.items(), key=lambda x: x[1])][259:]
    merged = [t for t in learned if len(t) > 1] + ["▁▁", "▁▁▁▁"]
    tokens = LLAMA2 + byte_tokens + merged + [t for t in learned if len(t) == 1]
    tokens += [] if "▁" in tokens else ["▁"]
    scores = [0.0] * 259 + [-float(i) for i in range(len(tokens) - 259)]
    user = TOOLS
    index = {t: i for i, t in enumerate(tokens)}
    merges = []
    for t in sorted((t for t in tokens[259:] if len(t) > 1), key=lambda t: index[t]):
        pairs = [(t[:i], t[i:]) for i in range(1, len(t)) if t[:i] in index and t[i:] in index]
        merges += sorted(pairs, key=lambda p: (index[p[0]], index[p[1]]))
    tokenizer = Tokenizer(models.BPE(index, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = marks
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in LLAMA2])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in user])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    tokens, scores = tokens + user, scores + [0.0, 0.0]
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    gguf = {"model": "llama", "tokens": tokens, "scores": scores, "bos": 1, "eos": 2, "unk": 0,
            "token_types": [2, 3, 3] + [6] * 256 + [1] * (len(tokens) - 261) + [4, 4]}
    return tokenizer, PieceBpe(tokens, scores, LLAMA2, user), config, gguf


def model(pieces_tokenizer, gguf):
    """`model`: the vocabulary of `pieces` as a SentencePiece model, read as LlamaTokenizer does."""
    proto = sentencepiece_model_pb2.ModelProto()
    for text, score, kind in zip(gguf["tokens"], gguf["scores"], gguf["token_types"]):
        proto.pieces.add(piece=text, score=score, type=kind)
    proto.trainer_spec.model_type, proto.trainer_spec.byte_fallback = 2, True
    proto.normalizer_spec.name, proto.normalizer_spec.remove_extra_whitespaces = "identity", False
    tokenizer = Tokenizer.from_str(pieces_tokenizer.to_str())
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", split=False)
    encoder = PieceBpe(gguf["tokens"], gguf["scores"], LLAMA2, TOOLS, first_only=True)
    return tokenizer, encoder, {"file": proto.SerializeToString(deterministic=True).hex(), "config": {}}


def ranks(encoder):
    """`ranks`: the vocabulary of `pattern` as a tiktoken file; the ids are the ranks."""
    first = len(encoder.vocab) - len(LLAMA3)
    lines = [f"{base64.b64encode(encoder.bytes_of[i]).decode()} {i}\n" for i in range(first)]
    added = {str(encoder.vocab[t]): {"content": t, "special": True} for t in LLAMA3}
    config = {"bos_token": LLAMA3[0], "eos_token": LLAMA3[1], "added_tokens_decoder": added}
    return {"file": "".join(lines).encode().hex(), "config": config}


def _check(kind, tokenizer, encoder, name, text):
    """The encoder of this file against `tokenizers`, which always recognises special tokens."""
    for add in (False, True):
        ours, theirs = encode(encoder, text, True, add), tokenizer.encode(text, add_special_tokens=add).ids
        if ours != theirs:
            raise ValueError(f"{NAME}/{kind}/{name}: {ours} by definition, {theirs} by tokenizers {tokenizers.__version__}")
        theirs = tokenizer.decode(ours, skip_special_tokens=True)
        if (found := encoder.decode(ours, True).decode("utf-8", "replace")) != theirs:
            raise ValueError(f"{NAME}/{kind}/{name}: decodes to {found!r} by definition, {theirs!r} by tokenizers")


def _cases(kind, tokenizer, encoder):
    encoded = []
    for name, text in TEXTS.items():
        _check(kind, tokenizer, encoder, name, text)
        plain, parsed = encode(encoder, text, False, False), encode(encoder, text, True, True)
        encoded.append({"name": name, "text": text, "plain": plain, "parsed": parsed, "back": encoder.decode(plain, False).hex(),
                        "decoded": encoder.decode(parsed, True).hex(), "written": encoder.decode(parsed, False).hex()})
    rng, decoded = random.Random(kind), []
    size = max(encoder.vocab.values()) + 1
    for _ in range(12):
        ids = [rng.randrange(size) for _ in range(rng.randrange(1, 24))]
        # Where the bytes are no text, tokenizers puts other replacement characters than a decoder of UTF-8.
        text = encoder.decode(ids, False)
        if text.decode("utf-8", "ignore").encode() == text and tokenizer.decode(ids, skip_special_tokens=False).encode() != text:
            raise ValueError(f"{NAME}/{kind}: {ids} decode to {text} by definition, otherwise by tokenizers")
        decoded.append({"ids": ids, "decoded": encoder.decode(ids, True).hex(), "written": encoder.decode(ids, False).hex()})
    tokens = [t for t, _ in sorted(encoder.vocab.items(), key=lambda x: x[1])]
    return {"encode": encoded, "decode": decoded, "tokens": tokens, "special": sorted(encoder.vocab[t] for t in encoder.specials)}


def _write(path, value, indent=None):
    path.write_text(json.dumps(value, ensure_ascii=True, indent=indent, separators=None if indent else (",", ":")) + "\n")


def make(out: Path) -> Path:
    """Writes the folder `tokenizer` under `out`: for each kind the vocabulary and its cases."""
    folder = out / NAME
    folder.mkdir(parents=True, exist_ok=True)
    for kind, (tokenizer, encoder, config, *gguf) in {"bytes": byte_level(), "pattern": pattern(), "pieces": pieces()}.items():
        vocabulary = {"tokenizer": json.loads(tokenizer.to_str()), "config": config}
        _write(folder / f"{kind}.vocab.json", vocabulary)
        _write(folder / f"{kind}.cases.json", _cases(kind, tokenizer, encoder))
        if kind == "pattern":
            _write(folder / "ranks.vocab.json", ranks(encoder))
        if gguf:
            _write(folder / "scored.vocab.json", {"gguf": gguf[0]})
            tokenizer, encoder, vocabulary = model(tokenizer, gguf[0])
            _write(folder / "model.vocab.json", vocabulary)
            _write(folder / "model.cases.json", _cases("model", tokenizer, encoder))
    return folder
