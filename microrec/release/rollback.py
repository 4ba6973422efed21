"""Taking a release back: consumers follow an earlier one, and the day stays withdrawn until it has other content."""

import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc

from microrec.errors import GateHeld, MicrorecError
from microrec.release import reader
from microrec.release.reader import RELEASED, WITHDRAWN
from microrec.tables.arrow import Warehouse


def to(release: str, *, reason: str, root: str | None = None) -> list[dt.date]:
    """Make a release the latest: those of later days are withdrawn, it is itself if it was, in one commit.

    Args:
        release: id or day of the release that consumers shall follow.
        reason: why; it is kept beside each withdrawn release.
        root: folder or object-store URI of the tables.

    Returns:
        The days that were withdrawn.

    Raises:
        MicrorecError: the reason is empty, there is no such release, or it is the latest already.
    """
    if not reason.strip():
        raise MicrorecError("rollback: give a reason")
    releases = reader.every(root)
    target = reader.named(release, root)
    later = [other.day for other in releases if other.day > target.day and other.status == RELEASED]
    if not later and target.status == RELEASED:
        raise MicrorecError(f"rollback: {target.id} is the latest release already")
    warehouse = Warehouse.open(root)
    changed = [target.day, *later]
    rows = warehouse.read("releases").sort_by("day")
    rows = rows.filter(pc.is_in(rows["day"], value_set=pa.array(changed, pa.date32())))
    changes = {
        "status": [RELEASED, *[WITHDRAWN] * len(later)],
        "reason": [None, *[reason.strip()] * len(later)],
    }
    for name, values in changes.items():
        position = rows.schema.get_field_index(name)
        rows = rows.set_column(position, name, pa.array(values, pa.string()))
    warehouse.write("releases", rows, replace=[{"day": day} for day in changed])
    return later


def refuse_withdrawn(row: pa.Table, *, warehouse: Warehouse, day: dt.date) -> None:
    """Refuse to release again, unchanged, what was withdrawn.

    Args:
        row: the `releases` row to be written.
        warehouse: has the releases.
        day: UTC day of the release.

    Raises:
        GateHeld: the same content was withdrawn.
    """
    before = {published.day: published for published in reader.every(warehouse.root)}.get(day)
    if before is None or before.status == RELEASED:
        return
    (pins,) = row["tables"].to_pylist()
    if {pin["table"]: pin["digest"] for pin in pins} == {
        name: pin.digest for name, pin in before.tables.items()
    }:
        raise GateHeld(
            f"releases[day={day}]: {before.id} was withdrawn ({before.reason}) and has the same rows again;"
            " change what was wrong with it, or make it the latest by `microrec rollback --to`"
        )
