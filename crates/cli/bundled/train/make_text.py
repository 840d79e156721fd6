"""Writes the text that the bundled model is trained on: `make_text.py --out text/` gives train.txt and held_out.txt.

Every story comes from the grammar in stories/, so nothing is downloaded, the same seed gives the same bytes, and the text
has no other author. Stories are separated by a line that holds only `<|eos|>`.
"""

import argparse
import collections
import hashlib
import pathlib
import random

from stories import days, grammar, heart, making, quest, wonder

PLOTS = heart.PLOTS | quest.PLOTS | making.PLOTS | wonder.PLOTS | days.PLOTS


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=pathlib.Path, default=pathlib.Path("text"), help="folder to write (default: text)")
    arguments.add_argument("--stories", type=int, default=60_000, help="how many stories, held-out ones included")
    arguments.add_argument("--held-out", type=float, default=0.02, help="the share that training never sees")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--show", type=int, default=0, metavar="N", help="print N stories and write nothing")
    options = arguments.parse_args()

    if options.show:
        rng = random.Random(options.seed)
        for _ in range(options.show):
            name, story = grammar.tell(rng, PLOTS)
            print(f"[{name}, {len(story.split())} words] {story}\n")
        return

    stories = list(grammar.corpus(options.seed, options.stories, PLOTS))
    cut = int(len(stories) * (1 - options.held_out))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", stories[:cut]), ("held_out", stories[cut:])):
        text = "\n<|eos|>\n".join(part) + "\n<|eos|>\n"
        (options.out / f"{name}.txt").write_text(text, encoding="utf-8")
        print(f"{name}.txt: {len(part)} stories, {len(text.split())} words, sha256 {hashlib.sha256(text.encode()).hexdigest()}")
    words = collections.Counter(" ".join(stories).lower().split())
    print(f"{len(words)} different words (with their punctuation)")


if __name__ == "__main__":
    main()
