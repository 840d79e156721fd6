"""What a backend's rounding costs in quality: its predictions of a text against those of another backend, on the same file."""

import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from .errors import BenchError, run, shown, tail
from .report import line, machine_lines
from .stats import finite

ROOT = Path(__file__).resolve().parents[2]
TEXT = ROOT / "bench/texts/alice-1.txt"
# The largest mean KL divergence of a row of logits, in nats, that a math class allows a whole model: those of
# `model_limits` in conformance/src/tolerance.rs, which a test compares.
LIMITS = {"f32": 1e-9, "bf16": 4e-3, "q8act": 1e-2}


def math_class(form, f16="f32"):
    """The class that the backend claims for products with weights of this format, as plugins/cpu/conformance.toml has it;
    `f16` is its option."""
    return {"f32": "f32", "f16": f16, "bf16": "bf16"}.get(form, "q8act")


@dataclass(frozen=True)
class Plan:
    """How each file is read: the program, both backends, the text, and its windows."""

    camelid: Path
    backend: str
    against: str
    plugins: tuple
    text: Path
    threads: int
    context: int
    stride: int
    config: Path | None = None

    def f16(self):
        """The backend's option `f16` (specs/cpu.md)."""
        if self.config is None:
            return "f32"
        options = tomllib.loads(self.config.read_text(encoding="utf-8")).get("backends", {})
        return options.get(self.backend, {}).get("f16", "f32")

    def command(self, model):
        command = [self.camelid, "perplexity", "--json", "--model", model, "--backend", self.backend,
                   "--against-backend", self.against]
        for plugin in self.plugins:
            command += ["--plugin", plugin]
        if self.config:
            command += ["--config", self.config]
        return command + ["--file", self.text, "--threads", self.threads, "--context", self.context, "--stride", self.stride]


REMEDY = "run it by hand and see what camelid says; build it with `cargo build --release -p camelid`"


def measure(plan, form, model, cwd=None):
    """The row of a format."""
    command = plan.command(model)
    output = run(command, REMEDY, cwd=cwd, timeout=3600)
    try:
        return row(form, json.loads(output), plan.f16())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"`{shown(command)}` printed what cannot be read ({type(error).__name__}: {error})"
        raise BenchError(f"{what}:\n    {tail(output)}", REMEDY) from None


def row(form, result, f16="f32"):
    """What the page shows of a format, out of what `camelid perplexity --json` printed; a number that is none is an error."""
    against = result["against"]
    kind = math_class(form, f16)
    made = {
        "format": form, "class": kind, "limit": LIMITS[kind], "tokens": result["tokens"], "scored": result["scored_tokens"],
        "perplexity": result["token_perplexity"], "base_perplexity": against["token_perplexity"],
        "ratio": against["ppl_ratio"]["value"], "ratio_error": against["ppl_ratio"]["error"],
        "kl_mean": against["kl"]["mean"], "kl_error": against["kl"]["error"], "kl_max": against["kl"]["max"],
        "same_top": against["same_top"]["value"],
    }
    for name, value in made.items():
        if name not in ("format", "class"):
            finite(value, name)
    made["within"] = made["kl_mean"] <= made["limit"]
    return made


def digest(path):
    """SHA-256 of the text, which says which text it was."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror}", "give the path of a text with --text") from None
    return hashlib.sha256(data).hexdigest()


def load(path):
    """The results of a run, from its file."""
    remedy = "give the .json file that `quality.py run` wrote"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        if any("kl_mean" not in found for found in results["rows"]):
            raise ValueError("its rows have no divergence")
        results["settings"]["against"], results["machine"]["cpu"]
        return results
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror}", remedy) from None
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} is no file of quality ({type(error).__name__}: {error})", remedy) from None


def beyond(rows):
    """The formats whose mean divergence is more than their class allows."""
    return [found["format"] for found in rows if not found["within"]]


def table(rows, backend, against):
    """Markdown: a line a format."""
    heads = ["format", f"perplexity, {backend}", f"perplexity, {against}", "ratio", "KL divergence, mean", "KL, largest",
             "same top token", "class", "mean allowed"]
    out = [line(heads), line(["---"] * len(heads))]
    for found in rows:
        out.append(line([
            found["format"].upper(), f"{found['perplexity']:.4f}", f"{found['base_perplexity']:.4f}",
            f"{found['ratio']:.5f} ± {found['ratio_error']:.5f}", f"{found['kl_mean']:.2e} ± {found['kl_error']:.0e}",
            f"{found['kl_max']:.2e}", f"{found['same_top']:.2%}", f"`{found['class']}`",
            f"{found['limit']:.0e}" + ("" if found["within"] else ", **exceeded**")]))
    return "\n".join(out)


def page(results):
    """The whole Markdown page."""
    settings, rows = results["settings"], results["rows"]
    backend, against = settings["backend"], settings["against"]
    out = [f"# {results['title']} ({results['date']})\n"]
    out.append(
        f"How well `{backend}` and `{against}` predict the same text with the same file, and how far the first's predictions are "
        "from the second's. Perplexity is that of the mean over all predicted tokens. The KL divergence is of the "
        f"distribution of `{against}` from that of `{backend}`, in nats a token. What a math class allows the mean is in "
        "`conformance/src/tolerance.rs`. Keys and values are f32.\n")
    out += machine_lines(results["machine"])
    tokens = {(found["tokens"], found["scored"]) for found in rows}
    counts = " or ".join(f"{all_} tokens, {scored} predicted" for all_, scored in sorted(tokens))
    out.append(f"- Text: {settings['text']} (SHA-256 {settings['sha256']}): {counts or 'not read'}, in windows of "
               f"{settings['context']}, stride {settings['stride']}")
    out += [f"- {name}: {version}" for name, version in results["versions"].items()]
    out.append("\n## Results\n")
    out.append(table(rows, backend, against))
    worse = beyond(rows)
    if worse:
        out.append(f"\nBeyond its class: {', '.join(worse)}.")
    if results["failed"]:
        out.append("\n## What failed\n")
        out += [f"- {entry['format']}: {entry['error'].splitlines()[0]}" for entry in results["failed"]]
    out.append("\n## Commands\n\n```sh")
    out += results["commands"]
    out.append("```")
    return "\n".join(out) + "\n"
