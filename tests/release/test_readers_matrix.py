"""Every result table at its pinned version, by the code that consumers are given to copy."""

import datetime as dt
from pathlib import Path

import pytest

from microrec.release import reader
from microrec.tables.arrow import Warehouse
from tests.release import readers

DAY = dt.date(2026, 1, 7)


@pytest.mark.parametrize("engine", ["polars", "pandas", "duckdb"])
def test_result_tables_read_at_their_pinned_versions_are_those_of_the_release(
    engine: str, place: Path
) -> None:
    readers.publish(Warehouse.open(), DAY)
    for table in reader.RESULTS:
        rows = readers.plain(readers.read(engine, place / "warehouse", table))
        assert rows == readers.plain(reader.of(DAY).read(table).to_pylist()), table
        assert rows
        assert not [row for row in rows if "of no release" in row]
