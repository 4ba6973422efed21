"""The warehouse as Spark sees it: the engine of the events and graphs jobs.

A warehouse in S3 needs what pyspark's wheel does not have: `org.apache.hadoop:hadoop-aws` of the Hadoop that it ships
(3.4.2 in pyspark 4.1) with the AWS SDK it asks for (`software.amazon.awssdk:bundle`). In MICROREC_SPARK_OPTIONS:

    {"spark.jars.packages": "org.apache.hadoop:hadoop-aws:3.4.2"}

or `spark.jars` with both files where no repository can be reached; `spark.hadoop.fs.s3a.endpoint`,
`.endpoint.region` and `.path.style.access` for a store other than Amazon's. Credentials are best left to the
environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, an instance's role), which deltalake reads too; as
`spark.hadoop.fs.s3a.access.key` and `.secret.key` they are kept from the JVM's command line. Google's needs
`gcs-connector`, Azure's `hadoop-azure` of the same version. `s3://` becomes `s3a://` here; the log, the audit and all
other engines go through deltalake with MICROREC_STORAGE_OPTIONS. `fileoutputcommitter` 2 is safe there: an attempt's
folder is read by nobody, and the log names only the files of a write that ended.
"""

import datetime as dt
import functools
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from microrec.errors import ContractViolation, MissingDay
from microrec.spark.session import hadoop, literal
from microrec.spark.session import session as session
from microrec.tables import layout, traffic, warehouse
from microrec.tables.commit import Scope, Table
from microrec.tables.layout import NULL_PARTITION
from microrec.tables.warehouse import Part, fingerprint, words

logger = logging.getLogger(__name__)

UNITED = 4
"""So many parts are read by a scan each."""
Arrival = tuple[dt.date, dt.date]
"""An event day, and a day on which rows of it arrived."""


@dataclass(frozen=True)
class Window:
    """Rows of a window of event days, columns as their contract declares; a late row arrived after its event day."""

    settled: DataFrame | None
    """Event days without late rows; None if every event day has some."""
    reopened: DataFrame | None = None
    """Event days with late rows, all their rows; None if there is no such day."""
    late: DataFrame | None = None
    """The late rows alone; None together with `reopened`."""


