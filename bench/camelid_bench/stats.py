"""Medians and paired ratios."""

import math
from statistics import median


def finite(value, name):
    """The number itself, if it is one: a file of results is not to say NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r} and no number")
    return value


class Ratio:
    """Ratios of paired measurements: their median, and the smallest and largest."""

    def __init__(self, ours, theirs):
        pairs = [(a, b) for a, b in zip(ours, theirs, strict=True)]
        if not pairs:
            raise ValueError("there is nothing to compare")
        ratios = [a / b for a, b in pairs]
        self.median, self.min, self.max = median(ratios), min(ratios), max(ratios)

    def __str__(self):
        return f"{self.median:.2f} ({self.min:.2f} to {self.max:.2f})"

    def as_json(self):
        return {"median": self.median, "min": self.min, "max": self.max}


def best(samples):
    """The name whose samples have the highest median, of {name: [tokens/s]}; None if no name has any."""
    medians = {name: median(values) for name, values in samples.items() if values}
    return max(medians, key=medians.get, default=None)


def bandwidth_share(weight_bytes, kv_bytes_per_position, depth, steps, sequences, tokens_per_s, gigabytes_per_s):
    """The part of the memory's read bandwidth that decoding uses.

    A step reads all weights once, and for each sequence the keys and values of its context, which over `steps` steps
    from `depth` on holds depth + (steps - 1) / 2 positions in the mean, and the new one.
    """
    context = depth + (steps + 1) / 2
    per_step = weight_bytes + sequences * kv_bytes_per_position * context
    share = per_step * tokens_per_s / sequences / (gigabytes_per_s * 1e9)
    return share if math.isfinite(share) else None
