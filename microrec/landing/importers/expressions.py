"""Expressions of a mapping as SQL: checked against the columns of a file, and made text as landing files hold it.

The columns of CSV and JSON are text. An expression that needs a number of one (`play_time * 1000`) gets it as one. A
value that cannot be computed does not stop the import: it is written as `not computed from '...'`, which the night
refuses by rule with its text (an id or text becomes null), and counted.
"""

import difflib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from microrec.core import messages
from microrec.errors import LandingError
from microrec.landing.importers.mapping import EVENT, MILLISECONDS, Unit
from microrec.landing.importers.mapping import Mapping as Wanted
from microrec.landing.importers.sources import ROW_NO, Source, name, text
from microrec.tables.contract import Contract

NUMERIC = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
           "FLOAT", "DOUBLE", "DECIMAL")  # fmt: skip
FRACTIONAL = ("FLOAT", "DOUBLE", "DECIMAL")
AS_NUMBERS = 6
"""Columns of an expression that are tried as numbers."""
ISO = "%Y-%m-%dT%H:%M:%S.%fZ"
_ISO_WITHOUT_ZONE = r"\s*\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?\s*"
_ISO_WITH_ZONE = (
    r"\s*\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([zZ]|[+-]\d{2}(:?\d{2})?)\s*"
)
_EXACT = 2**53


@dataclass(frozen=True)
class Expression:
    """An expression that binds to a file's columns."""

    sql: str
    """The call that computes it from a row."""
    type: str
    """Of its value, in DuckDB's words."""
    inputs: tuple[str, ...]
    """Columns of the file it reads."""
    plain: bool
    """Whether it is a column as it is."""
    windowed: bool
    """Whether it looks at other rows, so that an error in one is an error of all."""


