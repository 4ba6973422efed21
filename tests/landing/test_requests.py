"""Privacy requests read without Spark: spellings, refused lines, files at fault."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from microrec.errors import LandingError
from microrec.landing import requests, verify

STATED = "2026-01-05T09:00:00Z"
SPELT = {
    " OPT_OUT": "opt_out", "Opt-Out": "opt_out", "optout ": "opt_out", "OPT IN": "opt_in", "optin": "opt_in",
    "erase": "erase", "delete": "erase", " Forget": "erase", "deletion": "erase",
}  # fmt: skip


def deliver(
    place: Path, *lines: dict[str, Any] | str, day: int = 5, table: str = requests.TABLE
) -> Path:
    folder = place / "landing" / table / f"day=2026-01-{day:02}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "part-0.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def read(*paths: Path) -> list[dict[str, Any]]:
    return requests.read(paths, verify.DEFAULT, timezone="UTC").to_pylist()


def test_read_spellings_mean_what_they_say(place: Path) -> None:
    lines = [{"user_id": " u1 ", "kind": kind, "requested_at": STATED} for kind in SPELT]
    rows = read(deliver(place, *lines))
    assert [row["kind"] for row in rows] == list(SPELT.values())
    assert {row["user_id"] for row in rows} == {"u1"}
    assert {row["requested_at"] for row in rows} == {dt.datetime(2026, 1, 5, 9, tzinfo=dt.UTC)}
    assert [row["number"] for row in rows] == list(range(1, len(SPELT) + 1))
    assert {row["file"] for row in rows} == {f"{requests.TABLE}/day=2026-01-05/part-0.jsonl"}


def test_read_refused_lines_withdraw_in_doubt(place: Path) -> None:
    rows = read(
        deliver(
            place,
            {"user_id": "u1", "kind": "hide", "requested_at": STATED},
            '{"user_id": "u2", "kind": "opt_out", "reques',
            '{"user_id": "u3", "kind": "opt_in", "reques',
            {"user_id": None, "kind": "opt_out", "requested_at": STATED},
            {"user_id": "u4", "kind": "opt_in", "requested_at": "soon"},
            {"user_id": "u5", "kind": "opt_out", "requested_at": "soon"},
        )
    )
    assert [(row["rule"], row["withdrawn"]) for row in rows] == [
        ("unknown_kind", ["u1"]),
        ("malformed_line", ["u2"]),
        ("malformed_line", []),
        ("missing_user", []),
        ("bad_timestamp", []),
        (None, []),
    ]
    assert rows[-1]["requested_at"] is None


def test_read_several_files_and_none(place: Path) -> None:
    lines = [{"user_id": "u1", "kind": "erase", "requested_at": STATED}]
    days = [row["day"] for row in read(deliver(place, *lines), deliver(place, *lines, day=6))]
    assert days == [dt.date(2026, 1, 5), dt.date(2026, 1, 6)]
    assert read() == []
    header = deliver(place, *lines).with_name("part-1.csv")
    header.write_text("user_id,kind,requested_at\n")
    assert read(header) == []


def test_read_names_a_file_that_cannot_be_read(place: Path) -> None:
    path = deliver(place).with_name("part-1.csv")
    path.write_text("user_id,requested_at\nu1,2026-01-05T09:00:00Z\n")
    with pytest.raises(LandingError, match=r"day=2026-01-05/part-1.csv: missing column 'kind'"):
        read(path)


def test_read_preferences_refuses_by_name(place: Path) -> None:
    wish = {"user_id": " u ", "kind": "Block-Video", "value": " v ", "requested_at": STATED}
    path = deliver(
        place,
        wish,
        wish | {"kind": "reset", "value": None, "requested_at": "soon"},
        wish | {"value": " "},
        wish | {"kind": "unblock", "value": None},
        wish | {"kind": "hide"},
        wish | {"user_id": None},
        '{"user_id": "u", "kind": "reset", "requ',
        table="raw_preferences",
    )
    rows = requests.read_preferences([path], verify.DEFAULT, timezone="UTC").to_pylist()
    assert [(row["kind"], row["value"], row["rule"]) for row in rows] == [
        ("block_video", "v", None),
        ("reset", None, None),
        ("block_video", None, "missing_value"),
        ("unblock", None, "missing_value"),
        ("hide", "v", "unknown_kind"),
        ("block_video", "v", "missing_user"),
        (None, None, "malformed_line"),
    ]
    assert rows[1]["requested_at"] is None
