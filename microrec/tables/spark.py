"""The warehouse as Spark sees it: the engine of the events and graphs jobs."""

import datetime as dt
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from microrec.errors import ContractViolation, MissingDay
from microrec.settings import settings
from microrec.tables import warehouse
from microrec.tables.commit import NULL_PARTITION, Scope, Table
from microrec.tables.warehouse import Part, words

logger = logging.getLogger(__name__)


def session() -> SparkSession:
    """The process's Spark session: UTC, no user interface, microsecond timestamps, driver on the loopback."""
    here = settings()
    # Spark asks the environment for these two: workers must be this interpreter, ports must be the loopback's.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    options = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": here.spark_driver_memory,
        "spark.driver.extraJavaOptions": here.spark_java_options,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(here.spark_shuffle_partitions),
        "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
        # Spark's own default is the deprecated INT96, which other readers take for nanoseconds.
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # An attempt's folder is new and read by nobody: no success marker, no two-step rename.
        "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
        "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
    }
    builder = SparkSession.builder.appName("microrec").master(here.spark_master)
    for name, value in options.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    logging.getLogger("py4j").setLevel(logging.WARNING)
    return spark


@dataclass(frozen=True)
class Warehouse(warehouse.Warehouse[DataFrame]):
    """Read and write tables as Spark `DataFrame`."""

    @property
    def session(self) -> SparkSession:
        """The Spark session the frames live in."""
        return session()

    def read(self, table: str, *, version: int | None = None, **partition: object) -> DataFrame:
        """Rows of a partition at a pinned version, columns and types as declared, never inferred.

        Raises:
            MissingDay: nobody committed the partition.
        """
        snapshot = self.snapshot(table, version=version, **partition)
        logger.info(
            "read table=%s %s version=%d",
            table,
            words(partition),
            snapshot.version,
        )
        return self._scan(table, snapshot.parts)

    def _scan(self, table: str, parts: Sequence[Part]) -> DataFrame:
        """One scan of the files of all parts, their partition values taken from the files' own paths.

        A union of one scan per part would do too, but a window of events has some twenty parts and planning them
        costs Spark seconds (7.3 s against 0.9 s for the planted world's window).
        """
        contract = self.table(table).contract
        files = [file for values, files in parts for file in _checked(values, files)]
        stored = self.session.read.schema(from_arrow_schema(contract.file_schema)).parquet(*files)
        declared = from_arrow_schema(contract.schema)
        path = F.col("_metadata.file_path")
        values = {
            name: F.nullif(F.regexp_extract(path, f"/{name}=([^/]+)/", 1), F.lit(NULL_PARTITION))
            .cast(declared[name].dataType)
            .alias(name)
            for name in contract.partition
        }
        return stored.select([values.get(name, F.col(name)) for name in contract.schema.names])

    def read_events(self, *, day: dt.date, days: int) -> DataFrame:
        """The one reader of events: the window that ends at `day`, as it was known by the end of `day`.

        Rows that arrived after `day` are not seen, so a night that is run again sees what it saw. Users suppressed as
        of `day` (opted out, erased) are left out.

        Raises:
            MissingDay: `day` itself was not validated, or its suppressed users were not written.
        """
        first = day - dt.timedelta(days=days - 1)
        if not self.exists("rejected_events", day=day):
            raise MissingDay(f"events[arrived_on={day}]: the day was not validated")
        parts = self._event_parts(first, day)
        if not parts:
            raise MissingDay(f"events[{first}..{day}]: no event day of the window is committed")
        logger.info("read table=events first_day=%s last_day=%s parts=%d", first, day, len(parts))
        suppressed = self.read("suppressed_users", day=day).select("user_id")
        events = self._scan("events", parts)
        return events.join(F.broadcast(suppressed), on="user_id", how="left_anti")

    def _event_parts(self, first: dt.date, last: dt.date) -> list[Part]:
        if not self.partitions("events"):
            return []
        parts = self.snapshot("events").parts
        return [
            (values, files)
            for values, files in parts
            if values["day"] is not None
            and values["arrived_on"] is not None
            and str(first) <= values["day"] <= str(last)
            and values["arrived_on"] <= str(last)
        ]

    def _schema(self, rows: DataFrame) -> pa.Schema:
        return to_arrow_schema(rows.schema)

    def _stage(self, opened: Table, folder: str, rows: DataFrame, constants: Scope) -> None:
        partition = [
            F.lit(constants[name]).alias(name) if name in constants else F.col(name)
            for name in opened.contract.partition
        ]
        complete = rows.select(*partition, *opened.contract.file_schema.names)
        complete.write.partitionBy(*opened.contract.partition).parquet(f"{opened.uri}/{folder}")


def _checked(values: Mapping[str, str | None], files: Sequence[str]) -> Sequence[str]:
    """The files, after checking that their paths say the partition values the log says."""
    words = [f"/{name}={quote(value or NULL_PARTITION)}/" for name, value in values.items()]
    for file in files:
        missing = [word for word in words if word not in file]
        if missing or "%" in "".join(words):
            raise ContractViolation(f"{file}: the path does not hold the partition values {words}")
    return files
