"""Commands that read and look after releases: their tables, their JSON, their exit statuses."""

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from microrec.config.settings import settings
from microrec.landing import write
from microrec.landing.listing import Listing
from microrec.pipeline import landing_files
from microrec.release import reader
from microrec.runner.exit_status import ExitStatus
from microrec.tables.arrow import Warehouse
from tests.worlds.releases import filled

DAYS = [dt.date(2026, 1, 4), dt.date(2026, 1, 5)]
NOON = f"{DAYS[1] + dt.timedelta(days=1)}T10:00"


def test_show_prints_hostile_ids_literally(warehouse: Warehouse, typed: Callable[..., Any]) -> None:
    listing = typed("show", "recommendations").output
    assert "recommendations: 4 rows" in listing
    assert "[red]x[/red]" in listing
    assert ":smile: [link=file:///etc]u[/link]" in listing
    assert "esc\\x1b[2J\\u202e" in listing
    assert "\x1b" not in listing
    one = typed("show", "recommendations", "--user", "[red]x[/red]").output
    assert "recommendations: 1 rows" in one


def test_show_as_json_has_the_columns_of_the_contract(
    warehouse: Warehouse, typed: Callable[..., Any]
) -> None:
    outcome = typed("show", "recommendations", "--json", "--limit", "3")
    columns = warehouse.table("recommendations").contract.schema.names
    assert [set(row) for row in outcome.rows] == [set(columns)] * 3
    first = outcome.rows[0]
    assert first["day"] == str(DAYS[1])
    assert first["valid_until"] == "2026-01-08T00:00:00+00:00"
    everyone = typed("show", "recommendations", "--json").rows
    assert "esc\x1b[2J\u202e" in {row["user_id"] for row in everyone}
    earlier = typed("show", "recommendations", "--json", "--day", str(DAYS[0])).rows
    assert {row["user_id"] for row in earlier} == {"u0", "u1", "u2", "u3"}


def test_explain_prints_why_a_row_is_there(warehouse: Warehouse, typed: Callable[..., Any]) -> None:
    users = filled(warehouse, "users", 1, user_id=["u0"])
    warehouse.write("users", users, day=DAYS[1])
    warehouse.write_empty("watch_edges", day=DAYS[1], split="train")
    said = typed("explain", "--user", "[red]x[/red]", "--rank", "1").output
    assert said.splitlines()[0].startswith("x, place 1 of 2026-01-05-")
    assert said.splitlines()[1] == "X."
    (row,) = typed("explain", "--user", "[red]x[/red]", "--json").rows
    assert list(row) == ["day", "release", "rank", "video_id", "sentences", "parameters"]
    refused = typed("explain", "--user", "nobody")
    assert refused.status == ExitStatus.DATA_ERROR
    assert "the same for everybody" in refused.errors


def test_releases_as_json_has_a_row_a_release_with_its_pins(
    warehouse: Warehouse, typed: Callable[..., Any]
) -> None:
    reason = "[red]one author[/red] everywhere"
    rollback = typed("rollback", "--to", str(DAYS[0]), "--reason", reason)
    assert f"withdrawn: {DAYS[1]}" in rollback.output
    assert reason in typed("releases").output
    first, second = typed("releases", "--json").rows
    assert list(first) == [
        "id", "day", "status", "reason", "run_id", "code_version", "valid_until", "inputs", "tables",
    ]  # fmt: skip
    assert (first["day"], first["status"]) == (str(DAYS[0]), "released")
    assert (second["status"], second["reason"]) == ("withdrawn", reason)
    assert first["tables"].keys() == set(reader.RESULTS)
    assert first["tables"]["recommendations"].keys() == {"version", "rows", "digest"}
    (latest,) = typed("releases", "--latest").rows
    assert latest == {"day": first["day"], "release": first["id"]}
    assert typed("releases", "--latest", "--json").rows == [latest]


def test_releases_of_an_empty_warehouse_as_json_are_no_line(typed: Callable[..., Any]) -> None:
    outcome = typed("releases", "--json")
    assert (outcome.status, outcome.output) == (ExitStatus.SUCCESS, "")


def test_watch_writes_its_figures_whatever_it_finds(
    warehouse: Warehouse, typed: Callable[..., Any], place: Path
) -> None:
    file = place / "microrec.prom"
    late = f"{DAYS[1] + dt.timedelta(days=9)}T10:00"
    for now, status in ((NOON, ExitStatus.SUCCESS), (late, ExitStatus.DATA_ERROR)):
        outcome = typed("watch", "--now", now, "--metrics-file", str(file), "--json")
        assert outcome.status == status, outcome.errors
        n_findings = len(outcome.rows[0]["findings"])
        assert f"\nmicrorec_watch_findings {n_findings}.0\n" in file.read_text()
    assert n_findings > 0


