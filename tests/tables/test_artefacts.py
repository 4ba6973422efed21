"""Artefact folders: whole or not there, and what was spoilt is mended by who writes it again."""

from pathlib import Path

import pyarrow as pa
import pytest

from microrec.errors import MissingDay
from microrec.tables.artefacts import Artefacts

SCOPE = {"day": "2026-01-04", "fit": "trial", "model": "popularity"}


class Folders(Artefacts):
    """Artefacts and nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.read = lambda *_, **__: pa.table({})


def save(folder: Path) -> None:
    (folder / "parameters").write_bytes(b"\1" * 4096)


def test_save_again_repairs_a_damaged_folder(tmp_path: Path) -> None:
    """A machine that loses its power may keep a name and lose what was written under it."""
    warehouse = Folders(tmp_path)
    path, digest = warehouse.save_artefact(**SCOPE, save=save)
    file = tmp_path / path / "parameters"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(MissingDay, match="does not have the digest"):
        warehouse.open_artefact(path, digest)
    assert warehouse.save_artefact(**SCOPE, save=save) == (path, digest)
    warehouse.open_artefact(path, digest)


def test_save_that_fails_keeps_the_old_folder(tmp_path: Path) -> None:
    warehouse = Folders(tmp_path)
    path, digest = warehouse.save_artefact(**SCOPE, save=save)

    def fail(folder: Path) -> None:
        (folder / "parameters").write_bytes(b"\2")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        warehouse.save_artefact(**SCOPE, save=fail)
    warehouse.open_artefact(path, digest)
    names = {one.name for one in (tmp_path / path).parent.iterdir()}
    assert {name for name in names if not name.startswith("_staging-")} == {Path(path).name}
