#!/usr/bin/env python3
"""Camelid against llama.cpp, ik_llama.cpp and candle: the same files, the same threads, by turns.

    python3 bench/compare.py prepare --camelid target/release/camelid
    python3 bench/compare.py run --camelid target/release/camelid --backend cpu --plugin PATH/libcamelid_cpu.so
    python3 bench/compare.py show bench/results/2026-01-01-cpu.json

`prepare` builds the peers and makes the model files; `run` does that too where they are missing, measures, and writes
bench/results/DATE-NAME.json, .md and .svg; `show` writes the last two anew from the first.
"""

import argparse
import datetime
import json
import os
import shlex
import sys
import tempfile
from pathlib import Path

from camelid_bench import machine, models, pairs, peers, plot, programs, report
from camelid_bench.arguments import bare, main, numbers, of_camelid, positive, program_of, words
from camelid_bench.errors import BenchError, run, shown

ROOT = Path(__file__).resolve().parents[1]
CACHE = models.CACHE


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--camelid", metavar="FILE", type=Path, default=ROOT / "target/release/camelid",
                        help="the program [default: target/release/camelid]")
    common.add_argument("--peers", metavar="DIR", type=Path, default=CACHE / "peers",
                        help="where the peers are built, or are already [default: %(default)s]")
    common.add_argument("--models", metavar="DIR", type=Path, default=CACHE / "models",
                        help="where the model files are made, or are already [default: %(default)s]")
    common.add_argument("--model", metavar="NAME", action="append", choices=list(models.FORMATS),
                        help=f"one of {', '.join(models.FORMATS)}; may be given several times [default: all]")
    common.add_argument("--formats", metavar="LIST", type=words, help="formats with commas between [default: all]")
    common.add_argument("--jobs", metavar="N", type=positive, default=os.cpu_count(), help="compilers at a time")
    common.add_argument("--candle", action="store_true", help="candle too: builds bench/candle")

    prepare = commands.add_parser("prepare", parents=[common], help="build the peers and make the model files")
    prepare.set_defaults(run=lambda options: prepared(options) and 0)

    measure = commands.add_parser("run", parents=[common], help="measure, and write bench/results")
    measure.add_argument("--backend", metavar="NAME", default="cpu", help="Camelid's backend [default: cpu]")
    measure.add_argument("--plugin", metavar="FILE", action="append", default=[], type=Path,
                         help="the library that has it, loaded dynamically; may be given several times")
    measure.add_argument("--config", metavar="FILE", type=Path, help="Camelid's configuration: options of the backend")
    measure.add_argument("--no-camelid", action="store_true", help="the peers alone")
    measure.add_argument("--no-peers", action="store_true", help="Camelid alone")
    measure.add_argument("--threads", metavar="LIST", type=numbers, default=[1, 2], help="[default: 1,2]")
    measure.add_argument("--workloads", metavar="LIST", type=words, default=["base", "depth", "batch"],
                         help="of base, depth and batch [default: all]")
    measure.add_argument("--rounds", metavar="N", type=positive, default=5, help="[default: 5]")
    measure.add_argument("--repetitions", metavar="N", type=positive, default=1,
                         help="within one process, of which the median counts [default: 1]")
    measure.add_argument("--prompt-tokens", metavar="N", type=positive, default=512, help="[default: 512]")
    measure.add_argument("--gen-tokens", metavar="N", type=positive, default=128, help="[default: 128]")
    measure.add_argument("--depth", metavar="N", type=positive, default=2048, help="of `depth` [default: 2048]")
    measure.add_argument("--sequences", metavar="N", type=positive, default=16, help="of `batch` [default: 16]")
    measure.add_argument("--batch-depth", metavar="N", type=positive, default=128,
                         help="tokens that each sequence of `batch` holds before [default: 128]")
    measure.add_argument("--launcher", metavar="COMMAND", type=shlex.split, default=[],
                         help="put before every measured program: 'chrt -f 5' where other work runs, 'taskset -c 0,1', ...")
    measure.add_argument("--no-bandwidth", action="store_true", help="leave out what the memory gives")
    measure.add_argument("--name", default="cpu", help="of the files of the results [default: cpu]")
    measure.add_argument("--title", default="Camelid and its peers on the CPU", help="of the page")
    measure.add_argument("--out", metavar="DIR", type=Path, default=ROOT / "bench/results", help="[default: bench/results]")
    measure.set_defaults(run=measured)

    show = commands.add_parser("show", help="the page and the plot of a run, from its .json file")
    show.add_argument("results", metavar="FILE", type=Path)
    show.set_defaults(run=lambda options: written(options.results, plot.load(options.results)))
    return parser


