"""Figures of the last night and the latest release for Prometheus: `microrec watch` writes them to a text file.

Labels are names of tables, jobs, models and metrics, never an id nor a text from outside. Instants are given as they
are, in seconds since 1970: ages are right however old the file is (`time() - ..._timestamp_seconds`).
"""

import datetime as dt
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from microrec.core import days
from microrec.errors import BadArgument
from microrec.evaluation.report import BLEND, CHAMPION, DIFFERENCE, FLOOR
from microrec.release.reader import RELEASED, Release
from microrec.report import facts, verdict
from microrec.tables import usage
from microrec.tables.arrow import Warehouse

TASK = ("job", "fit", "model")
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "microrec_watch_timestamp_seconds": ("When the watchdog looked.", ()),
    "microrec_watch_findings": ("Faults that the watchdog named.", ()),
    "microrec_release_day_end_timestamp_seconds": ("End of the day of the latest release.", ()),
    "microrec_release_valid_until_timestamp_seconds": ("When the latest release expires.", ()),
    "microrec_release_rows": ("Rows of the latest release.", ("table",)),
    "microrec_night_day_end_timestamp_seconds": ("End of the day of the last night begun.", ()),
    "microrec_night_verdict": ("1 for what became of the last night.", ("verdict",)),
    "microrec_night_gates_failed": ("Gates that the last night did not pass.", ("severity",)),
    "microrec_night_rows_in": ("Rows that the last night read of its day.", ("table",)),
    "microrec_night_rejected_share": ("Share of them that it refused.", ("table",)),
    "microrec_night_quality": (
        "Figures of the held-out day of the last night, with the ends of their 95 % intervals.",
        ("name", "metric", "bound"),
    ),
    "microrec_task_seconds": ("Wall time of a task of the last night.", TASK),
    "microrec_task_peak_bytes": ("Peak resident memory of a task of the last night.", TASK),
    "microrec_task_failed": ("1 for a task of the last night whose last try failed.", TASK),
}
"""What the file has: of each name its meaning and its labels. Dashboard and alerts use no others."""
VERDICTS = ("released", "degraded", "held", "withdrawn", "unfinished")
SEVERITIES = ("hold", "warn")
COMPARED = (BLEND, FLOOR, CHAMPION, DIFFERENCE, f"{BLEND}-minus-{CHAMPION}")
"""Whose quality is told: the lists, the floor, the release of the day before, and the gains over both."""
BOUNDS = ("value", "low", "high")
READABLE = 0o022
"""Mask of the file: whoever collects figures is another user, and nothing in it is of a person."""


class Sample(NamedTuple):
    """One line of the file."""

    name: str
    labels: tuple[str, ...]
    value: float


def samples(
    warehouse: Warehouse,
    releases: Sequence[Release],
    *,
    findings: int,
    now: dt.datetime,
    sources: Sequence[str],
    timezone: str = days.UTC,
) -> list[Sample]:
    """Return the figures as of an instant.

    Args:
        warehouse: has the tables.
        releases: all of them by day, withdrawn ones too.
        findings: number of faults that the watchdog named.
        now: the instant.
        sources: sources of the recipe.
        timezone: whose days the nights are of.

    Returns:
        Samples of `GAUGES`; none of what does not exist yet, such as quality before the first evaluation.
    """
    rows = [
        Sample("microrec_watch_timestamp_seconds", (), now.timestamp()),
        Sample("microrec_watch_findings", (), findings),
    ]
    in_force = [release for release in releases if release.status == RELEASED]
    if in_force:
        rows += _of_release(in_force[-1], timezone)
    last = warehouse.last_day("nights")
    if last is not None:
        release = next((each for each in releases if each.day == last), None)
        rows += _of_night(warehouse, last, release, sources, timezone)
        rows += _of_tasks(usage.of_day(warehouse, last))
    return rows


