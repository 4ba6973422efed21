"""The class archive: what Spark's JVM loads and checks at every start, done once per installation (`microrec warm`).

Java writes it when a process that has done a little of everything ends, and maps it at later starts. An archive of
another Java, or of jars that have changed since, is left aside by the JVM: without a word, and at the old speed.
"""

import datetime as dt
import logging
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark import SparkContext
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from microrec.config.settings import Settings
from microrec.spark.archive_path import archive_path
from microrec.spark.session import session

logger = logging.getLogger(__name__)


def build(here: Settings) -> Path | None:
    """Make the archive, in a process of its own, and put it in place by a rename.

    Returns:
        Its path; None if this Java made none.
    """
    target = archive_path(here)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".warm-") as folder:
        made = Path(folder) / target.name
        dump = f"-XX:ArchiveClassesAtExit={shlex.quote(str(made))} -Xlog:disable"
        environment = os.environ | {
            "MICROREC_SPARK_MASTER": "local[2]",
            "MICROREC_SPARK_OPTIONS": "{}",
            "MICROREC_SPARK_JAVA_OPTIONS": f"{here.spark_java_options} {dump}",
            "MICROREC_SPARK_ARCHIVE": str(made),
        }
        # Java archives no class path that has folders with files in it.
        for folders in ("SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR"):
            environment.pop(folders, None)
        command = [sys.executable, "-m", "microrec.spark.class_archive", folder]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not made.is_file():
            logger.warning("no class archive: %s", done.stderr.strip()[-500:])
            return None
        # Mapped archives keep the old file; a reader never meets half a new one.
        made.replace(target)
    return target


def rehearse(folder: Path) -> None:
    """Do a little of everything the jobs do, then end the JVM in good order, which is when it writes the archive."""
    spark = session()
    lines = [
        f'{{"user": "u{n % 7}", "at": "2026-01-04T00:00:0{n % 9}Z", "ms": "{n}"}}'
        for n in range(99)
    ]
    (folder / "lines.jsonl").write_text("\n".join(lines))
    _jobs(spark.read.text(str(folder / "lines.jsonl")), folder)
    gateway: Any = SparkContext._gateway
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait(timeout=120)


def _jobs(lines: DataFrame, folder: Path) -> None:
    """Parse, judge, group, rank, join, map, and write and read back, as the jobs do."""
    spark = lines.sparkSession
    schema = "record struct<user string, at string, ms string>, broken string"
    text = F.concat(F.lit('{"record":'), "value", F.lit("}"))
    parsed = F.from_json(text, schema, {"columnNameOfCorruptRecord": "broken"})
    record = lines.select(parsed.alias("p"), "_metadata.file_path").select(
        "p.record.*", "file_path"
    )
    events = record.select(
        F.regexp_replace("user", "^u", "").try_cast("int").alias("user"),
        F.col("at").try_cast("timestamp").alias("at"),
        F.when(F.col("ms").rlike(r"^\d+$"), F.col("ms").try_cast("bigint")).alias("ms"),
        F.sha2("file_path", 256).alias("file"),
    ).persist()
    latest = Window.partitionBy("user").orderBy(F.col("at").desc(), "ms")
    ranked = events.withColumn("rank", F.row_number().over(latest)).where("rank <= 50")
    sums = events.groupBy("user").agg(
        F.sum("ms").alias("total"), F.max("at").alias("last"), F.count_distinct("ms").alias("n"),
        F.array_sort(F.collect_list(F.struct("at", "ms"))).alias("history"),
    )  # fmt: skip
    joined = ranked.join(F.broadcast(sums.select("user", "total")), on="user", how="inner")
    joined = joined.join(sums.drop("total"), on="user").union(
        joined.join(sums.drop("total"), on="user")
    )
    passed = joined.drop("history").mapInArrow(_same, joined.drop("history").schema)
    day = passed.withColumn("day", F.to_date("at")).hint("rebalance", "day")
    kept = day.sortWithinPartitions("day", "user").write.partitionBy("day")
    kept.parquet(str(folder / "kept"))
    back = spark.read.schema("user int, total bigint").parquet(
        str(folder / "kept" / "day=2026-01-04")
    )
    back.groupBy("user").applyInArrow(_first, back.schema).orderBy("user").toPandas()
    sums.withColumn("vector", F.array(F.lit(1.0).cast("float"))).write.parquet(str(folder / "sums"))
    rows = spark.createDataFrame(
        [(dt.date(2026, 1, 4), "a", 0.5)], "day date, name string, value double"
    )
    rows.union(spark.createDataFrame(rows.toArrow())).exceptAll(rows).count()
    events.join(rows, events["file"] == rows["name"], how="left_anti").repartition(
        3, "user"
    ).collect()
    events.unpersist()


def _same(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches


def _first(rows: pa.Table) -> pa.Table:
    return rows.slice(0, 1)


if __name__ == "__main__":
    rehearse(Path(sys.argv[1]))
