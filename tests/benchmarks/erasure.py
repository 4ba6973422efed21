"""What an erasure costs on the tables of a real night: `python -m tests.benchmarks.erasure --night DIR --out DIR`.

`--night` names a warehouse in which the whole recipe has run for one day (`microrec import kuairand`, `microrec night
--day 2022-05-05`); it is only read. Of it a warehouse of more nights is made, in another folder: each further night has
a copy of every file of the real night's tables, of its models and of its release, under its own day and in commits of
its own, so that a table has as many versions as nights and each release pins one. Of events and their aggregates a new
night has one of the real days, in turn. A table has as many nights as the recipe's [retention] leaves it, so the
warehouse is the one that `microrec prune` would have left.

Measured are a read of the last release with and without a hundredth of the users suppressed, in turn; the erasure of
one user, and of many together, drawn at random; and after that the search for all of them (`microrec prove-erasure`),
which has to find nothing, and whether each release has the rows it pins.
"""

import argparse
import datetime as dt
import logging
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from microrec.config import recipe
from microrec.config.settings import settings
from microrec.pipeline import kept_days
from microrec.privacy import erasure, proof
from microrec.privacy.quotes import Ids
from microrec.privacy.receipts import Request
from microrec.privacy.subjects import Subjects
from microrec.release import reader, retention
from microrec.tables import layout
from microrec.tables.arrow import Warehouse
from microrec.tables.commit import as_scope
from tests.benchmarks import people, report
from tests.worlds.releases import UNTIL

logger = logging.getLogger(__name__)

BENCHMARK = "erasure"
BY_ARRIVAL = ("events", "daily_watches")
"""Tables of which a night has the events of one arrival day."""
APART = ("releases", "models")
"""Tables whose rows name the night they are of."""
ARTEFACTS = "artefacts"
SEED = 22
MB = 2**20


def kept_nights(table: str, nights: int) -> int:
    """Return of how many of the last nights a table has rows, as the recipe says.

    Args:
        table: name of the table.
        nights: number of nights.
    """
    current = recipe.current()
    config = current.section("retention", retention.Config)
    for group, tables in retention.GROUPS.items():
        if table in tables:
            floor = kept_days.floors(current).get(group, 0) + config.again
            days: int = getattr(config, group)
            return min(nights, max(days, floor))
    return nights


def make(night: Path, root: Path, nights: int) -> Warehouse:
    """Copy a warehouse of one night, and add nights to the copy.

    Args:
        night: folder of the warehouse of one night.
        root: folder to make.
        nights: number of nights.
    """
    shutil.copytree(night, root)
    warehouse = Warehouse.open(str(root))
    (first,) = reader.every(str(root))
    sources = {name: warehouse.table(name).files() for name in warehouse.tables()}
    for number in range(1, nights):
        day = first.day + dt.timedelta(days=number)
        for name, files in sources.items():
            if name not in APART and nights - number <= kept_nights(name, nights):
                copy(warehouse, name, source(name, files, first.day, number), day)
        if nights - number <= kept_nights("models", nights):
            copy_models(warehouse, first.day, day)
        publish(warehouse, first.day, day)
        logger.info("night %s", day)
    return warehouse


def source(
    table: str, files: dict[str, dict[str, str | None]], first: dt.date, number: int
) -> list[str]:
    """Return the files that a further night copies.

    Args:
        table: name of the table.
        files: partition values by path.
        first: day of the real night.
        number: of the further night, from 1.
    """
    if table not in BY_ARRIVAL or not files:
        return [path for path, values in files.items() if values["day"] == str(first)]
    days = sorted({str(values["day"]) for values in files.values()})
    day = days[number % len(days)]
    return [path for path, values in files.items() if values["day"] == values["arrived_on"] == day]


def copy(warehouse: Warehouse, table: str, paths: Sequence[str], day: dt.date) -> None:
    """Commit copies of some files as a day's."""
    opened = warehouse.table(table)
    folder = opened.attempt_folder(warehouse.author)
    files = opened.files()
    scopes = {}
    for number, path in enumerate(paths):
        moved = {"arrived_on": str(day)} if table in BY_ARRIVAL else {}
        scope = as_scope({**files[path], "day": day, **moved})
        scopes[str(scope)] = scope
        target = Path(opened.uri, folder, layout.branch(scope), f"part-{number}.parquet")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(opened.uri, path), target)
    if scopes:
        words = list(scopes.values())
        opened.commit(opened.collect(folder, words), words, warehouse.author)


def copy_models(warehouse: Warehouse, first: dt.date, day: dt.date) -> None:
    """Copy the models of a day, files and rows."""
    opened = warehouse.table("models")
    shutil.copytree(
        Path(warehouse.root, ARTEFACTS, f"day={first}"), Path(warehouse.root, ARTEFACTS, f"day={day}")
    )  # fmt: skip
    rows = warehouse.read("models", day=first)
    paths = [path.replace(f"day={first}", f"day={day}") for path in rows["path"].to_pylist()]
    place = rows.schema.get_field_index("path")
    moved = rows.set_column(place, "path", pa.array(paths, pa.string())).drop_columns("day")
    keys = [name for name in opened.contract.partition if name != "day"]
    scopes = moved.select(keys).group_by(keys).aggregate([]).to_pylist()
    warehouse.write("models", moved, replace=scopes, day=day)


