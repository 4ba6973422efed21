"""Postgres: lists as JSON and vectors, in tables of their own for each export; consumers read views over them.

    <schema>.lists            view: kind (user, user_segments, segment, video), id, items jsonb, release, valid_until
    <schema>.vectors_<model>  view: kind (user, video), id, part, space, norm, vector, release, valid_until
    <schema>.served           one row: release, day, valid_until, generation, content, lists

The rows are copied into new tables and the views replaced, all in one transaction; then the old tables go. The views
are empty from `valid_until` on. `vector` is pgvector's type, with an index of the videos' (HNSW, inner product), or
real[] where the extension is not installed.
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from microrec.errors import MicrorecError
from microrec.export.contents import USER_SEGMENTS, Contents, json_texts
from microrec.export.target import Served, Target

if TYPE_CHECKING:
    from psycopg.sql import Composed

logger = logging.getLogger(__name__)

LOCK_WAIT = "10s"
"""How long a table that somebody reads is waited for, before it is left to the next export."""
VECTOR_ROWS = 10_000
LEAST_INDEX = 1_000
"""Videos from which on their vectors have an index; fewer are compared with all faster than it is built."""


class Postgres(Target):
    """A schema of a Postgres database that serves a release.

    Args:
        url: `postgresql://`; what it leaves out libpq takes from PG* variables and its password file.
        schema: made if it is not there.
    """

    def __init__(self, url: str, schema: str) -> None:
        """Connect, and make what consumers find before the first release.

        Raises:
            MicrorecError: psycopg is not installed.
        """
        try:
            import psycopg
            from psycopg import sql
        except ImportError as error:
            raise MicrorecError(
                "export to Postgres: install the extra, microrec[postgres]"
            ) from error
        self.schema = schema
        self._psycopg = psycopg
        self._sql = sql
        self._connection = psycopg.connect(url, autocommit=True)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold a lock of the session, which ends with the connection."""
        name = hashlib.sha256(f"microrec export {self.schema}".encode()).digest()
        key = int.from_bytes(name[:8], signed=True)
        self._connection.execute("SELECT pg_advisory_lock(%s)", [key])
        try:
            self._make_pointer()
            yield
        finally:
            if self._connection.info.transaction_status:
                self._connection.rollback()
            self._connection.execute("SELECT pg_advisory_unlock(%s)", [key])

    def served(self) -> Served | None:
        """Return the row of `served`."""
        rows = self._run(
            "SELECT release, day, valid_until, generation, content, lists FROM {schema}.served"
        ).fetchall()
        return Served(*rows[0]) if rows else None

    def stage(self, contents: Contents, served: Served) -> int:
        """Begin a transaction and copy all rows into new tables; nobody sees them before `switch` ends it."""
        if contents.models:
            self._make_extension()
        self._connection.execute("BEGIN")
        lists = f"lists_{served.generation}"
        self._run("CREATE TABLE {table} (kind text, id text, items jsonb)", table=lists)
        n_lists = 0
        with self._copy("COPY {table} (kind, id, items) FROM STDIN", table=lists) as copy:
            for kind, ids, items in contents.batches():
                for each, texts in zip(ids.to_pylist(), json_texts(items), strict=True):
                    copy.write_row((kind, each, f"[{','.join(texts)}]"))
                n_lists += len(ids)
        self._run("ALTER TABLE {table} ADD PRIMARY KEY (kind, id)", table=lists)
        self._run("ANALYZE {table}", table=lists)
        self._view("lists", lists, "kind, id, items", served)
        for number, model in enumerate(contents.models):
            table = f"vectors_{served.generation}_{number}"
            self._stage_vectors(table, contents.vectors(model))
            vector = "vector::vector" if self._has_pgvector() else "vector"
            columns = f"kind, id, part, space, norm, {vector} AS vector"
            self._view(f"vectors_{model}", table, columns, served)
        self._drop_views_but({"lists", *(f"vectors_{model}" for model in contents.models)})
        return n_lists

    def switch(self, served: Served) -> None:
        """Write the pointer and end the transaction."""
        self._run("DELETE FROM {schema}.served")
        names = list(served._fields)
        values = ", ".join(["%s"] * len(names))
        self._run(
            f"INSERT INTO {{schema}}.served ({', '.join(names)}) VALUES ({values})", [*served]
        )
        self._connection.execute("COMMIT")

    def renew(self, served: Served) -> bool:
        """Return whether the table is there and has all lists: the views hold `valid_until`."""
        query = "SELECT count(*) FROM {table}"
        try:
            ((count,),) = self._run(query, table=f"lists_{served.generation}").fetchall()
        except self._psycopg.errors.UndefinedTable:
            return False
        return bool(count == served.lists)

    def keep(self, users: pa.Array, profiled: pa.Array) -> int:
        """Delete the rows of all other users, in one transaction."""
        served = self.served()
        if served is None:
            return 0
        n_users = removed = 0
        with self._connection.transaction():
            for table in self._tables(served):
                if not table.startswith("lists_"):
                    self._keep_in(table, "user", profiled)
                    continue
                n_users = self._keep_in(table, "user", users)
                removed = n_users + self._keep_in(table, USER_SEGMENTS, profiled)
            if removed:
                query = "UPDATE {schema}.served SET content = '', lists = lists - %s"
                self._run(query, [removed])
        for table in self._tables(served):
            self._run("VACUUM {table}", table=table)
        return n_users

    def sweep(self) -> None:
        """Drop all tables but those of the served generation; one that somebody reads is left to the next export."""
        served = self.served()
        kept = self._tables(served) if served else []
        for table in self._tables(None):
            if table in kept:
                continue
            try:
                with self._connection.transaction():
                    self._connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
                    self._run("DROP TABLE {table}", table=table)
            except self._psycopg.errors.LockNotAvailable:
                logger.warning("export: %s is being read; the next export drops it", table)

    def _make_pointer(self) -> None:
        """Make the schema and the table of the pointer."""
        self._run("CREATE SCHEMA IF NOT EXISTS {schema}")
        self._run(
            "CREATE TABLE IF NOT EXISTS {schema}.served (release text, day date, valid_until timestamptz,"
            " generation text, content text, lists bigint)"
        )

    def _make_extension(self) -> None:
        """Install pgvector in the database, if the server has it."""
        try:
            self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except (self._psycopg.errors.FeatureNotSupported, self._psycopg.errors.UndefinedFile):
            logger.warning("export: Postgres has no pgvector; vectors are real[] columns")
        except self._psycopg.errors.InsufficientPrivilege:
            logger.warning(
                "export: may not create the extension vector; vectors are real[] columns"
            )

    def _has_pgvector(self) -> bool:
        query = "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"
        ((count,),) = self._connection.execute(query).fetchall()
        return bool(count)

    def _stage_vectors(self, table: str, rows: pa.Table) -> None:
        """Copy the vectors of a model into a new table."""
        dim = rows.schema.field("vector").type.list_size
        kind = f"vector({dim})" if self._has_pgvector() else "real[]"
        opening, closing = "[]" if self._has_pgvector() else "{}"
        self._run(
            "CREATE TABLE {table} (kind text, id text, part int, space text, norm real, vector "
            + kind
            + ")",
            table=table,
        )
        named = ["kind", "id", "part", "space", "norm"]
        with self._copy(
            "COPY {table} (kind, id, part, space, norm, vector) FROM STDIN", table=table
        ) as copy:
            for batch in rows.to_batches(max_chunksize=VECTOR_ROWS):
                plain = zip(*(batch[name].to_pylist() for name in named), strict=True)
                for row, vector in zip(plain, batch["vector"].to_pylist(), strict=True):
                    copy.write_row((*row, f"{opening}{','.join(map(str, vector))}{closing}"))
        self._run("ALTER TABLE {table} ADD PRIMARY KEY (kind, id, part)", table=table)
        n_videos = np.count_nonzero(np.asarray(rows["kind"]) == "video")
        if self._has_pgvector() and n_videos >= LEAST_INDEX:
            self._run(
                "CREATE INDEX ON {table} USING hnsw (vector vector_ip_ops) WHERE kind = 'video'",
                table=table,
            )
        self._run("ANALYZE {table}", table=table)

    def _view(self, name: str, table: str, columns: str, served: Served) -> None:
        """Have a view show a table, until the release expires."""
        query = self._sql.SQL(
            "SELECT "
            + columns
            + ", {release}::text AS release, {until}::timestamptz AS valid_until"
            " FROM {table} WHERE now() < {until}::timestamptz"
        ).format(
            release=self._sql.Literal(served.release),
            until=self._sql.Literal(served.valid_until.isoformat()),
            table=self._table(table),
        )
        make = self._sql.SQL("CREATE OR REPLACE VIEW {view} AS {query}")
        try:
            with self._connection.transaction():
                self._connection.execute(make.format(view=self._table(name), query=query))
        except self._psycopg.errors.InvalidTableDefinition:
            # Columns of another type: pgvector was installed or removed. Rights on the view go with it.
            self._run("DROP VIEW {table}", table=name)
            self._connection.execute(make.format(view=self._table(name), query=query))

    def _drop_views_but(self, names: set[str]) -> None:
        rows = self._connection.execute(
            "SELECT viewname FROM pg_views WHERE schemaname = %s", [self.schema]
        ).fetchall()
        for (view,) in rows:
            if view.startswith("vectors_") and view not in names:
                self._run("DROP VIEW {table}", table=view)

    def _keep_in(self, table: str, kind: str, users: pa.Array) -> int:
        """Delete rows of a kind of users that are not among some."""
        self._run("CREATE TEMP TABLE kept (id text PRIMARY KEY) ON COMMIT DROP")
        with self._copy("COPY kept FROM STDIN", table=table) as copy:
            for user_id in users.to_pylist():
                copy.write_row((user_id,))
        deleted = self._run(
            "DELETE FROM {table} AS t WHERE kind = %s AND NOT EXISTS (SELECT FROM kept WHERE kept.id = t.id)",
            [kind],
            table=table,
        ).rowcount
        self._run("DROP TABLE kept")
        return int(deleted)

    def _tables(self, served: Served | None) -> list[str]:
        """Tables of a generation, or of all."""
        rows = self._connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s", [self.schema]
        ).fetchall()
        return [
            table
            for (table,) in rows
            if table.startswith(("lists_", "vectors_"))
            and (served is None or table.split("_")[1] == served.generation)
        ]

    def _table(self, name: str) -> "Composed":
        return self._sql.SQL("{}").format(self._sql.Identifier(self.schema, name))

    def _query(self, query: str, table: str | None) -> "Composed":
        names: dict[str, Any] = {"schema": self._sql.Identifier(self.schema)}
        if table is not None:
            names["table"] = self._table(table)
        return self._sql.SQL(query).format(**names)

    def _run(self, query: str, values: list[Any] | None = None, table: str | None = None) -> Any:
        return self._connection.execute(self._query(query, table), values)

    def _copy(self, query: str, table: str) -> Any:
        return self._connection.cursor().copy(self._query(query, table))
