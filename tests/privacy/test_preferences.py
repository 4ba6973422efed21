"""What holds after some wishes have been heard."""

import datetime as dt
from itertools import permutations
from typing import Any

import pytest

from microrec.privacy import preferences
from microrec.privacy.preferences import Wish


def at(hour: int, day: int = 5) -> dt.datetime:
    return dt.datetime(2026, 1, day, hour, tzinfo=dt.UTC)


def asked(kind: str, value: str | None, when: dt.datetime, day: int = 5) -> dict[str, Any]:
    return {
        "day": dt.date(2026, 1, day), "counts_at": when, "user_id": "u", "kind": kind, "value": value, "rule": None,
    }  # fmt: skip


CASES: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str, int]]]] = {
    "a block": ([asked("block_video", "v", at(9))], [("block_video", "v", 9)]),
    "twice the same": (
        [asked("block_tag", "t", at(9)), asked("block_tag", "t", at(10))],
        [("block_tag", "t", 9)],
    ),
    "taken back": ([asked("block_author", "a", at(9)), asked("unblock", "a", at(10))], []),
    "blocked again": (
        [asked("block_tag", "t", at(9)), asked("unblock", "t", at(10)), asked("block_tag", "t", at(11))],
        [("block_tag", "t", 11)],
    ),
    "another one taken back": (
        [asked("block_video", "v", at(9)), asked("unblock", "w", at(10))],
        [("block_video", "v", 9)],
    ),
    "a later arrival counts, whatever its clock says": (
        [asked("unblock", "v", at(8), day=6), asked("block_video", "v", at(9), day=5)],
        [],
    ),
    "the last reset": ([asked("reset", None, at(9)), asked("reset", "x", at(10))], [("reset", "", 10)]),
    "no exploration, and again": (
        [asked("no_exploration", None, at(9)), asked("exploration", None, at(10))],
        [],
    ),
    "no profiling, and again": (
        [asked("no_profiling", None, at(9)), asked("profiling", "x", at(10))],
        [],
    ),
    "profiling and none at one instant is none": (
        [asked("profiling", None, at(9)), asked("no_profiling", None, at(9))],
        [("no_profiling", "", 9)],
    ),
    "no teaching beats teaching": (
        [asked("teaching", None, at(9)), asked("no_teaching", None, at(9))],
        [("no_teaching", "", 9)],
    ),
    "teaching taken back": (
        [asked("no_teaching", None, at(9)), asked("teaching", None, at(10))],
        [],
    ),
    "at one instant": (
        [asked("block_video", "v", at(9)), asked("block_video", "w", at(9)), asked("unblock", "v", at(9))],
        [("block_video", "w", 9)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_after_wishes_in_any_order_of_lines(name: str) -> None:
    wishes, expected = CASES[name]
    for order in permutations(wishes):
        holding = preferences.after([], order)
        assert [(w.kind, w.value, w.since.hour) for w in holding] == expected


def test_after_keeps_what_held_and_others_wishes() -> None:
    held = [Wish("other", "block_video", "v", at(1)), Wish("u", "block_tag", "t", at(2))]
    heard = [asked("unblock", "v", at(9)), asked("block_author", "a", at(9))]
    assert preferences.after(held, heard) == [
        Wish("other", "block_video", "v", at(1)),
        Wish("u", "block_author", "a", at(9)),
        Wish("u", "block_tag", "t", at(2)),
    ]
    # The same file read once more comes to the same.
    once = preferences.after(held, heard)
    assert preferences.after(once, heard) == once