def test_watch_of_good_releases_names_the_latest(
    warehouse: Warehouse, typed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    latest = reader.latest().id
    well = typed("watch", "--now", NOON)
    assert (well.status, well.output) == (ExitStatus.SUCCESS, f"all is well: {latest}\n")
    (row,) = typed("watch", "--now", NOON, "--json").rows
    assert row == {"now": f"{NOON}:00+00:00", "latest": latest, "findings": []}


def test_watch_with_findings_prints_them_and_ends_with_65(
    warehouse: Warehouse, typed: Callable[..., Any]
) -> None:
    late = typed("watch", "--now", "2026-01-09", "--json")
    assert late.status == ExitStatus.DATA_ERROR
    (row,) = late.rows
    assert row["latest"] == reader.latest().id
    assert any("overdue" in finding for finding in row["findings"])
    assert late.errors == f"CheckFailed: {'; '.join(row['findings'])}\n"
    plain = typed("watch", "--now", "2026-01-09")
    assert plain.output == ""
    assert plain.errors == late.errors


def test_watch_names_landing_files_that_no_night_has_read(
    warehouse: Warehouse, typed: Callable[..., Any], tmp_path: Path
) -> None:
    landing = tmp_path / "zone"
    words = ["watch", "--now", NOON, "--landing", str(landing)]

    def deliver(day: dt.date, name: str, text: str = "{}") -> Path:
        return write.write_lines(
            str(landing), "raw_interactions", day, [text], kind="jsonl", name=name
        )

    gone, rewritten = (deliver(DAYS[1], name) for name in ("gone", "rewritten"))
    outside = DAYS[1] - dt.timedelta(days=14)
    deliver(outside, "first")
    long_past = outside - dt.timedelta(days=60)
    listing = Listing.take(str(landing), last=DAYS[1])
    warehouse.write("landing_files", landing_files.rows(listing), day=DAYS[1])
    deliver(DAYS[1] + dt.timedelta(days=1), "tomorrow")
    assert typed(*words).status == ExitStatus.SUCCESS
    gone.unlink()
    rewritten.write_text("{}\n{}\n")
    deliver(DAYS[0], "late", "12345")
    deliver(outside, "too_late")
    deliver(long_past, "looked_at_by_no_night_of_the_window")
    outcome = typed(*words, "--json")
    assert outcome.status == ExitStatus.DATA_ERROR
    after = f"after the night of {DAYS[1]} had read its day"
    assert outcome.rows[0]["findings"] == [
        f"raw_interactions[{outside}] too_late.jsonl (3 bytes) arrived {after}: no later night reads it;"
        " `microrec plan` names the nights that would be made anew",
        f"raw_interactions[{DAYS[0]}] late.jsonl (6 bytes) arrived {after}: the next night reads it",
        f"raw_interactions[{DAYS[1]}] gone.jsonl (3 bytes) was removed {after}: rows that were made of it stay until"
        " their day is made again",
        f"raw_interactions[{DAYS[1]}] rewritten.jsonl (6 bytes) was rewritten {after}: the next night reads it",
    ]
    assert typed("watch", "--now", NOON, "--landing", str(tmp_path / "elsewhere")).status == 0


def test_watch_loads_no_engine() -> None:
    """It runs every hour."""
    program = (
        "import sys, microrec.cli.releases, microrec.pipeline.landing_files, microrec.release.health;"
        " print([name for name in ('pyspark', 'torch', 'sklearn', 'lightgbm') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_prune_takes_out_refused_rows_that_the_recipe_keeps_no_longer(
    warehouse: Warehouse,
    typed: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    today = dt.datetime.now(dt.UTC).date()
    kept, old = (today - dt.timedelta(days=days) for days in (2, 9))
    for day in (kept, old):
        rows = filled(warehouse, "rejected_rows", 1).drop_columns(["raw_table"])
        warehouse.write("rejected_rows", rows, day=day, raw_table="raw_videos")
    (tmp_path / "recipe.toml").write_text("[retention]\nrejected_rows = 5\n")
    monkeypatch.setenv("MICROREC_RECIPE", str(tmp_path / "recipe.toml"))
    settings.cache_clear()
    row = {"table": "rejected_rows", "partitions": 1}
    assert typed("prune", "--dry-run", "--json").rows == [row | {"dry_run": True}]
    assert warehouse.count("rejected_rows", day=old) == 1
    assert typed("prune", "--json").rows == [row | {"dry_run": False}]
    assert warehouse.count("rejected_rows", day=old) == 0
    assert warehouse.count("rejected_rows", day=kept) == 1
    assert "taken out" in typed("prune").output


def test_vacuum_as_json_says_what_would_go_by_table(
    warehouse: Warehouse, typed: Callable[..., Any]
) -> None:
    rows = typed("vacuum", "--dry-run", "--json").rows
    assert {"table": "recommendations", "deleted": 0, "dry_run": True} in rows
    assert all(set(row) == {"table", "deleted", "dry_run"} for row in rows)
    assert "would be deleted" in typed("vacuum", "--dry-run").output


def test_show_committed_has_the_rows_of_a_night_that_was_held(
    warehouse: Warehouse, typed: Callable[..., Any]
) -> None:
    held = DAYS[1] + dt.timedelta(days=1)
    rows = filled(warehouse, "gate_results", 2, gate=["floor", "dead_sources"])
    warehouse.write("gate_results", rows, day=held)
    words = ["show", "gate_results", "--day", str(held), "--json"]
    refused = typed(*words)
    assert refused.status == ExitStatus.DATA_ERROR
    assert f"MissingDay: releases[day={held}]: no release" in refused.errors
    assert [row["day"] for row in typed(*words, "--committed").rows] == [str(held)] * 2
    assert len(typed("show", "gate_results", "--json").rows) == 1, "of the last release"


WRITERS = [
    ("rollback", "--to", "2026-01-04", "--reason", "one author everywhere"),
    ("prune",),
    ("vacuum", "--dry-run"),
]


@pytest.mark.parametrize("words", WRITERS, ids=lambda words: words[0])
def test_commands_that_write_tables_make_private_files(
    words: tuple[str, ...], warehouse: Warehouse, typed: Callable[..., Any]
) -> None:
    os.umask(0o022)
    typed(*words)
    assert os.umask(0o022) == 0o077
