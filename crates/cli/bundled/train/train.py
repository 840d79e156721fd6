"""Trains the bundled model: `train.py --text text/ --out ../model/` (make_text.py writes the text).

Writes a Hugging Face folder (config.json, generation_config.json, model.safetensors in bf16, tokenizer.json,
tokenizer_config.json), and beside the text report.json with the losses. It runs on the CPU with fixed seeds; the weights and
the optimizer are f32, the matrix products of the forward and backward pass bf16 (autocast), and the losses reported are f32.
"""

import argparse
import json
import math
import os
import pathlib
import platform
import time

# Threads that wait must sleep: on a machine that others use as well, spinning ones cost ten times the speed.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch
import transformers
from stories import cast
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

BOS, EOS = "<|bos|>", "<|eos|>"
SEED = 20

CONFIG = dict(
    hidden_size=192,
    intermediate_size=512,
    num_hidden_layers=6,
    num_attention_heads=6,
    num_key_value_heads=3,
    head_dim=32,
    max_position_embeddings=512,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    dtype="bfloat16",
)


def read_stories(path):
    return [story.strip("\n") for story in path.read_text(encoding="utf-8").split(f"\n{EOS}\n") if story.strip()]


def train_tokenizer(stories, vocab_size):
    """Byte-level BPE; every text is encodable, and encoding one puts `<|bos|>` before it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(stories, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def batches(tokenizer, stories, eos, length, size):
    """Groups of `size` stories of about the same length, each a matrix [size, T + 1] of `<|bos|> story <|eos|>`, in which -1
    fills up the shorter ones. One story a row: nothing from another story is ever in sight."""
    encoded = sorted((e.ids + [eos] for e in tokenizer.encode_batch(stories)), key=len)
    if len(encoded[-1]) > length + 1:
        raise ValueError(f"a story has {len(encoded[-1]) - 1} tokens, more than --length {length}: raise it")
    groups = [encoded[at : at + size] for at in range(0, len(encoded), size)]
    return [torch.tensor([ids + [-1] * (len(group[-1]) - len(ids)) for ids in group]) for group in groups]


def token_weights(tokenizer, names, pronouns, things):
    """Weights [V] of the training loss: who is who and what is what in a story costs few tokens and matters most. The losses
    that are reported weigh every token alike."""
    heed = [
        (things, [kind for kind, _ in cast.ANIMALS] + [w for t in cast.TOYS + cast.WEAR + cast.FINDS + cast.FOODS for w in t.split()]
        + cast.COLORS + [form for adult in cast.ADULTS for form in adult[:2]]),
        (pronouns, "he she him her his He She His Her".split()),
        (names, cast.GIRLS + cast.BOYS + cast.PET_GIRLS + cast.PET_BOYS),
    ]
    weights = torch.ones(tokenizer.get_vocab_size())
    for weight, words in heed:
        for form in [form for word in words for form in (word, " " + word)]:
            ids = tokenizer.encode(form, add_special_tokens=False).ids
            if len(ids) == 1:
                weights[ids[0]] = weight
    return weights


def token_losses(model, rows):
    """Cross-entropy in nats of every token of `rows` [B, T + 1] but the first: [B * T], 0 where there is none; and the labels."""
    inputs, labels = rows[:, :-1].clamp(min=0), rows[:, 1:].flatten()
    logits = model(input_ids=inputs, use_cache=False).logits.float().flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, labels, ignore_index=-1, reduction="none"), labels


@torch.no_grad()
def mean_loss(model, groups):
    total, count = 0.0, 0
    for rows in groups:
        losses, labels = token_losses(model, rows)
        total, count = total + float(losses.sum()), count + int((labels >= 0).sum())
    return total / count


def optimizers(model, rate):
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def rate_at(progress, warmup=0.02, floor=0.02):
    """The share of the top learning rate at `progress` in [0, 1]: a linear warm-up, then a cosine down to `floor`."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--text", type=pathlib.Path, default=pathlib.Path("text"))
    arguments.add_argument("--out", type=pathlib.Path, default=pathlib.Path("../model"))
    arguments.add_argument("--vocab", type=int, default=2048)
    arguments.add_argument("--steps", type=int, default=2600)
    arguments.add_argument("--minutes", type=float, default=math.inf, help="if the steps take longer, the schedule follows the clock and ends in time")
    arguments.add_argument("--length", type=int, default=320, help="the most tokens of a story")
    arguments.add_argument("--batch", type=int, default=16, help="stories in a step")
    arguments.add_argument("--rate", type=float, default=5e-3)
    arguments.add_argument("--names", type=float, default=4.0, help="weight of a name's token in the training loss")
    arguments.add_argument("--pronouns", type=float, default=2.0, help="weight of a pronoun's token")
    arguments.add_argument("--things", type=float, default=1.0, help="weight of the token of an animal, a thing or a color")
    arguments.add_argument("--threads", type=int, default=os.cpu_count())
    options = arguments.parse_args()

    torch.manual_seed(SEED)
    torch.set_num_threads(options.threads)
    train_stories, held_out_stories = (read_stories(options.text / f"{name}.txt") for name in ("train", "held_out"))
    tokenizer = train_tokenizer(train_stories, options.vocab)
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    train, held_out = (batches(tokenizer, part, eos, options.length, options.batch) for part in (train_stories, held_out_stories))
    weights = token_weights(tokenizer, options.names, options.pronouns, options.things)
    print(f"{len(train)} batches, {sum(int((rows >= 0).sum()) for rows in train)} tokens", flush=True)

    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(vocab_size=tokenizer.get_vocab_size(), bos_token_id=bos, eos_token_id=eos, **CONFIG)
    ).float()
    print(f"{model.num_parameters()} parameters", flush=True)
    optimizer = optimizers(model, options.rate)
    generator = torch.Generator().manual_seed(SEED)
    order = torch.cat([torch.randperm(len(train), generator=generator) for _ in range(math.ceil(options.steps / len(train)))])
    curve, tokens, step, began = [], 0, 0, time.monotonic()
    for at in order[: options.steps].tolist():
        progress = max(step / options.steps, (time.monotonic() - began) / (60 * options.minutes))
        if progress >= 1:
            break
        for group in (g for o in optimizer for g in o.param_groups):
            group["lr"] = options.rate * rate_at(progress)
        with torch.autocast("cpu", torch.bfloat16):
            losses, labels = token_losses(model, train[at])
        weight = weights[labels.clamp(min=0)] * (labels >= 0)
        (losses @ weight / weight.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in optimizer:
            o.step()
            o.zero_grad()
        step, tokens = step + 1, tokens + int((labels >= 0).sum())
        if step % 50 == 0 or step == 10:
            seconds, losses = time.monotonic() - began, losses.detach()
            names = float(losses[weight == weights.max()].mean())
            curve.append((step, round(float(losses.sum() / (labels >= 0).sum()), 4), round(names, 4)))
            print(f"step {step}/{options.steps} loss {curve[-1][1]} names {names:.3f} {tokens / seconds:.0f} tokens/s {seconds:.0f} s", flush=True)
    wall = time.monotonic() - began

    options.out.mkdir(parents=True, exist_ok=True)
    losses = {"train_f32": mean_loss(model, [train[at] for at in order[: len(held_out)]])}
    losses["held_out_f32"] = mean_loss(model, held_out)
    model.generation_config = transformers.GenerationConfig(bos_token_id=bos, eos_token_id=eos, max_new_tokens=320)
    model.bfloat16().save_pretrained(options.out)
    saved = transformers.LlamaForCausalLM.from_pretrained(options.out, dtype=torch.float32)
    losses["held_out_bf16_weights"] = mean_loss(saved, held_out)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, model_max_length=CONFIG["max_position_embeddings"], clean_up_tokenization_spaces=False
    ).save_pretrained(options.out)
    report = {
        "loss_nats_per_token": losses,
        "parameters": model.num_parameters(),
        "training_tokens": tokens,
        "steps": step,
        "wall_seconds": round(wall),
        "threads": options.threads,
        "options": {k: str(v) if isinstance(v, pathlib.Path) else v for k, v in vars(options).items()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__},
        "curve": curve,
    }
    print(json.dumps(report))
    (options.text / "report.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
