r"""Rates as of the start of each day: the share of viewings that was positive, by user, video and where they meet.

Of a key (a user; a user on a surface; ...) with n_d viewings that started on day d, p_d of them positive, as of the
start of day c:

    n = sum over d < c of n_d 0.5^((c - 1 - d) / half-life)         faded; yesterday counts whole
    N = sum over d < c of n_d                                       long: the whole window
    rate = (p + prior * parent) / (n + prior)                       where little is known, the rate of the parent

and the same of p and P. Sums are of the rows of the key on the days before c alone, one day after another, so no
other row changes a digit of them: not a later one, and not one of another key. A day adds to the sums of the day
before, so the cost of a window is its rows once for each kind of key.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from microrec.core.array_types import Float32s, Float64s, Indices, Int64s
from microrec.core.pairs import pack, positions
from microrec.core.rows import Rows

KINDS: Mapping[str, tuple[tuple[str, ...], str | None]] = {
    "all": ((), None),
    "user": (("user",), "all"),
    "video": (("video",), "all"),
    "author": (("author",), "all"),
    "tag": (("tag",), "all"),
    "surface": (("surface",), "all"),
    "duration": (("duration",), "all"),
    "user_surface": (("user", "surface"), "user"),
    "user_duration": (("user", "duration"), "user"),
    "user_author": (("user", "author"), "user"),
    "user_tag": (("user", "tag"), "user"),
}
"""Kinds of keys: what a key is made of, and the kind whose rate stands in where a key has few viewings."""
MEASURES = ("", "_long", "_shown", "_shown_long")
"""The features of each kind: rate, long rate, and the logarithms of the viewings behind them."""
NAMES = tuple(
    kind + measure for kind, (_, parent) in KINDS.items() if parent for measure in MEASURES
)
"""Names of the features, in order: of every kind but `all`, which is the same for all pairs of a day."""
UNKNOWN = 0.5
"""The rate of all before anybody was shown anything."""
DURATION_EDGES_MS = (
    7_000, 12_000, 20_000, 30_000, 45_000, 60_000, 90_000, 120_000, 180_000, 300_000,
)  # fmt: skip
"""Lower edges of the duration buckets, ascending."""


@dataclass(frozen=True, eq=False)
class Shown(Rows):
    """Pairs of a user and a video, where the video was shown, and the day; -1 for a surface that is not known.

    Shapes:
        every array: [n_pairs]
    """

    user_idx: Int64s
    video_idx: Int64s
    surface: Int64s
    day: Int64s
    """Days since 1970."""


@dataclass(frozen=True, eq=False)
class Counts(Shown):
    """How often pairs were shown and liked on a day.

    Shapes:
        every array: [n_rows]
    """

    n_shown: Int64s
    n_positive: Int64s


@dataclass(frozen=True, eq=False)
class VideoFacts:
    """What videos have in common with others; -1 where it is not known.

    Shapes:
        author, duration: [n_videos]; tag_starts: [n_videos + 1]; tag: [n_tags of all videos]
    """

    author: Int64s
    duration: Int64s
    """Number of the duration bucket."""
    tag_starts: Int64s
    tag: Int64s


Sums = Mapping[str, Float64s]
"""By kind: faded viewings and positives, long viewings and positives. [n_pairs, 4] each"""


@dataclass(frozen=True, eq=False)
class Totals:
    """The sums of every key as of the start of a day.

    Shapes:
        keys: [n_keys], ascending, by kind; values: [n_keys, 4] by kind
    """

    keys: Mapping[str, Int64s]
    values: Sums
    videos: VideoFacts

    def of(self, pairs: Shown) -> Sums:
        """Return the sums of the keys of pairs, whatever their day.

        Args:
            pairs: [n_pairs]

        Returns:
            By kind [n_pairs, 4]; zeros where nothing is known. A video of several tags has the sums of all of them.
        """
        sums = {}
        for kind, (parts, _) in KINDS.items():
            row, key = _keys(parts, pairs, self.videos)
            known = self.keys[kind]
            at = np.searchsorted(known, key)
            there = at < len(known)
            there[there] = known[at[there]] == key[there]
            values = self.values[kind][at[there]]
            columns = [np.bincount(row[there], part, minlength=len(pairs)) for part in values.T]
            sums[kind] = np.stack(columns, axis=1).astype(np.float64)
        return sums


class Book:
    """Counts by kind and key, to be summed as of the start of any day."""

    def __init__(self, counts: Counts, videos: VideoFacts, *, half_life_days: float) -> None:
        """Sort the counts by day.

        Args:
            counts: in any order. [n_rows]
            videos: authors, durations and tags.
            half_life_days: after so many days a viewing counts half.
        """
        self.videos = videos
        self.fade = 0.5 ** (1 / half_life_days)
        self.counts = counts.taken(np.argsort(counts.day, kind="stable"))
        self.keys: dict[str, Int64s] = {}
        self._rows: dict[str, tuple[Int64s, Int64s]] = {}
        for kind, (parts, _) in KINDS.items():
            row, key = _keys(parts, self.counts, videos)
            self.keys[kind], at = np.unique(key, return_inverse=True)
            self._rows[kind] = (row, at)

    def as_of(self, day: int) -> Totals:
        """Return the totals as of the start of a day, in days since 1970."""
        return next(self.starts(np.array([day])))

    def starts(self, days: Indices) -> Iterator[Totals]:
        """Go through the window once, a day adding to the totals of the day before.

        Args:
            days: ascending, each once, in days since 1970. [n_days]

        Yields:
            The totals as of the start of each of these days; they hold until the next are asked for.
        """
        values = {kind: np.zeros((len(keys), 4)) for kind, keys in self.keys.items()}
        wanted = set(map(int, days))
        first = int(min([*self.counts.day[:1], *days[:1]], default=0))
        for day in range(first, max(wanted, default=first - 1) + 1):
            if day in wanted:
                yield Totals(self.keys, values, self.videos)
            self._add(values, day)

    def sums(self, of: Shown) -> Sums:
        """Return the sums of the keys of pairs, each as of the start of its day.

        Args:
            of: pairs and days. [n_pairs]

        Returns:
            As `Totals.of`. [n_pairs, 4] by kind
        """
        days, at = np.unique(of.day, return_inverse=True)
        sums = {kind: np.zeros((len(of), 4)) for kind in KINDS}
        for number, totals in enumerate(self.starts(days)):
            chosen = np.flatnonzero(at == number)
            for kind, values in totals.of(of.taken(chosen)).items():
                sums[kind][chosen] = values
        return sums

    def _add(self, values: Sums, day: int) -> None:
        """Fade what is there, and add a day's counts."""
        begin, end = np.searchsorted(self.counts.day, [day, day + 1])
        for kind, (row, key) in self._rows.items():
            of_day = slice(*np.searchsorted(row, [begin, end]))
            values[kind][:, :2] *= self.fade
            for column, amount in enumerate((self.counts.n_shown, self.counts.n_positive)):
                n_keys = len(self.keys[kind])
                added = np.bincount(key[of_day], amount[row[of_day]], minlength=n_keys)
                values[kind][:, column] += added
                values[kind][:, 2 + column] += added


