"""How a job ends: its exit status, and the last line an operator is told."""

import subprocess
import sys

import pytest

ENDS = """
import datetime as dt
from microrec import errors
from microrec.runner import job

def main(day: job.Day) -> None:
    raise {error}

job.start(main)
"""
IN_COLOURS = r'OSError("Generic LocalFileSystem error\n \x1b[31m↳\x1b[0m No space left on device (os error 28)\n")'
OF_JAVA = (
    r'RuntimeError("An error occurred while calling o1.parquet.\n: SparkException: Job aborted.\n\tat A.b(C.scala:1)\n'
    r'Caused by: SparkException: Failed.\n\tat D.e(F.scala:2)\n\t... 9 more\nCaused by: IOException: No space\n\tat G")'
)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        ('errors.MissingDay("users[day=2026-01-04]")', 65, "MissingDay: users[day=2026-01-04]"),
        ('errors.RecipeError("[night] k")', 78, "RecipeError: [night] k"),
        (
            IN_COLOURS,
            1,
            "OSError: Generic LocalFileSystem error ↳ No space left on device (os error 28)",
        ),
        (
            OF_JAVA,
            1,
            "RuntimeError: An error occurred while calling o1.parquet. Caused by: IOException: No space",
        ),
    ],
    ids=["data", "recipe", "colours", "java"],
)
def test_start_failure_is_summarised_in_the_last_line(error: str, status: int, line: str) -> None:
    words = [sys.executable, "-c", ENDS.format(error=error), "--day", "2026-01-04"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == status
    assert ended.stderr.splitlines()[-1].endswith(f" ERROR microrec.runner.job {line}")
