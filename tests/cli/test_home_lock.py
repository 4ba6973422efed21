"""Nights in two terminals take turns; the second one says for whom it waits."""

import subprocess
import sys
from pathlib import Path

import pytest

from microrec.cli import home_lock
from microrec.errors import BadArgument

HOLDS = """
import sys
from pathlib import Path
from microrec.cli import home_lock
with home_lock.held(Path(sys.argv[1]), "night", "night of\\n2026-01-08", waiting=print):
    print("held", flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""


def terminal(home: Path) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", HOLDS, str(home)]
    return subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def says(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("killed", [False, True], ids=["ends", "killed"])
def test_second_terminal_says_who_it_waits_for_and_then_has_its_turn(
    tmp_path: Path, killed: bool
) -> None:
    first = terminal(tmp_path)
    assert says(first) == "held"
    second = terminal(tmp_path)
    assert says(second).startswith(
        f"waiting for its turn: process {first.pid}, night of\\n2026-01-08, since 20"
    )
    if killed:
        first.kill()
    first.communicate("\n")
    assert says(second) == "held"
    assert second.communicate("\n")[0].strip() == "released"


def test_lock_that_is_not_waited_for_is_refused_and_other_locks_are_free(tmp_path: Path) -> None:
    first = terminal(tmp_path)
    assert says(first) == "held"
    with (
        pytest.raises(BadArgument, match=rf"process {first.pid}, night of.* uses it"),
        home_lock.held(tmp_path, "night", "ui", waiting=None),
    ):
        pass
    with home_lock.held(tmp_path, "server", "ui", waiting=None):
        first.communicate("\n")
    with home_lock.held(tmp_path, "night", "ui", waiting=None):
        pass
