"""What releases pin, and pins that move when a pinned version is rewritten.

A release keeps its id: it is made of the digests it was published with, which its row keeps from its first move on.
"""

import datetime as dt
import logging
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from microrec.errors import CommitConflict
from microrec.tables.arrow import Warehouse
from microrec.tables.commit import ERASURE, original

logger = logging.getLogger(__name__)

RELEASES = "releases"
TRIES = 5


def versions(warehouse: Warehouse, table: str) -> dict[str, int]:
    """Return by day the version of a table that the day's release pins; withdrawn releases count.

    Args:
        warehouse: has the releases.
        table: name of a result table, or of any other.
    """
    if not warehouse.partitions(RELEASES):
        return {}
    return {
        str(row["day"]): int(pin["version"])
        for row in warehouse.read(RELEASES, columns=["day", "tables"]).to_pylist()
        for pin in row["tables"]
        if pin["table"] == table
    }


def move(warehouse: Warehouse, table: str, moved: Mapping[str, int], erasure: str) -> None:
    """Have the releases of some days pin other versions of a table, in one commit.

    Args:
        warehouse: has the releases.
        table: whose versions they are.
        moved: by day the version it pins from now on.
        erasure: id of the erasure that the versions are of.

    Raises:
        CommitConflict: the releases were changed again and again meanwhile.
    """
    opened = warehouse.table(RELEASES)
    store, root = opened.filesystem()
    for tries in range(TRIES, 0, -1):
        files = {p: v for p, v in opened.files().items() if str(v["day"]) in moved}
        exchanged = {}
        for path, values in files.items():
            day = str(values["day"])
            rows = warehouse.read(RELEASES, day=dt.date.fromisoformat(day)).drop_columns("day")
            repinned = _repinned(warehouse, rows, table, day, moved[day], erasure)
            target = f"{ERASURE}{erasure}-{table}-{tries}/{original(path)}"
            store.create_dir(f"{root}/{target}".rsplit("/", 1)[0])
            pq.write_table(repinned, f"{root}/{target}", filesystem=store, compression="zstd")
            exchanged[path] = target
        try:
            opened.exchange(
                exchanged, [*exchanged.values()], warehouse.author, {"erasure": erasure}
            )
            logger.info("repin table=%s days=%s erasure=%s", table, ",".join(moved), erasure)
            return
        except CommitConflict:
            if tries == 1:
                raise


def _repinned(
    warehouse: Warehouse, rows: pa.Table, table: str, day: str, version: int, erasure: str
) -> pa.Table:
    of_day: Mapping[str, Any] = {"day": dt.date.fromisoformat(day), "version": version}
    (row,) = rows.to_pylist()
    published = row["published"] or [
        {"table": pin["table"], "digest": pin["digest"]} for pin in row["tables"]
    ]
    for pin in row["tables"]:
        if pin["table"] == table:
            pin["version"] = version
            pin["rows"] = warehouse.count(table, **of_day)
            pin["digest"] = warehouse.digest(table, **of_day)
    changed = row | {"published": published, "erasure": erasure}
    schema = pa.schema([pa.field(each.name, each.type) for each in rows.schema])
    return pa.Table.from_pylist([changed], schema=schema)
