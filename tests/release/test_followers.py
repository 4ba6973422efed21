"""Consumers that follow a result table by Delta alone, without our reader, while people are erased and pins move."""

import contextlib
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from microrec.pipeline import erasing
from microrec.pipeline.night import Night
from microrec.privacy import erasure
from microrec.tables.arrow import Warehouse
from microrec.tables.commit import Table
from tests.release import readers
from tests.worlds import people
from tests.worlds.people import DAYS, GONE, HELD_AGAIN

TABLE = "recommendations"
Row = tuple[Any, ...]


@pytest.fixture(params=[False, True], ids=["", "log of before"])
def root(request: pytest.FixtureRequest, place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A warehouse with two people in it; or one whose log has bounds of rows, which an erasure cuts off."""
    with people.bounds_in_log() if request.param else contextlib.nullcontext():
        return people.erasable(place, monkeypatch).root


def by_deltalake(root: str, version: int | None = None) -> list[Row]:
    rows = DeltaTable(f"{root}/{TABLE}", version=version).to_pyarrow_table()
    return plain(rows.select(["day", "user_id", "rank", "video_id"]).to_pylist())


def by_polars(root: str, version: int | None = None) -> list[Row]:
    rows = pl.read_delta(f"{root}/{TABLE}", version=version)
    return plain(rows.select("day", "user_id", "rank", "video_id").to_dicts())


def by_duckdb(root: str, version: int | None = None) -> list[Row]:
    dataset = DeltaTable(f"{root}/{TABLE}", version=version).to_pyarrow_dataset()
    rows = duckdb.sql("SELECT day, user_id, rank, video_id FROM dataset")
    assert dataset
    return plain(rows.to_arrow_table().to_pylist())


def plain(rows: list[dict[str, Any]]) -> list[Row]:
    return sorted(tuple(row.values()) for row in rows)


READERS = {"deltalake": by_deltalake, "polars": by_polars, "duckdb": by_duckdb}


def of_others(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row[1] not in GONE]


def apart(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of the day whose release pins an earlier run, and of the other days."""
    return (
        [row for row in rows if row[0] == HELD_AGAIN],
        [row for row in rows if row[0] != HELD_AGAIN],
    )


@pytest.mark.parametrize("engine", READERS)
def test_versions_of_an_erasure_have_others_rows_and_are_named_by_their_commits(
    engine: str, root: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one of them a day has the rows of the run that its release pins; the last is as the first was."""
    read = READERS[engine]
    before, first = read(root), DeltaTable(f"{root}/{TABLE}").version()
    assert {row[1] for row in before} > {*GONE}
    released, _ = apart(read(root, pin(root, HELD_AGAIN)))
    seen: dict[int, list[Row]] = {}
    exchange = Table.exchange

    def followed(table: Table, *given: Any, **named: Any) -> int:
        version = exchange(table, *given, **named)
        if table.contract.table == TABLE:
            seen[version] = read(root)
        return version

    monkeypatch.setattr(Table, "exchange", followed)
    assert erasing.erase_due(Night.open(DAYS[-1]), str(place / "landing"))
    own, rest = apart(of_others(before))
    assert sorted(seen) == list(range(first + 1, first + 1 + len(seen)))
    for version, rows in seen.items():
        assert not {row[1] for row in rows} & {*GONE}, version
        assert apart(rows)[1] == rest, version
        assert apart(rows)[0] in (own, of_others(released)), version
    assert of_others(released) != own
    assert of_others(released) in [apart(rows)[0] for rows in seen.values()]
    assert read(root) == of_others(before)
    (receipt,) = {row["id"] for row in Warehouse.open(root).read("erasures").to_pylist()}
    named = {
        entry["version"]: entry.get("erasure") for entry in DeltaTable(f"{root}/{TABLE}").history()
    }
    # An erasure that cuts a log off leaves its last entries.
    left = {version for version in seen if version >= min(named)}
    assert {version for version, erasure in named.items() if erasure == receipt} == left
    assert max(seen) in left


@pytest.mark.parametrize("engine", READERS)
def test_versions_of_before_are_read_until_their_files_go_and_then_raise(
    engine: str, root: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumer that looks its version up again has the rows of before, but for those who were erased."""
    read = READERS[engine]
    pinned = {day: pin(root, day) for day in DAYS}
    rows = {day: [row for row in read(root, pinned[day]) if row[0] == day] for day in DAYS}
    in_grace: list[bool] = []

    def sleep(_: float) -> None:
        if not in_grace:
            for day in DAYS:
                same = [row for row in read(root, pinned[day]) if row[0] == day] == rows[day]
                in_grace.append(same)

    monkeypatch.setattr(erasure.time, "sleep", sleep)
    assert erasing.erase_due(Night.open(DAYS[-1]), str(place / "landing"))
    assert in_grace == [True] * len(DAYS)
    for day in DAYS:
        with pytest.raises((DeltaError, OSError, duckdb.Error, pl.exceptions.PolarsError)):
            read(root, pinned[day])
        again = [row for row in read(root, pin(root, day)) if row[0] == day]
        assert again == of_others(rows[day]), day


def pin(root: str, day: object) -> int:
    """The version that the release of a day pins, by the log of `releases` alone."""
    rows = DeltaTable(f"{root}/releases").to_pyarrow_table()
    (row,) = rows.filter(pc.equal(rows["day"], day)).to_pylist()
    return {each["table"]: int(each["version"]) for each in row["tables"]}[TABLE]


@pytest.mark.parametrize("engine", ["polars", "pandas", "duckdb"])
def test_code_of_the_page_reads_the_same_rows_of_others_across_a_move_of_pins(
    engine: str, root: str, place: Path
) -> None:
    before = readers.read(engine, root, TABLE)
    assert erasing.erase_due(Night.open(DAYS[-1]), str(place / "landing"))
    kept = [row for row in before if row["user_id"] not in GONE]
    assert readers.plain(readers.read(engine, root, TABLE)) == readers.plain(kept)
    assert 0 < len(kept) < len(before)
