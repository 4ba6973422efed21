"""What a night reads of the night before, to be held against it: the one look back at an earlier release."""

import pyarrow as pa

from microrec.evaluation import champion
from microrec.pipeline.fit_tables import FitTables
from microrec.pipeline.night import Night
from microrec.release import reader


def lists(night: Night, tables: FitTables) -> pa.Table | None:
    """Read the lists that were released the day before, if there are any.

    Args:
        night: the night that looks back.
        tables: of the night; has the indices of its users and videos.

    Returns:
        One row per (user, rank) by the night's indices; None if the day before has no release.
    """
    if night.previous_day not in reader.days():
        return None
    released = reader.of(night.previous_day).read("recommendations")
    return champion.listed(released, users=tables.users, videos=tables.videos)


def metric_values(night: Night, metric: str) -> dict[str, float]:
    """Read a metric of every list of the trial of the day before.

    Args:
        night: the night that looks back.
        metric: its name.

    Returns:
        Values over all users by name of the list; empty if there was no trial.
    """
    before = night.at(night.previous_day, fit="trial")
    if not before.exists("metrics", stage="evaluation"):
        return {}
    rows = before.read("metrics", stage="evaluation").to_pylist()
    return {
        row["name"]: row["value"]
        for row in rows
        if (row["metric"], row["slice"]) == (metric, "all")
    }
