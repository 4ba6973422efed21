"""What a day's viewings look like: length of watch and video, hours, labels and ids, as figures a night can compare.

Everything is counted in bins, so that the figures of the same rows are the same on any number of workers; quantiles are
read off the bins. Twenty-fifths of a decade make them right to within 10 %, far finer than any wrong unit.
"""

import datetime as dt
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

VIEWINGS, CATALOGUE = "raw_interactions", "raw_videos"
PER_DECADE = 25
"""Bins of a decade."""
QUANTILES = (0.05, 0.15, 0.25, 0.35, 0.45, 0.5, 0.55, 0.65, 0.75, 0.85, 0.95)
"""Middles of the ten tenths, and the median."""
LENGTHS = ("watch_ms", "duration_ms", "watch_ratio")
"""Columns of which quantiles are taken, of values above 0."""
SHARES = ("zero_watch", "skipped", "positive")
"""Conditions of which the share of all viewings is taken."""
IDS = {"user_id": "returning_users_share", "video_id": "returning_videos_share"}
"""Columns of which the share is taken that was there on the days before."""
SAMPLED = 1_000_000
"""Viewings of a day above which ids are counted by a sample of them."""


def counted(viewings: DataFrame, judged_videos: DataFrame) -> DataFrame:
    """Count viewings, and rows of the catalogue, by bins.

    Args:
        viewings: `signals.viewings`, one row per accepted line.
        judged_videos: `catalogue.judge_videos`, one row per delivered line.

    Returns:
        One row per (name, arrived_on, measure, bin) with the number of rows n; a bin is a step of the logarithm for
        `LENGTHS`, the UTC hour for `hour`, 1 or 0 for `SHARES`, and 0 for `rows`.
    """
    hour = F.pmod(F.floor(F.unix_seconds("started_at") / 3600), F.lit(24))
    flags = {
        "zero_watch": F.col("watch_ms") == 0,
        "skipped": F.col("skipped"),
        "positive": F.col("feedback") == "positive",
    }
    measures = {name: _bin(F.col(name)) for name in LENGTHS}
    measures |= {name: flag.cast("bigint") for name, flag in flags.items()}
    measures |= {"hour": hour, "rows": F.lit(0)}
    sound = judged_videos.where(F.coalesce("rule", F.lit("superseded")) == "superseded")
    delivered = sound.select(F.col("since").alias("arrived_on"), "duration_ms")
    lengths = {"duration_ms": _bin(F.col("duration_ms")), "rows": F.lit(0)}
    return _counted(viewings, VIEWINGS, measures).unionByName(
        _counted(delivered, CATALOGUE, lengths)
    )


def returning(
    viewings: DataFrame, earlier: DataFrame | None, *, days: int, every: int
) -> DataFrame:
    """Count the users and videos of each arrival day, and those of them that were there on one of the days before.

    Args:
        viewings: one row per viewing of the days that are counted, with `arrived_on` and `IDS`.
        earlier: likewise, of days that were validated before; None if there are none.
        days: how many days before count.
        every: one id of so many is counted, chosen by its hash.

    Returns:
        One row per (measure in `IDS`, arrived_on): number of ids n, and n_returning among them.
    """
    ids = _ids(viewings, every).withColumn("fresh", F.lit(True))
    if earlier is not None:
        ids = ids.unionByName(_ids(earlier, every).withColumn("fresh", F.lit(False)))
    by_day = Window.partitionBy("measure", "id").orderBy("arrived_on")
    gap = F.date_diff(F.col("arrived_on"), F.lag("arrived_on").over(by_day))
    returns = F.coalesce(gap <= days, F.lit(False)).cast("bigint")
    rows = ids.select("measure", "arrived_on", "fresh", returns.alias("returns"))
    return (
        rows.where("fresh")
        .groupBy("measure", "arrived_on")
        .agg(F.count(F.lit(1)).alias("n"), F.sum("returns").alias("n_returning"))
    )


