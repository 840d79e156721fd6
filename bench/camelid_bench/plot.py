"""Bars of tokens a second by format, as SVG written by hand: one panel a model and kind of speed."""

import json
from statistics import median
from xml.sax.saxutils import escape

from .errors import BenchError
from .models import FORMATS, TITLES
from .report import CANDLE, IK, LLAMA, column
from .pairs import OURS

# Name in the results, name in the legend, colour; distinct to the colour-blind and in grey.
SERIES = [(OURS, "Camelid", "#d95f02"), (IK, "ik_llama.cpp", "#5a7fb5"), (LLAMA, "llama.cpp", "#a9bedb"),
          (CANDLE, "candle", "#c9c9c9")]
KINDS = [("decode", "decode"), ("prefill", "prefill")]
INK, FAINT, GRID = "#1f2328", "#59636e", "#e3e6ea"
PANEL_WIDTH, PANEL_HEIGHT, LEFT, TOP, GAP_X, GAP_Y = 470, 190, 52, 96, 70, 78
FONT = "font-family=\"-apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif\""


def load(path):
    """The results of a run, from its file."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        results["rows"], results["machine"]["cpu"]
        return results
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror}", "give the .json file that `compare.py run` wrote") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} is no file of results ({type(error).__name__}: {error})",
                         "give the .json file that `compare.py run` wrote") from None


def svg(results, threads=None):
    """The plot of the prefill and decode speed at depth 0, with `threads`, or the most that were measured."""
    rows = [row for row in results["rows"] if not row["workload"]["depth"] and row["workload"]["sequences"] == 1]
    if not rows:
        return frame(400, 60, text(20, 34, "no prefill and no decode at depth 0 was measured", 14, INK))
    threads = threads or max(row["threads"] for row in rows)
    rows = [row for row in rows if row["threads"] == threads]
    if not rows:
        raise BenchError(f"nothing was measured with {threads} threads", "leave --threads out")
    shown = [series for series in SERIES if any(column(row["samples"], series[0])[0] for row in rows)]
    panels = []
    for model in FORMATS:
        for kind, what in KINDS:
            group = {row["format"]: row for row in rows if row["model"] == model and row["kind"] == kind}
            if group:
                panels.append((f"{TITLES[model]}: {what}", [group[f] for f in FORMATS[model] if f in group]))
    down = (len(panels) + 1) // 2
    across = min(2, len(panels))
    width = LEFT + across * (PANEL_WIDTH + GAP_X) - GAP_X + 24
    height = TOP + down * (PANEL_HEIGHT + GAP_Y) - GAP_Y + 62
    machine = results["machine"]
    out = [text(20, 30, f"Tokens per second, {threads} {'threads' if threads > 1 else 'thread'}", 17, INK, weight=600)]
    x = 20
    for _, name, colour in shown:
        out.append(f'<rect x="{x}" y="44" width="12" height="12" rx="2" fill="{colour}"/>')
        out.append(text(x + 18, 54, name, 13, INK))
        x += 36 + 7.4 * len(name)
    for i, (heading, group) in enumerate(panels):
        out += panel(LEFT + i % 2 * (PANEL_WIDTH + GAP_X), TOP + i // 2 * (PANEL_HEIGHT + GAP_Y), heading, group, shown)
    note = f"{machine['cpu']}, {results['date']}; medians of {results['settings']['rounds']} rounds by turns; higher is better"
    out.append(text(20, height - 14, note, 11, FAINT))
    return frame(width, height, "\n".join(out))


def panel(x, y, heading, rows, shown):
    """One group of bars for each row, from (x, y) on."""
    top = nice(max(median(values) for row in rows for values in row["samples"].values()))
    scale = PANEL_HEIGHT / top
    out = [text(x, y - 14, heading, 13, INK, weight=600)]
    for i in range(5):
        value = top * i / 4
        level = y + PANEL_HEIGHT - value * scale
        out.append(f'<line x1="{x}" x2="{x + PANEL_WIDTH}" y1="{level:.1f}" y2="{level:.1f}" stroke="{GRID}"/>')
        out.append(text(x - 6, level + 4, f"{value:g}", 10, FAINT, anchor="end"))
    labels = []
    slot = PANEL_WIDTH / len(rows)
    bar = min(22, slot * 0.84 / len(shown))
    for i, row in enumerate(rows):
        left = x + slot * i + (slot - bar * len(shown)) / 2
        for j, (key, name, colour) in enumerate(shown):
            rate = column(row["samples"], key)[1]
            if rate is None:
                continue
            height = rate * scale
            level = y + PANEL_HEIGHT - height
            label = f"{rate:.0f}"
            told = escape(f"{name}, {row['format'].upper()}: {rate:.1f} tokens/s")
            out.append(f'<rect x="{left + j * bar:.1f}" y="{level:.1f}" width="{bar - 1.5:.1f}" height="{height:.1f}" '
                       f'fill="{colour}"><title>{told}</title></rect>')
            labels.append(text(left + (j + 0.5) * bar - 0.7, level - 3, label, 8.5 if len(label) < 4 else 7,
                               INK if key == OURS else FAINT, anchor="middle", halo=True))
        out.append(text(x + slot * (i + 0.5), y + PANEL_HEIGHT + 17, row["format"].upper(), 11, INK, anchor="middle"))
    # Over all bars, since a number is wider than its own.
    return out + labels


def nice(value):
    """The smallest round number not below `value` whose quarters are round too."""
    step = 1.0
    while step * 10 < value:
        step *= 10
    return next(step * n for n in (1, 1.2, 1.6, 2, 2.4, 2.8, 3.2, 4, 4.8, 6, 8, 10) if step * n >= value)


def text(x, y, content, size, colour, anchor="start", weight=400, halo=False):
    ring = ""
    if halo:
        # A copy below with a white outline: not every viewer knows paint-order.
        ring = text(x, y, content, size, "#ffffff", anchor, weight).replace(
            "<text ", '<text stroke="#ffffff" stroke-width="2" stroke-opacity="0.85" ')
    return (f'{ring}<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(content)}</text>')


def frame(width, height, content):
    # White whatever the page is, so that it reads on a dark one.
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" {FONT}>\n'
            f'<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>\n{content}\n</svg>\n')
