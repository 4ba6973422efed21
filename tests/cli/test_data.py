"""Commands that write raw files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from microrec.runner.exit_status import ExitStatus


def test_world_writes_days_and_their_truth_and_prints_the_path_literally(
    tmp_path: Path, typed: Callable[..., Any]
) -> None:
    landing = tmp_path / "[red]landing[%red]"
    size = ["--users", "20", "--videos", "40", "--days", "2"]
    outcome = typed("world", "--landing", str(landing), *size)
    assert outcome.status == ExitStatus.SUCCESS
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
