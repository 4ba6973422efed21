"""Pages beside the tables are written whole, one a day, and forgotten by day or all together."""

import datetime as dt
from pathlib import Path

from microrec.tables import pages
from microrec.tables.arrow import Warehouse

DAYS = [dt.date(2026, 1, n) for n in (5, 6, 7)]


def test_pages_are_written_over_and_forgotten(place: Path) -> None:
    warehouse = Warehouse.open()
    for day in DAYS:
        pages.save(warehouse, day, "old")
        path = pages.save(warehouse, day, f"page of {day} \N{GRINNING FACE}")
    assert Path(path).read_text(encoding="utf-8") == "page of 2026-01-07 \N{GRINNING FACE}"
    assert len(list(Path(path).parent.iterdir())) == 3, "nothing half written is left"
    assert pages.forget(warehouse, before=DAYS[1], dry_run=True) == ["2026-01-05"]
    assert pages.forget(warehouse, before=DAYS[1]) == ["2026-01-05"]
    assert pages.forget(warehouse) == ["2026-01-06", "2026-01-07"]
    assert pages.forget(warehouse) == []
