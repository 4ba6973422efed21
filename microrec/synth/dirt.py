"""What real logs hold besides viewings: late rows, duplicates, and rows that must be rejected.

Every row or line that is delivered carries one label of `FATES`, which says what has to become of
it. Rows that fit the table's types are bad rows; what no typed row can hold is a bad line.
"""

import csv
import dataclasses
import datetime as dt
import io
import itertools
import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from microrec.core.array_types import Bools, Int64s
from microrec.synth.config import Config
from microrec.synth.viewings import SCHEMA

Row = dict[str, object]

ACCEPTED, REJECTED, DUPLICATE, TOO_LATE = "accepted", "rejected", "duplicate", "too_late"

FATES = {
    "clean": ACCEPTED,
    "late": ACCEPTED,  # arrives one or two days after its event day
    "epoch_ms": ACCEPTED,  # a line whose started_at is epoch milliseconds
    "duration_from_catalogue": ACCEPTED,  # duration 0 or absent, the catalogue has it
    "duplicate": DUPLICATE,  # the whole line twice on a day
    "duplicate_next_day": DUPLICATE,  # the whole line again a day later
    "too_late": TOO_LATE,  # `late_beyond_days` old when it arrives
    "missing_user": REJECTED,
    "missing_video": REJECTED,
    "missing_time": REJECTED,
    "missing_watch": REJECTED,
    "negative_watch": REJECTED,
    "absurd_watch": REJECTED,  # ten days
    "bad_duration": ACCEPTED,  # below zero: the catalogue has it
    "unknown_video": REJECTED,  # no catalogue row on any day
    "no_duration": REJECTED,  # duration 0, the catalogue has none either
    "future_event": REJECTED,  # started after the end of its day of arrival
    "event_id_conflict": REJECTED,  # the event_id of a clean row of the day, another watch_ms
    "unparsable_time": REJECTED,  # a line
    "unparsable_watch": REJECTED,  # a line
    "bad_flag": ACCEPTED,  # a line; the flag alone is passed over
    "malformed_line": REJECTED,  # a line that ends in its middle
}
"""What has to become of a row, by label."""

_OVERRIDES: dict[str, Callable[[Row, int], Row]] = {
    "missing_user": lambda _row, _n: {"user_id": None},
    "missing_video": lambda _row, _n: {"video_id": None},
    "missing_time": lambda _row, _n: {"started_at": None},
    "missing_watch": lambda _row, _n: {"watch_ms": None},
    "negative_watch": lambda _row, n: {"watch_ms": -1 - n},
    "absurd_watch": lambda _row, n: {"watch_ms": 864_000_000 + n},
    "unknown_video": lambda _row, n: {"video_id": f"x{n:06d}"},
    "no_duration": lambda _row, n: {"duration_ms": 0 if n % 2 else None},
    "future_event": lambda row, _n: {"started_at": _moved(row, dt.timedelta(hours=36))},
}
_TIMES = ("yesterday evening", "2026-13-45T99:00:00Z", "0x5f", "2026-01-01 25:61:00")


@dataclasses.dataclass(frozen=True)
class Ground:
    """What the dirt of a day has to know about the world.

    Attributes:
        day: offset from the first day.
        days_left: days of arrival after this one.
        lines_as: jsonl or csv, the format of the day's text lines.
        unmeasured: videos that are out on the day and have no duration in the catalogue.
        measured: the catalogue has the duration of the row's video  # [n_rows]
        old: the row's video is of the initial catalogue  # [n_rows]
    """

    day: int
    days_left: int
    lines_as: str
    unmeasured: list[str]
    measured: Bools
    old: Bools


@dataclasses.dataclass(frozen=True)
class Soiled:
    """The viewings of a day together with everything that does not belong to them.

    Attributes:
        rows: (label, days until arrival, rows of `viewings.SCHEMA`).
        lines: (label, text), all of which arrive on the day itself.
    """

    rows: list[tuple[str, int, pa.Table]]
    lines: list[tuple[str, str]]


def soil(clean: pa.Table, ground: Ground, config: Config, rng: np.random.Generator) -> Soiled:
    """Add the dirt of a day to its clean viewings.

    Args:
        clean: one row per viewing, columns of `viewings.SCHEMA`.
        ground: what the dirt depends on in the world.
        config: sizes and shares.
        rng: source of every draw.

    Returns:
        All rows and lines of the day by label; nothing for a day without viewings.
    """
    if clean.num_rows == 0:
        return Soiled([], [])
    parts, epoch, flagged, pool = _rearranged(clean, ground, config, rng)
    lines = [("epoch_ms", _line({**row, "started_at": _epoch_ms(row)}, ground)) for row in epoch]
    lines += [("bad_flag", _line({**row, "liked": "perhaps"}, ground)) for row in flagged]
    bad = _bad_rows(clean, ground, config, rng)
    with_id = clean.column("event_id").is_valid().to_numpy()
    bad["event_id_conflict"] = [
        {**row, "watch_ms": row["watch_ms"] + 1}
        for row in clean.take(pool.take(config.dirt_per_kind, with_id)).to_pylist()
    ]
    for label, bad_rows in bad.items():
        parts.append((label, 0, pa.Table.from_pylist(bad_rows, schema=SCHEMA)))
    lines += _bad_lines(clean, ground, config, rng)
    return Soiled([part for part in parts if part[2].num_rows], lines)


