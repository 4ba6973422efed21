"""What a night counts about its input, and the law that no line is lost: in = out + refused + repeats + withheld.

Beside it stand the optional values that were passed over in rows that stay (`nulled`), and the refused rows that may
have been about to withdraw something, and do (`in_doubt`).
"""

import datetime as dt
import functools
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from microrec.errors import CheckFailed, LandingError
from microrec.events.catalogue import SUPERSEDED
from microrec.events.consent import WITHHELD
from microrec.events.rules import DUPLICATE

LINES, SUPPRESSED = "raw_interactions", "suppressed_users"
ROWS_IN, ACCEPTED = "rows_in", "accepted"
LATE, CORRECTIONS = "late_reopened", "corrections"
NULLED, IN_DOUBT = "nulled", "in_doubt"
_PLAIN = {name: name for name in (ROWS_IN, SUPERSEDED, WITHHELD, "users")} | {
    DUPLICATE: "duplicates"
}
METRICS = pa.schema(
    [
        ("name", pa.string()),
        ("metric", pa.string()),
        ("slice", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),
    ]
)


def tally(
    delivered: Mapping[str, DataFrame], judged: Mapping[str, DataFrame], suppressed: DataFrame
) -> DataFrame:
    """Count everything in one frame of a few rows.

    Args:
        delivered: by raw table, one row per delivered row, counted before any parsing or join.
        judged: the same rows with their verdict, those of `LINES` by `rules.judge`.
        suppressed: rows of `suppressed_users` as of now.

    Returns:
        One row per combination of name, arrived_on (null where a count is not of one day), verdict (`accepted`, the
        rule that refused, or what else was counted), late (arrived after its event day), corrects (stands in for a
        line that arrived before), in_doubt (refused, and withdraws) and nulled (the rule of an optional value that was
        passed over, which is what is counted; else null), with their number n.
    """
    verdict = F.coalesce("rule", F.lit(ACCEPTED))
    parts = [_counted(suppressed, SUPPRESSED, F.lit("users"))]
    for name, rows in delivered.items():
        parts.append(_counted(rows, name, F.lit(ROWS_IN), day=F.col("day")))
    for name, rows in judged.items():
        details = {"in_doubt": in_doubt(rows)}
        if name == LINES:
            late = F.coalesce(F.col("event_day") < F.col("arrived_on"), F.lit(False))
            details |= {"late": late, "corrects": F.col("corrects").isNotNull()}
        parts.append(_counted(rows, name, verdict, day=landed(rows), **details))
        if NULLED in rows.columns:
            parts.append(_nulled(rows, name))
    return functools.reduce(DataFrame.unionByName, parts)


def of_day(tallies: Collection[Any], day: dt.date) -> dict[str, int]:
    """Return the counts of one arrival day, by metric; accepted includes late_reopened, and that the corrections.

    Args:
        tallies: collected rows of `tally`.
        day: UTC day of arrival.
    """
    names = (ROWS_IN, ACCEPTED, "rejected", "duplicates", WITHHELD, LATE, CORRECTIONS, NULLED)
    figures = dict.fromkeys(names, 0)
    for row in tallies:
        if row["name"] == LINES and row["arrived_on"] == day:
            for metric, part in _figures(row):
                figures[metric] += row["n"] * (part == "all")
    return figures


def checked(tallies: Collection[Any], day: dt.date) -> str:
    """Return the counts of an arrival day as `key=value` words, if there are lines and they add up.

    Args:
        tallies: collected rows of `tally`.
        day: UTC day of arrival.

    Raises:
        LandingError: the files of the day hold no line.
        CheckFailed: a line was lost or doubled between the landing zone and the verdict.
    """
    figures = of_day(tallies, day)
    n_in = figures[ROWS_IN]
    n_judged = sum(figures[name] for name in (ACCEPTED, "rejected", "duplicates", WITHHELD))
    if not n_in:
        raise LandingError(f"{LINES}[{day}]: the files of this day hold no line")
    if n_in != n_judged:
        raise CheckFailed(
            f"events[arrived_on={day}] lines_accounted_for: {n_in} lines in, {n_judged} judged"
        )
    return " ".join(f"{name}={n}" for name, n in figures.items())


def check_tables(tallies: Collection[Any]) -> None:
    """Check that the rows of each raw table but `LINES` add up, by landing day.

    Args:
        tallies: collected rows of `tally`.

    Raises:
        CheckFailed: a row was lost or doubled between the landing zone and the verdict.
    """
    lost: Counter[tuple[str, dt.date]] = Counter()
    n_in: Counter[tuple[str, dt.date]] = Counter()
    for row in tallies:
        if row["name"] not in (LINES, SUPPRESSED) and row["verdict"] != NULLED:
            key = (row["name"], row["arrived_on"])
            n_in[key] += row["n"] * (row["verdict"] == ROWS_IN)
            lost[key] += row["n"] if row["verdict"] == ROWS_IN else -row["n"]
    wrong = sorted(key for key, n in lost.items() if n)
    if wrong:
        table, day = wrong[0]
        n = n_in[table, day]
        raise CheckFailed(
            f"{table}[{day}] rows_accounted_for: {n} rows in, {n - lost[table, day]} judged"
            f" ({len(wrong)} table(s) and day(s) in all)"
        )


