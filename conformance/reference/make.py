"""Makes the fixtures of the conformance suite, or checks that the committed ones are what this makes.

    python conformance/reference/make.py --out conformance/suite --gguf SmolLM2-135M-Instruct.Q4_1.gguf
    python conformance/reference/make.py --out conformance/suite --only model/gqa --only quant/Q4_K
    python conformance/reference/make.py --out conformance/suite --gguf FILE --check

Exit status: 0 made, or checked and equal; 1 a check found differences or a fixture could not be made; 2 wrong usage.
"""

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True

REAL = "real/smollm2"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the suite's folder")
    parser.add_argument("--only", action="append", metavar="NAME", help="a fixture, e.g. model/gqa; may be repeated")
    parser.add_argument("--gguf", type=Path, help=f"the GGUF file of {REAL}")
    parser.add_argument("--without-real", action="store_true", help=f"leave {REAL} out, which needs --gguf")
    parser.add_argument("--check", action="store_true", help="write nothing: regenerate elsewhere and compare")
    parser.add_argument("--list", action="store_true", help="print the names of all fixtures and stop")
    options = parser.parse_args(arguments)

    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    log = logging.getLogger("reference")
    log.setLevel(logging.INFO)

    os.environ.setdefault("TQDM_DISABLE", "1")  # transformers draws progress bars into the log
    # Imported after the arguments are read: torch takes seconds to load.
    import forward_cases
    import generation_cases
    import graph_groups
    import quant
    import sampling_cases
    import smollm2
    import tiny_cases
    import tiny_models
    import tokenizer_cases
    from compare import compare
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()

    cases = {f"model/{case.name}": case for case in tiny_cases.CASES}
    quants = {f"quant/{name}": name for name in quant.NAMES}
    groups = graph_groups.groups()
    forwards = {f"forward/{model.name}": model for model in forward_cases.MODELS}
    texts = {sampling_cases.NAME: sampling_cases.make, tokenizer_cases.NAME: tokenizer_cases.make}
    searches = {
        generation_cases.PROCESSORS: generation_cases.make_processors,
        generation_cases.SEARCHES: generation_cases.make_searches,
    }
    known = [*quants, *groups, *cases, *forwards, *texts, *searches, REAL]
    if options.list:
        print("\n".join(known))
        return 0
    chosen = options.only or [name for name in known if not (options.without_real and name == REAL)]
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        parser.error(f"no fixture {', '.join(unknown)}; --list names them all")
    if REAL in chosen and options.gguf is None:
        parser.error(f"{REAL} needs --gguf FILE; --without-real leaves it out")
    if REAL in chosen and not options.gguf.is_file():
        parser.error(f"--gguf {options.gguf}: no such file")

    def make(name: str, out: Path) -> Path:
        """Makes one fixture under `out` and returns its file or folder."""
        if name in quants:
            (out / "quant").mkdir(parents=True, exist_ok=True)
            quant.make(quants[name], out / "quant")
            return out / f"{name}.safetensors"
        if name in groups:
            graph_groups.make(name, groups[name], out)
            return out / f"{name}.safetensors"
        if name in texts:
            return texts[name](out)
        if name in forwards:
            forward_cases.make(forwards[name], out / name)
            return out / name
        if name in searches:
            return searches[name](options.out, out)
        if name in cases:
            tiny_models.make(cases[name], out / name)
            return out / name
        smollm2.make(options.gguf, out / "real")
        return out / "real"

    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in chosen:
            try:
                made = make(name, Path(scratch) if options.check else options.out)
                problems = compare(options.out / made.relative_to(scratch), made) if options.check else []
            except (OSError, ValueError) as error:
                problems = [f"{name}: {error}"]
            for problem in problems:
                log.error("%s", problem)
            failures += bool(problems)
            if not problems:
                log.info("%s: %s", name, "equal" if options.check else "made")
    if options.check and not options.only:
        for stray in _strays(options.out, known):
            log.error("%s: no fixture has this name; remove it", stray)
            failures += 1
    log.info("%d fixtures, %d with problems", len(chosen), failures)
    return 1 if failures else 0


def _strays(suite: Path, known: list[str]) -> list[Path]:
    """Entries of the suite's folders that no fixture accounts for."""
    found = [path for part in ("quant", "op", "module", "model", "forward", "generate") for path in sorted((suite / part).glob("*"))]
    stem = lambda path: path.name.removesuffix(".safetensors").removesuffix(".toml")
    return [path for path in found if f"{path.parent.name}/{stem(path)}" not in known]


if __name__ == "__main__":
    sys.exit(main())
