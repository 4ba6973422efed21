"""A planted world: the files of a landing zone, and the truth about them.

world = generate(Config(), np.random.default_rng(seed))
write.write_world(folder, world.parts, truth=world.truth.model_dump(mode="json"))
"""

import dataclasses
import datetime as dt
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pydantic
from pydantic import ConfigDict

from microrec.core.array_types import Bools
from microrec.synth import catalogue, dirt, media, privacy, viewings
from microrec.synth.catalogue import Catalogue
from microrec.synth.config import Config
from microrec.synth.media import Film
from microrec.synth.population import Users, Videos, draw_users, draw_videos, epoch_ms

__all__ = ["Config", "Part", "Truth", "World", "generate"]

TABLES = (
    "raw_interactions",
    "raw_videos",
    "raw_video_features",
    "raw_clip_features",
    "raw_privacy_requests",
)
"""The tables of a landing zone."""

PRIVACY_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("kind", pa.string()),
        ("requested_at", pa.timestamp("us", tz="UTC")),
    ]
)

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Part:
    """One landing file.

    Attributes:
        table: landing table.
        day: UTC day of arrival.
        name: file name without its ending.
        kind: parquet, jsonl, jsonl.gz, csv or csv.gz.
        rows: typed rows; None in a file of nothing but raw lines.
        lines: raw lines in the file's format, for text kinds.
    """

    table: str
    day: dt.date
    name: str
    kind: str
    rows: pa.Table | None
    lines: tuple[str, ...] = ()