@dataclass(frozen=True)
class Warehouse(warehouse.Warehouse[DataFrame]):
    """Read and write tables as Spark `DataFrame`."""

    @property
    def session(self) -> SparkSession:
        """The Spark session the frames live in."""
        return session()

    def read(self, table: str, *, version: int | None = None, **partition: object) -> DataFrame:
        """Read rows of a partition at a pinned version, columns and types as declared, never inferred.

        Args:
            table: name of the table.
            version: version of the table; the last one if left out.
            **partition: partition values; the whole table if none is named.

        Returns:
            Rows of `table`, at the grain of its contract.

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
        traffic.note_read(table, self.table(table).uri, snapshot.version, snapshot.rows)
        return self._scan(table, snapshot.parts)

    def _scan(self, table: str, parts: Sequence[Part]) -> DataFrame:
        """The parts' files, with the partition values as the constants they are, or else as their paths say.

        A few parts become a union of one scan each: constants cost nothing per row, and a filter by them leaves out
        whole files. A window of events has some twenty parts, and to plan so many would cost Spark seconds: those are
        read by one scan, which looks at every row's path.
        """
        if len(parts) > UNITED:
            return self._scan_files(table, parts)
        scans = [self._scan_files(table, [part]) for part in parts]
        return functools.reduce(DataFrame.unionByName, scans)

    def _scan_files(self, table: str, parts: Sequence[Part]) -> DataFrame:
        contract = self.table(table).contract
        files = [file for values, files in parts for file in _checked(values, files)]
        paths = [literal(hadoop(file)) for file in files]
        stored = self.session.read.schema(from_arrow_schema(contract.file_schema)).parquet(*paths)
        declared = from_arrow_schema(contract.schema)
        values = {
            name: _of_path(name, {values[name] for values, _ in parts})
            .cast(declared[name].dataType)
            .alias(name)
            for name in contract.partition
        }
        return stored.select([values.get(name, F.col(name)) for name in contract.schema.names])

    def read_window(self, table: str, *, day: dt.date, days: int) -> Window:
        """Read the rows of a window of event days that arrived by its last day, corrected ones too.

        Args:
            table: `events` or `daily_watches`, partitioned by event day and arrival day.
            day: last event day of the window, and last arrival day.
            days: event days of the window.

        Returns:
            Its rows, those of event days with late rows apart from the others.

        Raises:
            MissingDay: `day` itself was not validated, or no event day of the window is committed.
        """
        parts = self._window(table, day, days)
        late = [part for arrival, part in parts.items() if arrival[1] > arrival[0]]
        if not late:
            return Window(self._scan(table, list(parts.values())))
        reopened_days = {arrival[0] for arrival in parts if arrival[1] > arrival[0]}
        reopened = [part for (of, _), part in parts.items() if of in reopened_days]
        settled = [part for (of, _), part in parts.items() if of not in reopened_days]
        return Window(
            self._scan(table, settled) if settled else None,
            self._scan(table, reopened),
            self._scan(table, late),
        )

    def read_arrivals(self, table: str, arrivals: Collection[Arrival]) -> DataFrame:
        """Read exactly these partitions as they are stored: corrected rows and suppressed users too.

        Args:
            table: `events` or `daily_watches`.
            arrivals: event day and arrival day of each partition.

        Returns:
            Rows of `table`; none for partitions that are not committed.
        """
        parts = self._arrivals(table) if arrivals else {}
        wanted = [part for arrival, part in parts.items() if arrival in arrivals]
        if wanted:
            return self._scan(table, wanted)
        # Limit 0 tells the optimizer that there is nothing to plan for.
        schema = from_arrow_schema(self.table(table).contract.schema)
        return self.session.createDataFrame([], schema).limit(0)

    def arrivals(self, table: str, *, day: dt.date, days: int) -> dict[Arrival, str]:
        """Return the window's committed partitions that arrived by `day`, each with the fingerprint of its files.

        Args:
            table: `events` or `daily_watches`.
            day: last event day of the window, and last arrival day.
            days: event days of the window.

        Raises:
            MissingDay: `day` itself was not validated.
        """
        root = self.table(table).uri
        return {
            arrival: fingerprint(files, root)
            for arrival, (_, files) in self._known(table, day, days).items()
        }

    def arrivals_made_with(
        self, table: str, *, day: dt.date, days: int
    ) -> dict[Arrival, str | None]:
        """Return the partitions of `arrivals`, each with the digest it was last written with (see `made_with`).

        Args:
            table: `events` or `daily_watches`.
            day: last event day of the window, and last arrival day.
            days: event days of the window.

        Raises:
            MissingDay: as `arrivals`.
        """
        arrivals = list(self._known(table, day, days))
        scopes = [
            {"day": event_day, "arrived_on": arrived_on} for event_day, arrived_on in arrivals
        ]
        return dict(zip(arrivals, self.made_with_each(table, scopes), strict=True))

    def _window(self, table: str, day: dt.date, days: int) -> dict[Arrival, Part]:
        first = day - dt.timedelta(days=days - 1)
        parts = self._known(table, day, days)
        if not parts:
            raise MissingDay(f"{table}[{first}..{day}]: no event day of the window is committed")
        logger.info(
            "read table=%s first_day=%s last_day=%s parts=%d", table, first, day, len(parts)
        )
        traffic.note_read(table, self.table(table).uri, self.version(table), None)
        return parts

    def _known(self, table: str, day: dt.date, days: int) -> dict[Arrival, Part]:
        if not self.exists("rejected_rows", day=day, raw_table="raw_interactions"):
            raise MissingDay(f"events[arrived_on={day}]: the day was not validated")
        return {
            (event_day, arrived_on): part
            for (event_day, arrived_on), part in self._arrivals(table).items()
            if 0 <= (day - event_day).days < days and arrived_on <= day
        }

    def _arrivals(self, table: str) -> dict[Arrival, Part]:
        """The committed parts by event day and arrival day; the mark of an arrival day without rows is none."""
        parts = self.snapshot(table).parts if self.partitions(table) else ()
        return {
            (dt.date.fromisoformat(values["day"]), dt.date.fromisoformat(values["arrived_on"])): (
                values,
                files,
            )
            for values, files in parts
            if values["day"] is not None and values["arrived_on"] is not None
        }

    def _schema(self, rows: DataFrame) -> pa.Schema:
        return to_arrow_schema(rows.schema)

    def _stage(self, opened: Table, folder: str, rows: DataFrame, constants: Scope) -> None:
        """One shuffle brings the rows of a partition together, so that it becomes one sorted file.

        Adaptive execution sees to the sizes: small partitions share a task, and one above the advisory size is cut
        between the tasks its rows came from, so files of rows that came in ranges of the key hold ranges.
        """
        contract = opened.contract
        dynamic = [name for name in contract.partition if name not in constants]
        stored = rows.select(*dynamic, *contract.file_schema.names)
        # Constants are no columns here: to sort by one makes Spark forget the order of the others.
        together = stored.hint("rebalance", *dynamic) if dynamic else stored.hint("rebalance", 1)
        laid_out = together.sortWithinPartitions(*dynamic, *layout.order(contract))
        inside = layout.branch({n: constants[n] for n in contract.partition if n in constants})
        files = laid_out.write.option("parquet.block.row.count.limit", layout.ROW_GROUP)
        files.partitionBy(*dynamic).parquet(hadoop(f"{opened.uri}/{folder}/{inside}".rstrip("/")))


def _of_path(name: str, values: set[str | None]) -> Column:
    """A partition value: the one all files share, or what each row's file path says."""
    if len(values) == 1:
        return F.lit(values.pop())
    # Per row: a regular expression here took 80 % of the time of reading a table.
    after = F.substring_index(F.col("_metadata.file_path"), f"/{name}=", -1)
    return F.nullif(F.substring_index(after, "/", 1), F.lit(NULL_PARTITION))


def _checked(values: Mapping[str, str | None], files: Sequence[str]) -> Sequence[str]:
    """The files, after checking that their paths say the partition values the log says."""
    folders = [f"/{name}={quote(value or NULL_PARTITION)}/" for name, value in values.items()]
    for file in files:
        missing = [folder for folder in folders if folder not in file]
        if missing or "%" in "".join(folders):
            raise ContractViolation(
                f"{file}: the path does not hold the partition values {folders}"
            )
    return files
