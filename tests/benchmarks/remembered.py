"""How `remembered_videos` grows: `python -m tests.benchmarks.remembered --night DIR --out DIR`.

`--night` names a warehouse in which a night has run on the KuaiRand-Pure files (`microrec import kuairand`, `microrec
night --day 2022-05-05`); it is only read. First the days of the log leave a window of one day, one after the other, as
nights would have them leave. Then they leave again and again, each time as viewings of other videos: what a service
would see whose users go on as they did and are shown nothing twice, the most that can come to be remembered. Rows are
made and written by the night's own code; bytes are those of the files of a night.
"""

import argparse
import datetime as dt
import logging
import tempfile
from pathlib import Path

import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from microrec.graphs.watch import memory
from microrec.pipeline.memory import TABLE, WATCHES
from microrec.tables import arrow, spark
from tests.benchmarks import report

logger = logging.getLogger(__name__)

BENCHMARK = "remembered"
ROUNDS = (4, 10, 20, 40)
"""After how many times the log to look."""


def watches(night: spark.Warehouse, *, number: int, n_days: int) -> DataFrame:
    """Return the aggregates of the whole log, days later and of other videos.

    Args:
        night: has the log.
        number: of times that the log has been before.
        n_days: days of the log.
    """
    parts = night.partitions(WATCHES)
    arrivals = [(_date(part["day"]), _date(part["arrived_on"])) for part in parts]
    rows = night.read_arrivals(WATCHES, arrivals)
    if not number:
        return rows
    renamed = F.concat(F.col("video_id"), F.lit(f"-{number}"))
    later = F.date_add(F.col("day"), number * n_days)
    return rows.withColumn("video_id", renamed).withColumn("day", later)


def _date(day: str | None) -> dt.date:
    return dt.date.fromisoformat(str(day))


def remember(warehouse: spark.Warehouse, left: DataFrame, day: dt.date) -> list[report.Row]:
    """Write what is remembered once some days have left, and return how much it is.

    Args:
        warehouse: has what was remembered, or nothing.
        left: rows of `daily_watches` of the days.
        day: the night's.
    """
    last = warehouse.last_day(TABLE)
    before = warehouse.read_arrivals(WATCHES, []).withColumnRenamed("undone", "disliked")
    before = before.withColumnRenamed("day", "last_on")
    if last is not None:
        before = warehouse.read(TABLE, day=last).drop("day")
    rows = memory.remembered(before, left, day=day, config=memory.Config())
    warehouse.write(TABLE, rows, day=day)
    return figures(arrow.Warehouse.open(warehouse.root), day)


def figures(warehouse: arrow.Warehouse, day: dt.date) -> list[report.Row]:
    """Rows of how much a night remembers."""
    files = [path for _, paths in warehouse.snapshot(TABLE, day=day).parts for path in paths]
    of_user = pc.value_counts(warehouse.read(TABLE, day=day)["user_id"].combine_chunks())
    counts = of_user.field("counts")
    n_rows = pc.sum(counts).as_py() or 0
    size = sum(Path(path).stat().st_size for path in files)
    values = {
        "rows": (n_rows, ""),
        "users": (len(counts), ""),
        "rows of a user, median": (pc.approximate_median(counts).as_py(), ""),
        "rows of a user, most": (pc.max(counts).as_py(), ""),
        "size": (size / 2**20, "MB"),
        "a row": (size / max(n_rows, 1), "B"),
    }
    return [
        report.row(BENCHMARK, f"night {day}", metric, TABLE, value, unit=unit, seeds=1)
        for metric, (value, unit) in values.items()
    ]


def run(night: str, root: str, rounds: tuple[int, ...] = ROUNDS) -> list[report.Row]:
    """Let days leave, and measure.

    Args:
        night: root of the warehouse with the log.
        root: of a new warehouse.
        rounds: after how many times the log to look, ascending.

    Returns:
        Rows of results.
    """
    source, target = spark.Warehouse.open(night), spark.Warehouse.open(root)
    log = watches(source, number=0, n_days=0).cache()
    days = sorted(row.day for row in log.select("day").distinct().collect())
    n_days = (days[-1] - days[0]).days + 1
    rows = []
    for day in days:
        rows += remember(target, log.where(F.col("day") == day), day + dt.timedelta(days=1))
        logger.info("%s: %s", day, rows[-6:])
    first = 1
    for last in rounds:
        left = [watches(source, number=number, n_days=n_days) for number in range(first, last)]
        together = left[0]
        for each in left[1:]:
            together = together.unionByName(each)
        rows += remember(target, together, days[0] + dt.timedelta(days=last * n_days))
        logger.info("%d times: %s", last, rows[-6:])
        first = last
    return rows


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--night", required=True, help="warehouse of one real night")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    logger.setLevel(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="microrec-remembered-") as root:
        rows = run(arguments.night, root)
    report.write(rows, arguments.out)


if __name__ == "__main__":
    main()
