"""Commands that write raw files."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from microrec.runner.exit_status import ExitStatus


def test_world_writes_days_and_their_truth_and_prints_the_path_literally(
    tmp_path: Path, typed: Callable[..., Any]
) -> None:
    landing = tmp_path / "[red]landing[%red]"
    size = ["--users", "20", "--videos", "40", "--days", "2"]
    os.umask(0o022)
    outcome = typed("world", "--landing", str(landing), *size)
    assert outcome.status == ExitStatus.SUCCESS
    modes = {path.stat().st_mode & 0o777 for path in landing.rglob("*") if path.is_file()}
    assert modes == {0o644}, (
        "producers' files are as their shell has it: jobs of another user read them"
    )
    assert outcome.output == f"planted world: 20 users, 40 videos, 2 days in {landing}\n"
    days = sorted(path.name for path in (landing / "raw_interactions").iterdir())
    assert days == ["day=2026-01-01", "day=2026-01-02"]
    assert (landing / "_truth" / "truth.json").exists()


def test_world_smaller_than_can_be_planted_is_a_usage_error(
    tmp_path: Path, typed: Callable[..., Any]
) -> None:
    outcome = typed("world", "--landing", str(tmp_path), "--videos", "39")
    assert outcome.status == ExitStatus.USAGE
    assert "--videos" in outcome.errors
    assert outcome.output == ""


def test_kuairand_without_its_files_ends_with_an_error(
    tmp_path: Path, typed: Callable[..., Any]
) -> None:
    outcome = typed("import", "kuairand", str(tmp_path), "--landing", str(tmp_path / "landing"))
    assert outcome.status == ExitStatus.DATA_ERROR
    assert str(tmp_path) in outcome.errors


def test_import_table_prints_what_it_read_made_and_wrote(
    tmp_path: Path, typed: Callable[..., Any]
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "uid,clip,at,seconds,app\n007,v1,2026-03-04T10:00:00Z,1.5,x\n8,v2,2026-03-04T11:00:00Z,,x\n"
    )
    (tmp_path / "mapping.toml").write_text(
        'table = "raw_interactions"\n[columns]\nuser_id = "uid"\n'
    )
    mapped = ["video_id=clip", "started_at=at", "watch_ms=seconds * 1000"]
    words = ["import", "table", str(path), "--mapping", str(tmp_path / "mapping.toml")]
    words += ["--landing", str(tmp_path / "landing")]
    words += [word for each in mapped for word in ("--map", each)]
    outcome = typed(*words, "--dry-run")
    assert outcome.status == ExitStatus.SUCCESS
    assert "would be written" in outcome.output
    assert not (tmp_path / "landing").exists()
    outcome = typed(*words)
    assert outcome.status == ExitStatus.SUCCESS
    first = outcome.output.splitlines()[0]
    assert first == f"{path}: 2 rows read, 0 left out by `where`, 2 imported; unused columns: app"
    cells = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in outcome.output.splitlines()
    ]
    assert ["watch_ms", "seconds * 1000", "1"] in cells
    assert ["2026-03-04", "2"] in cells


def test_import_table_with_a_word_that_is_no_pair_is_refused(
    tmp_path: Path, typed: Callable[..., Any]
) -> None:
    outcome = typed("import", "table", "x.csv", "--map", "user_id", "--landing", str(tmp_path))
    assert outcome.status == ExitStatus.DATA_ERROR
    assert "--map 'user_id': expected COLUMN=EXPRESSION" in outcome.errors
