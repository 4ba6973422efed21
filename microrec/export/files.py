"""Parquet files or JSON lines in a folder; consumers read `served/`, a symbolic link that moves in one step.

served -> generations/<generation>
generations/<generation>/lists.parquet, vectors_<model>.parquet, release.json   (or .jsonl)
"""

import fcntl
import json
import logging
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from microrec.export.contents import ITEM, USER_SEGMENTS, Contents
from microrec.export.target import Served, Target

logger = logging.getLogger(__name__)

POINTER, GENERATIONS, ABOUT = "served", "generations", "release.json"
LISTS = pa.schema(
    [("kind", pa.string()), ("id", pa.string()), ("items", pa.list_(pa.struct(list(ITEM))))]
)
PARQUET, JSON_LINES = "parquet", "jsonl"


class Files(Target):
    """A folder that serves a release.

    Args:
        folder: made if it is not there.
        form: `PARQUET` or `JSON_LINES`.
    """

    def __init__(self, folder: Path, form: str) -> None:
        """Keep the folder."""
        self.folder = folder
        self.form = form

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the lock of the folder, which the system ends with the process."""
        (self.folder / GENERATIONS).mkdir(parents=True, exist_ok=True)
        with (self.folder / "export.lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def served(self) -> Served | None:
        """Return what `release.json` of the served folder says."""
        about = self.folder / POINTER / ABOUT
        return Served.of_texts(json.loads(about.read_text())) if about.exists() else None

    def stage(self, contents: Contents, served: Served) -> int:
        """Write the files of a folder that nothing points to."""
        folder = self._generation(served)
        folder.mkdir()
        n_lists = 0
        with _Writer(folder / f"lists.{self.form}", LISTS) as writer:
            for kind, ids, items in contents.batches():
                writer.write(pa.table([pa.repeat(kind, len(ids)), ids, items], schema=LISTS))
                n_lists += len(ids)
        for model in contents.models:
            vectors = contents.vectors(model)
            with _Writer(folder / f"vectors_{model}.{self.form}", vectors.schema) as writer:
                writer.write(vectors)
        return n_lists

    def switch(self, served: Served) -> None:
        """Point to the staged folder."""
        folder = self._generation(served)
        _write(folder / ABOUT, json.dumps(served.texts()))
        _sync(folder)
        link = self.folder / f"{POINTER}.next"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(GENERATIONS) / served.generation)
        link.replace(self.folder / POINTER)
        _sync(self.folder)

    def renew(self, served: Served) -> bool:
        """Return whether the files are there: `release.json` says until when they may be served."""
        return (self._generation(served) / f"lists.{self.form}").exists()

    def keep(self, users: pa.Array, profiled: pa.Array) -> int:
        """Write the served files again without the other users, and serve those."""
        served = self.served()
        if served is None:
            return 0
        before = self._generation(served)
        after = served._replace(generation=secrets.token_hex(6), content="")
        self._generation(after).mkdir()
        removed: Counter[str] = Counter()
        for path in sorted(before.glob(f"*.{self.form}")):
            is_lists = path.stem == "lists"
            allowed = {"user": users if is_lists else profiled, USER_SEGMENTS: profiled}
            gone = _copy(path, self._generation(after) / path.name, allowed)
            removed += gone if is_lists else Counter()
        self.switch(after._replace(lists=served.lists - removed.total()))
        self.sweep()
        return removed["user"]

    def sweep(self) -> None:
        """Delete all folders but the served one."""
        served = self.served()
        for folder in (self.folder / GENERATIONS).iterdir():
            if served is None or folder.name != served.generation:
                shutil.rmtree(folder)

    def _generation(self, served: Served) -> Path:
        return self.folder / GENERATIONS / served.generation


class _Writer:
    """Writes tables of one schema to a Parquet file or as JSON lines, and the file to the disk when it closes."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = path.open("wb")
        is_parquet = path.suffix == f".{PARQUET}"
        self._parquet = pq.ParquetWriter(self._file, schema) if is_parquet else None

    def write(self, rows: pa.Table) -> None:
        if self._parquet is not None:
            self._parquet.write_table(rows)
            return
        for row in rows.to_pylist():
            self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._parquet is not None:
            self._parquet.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _copy(path: Path, copy: Path, allowed: Mapping[str, pa.Array]) -> Counter[str]:
    """Copy a file, of the kinds of `allowed` only those ids; return how many rows were left out, by kind."""
    if path.suffix == f".{JSON_LINES}":
        return _copy_lines(
            path, copy, {kind: set(ids.to_pylist()) for kind, ids in allowed.items()}
        )
    removed: Counter[str] = Counter()
    with pq.ParquetFile(path) as read, _Writer(copy, read.schema_arrow) as writer:
        for batch in read.iter_batches():
            rows = pa.table(batch)
            for kind, ids in allowed.items():
                is_listed = pc.is_in(rows["id"], value_set=ids)
                kept = rows.filter(pc.or_(pc.not_equal(rows["kind"], kind), is_listed))
                removed[kind] += rows.num_rows - kept.num_rows
                rows = kept
            writer.write(rows)
    return removed


def _copy_lines(path: Path, copy: Path, allowed: Mapping[str, set[str]]) -> Counter[str]:
    removed: Counter[str] = Counter()
    with path.open("rb") as lines, copy.open("wb") as kept:
        for line in lines:
            row = json.loads(line)
            kind = row["kind"]
            if kind not in allowed or row["id"] in allowed[kind]:
                kept.write(line)
            else:
                removed[kind] += 1
        kept.flush()
        os.fsync(kept.fileno())
    return removed


def _write(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Have the disk keep the names in a folder."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
