"""What a release was made of, and what differs between two: inputs, models, figures, gates, and people's lists.

Rows that went with retention are missing, and a later run of the day has rows of its own: `of` says so where the plan
of the night is no longer that of the release.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import duckdb

from microrec.release.reader import Release

Row = Mapping[str, Any]
PARTS = ("events", "catalogue", "recipe", "code", "packages", "processor", "taught_by")
"""Digests and versions of the plan of a night."""
FIGURES = ("ndcg@20", "recall@20", "coverage@20", "popularity_lift@20")
FIRST = 10
"""Places of a list that are compared."""
LISTS = f"""
    WITH before AS (SELECT user_id, list(video_id ORDER BY rank) AS videos FROM a WHERE rank <= {FIRST} GROUP BY ALL),
    after AS (SELECT user_id, list(video_id ORDER BY rank) AS videos FROM b WHERE rank <= {FIRST} GROUP BY ALL)
    SELECT
        count(*) FILTER (after.user_id IS NULL) AS users_gone,
        count(*) FILTER (before.user_id IS NULL) AS users_new,
        count(*) FILTER (before.videos IS NOT NULL AND after.videos IS NOT NULL) AS users_in_both,
        count(*) FILTER (before.videos = after.videos) AS users_with_the_same_first,
        avg(1 - len(list_intersect(before.videos, after.videos)) / len(after.videos)) AS share_of_first_that_is_new
    FROM before FULL JOIN after USING (user_id)
"""
"""One row: how the first places of people's lists differ."""


class Provenance(NamedTuple):
    """What one release was made of."""

    release: Row
    """Its row: id, day, status, reason, run, version of the code, inputs."""
    plan: Row
    """Digests of events, catalogue, recipe and code, versions of the packages; empty where they are gone."""
    is_of_release: bool | None
    """Whether the plan, and with it models, files and gates, is still that of the release; None: nothing says."""
    models: list[Row]
    files: list[Row]
    """Landing files by raw table: how many, bytes, first and last day of arrival."""
    gates: list[Row]
    """Those that failed, and the verdict."""
    tables: list[Row]
    """Pins."""
    erasures: list[Row]
    """Receipts of the erasure that rewrote the release last: how many people, when, whether it was proved."""


class Difference(NamedTuple):
    """Something that is not the same in two releases."""

    what: str
    """inputs, file, model, figure, gate, rows or lists."""
    name: str
    before: Any
    after: Any


def of(release: Release) -> Provenance:
    """Return what a release was made of.

    Args:
        release: the release, also a withdrawn one.
    """
    plan = _plan(release)
    inputs = plan.get("inputs")
    gates = [row for row in _rows(release, "gate_results") if _is_told(row)]
    return Provenance(
        release={
            name: getattr(release, name)
            for name in ("id", "day", "status", "reason", "run_id", "code_version", "valid_until", "inputs", "erasure")
        },
        plan={name: plan[name] for name in PARTS if name in plan},
        is_of_release=None if None in (inputs, release.inputs) else inputs == release.inputs,
        models=_models(release),
        files=_files(release),
        gates=gates,
        tables=[vars(pin) for _, pin in sorted(release.tables.items())],
        erasures=[
            row for row in _all(release, "erasures") if row["id"] == release.erasure
        ] if release.erasure else [],
    )  # fmt: skip


def differences(before: Release, after: Release) -> list[Difference]:
    """Return what differs between two releases.

    Args:
        before: one release.
        after: another one.

    Returns:
        Inputs, models, files, figures, gates and rows that are not the same, then how people's lists differ.
    """
    listed = [
        *_unlike("inputs", _plan(before), _plan(after), names=PARTS),
        *_unlike("model", _digests(before), _digests(after)),
        *_unlike("file", _sizes(before), _sizes(after)),
        *_unlike("figure", _figures(before), _figures(after)),
        *_unlike("gate", _statuses(before), _statuses(after)),
        *_unlike("rows", _counts(before), _counts(after)),
    ]
    return [*listed, *_lists(before, after)]


