"""What a night is made of: a night that would be made of the same as its release need not be made again.

| input | what is digested |
|---|---|
| `events` | time zone, and the files the window's arrival days are validated from: names, sizes, times |
| `catalogue` | files of videos, features, media and privacy requests that arrived through the day |
| `recipe` | every value of the recipe, and the models the run was asked for |
| `code` | what microrec, its jobs and its contracts do (`core.code_digest`) |
| `packages` | versions of the packages that make rows |
| `processor` | architecture, vector instruction sets, number of BLAS threads |
| `taught_by` | the nights before this one that its blend learns from, by their own inputs |

Equal inputs mean equal rows of the result tables, but for the comparison with the release of the day before in
`metrics` and `gate_results`. Different inputs need not mean different rows: a file that was delivered again as it was
has another time. A night that learned from fewer nights than there are now, as after a backfill in descending order,
has other inputs than it would have now; running the days once more, in ascending order, settles that.
"""

import datetime as dt
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from microrec.candidates.ranking import learned_blend
from microrec.config.settings import CODE, blas_threads, settings
from microrec.core import code_digest
from microrec.core.digests import digest
from microrec.landing import listing as landing_listing
from microrec.landing import zone
from microrec.landing.listing import Change, Listing
from microrec.pipeline import arrival_plan, blending, landing_files
from microrec.pipeline.night import Night
from microrec.release import reader

logger = logging.getLogger(__name__)

UNKNOWN = "unknown"
"""Inputs of a night that left none."""


class NightInputs(NamedTuple):
    """What a night is made of, one digest or text each."""

    events: str
    catalogue: str
    recipe: str
    code: str
    packages: str
    """JSON object, version by package."""
    processor: str
    taught_by: str
    code_parts: str
    """JSON object, digest by package of ours; tells which code changed and is not part of the digest."""

    @property
    def digest(self) -> str:
        """One digest of all that rows depend on: 16 hexadecimal characters."""
        return digest(self[:-1])

    def row(self) -> pa.Table:
        """Return the row of `nights`, without the day."""
        return pa.Table.from_pylist([{**self._asdict(), "inputs": self.digest}])


INPUTS = tuple(name for name in NightInputs._fields if name != "code_parts")
"""Kinds of inputs that rows depend on."""


def current_inputs(night: Night) -> NightInputs:
    """Return what a night would be made of if it was made now.

    Args:
        night: with the recipe as it is now; its warehouse has the nights before.

    Returns:
        The inputs, by kind.

    Raises:
        LandingError: a landing folder holds what is no data file.
        RecipeError: a value of the recipe is refused.
    """
    listing = Listing.take(settings().landing, last=night.day)
    media = Listing.take(settings().landing, last=night.day, tables=(zone.MEDIA,))
    return NightInputs(
        events=digest(arrival_plan.window_words(night, listing)),
        catalogue=digest(
            [
                *(
                    listing.stamp(table, listing.days(table))
                    for table in zone.TABLES
                    if table != zone.INTERACTIONS
                ),
                media.stamp(zone.MEDIA, media.days(zone.MEDIA)),
            ]
        ),
        recipe=digest([json.dumps(night.recipe.values, sort_keys=True), *night.config.models]),
        code=code_digest.total_digest(CODE, settings().schemas),
        packages=_json(code_digest.package_versions()),
        processor=f"{code_digest.processor()} blas_threads={blas_threads()}",
        taught_by=digest(_teachers(night)),
        code_parts=_json(code_digest.code_digests(CODE, settings().schemas)),
    )


