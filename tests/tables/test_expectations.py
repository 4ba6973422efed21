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
    bad = [(rule, broken_by(promise, rule)) for rule in promise.rules]
    good = [*good_rows(promise), *good_rows(promise)[:1]]
    for rows in (good_rows(promise), good, [row for _, broken in bad for row in broken]):
        frame = as_table(promise, rows)
        ours, theirs = checks.evaluate(promise, frame), expectations.evaluate(promise, frame)
        assert len(ours) == len(theirs) == len(promise.rules)
        assert list(map(seen, ours)) == list(map(seen, theirs))
    for rule, rows in bad:
        alone, frame = replace(promise, rules=(rule,)), as_table(promise, rows)
        (ours,), (theirs,) = checks.evaluate(alone, frame), expectations.evaluate(alone, frame)
        assert (seen(ours), bool(ours.broken)) == (seen(theirs), True)


def seen(verdict: checks.Verdict) -> tuple[str, int]:
    """Rule and count; of repeated rows only whether there are any, as the engines count them differently."""
    unique = "unique" in verdict.rule.type
    return verdict.rule.name, bool(verdict.broken) if unique else verdict.broken


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


def test_audit_empty_table_message_says_how_many_rows_there_are() -> None:
    promise = contract.load(SCHEMAS, "users")
    with pytest.raises(
        CheckFailed, match=r"count_to_be_between\(min_value=1\): the table has 0 rows"
    ):
        checks.audit(promise, as_table(promise, []), scope="day=2026-01-04")


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


NEVER_EMPTY = {
    "fallback_recommendations",
    "gate_results",
    "recommendations",
    "users",
    "video_nodes",
    "videos",
}
"""Of all other tables no row may be right: no clips, no second modality, nobody opted out."""
ODD_TEXTS = ("nan", "NaN", "None", "NULL", "\N{GRINNING FACE}" * 512, "'; --", "é", "e\u0301")


def odd_rows(promise: Contract) -> list[dict[str, Any]]:
    """Rows an honest service has: odd ids, nothing where nothing need be, numbers at the ends of what is allowed."""
    base = good_rows(promise)[0]
    bounds: dict[str, list[Any]] = {}
    for rule in promise.rules:
        if rule.type == "expect_column_values_to_be_between":
            strict = rule.kwargs.get("strict_min")
            ends = [rule.kwargs.get("max_value"), None if strict else rule.kwargs.get("min_value")]
            bounds[rule.kwargs["column"]] = [end for end in ends if end is not None]
    in_sets = {rule.kwargs["column"] for rule in promise.rules if "value_set" in rule.kwargs}
    paired = {
        column
        for rule in promise.rules
        for name, column in rule.kwargs.items()
        if name in ("column_A", "column_B")
    }
    rows = []
    for number, text in enumerate(ODD_TEXTS):
        row = dict(base)
        for column in promise.columns:
            free = column.name not in in_sets | paired | set(promise.partition)
            ends = bounds.get(column.name, [])
            if not column.required:
                row[column.name] = None
            elif free and pa.types.is_string(column.type):
                row[column.name] = text
            elif free and ends:
                end = ends[number % len(ends)]
                # As float32 3e38 lies above 3e38.
                row[column.name] = end * (1 - 1e-6) if pa.types.is_floating(column.type) else end
            elif free and pa.types.is_integer(column.type) and column.name not in promise.key:
                row[column.name] = 2**31 - 1
        rows.append(row)
    return rows if any(r != rows[0] for r in rows[1:]) else rows[:1]


@pytest.mark.parametrize("table", TABLES)
def test_rules_odd_rows_of_an_honest_service_pass(table: str) -> None:
    from microrec.tables import expectations

    promise = contract.load(SCHEMAS, table)
    frame = as_table(promise, odd_rows(promise))
    for evaluate in (checks.evaluate, expectations.evaluate):
        broken = {v.rule.name for v in evaluate(promise, frame) if v.broken}
        assert not {name for name in broken if "unique" not in name}
    nothing = frame.slice(0, 0)
    for evaluate in (checks.evaluate, expectations.evaluate):
        broken = [v.rule.type for v in evaluate(promise, nothing) if v.broken]
        assert broken == ["expect_table_row_count_to_be_between"] * (table in NEVER_EMPTY)


def test_events_long_videos_and_many_replays_pass() -> None:
    """A viewing of a day, of a video of three hours, and 63 replays of one of 7 s."""
    promise = contract.load(SCHEMAS, "events")
    changes = [
        {"watch_ms": 86_400_000, "duration_ms": 10_800_000, "watch_ratio": 8.0, "n_replays": 7},
        {"watch_ms": 441_000, "duration_ms": 7_000, "watch_ratio": 63.0, "n_replays": 62},
        {"watch_ms": 0, "duration_ms": 1, "watch_ratio": 0.0, "n_replays": 0},
    ]
    rows = [
        {**good_rows(promise)[0], **change, "event_id": str(n)} for n, change in enumerate(changes)
    ]
    verdicts = checks.audit(promise, as_table(promise, rows), scope="day=2026-01-04")
    assert not any(verdict.broken for verdict in verdicts)


def test_not_null_counts_nan_as_missing() -> None:
    promise = contract.load(SCHEMAS, "watch_edges")
    rows = good_rows(promise)
    rows[-1]["weight"] = float("nan")
    with pytest.raises(CheckFailed, match="not_be_null\\(weight\\): 1 rows"):
        checks.audit(promise, as_table(promise, rows), scope="day=2026-01-04")
