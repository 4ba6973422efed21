"""What a benchmark leaves behind: `results.json`, `results.md` and plots.

A row is flat: benchmark, name (model or method), metric, split (`val`, `test`, a day or a scale),
value, low and high (95 % interval or null), seeds (seeds or repeats behind the value), unit. Words
(what a method computes, why there is no value) are rows too: value null, the words in `unit`.

A name that starts with `peer:`, `published:` or `limit:` is shown as such; everything else is
microrec's own.
"""

import importlib.util
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Row = dict[str, object]

LOWER = {"s", "ms", "ns", "MB", "B"}
HIGHER = {"share", "score"}
"""Units in which less, or more, is better; among all others there is no best."""
logger = logging.getLogger(__name__)

KINDS = ("peer", "published", "limit")


def row(
    benchmark: str,
    name: str,
    metric: str,
    split: str,
    value: float | None,
    *,
    unit: str,
    low: float | None = None,
    high: float | None = None,
    seeds: int | None = None,
) -> Row:
    """One row of results; keep the order of the keys."""
    return {
        "benchmark": benchmark,
        "name": name,
        "metric": metric,
        "split": split,
        "value": value,
        "low": low,
        "high": high,
        "seeds": seeds,
        "unit": unit,
    }


def write(rows: Sequence[Row], out: Path, *, preface: str = "") -> None:
    """Write results.json and results.md: one table per (benchmark, split), one line per name.

    Args:
        rows: as `row` makes them.
        out: folder, made if need be; what it holds under these names is replaced.
        preface: Markdown that goes before the tables: machine, worlds, how it was measured.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(list(rows), indent=1) + "\n")
    parts = [preface.rstrip()] if preface else []
    for benchmark, split in _distinct((one["benchmark"], one["split"]) for one in rows):
        mine = [one for one in rows if (one["benchmark"], one["split"]) == (benchmark, split)]
        parts.append(f"## {benchmark}, {split}\n\n" + _table(mine))
    parts += [f"![{plot.stem}]({plot.name})" for plot in sorted(out.glob("*.png"))]
    (out / "results.md").write_text("\n\n".join(parts) + "\n")


def bars(
    path: Path, title: str, values: Mapping[str, float], *, unit: str, scale: str = "log"
) -> None:
    """Horizontal bars on a logarithmic or `linear` axis, smallest on top: a PNG."""
    if not values or not _can_draw(path):
        return
    figure, axes = _figure(height=1.2 + 0.3 * len(values))
    names = sorted(values, key=lambda name: values[name], reverse=True)
    colours = ["tab:grey" if name.startswith(KINDS) else "tab:blue" for name in names]
    drawn = axes.barh(names, [values[name] for name in names], color=colours)
    axes.bar_label(drawn, fmt="%.3g", padding=3)
    axes.set(xscale=scale, xlabel=unit, title=title)
    axes.margins(x=0.15)
    figure.savefig(path)


def lines(
    path: Path,
    title: str,
    series: Mapping[str, tuple[Sequence[float] | Sequence[str], Sequence[float]]],
    *,
    x: str,
    y: str,
    scale: str = "log",
) -> None:
    """Points joined by lines, both axes logarithmic or both `linear`: a PNG."""
    if not series or not _can_draw(path):
        return
    figure, axes = _figure(height=4)
    axes.set(xscale=scale, yscale=scale, xlabel=x, ylabel=y, title=title)
    for name, (across, up) in series.items():  # after the scale, which would undo words on an axis
        axes.plot(across, up, marker="o", markersize=3, label=name)
    figure.legend(loc="outside right center")
    figure.savefig(path)


def scatter(
    path: Path, title: str, points: Mapping[str, tuple[float, float]], *, x: str, y: str
) -> None:
    """One named point each, the horizontal axis logarithmic: a PNG."""
    if not points or not _can_draw(path):
        return
    figure, axes = _figure(height=5)
    for name, (across, up) in points.items():
        colour = "tab:grey" if name.startswith(KINDS) else "tab:blue"
        axes.plot(across, up, "o", color=colour)
        axes.annotate(name, (across, up), xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set(xscale="log", xlabel=x, ylabel=y, title=title)
    figure.savefig(path)


def panels(
    path: Path,
    title: str,
    points: Mapping[str, tuple[Mapping[str, float], tuple[float, float, float]]],
    *,
    y: str,
) -> None:
    """One named point each in a panel for each thing it is set against, its interval upright: a PNG.

    Args:
        path: of the picture.
        title: above all panels.
        points: by name the places across, by panel, and the place up with the ends of its interval.
        y: what stands upright.
    """
    if not points or not _can_draw(path):
        return
    names = list(next(iter(points.values()))[0])
    figure, axes = _figure(height=4, columns=len(names))
    colours = [f"C{number}" for number in range(10)]
    for panel, name in zip(axes, names, strict=True):
        for colour, (label, (across, (up, low, high))) in zip(
            colours, points.items(), strict=False
        ):
            spread = [[up - low], [high - up]]
            panel.errorbar(across[name], up, spread, fmt="o", color=colour, label=label)
        panel.set(xlabel=name)
    axes[0].set(ylabel=y)
    figure.suptitle(title)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center")
    figure.savefig(path)


def _can_draw(path: Path) -> bool:
    drawn = importlib.util.find_spec("matplotlib") is not None
    if not drawn:
        logger.warning("no %s: matplotlib is not installed (pip install microrec[bench])", path)
    return drawn


def _figure(
    *, height: float, columns: int = 1
):  # matplotlib is an extra: its types are known only where it is
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Figures of our own rather than pyplot's: no display, nothing global, nothing left open.
    figure = Figure(figsize=(8 + 2 * (columns > 1), height), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, sharey=True)


def _table(rows: Sequence[Row]) -> str:
    metrics = _distinct(one["metric"] for one in rows)
    names = _distinct(one["name"] for one in rows)
    cells = {(one["name"], one["metric"]): one for one in rows}
    best = {metric: _best([one for one in rows if one["metric"] == metric]) for metric in metrics}
    kinds = any(_kind(name) in KINDS for name in names)
    head = ["name", *["kind"] * kinds, *(_head(metric, rows) for metric in metrics)]
    body = [
        [
            _bare(name),
            *[_kind(name)] * kinds,
            *(_cell(cells.get((name, m)), best[m]) for m in metrics),
        ]
        for name in names
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *body])


def _best(rows: Sequence[Row]) -> float | None:
    """The best value of a metric; limits do not compete, and where all are equal none is best."""
    values = [
        one["value"] for one in rows if one["value"] is not None and _kind(one["name"]) != "limit"
    ]
    unit = next((one["unit"] for one in rows if one["value"] is not None), "")
    if len(set(values)) < 2 or unit not in LOWER | HIGHER:
        return None
    return min(values) if unit in LOWER else max(values)


def _cell(one: Row | None, best: float | None) -> str:
    if one is None:
        return ""
    if one["value"] is None:
        return str(one["unit"])
    text = number(one["value"])
    if one["low"] is not None:
        text += f" [{number(one['low'])}, {number(one['high'])}]"
    return f"**{text}**" if one["value"] == best else text


def number(value: float) -> str:
    """Four significant digits, without an exponent where there are none to lose."""
    return f"{value:,.0f}" if 10_000 <= abs(value) < 1e9 else f"{value:.4g}"


def _head(metric: object, rows: Sequence[Row]) -> str:
    units = _distinct(o["unit"] for o in rows if o["metric"] == metric and o["value"] is not None)
    return f"{metric} ({units[0]})" if units and units[0] not in ("", metric) else str(metric)


def _kind(name: object) -> str:
    kind = str(name).split(":", 1)[0]
    return kind if kind in KINDS else "microrec"


def _bare(name: object) -> str:
    return str(name) if _kind(name) == "microrec" else str(name).split(":", 1)[1].strip()


def _distinct(values: Iterable[object]) -> list:
    return list(dict.fromkeys(values))
