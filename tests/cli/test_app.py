"""The command as a whole: what its help imports, how it ends, that its errors are literal text on standard error."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import typer

from microrec.cli import app
from microrec.config.settings import HOME
from microrec.runner.exit_status import ExitStatus

HEAVY = [
    "airflow", "deltalake", "duckdb", "faiss", "great_expectations", "lightgbm", "matplotlib", "numba", "numpy",
    "pandas", "pyarrow", "pyspark", "scipy", "torch", "torch_geometric",
]  # fmt: skip
HELP = f"""
import sys
from microrec.cli.app import main
sys.argv = ["microrec", *sys.argv[1:]]
try:
    main()
finally:
    print("imported:", [name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""
WITH_ROWS = [
    "check-recipe",
    "diff",
    "erase",
    "erasures",
    "exit-codes",
    "explain",
    "export",
    "export-user",
    "inspect",
    "night",
    "plan",
    "prove-erasure",
    "prune",
    "releases",
    "show",
    "vacuum",
    "watch",
]
"""Commands that print rows."""


def command(*words: str) -> Any:
    """Return a command of the typer app."""
    found = typer.main.get_command(app.app)
    for word in words:
        found = found.commands[word]
    return found


@pytest.mark.parametrize(
    "words", [[], ["night"], ["plan"], ["show"], ["plot", "clips"], ["import"]]
)
def test_help_imports_no_heavy_package(words: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HELP, *words, "--help"],
        cwd=HOME, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "Usage: microrec" in ended.stdout
    assert ended.stderr.splitlines()[-1] == "imported: []"


def test_commands_that_print_rows_take_json() -> None:
    options = {
        name: {option for parameter in one.params for option in parameter.opts}
        for name, one in command().commands.items()
    }
    assert sorted(name for name, opts in options.items() if "--json" in opts) == WITH_ROWS


def test_every_command_and_option_has_a_help_text() -> None:
    groups = [command(), command("import"), command("plot")]
    for one in [one for group in groups for one in group.commands.values()]:
        assert one.help, one.name
        for parameter in one.params:
            assert parameter.help or parameter.hidden, (one.name, parameter.name)


def test_module_runs_as_the_console_script_does() -> None:
    words = [sys.executable, "-m", "microrec.cli", "exit-codes", "--json"]
    ended = subprocess.run(words, cwd=HOME, capture_output=True, text=True, check=True, timeout=60)
    assert len(ended.stdout.splitlines()) == len(ExitStatus)


def test_completion_can_be_installed(typed: Callable[..., Any]) -> None:
    assert "--install-completion" in typed("--help").output
    words = [sys.executable, "-m", "microrec.cli"]
    environment = {
        "_MICROREC_COMPLETE": "complete_bash",
        "COMP_WORDS": "microrec rel",
        "COMP_CWORD": "1",
    }
    code = "import sys; from microrec.cli.app import app; app(prog_name='microrec')"
    ended = subprocess.run(
        [words[0], "-c", code], cwd=HOME, env=environment, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert ended.stdout.split() == ["releases"]


def test_exit_codes_print_every_status_and_its_meaning(typed: Callable[..., Any]) -> None:
    listed = typed("exit-codes", "--json").rows
    assert {row["status"]: row["meaning"] for row in listed} == {
        status.value: status.meaning for status in ExitStatus
    }
    table = typed("exit-codes").output
    assert all(status.meaning in table for status in ExitStatus)


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (["[red]x[/red]"], ExitStatus.USAGE, "No such command '[red]x[/red]'"),
        (["show", "[red]x[/red]"], ExitStatus.DATA_ERROR, "BadArgument: table '[red]x[/red]'"),
        (["show", "users"], ExitStatus.DATA_ERROR, "MissingDay: users: no day is committed in "),
        (["rollback", "--to", "[/]", "--reason", "x"], ExitStatus.DATA_ERROR, "release '[/]'"),
    ],
)
def test_errors_are_literal_text_on_standard_error(
    words: list[str], status: int, error: str, typed: Callable[..., Any]
) -> None:
    outcome = typed(*words)
    assert outcome.status == status
    assert outcome.output == ""
    assert error in outcome.errors