def write(path: Path, rows: Sequence[Sample]) -> None:
    """Write the text file over the one before, whole or not at all, readable for everybody.

    Args:
        path: of the file, which ends in `.prom` where node_exporter collects it.
        rows: what is to be in it.

    Raises:
        BadArgument: prometheus-client is not installed, or the file cannot be written.
    """
    try:
        from prometheus_client import CollectorRegistry, Gauge, write_to_textfile
    except ImportError:
        raise BadArgument(
            "MICROREC_METRICS_FILE needs prometheus-client: pip install 'microrec[observability]'"
        ) from None
    registry = CollectorRegistry()
    gauges = {
        name: Gauge(name, meaning, labels, registry=registry)
        for name, (meaning, labels) in GAUGES.items()
        if labels or any(row.name == name for row in rows)
    }
    for row in rows:
        gauge = gauges[row.name]
        (gauge.labels(*row.labels) if row.labels else gauge).set(row.value)
    before = os.umask(READABLE)
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        raise BadArgument(f"MICROREC_METRICS_FILE={path}: {error.strerror}") from None
    finally:
        os.umask(before)


def _of_release(release: Release, timezone: str) -> Iterator[Sample]:
    """The latest release: how old, how long valid, how large."""
    yield Sample("microrec_release_day_end_timestamp_seconds", (), _end(release.day, timezone))
    until = release.valid_until.timestamp()
    yield Sample("microrec_release_valid_until_timestamp_seconds", (), until)
    for name, pin in sorted(release.tables.items()):
        yield Sample("microrec_release_rows", (name,), pin.rows)


def _of_night(
    warehouse: Warehouse,
    day: dt.date,
    release: Release | None,
    sources: Sequence[str],
    timezone: str,
) -> Iterator[Sample]:
    """The last night that was begun: what became of it, what came in, quality."""
    yield Sample("microrec_night_day_end_timestamp_seconds", (), _end(day, timezone))
    gates = facts.rows_of(warehouse, "gate_results", day)
    dead = facts.dead_sources(warehouse, day, sources) if release is not None else []
    word = verdict.verdict(release, gates, dead=dead, last_table=None).word
    for each in VERDICTS:
        yield Sample("microrec_night_verdict", (each,), float(each == word))
    failed = [row["severity"] for row in gates if row["status"] != "pass"]
    for severity in SEVERITIES:
        yield Sample("microrec_night_gates_failed", (severity,), failed.count(severity))
    metrics = facts.rows_of(warehouse, "metrics", day)
    yield from _of_arrivals(metrics)
    for name in COMPARED:
        for metric in facts.HEADLINE:
            row = facts.value_of(metrics, name, metric)
            for bound in BOUNDS:
                if row is not None and row[bound] is not None:
                    yield Sample("microrec_night_quality", (name, metric, bound), row[bound])


def _of_arrivals(metrics: Sequence[Mapping[str, Any]]) -> Iterator[Sample]:
    """Rows of each raw table, and the share of them that was refused."""
    refused: dict[str, float] = {}
    for row in metrics:
        if (row["stage"], row["metric"]) == ("events", "rejected") and row["slice"] != "all":
            refused[row["name"]] = refused.get(row["name"], 0.0) + row["value"]
    for row in facts.arrivals(metrics):
        table, n_rows = row["table"], row.get("rows_in")
        if n_rows is not None:
            yield Sample("microrec_night_rows_in", (table,), n_rows)
            share = refused.get(table, 0.0) / n_rows if n_rows else 0.0
            yield Sample("microrec_night_rejected_share", (table,), share)


def _of_tasks(costs: Sequence[usage.Usage]) -> Iterator[Sample]:
    """Time and memory of each task."""
    for cost in costs:
        labels = (cost.job, cost.fit, cost.model)
        yield Sample("microrec_task_seconds", labels, cost.seconds)
        yield Sample("microrec_task_peak_bytes", labels, cost.peak_mb * 2**20)
        yield Sample("microrec_task_failed", labels, float(cost.failed))


def _end(day: dt.date, timezone: str) -> float:
    """The first instant after a day, in seconds since 1970."""
    return days.end(day, timezone).timestamp()
