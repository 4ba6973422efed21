"""Files of a table without some people's rows: found by their statistics, written again, exchanged in one transaction.

A file that stands in for another keeps its path under a folder of the erasure (`tables/commit.original`), its order and
its row groups. One without a row left stays as an empty file: its partition was made, and is not missing.
"""

import functools
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from microrec.privacy.people import People
from microrec.tables.commit import ERASURE, Table, original

logger = logging.getLogger(__name__)


@dataclass
class Tally:
    """What an erasure has rewritten of a table."""

    table: str
    versions: set[int] = field(default_factory=set)
    """In which somebody was."""
    files: set[str] = field(default_factory=set)
    """That had somebody's rows."""
    rows: int = 0
    """That went."""
    bytes: int = 0
    """Of the files written in their place."""


@dataclass(frozen=True)
class Rewriter:
    """Finds and rewrites the files of one table."""

    table: Table
    people: People
    erasure: str
    """Id of the erasure; names the folder."""

    def touched(self, files: Mapping[str, Mapping[str, str | None]]) -> list[str]:
        """Return those of the files that have a row of somebody, or quote somebody.

        Args:
            files: partition values by path.
        """
        if not self.people.concern(self.table.contract):
            return []
        return [
            path for path, values in files.items() if self._is_touched(path, str(values["day"]))
        ]

    def rewrite(self, path: str, day: str, tally: Tally) -> str:
        """Write a file again without them.

        Args:
            path: of the file, relative to the table.
            day: its partition's.
            tally: of the table; is added to.

        Returns:
            The path of the new file.
        """
        store, root = self.table.filesystem()
        target = f"{ERASURE}{self.erasure}/{original(path)}"
        store.create_dir(f"{root}/{target}".rsplit("/", 1)[0])
        before = after = 0
        file = store.open_output_stream(f"{root}/{target}")
        with file, pq.ParquetWriter(file, self._schema, compression="zstd") as writer:
            for rows in self.groups(path):
                left = self.people.left_of(self.table.contract, rows, day)
                before, after = before + rows.num_rows, after + left.num_rows
                if left.num_rows:
                    writer.write_table(left, row_group_size=left.num_rows)
        tally.files.add(path)
        tally.rows += before - after
        tally.bytes += store.get_file_info(f"{root}/{target}").size
        return target

    def _is_touched(self, path: str, day: str) -> bool:
        contract = self.table.contract
        with self._open(path) as file:
            footer = pq.ParquetFile(file)
            columns = self.people.subject_columns(contract)
            for number in range(footer.num_row_groups):
                if self.people.may_be_in(contract, footer.metadata.row_group(number), day):
                    kept = [*columns, *(n for n in ("eligible",) if n in contract.schema.names)]
                    rows = footer.read_row_group(number, columns=list(dict.fromkeys(kept)))
                    if self.people.left_of(contract, rows, day) is not rows:
                        return True
        return False

    def groups(self, path: str) -> Iterator[pa.Table]:
        """Yield the rows of a file, a row group at a time, with the columns of the contract.

        Args:
            path: of the file, relative to the table.

        Yields:
            [n_rows] each; a column that is younger than the file is null.
        """
        with self._open(path) as file:
            parquet = pq.ParquetFile(file)
            for number in range(parquet.num_row_groups):
                rows = parquet.read_row_group(number)
                for each in self._schema:
                    if each.name not in rows.column_names:  # a file older than the column
                        nothing = pa.nulls(rows.num_rows, each.type)
                        rows = rows.append_column(each, nothing)
                yield rows.select(self._schema.names).cast(self._schema)

    def _open(self, path: str) -> pa.NativeFile:
        store, root = self.table.filesystem()
        return store.open_input_file(f"{root}/{path}")

    @functools.cached_property
    def _schema(self) -> pa.Schema:
        fields = self.table.contract.file_schema
        return pa.schema([pa.field(each.name, each.type) for each in fields])


def originals(files: Iterable[str]) -> set[str]:
    """Return the paths under which files were first written."""
    return {original(path) for path in files}
