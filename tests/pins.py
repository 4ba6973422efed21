"""Resolve all extras anew and write constraints.txt: `make pins`. It installs nothing.

pip resolves `.[bench,dev,sentences,stores,team,ui]` in an empty environment of this interpreter; torch stays with the
version that pyproject.toml names, and no host or path is written.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = "bench,dev,sentences,stores,team,ui"


def pins(report: dict[str, Any]) -> str:
    """Return the lines of a constraints file, one distribution a line, by name.

    Args:
        report: what `pip install --report` wrote.

    Returns:
        `name==version` lines; the local part of a version (`+cpu`), which an index may lack, is left out.
    """
    packages = [item["metadata"] for item in report["install"]]
    lines = {
        f"{package['name'].lower().replace('_', '-')}=={package['version'].split('+')[0]}"
        for package in packages
        if package["name"] != "microrec"
    }
    return "\n".join(sorted(lines)) + "\n"


def resolve(target: str) -> dict[str, Any]:
    """Resolve a requirement in an empty environment.

    Args:
        target: what pip is to install, such as `.[dev]`.

    Returns:
        pip's report of what it would install.
    """
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        report = Path(folder) / "report.json"
        python = str(Path(folder) / "bin" / "python")
        options = ["--quiet", "--dry-run", "--ignore-installed", "--report", str(report)]
        subprocess.run([python, "-m", "pip", "install", *options, target], cwd=ROOT, check=True)
        return dict(json.loads(report.read_text()))


if __name__ == "__main__":
    (ROOT / "constraints.txt").write_text(pins(resolve(f".[{EXTRAS}]")))
    sys.stdout.write("constraints.txt is written: install from it and run the tests\n")
