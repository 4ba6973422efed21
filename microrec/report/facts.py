"""What the report of a night tells, from the tables of its day, whether or not it was released."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow.compute as pc

from microrec.evaluation.report import BLEND, DIFFERENCE, FLOOR, WORTH
from microrec.release import reader
from microrec.release.reader import Release
from microrec.report import verdict
from microrec.report.svg import Point
from microrec.report.verdict import Verdict
from microrec.tables.arrow import Warehouse

Row = Mapping[str, Any]
HEADLINE = ("ndcg@20", "recall@20")
SHAPE = ("coverage@20", "popularity_lift@20", "gini@20", "new_listed@20", "new_share@20")
"""Figures of the lists as a whole, of the blend."""
EVENTS = "raw_interactions"
NIGHTS = 14
"""Nights that the pictures go back."""
NEAR = 0.2
"""Share of its threshold within which a gate that passed is near it."""
SHOWN = 8
"""Rows of a list that a page shows, at most."""


class Delta(NamedTuple):
    """A figure tonight and the night before."""

    name: str
    tonight: float | None
    before: float | None


class Sample(NamedTuple):
    """The head of a list."""

    label: str
    """The video it stands beside; of a user's a number, or the id where that was asked for."""
    rows: list[Row]


@dataclass(frozen=True)
class Facts:
    """Everything the page tells, in the order in which it tells it."""

    day: dt.date
    before: dt.date | None
    """The night it is compared with: the last release before it."""
    verdict: Verdict
    release: Release | None
    arrivals: list[Row]
    """Figures of what arrived, by raw table."""
    refused: list[Row]
    """Refused rows by table and rule."""
    arrived: list[Point]
    """Lines of viewings by night."""
    quality: list[Row]
    """Metrics of the held-out day, all users."""
    slices: list[Row]
    over_nights: Mapping[str, list[Point]]
    blend: Mapping[str, Mapping[str, float]]
    """Shares of the sources, by bucket of users."""
    shape: list[Delta]
    sources: list[Row]
    """Share of the lists by source."""
    exits: list[Row]
    trends: list[Row]
    samples: list[Sample]
    """Lists of users, where they were asked for."""
    similar: list[Sample]
    """Lists beside the most popular videos."""
    fallback: list[Row]
    costs: list[Row]
    """Rows of each table, and when they were committed."""
    changes: list[Delta]
    failed: list[Row]
    """Gates that did not pass."""
    near: list[Row]


def gather(
    warehouse: Warehouse,
    day: dt.date,
    *,
    sources: Sequence[str],
    least_people: int,
    samples: int = 0,
    ids: bool = False,
) -> Facts:
    """Read what the report of a night tells.

    Args:
        warehouse: has the tables.
        day: of the night.
        sources: sources of the recipe.
        least_people: of a tag that fewer people follow nothing is told.
        samples: users whose lists are shown.
        ids: whether their ids and what they watched are shown, too.

    Returns:
        The facts; empty parts where a table has no rows of the day.
    """
    releases = reader.every(warehouse.root)
    release = next((each for each in releases if each.day == day), None)
    earlier = [each.day for each in releases if each.day < day and each.status == reader.RELEASED]
    before = earlier[-1] if earlier else None
    metrics = rows_of(warehouse, "metrics", day)
    gates = rows_of(warehouse, "gate_results", day)
    costs = _costs(warehouse, day)
    shape = [_delta(warehouse, metrics, before, BLEND, name) for name in SHAPE]
    lists = _fallback(rows_of(warehouse, "fallback_recommendations", day))
    return Facts(
        day=day,
        before=before,
        verdict=verdict.verdict(
            release,
            gates,
            dead=dead_sources(warehouse, day, sources) if release is not None else [],
            last_table=costs[-1]["table"] if costs else None,
        ),
        release=release,
        arrivals=arrivals(metrics),
        refused=_refused(metrics),
        arrived=_arrived(warehouse, day),
        quality=_quality(metrics),
        slices=_slices(metrics),
        over_nights=_over_nights(warehouse, [*earlier, day][-NIGHTS:]),
        blend=_blend(rows_of(warehouse, "blend_weights", day)),
        shape=shape,
        sources=_of(metrics, "release", "recommendations", "share"),
        exits=_exits(rows_of(warehouse, "exit_points", day)),
        trends=_trends(rows_of(warehouse, "user_trends", day), least_people),
        samples=_samples(release, samples, ids=ids),
        similar=_similar(rows_of(warehouse, "similar_videos", day), lists),
        fallback=lists[:SHOWN],
        costs=costs,
        changes=_changes(warehouse, metrics, release, releases, before),
        failed=[row for row in gates if row["status"] != "pass" and row["gate"] != "verdict"],
        near=[row for row in gates if _is_near(row)],
    )


def rows_of(warehouse: Warehouse, table: str, day: dt.date) -> list[Row]:
    """Return the rows of a table of a day as committed; none where it has no such day.

    Args:
        warehouse: has the tables.
        table: name of the table.
        day: of the night.
    """
    if not warehouse.exists(table, day=day):
        return []
    rows: list[Row] = warehouse.read(table, day=day).to_pylist()
    return rows


