"""What each task of a night cost: a line of JSON in a file beside the tables, `<warehouse>/usage/day=D/TASK.json`.

The watchdog reads them for its figures (`report/prometheus.py`). No job does: they are no table and have no contract.
"""

import dataclasses
import datetime as dt
import json
from dataclasses import dataclass

import pyarrow.fs as fs

from microrec.tables import pages
from microrec.tables.arrow import Warehouse
from microrec.tables.commit import filesystem

FOLDER = "usage"
PREFIX, SUFFIX = "day=", ".json"


@dataclass(frozen=True)
class Usage:
    """One task of a night, when it ran last."""

    job: str
    """File name in jobs/, without the ending."""
    fit: str
    """`trial` or `final`; empty of a job that has no fits."""
    model: str
    """The model that the task was for; empty of a job of none."""
    seconds: float
    """Wall time of its process."""
    peak_mb: int
    """Sum of the peak resident sizes of its process and its children, in MiB."""
    failed: bool
    ended_at: str
    """ISO 8601, UTC."""

    @property
    def name(self) -> str:
        """The task in one word, such as `train_model.trial.content`."""
        return ".".join(filter(None, (self.job, self.fit, self.model)))


def save(warehouse: Warehouse, day: dt.date, usage: Usage) -> None:
    """Write what a task cost over what it cost before.

    Args:
        warehouse: to write beside.
        day: of the night.
        usage: of the task.
    """
    name = f"{FOLDER}/{PREFIX}{day}/{usage.name}{SUFFIX}"
    pages.write(warehouse, name, json.dumps(dataclasses.asdict(usage)) + "\n")


def of_day(warehouse: Warehouse, day: dt.date) -> list[Usage]:
    """Return what the tasks of a night cost, by name; a file that cannot be read is left out.

    Args:
        warehouse: to read from.
        day: of the night.
    """
    store, root = filesystem(warehouse.root, warehouse.options)
    selector = fs.FileSelector(f"{root}/{FOLDER}/{PREFIX}{day}", allow_not_found=True)
    read = []
    for info in store.get_file_info(selector):
        if info.base_name.endswith(SUFFIX) and not info.base_name.startswith("_"):
            with store.open_input_stream(info.path) as stream:
                text = stream.read()
            try:
                read.append(Usage(**json.loads(text)))
            except (ValueError, TypeError):
                continue
    return sorted(read, key=lambda usage: usage.name)


def forget(warehouse: Warehouse, *, before: dt.date, dry_run: bool = False) -> list[str]:
    """Delete the files of days before one.

    Args:
        warehouse: beside which they lie.
        before: first day whose files are kept.
        dry_run: delete nothing.

    Returns:
        Days whose files were (or would be) deleted, ascending, as `YYYY-MM-DD`.
    """
    store, root = filesystem(warehouse.root, warehouse.options)
    selector = fs.FileSelector(f"{root}/{FOLDER}", allow_not_found=True)
    folders = {
        info.base_name.removeprefix(PREFIX): info.path
        for info in store.get_file_info(selector)
        if info.base_name.startswith(PREFIX)
    }
    days = [day for day in sorted(folders) if day < str(before)]
    for day in [] if dry_run else days:
        store.delete_dir(folders[day])
    return days
