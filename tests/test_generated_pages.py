"""Generated pages are fresh, and results say when, where and how they were measured."""

import re
from pathlib import Path
from typing import Any

import pytest

from microrec.config.settings import HOME
from tests import data_dictionary, pages
from tests.benchmarks import pages as benchmarks


@pytest.mark.parametrize("path", list(pages.GENERATED), ids=lambda path: path.parent.name)
def test_pages_generated_page_is_fresh(path: Path) -> None:
    assert path.read_text() == pages.GENERATED[path](), "make pages"


@pytest.mark.parametrize("result", benchmarks.results(), ids=lambda result: result["title"])
def test_results_have_date_machine_command_and_whole_rows(result: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result["date"])
    assert result["machine"]
    assert {len(row) for row in result["rows"]} == {len(result["columns"])}
    assert isinstance(result.get("note", []), list)
    module = re.search(r"python -m (\S+)", result["command"])
    if module:
        assert (HOME / f"{module[1].replace('.', '/')}.py").exists()


def test_data_dictionary_names_who_writes_every_table() -> None:
    for name in data_dictionary.contracts():
        writers = data_dictionary.jobs_that("Writes", name)
        assert ("producers" in writers) == name.startswith("raw_")
        assert "people" not in writers


def test_data_dictionary_has_every_contract() -> None:
    found = {contract["domain"] for contract in data_dictionary.contracts().values()}
    assert found <= set(data_dictionary.DOMAINS)


def test_data_dictionary_takes_written_tables_from_the_first_clause() -> None:
    prose = "candidates of (day, fit); the users are those of the day, then the row of releases."
    assert data_dictionary.tables_in("Writes", prose) == {"candidates", "releases"}
    raw = data_dictionary.tables_in("Reads", "landing raw_(interactions, videos)")
    assert raw == {"raw_interactions", "raw_videos"}


def test_readme_is_one_page() -> None:
    lines = (HOME / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    assert next(number for number, line in enumerate(lines, 1) if "```" in line) <= 25