def _of(metrics: Sequence[Row], stage: str, name: str, metric: str) -> list[Row]:
    """Rows of one metric, the greatest first."""
    wanted = (stage, name, metric)
    rows = [row for row in metrics if (row["stage"], row["name"], row["metric"]) == wanted]
    return sorted(rows, key=lambda row: -row["value"])


def value_of(
    metrics: Sequence[Row], name: str, metric: str, stage: str = "evaluation"
) -> Row | None:
    """Return the row of a metric over everything, None if there is none.

    Args:
        metrics: rows of `metrics` of a day.
        name: what was measured.
        metric: which figure of it.
        stage: that measured it.
    """
    rows = [row for row in _of(metrics, stage, name, metric) if row["slice"] == "all"]
    return rows[0] if rows else None


def dead_sources(warehouse: Warehouse, day: dt.date, sources: Sequence[str]) -> list[str]:
    """Return the sources of the recipe without a candidate in the final fit.

    Args:
        warehouse: has the tables.
        day: of the night.
        sources: of the recipe.
    """
    return [
        source
        for source in sources
        if not warehouse.exists("candidates", day=day, fit="final", source=source)
        or not warehouse.count("candidates", day=day, fit="final", source=source)
    ]


def arrivals(metrics: Sequence[Row]) -> list[Row]:
    """Return the counts of each raw table as the night read it: a row a table, by its name.

    Args:
        metrics: rows of `metrics` of a day.
    """
    counts: dict[str, dict[str, Any]] = {}
    for row in metrics:
        if row["stage"] == "events" and row["slice"] == "all" and row["name"].startswith("raw_"):
            counts.setdefault(row["name"], {"table": row["name"]})[row["metric"]] = row["value"]
    return [counts[name] for name in sorted(counts)]


def _refused(metrics: Sequence[Row]) -> list[Row]:
    """Refused rows by rule, the commonest first."""
    rows: list[Row] = [
        {"table": row["name"], "rule": row["slice"].removeprefix("rule="), "rows": row["value"]}
        for row in metrics
        if row["stage"] == "events" and row["metric"] == "rejected" and row["slice"] != "all"
    ]
    return sorted(rows, key=lambda row: (-row["rows"], row["table"], row["rule"]))[: 2 * SHOWN]


def _arrived(warehouse: Warehouse, day: dt.date) -> list[Point]:
    """Lines of viewings that arrived on each of the last days."""
    points = []
    for back in range(NIGHTS - 1, -1, -1):
        on = day - dt.timedelta(days=back)
        if warehouse.exists("metrics", day=on, stage="arrivals"):
            rows = warehouse.read("metrics", day=on, stage="arrivals").to_pylist()
            row = value_of(rows, EVENTS, "rows_in", "arrivals")
            points += [Point(str(on), row["value"])] if row else []
    return points


def _quality(metrics: Sequence[Row]) -> list[Row]:
    """Each source, the blend and its gain: the headline metrics and what the blend loses without it, side by side."""
    shown = (*HEADLINE, WORTH)
    by_name: dict[str, dict[str, Any]] = {}
    for row in metrics:
        if row["stage"] == "evaluation" and row["slice"] == "all" and row["metric"] in shown:
            by_name.setdefault(row["name"], {"name": row["name"], "n": row["n"]})[row["metric"]] = (
                row
            )
    first = [BLEND, FLOOR, DIFFERENCE]
    order = [name for name in first if name in by_name] + sorted(set(by_name) - set(first))
    return [by_name[name] for name in order]


def _slices(metrics: Sequence[Row]) -> list[Row]:
    """The blend, the floor and the gain of the first headline metric, by slice."""
    by_slice: dict[str, dict[str, Any]] = {}
    for row in metrics:
        wanted = row["name"] in (BLEND, FLOOR, DIFFERENCE) and row["metric"] == HEADLINE[0]
        if row["stage"] == "evaluation" and wanted and row["slice"] != "all":
            by_slice.setdefault(row["slice"], {"slice": row["slice"], "n": row["n"]})[
                row["name"]
            ] = row
    return [by_slice[name] for name in sorted(by_slice)]


def _over_nights(warehouse: Warehouse, days: Sequence[dt.date]) -> dict[str, list[Point]]:
    """The blend and the floor by night, with their intervals."""
    series: dict[str, list[Point]] = {BLEND: [], FLOOR: []}
    for day in days:
        if not warehouse.exists("metrics", day=day, stage="evaluation"):
            continue
        rows = warehouse.read("metrics", day=day, stage="evaluation").to_pylist()
        for name, points in series.items():
            row = value_of(rows, name, HEADLINE[0])
            if row:
                points.append(Point(str(day), row["value"], row["low"], row["high"]))
    return {name: points for name, points in series.items() if points}


