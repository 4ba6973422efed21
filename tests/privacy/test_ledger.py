"""What is remembered of requests, and whose viewings may not be used when."""

import datetime as dt
from itertools import permutations
from typing import Any

import pyarrow as pa
import pytest

from microrec.core import days
from microrec.landing import requests
from microrec.privacy import ledger
from microrec.privacy.ledger import Period
from microrec.privacy.subjects import Subjects

SUBJECTS = Subjects(b"a key that tests share")
DAY = dt.date(2026, 1, 5)
END = dt.datetime(2026, 1, 5, 23, 59, 59, 999999, tzinfo=dt.UTC)


def at(hour: int, day: int = 5) -> dt.datetime:
    return dt.datetime(2026, 1, day, hour, tzinfo=dt.UTC)


Asked = tuple[int, str, dt.datetime | None]
"""Day of arrival in January, kind, stated instant."""


def rows(*asked: Asked, timezone: str = days.UTC) -> list[dict[str, Any]]:
    lines = [
        {
            "day": dt.date(2026, 1, day), "file": f"t/day=2026-01-{day:02}/f", "number": number, "user_id": "u",
            "kind": kind, "requested_at": stated, "rule": None, "withdrawn": [],
        }
        for number, (day, kind, stated) in enumerate(asked, 1)
    ]  # fmt: skip
    judged = pa.Table.from_pylist(lines, schema=requests.SCHEMA)
    stamps = {line["file"]: "s" for line in lines}
    return ledger.rows(judged, stamps, SUBJECTS, lateness_days=3, timezone=timezone)


def periods(*asked: Asked, erased_at: dt.datetime | None = None) -> list[Period]:
    subject = SUBJECTS.of("u")
    erased = {subject: erased_at} if erased_at else {}
    return ledger.periods(rows(*asked), erased).get(subject, [])


OUT, IN, ERASE = "opt_out", "opt_in", "erase"
CASES: dict[str, tuple[list[Asked], list[Period]]] = {
    "in": ([(5, IN, at(9))], []),
    "out": ([(5, OUT, at(9))], [Period(OUT, at(9), None, at(9))]),
    "out-in": ([(5, OUT, at(9)), (5, IN, at(10))], [Period(OUT, at(9), at(10), at(9))]),
    "in-out": ([(5, IN, at(9)), (5, OUT, at(10))], [Period(OUT, at(10), None, at(10))]),
    "out-out-in": (
        [(5, OUT, at(9)), (6, OUT, at(9, 6)), (7, IN, at(9, 7))],
        [Period(OUT, at(9), at(9, 7), at(9))],
    ),
    "out-in-out": (
        [(5, OUT, at(9)), (5, IN, at(10)), (5, OUT, at(11))],
        [Period(OUT, at(9), at(10), at(9)), Period(OUT, at(11), None, at(11))],
    ),
    "at one instant the opt-out stands": (
        [(5, IN, at(9)), (5, OUT, at(9))],
        [Period(OUT, at(9), None, at(9))],
    ),
    "at one instant the erasure stands": (
        [(5, IN, at(9)), (5, OUT, at(9)), (5, ERASE, at(9))],
        [Period(ERASE, None, None, at(9))],
    ),
    "an erasure takes the periods before along": (
        [(5, OUT, at(9)), (5, IN, at(10)), (6, ERASE, at(9, 6))],
        [Period(ERASE, None, None, at(9, 6))],
    ),
    "the day of arrival comes before the clock": (
        # Stated earlier, arrived later.
        [(5, IN, at(9)), (6, OUT, at(8))],
        [Period(OUT, at(8), None, at(8))],
    ),
    "the clock ahead counts at arrival": (
        [(5, OUT, at(0, 20))],
        [Period(OUT, END, None, END)],
    ),
    "the clock far behind counts at arrival": (
        [(5, OUT, dt.datetime(1970, 1, 1, tzinfo=dt.UTC))],
        [Period(OUT, END, None, END)],
    ),
    "two clocks nobody believes: the opt-out stands": (
        [(5, OUT, at(0, 20)), (5, IN, at(0, 21))],
        [Period(OUT, END, None, END)],
    ),
    "the clock ahead does not outlive a later opt-in": (
        [(5, OUT, at(0, 20)), (6, IN, at(8, 6))],
        [Period(OUT, END, at(8, 6), END)],
    ),
    "no time": ([(5, OUT, None)], [Period(OUT, END, None, END)]),
    "erased, then in, before it was carried out": (
        [(5, ERASE, at(9)), (6, IN, at(9, 6))],
        [Period(ERASE, None, None, at(9))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_periods_case_by_case_in_any_order_of_lines(name: str) -> None:
    asked, expected = CASES[name]
    for order in permutations(asked):
        assert periods(*order) == expected


def test_periods_of_somebody_who_comes_back_after_the_erasure() -> None:
    """Who registers anew is a new person: nothing of before counts, all of after does."""
    asked: list[Asked] = [(5, ERASE, at(9)), (7, IN, at(8, 7))]
    assert periods(*asked, erased_at=at(9)) == [Period(ERASE, None, at(8, 7), at(9))]
    # On the day of the erasure itself, and before a second erasure has been carried out, it stands.
    assert periods((5, ERASE, at(9)), (5, IN, at(10)), erased_at=at(9))[-1].until is None
    again: list[Asked] = [*asked, (8, ERASE, at(9, 8)), (9, IN, at(9, 9))]
    assert periods(*again, erased_at=at(9)) == [Period(ERASE, None, None, at(9, 8))]


def test_counts_at_goes_by_the_days_of_the_time_zone() -> None:
    """A day of Shanghai ends eight hours before that of UTC."""
    asked: Asked = (5, OUT, at(16))
    (row,) = rows(asked, timezone="Asia/Shanghai")
    assert row["counts_at"] == at(16) - dt.timedelta(microseconds=1)
    (row,) = rows(asked)
    assert row["counts_at"] == at(16)


def test_rows_keep_refused_lines_and_files_without_lines() -> None:
    line = {"day": DAY, "file": "t/day=2026-01-05/a", "requested_at": None, "withdrawn": []}
    lines = [
        line | {"number": 1, "user_id": None, "kind": "hide", "rule": "missing_user"},
        line | {"number": 2, "user_id": None, "rule": "malformed_line", "withdrawn": ["u", "v"]},
        line | {"number": 3, "user_id": "w", "kind": IN, "rule": None},
    ]
    judged = pa.Table.from_pylist(lines, schema=requests.SCHEMA)
    stamps = {"t/day=2026-01-05/a": "s", "t/day=2026-01-06/b": "s"}
    remembered = ledger.rows(judged, stamps, SUBJECTS, lateness_days=3, timezone=days.UTC)
    shown = [(r["number"], r["part"], r["subject"], r["kind"], r["verdict"]) for r in remembered]
    u, v, w = map(SUBJECTS.of, "uvw")
    assert shown == [
        (1, 0, None, None, "missing_user"),
        (2, 0, u, OUT, "malformed_line"),
        (2, 1, v, OUT, "malformed_line"),
        (3, 0, w, IN, "counted"),
        (0, 0, None, None, "empty_file"),
    ]
    assert remembered[-1]["day"] == dt.date(2026, 1, 6)
    assert not {"u", "v", "w"} & {str(value) for row in remembered for value in row.values()}
