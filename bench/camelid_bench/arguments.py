"""The commands: how one is run, kinds of their arguments, and how one is written down."""

import argparse
import os
import sys
from pathlib import Path

from .errors import BenchError


def main(parser):
    """Runs the command that was asked for: its exit status."""
    options = parser.parse_args()
    try:
        return options.run(options)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; what was measured before is in the .json file of the run", file=sys.stderr)
        return 130


def words(text):
    return [word.strip().lower() for word in text.split(",") if word.strip()]


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 on")
    return value


def numbers(text):
    return [positive(word) for word in words(text)]


def bare(word):
    """The name of a file for its absolute path: folders are this machine's own."""
    return Path(word).name if os.path.isabs(str(word)) else word