class Binder:
    """Binds the expressions of a mapping to one file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, source: Source) -> None:
        """Take the connection and the file whose columns expressions may name."""
        self._connection = connection
        self._source = source
        described = connection.execute(f"DESCRIBE {source.query}").fetchall()
        self._types = {column.lower(): kind for column, kind, *_ in described}
        self._names = {column.lower(): column for column, *_ in described}
        self._n = 0

    def bind(self, wanted: str, column: str) -> Expression:
        """Bind an expression.

        Args:
            wanted: its text; a column's name as it is, even one that SQL would have quoted.
            column: landing column or key of the mapping it is for, for messages.

        Raises:
            LandingError: it is no expression, names a column that the file lacks, or its types do not fit.
        """
        if wanted.strip().lower() in self._names:
            wanted = name(self._names[wanted.strip().lower()])
        node = self._parsed(wanted, column)
        inputs = self._inputs(node, wanted, column)
        self._n += 1
        macro = f"expression_{self._n}"
        parameters = ", ".join(name(each) for each in inputs)
        problem = ""
        for as_numbers in self._choices(inputs):
            arguments = [self._argument(each, as_numbers) for each in inputs]
            sql = f"{macro}({', '.join(arguments)})"
            try:
                self._connection.execute(
                    f"CREATE OR REPLACE TEMP MACRO {macro}({parameters}) AS ({wanted})"
                )
                kind = self._connection.execute(
                    f"DESCRIBE SELECT {sql} AS value, {ROW_NO} FROM ({self._source.query})"
                ).fetchall()[0][1]
            except duckdb.Error as error:
                problem = problem or _problem(error)
                continue
            if kind.startswith(("STRUCT", "TUPLE", "MAP", "UNION")):
                problem = f"gives a {kind}, expected one value"
                break
            windowed = any(each.get("class") == "WINDOW" for each in _nodes(node))
            plain = node.get("class") == "COLUMN_REF"
            return Expression(sql, kind, inputs, plain, windowed)
        raise LandingError(f"{self._where(wanted, column)}: {messages.plain(problem)}")

    def _parsed(self, wanted: str, column: str) -> dict[str, Any]:
        try:
            (answer,) = self._connection.execute(
                "SELECT json_serialize_sql(?)", [f"SELECT ({wanted}\n)"]
            ).fetchall()[0]
        except duckdb.Error as error:
            raise LandingError(f"{self._where(wanted, column)}: {error}") from error
        tree = json.loads(answer)
        statements = tree.get("statements", [])
        selected = statements[0]["node"].get("select_list", []) if len(statements) == 1 else []
        if tree["error"] or len(selected) != 1 or any(_nodes(statements[0]["node"], "STAR")):
            problem = tree.get("error_message", "not one expression")
            raise LandingError(
                f"{self._where(wanted, column)}: {messages.plain(problem.splitlines()[0])}"
            )
        expression: dict[str, Any] = selected[0]
        return expression

    def _inputs(self, node: dict[str, Any], wanted: str, column: str) -> tuple[str, ...]:
        used: dict[str, None] = {}
        own = {
            reference["column_names"][0]
            for each in _nodes(node, "LAMBDA")
            for reference in _nodes(each["lhs"], "COLUMN_REF")
        }
        for reference in _nodes(node, "COLUMN_REF"):
            named = ".".join(reference["column_names"])
            if named in own:
                continue
            if named.lower() not in self._names:
                raise LandingError(f"{self._where(wanted, column)}: {self._unknown(named)}")
            used[self._names[named.lower()]] = None
        return tuple(used)

    def _unknown(self, named: str) -> str:
        known = [*self._source.columns, ROW_NO]
        return unknown_column(named, known)

    def _choices(self, inputs: Sequence[str]) -> Iterator[tuple[str, ...]]:
        texts = [each for each in inputs if self._types[each.lower()] == "VARCHAR"][:AS_NUMBERS]
        for size in range(len(texts) + 1):
            yield from itertools.combinations(texts, size)

    def _argument(self, column: str, as_numbers: tuple[str, ...]) -> str:
        if column in as_numbers:
            return f"CAST(nullif(trim({name(column)}), '') AS DOUBLE)"
        return name(column)

    def _where(self, wanted: str, column: str) -> str:
        return f"{self._source.path}: {column} = {messages.shown(wanted, 200)}"


def _problem(error: Exception) -> str:
    first = str(error).splitlines()[0]
    if "GROUP BY" in first:
        return "an aggregate of all rows has no value of one row; write a window, such as max(x) OVER ()"
    return first


def unknown_column(named: str, known: Sequence[str]) -> str:
    """Return the message about a column that a file lacks, with the nearest that it has."""
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(named.lower(), list(by_lower), n=1, cutoff=0.5)
    nearest = f"; did you mean {messages.shown(by_lower[near[0]])}" if near else ""
    listed = ", ".join(messages.shown(each) for each in known[:12])
    return f"no column {messages.shown(named)}{nearest} (columns: {listed})"


def chosen(wanted: Wanted, promised: Contract, source: Source) -> dict[str, str]:
    """Return the expression of each landing column that a file gives.

    Args:
        wanted: the mapping.
        promised: contract of the landing table.
        source: the file; a column of it that has the name of a landing column needs no expression.

    Raises:
        LandingError: the mapping names no such landing column, or a required one is given by nothing.
    """
    landing = [column.name for column in promised.columns if column.name != "day"]
    for key in (*wanted.columns, *wanted.constants, *wanted.units):
        if key not in landing:
            raise LandingError(f"mapping: {promised.table}: {unknown_column(key, landing)}")
    own = {column.lower(): name(column) for column in source.columns}
    expressions = {column: own[column] for column in landing if column in own}
    expressions |= wanted.columns
    expressions |= {column: text(value) for column, value in wanted.constants.items()}
    absent = [
        c.name for c in promised.columns if c.required and c.name not in {*expressions, "day"}
    ]
    if absent:
        raise LandingError(
            f"{source.path}: nothing gives {promised.table}.{absent[0]}; map it:"
            f" --map {absent[0]}=COLUMN (columns: {', '.join(map(messages.shown, source.columns))})"
        )
    return {column: expressions[column] for column in landing if column in expressions}


def as_landing(expression: Expression, kind: pa.DataType, *, column: str, wanted: Wanted) -> str:
    """Return the SQL of a landing value: text, or a list where one is declared and made.

    Args:
        expression: what it is computed by.
        kind: type that the contract declares.
        column: landing column.
        wanted: the mapping, for units, time zone and format.
    """
    value, unit = expression.sql, wanted.units.get(column)
    if pa.types.is_list(kind):
        return _list(value, kind) if expression.type.endswith("]") else value
    if pa.types.is_timestamp(kind):
        return _time(expression, unit, wanted)
    if pa.types.is_integer(kind):
        return _whole(expression, unit)
    if pa.types.is_string(kind) and expression.type.startswith(FRACTIONAL):
        exact = f"{value} = floor({value}) AND abs({value}) < {_EXACT}"
        refused = f"CAST(CAST('no exact number: ' || {value} AS BIGINT) AS VARCHAR)"
        fraction = refused if column.endswith("_id") else f"CAST({value} AS VARCHAR)"
        whole = f"CAST(CAST({value} AS BIGINT) AS VARCHAR)"
        return f"CASE WHEN {_is_nan(value)} THEN NULL WHEN {exact} THEN {whole} ELSE {fraction} END"
    if expression.type.startswith(FRACTIONAL):
        return f"CASE WHEN NOT {_is_nan(value)} THEN CAST({value} AS VARCHAR) END"
    return f"CAST({value} AS VARCHAR)"


def kept(value: str, expression: Expression, kind: pa.DataType) -> tuple[str, str]:
    """Return a value that survives an error in one row, and the condition that there was one.

    Args:
        value: `as_landing`.
        expression: what it is computed by.
        kind: type that the contract declares.
    """
    if expression.windowed or (expression.plain and value == f"CAST({expression.sql} AS VARCHAR)"):
        return value, "false"
    attempt = f"TRY(struct_pack(v := {value}))"
    inputs = ", ".join(f"CAST({name(each)} AS VARCHAR)" for each in expression.inputs)
    lost = "NULL"
    if inputs and not pa.types.is_string(kind) and not pa.types.is_list(kind):
        lost = f"'not computed from ''' || concat_ws(' ', {inputs}) || ''''"
    return f"CASE WHEN {attempt} IS NULL THEN {lost} ELSE {attempt}.v END", f"{attempt} IS NULL"


def arrival_day(binder: Binder, wanted: Wanted, event_time: str | None) -> str:
    """Return the SQL of the day under which a row is delivered, null where it cannot be told.

    Args:
        binder: of the file.
        wanted: the mapping.
        event_time: SQL of the row's time as landing text; None if the table has none.

    Raises:
        LandingError: the rule is no date or expression, or the table has no time.
    """
    rule = wanted.day.strip()
    if rule != EVENT:
        literal = text(rule) if rule[:1].isdigit() else rule
        expression = binder.bind(literal, "day")
        return f"TRY_CAST({expression.sql} AS DATE)"
    if event_time is None:
        raise LandingError(
            f"{wanted.table}: the rows have no time that says on which day they arrived; say --day-of YYYY-MM-DD"
        )
    return f"CAST(timezone('UTC', {instant(event_time)}) AS DATE)"


def instant(value: str) -> str:
    """Return the SQL of the TIMESTAMPTZ of landing text, null where the night reads none.

    Args:
        value: SQL of a VARCHAR.
    """
    zoned = f"TRY_CAST(upper({value}) AS TIMESTAMPTZ)"
    naive = f"timezone('UTC', TRY_CAST(upper({value}) AS TIMESTAMP))"
    epoch = f"timezone('UTC', make_timestamp(TRY_CAST(trim({value}) AS BIGINT) * 1000))"
    return (
        f"CASE WHEN regexp_full_match({value}, {text(_ISO_WITH_ZONE)}) THEN {zoned}"
        f" WHEN regexp_full_match({value}, {text(_ISO_WITHOUT_ZONE)}) THEN {naive}"
        rf" WHEN regexp_full_match({value}, '\s*\d{{12,13}}\s*') THEN {epoch} END"
    )


def _list(value: str, kind: pa.DataType) -> str:
    element = "VARCHAR" if pa.types.is_string(kind.value_type) else "FLOAT"
    return f"CAST({value} AS {element}[])"


def _number(expression: Expression) -> str | None:
    if expression.type.startswith(NUMERIC):
        return expression.sql
    if expression.type == "VARCHAR":
        return f"CAST(nullif(trim({expression.sql}), '') AS DOUBLE)"
    return None


def _is_nan(value: str) -> str:
    """Return the SQL of whether a number is NaN, which is how pandas writes a missing one."""
    return f"isnan(CAST({value} AS DOUBLE))"


def _whole(expression: Expression, unit: Unit | None) -> str:
    number = _number(expression)
    counted = unit is not None or expression.type.startswith(FRACTIONAL)
    if number is None or not counted:
        return f"CAST({expression.sql} AS VARCHAR)"
    factor = MILLISECONDS[unit or "ms"]
    value = f"CASE WHEN NOT {_is_nan(number)} THEN {number} END"
    return f"CAST(CAST(round({value} * {factor!r}) AS BIGINT) AS VARCHAR)"


def _time(expression: Expression, unit: Unit | None, wanted: Wanted) -> str:
    value, kind, zone = expression.sql, expression.type, text(wanted.time_zone)
    if unit is not None and (number := _number(expression)):
        micros = f"CAST(round({number} * {MILLISECONDS[unit] * 1e3!r}) AS BIGINT)"
        return _iso(f"timezone('UTC', make_timestamp({micros}))")
    if kind.endswith("WITH TIME ZONE"):
        return _iso(value)
    if kind.startswith(("TIMESTAMP", "DATE")):
        return _iso(f"timezone({zone}, CAST({value} AS TIMESTAMP))")
    if kind == "VARCHAR" and wanted.time_format:
        parsed = f"strptime(nullif(trim({value}), ''), {text(wanted.time_format)})"
        zoned = parsed if "%z" in wanted.time_format else f"timezone({zone}, {parsed})"
        return _iso(zoned)
    if kind == "VARCHAR":
        local = _iso(f"timezone({zone}, TRY_CAST(upper({value}) AS TIMESTAMP))")
        zoned = _iso(f"TRY_CAST(upper({value}) AS TIMESTAMPTZ)")
        return (
            f"CASE WHEN regexp_full_match({value}, {text(_ISO_WITHOUT_ZONE)}) THEN coalesce({local}, {value})"
            f" WHEN regexp_full_match({value}, {text(_ISO_WITH_ZONE)}) THEN coalesce({zoned}, {value}) ELSE {value} END"
        )
    return f"CAST({value} AS VARCHAR)"


def _iso(instant_sql: str) -> str:
    return f"strftime(timezone('UTC', {instant_sql}), {text(ISO)})"


def _nodes(tree: Any, kind: str | None = None) -> Iterator[Mapping[str, Any]]:
    """Walk a serialised expression; nodes of one class, or all."""
    if isinstance(tree, dict):
        if "class" in tree and kind in (None, tree["class"]):
            yield tree
        for value in tree.values():
            yield from _nodes(value, kind)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value, kind)