def duration_bucket(duration_ms: Indices) -> Int64s:
    """Return the number of the bucket of each length, -1 where it is 0 or less. [n]."""
    bucket = np.searchsorted(DURATION_EDGES_MS, duration_ms, side="right")
    return np.where(duration_ms > 0, bucket, -1).astype(np.int64)


def features(sums: Sums, *, prior: float) -> Float32s:
    """Return rates and the evidence behind them, in the order of `NAMES`.

    Args:
        sums: of the pairs. [n_pairs, 4] by kind
        prior: viewings that the rate of the parent counts for.

    Returns:
        Rates in (0, 1), log(1 + viewings). [n_pairs, n_features]
    """
    rates: dict[str, tuple[Float64s, Float64s]] = {}
    columns = []
    for kind, (_, parent) in KINDS.items():
        shown, positive, shown_long, positive_long = sums[kind].T
        above = (np.full(len(shown), UNKNOWN),) * 2 if parent is None else rates[parent]
        weight = 1.0 if parent is None else prior
        rates[kind] = (
            (positive + weight * above[0]) / (shown + weight),
            (positive_long + weight * above[1]) / (shown_long + weight),
        )
        if parent is not None:
            columns += [*rates[kind], np.log1p(shown), np.log1p(shown_long)]
    return np.stack(columns, axis=1).astype(np.float32)


def _keys(parts: tuple[str, ...], of: Shown, videos: VideoFacts) -> tuple[Int64s, Int64s]:
    """Row and key of everything a kind has a key for; rows of several tags come several times."""
    row = np.arange(len(of))
    tag = row
    if "tag" in parts:
        starts = videos.tag_starts[of.video_idx]
        segment, offset = positions(videos.tag_starts[of.video_idx + 1] - starts)
        row = segment
        tag = videos.tag[starts[segment] + offset]
    values = {
        "user": of.user_idx,
        "video": of.video_idx,
        "surface": of.surface,
        "author": videos.author[of.video_idx],
        "duration": videos.duration[of.video_idx],
    }
    columns = [tag if part == "tag" else values[part][row] for part in parts]
    columns = [np.zeros_like(row)] * (2 - len(columns)) + columns
    known = (columns[0] >= 0) & (columns[1] >= 0)
    return row[known], pack(columns[0][known], columns[1][known])