def all_refused(
    tallies: Collection[Any], table: str, day: dt.date | None = None
) -> tuple[str, dt.date, int, int] | None:
    """Return which rule left nothing of a raw table.

    Args:
        tallies: collected rows of `tally`.
        table: name of the raw table.
        day: of arrival; all days if left out.

    Returns:
        The rule that refused most lines (of equals the first by name), the last day on which it did, how many lines it
        refused, and how many there are; None if a line was accepted or there is none.
    """
    verdicts = [
        row
        for row in tallies
        if row["name"] == table
        and row["verdict"] not in (ROWS_IN, NULLED)
        and day in (None, row["arrived_on"])
    ]
    if not verdicts or any(row["verdict"] == ACCEPTED for row in verdicts):
        return None
    refused: Counter[str] = Counter()
    for row in verdicts:
        refused[row["verdict"]] += row["n"]
    rule = min(refused, key=lambda name: (-refused[name], name))
    last = max(row["arrived_on"] for row in verdicts if row["verdict"] == rule)
    return rule, last, refused[rule], refused.total()


def metrics(tallies: Collection[Any], day: dt.date) -> pa.Table:
    """Return the rows of `metrics` (schema `METRICS`) of the night: its arrival day, catalogue and consent.

    Rejections appear in all and by rule. `n` is the number of delivered rows a figure is about.

    Args:
        tallies: collected rows of `tally`.
        day: UTC day of the night.
    """
    counted = {(LINES, metric, "all"): 0 for metric in of_day([], day)}
    counted[SUPPRESSED, "users", "all"] = 0
    for row in tallies:
        if row["name"] != LINES or row["arrived_on"] == day:
            for metric, part in _figures(row):
                key = (row["name"], metric, part)
                counted[key] = counted.get(key, 0) + row["n"]
    rows = [
        {"name": name, "metric": metric, "slice": part, "value": float(value)}
        | {"n": counted.get((name, ROWS_IN, "all"), value)}
        for (name, metric, part), value in sorted(counted.items())
    ]
    return pa.Table.from_pylist(rows, schema=METRICS)


def arrivals(tallies: Collection[Any], days: Collection[dt.date]) -> list[dict[str, Any]]:
    """Return what arrived on each day, as rows of `metrics` (stage arrivals) with their day.

    Args:
        tallies: collected rows of `tally`.
        days: UTC days of arrival.

    Returns:
        Of each raw table rows_in, accepted, rejected (all and by rule), duplicates and so on; of a table of which
        nothing arrived on a day there is none. `n` is the number of lines that arrived.
    """
    counted: Counter[tuple[dt.date, str, str, str]] = Counter()
    for row in tallies:
        if row["arrived_on"] in days:
            for metric, part in _figures(row):
                counted[row["arrived_on"], row["name"], metric, part] += row["n"]
    return [
        {"day": day, "name": name, "metric": metric, "slice": part, "value": float(value)}
        | {"n": counted[day, name, ROWS_IN, "all"]}
        for (day, name, metric, part), value in sorted(counted.items())
    ]


def _figures(tallied: Any) -> list[tuple[str, str]]:
    """The (metric, slice) a count is part of."""
    verdict = tallied["verdict"]
    if verdict == NULLED:
        return [(NULLED, "all"), (NULLED, f"rule={tallied[NULLED]}")]
    if verdict == ACCEPTED:
        also = [name for name, flag in ((LATE, "late"), (CORRECTIONS, "corrects")) if tallied[flag]]
        return [(name, "all") for name in (ACCEPTED, *also)]
    if verdict in _PLAIN:
        return [(_PLAIN[verdict], "all")]
    doubt = [(IN_DOUBT, "all"), (IN_DOUBT, f"rule={verdict}")] if tallied[IN_DOUBT] else []
    return [("rejected", "all"), ("rejected", f"rule={verdict}"), *doubt]


def landed(judged: DataFrame) -> Column:
    """Return the landing day of judged rows of any raw table, one row per row."""
    names = [name for name in ("arrived_on", "since", "day") if name in judged.columns]
    return F.col(names[0])


def in_doubt(judged: DataFrame) -> Column:
    """Return whether a judged row of any raw table is refused and withdraws something, one row per row."""
    return F.size("withdrawn") > 0 if "withdrawn" in judged.columns else F.lit(False)


def _nulled(judged: DataFrame, name: str) -> DataFrame:
    """Values that were passed over, by rule, in rows that no rule refuses."""
    stays = F.col("rule").isNull() | (F.col("rule") == SUPERSEDED)
    passed_over = judged.where(stays).select(
        landed(judged).alias("day"), F.explode(NULLED).alias("passed")
    )
    return _counted(passed_over, name, F.lit(NULLED), day=F.col("day"), nulled=F.col("passed"))


def _counted(
    rows: DataFrame, name: str, verdict: Column, *, day: Column | None = None, **details: Column
) -> DataFrame:
    described = rows.select(
        F.lit(name).alias("name"),
        (F.lit(None).cast("date") if day is None else day).alias("arrived_on"),
        verdict.alias("verdict"),
        *[details.get(detail, absent).alias(detail) for detail, absent in _details().items()],
    )
    return described.groupBy(*described.columns).agg(F.count(F.lit(1)).alias("n"))


def _details() -> dict[str, Column]:
    """What a count says besides its verdict, where it says nothing."""
    no = F.lit(False)
    return {"late": no, "corrects": no, IN_DOUBT: no, NULLED: F.lit(None).cast("string")}
