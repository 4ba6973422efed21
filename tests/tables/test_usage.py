"""What tasks cost, kept beside the tables: the last run counts, a spoilt file is passed over, old days go."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

from microrec.tables import usage
from microrec.tables.arrow import Warehouse
from microrec.tables.usage import Usage

DAY = dt.date(2026, 1, 4)
TRAINED = Usage("train_model", "trial", "content", 3.5, 700, False, "2026-01-05T02:00:00+00:00")


def test_usage_of_a_task_that_ran_twice_is_that_of_the_last_run(place: Path) -> None:
    warehouse = Warehouse.open()
    assert usage.of_day(warehouse, DAY) == []
    blended = replace(TRAINED, job="blend_candidates", model="")
    for each in (replace(TRAINED, seconds=99.0), TRAINED, blended):
        usage.save(warehouse, DAY, each)
    usage.save(warehouse, DAY + dt.timedelta(days=1), TRAINED)
    assert usage.of_day(warehouse, DAY) == [blended, TRAINED]
    assert [each.name for each in usage.of_day(warehouse, DAY)] == [
        "blend_candidates.trial",
        "train_model.trial.content",
    ]


def test_usage_file_that_cannot_be_read_is_left_out(place: Path) -> None:
    warehouse = Warehouse.open()
    usage.save(warehouse, DAY, TRAINED)
    folder = Path(warehouse.root, "usage", f"day={DAY}")
    (folder / "cut.json").write_text('{"job": "train')
    (folder / "of-a-later-version.json").write_text('{"job": "train_model", "watts": 3}')
    assert usage.of_day(warehouse, DAY) == [TRAINED]


def test_usage_of_days_before_the_first_kept_one_is_forgotten(place: Path) -> None:
    warehouse = Warehouse.open()
    days = [DAY + dt.timedelta(days=number) for number in range(3)]
    for day in days:
        usage.save(warehouse, day, TRAINED)
    gone = [str(day) for day in days[:2]]
    assert usage.forget(warehouse, before=days[2], dry_run=True) == gone
    assert usage.of_day(warehouse, DAY)
    assert usage.forget(warehouse, before=days[2]) == gone
    assert [bool(usage.of_day(warehouse, day)) for day in days] == [False, False, True]
