"""The audit: every expectation of a contract, counted in one SQL query over the staged rows.

The vocabulary is Great Expectations'; the engine is DuckDB over Arrow, which streams the staged files once and needs
neither a JVM nor Great Expectations' import. `tests/tables/test_expectations.py` proves that both give the same
verdicts.
"""

import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from microrec.errors import CheckFailed, ContractViolation
from microrec.tables.contract import Contract, Rule

MEMORY = "2GB"
"""What an audit may hold, whatever the number of rows."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What one rule found: the number of rows that break it (for table rules 1 stands for the table)."""

    rule: Rule
    broken: int


def audit(contract: Contract, rows: ds.Dataset | pa.Table, *, scope: str) -> list[Verdict]:
    """Check the rows against every rule of the contract and refuse them if a `fail` rule is broken.

    Args:
        contract: the promise.
        rows: all columns of the contract, partition columns included.
        scope: what the rows are, for messages: `day=2026-01-04, fit=trial`.

    Raises:
        CheckFailed: one line per broken `fail` rule, with table, scope, rule and count.
        ContractViolation: a rule has a type the audit does not know, or was not evaluated.
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
    failed = [f"{v.rule.name}: {v.broken} rows" for v in broken if v.rule.severity == "fail"]
    if failed:
        raise CheckFailed(f"{contract.table}[{scope}] " + "; ".join(failed))
    return verdicts


def evaluate(contract: Contract, rows: ds.Dataset | pa.Table) -> list[Verdict]:
    """Count the rows that break each rule. Declared = built = evaluated, or an error.

    One pass over the rows, and one for each rule of uniqueness; what does not fit into MEMORY goes to disk.
    """
    built = [(rule, _sql(rule)) for rule in contract.rules]
    if not built:
        return []
    query = "SELECT " + ", ".join(sql for _, sql in built) + " FROM staged"
    with tempfile.TemporaryDirectory(prefix="microrec-audit-") as scratch:
        options = {"memory_limit": MEMORY, "temp_directory": scratch}
        with duckdb.connect(config=options) as connection:
            connection.register("staged", rows)
            counts = connection.execute(query).fetchall()[0]
    if not len(contract.rules) == len(built) == len(counts):
        raise ContractViolation(
            f"{contract.table}: {len(contract.rules)} rules declared, {len(built)} built"
        )
    return [Verdict(rule, int(count or 0)) for (rule, _), count in zip(built, counts, strict=True)]


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
    """Null or NaN: Great Expectations (pandas) takes NaN for a missing value, and so do we."""
    return f"({_name(column)} IS NULL OR TRY_CAST({_name(column)} AS VARCHAR) = 'nan')"


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


def _unique(kwargs: Mapping[str, Any]) -> str:
    """Rows less the distinct ones, which a subquery counts: unlike `count(DISTINCT ...)` it can use the disk."""
    if "column" in kwargs:
        column = _name(kwargs["column"])
        distinct = f"SELECT DISTINCT {column} FROM staged WHERE {column} IS NOT NULL"
        return f"count({column}) - (SELECT count(*) FROM ({distinct}))"
    distinct = f"SELECT DISTINCT {', '.join(map(_name, kwargs['column_list']))} FROM staged"
    return f"count(*) - (SELECT count(*) FROM ({distinct}))"


def _greater(kwargs: Mapping[str, Any]) -> str:
    larger, smaller = kwargs["column_A"], kwargs["column_B"]
    operator = ">=" if kwargs.get("or_equal") else ">"
    present = f"NOT {_missing(larger)} AND NOT {_missing(smaller)}"
    return _count_where(f"{present} AND NOT ({_name(larger)} {operator} {_name(smaller)})")


def _row_count(kwargs: Mapping[str, Any]) -> str:
    return f"CASE WHEN {_bounds('count(*)', kwargs)} THEN 0 ELSE 1 END"


_EXPECTATIONS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "expect_column_values_to_not_be_null": _not_null,
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_be_unique": _unique,
    "expect_compound_columns_to_be_unique": _unique,
    "expect_column_pair_values_a_to_be_greater_than_b": _greater,
    "expect_table_row_count_to_be_between": _row_count,
}
