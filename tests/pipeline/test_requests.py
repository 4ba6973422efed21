"""Requests are folded once, remembered for good, and count as of now."""

import datetime as dt
import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from microrec.config.settings import settings
from microrec.errors import BadArgument, LandingError
from microrec.pipeline import requests
from microrec.pipeline.night import Night
from microrec.privacy import erasure, receipts
from microrec.privacy.subjects import Subjects

FIRST = dt.date(2026, 1, 5)
OUT, IN, ERASE = "opt_out", "opt_in", "erase"


def day(number: int) -> dt.date:
    return FIRST + dt.timedelta(days=number - 5)


def ask(place: Path, on: int, *asked: tuple[str, str], name: str = "part-0") -> Path:
    """Deliver requests (user, kind), one an hour from nine."""
    folder = place / "landing" / "raw_privacy_requests" / f"day={day(on)}"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {"user_id": user, "kind": kind, "requested_at": f"{day(on)}T{9 + number:02}:00:00Z"}
        for number, (user, kind) in enumerate(asked)
    ]
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def night(on: int) -> Night:
    return Night.open(day(on))


def suppressed(on: int) -> dict[str, str]:
    return {row["user_id"]: row["kind"] for row in night(on).suppressed().to_pylist()}


def withheld() -> list[tuple[Any, ...]]:
    warehouse = night(5).warehouse
    rows = warehouse.read("withheld_periods", day=warehouse.last_day("withheld_periods"))
    return sorted((r["user_id"], r["first_day"], r["last_day"]) for r in rows.to_pylist())


def test_fold_tells_who_is_out_and_who_is_back(place: Path) -> None:
    ask(place, 5, ("out", OUT), ("back", OUT), ("erased", ERASE))
    ask(place, 7, ("back", IN))
    requests.fold(night(7))
    assert suppressed(7) == {"out": OUT, "erased": ERASE}
    assert withheld() == [("back", day(5), day(7))]
    ledger = night(7).warehouse.read("privacy_ledger")
    assert ledger.num_rows == 4
    assert "back" not in str(ledger.to_pylist())


def test_fold_remembers_what_the_landing_zone_forgets(place: Path) -> None:
    path = ask(place, 5, ("out", OUT), ("back", OUT), ("erased", ERASE))
    requests.fold(night(5))
    path.unlink()
    requests.fold(night(6))
    assert suppressed(6) == {"out": OUT, "back": OUT, "erased": ERASE}
    ask(place, 8, ("back", IN))
    requests.fold(night(8))
    assert suppressed(8) == {"out": OUT, "erased": ERASE}
    assert withheld() == [("back", day(5), day(8))]


def test_fold_of_a_past_day_counts_as_of_now(place: Path) -> None:
    """A backfill knows of a request that arrived after its day, and does not forget it for later nights."""
    ask(place, 5, ("out", OUT))
    requests.fold(night(7))
    ask(place, 9, ("late", OUT))
    requests.fold(night(5))
    assert suppressed(5) == {"out": OUT, "late": OUT} == suppressed(9)
    assert night(5).warehouse.last_day("suppressed_users") == day(7)