def _blend(weights: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Shares of the order by source, by bucket of users, of the final fit."""
    shares: dict[str, dict[str, float]] = {}
    for row in weights:
        if row["fit"] == "final":
            shares.setdefault(row["bucket"], {})[row["source"]] = row["weight"]
    return shares


def _delta(
    warehouse: Warehouse, metrics: Sequence[Row], before: dt.date | None, name: str, metric: str
) -> Delta:
    """A metric tonight and the night before."""
    earlier: list[Row] = []
    if before and warehouse.exists("metrics", day=before, stage="evaluation"):
        earlier = warehouse.read("metrics", day=before, stage="evaluation").to_pylist()
    now, then = value_of(metrics, name, metric), value_of(earlier, name, metric)
    return Delta(metric, now["value"] if now else None, then["value"] if then else None)


def _exits(exits: Sequence[Row]) -> list[Row]:
    """The videos whose viewers leave soonest, of everybody."""
    rows = [row for row in exits if row["segment"] == "__global__"]
    return sorted(rows, key=lambda row: (row["completed"], row["video_id"]))[:SHOWN]


def _trends(trends: Sequence[Row], least_people: int) -> list[Row]:
    """Tags in the most rising trends: in how many, and in how many fading ones."""
    counts: dict[str, dict[str, Any]] = {}
    for row in trends:
        for tag in row["tags"] or ():
            of_tag = counts.setdefault(
                tag, {"tag": tag, "users": 0, "rising": 0, "steady": 0, "fading": 0}
            )
            of_tag[row["direction"]] += 1
            of_tag["users"] += 1
    enough: list[Row] = [row for row in counts.values() if row["users"] >= least_people]
    return sorted(enough, key=lambda row: (-row["rising"], row["fading"], row["tag"]))[:SHOWN]


def _fallback(rows: Sequence[Row]) -> list[Row]:
    """The list of everybody whom the release does not know."""
    return sorted(
        (row for row in rows if row["segment"] == "__global__"), key=lambda row: row["rank"]
    )


def _similar(rows: Sequence[Row], popular: Sequence[Row]) -> list[Sample]:
    """Heads of the fused lists beside the first videos of the fallback list."""
    samples = []
    for video in [row["video_id"] for row in popular[:3]]:
        beside = [row for row in rows if (row["video_id"], row["kind"]) == (video, "fused")]
        beside.sort(key=lambda row: row["rank"])
        samples += [Sample(video, beside[:SHOWN])] if beside else []
    return samples


def _samples(release: Release | None, n: int, *, ids: bool) -> list[Sample]:
    """Heads of the lists of some users, evenly spread over their ids."""
    if release is None or not n or release.status != reader.RELEASED:
        return []
    names = ["user_id", "rank", "video_id", "source", "reason", "evidence_video_id"]
    lists = release.read("recommendations", columns=names)
    users = sorted(pc.unique(lists["user_id"]).to_pylist())
    chosen = users[:: max(len(users) // n, 1)][:n]
    samples = []
    for number, user in enumerate(chosen, start=1):
        rows = lists.filter(pc.equal(lists["user_id"], user)).sort_by("rank").slice(0, SHOWN)
        shown = rows if ids else rows.drop_columns(["user_id", "evidence_video_id"])
        samples.append(Sample(user if ids else f"user {number}", shown.to_pylist()))
    return samples


def _costs(warehouse: Warehouse, day: dt.date) -> list[Row]:
    """Tables of the night in the order in which they were committed, and the minutes since the first."""
    when: dict[str, dt.datetime] = {}
    for table in warehouse.tables():
        for values, instant in warehouse.written_at(table).items():
            if dict(values).get("day") == str(day):
                when[table] = max(when.get(table, instant), instant)
    first = min(when.values(), default=None)
    return [
        {
            "table": table,
            "rows": warehouse.count(table, day=day),
            "at": when[table],
            "minutes": (when[table] - first).total_seconds() / 60 if first else 0.0,
        }
        for table in sorted(when, key=lambda name: (when[name], name))
    ]


def _changes(
    warehouse: Warehouse,
    metrics: Sequence[Row],
    release: Release | None,
    releases: Sequence[Release],
    before: dt.date | None,
) -> list[Delta]:
    """Rows of each result table and the headline metrics, tonight and the night before."""
    earlier = next((each for each in releases if each.day == before), None)
    tables = sorted({*(release.tables if release else ()), *(earlier.tables if earlier else ())})

    def rows(of: Release | None, table: str) -> float | None:
        return of.tables[table].rows if of is not None and table in of.tables else None

    counted = [
        Delta(f"rows of {name}", rows(release, name), rows(earlier, name)) for name in tables
    ]
    measured = [_delta(warehouse, metrics, before, BLEND, name) for name in HEADLINE]
    return [each for each in [*measured, *counted] if each.tonight != each.before]


def _is_near(row: Row) -> bool:
    """Whether a gate passed within `NEAR` of its threshold, without standing exactly on it as counts do."""
    seen, asked = row["observed"], row["threshold"]
    if row["status"] != "pass" or seen is None or asked is None or seen == asked or not asked:
        return False
    return bool(abs(seen - asked) <= NEAR * abs(asked))