def sampling(n_viewings: int) -> int:
    """Return `every` of `returning` for a day of so many viewings."""
    return max(1, n_viewings // SAMPLED)


def figures(
    bins: Collection[Any], ids: Collection[Any], *, days: Collection[dt.date], first: dt.date
) -> list[dict[str, Any]]:
    """Return rows of `metrics`, stage arrivals, with their day.

    `watch_ms`, `duration_ms` and `watch_ratio` by `quantile=`, of the values above 0; `hour_share` by `hour=` (UTC);
    `zero_watch_share`, `skipped_share` and `positive_share` of the viewings; `returning_users_share` and
    `returning_videos_share`. What was not there (no viewing, no duration) has no row.

    Args:
        bins: collected rows of `counted`.
        ids: collected rows of `returning`.
        days: arrival days that are wanted.
        first: first day whose ids were compared: there is none before it, so no share of it.
    """
    grouped: dict[tuple[dt.date, str, str], dict[int, int]] = defaultdict(dict)
    for row in bins:
        if row["arrived_on"] in days:
            grouped[row["arrived_on"], row["name"], row["measure"]][row["bin"]] = row["n"]
    rows = [
        {"day": day, "name": name, "metric": metric, "slice": part, "value": value, "n": n}
        for (day, name, measure), histogram in sorted(grouped.items())
        for metric, part, value, n in _measured(measure, histogram)
    ]
    for row in ids:
        if row["arrived_on"] in days and row["arrived_on"] > first:
            key = {"day": row["arrived_on"], "name": VIEWINGS, "metric": IDS[row["measure"]]}
            value = row["n_returning"] / row["n"]
            rows.append(key | {"slice": "all", "value": value, "n": row["n"]})
    return rows


def quantile(histogram: Mapping[int, int], share: float) -> float:
    """Return the value below which a share of the rows lies, evenly spread in the logarithm within a bin.

    Args:
        histogram: rows by step of the logarithm; not empty.
        share: between 0 and 1.
    """
    wanted = share * sum(histogram.values())
    below = 0
    for step in sorted(histogram):
        if below + histogram[step] >= wanted:
            break
        below += histogram[step]
    inside = (wanted - below) / histogram[step]
    return float(10 ** ((step + inside) / PER_DECADE))


def _measured(measure: str, histogram: Mapping[int, int]) -> Iterator[tuple[str, str, float, int]]:
    """Metric, slice, value and number of rows of each figure."""
    n = sum(histogram.values())
    if measure in LENGTHS:
        for share in QUANTILES:
            yield measure, f"quantile={share:.2f}", quantile(histogram, share), n
    elif measure == "hour":
        for hour in range(24):
            yield "hour_share", f"hour={hour:02d}", histogram.get(hour, 0) / n, n
    elif measure in SHARES:
        yield f"{measure}_share", "all", histogram.get(1, 0) / n, n
    else:
        yield measure, "all", float(n), n


def _bin(value: Column) -> Column:
    """Null for null and for 0, which has no logarithm."""
    # A hair above the edge, so that 1000 is in the bin that begins there on any machine.
    return F.when(value > 0, F.floor(F.log10(value) * PER_DECADE + math.ldexp(1, -30)))


def _counted(rows: DataFrame, name: str, measures: Mapping[str, Column]) -> DataFrame:
    pairs = [
        F.struct(F.lit(measure).alias("measure"), value.cast("bigint").alias("bin"))
        for measure, value in measures.items()
    ]
    exploded = rows.select("arrived_on", F.explode(F.array(*pairs)).alias("pair"))
    counted_rows = exploded.where(F.col("pair.bin").isNotNull())
    keys = counted_rows.select(
        F.lit(name).alias("name"), "arrived_on", F.col("pair.measure"), F.col("pair.bin")
    )
    return keys.groupBy(*keys.columns).agg(F.count(F.lit(1)).alias("n"))


def _ids(rows: DataFrame, every: int) -> DataFrame:
    """One row per (measure, id, arrived_on), of the sampled ids."""
    pairs = [F.struct(F.lit(name).alias("measure"), F.col(name).alias("id")) for name in IDS]
    exploded = rows.select("arrived_on", F.explode(F.array(*pairs)).alias("pair"))
    ids = exploded.select("pair.measure", "pair.id", "arrived_on")
    return ids.where(F.pmod(F.xxhash64("id"), F.lit(every)) == 0).distinct()
