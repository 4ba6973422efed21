"""What is kept: all that a kept release pins, whatever else is older than asked goes."""

import datetime as dt
import logging
import shutil
from pathlib import Path

from microrec.release import reader
from microrec.tables.arrow import Warehouse

logger = logging.getLogger(__name__)


def vacuum(
    house: Warehouse, *, hours: int, keep: int, dry_run: bool = False
) -> dict[str, list[str]]:
    """Delete files that no kept version of a table has, and artefacts of nights before the kept ones.

    Files of failed attempts go with them. The current version of every table is kept, and every version that one of the
    last `keep` releases pins, withdrawn ones too: an operator may yet return to them. A version holds all days of
    a table, so a replaced day goes when the last kept version that had it does.

    Args:
        house: the warehouse.
        hours: files younger than this stay, so that nothing is taken from an attempt in progress.
        keep: how many releases keep what they pin.
        dry_run: only say what would go.

    Returns:
        Names of what was (or would be) deleted, by table; `artefacts` for folders of models.
    """
    kept = reader.every(house.root)[-keep:]
    pinned: dict[str, set[int]] = {}
    for release in kept:
        for pin in release.tables.values():
            pinned.setdefault(pin.table, set()).add(pin.version)
    found = {}
    for path in sorted(house.schemas.glob("*.yaml")):
        delta = house.table(path.stem).open()
        if delta is None:
            continue
        found[path.stem] = delta.vacuum(
            retention_hours=hours,
            dry_run=dry_run,
            enforce_retention_duration=False,
            full=True,
            keep_versions=sorted(pinned.get(path.stem, set())) or None,
        )
        logger.info(
            "vacuum table=%s files=%d dry_run=%s", path.stem, len(found[path.stem]), dry_run
        )
    if kept:
        found["artefacts"] = _old_artefacts(house, kept[0].day, hours=hours, dry_run=dry_run)
    return found


def _old_artefacts(house: Warehouse, first: dt.date, *, hours: int, dry_run: bool) -> list[str]:
    """Folders of models of days before the first kept release."""
    root = Path(house.root) / "artefacts"
    youngest = dt.datetime.now(dt.UTC).timestamp() - hours * 3600
    gone = []
    for folder in sorted(root.glob("day=*")):
        if dt.date.fromisoformat(folder.name.removeprefix("day=")) >= first:
            continue
        if max(one.stat().st_mtime for one in [folder, *folder.rglob("*")]) > youngest:
            continue
        gone.append(folder.name)
        if not dry_run:
            shutil.rmtree(folder)
    logger.info("vacuum artefacts=%d dry_run=%s", len(gone), dry_run)
    return gone
