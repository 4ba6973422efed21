"""Requests as they are remembered, and what follows from them: when a person's viewings may not be used.

Clocks lie, so requests are ordered by the day they arrived on. On that day they count at the instant they state, if
that lies in the days they may come from; else at the end of the day of arrival, as does a request that states none. Of
requests at the same instant an erasure counts after an opt-out, and that after an opt-in.

An opt-out begins a period that the next opt-in ends; what was watched in it is never used. An erasure stands for all
that was before. An opt-in that arrives on a later day, once the erasure has been carried out, is a new person's.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from microrec.core import days
from microrec.privacy.subjects import Subjects

OPT_IN, OPT_OUT, ERASE = "opt_in", "opt_out", "erase"
ORDER = (OPT_IN, OPT_OUT, ERASE)
"""Of kinds at the same instant the later one decides."""
COUNTED, EMPTY, FOLDED = "counted", "empty_file", "folded"
"""Verdict of a request that nothing is wrong with; of the row that stands for a file without requests; of the row that
stands for a file whose lines are kept elsewhere."""
GOOD = (COUNTED, EMPTY, FOLDED)
"""Verdicts of rows that nothing was refused for."""
OF_PERIODS = ["day", "subject", "kind", "counts_at"]
"""Columns that periods follow from."""
COLUMNS = (
    "file", "file_stamp", "number", "part", "subject", "kind", "requested_at", "counts_at", "verdict", "key_id",
)  # fmt: skip
"""Columns of `privacy_ledger` beside `day`, that of arrival."""


class Period(NamedTuple):
    """When the viewings of a person may not be used."""

    kind: str
    """opt_out or erase."""
    since: dt.datetime | None
    """First instant; None for all that was before."""
    until: dt.datetime | None
    """First instant after it; None while it lasts."""
    requested_at: dt.datetime
    """When the request that began it counts."""


def rows(
    judged: pa.Table,
    stamps: Mapping[str, str],
    subjects: Subjects,
    *,
    lateness_days: int,
    timezone: str,
) -> list[dict[str, Any]]:
    """Return what is remembered of requests.

    Args:
        judged: `landing.requests.read`, one row per delivered line.
        stamps: of every file that was read its stamp, by its name.
        subjects: gives ids their subjects.
        lateness_days: how many days before its arrival a request may have been made.
        timezone: whose days the days of arrival are.

    Returns:
        Rows of `privacy_ledger`: one per line, of a refused line that may have withdrawn several ids one per id, and
        one per file that has no line.
    """
    remembered = []
    for line in judged.to_pylist():
        arrived_on = line["day"]
        common = {
            "day": arrived_on, "file": line["file"], "file_stamp": stamps[line["file"]],
            "number": line["number"], "requested_at": line["requested_at"],
            "verdict": line["rule"] or COUNTED, "key_id": subjects.key_id,
        }  # fmt: skip
        at = counts_at(line["requested_at"], arrived_on, lateness_days, timezone)
        ids = line["withdrawn"] if line["rule"] else [line["user_id"]]
        kind = OPT_OUT if line["rule"] else line["kind"]
        for part, user_id in enumerate(sorted(ids) or [None]):
            named = user_id is not None
            remembered.append(
                common
                | {"part": part, "subject": subjects.of(user_id) if named else None}
                | {"kind": kind if named else None, "counts_at": at if named else None}
            )
    with_lines = {row["file"] for row in remembered}
    nothing = dict.fromkeys(COLUMNS) | {"number": 0, "part": 0, "verdict": EMPTY}
    for file, stamp in stamps.items():
        if file not in with_lines:
            of_file = {"file": file, "file_stamp": stamp, "key_id": subjects.key_id}
            remembered.append(nothing | of_file | {"day": _day_of(file)})
    return remembered


def marks(judged: pa.Table, stamps: Mapping[str, str], subjects: Subjects) -> list[dict[str, Any]]:
    """Return what is remembered of files whose lines are kept elsewhere: that they were read, and what was refused.

    Args:
        judged: `landing.requests.read_preferences`, one row per delivered line.
        stamps: of every file that was read its stamp, by its name.
        subjects: gives ids their subjects.

    Returns:
        Rows of `privacy_ledger`: one per file and one per refused line, none of which counts for anybody.
    """
    nothing = dict.fromkeys(COLUMNS) | {"number": 0, "part": 0, "key_id": subjects.key_id}
    remembered = []
    for file, stamp in stamps.items():
        of_file = {"file": file, "file_stamp": stamp, "day": _day_of(file)}
        remembered.append(nothing | of_file | {"verdict": FOLDED})
        for line in judged.filter(pc.equal(judged["file"], file)).to_pylist():
            if line["rule"]:
                named = line["user_id"] and subjects.of(line["user_id"])
                refused = {"number": line["number"], "verdict": line["rule"], "subject": named}
                remembered.append(nothing | of_file | refused)
    return remembered


def _day_of(file: str) -> dt.date:
    """The landing day of a file of the landing zone."""
    return dt.date.fromisoformat(file.split("/")[-2].removeprefix("day="))


def counts_at(
    stated: dt.datetime | None, arrived_on: dt.date, lateness_days: int, timezone: str
) -> dt.datetime:
    """Return the instant from which a request counts.

    Args:
        stated: what it states; None where that cannot be read.
        arrived_on: day of arrival.
        lateness_days: how many days before its arrival it may have been made.
        timezone: whose days the days are.
    """
    first = days.start(arrived_on - dt.timedelta(days=lateness_days), timezone)
    end = days.end(arrived_on, timezone)
    believed = stated is not None and first <= stated < end
    return stated if stated and believed else end - dt.timedelta(microseconds=1)


def periods(
    ledger: Iterable[Mapping[str, Any]], erased: Mapping[str, dt.datetime]
) -> dict[str, list[Period]]:
    """Return when the viewings of each person may not be used.

    Args:
        ledger: rows of `privacy_ledger`, of which `OF_PERIODS` matter.
        erased: by subject the greatest `requested_at` of an erasure that has been carried out.

    Returns:
        Periods by subject, one after the other; the last one lasts if its `until` is None. Who has none is left out.
    """
    of_subject = defaultdict(list)
    for row in ledger:
        if row["kind"] is not None:
            of_subject[row["subject"]].append(
                (row["day"], row["counts_at"], ORDER.index(row["kind"]))
            )
    each = {
        subject: _periods(sorted(requests), erased.get(subject))
        for subject, requests in of_subject.items()
    }
    return {subject: several for subject, several in each.items() if several}


def _periods(
    requests: Collection[tuple[dt.date, dt.datetime, int]], erased_at: dt.datetime | None
) -> list[Period]:
    """Periods of one person, whose requests are given in order: day of arrival, instant, place in `ORDER`."""
    ended: list[Period] = []
    lasting: Period | None = None
    erased_on: dt.date | None = None
    for arrived_on, at, kind in requests:
        if ORDER[kind] == ERASE:
            # All that was before goes, the periods too.
            ended, lasting, erased_on = [], Period(ERASE, None, None, at), arrived_on
        elif lasting is None and ORDER[kind] == OPT_OUT:
            lasting = Period(OPT_OUT, at, None, at)
        elif lasting is not None and ORDER[kind] == OPT_IN:
            is_carried_out = erased_at is not None and lasting.requested_at <= erased_at
            is_new_person = is_carried_out and erased_on is not None and arrived_on > erased_on
            if lasting.kind == OPT_OUT or is_new_person:
                ended.append(lasting._replace(until=at))
                lasting = None
    return [*ended, lasting] if lasting else ended
