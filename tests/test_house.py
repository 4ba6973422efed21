"""The rules of the house that no linter knows."""

import ast
from pathlib import Path

import pytest

from microrec.config.settings import HOME

SOURCES = sorted(
    path for folder in ("microrec", "jobs", "dags") for path in (HOME / folder).rglob("*.py")
)
JOBS = [path for path in SOURCES if path.parent.name == "jobs" and path.name != "__init__.py"]
STAGES = ("events", "graphs", "models", "candidates", "evaluation", "release", "synth", "tables")


def imported(path: Path) -> set[str]:
    """Top-level packages a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_no_module_imports_both_spark_and_torch() -> None:
    both = [
        path
        for path in SOURCES
        if "pyspark" in imported(path) and imported(path) & {"torch", "torch_geometric"}
    ]
    assert not both


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_job_says_what_it_reads_and_writes_in_eighty_lines(path: Path) -> None:
    text = path.read_text()
    doc = ast.get_docstring(ast.parse(text)) or ""
    assert "Reads:" in doc
    assert "Writes:" in doc
    assert len(text.splitlines()) <= 80


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_init_is_its_design_note_and_nothing_else(stage: str) -> None:
    tree = ast.parse((HOME / "microrec" / stage / "__init__.py").read_text())
    assert len(tree.body) == 1
    assert len(ast.get_docstring(tree) or "") > 400


def test_functions_are_short() -> None:
    long = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
                if (node.end_lineno or 0) - first.lineno + 1 > 40:
                    long.append(f"{path.name}:{node.name}")
    assert not long


def test_no_file_without_a_name() -> None:
    assert not [p for p in SOURCES if p.stem in {"utils", "helpers", "common", "misc"}]
