"""What a night reads of the night before, to be held against it: the one look back at an earlier release."""

import datetime as dt

import pyarrow as pa

from microrec.evaluation import champion
from microrec.pipeline.proposals import Proposals
from microrec.release import reader
from microrec.tables.arrow import Warehouse


def lists(found: Proposals, *, day: dt.date) -> pa.Table | None:
    """The lists of the release of the day before by tonight's indices, if there is one."""
    before = day - dt.timedelta(days=1)
    if before not in reader.days():
        return None
    released = reader.of(before).read("recommendations")
    return champion.listed(released, users=found.users, videos=found.videos)


def figures(warehouse: Warehouse, metric: str, *, day: dt.date) -> dict[str, float]:
    """A metric of every list of the trial of the day before, by name; empty if there was none."""
    before = day - dt.timedelta(days=1)
    if not warehouse.exists("metrics", day=before, stage="evaluation"):
        return {}
    rows = warehouse.read("metrics", day=before, stage="evaluation").to_pylist()
    return {
        row["name"]: row["value"]
        for row in rows
        if (row["metric"], row["slice"]) == (metric, "all")
    }
