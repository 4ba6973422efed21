"""The entries of a table's Delta log themselves: what they name, what they say of rows, and their end.

`commit` writes entries, `log` reads versions. Here the entries are read as files, for what versions do not show: bounds
of rows that are gone, and data files that no version names any more.
"""

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow.fs as fs
import pyarrow.parquet as pq

from microrec.tables.commit import Table
from microrec.tables.log import LOG

_ENTRY = re.compile(r"^(\d{20})\.(?:json|checkpoint[.\w-]*\.parquet|crc)$")


def bounds(table: Table) -> Iterator[tuple[str, str]]:
    """Yield every text that an entry holds as a bound of rows, with the name of the entry.

    Args:
        table: with a log, or without one.
    """
    for name, action in _actions(table):
        stats = (action.get("add") or {}).get("stats")
        if not stats or "minValues" not in stats:
            continue
        said = json.loads(stats)
        for key in ("minValues", "maxValues"):
            for value in _texts(said.get(key)):
                yield name, value


def named_files(table: Table) -> set[str]:
    """Return the data files that an entry adds or removes, relative to the table."""
    return {
        part["path"]
        for _, action in _actions(table)
        for part in (action.get("add"), action.get("remove"))
        if part and part.get("path")
    }


def first_version(table: Table) -> int:
    """Return the least version that has an entry of its own."""
    return min(int(name[:20]) for name in _entries(table))


def cut(table: Table, version: int) -> list[str]:
    """Delete the entries before a version, after a checkpoint of it: older versions cannot be opened any more.

    Args:
        table: with a log.
        version: first version that stays.

    Returns:
        Names of the entries that were deleted.
    """
    delta = table.open(version)
    assert delta is not None
    delta.create_checkpoint()
    store, root = table.filesystem()
    old = [name for name in _entries(table) if int(name[:20]) < version]
    for name in old:
        store.delete_file(f"{root}/{LOG}/{name}")
    return old


def _actions(table: Table) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every action of every entry, with the entry's name; of checkpoints the files alone."""
    store, root = table.filesystem()
    for name in _entries(table):
        with store.open_input_stream(f"{root}/{LOG}/{name}") as stream:
            text = stream.read()
        if name.endswith(".json"):
            for line in text.decode().splitlines():
                if line.strip():
                    yield name, json.loads(line)
        elif name.endswith(".parquet"):
            file = pq.ParquetFile(io.BytesIO(text))
            kept = [n for n in ("add", "remove") if n in file.schema_arrow.names]
            for row in file.read(columns=kept).to_pylist():
                yield name, row


def _entries(table: Table) -> list[str]:
    store, root = table.filesystem()
    selector = fs.FileSelector(f"{root}/{LOG}", allow_not_found=True)
    names = [info.base_name for info in store.get_file_info(selector)]
    return sorted(name for name in names if _ENTRY.match(name))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
