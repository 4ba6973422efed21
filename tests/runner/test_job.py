"""How a job ends: exit status and last line; logs that nobody can forge, files that nobody else reads."""

import os
import re
import subprocess
import sys
from pathlib import Path

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


FORGES = """
import logging
from microrec.runner import job

FORGED = "x\\n2026-01-05 00:00:00,000 ERROR microrec.runner.job GateHeld: gate_results\\x1b[2J\\r"

def main(day: job.Day) -> None:
    logging.getLogger("microrec").info("read table=%s rows=3", FORGED)
    raise ValueError(FORGED)

job.start(main)
"""
RECORD = re.compile(r"[0-9-]{10} [0-9:,]{12} [A-Z]+ \S+ ")


def test_line_breaks_and_escapes_in_values_forge_no_log_line() -> None:
    words = [sys.executable, "-c", FORGES, "--day", "2026-01-04"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    lines = ended.stderr.split("\n")
    starts = [RECORD.match(line) for line in lines]
    records = [line for line, start in zip(lines, starts, strict=True) if start]
    loggers = [line.split(" ")[3] for line in records]
    # The value as logged, the traceback, the figures, the last line.
    assert loggers == ["microrec", *["microrec.runner.job"] * 3]
    assert "table=x\\n2026-01-05 00:00:00,000 ERROR" in records[0]
    assert not {"\x1b", "\r"} & set(ended.stderr)
    indented = [line for line in lines if line and not RECORD.match(line)]
    assert any("Traceback" in line for line in indented)
    assert all(line.startswith("  ") for line in indented)


WRITES = """
import os
from pathlib import Path
from microrec.runner import job
from microrec.tables.arrow import Warehouse

def main(day: job.Day) -> None:
    Warehouse.open().write_empty("suppressed_users", day=day)

job.start(main)
"""


@pytest.mark.parametrize(("umask", "file", "folder"), [(None, 0o600, 0o700), ("027", 0o640, 0o750)])
def test_files_of_a_job_are_as_private_as_the_setting_says(
    umask: str | None, file: int, folder: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the mask of who starts it: Airflow's here is the stricter one of `microrec ui` or a looser one."""
    if umask is not None:
        monkeypatch.setenv("MICROREC_UMASK", umask)
    words = [sys.executable, "-c", WRITES, "--day", "2026-01-04"]
    subprocess.run(words, check=True, timeout=120, umask=0o022 if umask is None else 0o077)
    assert modes(place / "warehouse") == {"files": {file}, "folders": {folder}}


def modes(root: Path) -> dict[str, set[int]]:
    """Permissions of the files and folders below a folder, and its own."""
    paths = [root, *root.rglob("*")]
    kinds = {"files": Path.is_file, "folders": Path.is_dir}
    return {
        kind: {os.stat(path).st_mode & 0o777 for path in paths if is_kind(path)}
        for kind, is_kind in kinds.items()
    }


def test_umask_that_is_none_is_refused() -> None:
    words = [sys.executable, "-c", WRITES, "--day", "2026-01-04"]
    environment = {**os.environ, "MICROREC_UMASK": "u=rwx"}
    ended = subprocess.run(
        words, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 65
    assert "BadArgument: environment: MICROREC_UMASK" in ended.stderr.splitlines()[-1]
