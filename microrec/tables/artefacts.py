"""Model artefacts: folders of files beside the tables, immutable once written, found through the `models` table."""

import hashlib
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from microrec.errors import MissingDay


class Artefacts:
    """Saves and opens artefact folders under `<warehouse>/artefacts` (a file system the torch jobs share)."""

    root: str

    def save_artefact(
        self, *, day: object, fit: str, model: str, save: Callable[[Path], object]
    ) -> tuple[str, str]:
        """Let `save` fill a new folder and make it final by a rename.

        Returns:
            The folder relative to the warehouse, and the SHA-256 of its files. The folder's name ends with its digest,
            so the same model of the same day is stored once.
        """
        parent = Path(self.root) / "artefacts" / f"day={day}" / f"fit={fit}" / f"model={model}"
        staging = parent / f"_staging-{uuid.uuid4().hex}"
        staging.mkdir(parents=True)
        save(staging)
        digest = folder_digest(staging)
        final = parent / digest[:16]
        if final.exists():
            shutil.rmtree(staging)
        else:
            staging.rename(final)
        return str(final.relative_to(self.root)), digest

    def open_artefact(self, path: str, digest: str) -> Path:
        """The folder of an artefact, checked to hold what was saved.

        Raises:
            MissingDay: the folder is gone or its content has changed.
        """
        folder = Path(self.root) / path
        if not folder.is_dir():
            raise MissingDay(f"artefact {path}: no such folder in {self.root}")
        if folder_digest(folder) != digest:
            raise MissingDay(
                f"artefact {path}: content does not have the digest {digest} it was saved with"
            )
        return folder


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files, in name order."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(folder)).encode() + b"\0")
        total.update(path.read_bytes())
    return total.hexdigest()
