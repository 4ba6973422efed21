"""Erasure: people out of every table, every version that is current or pinned, every model, and the log.

Order. Models, then the tables; the releases that pin a rewritten version are moved to the new one; after a grace for
readers, replaced files are deleted by name, and entries of the log that hold an id as a bound are cut off. Then
`users` and `private_users`, which lead from an id to an index, then the receipts, and last the request itself. Whoever
is killed in between leaves the request, and what is left is found again: every step looks at what is there, and keeps
no plan.

Where the day a release pins is not the day as it is now (a run that was held, or is not yet published), one transaction
makes the pinned files the day's, the release is moved to that version, and the next transaction takes the day back.
"""

import datetime as dt
import json
import logging
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveInt

from microrec.errors import CommitConflict, MicrorecError, MissingDay
from microrec.privacy import artefacts, pins, receipts, sweeping
from microrec.privacy.people import People
from microrec.privacy.quotes import Ids
from microrec.privacy.receipts import Request, SubjectOf
from microrec.privacy.rewriting import Rewriter, Tally, originals
from microrec.tables import entries, pages
from microrec.tables.arrow import Warehouse
from microrec.tables.commit import CARRIED, Table

logger = logging.getLogger(__name__)

USERS = ("users", "private_users")
"""Tables that lead from an id to an index; no two have the same index of a day."""
LAST = (*USERS, receipts.REQUESTS)
"""Tables that say who is who, and who is to be erased: all others come before them."""
NOT_CARRIED = ("user_edges",)
"""Tables whose scopes lose what they were made with. A list of neighbours that has lost one looks like one that was
never full, and the next night may not go on from it (`graphs/similarity/reuse.py`)."""
TRIES = 5
REQUEST_GRACE = 5.0
"""Seconds, at most, from the commit that takes a request away to the deletion of what it replaced: who reads requests
has done so by then, and no night waits longer for them."""
BACK = "taken_back_to"
"""Metadata of a commit that holds pinned days for a moment: the version whose days come back."""
TAKEN = "taken_back"


class Unfinished(MicrorecError):
    """Staged files of an attempt that may be in progress hold somebody: there is no receipt yet."""


