"""The audit and Great Expectations agree, rule by rule, on every contract, on good rows and on bad ones."""

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from microrec.config.settings import HOME
from microrec.errors import CheckFailed
from microrec.tables import checks, contract
from microrec.tables.contract import Contract, Rule

SCHEMAS = HOME / "schemas"
TABLES = sorted(path.stem for path in SCHEMAS.glob("*.yaml") if not path.stem.startswith("raw_"))


def good_rows(promise: Contract) -> list[dict[str, Any]]:
    """Rows that keep every rule: numbers in range, first members of sets, distinct keys (one row if it must be)."""
    numbers = (1,) if set(promise.key) <= set(promise.partition) else (1, 2)
    return [
        {c.name: _value(promise, c.name, c.type, number) for c in promise.columns}
        for number in numbers
    ]


def _value(promise: Contract, name: str, kind: pa.DataType, number: int) -> Any:
    sets = {
        r.kwargs["column"]: r.kwargs["value_set"] for r in promise.rules if "value_set" in r.kwargs
    }
    above = {r.kwargs["column_A"] for r in promise.rules if "column_A" in r.kwargs}
    if name in promise.partition:
        number = 1
    if name in sets:
        return sets[name][0]
    if pa.types.is_list(kind):
        return []
    if pa.types.is_date(kind):
        return dt.date(2026, 1, number)
    if pa.types.is_timestamp(kind):
        return dt.datetime(2026, 1, number + (5 if name in above else 0), tzinfo=dt.UTC)
    if pa.types.is_boolean(kind):
        return True
    if pa.types.is_string(kind):
        return f"{name}{number}"
    if pa.types.is_floating(kind):
        return 0.25 * number
    return number + (5 if name in above else 0)


def broken_by(promise: Contract, rule: Rule) -> list[dict[str, Any]]:
    """The good rows, with the last one changed so that it breaks the rule."""
    rows = good_rows(promise)
    column = rule.kwargs.get("column")
    if rule.type == "expect_column_values_to_not_be_null":
        rows[-1][column] = None
    elif rule.type == "expect_column_values_to_be_between":
        low, high = rule.kwargs.get("min_value"), rule.kwargs.get("max_value")
        kind = promise.schema.field(column).type
        rows[-1][column] = (
            float("inf")
            if high is not None and high > 1e30
            else low - 1
            if low is not None
            else high + 1
        )
        if pa.types.is_integer(kind):
            rows[-1][column] = int(rows[-1][column])
    elif rule.type == "expect_column_values_to_be_in_set":
        rows[-1][column] = (
            99 if pa.types.is_integer(promise.schema.field(column).type) else "something else"
        )
    elif "unique" in rule.type:
        rows = [rows[0], dict(rows[0])]
    elif rule.type == "expect_table_row_count_to_be_between":
        return []
    elif rule.kwargs.get("or_equal"):
        above, below = rule.kwargs["column_A"], rule.kwargs["column_B"]
        rows[-1][above], rows[-1][below] = rows[-1][below], rows[-1][above]
    else:
        rows[-1][rule.kwargs["column_A"]] = rows[-1][rule.kwargs["column_B"]]
    return rows


def as_table(promise: Contract, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(
        rows, schema=pa.schema([pa.field(f.name, f.type) for f in promise.schema])
    )


@pytest.mark.parametrize("table", TABLES)
def test_rules_both_engines_agree(table: str) -> None:
    from microrec.tables import expectations

    promise = contract.load(SCHEMAS, table)
    for rows in [good_rows(promise), *[broken_by(promise, rule) for rule in promise.rules]]:
        frame = as_table(promise, rows)
        ours, theirs = checks.evaluate(promise, frame), expectations.evaluate(promise, frame)
        assert len(ours) == len(theirs) == len(promise.rules)
        assert [(v.rule.name, bool(v.broken)) for v in ours] == [
            (v.rule.name, bool(v.broken)) for v in theirs
        ]


@pytest.mark.parametrize("table", TABLES)
def test_rules_each_is_broken_by_its_row(table: str) -> None:
    promise = contract.load(SCHEMAS, table)
    assert not any(
        v.broken for v in checks.evaluate(promise, as_table(promise, good_rows(promise)))
    )
    for rule in promise.rules:
        verdicts = checks.evaluate(promise, as_table(promise, broken_by(promise, rule)))
        assert next(v.broken for v in verdicts if v.rule == rule) > 0, rule.name


def test_fail_rule_names_table_scope_rule_and_count(tmp_path: Path) -> None:
    promise = contract.load(SCHEMAS, "users")
    rows = good_rows(promise)
    rows[-1]["degree"] = 0
    with pytest.raises(
        CheckFailed, match=r"users\[day=2026-01-04\] .*between\(degree, min_value=1\): 1 rows"
    ):
        checks.audit(promise, as_table(promise, rows), scope="day=2026-01-04")


@pytest.mark.parametrize("keys", [1, 3, 10**6])
def test_unique_keys_repeated_are_counted_across_shares(
    keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten users, of whom one is there twice, one three times, and two have no id."""
    monkeypatch.setattr(checks, "KEYS", keys)
    numbers = [*range(10), 4, 7, 7]
    ids = [f"u{number}" if number < 8 else None for number in numbers]
    rows = pa.table({"user_idx": pa.array(numbers, pa.int32()), "user_id": ids})
    one = Rule("expect_column_values_to_be_unique", {"column": "user_id"}, "fail")
    both = Rule(
        "expect_compound_columns_to_be_unique", {"column_list": ["user_id", "user_idx"]}, "fail"
    )
    users = replace(contract.load(SCHEMAS, "users"), rules=(one, both))
    assert [v.broken for v in checks.evaluate(users, rows)] == [3, 3]
    nobody = rows.set_column(0, "user_idx", pa.array([0] * len(rows), pa.int32()))
    assert [v.broken for v in checks.evaluate(users, nobody)] == [3, 4]
    assert [v.broken for v in checks.evaluate(users, rows.slice(0, 0))] == [0, 0]


def test_not_null_counts_nan_as_missing() -> None:
    promise = contract.load(SCHEMAS, "watch_edges")
    rows = good_rows(promise)
    rows[-1]["weight"] = float("nan")
    with pytest.raises(CheckFailed, match="not_be_null\\(weight\\): 1 rows"):
        checks.audit(promise, as_table(promise, rows), scope="day=2026-01-04")