def prepared(options):
    """Everything that is measured is there: the peers, as programs."""
    chosen = options.model or list(models.FORMATS)
    wanted = [(model, form) for model in chosen for form in models.FORMATS[model]
              if options.formats is None or form in options.formats]
    strange = set(options.formats or []) - {form for _, form in wanted}
    if strange:
        raise BenchError(f"--formats {','.join(sorted(strange))}: there is no such file of {' or '.join(chosen)}",
                         "; ".join(f"{model} has {', '.join(models.FORMATS[model])}" for model in chosen))
    models.make(options.models, options.camelid, wanted)
    if getattr(options, "no_peers", False):
        return []
    llama = peers.build(options.peers, peers.LLAMA_CPP, options.jobs)
    ik = peers.build(options.peers, peers.IK_LLAMA_CPP, options.jobs)
    found = [programs.LlamaCpp(llama), programs.IkLlamaCpp(ik, False), programs.IkLlamaCpp(ik, True)]
    if options.candle:
        # candle chooses its kernels when it is compiled.
        target = options.peers / "candle-target"
        found.append(programs.Candle(machine.build_crate("candle", "camelid-bench-candle", target, native=True)))
    return found


def measured(options):
    options.models, options.peers = options.models.resolve(), options.peers.resolve()
    options.camelid = options.camelid.resolve() if options.no_camelid else program_of(options)
    unknown = set(options.workloads) - {"base", "depth", "batch"}
    if unknown:
        raise BenchError(f"there is no workload {', '.join(sorted(unknown))}", "the workloads are base, depth and batch")
    of_camelid(options)
    turns = prepared(options)
    if not options.no_camelid:
        turns.insert(0, programs.Camelid(options.camelid, options.backend, options.plugin, options.config))
    workloads = {
        "base": programs.Workload("base", options.prompt_tokens, options.gen_tokens),
        "depth": programs.Workload("depth", 0, options.gen_tokens, depth=options.depth),
        "batch": programs.Workload("batch", 0, options.gen_tokens, depth=options.batch_depth, sequences=options.sequences),
    }
    cases = pairs.plan(options.model or list(models.FORMATS), options.formats, options.threads,
                       [workloads[name] for name in options.workloads])
    today = datetime.date.today().isoformat()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{today}-{options.name}.json"
    memory = None
    if not options.no_bandwidth:
        reader = machine.build_crate("bandwidth", "camelid-bandwidth", options.peers / "bandwidth-target")
        memory = lambda threads: machine.bandwidth(reader, threads, options.launcher)
    results = {
        "title": options.title, "date": today, "machine": machine.describe(), "bandwidth": {},
        "load": [machine.load(), None], "versions": versions(options, turns),
        "settings": {"rounds": options.rounds, "repetitions": options.repetitions, "launcher": options.launcher},
        "commands": commands(options, turns, cases), "rows": [], "failed": [],
    }
    if results["load"][0] and results["load"][0] > 0.5:
        print(f"warning: the machine is busy (load {results['load'][0]:.1f}); OpenMP programs suffer most: wait, or give "
              "--launcher 'chrt -f 5'", file=sys.stderr)
    # An empty folder, so that no configuration of the working directory counts and no log is left there.
    with tempfile.TemporaryDirectory() as empty:
        for case in cases:
            rows, failed = pairs.measure(case, turns, options.models, options.rounds, options.repetitions,
                                         options.launcher, empty, memory)
            results["rows"] += rows
            for program, error in failed:
                print(f"error: {error}", file=sys.stderr)
                results["failed"].append({"case": pairs.label(case), "program": program, "error": error})
            save(path, results)
    results["load"][1] = machine.load()
    results["bandwidth"] = report.bandwidth(results["rows"])
    save(path, results)
    written(path, results)
    print(report.tables(results["rows"]))
    return 1 if results["failed"] else 0


def save(path, results):
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def written(path, results):
    """The page and the plot beside the results."""
    path.with_suffix(".md").write_text(report.page(results), encoding="utf-8")
    path.with_suffix(".svg").write_text(plot.svg(results), encoding="utf-8")
    print(f"wrote {path}, .md and .svg", file=sys.stderr)
    return 0


def versions(options, turns):
    names = {turn.name for turn in turns}
    out = {}
    if pairs.OURS in names:
        out["Camelid"] = programs.camelid_version(options.camelid, f"backend {options.backend}", options.plugin,
                                                  options.config)
    if "llama.cpp" in names:
        for peer in (peers.LLAMA_CPP, peers.IK_LLAMA_CPP):
            out[peer.name] = f"from {peer.package} {peer.version}, built natively with {' '.join(peers.FLAGS[2:])}"
    if "candle" in names:
        out["candle"] = "as pinned in bench/candle/Cargo.lock, built with -C target-cpu=native"
    return out


def commands(options, turns, cases):
    """How to repeat the run, and what each program was called with in the first case, without this machine's folders."""
    out = [f"python3 bench/compare.py {shown(bare(word) for word in sys.argv[1:])}"]
    seen = set()
    for case in cases:
        if case.workload.name in seen:
            continue
        seen.add(case.workload.name)
        how = programs.Run(models.path_of(options.models, case.model, case.format), case.threads, options.repetitions)
        out += [shown([*options.launcher, *(bare(word) for word in turn.command(case.workload, how))])
                for turn in turns if turn.can(case.workload, how)]
    return out


if __name__ == "__main__":
    sys.exit(main(arguments()))
