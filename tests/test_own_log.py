"""The page "Bring your own log": its files, run by its commands, give what it says."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from microrec.cli import app
from microrec.config.settings import HOME
from microrec.landing import zone
from microrec.runner.exit_status import ExitStatus
from tests.cli.conftest import typed  # noqa: F401 - a fixture

PAGE = (HOME / "schemas" / "README.md").read_text()
SECTION = PAGE[PAGE.index("## Bring your own log") : PAGE.index("## Reading releases")]
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = {name: text for _, name, text in BLOCK.findall(SECTION) if name}
COMMANDS = [
    line
    for kind, _, text in BLOCK.findall(SECTION)
    if kind == "console"
    for line in text.splitlines()
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    pairs = [(f"u{n % 7}", f"v{n * n % 11}") for n in range(100)]
    (tmp_path / "pairs.tsv").write_text("".join(f"{user}\t{item}\n" for user, item in pairs))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(landing: str, table: str) -> list[dict[str, Any]]:
    return [
        row
        for day in zone.days(landing, table)
        for path in zone.files(landing, table, day)
        for row in pq.read_table(path, partitioning=None).to_pylist()
    ]


def test_page_commands_import_and_inspect_its_files(
    folder: Path,
    typed: Callable[..., Any],  # noqa: F811
) -> None:
    assert len(COMMANDS) == 6
    outputs = []
    for command in COMMANDS:
        program, *words = shlex.split(command)
        outcome = typed(*words)
        assert (program, outcome.status) == ("microrec", ExitStatus.SUCCESS), outcome.errors
        outputs.append(outcome.output)
    assert "plays.csv: 5 rows read, 1 left out by `where`, 4 imported" in outputs[0]
    plays = rows("landing", "raw_interactions")
    assert [row["user_id"] for row in plays] == ["007", "7", "8", "9"]
    assert plays[0]["started_at"] == "2026-03-03T22:00:05.000000Z"
    assert [row["watch_ms"] for row in plays] == [
        "4350",
        "not computed from 'n/a'",
        "12000",
        "3000",
    ]
    clips = rows("landing", "raw_videos")
    assert [row["eligible"] for row in clips] == ["true", "false"]
    assert [row["duration_ms"] for row in clips] == ["10000", "12500"]
    assert clips[0]["tags"] == ["cats", "dogs"]
    for rule in ("bad_watch", "bad_timestamp"):
        assert re.search(rf"raw_interactions +│ {rule} +│ +│ 1 ", outputs[3])
    assert len(rows("pairs", "raw_interactions")) == 100
    assert len(zone.days("pairs", "raw_interactions")) == 10
    assert len(rows("pairs", "raw_videos")) == len({n * n % 11 for n in range(100)})


def test_page_options_are_those_of_the_command() -> None:
    named = set(re.findall(r"--[a-z-]+", SECTION))
    command = app.typer.main.get_command(app.app)
    imports = command.commands["import"].commands["table"]  # type: ignore[attr-defined]
    inspect = command.commands["inspect"]  # type: ignore[attr-defined]
    known = {option for each in (imports, inspect) for p in each.params for option in p.opts}
    assert named <= known
