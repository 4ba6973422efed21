"""Model artefacts: folders of files beside the tables, immutable once written, found through the `models` table."""

import atexit
import datetime as dt
import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.fs as fs

from microrec.core import arguments, messages
from microrec.errors import MissingDay
from microrec.tables import layout
from microrec.tables.commit import filesystem


class Artefacts:
    """Saves and opens artefact folders under `<warehouse>/artefacts`.

    Models are made and read in folders. Those of a warehouse in an object store are copied there whole, before the row
    that names them is written, and copied back into a folder of the process that opens them.
    """

    root: str
    options: Mapping[str, str]
    read: Callable[..., pa.Table]

    def save_artefact(
        self, *, day: object, fit: str, model: str, save: Callable[[Path], object]
    ) -> tuple[str, str]:
        """Let `save` fill a new folder and make it final by a rename; the training's checkpoint is then removed.

        Args:
            day: UTC day of the night.
            fit: `trial` or `final`.
            model: name of the model.
            save: writes the artefact's files into the folder it is given.

        Returns:
            The folder relative to the warehouse, and the SHA-256 of its files. The folder's name ends with its digest,
            so the same model of the same day is stored once.
        """
        parent = self._here() / _folder(day, fit, model)
        staging = parent / f"_staging-{uuid.uuid4().hex}"
        staging.mkdir(parents=True)
        save(staging)
        digest = folder_digest(staging)
        final = f"{_folder(day, fit, model)}/{digest[:16]}"
        if self._is_remote():
            fs.copy_files(str(staging), final, fs.LocalFileSystem(), self._store())
            shutil.rmtree(staging)
        else:
            _put(staging, Path(self.root, final), digest)
        shutil.rmtree(self.checkpoint_folder(day=day, fit=fit, model=model), ignore_errors=True)
        return final, digest

    def checkpoint_folder(self, *, day: object, fit: str, model: str) -> Path:
        """Return the folder of a training's state until its artefact is saved; a later try finds it there.

        Beside an object store that is a folder of this machine: another one begins again.

        Args:
            day: UTC day of the night.
            fit: `trial` or `final`.
            model: name of the model.
        """
        # Absolute: the processes of a training on a cluster start elsewhere.
        return (self._here() / _folder(day, fit, model)).absolute() / "_checkpoint"

    def find_artefact(self, *, day: object, fit: str, model: str) -> Path:
        """Return the folder of the artefact that a row of `models` points to, checked as by `open_artefact`.

        Args:
            day: UTC day of the night.
            fit: `trial` or `final`.
            model: name of the model.

        Raises:
            MissingDay: there is no such row, or not the folder it points to.
        """
        (row,) = self.read("models", day=day, fit=fit, model=model).to_pylist()
        return self.open_artefact(row["path"], row["digest"])

    def open_artefact(self, path: str, digest: str) -> Path:
        """Return the folder of an artefact, checked to hold what was saved.

        Args:
            path: folder relative to the warehouse, as `save_artefact` returned it.
            digest: SHA-256 of its files.

        Raises:
            MissingDay: the folder is gone or its content has changed.
        """
        within = PurePosixPath(path)
        inside = within.parts[:1] == ("artefacts",) and ".." not in within.parts
        if self._is_remote():
            folder = _copied(self.root, tuple(self.options.items()), path) if inside else Path()
        else:
            folder = Path(self.root) / path
            inside &= folder.resolve().is_relative_to(Path(self.root, "artefacts").resolve())
        if not inside:
            raise MissingDay(f"artefact {messages.shown(path)}: not among those of {self.root}")
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
        """Delete the folders of days before `before` in which nothing has changed since an instant.

        Args:
            before: first day that is kept.
            untouched_since: a day with a file changed after this instant is kept.
            dry_run: delete nothing.

        Returns:
            The days that were (or would be) deleted, ascending, as `YYYY-MM-DD`.
        """
        store, root = filesystem(self.root, self.options)
        selector = fs.FileSelector(f"{root}/artefacts", recursive=True, allow_not_found=True)
        changed: dict[str, float] = {}
        for info in store.get_file_info(selector):
            inside = info.path[len(root) :].lstrip("/").split("/")
            if len(inside) > 1 and inside[1].startswith("day="):
                day = inside[1].removeprefix("day=")
                changed_at = info.mtime
                changed[day] = max(changed.get(day, 0), changed_at.timestamp() if changed_at else 0)
        days = [
            day
            for day, changed_at in sorted(changed.items())
            if arguments.day(day) < before and changed_at <= untouched_since.timestamp()
        ]
        for day in days if not dry_run else ():
            store.delete_dir(f"{root}/artefacts/day={day}")
        return days

    def _is_remote(self) -> bool:
        return "://" in self.root

    def _store(self) -> fs.FileSystem:
        return filesystem(self.root, self.options)[0]

    def _here(self) -> Path:
        """The warehouse, or the folder of this machine that stands for one in an object store."""
        if not self._is_remote():
            return Path(self.root)
        digest = hashlib.sha256(self.root.encode()).hexdigest()[:16]
        return Path.home() / ".cache" / "microrec" / digest


def _folder(day: object, fit: str, model: str) -> str:
    return f"artefacts/{layout.branch({'day': str(day), 'fit': fit, 'model': model})}"


def _put(staging: Path, final: Path, digest: str) -> None:
    """Make a folder final; one that was spoilt gives way, one that is whole stays."""
    if final.is_dir() and folder_digest(final) == digest:
        shutil.rmtree(staging)
        return
    if final.exists():
        spoilt = staging.with_name(f"{staging.name}-spoilt")
        final.rename(spoilt)
        shutil.rmtree(spoilt)
    staging.rename(final)


@cache
def _copied(root: str, options: tuple[tuple[str, str], ...], path: str) -> Path:
    """A copy of a folder of an object store, until this process ends.

    Raises:
        MissingDay: the folder has no file.
    """
    scratch = tempfile.TemporaryDirectory(prefix="microrec-artefact-")
    atexit.register(scratch.cleanup)
    store, here = filesystem(root, dict(options))
    selector = fs.FileSelector(f"{here}/{path}", recursive=True, allow_not_found=True)
    folder = Path(scratch.name, "artefact")
    for info in store.get_file_info(selector):
        if info.type == fs.FileType.File:
            target = folder / info.path.split(f"{path}/", 1)[1]
            target.parent.mkdir(parents=True, exist_ok=True)
            with store.open_input_stream(info.path) as stream:
                target.write_bytes(stream.read())
    if not folder.is_dir():
        raise MissingDay(f"artefact {path}: no such folder in {root}")
    return folder


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 over the names and contents of a folder's files, in name order."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(folder)).encode() + b"\0")
        total.update(path.read_bytes())
    return total.hexdigest()
