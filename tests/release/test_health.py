"""What the watchdog says of releases that are late, expired, shrunk, withdrawn or missing."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest

from microrec.cli import app
from microrec.release import health
from microrec.release.health import Config, findings
from microrec.release.reader import WITHDRAWN, Pin, Release
from microrec.tables.arrow import Warehouse

LAST = dt.date(2026, 1, 10)
NOON = dt.datetime(2026, 1, 11, 12, 30, tzinfo=dt.UTC)
"""Half an hour after the release of LAST is due."""
HOUSE = Warehouse("", None, None, {})  # type: ignore[arg-type]


def release(day: dt.date, rows: int = 1000) -> Release:
    midnight = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
    pins = {
        name: Pin(name, 1, n, "0")
        for name, n in (("recommendations", rows), ("fallback_recommendations", 100))
    }
    return Release(day, "run", "0", midnight + dt.timedelta(hours=96), pins, HOUSE)


def ago(days: int) -> dt.date:
    return LAST - dt.timedelta(days=days)


GOOD = [release(ago(back)) for back in range(9, -1, -1)]


def said(releases: list[Release], now: dt.datetime = NOON, begun: tuple[dt.date, ...] = ()) -> str:
    return "; ".join(findings(releases, begun, now=now, config=Config()))


def test_health_good_releases_and_night_not_due_have_no_findings() -> None:
    assert said(GOOD) == ""
    assert said(GOOD, NOON + dt.timedelta(hours=23)) == ""
    assert said(GOOD[-1:]) == "", "the first release of all"


@pytest.mark.parametrize(
    ("releases", "now", "begun", "words"),
    [
        ([], NOON, (), "none is in force"),
        ([replace(GOOD[0], status=WITHDRAWN)], NOON, (), "none is in force"),
        (GOOD, NOON + dt.timedelta(days=1), (), "is of 2026-01-10, that of 2026-01-11 is overdue"),
        (GOOD[:-3], NOON, (), "expired at 2026-01-11 00:00 UTC"),
        ([*GOOD[:-1], release(LAST, 700)], NOON, (), "700 rows, usually 1000"),
        ([*GOOD[:-1], release(LAST, 1300)], NOON, (), "1300 rows, usually 1000"),
        (
            [*GOOD[:-2], replace(GOOD[-2], status=WITHDRAWN, reason="one author"), GOOD[-1]],
            NOON, (), "releases[day=2026-01-09]: withdrawn: one author",
        ),
        ([*GOOD[:-3], *GOOD[-2:]], NOON, (), "releases[day=2026-01-08]: no release, the night was never begun"),
        ([*GOOD[:-3], *GOOD[-2:]], NOON, (ago(2),), "the night was begun and not finished"),
    ],
)  # fmt: skip
def test_health_each_fault_is_its_only_finding(
    releases: list[Release], now: dt.datetime, begun: tuple[dt.date, ...], words: str
) -> None:
    found = findings(releases, begun, now=now, config=Config())
    assert [one for one in found if words in one]
    overdue_and_two_gaps = 3 if "expired" in words else 0
    assert len(found) == 1 + overdue_and_two_gaps


def test_health_faults_older_than_a_week_are_ignored() -> None:
    gap = [one for one in GOOD if one.day != ago(8)]
    assert said(gap) == ""


def test_health_finding_is_one_line_however_long(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The alert of a task is the last line that the command printed."""
    long = [f"releases[day={ago(back)}]: withdrawn: one author everywhere" for back in range(5)]
    monkeypatch.setattr(health, "findings", lambda *_, **__: long)
    monkeypatch.setattr("sys.argv", ["microrec", "watch"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 65
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"CheckFailed: {'; '.join(long)}"


def test_health_release_is_due_by_the_end_of_its_local_day() -> None:
    """In Shanghai 10 January ends at 16:00 UTC, in New York eight hours and five later."""
    due = dt.datetime(2026, 1, 11, 4, tzinfo=dt.UTC)
    for timezone, hours in (("Asia/Shanghai", 0), ("UTC", 8), ("America/New_York", 13)):
        for minutes, overdue in ((-1, False), (0, True)):
            now = due + dt.timedelta(hours=hours, minutes=minutes)
            said = findings(GOOD[:-1], (), now=now, config=Config(), timezone=timezone)
            assert any("that of 2026-01-10 is overdue" in fault for fault in said) is overdue
