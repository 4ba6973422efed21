"""The page of a night: one HTML file with its pictures inside, no script, nothing from the network."""

import datetime as dt
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2

from microrec.evaluation.report import BLEND, DIFFERENCE, FLOOR, WORTH
from microrec.report import svg
from microrec.report.facts import HEADLINE, Facts

TEMPLATE = Path(__file__).with_name("night.html")


def render(facts: Facts) -> str:
    """Return the page of a night.

    Args:
        facts: what it tells.

    Returns:
        HTML that needs nothing else; text from outside is escaped.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["instant"] = _instant
    for name, cells in CELLS.items():
        environment.filters[name] = partial(_rows, cells)
    pictures = {
        "arrived": svg.lines({"rows": facts.arrived}, title="viewings by day of arrival"),
        "over_nights": svg.lines(facts.over_nights, title=f"{HEADLINE[0]} over nights"),
        "blend": svg.bars(facts.blend, title="share of the order by source"),
    }
    template = environment.from_string(TEMPLATE.read_text())
    return template.render(facts=facts, pictures=pictures, HEADLINE=HEADLINE)


def _rows(cells: Callable[[Any], Sequence[Any]], rows: Sequence[Any]) -> list[Sequence[Any]]:
    return [cells(row) for row in rows]


def _figure(value: float | None) -> str:
    return "" if value is None else svg.number(value)


def _interval(row: Any) -> str:
    """A metric with its interval; empty where there is none."""
    if row is None:
        return ""
    if row["low"] is None:
        return svg.number(row["value"])
    return f"{row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"


def _instant(value: dt.datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M} UTC"


def _cells(row: Any, *names: str) -> list[str]:
    """Figures of a row, empty where it has none."""
    return [_figure(row.get(name)) for name in names]


def _of_gate(row: Any) -> list[str]:
    status = "near" if row["status"] == "pass" else row["status"]
    words = [row["gate"], row["fit"], row["severity"], status]
    return [*words, *_cells(row, "observed", "threshold"), row["detail"]]


def _of_slice(row: Any) -> list[str]:
    names = (BLEND, FLOOR, DIFFERENCE)
    return [row["slice"], *(_interval(row.get(name)) for name in names), str(row["n"])]


def _of_exit(row: Any) -> list[str]:
    seconds = [f"{row[name] / 1000:.1f} s" for name in ("exit_ms", "expected_watch_ms")]
    return [row["video_id"], seconds[0], f"{row['completed']:.0%}", seconds[1]]


def _of_similar(row: Any) -> list[Any]:
    both = "few" if row["evidence_viewers"] is None else row["evidence_viewers"]
    names = [row["rank"], row["similar_video_id"], row["source"]]
    return [*names, _figure(row["similarity"]), both, row["evidence_modality"] or ""]


def _of_cost(row: Any) -> list[str]:
    at = f"{row['at']:%Y-%m-%d %H:%M:%S}"
    return [row["table"], f"{row['rows']:,}", at, f"{row['minutes']:.1f}"]


def _reason(row: Any) -> str:
    """Why a video is in a list, and the liked video that speaks for it where ids are shown."""
    liked = row.get("evidence_video_id")
    return f"{row['reason']} ({liked})" if liked else str(row["reason"])


COUNTS = ("rows_in", "accepted", "rejected", "duplicates", "late_files")
CELLS: dict[str, Callable[[Any], Sequence[Any]]] = {
    "gates": _of_gate,
    "counts": lambda row: [row["table"], *_cells(row, *COUNTS)],
    "refused": lambda row: [row["table"], row["rule"], _figure(row["rows"])],
    "quality": lambda row: [
        row["name"],
        *(_interval(row.get(m)) for m in (*HEADLINE, WORTH)),
        row["n"],
    ],
    "slices": _of_slice,
    "shares": lambda row: [row["slice"].removeprefix("source="), f"{row['value']:.1%}"],
    "deltas": lambda row: [row.name, _figure(row.tonight), _figure(row.before)],
    "exits": _of_exit,
    "trends": lambda row: [row["tag"], row["rising"], row["steady"], row["fading"]],
    "lists": lambda row: [row["rank"], row["video_id"], row["source"], _reason(row)],
    "fallback": lambda row: [row["rank"], row["video_id"], row["source"]],
    "similar": _of_similar,
    "costs": _of_cost,
}
"""Cells of a row of the facts, by table of the page."""