def _rows(release: Release, table: str) -> list[Row]:
    """Rows of a table of the release: as it pins them, or of its day as committed; none where they are gone."""
    if table in release.tables:
        rows: list[Row] = release.read(table).to_pylist()
        return rows
    if not release.warehouse.exists(table, day=release.day):
        return []
    committed: list[Row] = release.warehouse.read(table, day=release.day).to_pylist()
    return committed


def _all(release: Release, table: str) -> list[Row]:
    """All rows of a table of the warehouse."""
    if not release.warehouse.partitions(table):
        return []
    rows: list[Row] = release.warehouse.read(table).to_pylist()
    return rows


def _plan(release: Release) -> Row:
    """The plan of the day's night; empty if there is none."""
    rows = _rows(release, "nights")
    return rows[0] if rows else {}


def _models(release: Release) -> list[Row]:
    """The day's models, by fit and name."""
    names = (
        "fit",
        "model",
        "digest",
        "path",
        "seed",
        "first_day",
        "last_day",
        "n_users",
        "n_videos",
        "n_edges",
        "config",
    )
    rows = sorted(_rows(release, "models"), key=lambda row: (row["fit"], row["model"]))
    return [{name: row[name] for name in names} for row in rows]


def _files(release: Release) -> list[Row]:
    """The landing files that the night saw, by raw table."""
    files: dict[str, list[Row]] = {}
    for row in _rows(release, "landing_files"):
        files.setdefault(row["raw_table"], []).append(row)
    return [
        {
            "raw_table": name,
            "files": len(rows),
            "bytes": sum(row["size"] for row in rows),
            "first": min(row["arrived_on"] for row in rows),
            "last": max(row["arrived_on"] for row in rows),
        }
        for name, rows in sorted(files.items())
    ]


def _is_told(row: Row) -> bool:
    return bool(row["status"] != "pass" or row["gate"] == "verdict")


def _digests(release: Release) -> dict[str, str]:
    return {f"{row['model']} ({row['fit']})": row["digest"] for row in _rows(release, "models")}


def _sizes(release: Release) -> dict[str, tuple[int, int]]:
    """Size and time of each landing file, by its path."""
    return {
        f"{row['raw_table']}/day={row['arrived_on']}/{row['file']}": (
            row["size"],
            row["modified_ns"],
        )
        for row in _rows(release, "landing_files")
    }


def _figures(release: Release) -> dict[str, float]:
    """The figures of the held-out day that tell most, by source and metric."""
    return {
        f"{row['name']} {row['metric']}": row["value"]
        for row in _rows(release, "metrics")
        if row["stage"] == "evaluation" and row["slice"] == "all" and row["metric"] in FIGURES
    }


def _statuses(release: Release) -> dict[str, str]:
    rows = _rows(release, "gate_results")
    return {f"{row['gate']} ({row['fit']})": row["status"] for row in rows}


def _counts(release: Release) -> dict[str, int]:
    return {name: pin.rows for name, pin in release.tables.items()}


def _unlike(
    what: str, before: Row, after: Row, *, names: Sequence[str] | None = None
) -> list[Difference]:
    """What two mappings do not have in common, by name."""
    keys = sorted({*before, *after}) if names is None else names
    return [
        Difference(what, key, before.get(key), after.get(key))
        for key in keys
        if before.get(key) != after.get(key)
    ]


def _lists(before: Release, after: Release) -> list[Difference]:
    """How the first places of people's lists differ; who has withdrawn since counts in neither."""
    names = ["user_id", "rank", "video_id"]
    with duckdb.connect() as session:
        session.register("a", before.read("recommendations", columns=names))
        session.register("b", after.read("recommendations", columns=names))
        result = session.execute(LISTS)
        columns = [each[0] for each in result.description or ()]
        values = result.fetchone() or ()
    return [
        Difference("lists", name, None, value) for name, value in zip(columns, values, strict=True)
    ]
