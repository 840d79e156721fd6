"""Kinds of arguments of the commands, and how a command is written down."""

import argparse
import os
from pathlib import Path


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
