"""Proof: everything that is kept is decoded and searched for people who should be nowhere.

What is read: every value and every bound of a Parquet file, entries and checkpoints of the Delta log, arrays that hold
text and headers of safetensors, JSON, SQLite, and all else as text. What counts is a whole value or a word (`quotes`).
An id that other things are called too (a number, the key of a video) counts where a contract says that the column is a
person's, or a text names it as one.
"""

import datetime as dt
import gzip
import io
import json
import logging
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as fs
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from microrec.errors import ContractViolation, MicrorecError
from microrec.privacy.quotes import Ids
from microrec.tables import contract
from microrec.tables.arrow import Warehouse

logger = logging.getLogger(__name__)

KEYS = ("user_id", "author_id")
"""Subjects of columns that hold ids of people, and names under which JSON holds them."""


@dataclass
class Scan:
    """A search for people, and what it has found so far."""

    ids: Ids
    schemas: Path
    """Folder of the contracts."""
    namesakes: Collection[str] = ()
    """Ids of other things, such as videos."""
    authors_are_users: bool = True
    anywhere: bool = False
    """Ids of digits count wherever a text has them as a word: raw lines, whose columns are not told apart."""
    hits: Counter[str] = field(default_factory=Counter)
    """By place: a column of a table, or a file."""
    n_files: int = 0

    def folder(self, root: Path, *, without: Collection[Path] = ()) -> None:
        """Search all files under a folder.

        Args:
            root: the folder, or a file; one that is not there holds nobody.
            without: folders under it that are not searched.

        Raises:
            MicrorecError: a file cannot be read, so nobody can say what is in it.
        """
        barred = {path.resolve() for path in without}
        paths = [root] if root.is_file() else sorted(root.rglob("*"))
        for path in paths:
            if path.is_symlink() or not path.is_file():
                continue
            if barred.isdisjoint(path.resolve().parents):
                self.n_files += 1
                self._file(path, str(path.relative_to(root.parent)))

    def store(self, store: fs.FileSystem, root: str, name: str) -> None:
        """Search all that is in a folder of an object store, one object at a time.

        Each is copied into a folder of this machine that only its owner may read, and the copy is deleted when it has
        been searched. What the store keeps of objects that were replaced or deleted (a versioned bucket) is not seen.

        Args:
            store: the store's file system.
            root: the folder in it.
            name: of the folder, for the places of hits.

        Raises:
            MicrorecError: an object cannot be read.
        """
        listed = store.get_file_info(fs.FileSelector(root, recursive=True))
        paths = sorted(info.path for info in listed if info.type == fs.FileType.File)
        with tempfile.TemporaryDirectory(prefix="microrec-proof-") as folder:
            for path in paths:
                copy = Path(folder, name, path.removeprefix(root).lstrip("/"))
                copy.parent.mkdir(parents=True, exist_ok=True)
                fs.copy_files(path, str(copy), store, fs.LocalFileSystem())
                self.n_files += 1
                self._file(copy, str(copy.relative_to(folder)))
                copy.unlink()

    def _file(self, path: Path, name: str) -> None:
        with path.open("rb") as file:
            head = file.read(16)
        try:
            if head[:4] == b"PAR1":
                self._parquet(path, name)
            elif head == b"SQLite format 3\0":
                self._sqlite(path, name)
            elif path.suffix == ".safetensors":
                self._safetensors(path, name)
            elif path.suffix == ".json":
                self._json(path.read_text(errors="replace"), name)
            else:
                opened = gzip.open if head[:2] == b"\x1f\x8b" else open
                with opened(path, "rb") as file:
                    self._lines(file, name)
        except (OSError, pa.ArrowException, SafetensorError, sqlite3.Error) as error:
            raise MicrorecError(f"prove-erasure: {name} cannot be read: {error}") from error

    def _parquet(self, path: Path, name: str) -> None:
        subjects = self._subjects(path)
        with pq.ParquetFile(path) as file:
            for key, value in (file.metadata.metadata or {}).items():
                self._text(f"{key.decode(errors='replace')} {value.decode(errors='replace')}", name)
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                for index in range(group.num_columns):
                    column = group.column(index)
                    self._bounds(column, subjects, name)
                for batch in file.iter_batches(row_groups=[number]):
                    for column_name, values in zip(batch.schema.names, batch.columns, strict=True):
                        for texts in _texts(values):
                            self._values(texts, column_name, subjects, name)

    def _bounds(self, column: Any, subjects: Mapping[str, str | None], name: str) -> None:
        bounds = column.statistics
        if bounds is None or not bounds.has_min_max:
            return
        top = column.path_in_schema.split(".")[0]
        for bound in (bounds.min, bounds.max):
            if isinstance(bound, str) and self._counts(bound, subjects.get(top)):
                self.hits[f"{_table_of(name)}.{top} (footer)"] += 1

    def _values(
        self, texts: pa.Array, column: str, subjects: Mapping[str, str | None], name: str
    ) -> None:
        """Whole values, and words of texts; each value once, however often it stands there."""
        place = f"{_table_of(name)}.{column}" if subjects else name
        if column in ("stats", "add", "remove"):
            for text in texts.drop_null().to_pylist():
                self._json(text, name) if text.startswith("{") else self._text(text, name)
            return
        counts = pc.value_counts(texts.drop_null())
        subject = subjects.get(column)
        # A text that is digits alone, such as a tag, is nobody's id: what quotes somebody is found as a quote.
        plain = self.ids if subject in KEYS else self._unmistakable
        values = counts.field("values")
        equal = plain.equal(values).to_pylist()
        quoted = (self.ids if subject == "text" else self._unmistakable).quoted(
            values, anywhere=column == "line"
        )
        for one, other, n in zip(equal, quoted, counts.field("counts").to_pylist(), strict=True):
            if one or other:
                self.hits[place] += n

    def _counts(self, value: str, subject: str | None) -> bool:
        """Whether a bound is somebody's id."""
        ids = self.ids if subject in ("user_id", "author_id") else self._unmistakable
        return ids.bounds_hold(value)

    def _safetensors(self, path: Path, name: str) -> None:
        with safe_open(path, framework="numpy") as file:
            self._text(json.dumps(file.metadata() or {}), name)
            for key in file.keys():  # noqa: SIM118 - no mapping
                self._text(key, name)
                array = file.get_tensor(key)
                if array.dtype.itemsize == 1 and array.dtype.kind in "iu":
                    self._lines(io.BytesIO(array.tobytes()), name)

    def _json(self, text: str, name: str) -> None:
        for line in text.splitlines() if "\n{" in text.strip() else [text]:
            try:
                value = json.loads(line)
            except ValueError:
                self._text(line, name)
            else:
                self._walk(value, "", name)

    def _walk(self, value: Any, key: str, name: str) -> None:
        if isinstance(value, dict):
            for inner, part in value.items():
                self._walk(str(inner), "", name)
                self._walk(part, key if inner in ("element", "list") else str(inner), name)
        elif isinstance(value, list):
            for part in value:
                self._walk(part, key, name)
        elif isinstance(value, str) and value[:1] in ("{", "["):
            self._json(value, name)
        else:
            self._leaf(value, key, name)

    def _leaf(self, value: Any, key: str, name: str) -> None:
        ids = self.ids if key in KEYS else self._unmistakable
        if isinstance(value, str | int) and (isinstance(value, str) or key in KEYS):
            if ids.bounds_hold(str(value)):
                self.hits[name] += 1
            elif isinstance(value, str):
                self._text(value, name)

    def _sqlite(self, path: Path, name: str) -> None:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in tables.fetchall():
                quoted = table.replace('"', '""')
                for row in database.execute(f'SELECT * FROM "{quoted}"'):
                    for value in row:
                        if isinstance(value, bytes):
                            self._text(value.decode(errors="replace"), f"{name}:{table}")
                        elif isinstance(value, str):
                            self._json(value, f"{name}:{table}")

    def _lines(self, file: Iterable[bytes], name: str) -> None:
        for line in file:
            self._text(line.decode(errors="replace"), name)

    def _text(self, text: str, name: str) -> None:
        if n := sum(1 for _ in self._free.spans(text, anywhere=self.anywhere)):
            self.hits[name] += n

    @cached_property
    def _unmistakable(self) -> Ids:
        """Ids that nothing else is called: these count in any column."""
        return Ids(
            each for each in self.ids.ids if not each.isdecimal() and each not in self.namesakes
        )

    @cached_property
    def _free(self) -> Ids:
        """Ids that count in plain text: digits only where the text names a person."""
        return Ids(each for each in self.ids.ids if each not in self.namesakes or each.isdecimal())

    def _subjects(self, path: Path) -> dict[str, str | None]:
        """Subjects by column of the contract of a file's table; empty where it has none."""
        for part in path.parent.parts[::-1]:
            if "=" not in part and (self.schemas / f"{part}.yaml").is_file():
                if "_delta_log" in path.parts:
                    return {}
                try:
                    declared = contract.load(self.schemas, part).columns
                except ContractViolation:
                    return {}
                apart = () if self.authors_are_users else ("author_id",)
                return {c.name: None if c.subject in apart else c.subject for c in declared}
        return {}


