"""A warehouse with releases, and the `microrec` command as somebody types it."""

import datetime as dt
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from microrec.cli import app
from microrec.tables.arrow import Warehouse
from tests.worlds.releases import publish

DAY = dt.date(2026, 1, 4)
HOSTILE = ["[red]x[/red]", ":smile: [link=file:///etc]u[/link]", "[/]", "esc\x1b[2J\u202e"]
"""User ids that are markup, emoji or escape sequences to a careless printer."""


class Outcome(NamedTuple):
    """How a command ended and what it printed."""

    status: Any
    output: str
    errors: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The JSON lines of standard output, all of it."""
        return [json.loads(line) for line in self.output.splitlines()]


@pytest.fixture
def warehouse(place: Path) -> Warehouse:
    """A warehouse with two releases; the lists of the second are for users with hostile ids."""
    warehouse = Warehouse.open()
    publish(warehouse, DAY, len(HOSTILE))
    publish(warehouse, DAY + dt.timedelta(days=1), len(HOSTILE), user_id=HOSTILE)
    return warehouse


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], place: Path) -> Callable[..., Outcome]:
    """Return a function that runs `microrec` with some words, as the console script does."""

    def run(*words: str) -> Outcome:
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["microrec", *words])
            with pytest.raises(SystemExit) as ended:
                app.main()
        printed = capsys.readouterr()
        return Outcome(ended.value.code or 0, printed.out, printed.err)

    return run