def test_fold_reads_a_file_once_and_again_if_it_changes(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ask(place, 5, ("out", OUT))
    requests.fold(night(5))
    versions = {table: night(5).warehouse.version(table) for table in requests.TABLES}
    caplog.clear()
    requests.fold(night(5))
    assert {table: night(5).warehouse.version(table) for table in requests.TABLES} == versions
    assert "privacy_ledger files=" not in caplog.text
    ask(place, 5, ("other", OUT))
    requests.fold(night(5))
    # What was taken back by rewriting a file was asked all the same.
    assert suppressed(5) == {"out": OUT, "other": OUT}


def test_fold_carries_over_who_was_out_before_there_was_a_ledger(place: Path) -> None:
    """Their files may be gone long since."""
    warehouse = night(5).warehouse
    schema = warehouse.table("suppressed_users").contract.file_schema
    at = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    rows = [
        {"user_id": user, "kind": kind, "requested_at": at}
        for user, kind in (("old", OUT), ("gone", ERASE))
    ]
    warehouse.write("suppressed_users", pa.Table.from_pylist(rows, schema=schema), day=day(4))
    ask(place, 5, ("new", OUT))
    requests.fold(night(5))
    assert suppressed(5) == {"old": OUT, "gone": ERASE, "new": OUT}
    ask(place, 6, ("old", IN))
    requests.fold(night(6))
    assert suppressed(6) == {"gone": ERASE, "new": OUT}
    assert withheld() == [("old", day(2), day(6))]


def test_fold_without_requests_says_that_nobody_is_out(place: Path) -> None:
    requests.fold(night(5))
    assert suppressed(5) == {}
    assert withheld() == []


def test_fold_refuses_another_key(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(place, 5, ("out", OUT))
    requests.fold(night(5))
    monkeypatch.setenv("MICROREC_PRIVACY_KEY", "another key, lost and found")
    settings.cache_clear()
    with pytest.raises(BadArgument, match="nobody who has withdrawn would be known any more"):
        requests.fold(night(6))


def test_fold_names_a_file_that_cannot_be_read_and_forgets_nobody(place: Path) -> None:
    ask(place, 5, ("out", OUT))
    requests.fold(night(5))
    ask(place, 6, ("u", OUT))
    ask(place, 6, name="part-1").write_bytes(b"PAR1")
    with pytest.raises(LandingError, match="day=2026-01-06/part-1"):
        requests.fold(night(6))
    assert suppressed(6) == {"out": OUT}


def test_fold_warns_of_requests_that_cannot_be_read(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ask(place, 5, ("out", OUT), ("unclear", "hide"))
    requests.fold(night(5))
    where = "raw_privacy_requests/day=2026-01-05/part-0.jsonl line 2"
    assert f"privacy_ledger files=1 counted=1 unknown_kind=1 refused={where}\n" in caplog.text
    assert "unclear" not in caplog.text
    assert suppressed(5) == {"out": OUT, "unclear": OUT}


def test_findings_name_requests_that_could_not_be_followed(place: Path) -> None:
    warehouse = night(5).warehouse
    assert requests.findings(warehouse) == []
    ask(place, 4, ("unclear", "hide"))
    ask(place, 5, ("out", OUT), ("unclear", "hide"), ("what", "now"))
    requests.fold(night(5))
    schema = warehouse.table("metrics").contract.schema
    figure = {"day": day(5), "stage": "arrivals", "metric": "unmet_ids", "slice": "all"}
    rows = [
        figure | {"name": "raw_privacy_requests", "value": 2.0, "n": 3},
        figure | {"name": "raw_videos", "value": 9.0, "n": 9},
    ]
    filled = [{name: row.get(name) for name in schema.names} for row in rows]
    scope = {"day": day(5), "stage": "arrivals"}
    warehouse.write("metrics", pa.Table.from_pylist(filled, schema=schema), replace=[scope])
    unread, unmet = requests.findings(warehouse)
    where = "raw_privacy_requests/day=2026-01-05/part-0.jsonl"
    assert (
        "[2026-01-05]: 2 lines could not be read (unknown_kind 2), such as"
        f" {where} line 2, {where} line 3: ask"
    ) in unread
    assert unmet.startswith("raw_privacy_requests[2026-01-05]: users of 2 of 3 requests are in no")
    requests.fold(night(6))
    assert requests.findings(warehouse) == []


def test_fold_finds_the_names_of_the_ledger_among_users(place: Path) -> None:
    """Should `suppressed_users` be lost, the ledger and the last graph still tell who is out."""
    ask(place, 5, ("out", OUT), ("stranger", OUT))
    requests.fold(night(5))
    warehouse = night(5).warehouse
    users = {"user_idx": [0, 1], "user_id": ["other", "out"], "degree": [1, 1]}
    schema = warehouse.table("users").contract.file_schema
    seen = [dt.datetime(2026, 1, 5, tzinfo=dt.UTC)] * 2
    warehouse.write("users", pa.table({**users, "first_seen": seen}).cast(schema), day=day(5))
    warehouse.write_empty("suppressed_users", day=day(5))
    requests.fold(night(6))
    assert suppressed(6) == {"out": OUT}
    nameless = requests.subjects_without_name(night(6))
    assert nameless.keys() == {Subjects.open(warehouse.root).of("stranger")}


def wish(place: Path, on: int, *wished: tuple[str, str, str | None]) -> Path:
    """Deliver wishes (user, kind, value), one an hour from nine."""
    folder = place / "landing" / "raw_preferences" / f"day={day(on)}"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {"user_id": user, "kind": kind, "value": value}
        | {"requested_at": f"{day(on)}T{9 + number:02}:00:00Z"}
        for number, (user, kind, value) in enumerate(wished)
    ]
    path = folder / "part-0.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def held(on: int) -> list[tuple[str, str, str]]:
    rows = night(on).preferences().to_pylist()
    return sorted((row["user_id"], row["kind"], row["value"]) for row in rows)


def test_fold_preferences_last_when_their_files_have_gone(place: Path) -> None:
    path = wish(place, 5, ("a", "block_video", "v"), ("b", "block_tag", "t"), ("c", "hide", "v"))
    requests.fold(night(5))
    path.unlink()
    wish(place, 65, ("b", "unblock", "t"), ("a", "no_exploration", None))
    requests.fold(night(64))
    assert held(64) == [("a", "block_video", "v"), ("a", "no_exploration", "")]
    ledger = night(5).warehouse.read("privacy_ledger").to_pylist()
    assert sorted(row["verdict"] for row in ledger) == ["folded", "folded", "unknown_kind"]
    assert suppressed(64) == {}
    assert requests.findings(night(5).warehouse) == []


def test_fold_reset_leaves_out_what_was_watched_before(place: Path) -> None:
    ask(place, 5, ("a", OUT), ("a", IN))
    wish(place, 6, ("a", "reset", None), ("b", "reset", None))
    requests.fold(night(6))
    warehouse = night(6).warehouse
    rows = warehouse.read("withheld_periods", day=day(6)).to_pylist()
    assert sorted((r["user_id"], r["first_day"], r["last_day"]) for r in rows if r["since"] is None) == [
        ("a", None, day(6)), ("b", None, day(6)),
    ]  # fmt: skip
    assert len(rows) == 3
    wish(place, 8, ("a", "reset", None))
    requests.fold(night(8))
    rows = warehouse.read("withheld_periods", day=day(8)).to_pylist()
    assert sorted(r["last_day"] for r in rows if r["user_id"] == "a") == [day(5), day(8)]


def test_fold_killed_before_the_ledger_comes_to_the_same(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is written last: what it does not have is read once more."""
    ask(place, 5, ("out", OUT))
    wish(place, 5, ("a", "block_video", "v"), ("a", "unblock", "w"))
    with monkeypatch.context() as patch:
        patch.setattr(requests, "_append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            requests.fold(night(5))
    assert not night(5).warehouse.partitions("privacy_ledger")
    requests.fold(night(5))
    assert suppressed(5) == {"out": OUT}
    assert held(5) == [("a", "block_video", "v")]
    assert night(5).warehouse.read("privacy_ledger").num_rows == 2


def erase(on: int) -> None:
    """Carry out the erasures that are asked for."""
    warehouse = night(on).warehouse
    subjects = Subjects.open(warehouse.root)
    config = erasure.Config(grace_seconds=0)
    asking = receipts.requests(warehouse)
    erasure.erase(warehouse, asking, subject_of=subjects.of, config=config, authors_are_users=False)


def test_overdue_erasures_are_those_without_a_proof(place: Path) -> None:
    warehouse = night(5).warehouse
    late = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    assert requests.overdue(warehouse, now=late, days_allowed=30) == []
    ask(place, 5, ("gone", ERASE), ("back", ERASE), ("out", OUT))
    requests.fold(night(5))
    soon = dt.datetime(2026, 2, 4, tzinfo=dt.UTC)
    assert requests.overdue(warehouse, now=soon, days_allowed=30) == []
    (finding,) = requests.overdue(warehouse, now=late, days_allowed=30)
    assert finding.startswith("erasures without proof: 2 that were asked for more than 30 days ago")
    erase(5)
    assert requests.overdue(warehouse, now=late, days_allowed=30) == [finding]
    subjects = Subjects.open(warehouse.root)
    receipts.prove(warehouse, [subjects.of("gone")], at=late)
    (finding,) = requests.overdue(warehouse, now=late, days_allowed=30)
    assert finding.startswith("erasures without proof: 1 ")
    receipts.prove(warehouse, [subjects.of("back")], at=late)
    assert requests.overdue(warehouse, now=late, days_allowed=30) == []


def test_fold_names_nobody_who_was_erased_and_greets_who_comes_back(place: Path) -> None:
    ask(place, 5, ("gone", ERASE), ("back", ERASE))
    wish(place, 5, ("gone", "block_video", "v"))
    requests.fold(night(5))
    erase(5)
    subjects = Subjects.open(night(5).warehouse.root)
    assert requests.subjects_without_name(night(5)).keys() == {
        subjects.of("gone"),
        subjects.of("back"),
    }
    # Their file is delivered again: they are asked about once more, and named nowhere.
    ask(place, 5, ("gone", ERASE), ("back", ERASE), ("other", OUT))
    wish(place, 5, ("gone", "block_video", "w"))
    ask(place, 7, ("back", IN))
    requests.fold(night(7))
    assert suppressed(7) == {"other": OUT}
    assert held(7) == []
    warehouse = night(7).warehouse
    rows = warehouse.read("withheld_periods", day=day(7)).to_pylist()
    assert [(row["user_id"], row["since"], row["last_day"]) for row in rows] == [
        ("back", None, day(7))
    ]
    assert requests.subjects_without_name(night(7)).keys() == {subjects.of("gone")}
    ask(place, 8, ("back", ERASE))
    requests.fold(night(8))
    assert suppressed(8) == {"other": OUT, "back": ERASE}
