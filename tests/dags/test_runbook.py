"""The runbook, dags/README.md: its commands are real, its links lead somewhere, its tables are those of the code."""

import re
import shlex
from typing import Any

import pytest
import yaml
from typer.main import get_command

from microrec.cli import app
from microrec.config.settings import HOME
from microrec.runner.exit_status import ExitStatus

README = HOME / "dags" / "README.md"
TEXT = README.read_text()
COMMANDS = [
    line.strip()
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
OF_AIRFLOW = {"alert_url", "lineage", "reports_url"}
"""What Airflow is told alone, and no job."""
INLINE = re.findall(r"`(microrec [a-z][^`]*)`", TEXT.replace("\n", " "))


def table(rows: dict[Any, str], indent: str = "") -> str:
    """Return the rows of a table of the page."""
    return "".join(f"{indent}| {name} | {text} |\n" for name, text in rows.items())


def section(name: str) -> str:
    """Return what stands between two marks of the page, without the head of the table."""
    found = re.search(rf"<!-- {name}: .*? -->\n(?:.*\n){{2}}((?:.*\n)*?) *<!-- end -->", TEXT)
    assert found, name
    return found[1]


def parse(words: list[str]) -> None:
    """Parse a `microrec` command as the console script would; it does not run."""
    command = get_command(app.app)
    context = command.make_context("microrec", words[:0], resilient_parsing=True)
    while hasattr(command, "commands"):
        command = command.commands[words[0]]
        words = words[1:]
    if command.name == "airflow":
        parse_airflow(words)
    else:
        command.make_context(command.name, words, parent=context)


def parse_airflow(words: list[str]) -> None:
    from airflow.cli.cli_parser import get_parser

    get_parser().parse_args(words)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_runbook_are_taken_as_they_are_written(command: str) -> None:
    program, *words = shlex.split(command)
    if program == "microrec":
        parse(words)
    elif program == "make":
        assert re.search(rf"^{words[0]}:", (HOME / "Makefile").read_text(), re.MULTILINE)
    elif program.endswith("python"):
        assert (HOME / f"{words[1].replace('.', '/')}.py").exists()
    elif program == "docker":
        assert words[:5] == ["compose", "-f", "docker/compose.yaml", "--env-file", "docker/.env"]
        services = yaml.safe_load((HOME / "docker" / "compose.yaml").read_text())["services"]
        assert all(word.split("=")[0] in services for word in words if "=" in word)
    elif program == "cp":
        assert (HOME / words[0]).exists()
    else:
        assert program == "export"
        names = {word.split("=")[0].removeprefix("MICROREC_").lower() for word in words}
        from microrec.config.settings import Settings

        assert names - OF_AIRFLOW <= set(Settings.model_fields)


@pytest.mark.parametrize("command", sorted(set(INLINE)))
def test_commands_named_in_a_sentence_exist(command: str) -> None:
    words = shlex.split(command)[1:]
    known = get_command(app.app).commands
    assert words[0] in known or words[0] == "COMMAND"
    if words[0] in known and words[0] != "airflow":
        options = {option for one in known[words[0]].params for option in one.opts}
        assert {word for word in words if word.startswith("--")} <= options


def test_variables_of_the_runbook_are_settings_or_of_the_stack() -> None:
    from microrec.config.settings import Settings

    ours = set(re.findall(r"\bMICROREC_([A-Z_]+)", TEXT))
    assert {name.lower() for name in ours} - OF_AIRFLOW <= set(Settings.model_fields)
    example = (HOME / "docker" / ".env.example").read_text()
    for name in ("AIRFLOW_PORT", "AIRFLOW_PARALLELISM", "SPARK_CORES", "SPARK_MEMORY"):
        assert name in TEXT
        assert f"{name}=" in example


def test_links_of_the_runbook_lead_to_files_and_headings() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in headings, target
        else:
            assert (README.parent / target.partition("#")[0]).exists(), target


def test_runbook_has_every_dag(dags: dict[str, Any]) -> None:
    assert all(f"| `{name}` |" in TEXT for name in dags)


def test_runbook_has_every_parameter_of_nightly(nightly: Any) -> None:
    assert all(f"| `{name}` |" in TEXT for name in nightly.params)


def test_exit_statuses_of_the_runbook_are_those_of_the_code() -> None:
    assert section("exit statuses") == table({int(one): one.meaning for one in ExitStatus})


def test_next_steps_of_the_runbook_are_those_of_the_alerts() -> None:
    import alerts

    steps = {**alerts.NEXT_STEPS, "any other": alerts.OTHERWISE}
    assert section("next steps") == table(steps, indent="   ")
