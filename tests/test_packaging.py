"""What is installed with what: declared packages are those imported, and a process loads the engines it uses."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from microrec.config.settings import HOME
from tests import minimum, pins

PROJECT: dict[str, Any] = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
MODULES = {
    "apache-airflow": "airflow",
    "apache-airflow-providers-standard": "airflow.providers.standard",
    "faiss-cpu": "faiss",
    "openlineage-python": "openlineage",
    "pyyaml": "yaml",
}
"""Modules of distributions that are named otherwise."""
TOOLS = ("bench", "dev", "stores", "team", "ui")
"""Extras of people and tests, which no code of ours imports."""
ENGINES = frozenset({"airflow", "great_expectations", "lightgbm", "pyspark", "torch"})
"""Packages whose import costs 1 to 20 s and up to hundreds of MB."""
LEARNED = frozenset({"lightgbm"})
TORCH = frozenset({"torch", "torch_geometric"})
LOADED = {
    "jobs.blend_candidates": LEARNED,
    "jobs.build_modality_graph": {"pyspark"},
    "jobs.build_sequences": {"pyspark"},
    "jobs.build_user_graph": {"pyspark"},
    "jobs.build_watch_graph": {"pyspark"},
    "jobs.check_recommendations": LEARNED,
    "jobs.count_exposures": {"pyspark"},
    "jobs.describe_clips": TORCH,
    "jobs.describe_trends": TORCH,
    "jobs.erase": frozenset(),
    "jobs.extract_features": frozenset(),
    "jobs.evaluate_sources": LEARNED | TORCH,
    "jobs.plan_night": LEARNED,
    "jobs.publish_release": LEARNED | {"great_expectations"},
    "jobs.rank_candidates": LEARNED,
    "jobs.report_night": frozenset(),
    "jobs.select_candidates": frozenset(),
    "jobs.select_recommendations": LEARNED,
    "jobs.train_model": frozenset(),  # the model it trains loads torch, or not
    "jobs.validate_events": {"pyspark"},
    "microrec.cli.app": frozenset(),
    "microrec.models.registry": frozenset(),
    "microrec.release.reader": frozenset(),
    "microrec.runner.job": frozenset(),
}
"""The one list of what a process may import before it runs: engines by module that starts a process, or is read by
all of them."""


def requirements(*extras: str) -> dict[str, Requirement]:
    """Return the requirements of the base and of the extras, by normalised name, ours followed."""
    listed = [Requirement(line) for line in PROJECT["dependencies"]] if not extras else []
    for extra in extras:
        listed += [Requirement(line) for line in EXTRAS[extra]]
    by_name: dict[str, Requirement] = {}
    for requirement in listed:
        if requirement.name == "microrec":
            by_name |= requirements(*sorted(requirement.extras))
        else:
            by_name[re.sub(r"[-_.]+", "-", requirement.name).lower()] = requirement
    return by_name


def imports_of(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Yield the dotted names that import statements name, `from a import b` as both `a` and `a.b`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def sources() -> dict[str, ast.Module]:
    """Return the syntax tree of every module of ours, by dotted name."""
    trees = {}
    for folder in ("microrec", "jobs", "dags"):
        for path in sorted((HOME / folder).rglob("*.py")):
            name = ".".join(path.relative_to(HOME).with_suffix("").parts)
            trees[name.removesuffix(".__init__")] = ast.parse(path.read_text())
    return trees


@cache
def third_party() -> frozenset[str]:
    """Return the dotted names of others' modules that our code imports anywhere, under TYPE_CHECKING too."""
    siblings = {
        path.stem for path in (HOME / "dags").rglob("*.py")
    }  # DAGs import their neighbours by name
    ours = {"microrec", "jobs", "dags", *siblings, *sys.stdlib_module_names}
    names = (name for tree in sources().values() for name in imports_of(ast.walk(tree)))
    return frozenset(name for name in names if name.split(".")[0] not in ours)


def module_of(distribution: str) -> str:
    return MODULES.get(distribution, distribution.replace("-", "_"))


