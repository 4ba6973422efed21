"""Print what pyproject.toml needs for some extras, so that packages are installed before the code is there.

python docker/requirements.py pyproject.toml team
"""

import re
import sys
import tomllib
from pathlib import Path


def requirements(project: dict, extras: list[str]) -> list[str]:
    """Return the requirements of a project with some of its extras, and those of its build, without the project itself.

    Args:
        project: the parsed pyproject.toml.
        extras: names of its extras.
    """
    own = re.compile(rf"{re.escape(project['project']['name'])}\[([^\]]+)\]$")
    needed = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    wanted = list(extras)
    for extra in wanted:
        for requirement in project["project"]["optional-dependencies"][extra]:
            if inner := own.match(requirement):
                wanted += [name for name in inner[1].split(",") if name not in wanted]
            else:
                needed.append(requirement)
    return sorted(set(needed))


if __name__ == "__main__":
    declared = tomllib.loads(Path(sys.argv[1]).read_text())
    sys.stdout.write("\n".join(requirements(declared, sys.argv[2:])) + "\n")
