"""Errors that name what went wrong and what to do, and running programs so that their failures become such errors."""

import os
import subprocess
from pathlib import Path

# Lines of a program's output that an error shows.
SHOWN_LINES = 8


class BenchError(Exception):
    """What went wrong, where, and the remedy."""

    def __init__(self, what, remedy):
        super().__init__(f"{what}\n  remedy: {remedy}")


def shown(command):
    """A command as one would type it."""
    return " ".join(f"'{word}'" if " " in word or not word else word for word in map(str, command))


def tail(text):
    """The last lines of a program's output, indented."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n    ".join(lines[-SHOWN_LINES:]) or "it said nothing"


def run(command, remedy, cwd=None, env=None, timeout=None, log=None, merged=False):
    """Runs `command` and returns its standard output, `merged` with its errors if asked for; whatever fails is a BenchError
    with `remedy`.

    `env` is added to the environment. With `log`, a path, output and errors go there instead and nothing is returned.
    """
    command = [str(word) for word in command]
    environment = {**os.environ, **(env or {})}
    try:
        if log:
            with open(log, "w", encoding="utf-8") as file:
                done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=cwd,
                                      env=environment, timeout=timeout)
        else:
            errors = subprocess.STDOUT if merged else subprocess.PIPE
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
                                  errors="replace", cwd=cwd, env=environment, timeout=timeout)
    except OSError as error:
        raise BenchError(f"{command[0]} cannot be run: {error.strerror}", remedy) from None
    except subprocess.TimeoutExpired:
        raise BenchError(f"`{shown(command)}` did not end within {timeout} s", remedy) from None
    if done.returncode != 0:
        said = Path(log).read_text(encoding="utf-8", errors="replace") if log else done.stderr or done.stdout
        where = f" (all of it in {log})" if log else ""
        raise BenchError(f"`{shown(command)}` ended with {done.returncode}:\n    {tail(said)}{where}", remedy)
    return None if log else done.stdout