class Config(BaseModel):
    """How careful an erasure is with whoever reads or writes beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grace_seconds: NonNegativeFloat = 60.0
    """From the last commit to the deletion of what it replaced: so long a reader may go on with files it has opened."""
    abandoned_hours: NonNegativeFloat = 12.0
    """Staged files that no commit names are those of an attempt in progress until they are so old."""
    proof_days: PositiveInt = 30
    """Days after a request by which its erasure is to be proved; `microrec watch` names what is overdue."""


@dataclass
class Erasure:
    """One erasure of some people, in progress."""

    warehouse: Warehouse
    people: People
    config: Config
    id: str
    tallies: list[Tally] = field(default_factory=list)

    @classmethod
    def of(
        cls, warehouse: Warehouse, ids: Collection[str], *, config: Config, authors_are_users: bool
    ) -> "Erasure":
        """Look up who the people are.

        Args:
            warehouse: that they are erased from.
            ids: theirs.
            config: how careful it is.
            authors_are_users: whether an `author_id` is a `user_id`.
        """
        looked_for = Ids(ids)
        indices = indices_by_day(warehouse, looked_for)
        people = People(looked_for, indices, authors_are_users)
        return cls(warehouse, people, config, uuid.uuid4().hex[:12])

    def tables(self) -> list[str]:
        """Return the tables that may have rows of somebody, but the `LAST` ones, and are there."""
        return [
            name
            for name in self.warehouse.tables()
            if name not in (*LAST, receipts.TABLE)
            and self.people.concern(self.warehouse.table(name).contract)
            and self.warehouse.table(name).open() is not None
        ]

    def plan(self) -> list[Tally]:
        """Return what an erasure would rewrite, and change nothing."""
        planned = []
        for name in (*self.tables(), *LAST):
            table = self.warehouse.table(name)
            rewriter = Rewriter(table, self.people, self.id)
            tally = Tally(name)
            versions = {None, *pins.versions(self.warehouse, name).values()}
            for version in versions:
                files = table.files(version)
                touched = rewriter.touched({p: files[p] for p in files if p not in tally.files})
                tally.files |= set(touched)
            tally.bytes = sum(sweeping.sizes(table, tally.files))
            planned.append(tally)
        return [tally for tally in planned if tally.files]

    def run(self) -> None:
        """Erase, up to the receipts and the request."""
        pages.forget(self.warehouse)
        replaced = artefacts.erase(self.warehouse, self.people.indices)
        names = self.tables()
        for name in names:
            self.erase_from(name)
        self._sweep(names, replaced, grace_seconds=self.config.grace_seconds)
        # Of the last tables nothing is read for long: a job of the night that meets a file gone is tried again.
        users = [name for name in USERS if self.warehouse.table(name).open() is not None]
        for name in users:
            self.erase_from(name)
        self._sweep(users)

    def forget_requests(self) -> None:
        """Take the request itself away; its receipt stands."""
        self.erase_from(receipts.REQUESTS)
        tidy_requests(self.warehouse, grace_seconds=min(self.config.grace_seconds, REQUEST_GRACE))

    def erase_from(self, name: str) -> None:
        """Erase from one table; nothing is done where nobody is in it.

        Raises:
            CommitConflict: others have replaced its files again and again meanwhile.
        """
        if self.warehouse.table(name).open() is None:
            return
        tally = Tally(name)
        began = time.monotonic()
        for tries in range(TRIES, 0, -1):
            try:
                TableErasure(self, self.warehouse.table(name), tally).run()
                break
            except CommitConflict:
                if tries == 1:
                    raise
        self.tallies.append(tally)
        logger.info(
            "erase table=%s files=%d rows=%d bytes=%d seconds=%.1f",
            name, len(tally.files), tally.rows, tally.bytes, time.monotonic() - began,
        )  # fmt: skip

    def _sweep(
        self, names: Sequence[str], replaced: Sequence[str] = (), *, grace_seconds: float = 0
    ) -> None:
        """Delete what nothing names any more, after the grace; what an attempt in progress may need holds it up.

        Raises:
            Unfinished: staged files of an attempt that may be in progress hold somebody.
        """
        sweep = sweeping.Sweep.of(self.warehouse, self.people, names, replaced, self.id)
        if not sweep:
            return
        time.sleep(grace_seconds)
        before = dt.datetime.now(dt.UTC) - dt.timedelta(hours=self.config.abandoned_hours)
        waiting = sweep.delete(abandoned_before=before)
        if waiting:
            raise Unfinished(
                f"erase: {len(waiting)} files of an attempt that may be in progress hold somebody, such as"
                f" {waiting[0]}; run it again when they are {self.config.abandoned_hours:g} hours old"
            )


@dataclass(frozen=True)
class TableErasure:
    """An erasure from one table."""

    erasure: Erasure
    table: Table
    tally: Tally

    def run(self) -> None:
        """Rewrite, commit, and move the pins."""
        name = self.table.contract.table
        self._take_back()
        files = self.table.files()
        rewritten = self._rewritten(files)
        pinned = pins.versions(self.erasure.warehouse, name)
        of_pins = {day: self._pinned_files(day, version) for day, version in pinned.items()}
        now = {day: {p for p, v in files.items() if str(v["day"]) == day} for day in of_pins}
        # Of requests all entries before the last erasure go anyway (`tidy_requests`).
        is_last = name == receipts.REQUESTS
        cutting = not is_last and sweeping.holds_bounds(self.table, self.erasure.people.ids)
        # Of some days the release pins another run than the last.
        apart = {d: of for d, of in of_pins.items() if of and originals(of) != originals(now[d])}
        swapped = self._rewritten({p: v for of in apart.values() for p, v in of.items()}, rewritten)
        moving = [
            day
            for day, of in of_pins.items()
            if of and day not in apart and (cutting or set(of) != now[day] or {*of} & {*rewritten})
        ]
        # Where nobody is in the pinned files, the pin stays, unless its version is cut off.
        apart = {d: of for d, of in apart.items() if cutting or set(of) & set(swapped)}
        self._note_versions(pinned, of_pins, rewritten | swapped)
        version = None
        if rewritten:
            version = self._exchange(list(rewritten), list(rewritten.values()), {})
        if apart or cutting:
            version = self._swap(apart, swapped, rewritten)
        if moving or apart:
            self._move([*moving, *apart], version, of_pins)
        self._take_back()

    def _pinned_files(self, day: str, version: int) -> dict[str, dict[str, str | None]]:
        """Files of a day at a version; none where that is lost, and its release with it."""
        try:
            files = self.table.files(version)
        except MissingDay as missing:
            logger.warning("erase: %s", missing)
            return {}
        return {path: values for path, values in files.items() if str(values["day"]) == day}

    def _rewritten(
        self,
        files: Mapping[str, Mapping[str, str | None]],
        known: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """New paths of the files that have somebody, by their old ones; those that are known are not written again."""
        known = known or {}
        rewriter = Rewriter(self.table, self.erasure.people, self.erasure.id)
        fresh = {path: values for path, values in files.items() if path not in known}
        written = {
            path: rewriter.rewrite(path, str(files[path]["day"]), self.tally)
            for path in rewriter.touched(fresh)
        }
        return written | {path: known[path] for path in files if path in known}

    def _swap(
        self,
        apart: Mapping[str, Mapping[str, object]],
        swapped: Mapping[str, str],
        rewritten: Mapping[str, str],
    ) -> int:
        """Make pinned files the files of their days for a moment; without such days, only carry the records on."""
        back = self.erasure.warehouse.version(self.table.contract.table)
        files = self.table.files()
        leaving = {path for path, values in files.items() if str(values["day"]) in apart}
        coming = {swapped.get(path, path) for of in apart.values() for path in of}
        notes = {CARRIED: json.dumps(self._records())}
        if apart:
            notes[BACK] = json.dumps({"version": back, "days": sorted(apart)})
        return self._exchange(sorted(leaving - coming), sorted(coming - leaving), notes)

    def _take_back(self) -> None:
        """Give days that were swapped their own files again, unless they have been written anew since."""
        for entry in self.table.history():
            if TAKEN in entry:
                return
            if BACK in entry:
                break
        else:
            return
        back = json.loads(entry[BACK])
        own, shown, now = (
            _parts(self.table.files(version), back["days"])
            for version in (back["version"], entry["version"], None)
        )
        ours = [part for part in {*own, *shown} if now.get(part) == shown.get(part)]
        leaving = {path for part in ours for path in shown.get(part, ())}
        coming = {path for part in ours for path in own.get(part, ())}
        notes = {TAKEN: str(entry["version"])}
        self._exchange(sorted(leaving - coming), sorted(coming - leaving), notes)

    def _records(self) -> dict[str, object]:
        records = self.table.scope_records()
        if self.table.contract.table in NOT_CARRIED:
            return {scope: record | {"made_with": None} for scope, record in records.items()}
        return dict(records)

    def _exchange(
        self, removed: Collection[str], added: Collection[str], notes: Mapping[str, str]
    ) -> int:
        always = (*NOT_CARRIED, receipts.REQUESTS)
        if self.table.contract.table in always and CARRIED not in notes:
            notes = {**notes, CARRIED: json.dumps(self._records())}
        author = self.erasure.warehouse.author
        return self.table.exchange(removed, added, author, {"erasure": self.erasure.id, **notes})

    def _move(
        self, days: Sequence[str], version: int | None, of_pins: Mapping[str, Mapping[str, object]]
    ) -> None:
        """Have the releases of some days pin a version, after a look that it has the files they pinned."""
        warehouse, name = self.erasure.warehouse, self.table.contract.table
        version = warehouse.version(name) if version is None else version
        files = self.table.files(version)
        for day in days:
            there = {path for path, values in files.items() if str(values["day"]) == day}
            if originals(there) != originals(of_pins[day]):
                raise CommitConflict(f"{name}[day={day}]: was replaced meanwhile")
        pins.move(warehouse, name, dict.fromkeys(days, version), self.erasure.id)

    def _note_versions(
        self,
        pinned: Mapping[str, int],
        of_pins: Mapping[str, Collection[str]],
        rewritten: Mapping[str, str],
    ) -> None:
        if rewritten:
            self.tally.versions.add(self.erasure.warehouse.version(self.table.contract.table))
        self.tally.versions |= {
            version for day, version in pinned.items() if set(of_pins[day]) & set(rewritten)
        }


def _parts(
    files: Mapping[str, Mapping[str, str | None]], days: Collection[str]
) -> dict[tuple[str, ...], set[str]]:
    """Files of some days by partition."""
    parts: dict[tuple[str, ...], set[str]] = {}
    for path, values in files.items():
        if str(values["day"]) in days:
            parts.setdefault(tuple(map(str, values.values())), set()).add(path)
    return parts


def indices_by_day(warehouse: Warehouse, ids: Ids) -> dict[str, frozenset[int]]:
    """Return by day the indices of people in the tables `USERS` of the day; days without any are left out.

    Args:
        warehouse: has the tables, or there are none.
        ids: theirs.
    """
    indices: dict[str, frozenset[int]] = {}
    columns = ["user_id", "user_idx"]
    for name in USERS:
        for partition in warehouse.partitions(name):
            day = str(partition["day"])
            rows = warehouse.read(name, day=dt.date.fromisoformat(day), columns=columns)
            theirs = rows.filter(ids.equal(rows["user_id"]))["user_idx"].to_pylist()
            if theirs:
                indices[day] = indices.get(day, frozenset()).union(theirs)
    return indices


def tidy_requests(warehouse: Warehouse, *, grace_seconds: float = 0) -> None:
    """Delete replaced files of requests, and the entries of their log before the last erasure.

    With the request goes the only note of whose it was, so this asks for nobody: a run that was killed between is
    finished by any later one.

    Args:
        warehouse: has the requests, or there are none.
        grace_seconds: from here to the first deletion.
    """
    table = warehouse.table(receipts.REQUESTS)
    erased = [entry["version"] for entry in table.history() if "erased_by" in entry][:1]
    if erased and entries.first_version(table) < erased[0]:
        time.sleep(grace_seconds)
        sweeping.delete_replaced(table)
        entries.cut(table, erased[0])


def plan(
    warehouse: Warehouse,
    asking: Sequence[Request],
    *,
    subject_of: SubjectOf,
    authors_are_users: bool,
) -> list[Tally]:
    """Return what an erasure would rewrite, by table, and change nothing.

    Args:
        warehouse: that people would be erased from.
        asking: who, and when they asked.
        subject_of: gives an id its pseudonym.
        authors_are_users: whether an `author_id` is a `user_id`.
    """
    ids = [request.user_id for request in receipts.due(warehouse, asking, subject_of)]
    if not ids:
        return []
    config = Config()
    return Erasure.of(warehouse, ids, config=config, authors_are_users=authors_are_users).plan()


def erase(
    warehouse: Warehouse,
    asking: Sequence[Request],
    *,
    subject_of: SubjectOf,
    config: Config,
    authors_are_users: bool,
    manifest: Callable[[str, Collection[str]], tuple[int, str]] | None = None,
) -> list[Tally]:
    """Erase people, and write their receipts; whoever was interrupted calls it again with the same people.

    Args:
        warehouse: that they are erased from.
        asking: who, and when they asked; those who have a receipt lose only what is left of the request.
        subject_of: gives an id its pseudonym.
        config: how careful it is.
        authors_are_users: whether an `author_id` is a `user_id`.
        manifest: lists the landing files that hold somebody (`manifests.writer`); none are looked through without it.

    Returns:
        What was rewritten, by table.

    Raises:
        Unfinished: staged files of an attempt that may be in progress hold somebody.
    """
    due = receipts.due(warehouse, asking, subject_of)
    ids = [request.user_id for request in due]
    erasing = Erasure.of(warehouse, ids, config=config, authors_are_users=authors_are_users)
    if due:
        erasing.run()
        receipts.write(
            warehouse,
            due,
            erasing.tallies,
            erasure=erasing.id,
            subject_of=subject_of,
            done_at=dt.datetime.now(dt.UTC),
            landing=manifest(erasing.id, ids) if manifest else None,
        )
    everyone = [request.user_id for request in asking]
    rest = Erasure(warehouse, People(Ids(everyone)), config, erasing.id)
    rest.forget_requests()
    return erasing.tallies
