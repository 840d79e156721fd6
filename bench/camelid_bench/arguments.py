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


def there(option, path, remedy):
    """The file that an option names, by its absolute path."""
    path = path.resolve()
    if not path.is_file():
        raise BenchError(f"{option} {path} is no file", remedy)
    return path


def of_camelid(options):
    """Makes the paths of what Camelid is run with absolute: its plugins, and its configuration if there is one."""
    options.plugin = [there("--plugin", path, "build it: `cargo build --release` in the plugin's dylib/") for path in options.plugin]
    if options.config:
        options.config = there("--config", options.config, "give a TOML file as specs/config.md has it")


def program_of(options):
    """Camelid's program, by its absolute path."""
    return there("--camelid", options.camelid, "build it: `cargo build --release -p camelid`")


def bare(word):
    """The name of a file for its absolute path: folders are this machine's own."""
    return Path(word).name if os.path.isabs(str(word)) else word
