"""The page of a run: a table of ratios, and what is needed to repeat it."""

from statistics import median

from .models import TITLES
from .pairs import OURS

LLAMA, IK, CANDLE = "llama.cpp", "ik_llama.cpp", "candle"


def column(samples, prefix):
    """The name and the median of the best program whose name begins so; of ik_llama.cpp there are two."""
    medians = {name: median(values) for name, values in samples.items() if name == prefix or name.startswith(prefix + " ")}
    name = max(medians, key=medians.get, default=None)
    return name, medians.get(name)


def bandwidth(rows):
    """GB/s by the number of threads, as text for JSON: the median over all rounds in which the memory was read."""
    rates = {}
    for row in rows:
        rates.setdefault(str(row["threads"]), []).extend(row.get("gb_per_s", []))
    return {threads: median(values) for threads, values in sorted(rates.items()) if values}


def number(value):
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def ratio(row, name):
    found = row["ratios"].get(name)
    return f"{found['median']:.2f} ({found['min']:.2f} to {found['max']:.2f})" if found else ""


def title(row):
    work = row["workload"]
    if work["sequences"] > 1:
        return f"decode, {work['sequences']} sequences together at {work['depth']} tokens of context, in total"
    if work["depth"]:
        return f"decode at context {work['depth']}"
    return f"prefill of {work['prompt']} tokens" if row["kind"] == "prefill" else f"decode of {work['gen']} tokens"


def tables(rows):
    """Markdown: one table a model, kind of speed and number of threads."""
    groups = {}
    for row in rows:
        groups.setdefault((row["model"], title(row), row["threads"]), []).append(row)
    out = []
    for (model, what, threads), group in groups.items():
        has_share = any(row.get("bandwidth_share") for row in group)
        has_candle = any(CANDLE in row["samples"] for row in group)
        heads = ["format", "Camelid", LLAMA, IK] + [CANDLE] * has_candle
        heads += ["ratio to the better (range)", f"ratio to {LLAMA}"] + ["of the bandwidth"] * has_share
        out.append(f"### {TITLES.get(model, model)}: {what}, {threads} {'threads' if threads > 1 else 'thread'}\n")
        out += [line(heads), line(["---"] * len(heads))]
        for row in group:
            samples = row["samples"]
            (_, ours), (_, llama), (ik, ik_rate) = (column(samples, name) for name in (OURS, LLAMA, IK))
            repacked = " (repacked)" if ik and ik.endswith("=1") else ""
            cells = [row["format"].upper(), number(ours), number(llama), number(ik_rate) + repacked]
            if has_candle:
                cells.append(number(column(samples, CANDLE)[1]))
            cells += [ratio(row, row["better"]), ratio(row, LLAMA)]
            if has_share:
                share = (row.get("bandwidth_share") or {}).get(OURS)
                cells.append("" if share is None else f"{share:.0%}")
            out.append(line(cells))
        out.append("")
    return "\n".join(out)


def line(cells):
    return "| " + " | ".join(cells) + " |"


def page(results):
    """The whole Markdown page."""
    machine, settings = results["machine"], results["settings"]
    # Rounds of one case; the ratio of a row is the median over them.
    out = [f"# {results['title']} ({results['date']})\n"]
    out.append(
        "Tokens a second, medians of "
        f"{settings['rounds']} rounds in which every program runs once, one after the other, on the same file with the same "
        "threads and f16 keys and values. A ratio is the median over the rounds of ours to the peer's of the same round, with "
        "the smallest and largest behind it; the better peer is the one with the highest median, and of ik_llama.cpp the "
        "better of weights repacked at load and not. The part of the bandwidth is what Camelid's decoding reads (weights, keys "
        "and values) over what reading memory with as many threads gave in the same round.\n")
    out += machine_lines(machine)
    for threads, rate in results["bandwidth"].items():
        out.append(f"- Memory read with {threads} {'threads' if int(threads) > 1 else 'thread'}: {rate:.1f} GB/s")
    out.append(f"- Load of the machine before and after: {shown_load(results['load'])}")
    out += [f"- {name}: {version}" for name, version in results["versions"].items()]
    out.append("\n## Results\n")
    out.append(tables(results["rows"]))
    if results["failed"]:
        out.append("## What failed\n")
        out += [f"- {entry['case']}, {entry['program']}: {first_line(entry['error'])}" for entry in results["failed"]]
        out.append("")
    out.append("## Commands\n\n```sh")
    out += results["commands"]
    out.append("```")
    return "\n".join(out) + "\n"


def machine_lines(machine):
    return [f"- Machine: {machine['cpu']} ({machine['family_model_stepping']}), {machine['cores']} cores, cache "
            f"{machine['cache']}, {machine['system']}; {' '.join(machine['flags'])}"]


def first_line(text):
    return text.splitlines()[0]


def shown_load(load):
    return " and ".join("unknown" if value is None else f"{value:.1f}" for value in load)
