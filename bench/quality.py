#!/usr/bin/env python3
"""What Camelid's fast backend costs in quality: perplexity and KL divergence against the reference backend, format by format.

    python3 bench/quality.py run --camelid target/release/camelid
    python3 bench/quality.py show bench/results/2026-01-01-quality-cpu.json

`run` makes the model files where they are missing, has both backends predict the same committed text, and writes
bench/results/DATE-quality-NAME.json and .md; `show` writes the second anew from the first. A mean divergence that is more
than the math class of the format allows is an error.
"""

import argparse
import datetime
import json
import os
import sys
import tempfile
from pathlib import Path

from camelid_bench import machine, models, programs, quality
from camelid_bench.arguments import bare, main, of_camelid, positive, program_of, words
from camelid_bench.errors import BenchError, shown

MODEL = "smollm2-135m"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    measure = commands.add_parser("run", help="measure, and write bench/results")
    measure.add_argument("--camelid", metavar="FILE", type=Path, default=models.ROOT / "target/release/camelid",
                         help="the program [default: target/release/camelid]")
    measure.add_argument("--models", metavar="DIR", type=Path, default=models.CACHE / "models",
                         help="where the model files are made, or are already [default: %(default)s]")
    measure.add_argument("--formats", metavar="LIST", type=words, default=models.QUALITY,
                         help=f"formats with commas between [default: {','.join(models.QUALITY)}]")
    measure.add_argument("--backend", metavar="NAME", default="cpu", help="the one that is measured [default: cpu]")
    measure.add_argument("--against", metavar="NAME", default="reference",
                         help="the one that it is compared with [default: reference]")
    measure.add_argument("--plugin", metavar="FILE", action="append", default=[], type=Path,
                         help="the library that has a backend, loaded dynamically; may be given several times")
    measure.add_argument("--config", metavar="FILE", type=Path, help="Camelid's configuration: options of the backend")
    measure.add_argument("--text", metavar="FILE", type=Path, default=quality.TEXT,
                         help="what is predicted [default: bench/texts/alice-1.txt]")
    measure.add_argument("--threads", metavar="N", type=positive, default=os.cpu_count(), help="[default: all]")
    measure.add_argument("--context", metavar="N", type=positive, default=2048, help="tokens of a window [default: 2048]")
    measure.add_argument("--stride", metavar="N", type=positive, default=512,
                         help="tokens from one window to the next [default: 512]")
    measure.add_argument("--name", default="cpu", help="of the files of the results [default: cpu]")
    measure.add_argument("--title", default="What the cpu backend costs in quality: SmolLM2-135M", help="of the page")
    measure.add_argument("--out", metavar="DIR", type=Path, default=models.ROOT / "bench/results",
                         help="[default: bench/results]")
    measure.set_defaults(run=measured)

    show = commands.add_parser("show", help="the page of a run, from its .json file")
    show.add_argument("results", metavar="FILE", type=Path)
    show.set_defaults(run=lambda options: written(options.results, quality.load(options.results)))
    return parser


def measured(options):
    strange = set(options.formats) - set(models.QUALITY)
    if strange:
        raise BenchError(f"--formats {','.join(sorted(strange))}: there is no such format",
                         f"the formats are {', '.join(models.QUALITY)}")
    options.camelid, options.models, options.text = program_of(options), options.models.resolve(), options.text.resolve()
    of_camelid(options)
    sha256 = quality.digest(options.text)
    models.make(options.models, options.camelid, [(MODEL, form) for form in options.formats])
    plan = quality.Plan(options.camelid, options.backend, options.against, tuple(options.plugin), options.text,
                        options.threads, options.context, options.stride, options.config)
    today = datetime.date.today().isoformat()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{today}-quality-{options.name}.json"
    how = f"backend {options.backend} against {options.against}"
    first = models.path_of(options.models, MODEL, options.formats[0])
    results = {
        "title": options.title, "date": today, "machine": machine.describe(),
        "versions": {"Camelid": programs.camelid_version(options.camelid, how, options.plugin, options.config)},
        "settings": {"backend": options.backend, "against": options.against, "text": options.text.name, "sha256": sha256,
                     "context": options.context, "stride": options.stride, "threads": options.threads},
        "commands": [f"python3 bench/quality.py {shown(bare(word) for word in sys.argv[1:])}",
                     shown(bare(word) for word in plan.command(first))],
        "rows": [], "failed": [],
    }
    # An empty folder, so that no configuration of the working directory counts and no log is left there.
    with tempfile.TemporaryDirectory() as empty:
        for form in options.formats:
            print(f"{form}: {options.backend} against {options.against}", file=sys.stderr)
            try:
                results["rows"].append(quality.measure(plan, form, models.path_of(options.models, MODEL, form), empty))
            except BenchError as error:
                print(f"error: {error}", file=sys.stderr)
                results["failed"].append({"format": form, "error": str(error)})
            path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    written(path, results)
    print(quality.table(results["rows"], options.backend, options.against))
    worse = quality.beyond(results["rows"])
    if worse:
        print(f"error: the divergence of {', '.join(worse)} is more than the math class allows\n"
              "  remedy: look for the kernel that rounds more than plugins/cpu/conformance.toml claims", file=sys.stderr)
    return 1 if results["failed"] or worse else 0


def written(path, results):
    """The page beside the results."""
    path.with_suffix(".md").write_text(quality.page(results), encoding="utf-8")
    print(f"wrote {path} and .md", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(arguments()))
