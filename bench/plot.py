#!/usr/bin/env python3
"""The plot of a run for the README: python3 bench/plot.py bench/results/DATE-NAME.json [--out FILE.svg] [--threads N]"""

import argparse
import sys
from pathlib import Path

from camelid_bench import plot
from camelid_bench.errors import BenchError


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", metavar="FILE", type=Path, help="the .json file of a run")
    parser.add_argument("--out", metavar="FILE", type=Path, help="[default: beside it, .svg]")
    parser.add_argument("--threads", metavar="N", type=int, help="[default: the most there are]")
    options = parser.parse_args()
    try:
        text = plot.svg(plot.load(options.results), options.threads)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    out = options.out or options.results.with_suffix(".svg")
    out.write_text(text, encoding="utf-8")
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
