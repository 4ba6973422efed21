"""Model artefacts: folders of files beside the tables, immutable once written, found through the `models` table."""

import datetime as dt
import hashlib
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from microrec.errors import MissingDay


class Artefacts:
    """Saves and opens artefact folders under `<warehouse>/artefacts` (a file system the torch jobs share)."""

    root: str
    read: Callable[..., pa.Table]

    def save_artefact(
        self, *, day: object, fit: str, model: str, save: Callable[[Path], object]
    ) -> tuple[str, str]:
        """Let `save` fill a new folder and make it final by a rename; the training's checkpoint is then removed.

        Returns:
            The folder relative to the warehouse, and the SHA-256 of its files. The folder's name ends with its digest,
            so the same model of the same day is stored once.
        """
        parent = self._folder(day, fit, model)
        staging = parent / f"_staging-{uuid.uuid4().hex}"
        staging.mkdir(parents=True)
        save(staging)
        digest = folder_digest(staging)
        final = parent / digest[:16]
        if final.exists():
            shutil.rmtree(staging)
        else:
            staging.rename(final)
        shutil.rmtree(self.checkpoint_folder(day=day, fit=fit, model=model), ignore_errors=True)
        return str(final.relative_to(self.root)), digest

    def checkpoint_folder(self, *, day: object, fit: str, model: str) -> Path:
        """Where a training may leave its state until its artefact is saved; who tries again finds it there."""
        # Absolute: the processes of a training on a cluster start elsewhere.
        return self._folder(day, fit, model).absolute() / "_checkpoint"

    def find_artefact(self, *, day: object, fit: str, model: str) -> Path:
        """The artefact that a row of `models` points to, checked as by `open_artefact`.

        Raises:
            MissingDay: there is no such row, or not the folder it points to.
        """
        (row,) = self.read("models", day=day, fit=fit, model=model).to_pylist()
        return self.open_artefact(row["path"], row["digest"])

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

    def forget_artefacts(
        self, *, before: dt.date, untouched_since: dt.datetime, dry_run: bool
    ) -> list[str]:
        """Delete all folders of days before one in which nothing has changed since an instant; gives the days."""
        days = []
        for folder in sorted((Path(self.root) / "artefacts").glob("day=*")):
            day = folder.name.removeprefix("day=")
            changed = max(one.stat().st_mtime for one in [folder, *folder.rglob("*")])
            if dt.date.fromisoformat(day) < before and changed <= untouched_since.timestamp():
                days.append(day)
                if not dry_run:
                    shutil.rmtree(folder)
        return days

    def _folder(self, day: object, fit: str, model: str) -> Path:
        return Path(self.root) / "artefacts" / f"day={day}" / f"fit={fit}" / f"model={model}"


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files, in name order."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(folder)).encode() + b"\0")
        total.update(path.read_bytes())
    return total.hexdigest()