def publish(warehouse: Warehouse, first: dt.date, day: dt.date) -> None:
    """Write the release of a day, which pins the versions of now."""
    (row,) = warehouse.read("releases", day=first).drop_columns("day").to_pylist()
    for pin in row["tables"]:
        pin["version"] = warehouse.version(pin["table"])
        pin["digest"] = warehouse.digest(pin["table"], day=day)
    schema = warehouse.table("releases").contract.schema
    plain = pa.schema([pa.field(each.name, each.type) for each in schema if each.name != "day"])
    warehouse.write("releases", pa.Table.from_pylist([row], schema=plain), day=day)


@contextmanager
def measured(name: str, rows: list[report.Row]) -> Iterator[None]:
    """Add wall and CPU seconds, of this process and of those it has started."""
    began, cpu = time.monotonic(), cpu_seconds()
    yield
    for metric, value in (("wall", time.monotonic() - began), ("CPU", cpu_seconds() - cpu)):
        rows.append(report.row(BENCHMARK, name, metric, "s", value, unit="s", seeds=1))


def cpu_seconds() -> float:
    """CPU seconds of this process and its children so far."""
    each = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in each)


def erase(warehouse: Warehouse, ids: Sequence[str]) -> list[report.Row]:
    """Erase people, and return what it cost.

    Args:
        warehouse: that they are erased from.
        ids: theirs.

    Returns:
        Rows of results: seconds, and by table the files, rows and bytes written again.
    """
    name = f"erase {len(ids)}"
    rows: list[report.Row] = []
    before = folder_bytes(Path(warehouse.root, ARTEFACTS))
    with measured(name, rows):
        tallies = erasure.erase(
            warehouse,
            [Request(user_id, UNTIL) for user_id in ids],
            subject_of=Subjects.open(warehouse.root).of,
            config=erasure.Config(grace_seconds=0, abandoned_hours=0),
            authors_are_users=False,
        )
    figures = {
        "rewritten": sum(each.bytes for each in tallies) / MB,
        "models deleted": (before - folder_bytes(Path(warehouse.root, ARTEFACTS))) / MB,
    }
    for metric, value in figures.items():
        rows.append(report.row(BENCHMARK, name, metric, "all", value, unit="MB", seeds=1))
    for tally in sorted(filter(lambda tally: tally.files, tallies), key=lambda tally: -tally.bytes):
        of_table = {
            "files": (len(tally.files), ""),
            "rows": (tally.rows, ""),
            "rewritten": (tally.bytes / MB, "MB"),
        }
        for metric, (value, unit) in of_table.items():
            rows.append(report.row(BENCHMARK, name, metric, tally.table, value, unit=unit, seeds=1))
    return rows


def folder_bytes(folder: Path) -> int:
    """Bytes of the files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def prove(warehouse: Warehouse, ids: Sequence[str]) -> list[report.Row]:
    """Search for people who were erased, and read every release.

    Args:
        warehouse: that they were erased from.
        ids: theirs.

    Returns:
        Rows of results: seconds, files, hits, releases that have the rows they pin.
    """
    looked_for = Ids(ids)
    others = proof.namesakes(warehouse, looked_for, authors_are_users=False)
    scan = proof.Scan(looked_for, warehouse.schemas, namesakes=others, authors_are_users=False)
    rows: list[report.Row] = []
    with measured("prove", rows):
        scan.folder(Path(warehouse.root))
    logger.info("hits: %s", dict(scan.hits))
    releases = reader.every(warehouse.root)
    for release in releases:
        release.verify()
    figures = {
        "files": scan.n_files,
        "hits": sum(scan.hits.values()),
        "releases": len(releases),
    }
    for metric, value in figures.items():
        rows.append(report.row(BENCHMARK, "prove", metric, "all", value, unit="", seeds=1))
    return rows


def run(night: Path, place: Path, *, nights: int, many: int) -> list[report.Row]:
    """Make the warehouse and measure.

    Args:
        night: folder of the warehouse of one night.
        place: an empty folder.
        nights: number of nights.
        many: people who are erased together, after one alone.

    Returns:
        Rows of results.
    """
    warehouse = make(night, place / "warehouse", nights)
    (last,) = reader.every(warehouse.root)[-1:]
    users = sorted(warehouse.read("users", day=last.day)["user_id"].to_pylist())
    sizes = {
        "warehouse": folder_bytes(Path(warehouse.root)),
        "of it models": folder_bytes(Path(warehouse.root, ARTEFACTS)),
    }
    rows = [
        report.row(BENCHMARK, name, "size", "all", size / MB, unit="MB", seeds=1)
        for name, size in sizes.items()
    ]
    rows += people.reads(warehouse, last.day, users)
    drawn = np.random.default_rng(SEED).permutation(len(users))[: many + 1]
    asking = [users[user] for user in drawn]
    people.suppress(warehouse, last.day, asking, kind="erase")
    rows += erase(warehouse, asking[:1])
    logger.info("one erased: %s", rows[-1])
    rows += erase(warehouse, asking[1:])
    return [*rows, *prove(warehouse, asking)]


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--night", type=Path, required=True, help="warehouse of one real night")
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--many", type=int, default=1_000, help="people erased together")
    parser.add_argument("--place", type=Path, help="folder for the warehouse; a temporary one")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    logger.setLevel(logging.INFO)
    logging.getLogger("microrec.privacy").setLevel(logging.INFO)
    os.environ.setdefault("MICROREC_PRIVACY_KEY", "a key of the benchmark")
    settings.cache_clear()
    with tempfile.TemporaryDirectory(prefix="microrec-erasure-", dir=arguments.place) as place:
        rows = run(arguments.night, Path(place), nights=arguments.nights, many=arguments.many)
    report.write(rows, arguments.out)


if __name__ == "__main__":
    main()