class _Pool:
    """Positions of clean rows in random order; each is given a part to play at most once."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self._left = rng.permutation(size)

    def take(self, size: int, fit: Bools | None = None) -> Int64s:
        """The next positions, of those that fit; fewer if they run out."""
        fitting = self._left if fit is None else self._left[fit[self._left]]
        taken = fitting[:size]
        self._left = self._left[~np.isin(self._left, taken)]
        return taken


def _rearranged(
    clean: pa.Table, ground: Ground, config: Config, rng: np.random.Generator
) -> tuple[list[tuple[str, int, pa.Table]], list[Row], list[Row], _Pool]:
    """Clean rows that arrive late, twice, without a duration, or as text: with an epoch, with a flag that is none."""
    n = clean.num_rows
    n_few = config.dirt_per_kind
    n_double = round(config.duplicate_share * n)
    pool = _Pool(n, rng)
    late = [
        pool.take(round(config.late_share * n / 2) if lag <= ground.days_left else 0)
        for lag in (1, 2)
    ]
    twice = pool.take(n_double)
    next_day = pool.take(n_double // 2 if ground.days_left else 0)
    blank = pool.take(n_few, ground.measured)
    with_id = clean.column("event_id").is_valid().to_numpy()
    epoch = pool.take(min(n_few, 1), with_id)
    negative = pool.take(n_few, ground.measured)
    liked = clean.column("liked").fill_null(False).to_numpy()
    flagged = pool.take(n_few, with_id & ~liked)
    elsewhere = np.concatenate([*late, blank, epoch, negative, flagged])
    parts = [
        ("clean", 0, clean.take(np.setdiff1d(np.arange(n), elsewhere))),
        ("late", 1, clean.take(late[0])),
        ("late", 2, clean.take(late[1])),
        ("duplicate", 0, clean.take(twice)),
        ("duplicate_next_day", 1, clean.take(next_day)),
        ("duration_from_catalogue", 0, _without_duration(clean.take(blank))),
        (
            "bad_duration",
            0,
            _with_duration(clean.take(negative), [-1 - n for n in range(len(negative))]),
        ),
    ]
    return parts, clean.take(epoch).to_pylist(), clean.take(flagged).to_pylist(), pool


def _bad_rows(
    clean: pa.Table, ground: Ground, config: Config, rng: np.random.Generator
) -> dict[str, list[Row]]:
    """Rows after the pattern of clean ones, each with one thing wrong and an id of its own."""
    made: dict[str, list[Row]] = {}
    for label, override in _OVERRIDES.items():
        rows = _patterns(clean, label, ground, config.dirt_per_kind, rng)
        made[label] = [{**row, **override(row, n)} for n, row in enumerate(rows)]
    blind = itertools.cycle(ground.unmeasured)
    made["no_duration"] = [
        {**row, "video_id": video} for row, video in zip(made["no_duration"], blind, strict=False)
    ]
    age = dt.timedelta(days=config.late_beyond_days)
    old = clean.filter(pa.array(ground.old))
    rows = _patterns(old, "too_late", ground, config.dirt_per_kind, rng)
    made["too_late"] = [{**row, "started_at": _moved(row, -age)} for row in rows]
    return made


def _bad_lines(
    clean: pa.Table, ground: Ground, config: Config, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """Lines that no typed row can hold."""
    n = config.dirt_per_kind
    lines = []
    for number, row in enumerate(_patterns(clean, "unparsable_time", ground, n, rng)):
        row["started_at"] = _TIMES[(ground.day + number) % len(_TIMES)]
        lines.append(("unparsable_time", _line(row, ground)))
    for row in _patterns(clean, "unparsable_watch", ground, n, rng):
        lines.append(("unparsable_watch", _line({**row, "watch_ms": "12s"}, ground)))
    for number, row in enumerate(_patterns(clean, "malformed_line", ground, n, rng)):
        lines.append(("malformed_line", _broken(_line(row, ground), number, ground)))
    return lines


def _patterns(
    clean: pa.Table, label: str, ground: Ground, size: int, rng: np.random.Generator
) -> list[Row]:
    """Copies of random clean rows under event_ids of their own."""
    if clean.num_rows == 0:
        return []
    rows: list[Row] = clean.take(rng.integers(0, clean.num_rows, size=size)).to_pylist()
    return [{**row, "event_id": f"b{ground.day:03d}-{label}-{n}"} for n, row in enumerate(rows)]


def _without_duration(rows: pa.Table) -> pa.Table:
    """0 and absent, in turn: both mean that the player did not know."""
    return _with_duration(rows, [0 if n % 2 else None for n in range(rows.num_rows)])


def _with_duration(rows: pa.Table, durations: list[int | None] | list[int]) -> pa.Table:
    position = rows.schema.get_field_index("duration_ms")
    return rows.set_column(position, "duration_ms", pa.array(durations, pa.int64()))


def _broken(line: str, number: int, ground: Ground) -> str:
    """JSON cut at two thirds; CSV cut inside its second field, or with text after a quoted field."""
    if ground.lines_as == "jsonl":
        return line[: 2 * len(line) // 3]
    return f'"{line}" x' if number % 2 else line[:12]


def _line(row: Row, ground: Ground) -> str:
    """A row as its producer would write it, in the day's text format."""
    plain = {name: _plain(row[name]) for name in SCHEMA.names}
    if ground.lines_as == "jsonl":
        return json.dumps({name: value for name, value in plain.items() if value is not None})
    sink = io.StringIO()
    csv.writer(sink, lineterminator="").writerow(
        json.dumps(value) if isinstance(value, bool) else value for value in plain.values()
    )
    return sink.getvalue()


def _plain(value: object) -> object:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value


def _moved(row: Row, by: dt.timedelta) -> dt.datetime:
    started_at = row["started_at"]
    assert isinstance(started_at, dt.datetime)
    return started_at + by


def _epoch_ms(row: Row) -> int:
    return (_moved(row, dt.timedelta()) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(
        milliseconds=1
    )