def at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the statements that run when a module is imported."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        waiting += node.orelse if typing_only else list(ast.iter_child_nodes(node))  # type: ignore[attr-defined]


@cache
def imported_at_once(module: str) -> frozenset[str]:
    """Return what a module of ours imports when it is imported, the packages it lies in first."""
    parts = module.split(".")
    packages = {".".join(parts[:length]) for length in range(1, len(parts))}
    return frozenset({*packages, *imports_of(at_import(sources()[module]))})


def engines_of(module: str) -> set[str]:
    """Return the engines that importing a module of ours loads, by the graph of imports."""
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        if name in sources():
            waiting += imported_at_once(name)
    return {name for name in reached if name in ENGINES | TORCH} | {
        name.split(".")[0] for name in reached if name.split(".")[0] in ENGINES | TORCH
    }


@pytest.mark.parametrize("distribution", sorted(requirements() | requirements("all")))
def test_packaging_declared_distribution_is_imported(distribution: str) -> None:
    module = module_of(distribution)
    assert [name for name in third_party() if f"{name}.".startswith(f"{module}.")], module


def test_packaging_imported_module_is_declared() -> None:
    extras = [name for name in EXTRAS if name not in TOOLS]
    declared = {module_of(name).split(".")[0] for name in requirements() | requirements(*extras)}
    assert {name.split(".")[0] for name in third_party()} <= declared


def test_packaging_extra_of_everything_has_every_engine() -> None:
    assert {*requirements("all")} == {*requirements("airflow", "spark", "train")}
    assert {*requirements("all"), *requirements()} <= {*requirements("dev"), *requirements()}


@pytest.mark.parametrize("module", [name for name in sources() if name.startswith("jobs.")])
def test_packaging_every_job_is_in_the_list_of_engines(module: str) -> None:
    assert module in LOADED


@pytest.mark.parametrize("module", sorted(LOADED))
def test_packaging_module_loads_only_its_engines(module: str) -> None:
    assert engines_of(module) <= LOADED[module]


def test_packaging_reader_needs_the_base_alone() -> None:
    """As a consumer installs it: importing the reader and opening a release load no engine."""
    code = (
        "import json, sys; from microrec.release import reader; from microrec.cli import app;"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    command = [sys.executable, "-c", code]
    loaded = json.loads(
        subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=True).stdout
    )
    engines = {module_of(name).split(".")[0] for name in requirements("all")} - {"pandas"}
    assert not engines & set(loaded)


def test_packaging_wheel_carries_what_a_night_reads() -> None:
    manifest = (HOME / "MANIFEST.in").read_text()
    copied = (HOME / "setup.py").read_text()
    for name in ("dags", "schemas", "microrec.toml"):
        assert name in manifest
        assert f'"{name}"' in copied


def test_packaging_pins_name_every_declared_distribution() -> None:
    pins = dict(
        line.split("==") for line in (HOME / "constraints.txt").read_text().split() if "==" in line
    )
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    for name, requirement in (requirements() | requirements(*EXTRAS)).items():
        assert name in pinned, name
        assert pinned[name].split("+")[0] in requirement.specifier, name
    assert pinned["torch"].startswith("2.13")


def test_packaging_versions_of_python_agree() -> None:
    makefile = (HOME / "Makefile").read_text()
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    assert "PYTHON ?= python3.11" in makefile
    assert Path(HOME / "docker" / "Dockerfile").read_text().count("python:3.11") == 1


def test_pins_report_becomes_sorted_lines_without_local_versions() -> None:
    packages = [("torch", "2.13.0+cpu"), ("Types_PyYAML", "6.0"), ("microrec", "0.2.0")]
    report = {"install": [{"metadata": {"name": n, "version": v}} for n, v in packages]}
    assert pins.pins(report) == "torch==2.13.0\ntypes-pyyaml==6.0\n"


def test_minimum_holds_every_package_at_its_lower_bound() -> None:
    declared = ["numpy>=2.0,<3", "moto[s3]>=5.2,<6", "types-PyYAML", "microrec[pandas]"]
    assert minimum.lowest(declared) == ["moto==5.2", "numpy==2.0"]
