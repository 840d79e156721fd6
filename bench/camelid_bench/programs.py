"""One measurement of one program: the command for it, and tokens a second out of what the program prints.

Every reader takes the program's output and a `Workload` and returns {"prefill": x, "decode": y}, with what was asked for.
"""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from .errors import BenchError, run, shown, tail
from .models import ROOT


@dataclass(frozen=True)
class Workload:
    """What is measured: the prefill of `prompt` tokens and the decoding of `gen` tokens for each of `sequences`
    sequences that hold `depth` tokens. A number of 0 is left out."""

    name: str
    prompt: int
    gen: int
    depth: int = 0
    sequences: int = 1

    def kinds(self):
        return [kind for kind, count in (("prefill", self.prompt), ("decode", self.gen)) if count]


@dataclass(frozen=True)
class Run:
    """How: on which file, with how many threads, and how often within one process, of which the median counts."""

    model: Path
    threads: int
    repetitions: int


class Program:
    """Something that measures: `name` is its column, `command` what to run, `read` understands what that prints."""

    # What an error advises when the program fails or prints something else than it should.
    remedy = ""
    env = {}
    # Runs until one prints a result: llama.cpp's log may end with the process before it has printed.
    attempts = 1
    # Whether results may stand among its errors.
    merged = False

    def command(self, workload, how):
        raise NotImplementedError

    def read(self, output, workload):
        raise NotImplementedError

    def can(self, workload, how):
        """Whether the program has this measurement at all."""
        return True

    def measure(self, workload, how, launcher=(), cwd=None):
        """Runs it once: {"prefill": tokens/s, "decode": tokens/s}."""
        command = [*launcher, *self.command(workload, how)]
        for attempt in range(1, self.attempts + 1):
            output = run(command, self.remedy, cwd=cwd, env=self.env, timeout=3600, merged=self.merged)
            try:
                rates = self.read(output, workload)
                missing = [kind for kind in workload.kinds() if not rates.get(kind, 0) > 0]
                if missing:
                    raise ValueError(f"it gives no speed of {' and '.join(missing)}")
                return rates
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                if attempt == self.attempts:
                    what = f"`{shown(command)}` printed what cannot be read ({type(error).__name__}: {error})"
                    raise BenchError(f"{what}:\n    {tail(output)}", self.remedy) from None


class Camelid(Program):
    """`camelid bench`, with its cached keys and values in f16 as the peers have them."""

    name = "camelid"
    remedy = "see that the program is of today and the backend loads: `camelid backends --plugin LIBRARY`"
    env = {"CAMELID_ENGINE_KV_DTYPE": "f16"}

    def __init__(self, program, backend, plugins, config=None):
        self.program, self.backend, self.plugins, self.config = program, backend, plugins, config

    def command(self, workload, how):
        command = [self.program, "bench", "--json", "--model", how.model, "--backend", self.backend]
        for plugin in self.plugins:
            command += ["--plugin", plugin]
        if self.config:
            command += ["--config", self.config]
        command += ["--threads", how.threads, "--repetitions", how.repetitions, "--prompt-tokens", workload.prompt,
                    "--gen-tokens", workload.gen, "--depth", workload.depth]
        if workload.sequences > 1:
            command += ["--sequences", workload.sequences]
        return command

    def read(self, output, workload):
        result = json.loads(output)
        kept = result.get("kv_dtype", "f16")
        if kept != "f16":
            raise ValueError(f"its keys and values are {kept}, the peers' f16")
        return {kind: result[f"{kind}_tokens_per_s"] for kind in workload.kinds()}


def camelid_version(program, how, plugins, config=None):
    """What the page of a run says of Camelid: its version and commit, `how` it ran, with which plugins and configuration."""
    version = run([program, "--version"], "give the program with --camelid").strip()
    commit = run(["git", "-C", ROOT, "describe", "--always", "--dirty"], "run within a clone of the repository").strip()
    used = "".join(f", plugin {Path(plugin).name}" for plugin in plugins) + (f", configuration {config.name}" if config else "")
    return f"{version}, commit {commit}, {how}{used}"