def stale_reasons(night: Night, current: NightInputs) -> list[str]:
    """Return why a night is to be made, one reason an entry; none if its release stands.

    Args:
        night: its warehouse has the releases and what they were made of.
        current: what it would be made of.

    Returns:
        Reasons such as `recipe changed` or `packages changed: lightgbm 4.6.0 -> 4.7.0`.
    """
    releases = {release.day: release for release in reader.every(night.warehouse.root)}
    release = releases.get(night.day)
    if release is None:
        return ["no release"]
    if release.inputs == current.digest:
        stands = release.status == reader.RELEASED
        return [] if stands else [f"withdrawn: {release.reason}"]
    if release.inputs is None or not night.exists("nights"):
        files = _named([*_file_changes(night, "events"), *_file_changes(night, "catalogue")])
        return [
            f"inputs unknown: made without a plan, or an input changed while the night ran{files}"
        ]
    (before,) = night.read("nights").to_pylist()
    if before["inputs"] != release.inputs:
        return ["begun again since its release"]
    return [
        f"{name} changed{_details(night, name, before, current)}"
        for name, value in current._asdict().items()
        if name != "code_parts" and before[name] != value
    ]


def planned_inputs(night: Night) -> str | None:
    """Return the digest a night was planned with, for its release.

    A release must not claim inputs that changed while the night ran: a file delivered again, a recipe mended before a
    task was cleared, a night that finished meanwhile and would have taught the blend.

    Args:
        night: its warehouse has the plan.

    Returns:
        The digest; None if the night has no plan, or would by now be made of something else.
    """
    if not night.exists("nights"):
        return None
    (planned,) = night.read("nights").to_pylist()
    current = current_inputs(night)
    if planned["inputs"] == current.digest:
        return current.digest
    changed = [name for name in INPUTS if planned[name] != getattr(current, name)]
    logger.warning(
        "inputs changed while the night ran (%s): its release claims none, and the next plan of the day makes it again",
        ", ".join(changed),
    )
    return None


def _details(night: Night, name: str, before: Mapping[str, Any], current: NightInputs) -> str:
    """Which file, package, instruction set or part of the code differs, where that is known."""
    if name in ("events", "catalogue"):
        return _named(_file_changes(night, name))
    if name == "processor":
        return f": {before[name]} -> {current.processor}"
    if name == "packages":
        changes = code_digest.differences(json.loads(before[name]), json.loads(current.packages))
        return f": {', '.join(changes)}"
    if name == "code":
        parts = json.loads(current.code_parts)
        changes = code_digest.differences(json.loads(before["code_parts"]), parts)
        return f": {', '.join(change.split()[0] for change in changes)}"
    return ""


def _file_changes(night: Night, name: str) -> list[Change]:
    """How the files of the events or of the catalogue differ from those the night has read."""
    before = landing_files.read_listing(night.warehouse, night.day)
    if before is None:
        return []
    now = Listing.take(settings().landing, last=night.day)
    config = night.config
    first = night.day - dt.timedelta(days=config.window_days + config.lateness_days - 1)
    differing = landing_listing.changes(before, now)
    if name == "catalogue":
        return [change for change in differing if change.file.raw_table != zone.INTERACTIONS]
    # Whether a line is an event depends on the videos that are known.
    return [
        change
        for change in differing
        if change.file.raw_table == zone.VIDEOS
        or (change.file.raw_table == zone.INTERACTIONS and change.file.arrived_on >= first)
    ]


def _named(changes: Sequence[Change]) -> str:
    return f": {landing_listing.named(changes)} after the night had read its day" * bool(changes)


def _teachers(night: Night) -> list[str]:
    """The nights whose held-out days teach the blend: none if it learns nothing."""
    config = night.recipe.section("candidates.hybrid", learned_blend.Config)
    days = blending.teaching_days(night.at(night.day, fit="trial"))[: config.nights]
    if len(days) + 1 < config.least_nights:  # the day itself teaches the final fit
        return []
    inputs_of = {}
    if night.warehouse.partitions("nights"):
        rows = night.warehouse.read("nights").to_pylist()
        inputs_of = {row["day"]: row["inputs"] for row in rows}
    return [f"{each} {inputs_of.get(each, UNKNOWN)}" for each in days]


def _json(values: Mapping[str, str]) -> str:
    return json.dumps(dict(values), sort_keys=True)
