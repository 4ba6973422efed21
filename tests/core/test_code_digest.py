"""The digest of the code changes with what it does, and with nothing else."""

import shutil
from pathlib import Path

import pytest

from microrec.config.settings import HOME
from microrec.core import code_digest

FORMULA = '''
"""A module."""

from microrec.core import columns

HALF_LIFE = 7.0
"""Days."""


def weight(age: float) -> float:
    """Halve by the week."""
    # A remark.
    return columns.half(age) ** (age / HALF_LIFE)
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project of one formula and one contract."""
    write(tmp_path / "microrec" / "graphs" / "watch.py", FORMULA)
    write(
        tmp_path / "jobs" / "build.py", "from microrec.graphs import watch\n\nwatch.weight(1.0)\n"
    )
    write(tmp_path / "schemas" / "edges.yaml", "name: edges\ndescription: told to people\n")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    code_digest._definitions.cache_clear()


def total(root: Path) -> str:
    code_digest._definitions.cache_clear()
    return code_digest.total_digest(root, root / "schemas")


def test_total_digest_reworded_docstrings_and_remarks_stays(root: Path) -> None:
    before = total(root)
    reworded = FORMULA.replace("Halve by the week", "Return the decayed weight")
    reworded = reworded.replace("A remark", "Another").replace("Days.", "In days.")
    write(root / "microrec" / "graphs" / "watch.py", reworded.replace("\n\n\n", "\n\n\n\n"))
    write(root / "schemas" / "edges.yaml", "name: edges\ndescription: told otherwise\n")
    assert total(root) == before


def test_total_digest_moved_and_split_module_stays(root: Path) -> None:
    before = total(root)
    (root / "microrec" / "graphs" / "watch.py").unlink()
    constant, function = FORMULA.split("\n\n\ndef ")
    write(root / "microrec" / "core" / "decay.py", constant)
    moved = "import numpy as np\nfrom microrec.core.columns import half\nfrom microrec.core.decay import HALF_LIFE\n\n"
    body = "def " + function.replace("columns.half", "half")
    write(
        root / "microrec" / "graphs" / "edges" / "decay.py",
        moved.replace("import numpy as np\n", "") + body,
    )
    write(
        root / "jobs" / "build.py",
        "from microrec.graphs.edges import decay as d\n\nd.weight(1.0)\n",
    )
    assert total(root) == before


@pytest.mark.parametrize(
    ("file", "old", "new", "package"),
    [
        ("microrec/graphs/watch.py", "age / HALF", "age * HALF", "microrec.graphs"),
        ("microrec/graphs/watch.py", "7.0", "7.5", "microrec.graphs"),
        ("microrec/graphs/watch.py", "columns.half", "columns.third", "microrec.graphs"),
        ("jobs/build.py", "1.0", "2.0", "jobs"),
        ("schemas/edges.yaml", "name: edges", "name: nodes", "schemas"),
    ],
)
def test_code_digests_changed_behaviour_names_the_package(
    root: Path, file: str, old: str, new: str, package: str
) -> None:
    before, all_before = code_digest.code_digests(root, root / "schemas"), total(root)
    write(root / file, (root / file).read_text().replace(old, new))
    now = code_digest.code_digests(root, root / "schemas")
    assert [change.split()[0] for change in code_digest.differences(before, now)] == [package]
    assert total(root) != all_before


def test_total_digest_whole_project_stays_without_its_docstrings(tmp_path: Path) -> None:
    """The project itself: every file reprinted from its syntax tree, all remarks lost."""
    import ast

    for folder in ("microrec", "jobs", "schemas"):
        shutil.copytree(HOME / folder, tmp_path / folder)
    before = total(tmp_path)
    for file in [*tmp_path.rglob("*.py")]:
        file.write_text(ast.unparse(ast.parse(file.read_text())))
    assert total(tmp_path) == before
    assert before == total(HOME)


def test_processor_lists_vector_instruction_sets(tmp_path: Path) -> None:
    list_of = tmp_path / "cpuinfo"
    list_of.write_text("processor : 0\nflags\t\t: fpu avx avx2 fma avx512f\n\nflags : fpu\n")
    assert code_digest.processor(list_of).split()[1:] == ["avx", "avx2", "avx512f", "fma"]
    assert len(code_digest.processor(tmp_path / "absent").split()) == 1


def test_package_versions_has_every_package_of_the_environment() -> None:
    assert set(code_digest.package_versions()) == set(code_digest.PACKAGES)
