"""Manifests: which landing files hold somebody who was erased. The files are the producers', who are to delete them."""

import json
import logging
from collections.abc import Callable, Collection
from pathlib import Path

from microrec.errors import MicrorecError
from microrec.privacy.proof import Scan
from microrec.privacy.quotes import Ids
from microrec.tables.arrow import Warehouse
from microrec.tables.commit import filesystem

logger = logging.getLogger(__name__)

FOLDER = "manifests"
BUFFER = 1 << 16

Write = Callable[[str, Collection[str]], tuple[int, str]]
"""Takes the id of an erasure and the ids of its people; gives the number of files and where they are listed."""


def writer(warehouse: Warehouse, landing: str) -> Write:
    """Return what writes the manifest of an erasure.

    Args:
        warehouse: whose folder it is written to.
        landing: root of the landing zone; one that is no folder here holds nothing that can be looked through.
    """

    def write(erasure: str, ids: Collection[str]) -> tuple[int, str]:
        files, unreadable = holding(Path(landing), ids, warehouse.schemas)
        path = f"{FOLDER}/erasure-{erasure}.json"
        store, root = filesystem(warehouse.root, warehouse.options)
        store.create_dir(f"{root}/{FOLDER}")
        listed = {"erasure": erasure, "files": files, "unreadable": unreadable}
        # Buffered: an object store's stream takes bytes, and no Arrow buffers.
        with store.open_output_stream(f"{root}/{path}", buffer_size=BUFFER) as file:
            file.write(json.dumps(listed, indent=2).encode())
        logger.info("manifest path=%s files=%d unreadable=%d", path, len(files), len(unreadable))
        return len(files), path

    return write


def holding(landing: Path, ids: Collection[str], schemas: Path) -> tuple[list[str], list[str]]:
    """Return the landing files that hold somebody, and those that nobody can read, relative to the landing zone.

    Args:
        landing: its root.
        ids: people's.
        schemas: folder of the contracts.
    """
    looked_for = Ids(ids)
    files, unreadable = [], []
    for path in sorted(landing.rglob("*")) if landing.is_dir() else []:
        if path.is_symlink() or not path.is_file():
            continue
        scan = Scan(looked_for, schemas, anywhere=True)
        try:
            scan.folder(path)
        except MicrorecError:
            unreadable.append(str(path.relative_to(landing)))
        if scan.hits:
            files.append(str(path.relative_to(landing)))
    return files, unreadable
