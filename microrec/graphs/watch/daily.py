"""Daily aggregates of the user-video graph: one row per pair of a user and a video and event day.

A partition (event day, arrival day) of `daily_watches` follows from the partitions of `events` with
the same event day that arrived no later. A night builds the partitions of its window whose events,
clip cutting or code differ from what they were built from, and reuses the others: `plan`.
"""

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from microrec.core.digests import digest
from microrec.graphs.similarity.provenance import rule as rule_of
from microrec.graphs.watch import clip_edges
from microrec.graphs.watch.split import with_undone

Arrival = tuple[dt.date, dt.date]
"""An event day, and a day on which rows of it arrived."""

FORMAT = 5
"""Counts up with every change of this code that gives other rows from the same events."""

PAIR_DAY = ["day", "as_of", "user_id", "video_id"]


@dataclass(frozen=True)
class Plan:
    """Which partitions a night builds, and from which partitions of `events`."""

    build: Mapping[Arrival, str]
    """Partitions to build, with the stamp to commit them with."""
    reuse: tuple[Arrival, ...]
    """Partitions that are as they would be built."""
    reasons: Mapping[str, int]
    """Why they are built: `new`, other `events`, another `rule`, `unknown`; with their number."""
    fresh: tuple[Arrival, ...]
    """Partitions of `events` that are built from themselves alone: they arrived on their day."""
    late: tuple[Arrival, ...]
    """Partitions of `events` to build that arrived after their day."""
    earlier: tuple[Arrival, ...]
    """Partitions of `events` that arrived before a late one of the same event day."""

    def __str__(self) -> str:
        """Return the plan as the fields of a log line."""
        kind = "incremental" if self.reuse or not self.build else "full"
        why = ",".join(f"{name}:{n}" for name, n in sorted(self.reasons.items())) or "none"
        return f"plan={kind} build={len(self.build)} reuse={len(self.reuse)} reasons={why}"


def plan(
    events: Mapping[Arrival, str],
    committed: Mapping[Arrival, str | None],
    *,
    config: clip_edges.Config,
) -> Plan:
    """Compare what the aggregates would be made of with what they were made of.

    Args:
        events: the window's partitions of `events`, each with a digest that changes with its rows.
        committed: the window's partitions of `daily_watches`, each with the stamp it was committed
            with. One whose events are gone is built again, and then has no rows.
        config: how videos are cut.

    Returns:
        The partitions to build and to reuse, in order of (event day, arrival day).
    """
    rule = rule_of(FORMAT, config)
    build = {}
    reuse = []
    reasons = Counter[str]()
    for arrival in sorted({*events, *committed}):
        day, arrived_on = arrival
        inputs = [(of, text) for of, text in events.items() if of[0] == day and of[1] <= arrived_on]
        stamp = f"{rule} {digest(f'{of[1]} {text}' for of, text in sorted(inputs))}"
        if committed.get(arrival) == stamp:
            reuse.append(arrival)
        else:
            build[arrival] = stamp
            reasons[_reason(arrival, committed, rule)] += 1
    late = tuple(of for of in build if of in events and of[0] < of[1])
    last = dict(late)
    return Plan(
        build=build,
        reuse=tuple(reuse),
        reasons=dict(reasons),
        fresh=tuple(of for of in build if of in events and of[0] == of[1]),
        late=late,
        earlier=tuple(of for of in sorted(events) if of[0] in last and of[1] < last[of[0]]),
    )


def daily_watches(
    fresh: DataFrame, late: DataFrame, earlier: DataFrame, *, config: clip_edges.Config
) -> DataFrame:
    """Aggregate viewings to pair-days, each as known by the end of an arrival day.

    A partition has the pairs that are touched by what arrived on its day: a late viewing, or a
    correction of one. Their whole day is aggregated again, from every event id's last row.

    Only viewings after the day's last dislike count towards positives and weights. One that never started is a viewing,
    so that its video is known as shown, and says nothing else.

    Args:
        fresh: rows of `events` to aggregate that arrived on their own event day.
        late: rows of `events` to aggregate that arrived later.
        earlier: rows of `events` that arrived before one of the late partitions, of the same event days.
        config: how videos are cut.

    Returns:
        One row per (day, arrived_on, user_id, video_id); `clip_exits` has where each measured viewing that played left,
        `started` on which surface each viewing that started was shown and whether it was positive, both
        [at most n_views]; `viewings` has lengths and watch times, in milliseconds, and whether the viewing counts,
        [n_views]. All are sorted. No column depends on what others watched.
    """
    as_of = F.col("arrived_on").alias("as_of")
    viewings = fresh.select("*", as_of).unionByName(_last_known(late.select("*", as_of), earlier))
    counts = F.col("undone_at").isNull() | (F.col("started_at") > F.col("undone_at"))
    positive, negative = (F.col("feedback") == name for name in ("positive", "negative"))
    watched = F.col("feedback").isin("positive", "neutral")
    viewing = F.struct("duration_ms", "watch_ms", (counts & watched).alias("counts"))
    left = clip_edges.exit_of(F.col("watch_ms"), F.col("duration_ms"), config=config)
    days = with_undone(viewings, "disliked", "started_at", within=PAIR_DAY).groupBy(*PAIR_DAY)
    return days.agg(
        F.count("*").cast("int").alias("n_views"),
        F.count_if(positive & counts).cast("int").alias("n_positive"),
        F.count_if(negative).cast("int").alias("n_negative"),
        F.bool_or("disliked").alias("undone"),
        F.min("started_at").alias("first_at"),
        F.max("started_at").alias("last_at"),
        F.array_sort(F.collect_list(left)).alias("clip_exits"),
        F.sort_array(F.collect_list(_started())).alias("started"),
        F.sort_array(F.collect_list(viewing)).alias("viewings"),
    ).withColumnRenamed("as_of", "arrived_on")


def _started() -> Column:
    """Where a viewing was shown and whether it was positive; null for one that never started."""
    shown = F.struct(
        F.coalesce("surface", F.lit("")).alias("surface"),
        (F.col("feedback") == "positive").alias("positive"),
    )
    return F.when(F.col("feedback") != "not_started", shown)


def _last_known(late: DataFrame, earlier: DataFrame) -> DataFrame:
    """The late rows, and what was known of the pairs they touch; the last row of each event id."""
    touched = late.select(*PAIR_DAY).distinct()
    before = earlier.join(touched, on=["day", "user_id", "video_id"], how="inner")
    all_rows = late.unionByName(before.where(F.col("arrived_on") < F.col("as_of")))
    newest = Window.partitionBy("day", "as_of", "event_id").orderBy(F.desc("arrived_on"))
    ranked = all_rows.withColumn("place", F.row_number().over(newest))
    return ranked.where(F.col("place") == 1).drop("place")


def _reason(arrival: Arrival, committed: Mapping[Arrival, str | None], rule: str) -> str:
    if arrival not in committed:
        return "new"
    stamp = committed[arrival]
    if stamp is None:
        return "unknown"
    return "events" if stamp.startswith(f"{rule} ") else "rule"