def _texts(values: pa.Array) -> Iterator[pa.Array]:
    """Arrays of texts that an array of any type holds."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield values.cast(pa.string())
    elif pa.types.is_dictionary(kind):
        yield from _texts(values.dictionary_decode())
    elif pa.types.is_map(kind):
        yield from _texts(values.keys)
        yield from _texts(values.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _texts(values.flatten())
    elif pa.types.is_struct(kind):
        for part in values.flatten():
            yield from _texts(part)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        decoded = [each and each.decode(errors="replace") for each in values.to_pylist()]
        yield pa.array(decoded, pa.string())


def _table_of(name: str) -> str:
    """The table of a file: the folder before that of its attempt."""
    parts = name.split("/")
    return parts[1] if len(parts) > 2 else parts[0]


def namesakes(warehouse: Warehouse, ids: Ids, *, authors_are_users: bool) -> set[str]:
    """Return those of the ids that videos have too, or authors who are no users: on the greatest day of `videos`.

    Args:
        warehouse: has the catalogue, or nothing has their names.
        ids: people's.
        authors_are_users: whether an `author_id` is a `user_id`.
    """
    days = [str(partition["day"]) for partition in warehouse.partitions("videos")]
    if not days:
        return set()
    columns = ["video_id", *([] if authors_are_users else ["author_id"])]
    rows = warehouse.read("videos", day=dt.date.fromisoformat(max(days)), columns=columns)
    return {
        each for name in columns for each in rows[name].filter(ids.equal(rows[name])).to_pylist()
    }
