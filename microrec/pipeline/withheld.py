"""Which delivered lines may not be stored: those of people who have withdrawn, by id or by what is left of it."""

import re
from collections.abc import Collection
from typing import Any, Self

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType

from microrec.events import consent
from microrec.pipeline import requests
from microrec.pipeline.night import Night
from microrec.privacy.ledger import ERASE
from microrec.privacy.people import SAID_BY_AUTHOR
from microrec.privacy.subjects import Subjects
from microrec.tables.spark import Warehouse

SCHEMA = "user_id string, periods array<struct<since: timestamp, until: timestamp>>"
WORDS = re.compile(r"""[^\s,"'{}\[\]:]+""")
QUOTED = re.compile(r'"([^"]*)"')


class Withheld:
    """The people whose lines may not be stored, as of when it was made."""

    @classmethod
    def as_of_now(cls, night: Night, warehouse: Warehouse) -> Self:
        """Fold the requests that have arrived (`requests.fold`), and read who has withdrawn.

        Args:
            night: whose warehouse, recipe and day are meant.
            warehouse: Spark's view of the warehouse.

        Raises:
            LandingError: a file of requests cannot be read.
            BadArgument: the ledger was made with another key.
        """
        requests.fold(night)
        return cls(night, warehouse)

    def __init__(self, night: Night, warehouse: Warehouse) -> None:
        """Read who has withdrawn.

        Args:
            night: its warehouse has what `requests.fold` wrote.
            warehouse: Spark's view of it.
        """
        self._session = warehouse.session
        self._named = _named(night)
        self._authors_are_users = night.config.authors_are_users
        self._nameless = requests.subjects_without_name(night)
        self._subjects = Subjects.open(night.warehouse.root)

    def mark(self, judged: DataFrame) -> DataFrame:
        """Refuse the viewings of people who have withdrawn, see `consent.withhold`.

        Args:
            judged: `rules.judge`, one row per delivered line.

        Returns:
            The same rows; those that must not be stored have the rule `withheld`.
        """
        periods = dict(self._named)
        if self._nameless:
            ids = (
                judged.select("user_id")
                .distinct()
                .where(self._is_of(F.col("user_id"), self._nameless))
            )
            for (user_id,) in ids.collect():
                periods[user_id] = [
                    (period.since, period.until)
                    for period in self._nameless[self._subjects.of(user_id)]
                ]
        if not periods:
            return judged
        rows = self._session.createDataFrame(sorted(periods.items()), SCHEMA)
        return consent.withhold(judged, rows)

    def without_erased(self, rejected: DataFrame) -> DataFrame:
        """Leave out refused rows that name somebody who was erased.

        Args:
            rejected: rows of `rejected_rows`; by their user_id where it can be read, and by all that may be an id in
                the line.

        Returns:
            The other rows.
        """
        if not self._nameless:
            return rejected
        is_read = self._is_of(F.col("user_id"), self._nameless)
        return rejected.where(~is_read & ~self._is_named(F.col("line")))

    def without_authors(self, rows: DataFrame) -> DataFrame:
        """Take down the uploads of people who were erased, where an author is a user: nothing else of them stays.

        Args:
            rows: of `videos`, or of another table of the catalogue, which is returned as it is.

        Returns:
            The same rows; an upload of theirs is not eligible and has no author, caption and tags.
        """
        erased = [
            subject for subject, periods in self._nameless.items() if periods[-1].kind == ERASE
        ]
        if "author_id" not in rows.columns or not (self._authors_are_users and erased):
            return rows
        authors = rows.select("author_id").dropna().distinct()
        theirs = authors.where(self._is_of(F.col("author_id"), erased))
        marked = rows.join(
            F.broadcast(theirs.withColumn("_erased", F.lit(True))), on="author_id", how="left"
        )
        stays = F.col("_erased").isNull()
        kept = {name: F.when(stays, F.col(name)).alias(name) for name in SAID_BY_AUTHOR}
        kept["eligible"] = (F.col("eligible") & stays).alias("eligible")
        return marked.select([kept.get(name, F.col(name)) for name in rows.columns])

    def _is_of(self, user_id: Column, wanted: Collection[str]) -> Column:
        """Whether an id is that of one of some subjects."""
        subjects, looked_for = self._subjects, frozenset(wanted)

        def is_of(value: str | None) -> bool:
            return value is not None and subjects.of(value) in looked_for

        return F.udf(is_of, BooleanType(), useArrow=False)(user_id)

    def _is_named(self, line: Column) -> Column:
        """Whether a word, a quoted text or a field of a line is the id of somebody without a name."""
        subjects, looked_for = self._subjects, frozenset(self._nameless)

        def is_named(value: str) -> bool:
            return any(subjects.of(text) in looked_for for text in texts(value))

        return F.udf(is_named, BooleanType(), useArrow=False)(line)


def texts(line: str) -> set[str]:
    """Return all that may be an id in a line that cannot be read: its words, its quoted texts, its fields."""
    fields = (field.strip() for field in line.split(","))
    return {*WORDS.findall(line), *QUOTED.findall(line), *fields}


def _named(night: Night) -> dict[str, list[tuple[Any, Any]]]:
    """Periods by id, of people whose id is known."""
    periods: dict[str, list[tuple[Any, Any]]] = {}
    for row in night.suppressed().to_pylist():
        since = None if row["kind"] == ERASE else row["requested_at"]
        periods.setdefault(row["user_id"], []).append((since, None))
    last = night.warehouse.last_day(requests.WITHHELD)
    if last is not None:
        for row in night.warehouse.read(requests.WITHHELD, day=last).to_pylist():
            periods.setdefault(row["user_id"], []).append((row["since"], row["until"]))
    return periods
