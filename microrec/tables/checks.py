"""The audit: every expectation of a contract, counted by SQL over the staged rows.

The vocabulary is Great Expectations'; the engine is DuckDB over Arrow, which streams the staged files and needs
neither a JVM nor Great Expectations' import. `tests/tables/test_expectations.py` proves that both give the same
verdicts.
"""

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from microrec.errors import CheckFailed, ContractViolation
from microrec.tables.contract import Contract, Rule

MEMORY = "2GB"
"""What an audit may hold beside a scan, whatever the number of rows."""
KEYS = 50_000_000
"""Rows whose keys are held against one another at a time: from some 150 million on the disk is of no help."""

ROW_COUNT = "expect_table_row_count_to_be_between"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What one rule found: the number of rows that break it (for table rules 1 stands for the table)."""

    rule: Rule
    broken: int
    n_rows: int
    """Rows that were checked."""

    def __str__(self) -> str:
        """Return the rule and the count, such as `expect_...(rank, min_value=1): 3 rows`."""
        if self.rule.type == ROW_COUNT:
            return f"{self.rule.name}: the table has {self.n_rows} rows"
        return f"{self.rule.name}: {self.broken} rows"


def audit(contract: Contract, rows: ds.Dataset | pa.Table, *, scope: str) -> list[Verdict]:
    """Check the rows against every rule of the contract and refuse them if a `fail` rule is broken.

    Args:
        contract: columns, key and rules of the table.
        rows: at the grain of the contract, all its columns, partition columns included.
        scope: partition values for messages: `day=2026-01-04, fit=trial`.

    Returns:
        One verdict per rule of the contract, in its order.

    Raises:
        CheckFailed: one line per broken `fail` rule, with table, scope, rule and count.
        ContractViolation: a rule has a type the audit does not know.
    """
    verdicts = evaluate(contract, rows)
    broken = [v for v in verdicts if v.broken]
    for verdict in broken:
        if verdict.rule.severity != "fail":
            logger.warning(
                "check=warn table=%s %s rule=%s rows=%d",
                contract.table,
                scope,
                verdict.rule.name,
                verdict.broken,
            )
    failed = [str(verdict) for verdict in broken if verdict.rule.severity == "fail"]
    if failed:
        raise CheckFailed(f"{contract.table}[{scope}] " + "; ".join(failed))
    return verdicts


def evaluate(contract: Contract, rows: ds.Dataset | pa.Table) -> list[Verdict]:
    """Count the rows that break each rule. Declared = built = evaluated, or an error.

    One pass over the rows, then for each rule of uniqueness one for every KEYS of them, each after the other: a scan
    holds up to a gigabyte ahead of what reads it. What does not fit into MEMORY goes to disk.

    Args:
        contract: columns, key and rules of the table.
        rows: at the grain of the contract, all its columns, partition columns included.

    Returns:
        One verdict per rule of the contract, in its order.

    Raises:
        ContractViolation: a rule has a type the audit does not know.
    """
    rules = contract.rules
    alone = [n for n, rule in enumerate(rules) if rule.type in _UNIQUE]
    together = [n for n in range(len(rules)) if n not in alone]
    query = f"SELECT {', '.join(['count(*)', *(_sql(rules[n]) for n in together)])} FROM staged"
    with tempfile.TemporaryDirectory(prefix="microrec-audit-") as scratch:
        options = {"memory_limit": MEMORY, "temp_directory": scratch}
        with duckdb.connect(config=options) as connection:
            connection.register("staged", rows)
            n_rows, *row = connection.execute(query).fetchall()[0]
            counts = dict(zip(together, row, strict=True))
            for n in alone:
                queries = _repeated(rules[n].kwargs, shares=n_rows // KEYS + 1)
                counts[n] = sum(
                    connection.execute(query_of_share).fetchall()[0][0]
                    for query_of_share in queries
                )
    return [Verdict(rule, int(counts[n] or 0), n_rows) for n, rule in enumerate(rules)]


def _sql(rule: Rule) -> str:
    try:
        build = _EXPECTATIONS[rule.type]
    except KeyError:
        raise ContractViolation(
            f"expectation {rule.type} is not one of {sorted(_EXPECTATIONS)}"
        ) from None
    return build(rule.kwargs)


def _count_where(condition: str) -> str:
    return f"count(*) FILTER (WHERE {condition})"


def _missing(column: str) -> str:
    """Null or NaN: Great Expectations (pandas) takes NaN for a missing value, and so do we.

    The type is asked for, as somebody may be called `nan`.
    """
    name = _name(column)
    is_nan = f"typeof({name}) IN ('FLOAT', 'DOUBLE') AND CAST({name} AS VARCHAR) = 'nan'"
    return f"({name} IS NULL OR ({is_nan}))"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _literal(value: Any) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else json.dumps(value)


def _bounds(value: str, kwargs: Mapping[str, Any]) -> str:
    lower = ">" if kwargs.get("strict_min") else ">="
    upper = "<" if kwargs.get("strict_max") else "<="
    parts = []
    if kwargs.get("min_value") is not None:
        parts.append(f"{value} {lower} {_literal(kwargs['min_value'])}")
    if kwargs.get("max_value") is not None:
        parts.append(f"{value} {upper} {_literal(kwargs['max_value'])}")
    return " AND ".join(parts) or "TRUE"


def _not_null(kwargs: Mapping[str, Any]) -> str:
    return _count_where(_missing(kwargs["column"]))


def _between(kwargs: Mapping[str, Any]) -> str:
    column = kwargs["column"]
    return _count_where(f"NOT {_missing(column)} AND NOT ({_bounds(_name(column), kwargs)})")


def _in_set(kwargs: Mapping[str, Any]) -> str:
    column = kwargs["column"]
    allowed = ", ".join(_literal(value) for value in kwargs["value_set"])
    return _count_where(f"NOT {_missing(column)} AND {_name(column)} NOT IN ({allowed})")


def _repeated(kwargs: Mapping[str, Any], *, shares: int) -> Iterator[str]:
    """Queries of the rows beyond the first of each key, one for each share of the keys: equal ones have one hash.

    A single column counts where it is there; of several, null is a value like others.
    """
    key = ", ".join(map(_name, kwargs.get("column_list") or [kwargs["column"]]))
    present = f"{key} IS NOT NULL" if "column" in kwargs else "TRUE"
    for share in range(shares):
        where = f"{present} AND hash({key}) % {shares} = {share}"
        keys = f"SELECT count(*) AS n FROM staged WHERE {where} GROUP BY {key}"
        yield f"SELECT coalesce(sum(n - 1), 0) FROM ({keys})"


def _greater(kwargs: Mapping[str, Any]) -> str:
    larger = kwargs["column_A"]
    smaller = kwargs["column_B"]
    operator = ">=" if kwargs.get("or_equal") else ">"
    present = f"NOT {_missing(larger)} AND NOT {_missing(smaller)}"
    return _count_where(f"{present} AND NOT ({_name(larger)} {operator} {_name(smaller)})")


def _row_count(kwargs: Mapping[str, Any]) -> str:
    return f"CASE WHEN {_bounds('count(*)', kwargs)} THEN 0 ELSE 1 END"


_UNIQUE = {"expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique"}
_EXPECTATIONS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "expect_column_values_to_not_be_null": _not_null,
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_pair_values_a_to_be_greater_than_b": _greater,
    ROW_COUNT: _row_count,
}
