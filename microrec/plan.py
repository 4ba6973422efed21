"""What a night is made of, in words: a night whose words are those of its release need not be made again.

    events     what the arrival days of its window were validated from: names, sizes and times of their files
    catalogue  the files of videos, features and privacy requests that arrived through the day
    recipe     every value of it, and the models the run was asked for
    code       microrec, jobs and contracts
    taught_by  the nights before it that its blend learns from, by their own words

Equal words mean equal rows of the result tables, but for the comparison with the release of the day before in
`metrics` and `gate_results`. Different words need not mean different rows: a file that was delivered again as it
was has another time. A night that was taught by fewer nights than there are now, as after a backfill that went
backwards, has other words than it would have now; running the days once more, forwards, settles that.
"""

import datetime as dt
import json
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

import pyarrow as pa

from microrec import proposals, recipe
from microrec.candidates import hybrid
from microrec.release import reader
from microrec.settings import HOME, settings
from microrec.tables import landing
from microrec.tables.arrow import Warehouse

INTERACTIONS = "raw_interactions"
UNKNOWN = "unknown"
"""What is said of a night or a day that left no word."""


class Inputs(NamedTuple):
    """One word for each thing a night is made of."""

    events: str
    catalogue: str
    recipe: str
    code: str
    taught_by: str

    @property
    def word(self) -> str:
        """One for all."""
        return _word(self)

    def row(self) -> pa.Table:
        """Of `nights`."""
        return pa.Table.from_pylist([{**self._asdict(), "inputs": self.word}])


def of(house: Warehouse, day: dt.date) -> Inputs:
    """What a night would be made of if it was made now."""
    night, zone = recipe.night(), settings().landing
    return Inputs(
        events=_word(_events(house, zone, day)),
        catalogue=_word(
            landing.stamp(zone, table, one)
            for table in landing.TABLES
            if table != INTERACTIONS
            for one in landing.days(zone, table)
            if one <= day
        ),
        recipe=_word([json.dumps(recipe.load(settings().recipe), sort_keys=True), *night.models]),
        code=code(),
        taught_by=_word(_teachers(house, day)),
    )


def code() -> str:
    """What the rows are computed by."""
    folders = [HOME / "microrec", HOME / "jobs", settings().schemas]
    files = (file for folder in folders for file in sorted(folder.rglob("*")))
    kept = [file for file in files if file.suffix in (".py", ".yaml")]
    return _word(sha256(file.read_bytes()).hexdigest() for file in kept)


def news(house: Warehouse, day: dt.date, mine: Inputs) -> list[str]:
    """Why a night is to be made: what is new since its release, in words; nothing if its release stands.

    Args:
        house: has the releases.
        day: of the night.
        mine: what it would be made of.
    """
    release = {one.day: one for one in reader.every(house.root)}.get(day)
    if release is None:
        return ["no release"]
    if release.inputs == mine.word:
        return [] if release.status == reader.RELEASED else [f"withdrawn: {release.reason}"]
    if release.inputs is None or not house.exists("nights", day=day):
        return ["made of nobody knows what: without a plan, or something changed in its course"]
    (before,) = house.read("nights", day=day).to_pylist()
    if before["inputs"] != release.inputs:
        return ["begun again since its release"]
    return [f"{name} changed" for name, word in mine._asdict().items() if before[name] != word]


def kept(house: Warehouse, day: dt.date) -> str | None:
    """The word a night was planned with; None if it has no plan, or is by now made of something else.

    So a release never says that it was made of what changed in its night's course: a file delivered again, a recipe
    mended before a task was cleared, a teacher that came late.
    """
    if not house.exists("nights", day=day):
        return None
    word: str = house.read("nights", day=day)["inputs"][0].as_py()
    return word if word == of(house, day).word else None


def _events(house: Warehouse, zone: str, day: dt.date) -> list[str]:
    """By arrival day: what its events were made from, or would be if no night has validated it."""
    night = recipe.night()
    days = [day - dt.timedelta(days=back) for back in range(night.window_days)]
    stamps = [landing.stamp(zone, INTERACTIONS, one, back=night.lateness_days) for one in days]
    there = house.made_with_each("events", [{"arrived_on": one} for one in days])
    # The night validates its own day in any case.
    return [stamps[0], *(kept or new for kept, new in zip(there[1:], stamps[1:], strict=True))]


def _teachers(house: Warehouse, day: dt.date) -> list[str]:
    """The nights whose held-out days teach the blend: none if it learns nothing."""
    night, config = recipe.night(), recipe.section("candidates.hybrid", hybrid.Config)
    days = proposals.nights(house, night.sources, last=day, fit="trial")[: config.nights]
    if len(days) + 1 < config.least_nights:  # the day itself teaches the final fit
        return []
    known = {}
    if house.partitions("nights"):
        known = {row["day"]: row["inputs"] for row in house.read("nights").to_pylist()}
    return [f"{one} {known.get(one, UNKNOWN)}" for one in days]


def _word(parts: Iterable[str]) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()[:16]
