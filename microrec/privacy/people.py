"""Whose rows go: which rows of a table are about the people to be erased, and what is left of the others.

A row with a person's `user_id` or `user_idx` goes. So does one whose key is a text that quotes the person: a refused
raw line. Of an upload of an erased author the row stays, as others watched it; author, caption and tags go and it is
not eligible any more. Any other text stays, without the ids it quotes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from microrec.privacy.quotes import Ids
from microrec.tables.contract import Contract

SAID_BY_AUTHOR = ("author_id", "caption", "tags")
"""Columns of an upload that go with its author."""


@dataclass(frozen=True)
class People:
    """Who is to be erased, by each way in which a column leads to them."""

    ids: Ids
    indices: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """By day, `user_idx` in `users` of the day."""
    authors_are_users: bool = False
    """An `author_id` is a `user_id`."""

    def concern(self, contract: Contract) -> bool:
        """Return whether rows of a table may be about somebody."""
        subjects = {
            "user_id",
            "user_idx",
            "text",
            *(["author_id"] if self.authors_are_users else []),
        }
        return bool(self.ids) and bool(contract.of_subject(*subjects))

    def may_be_in(self, contract: Contract, group: pq.RowGroupMetaData, day: str) -> bool:
        """Return whether a row group may have a row of theirs, from its statistics.

        Args:
            contract: of the table.
            group: of one of its files.
            day: the file's.
        """
        subjects = {c.name: c.subject for c in contract.columns if c.subject}
        for number in range(group.num_columns):
            column = group.column(number)
            subject = subjects.get(column.path_in_schema.split(".")[0])
            of_id = subject == "user_id" or (subject == "author_id" and self.authors_are_users)
            if (
                subject == "text"
                or (subject == "user_idx" and self._spans_index(column.statistics, day))
                or (of_id and self._spans_id(column.statistics))
            ):
                return True
        return False

    def left_of(self, contract: Contract, rows: pa.Table, day: str) -> pa.Table:
        """Return the rows without theirs, in the same order; the very table given if nobody is in it.

        Args:
            contract: of the table.
            rows: with its columns, but for those of the partition.
            day: the rows'.
        """
        gone = self._gone(contract, rows, day)
        left = rows.filter(pc.invert(gone)) if pc.any(gone).as_py() else rows
        if self.authors_are_users and "author_id" in left.column_names:
            left = self._without_authors(left)
        for name in contract.of_subject("text"):
            if name in left.column_names and name not in contract.key:
                left = self._without_quotes(left, name)
        return left

    def subject_columns(self, contract: Contract) -> list[str]:
        """Return the columns that `left_of` looks at to tell whether somebody is in the rows."""
        return [
            name
            for name in contract.of_subject("user_id", "user_idx", "author_id", "text")
            if name not in contract.partition
        ]

    def about(self, contract: Contract, rows: pa.Table, day: str) -> pa.Array:
        """Return which rows are about somebody, their uploads too, [n_rows].

        Args:
            contract: of the table.
            rows: with its columns, but for those of the partition.
            day: the rows'.
        """
        about = self._gone(contract, rows, day)
        if self.authors_are_users and "author_id" in rows.column_names:
            about = pc.or_(about, self.ids.equal(rows["author_id"]))
        return about

    def _gone(self, contract: Contract, rows: pa.Table, day: str) -> pa.Array:
        """The mask of the rows that are about somebody, [n_rows]."""
        gone = pa.array([False] * rows.num_rows, pa.bool_())
        for name in contract.of_subject("user_id"):
            gone = pc.or_(gone, self.ids.equal(rows[name]))
        if indices := self.indices.get(day):
            for name in contract.of_subject("user_idx"):
                wanted = pa.array(sorted(indices), rows.schema.field(name).type)
                gone = pc.or_(gone, pc.is_in(rows[name], value_set=wanted))
        for name in contract.of_subject("text"):
            if name in contract.key:
                gone = pc.or_(
                    gone, pa.array(self.ids.quoted(rows[name], anywhere=True), pa.bool_())
                )
        return gone

    def _without_authors(self, rows: pa.Table) -> pa.Table:
        theirs = self.ids.equal(rows["author_id"])
        if not pc.any(theirs, min_count=0).as_py():
            return rows
        for name in rows.column_names:
            if name in SAID_BY_AUTHOR:
                nothing = pa.scalar(None, rows.schema.field(name).type)
            elif name == "eligible":
                nothing = pa.scalar(False)
            else:
                continue
            emptied = pc.if_else(theirs, nothing, rows[name])
            rows = rows.set_column(
                rows.schema.get_field_index(name), rows.schema.field(name), emptied
            )
        return rows

    def _without_quotes(self, rows: pa.Table, name: str) -> pa.Table:
        column = rows[name].combine_chunks()
        kind = column.type
        texts = column.flatten() if pa.types.is_list(kind) else column
        if not any(self.ids.quoted(texts)):
            return rows
        if pa.types.is_list(kind):
            kept: list[Any] = [
                None if each is None else [text for text in each if not self._quotes(text)]
                for each in column.to_pylist()
            ]
        else:
            kept = [
                None if text is None else self.ids.taken_out(text) for text in column.to_pylist()
            ]
        position = rows.schema.get_field_index(name)
        return rows.set_column(position, rows.schema.field(name), pa.array(kept, kind))

    def _quotes(self, text: str | None) -> bool:
        return text is not None and any(self.ids.spans(text))

    def _spans_id(self, bounds: pq.Statistics | None) -> bool:
        if bounds is None or not bounds.has_min_max:
            return bounds is None or bounds.num_values > 0
        return self.ids.between(str(bounds.min), str(bounds.max))

    def _spans_index(self, bounds: pq.Statistics | None, day: str) -> bool:
        indices = self.indices.get(day, frozenset())
        if bounds is None or not bounds.has_min_max:
            return bool(indices)
        return any(bounds.min <= index <= bounds.max for index in indices)