class LlamaCpp(Program):
    """llama.cpp's `llama-bench` and, for several sequences, `llama-batched-bench`, out of the folder of its build."""

    name = "llama.cpp"
    attempts = 3
    remedy = "build it anew: delete its folder under --peers and run again"

    def __init__(self, build):
        self.bin = Path(build) / "bin"

    def command(self, workload, how):
        if workload.sequences > 1:
            return [self.bin / "llama-batched-bench", *batched(workload, how), "--output-format", "jsonl"]
        return [self.bin / "llama-bench", "-m", how.model, "-t", how.threads, "-r", how.repetitions, "-ctk", "f16",
                "-ctv", "f16", "-p", workload.prompt, "-n", workload.gen, "-d", workload.depth, "-o", "json"]

    def read(self, output, workload):
        if workload.sequences > 1:
            lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
            return {"decode": lines[-1]["speed_tg"]}
        return llama_bench(output)


class IkLlamaCpp(Program):
    """ik_llama.cpp's; `repack` is whether weights are repacked at load, of which the better is to be taken."""

    remedy = LlamaCpp.remedy
    merged = True

    def __init__(self, build, repack):
        self.bin, self.repack = Path(build) / "bin", repack
        self.name = f"ik_llama.cpp rtr={int(repack)}"

    def command(self, workload, how):
        if workload.sequences > 1:
            # With flash attention the version that is pinned aborts on several sequences ("S > 0").
            repack = ["-rtr"] if self.repack else []
            return [self.bin / "llama-batched-bench", *batched(workload, how), "-fa", 0, *repack]
        command = [self.bin / "llama-bench", "-m", how.model, "-t", how.threads, "-r", how.repetitions, "-ctk", "f16",
                   "-ctv", "f16", "-rtr", int(self.repack), "-o", "json"]
        if workload.depth:
            return [*command, "-p", 0, "-n", 0, "-gp", f"{workload.depth},{workload.gen}"]
        return [*command, "-p", workload.prompt, "-n", workload.gen]

    def can(self, workload, how):
        return not (workload.depth and workload.prompt)

    def read(self, output, workload):
        if workload.sequences > 1:
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines() if
                    line.startswith("|")]
            column = rows[0].index("S_TG t/s")
            return {"decode": float(rows[-1][column])}
        return llama_bench(output)


class Candle(Program):
    """The crate in bench/candle; one sequence at depth 0, and of GGUF files those whose types candle has."""

    name = "candle"
    remedy = "build bench/candle by hand and run the command; --formats leaves out what candle cannot read"

    def __init__(self, program):
        self.program = program

    def command(self, workload, how):
        return [self.program, "--model", how.model, "--threads", how.threads, "--repetitions", how.repetitions,
                "--prompt-tokens", workload.prompt, "--gen-tokens", workload.gen]

    def can(self, workload, how):
        return workload.depth == 0 and workload.sequences == 1

    def read(self, output, workload):
        result = json.loads(output)
        return {kind: result[f"{kind}_tokens_per_s"] for kind in workload.kinds()}


def batched(workload, how):
    """The arguments of either llama-batched-bench: `sequences` prompts of `depth` tokens, then `gen` steps."""
    prompt = max(workload.depth, 1)
    context = workload.sequences * (prompt + workload.gen)
    return ["-m", how.model, "-t", how.threads, "-c", context, "-b", 2048, "-ub", 512, "-npp", prompt, "-ntg",
            workload.gen, "-npl", workload.sequences]


def llama_bench(output):
    """The medians in llama-bench's JSON, which both forks print alike."""
    rates = {}
    # ik_llama.cpp's errors may stand around it.
    start, end = output.index("[\n"), output.rindex("\n]")
    for test in json.loads(output[start:end + 2]):
        # -gp gives a test with both; what it times is the generation.
        kind = "decode" if test["n_gen"] else "prefill"
        rates[kind] = statistics.median(test["samples_ts"])
    return rates
