"""Pages beside the tables: the report of each night as one HTML file, `<warehouse>/reports/day=D.html`."""

import datetime as dt
import os
import uuid
from pathlib import Path

import pyarrow.fs as fs

from microrec.tables.arrow import Warehouse
from microrec.tables.commit import filesystem

FOLDER = "reports"
PREFIX, SUFFIX = "day=", ".html"
BUFFER = 1 << 16
"""Bytes that are written to an object store at a time, or all."""


def save(warehouse: Warehouse, day: dt.date, text: str) -> str:
    """Write the page of a day over the one before, whole or not at all.

    Args:
        warehouse: to write beside.
        day: of the night.
        text: the page.

    Returns:
        Its path or URI.
    """
    return write(warehouse, f"{FOLDER}/{PREFIX}{day}{SUFFIX}", text)


def write(warehouse: Warehouse, name: str, text: str) -> str:
    """Write a file beside the tables over the one before, whole or not at all.

    Args:
        warehouse: to write beside.
        name: path of the file within the warehouse.
        text: what is to be in it.

    Returns:
        Its path or URI.
    """
    store, root = filesystem(warehouse.root, warehouse.options)
    if isinstance(store, fs.LocalFileSystem):
        target = Path(root, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_name(f"_staging-{uuid.uuid4().hex}")
        staged.write_text(text, encoding="utf-8")
        os.replace(staged, target)
    else:
        # Buffered: an object store's stream takes bytes, and no Arrow buffers.
        with store.open_output_stream(f"{root}/{name}", buffer_size=BUFFER) as stream:
            stream.write(text.encode())
    return f"{warehouse.root}/{name}"


def forget(
    warehouse: Warehouse, *, before: dt.date | None = None, dry_run: bool = False
) -> list[str]:
    """Delete pages.

    Args:
        warehouse: beside which they lie.
        before: first day whose page is kept; None: no page is, as after an erasure, since a gate may quote a person.
        dry_run: delete nothing.

    Returns:
        Days whose pages were (or would be) deleted, ascending, as `YYYY-MM-DD`.
    """
    store, root = filesystem(warehouse.root, warehouse.options)
    selector = fs.FileSelector(f"{root}/{FOLDER}", allow_not_found=True)
    paths = {
        info.base_name.removeprefix(PREFIX).removesuffix(SUFFIX): info.path
        for info in store.get_file_info(selector)
        if info.base_name.startswith(PREFIX)
    }
    days = [day for day in sorted(paths) if before is None or day < str(before)]
    for day in [] if dry_run else days:
        store.delete_file(paths[day])
    return days
