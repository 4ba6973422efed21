"""What nights have measured of the arrival days, and judged."""

import datetime as dt
from collections.abc import Collection

import pyarrow as pa

from microrec.evaluation.arrivals import Config
from microrec.pipeline.night import Night

STAGE = FIT = "arrivals"
"""Stage of the rows of `metrics`, fit of the rows of `gate_results`."""
EVENTS = "events"
"""Stage of the night's own counts."""


def accepted_days(night: Night, *, before: dt.date, config: Config) -> list[dt.date]:
    """Return the arrival days before a day that were accepted, ascending, as far back as any gate looks.

    Args:
        night: has the warehouse.
        before: day before which they lie.
        config: how far back gates look.
    """
    committed = {
        dt.date.fromisoformat(values["day"])
        for values in night.warehouse.partitions("metrics")
        if values["stage"] == STAGE and values["day"] is not None
    }
    back = max(config.trailing_days, config.returning_days)
    return sorted(day for day in committed if 0 < (before - day).days <= back)


def write(night: Night, figures: pa.Table, counts: pa.Table, *, days: Collection[dt.date]) -> None:
    """Commit figures of the arrival days and counts of the night at once.

    Args:
        night: says which day.
        figures: rows of `metrics`, of stage arrivals.
        counts: rows of `metrics` without day and stage, of the night and stage events.
        days: arrival days of the figures.
    """
    n = counts.num_rows
    of_night = counts.append_column("day", pa.repeat(pa.scalar(night.day), n)).append_column(
        "stage", pa.repeat(pa.scalar(EVENTS), n)
    )
    rows = pa.concat_tables([figures, of_night.select(figures.schema.names).cast(figures.schema)])
    replaced = [{"day": day, "stage": STAGE} for day in days]
    replaced.append({"day": night.day, "stage": EVENTS})
    night.warehouse.write("metrics", rows, replace=replaced)


def gate_detail(night: Night, gate: str) -> str:
    """Return what a gate has said of what arrived, in words; nothing if the day was validated before there were gates.

    Args:
        night: says which day.
        gate: its name.
    """
    if not night.exists("gate_results", fit=FIT):
        return ""
    results = night.read("gate_results", fit=FIT).to_pylist()
    return "; ".join(row["detail"] for row in results if row["gate"] == gate)
