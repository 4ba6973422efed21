"""Print the lower bounds of pyproject.toml as constraints: `make minimum` installs from them and runs the fast lane.

What microrec imports gets the lowest version it declares; the tools of the tests, and what either needs in turn, are
left to pip.
"""

import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("spark", "train", "airflow", "pandas", "polars", "plots", "postgres", "redis")


def lowest(requirements: Iterable[str]) -> list[str]:
    """Return the constraints that hold requirements at their lower bounds.

    Args:
        requirements: as pyproject.toml has them; one without a lower bound is left out.

    Returns:
        `name==version` lines, each once, by name.
    """
    bounds = {
        f"{requirement.name}=={bound.version}"
        for requirement in map(Requirement, requirements)
        for bound in requirement.specifier
        if bound.operator == ">="
    }
    return sorted(bounds)


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]
    sys.stdout.write("\n".join(lowest(declared)) + "\n")
