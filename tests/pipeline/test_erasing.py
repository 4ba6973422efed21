"""Two erasures of a warehouse take turns, and the second finds nothing to do."""

import subprocess
import sys
from pathlib import Path

import pytest

from microrec.config.settings import HOME
from tests.worlds import people
from tests.worlds.people import DAYS

SCRIPT = """
import logging, sys
from datetime import date
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
logging.getLogger("microrec.tables").setLevel(logging.WARNING)
from microrec.pipeline import erasing
from microrec.pipeline.night import Night
from microrec.privacy import erasure
real = erasure.erase
def erase(*arguments, **options):
    print("at work", flush=True)
    sys.stdin.readline()
    return real(*arguments, **options)
erasure.erase = erase
tallies = erasing.erase_due(Night.open(date.fromisoformat(sys.argv[1])), "landing")
print("rewritten", len(tallies), flush=True)
"""


def process() -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", SCRIPT, str(DAYS[-1])]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(words, cwd=HOME, text=True, bufsize=1, **pipes)


def says(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("killed", [False, True], ids=["ends", "killed"])
def test_second_erasure_waits_and_does_what_is_left(
    place: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """Whoever is killed gives the turn away, and the next one erases in their place."""
    warehouse = people.erasable(place, monkeypatch)
    first = process()
    assert says(first) == "at work"
    second = process()
    assert says(second).startswith("erase waits for its turn: another erasure is at work")
    if killed:
        first.kill()
    first.communicate("\n")
    assert says(second) == "at work"
    rewritten = second.communicate("\n")[0].splitlines()[-1]
    assert (rewritten == "rewritten 0") is not killed
    assert len(set(warehouse.read("erasures")["id"].to_pylist())) == 1
    assert (Path(warehouse.root) / "erasure.lock").read_text() == ""