class Truth(pydantic.BaseModel):
    """What is known about a world because it was planted. Days are arrival days unless said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_interest: dict[str, list[float]]
    """Weight of each cluster for each user; sums to 1."""

    video_cluster: dict[str, int]
    """Cluster of each video."""

    weak_clip: dict[str, int]
    """0-based quarter in which viewers who leave a video leave it most."""

    delivered: dict[dt.date, dict[str, int]]
    """Rows and lines of raw_interactions by day and label."""

    fates: dict[str, str]
    """What has to become of a label: accepted, rejected, duplicate or too_late."""

    viewings: dict[dt.date, int]
    """Clean viewings by **event** day: what events of that day holds in the end."""

    n_videos: dict[dt.date, int]
    """Videos delivered up to the end of the day."""

    ineligible: dict[dt.date, list[str]]
    """Videos delivered up to the day that may not be recommended at its end."""

    taken_down: str | None
    """The popular video that stops being eligible."""

    vectors: dict[str, dict[str, list[str]]]
    """Videos whose vector is missing, zero or broken, by modality; all others are sound."""

    suppressed: dict[dt.date, dict[str, str]]
    """Users suppressed at the end of the day, with the request in force."""

    def count(self, day: dt.date, fate: str) -> int:
        """Return the number of rows and lines of raw_interactions that arrived on a day and have a fate.

        Args:
            day: UTC day of arrival.
            fate: accepted, rejected, duplicate or too_late.
        """
        labels = self.delivered[day].items()
        return sum(n for label, n in labels if self.fates[label] == fate)


@dataclasses.dataclass(frozen=True)
class World:
    """A landing zone before it is written.

    Attributes:
        config: what it was drawn from.
        parts: its files, ordered by day and table.
        truth: what is known about it.
        films: by path within the landing zone; none of a world without media.
    """

    config: Config
    parts: tuple[Part, ...]
    truth: Truth
    films: Mapping[str, Film] = dataclasses.field(default_factory=dict)

    def rows(self, table: str, day: dt.date) -> pa.Table:
        """Return the typed rows of a table that arrive on a day, over all its files; raw lines are left out.

        Args:
            table: landing table; columns and grain are those of `table`, one row per delivered line.
            day: UTC day of arrival.

        Raises:
            ValueError: no part of the table has typed rows on the day.
        """
        frames = [part.rows for part in self.parts if (part.table, part.day) == (table, day)]
        return pa.concat_tables([rows for rows in frames if rows is not None])

    def lines(self, table: str, day: dt.date) -> list[str]:
        """Return the raw lines of a table that arrive on a day.

        Args:
            table: landing table.
            day: UTC day of arrival.
        """
        parts = [part for part in self.parts if (part.table, part.day) == (table, day)]
        return [line for part in parts for line in part.lines]


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """Everything that is drawn before the first day."""

    config: Config
    users: Users
    videos: Videos
    catalogue: Catalogue
    requests: list[privacy.Request]


@dataclasses.dataclass
class _Arrivals:
    """What arrives in raw_interactions, by offset of the day of arrival."""

    rows: defaultdict[int, list[pa.Table]]
    lines: defaultdict[int, list[str]]
    labels: defaultdict[int, Counter[str]]

    def add(self, day: int, soiled: dirt.Soiled) -> None:
        for label, lag, rows in soiled.rows:
            self.rows[day + lag].append(rows)
            self.labels[day + lag][label] += rows.num_rows
        for label, line in soiled.lines:
            self.lines[day].append(line)
            self.labels[day][label] += 1


def generate(config: Config, rng: np.random.Generator) -> World:
    """Draw a world; one log line a day.

    Args:
        config: sizes and shares.
        rng: source of every draw; the same config and state give the same world.

    Returns:
        The files of the world, not yet written, and the truth about them.
    """
    users = draw_users(config, rng)
    videos = draw_videos(config, rng)
    drawn = _Drawn(
        config=config,
        users=users,
        videos=videos,
        catalogue=catalogue.draw(config, videos, rng),
        requests=privacy.draw_requests(config.users, config.days, rng),
    )
    audience = viewings.Audience(config, users, videos)
    last = privacy.last_day(drawn.requests, config.users, config.days)
    arrivals = _Arrivals(defaultdict(list), defaultdict(list), defaultdict(Counter))
    parts: list[Part] = []
    watched: dict[dt.date, int] = {}
    for day in range(config.days):
        may_watch = (users.joined <= day) & (day <= last)
        clean = _clean(audience, drawn, day, may_watch, rng)
        watched[_date(config, day)] = clean.num_rows
        arrivals.add(day, dirt.soil(clean, _ground(drawn, clean, day), config, rng))
        parts += _parts(drawn, arrivals, day, rng)
        _logger.info(
            "planted day=%s viewings=%d delivered=%d",
            _date(config, day),
            clean.num_rows,
            arrivals.labels[day].total(),
        )
    films = media.films(videos) if config.media else {}
    return World(config, tuple(parts), _truth(drawn, arrivals, watched), films)


def _date(config: Config, day: int) -> dt.date:
    return config.first_day + dt.timedelta(days=day)


def _clean(
    audience: viewings.Audience, drawn: _Drawn, day: int, may_watch: Bools, rng: np.random.Generator
) -> pa.Table:
    watched = audience.watch(day, may_watch, rng)
    return viewings.log_lines(watched, day, drawn.users, drawn.videos, rng)


def _kind(config: Config, table: str, day: int) -> str:
    """Formats rotate over the days; each table starts at another one."""
    return config.formats[(day + TABLES.index(table)) % len(config.formats)]


def _lines_kind(config: Config, day: int) -> str:
    """Where the raw lines of raw_interactions go: its file, or JSON lines beside Parquet."""
    kind = _kind(config, "raw_interactions", day)
    return "jsonl" if kind == "parquet" else kind


def _ground(drawn: _Drawn, clean: pa.Table, day: int) -> dirt.Ground:
    videos = drawn.videos
    position = np.searchsorted(videos.ids, np.array(clean["video_id"].to_pylist(), dtype=str))
    unmeasured = videos.ids[~videos.duration_known & (videos.born <= day)]
    return dirt.Ground(
        day=day,
        days_left=drawn.config.days - 1 - day,
        lines_as=_lines_kind(drawn.config, day).removesuffix(".gz"),
        unmeasured=[str(video) for video in unmeasured],
        measured=videos.duration_known[position],
        old=videos.born[position] == 0,
    )


def _parts(drawn: _Drawn, arrivals: _Arrivals, day: int, rng: np.random.Generator) -> list[Part]:
    """The files of a day: raw_interactions in two or three, the other tables in one or none."""
    date = _date(drawn.config, day)
    tables = {
        "raw_videos": catalogue.videos_of(drawn.catalogue, drawn.videos, day),
        "raw_video_features": catalogue.features_of(drawn.catalogue, drawn.videos, day),
        "raw_clip_features": catalogue.clips_of(drawn.catalogue, drawn.videos, day),
        "raw_privacy_requests": _requests_of(drawn, day),
    }
    parts = _interactions(drawn.config, arrivals, day, rng)
    for table, rows in tables.items():
        if rows.num_rows:
            parts.append(Part(table, date, "part-0", _kind(drawn.config, table, day), rows))
    if drawn.config.media and (rows := media.rows_of(drawn.videos, day)).num_rows:
        parts.append(Part(media.TABLE, date, "part-0", "jsonl", rows))
    return parts


def _interactions(
    config: Config, arrivals: _Arrivals, day: int, rng: np.random.Generator
) -> list[Part]:
    """Rows in random order over two files, so that no reader can depend on order or on one file."""
    table = "raw_interactions"
    date = _date(config, day)
    kind = _kind(config, table, day)
    rows = pa.concat_tables([viewings.SCHEMA.empty_table(), *arrivals.rows[day]])
    rows = rows.take(rng.permutation(rows.num_rows)).combine_chunks()
    lines = tuple(arrivals.lines[day])
    half = rows.num_rows // 2
    halves = [rows.slice(0, half), rows.slice(half)]
    parts = [
        Part(table, date, f"part-{number}", kind, half_rows)
        for number, half_rows in enumerate(halves)
        if half_rows.num_rows
    ]
    if not lines:
        return parts
    if kind == "parquet":
        return [*parts, Part(table, date, "part-2", _lines_kind(config, day), None, lines)]
    return [dataclasses.replace(parts[0], lines=lines), *parts[1:]]


def _requests_of(drawn: _Drawn, day: int) -> pa.Table:
    midnight = epoch_ms(_date(drawn.config, day))
    rows = [
        {
            "user_id": str(drawn.users.ids[request.user]),
            "kind": request.kind,
            "requested_at": (midnight + request.time_ms) * 1_000,
        }
        for request in drawn.requests
        if request.day == day
    ]
    return pa.Table.from_pylist(rows, schema=PRIVACY_SCHEMA)


def _truth(drawn: _Drawn, arrivals: _Arrivals, watched: dict[dt.date, int]) -> Truth:
    users = drawn.users
    videos = drawn.videos
    books = drawn.catalogue
    user_ids = users.ids.tolist()
    video_ids = videos.ids.tolist()
    days = {day: _date(drawn.config, day) for day in range(drawn.config.days)}
    return Truth(
        user_interest=dict(zip(user_ids, users.interest.tolist(), strict=True)),
        video_cluster=dict(zip(video_ids, videos.cluster.tolist(), strict=True)),
        weak_clip=dict(zip(video_ids, videos.weak_clip.tolist(), strict=True)),
        delivered={date: dict(sorted(arrivals.labels[day].items())) for day, date in days.items()},
        fates=dict(dirt.FATES),
        viewings=watched,
        n_videos={date: int((videos.born <= day).sum()) for day, date in days.items()},
        ineligible={
            date: videos.ids[catalogue.ineligible(books, videos, day)].tolist()
            for day, date in days.items()
        },
        taken_down=None if books.taken_down is None else str(video_ids[books.taken_down]),
        vectors={name: _flaws(videos, vectors) for name, vectors in books.vectors.items()},
        suppressed={date: _suppressed(drawn, day) for day, date in days.items()},
    )


def _flaws(videos: Videos, vectors: catalogue.Vectors) -> dict[str, list[str]]:
    flaws = {"missing": vectors.missing, "zero": vectors.zero, "broken": vectors.broken}
    return {name: videos.ids[mask].tolist() for name, mask in flaws.items()}


def _suppressed(drawn: _Drawn, day: int) -> dict[str, str]:
    in_force = privacy.suppressed(drawn.requests, day)
    return {str(drawn.users.ids[user]): kind for user, kind in sorted(in_force.items())}
