"""The blend's gain over popularity, of several nights together.

One night of a small service proves little: of 300 users the interval of an honest gain often reaches below 0. So the
gains of earlier nights count too. The same users come back, which makes nights alike, hence users are gathered in
clusters by a hash of their ids and clusters are resampled whole with all their nights (Cameron, Gelbach and Miller
2008). A night keeps the mean gain and the number of users of each cluster, and nobody's own gain.

What nights together show says nothing about tonight, whose models are new: tonight must not be shown to be worse than
popularity, and must not fall out of the range of the nights that were released.
"""

import zlib
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy.special import stdtrit

from microrec.core.array_types import Float64s, Int64s
from microrec.evaluation.gate import Config, Result
from microrec.evaluation.report import DIFFERENCE, Figure

CLUSTERS = 64
PART = "cluster="
"""Start of the slice of a cluster's figure."""
LEAST_NIGHTS = 4
"""Nights without which no range is known."""
FALSE_ALARMS = 0.005
"""Share of good nights below the range: one in 200, fewer with the margin."""


class Evidence(NamedTuple):
    """Gains of the users of one night, by cluster. [CLUSTERS] each."""

    total: Float64s
    users: Int64s

    @property
    def mean(self) -> float:
        """Mean gain of a user."""
        return float(self.total.sum() / self.users.sum())


class Earlier(NamedTuple):
    """What an earlier night has shown."""

    evidence: Evidence
    released: bool
    """Whether its lists were released: what was held sets no standard."""


def figures(gains: Float64s, user_ids: pa.ChunkedArray, *, metric: str) -> list[Figure]:
    """Return what a night keeps of its users' gains.

    Args:
        gains: the blend's metric minus popularity's. [n_evaluated]
        user_ids: of the same users. [n_evaluated]
        metric: such as ndcg@20.

    Returns:
        One figure per cluster that has users: their mean gain, and how many they are.
    """
    cluster = np.array(
        [zlib.crc32(user_id.encode()) % CLUSTERS for user_id in user_ids.to_pylist()], np.int64
    )
    users = np.bincount(cluster, minlength=CLUSTERS)
    total = np.bincount(cluster, weights=gains, minlength=CLUSTERS)
    return [
        Figure(DIFFERENCE, metric, f"{PART}{each:02d}", float(total[each] / users[each]), n)
        for each, n in enumerate(users.tolist())
        if n
    ]


def evidence(rows: Iterable[Figure]) -> Evidence | None:
    """Return what the figures of one night's clusters say; None where there are none.

    Args:
        rows: figures of `figures`, of one metric.
    """
    total, users = np.zeros(CLUSTERS), np.zeros(CLUSTERS, np.int64)
    for row in rows:
        each = int(row.slice.removeprefix(PART))
        total[each], users[each] = row.value * row.n, row.n
    return Evidence(total, users) if users.any() else None


def better_than_popularity(
    tonight: Figure | None,
    nights: Sequence[Evidence],
    *,
    config: Config,
    resamples: int,
    generator: np.random.Generator,
) -> Result:
    """Judge whether the blend's gain over popularity is shown to lie above the threshold, tonight and earlier.

    Args:
        tonight: the paired difference of tonight with its interval; None where it was not measured.
        nights: tonight's evidence and that of earlier nights; with none of those tonight's own interval counts.
        config: threshold and metric.
        resamples: of clusters.
        generator: source of the draws.

    Returns:
        A result that holds; it fails too where tonight's whole interval lies below the threshold, and where nothing
        was measured.
    """
    name, least = "better_than_popularity", config.better_than_popularity
    words = f"{DIFFERENCE} of {config.metric}"
    if tonight is None or tonight.low is None or tonight.high is None:
        detail = f"{words}: not measured, so nothing shows that the blend is better"
        return Result(name, "hold", "fail", None, least, detail)
    low = tonight.low
    detail = f"{words}: {_words(tonight)} over {tonight.n} users"
    if len(nights) > 1:
        together = pool(nights, resamples=resamples, generator=generator)
        low = together.low if together.low is not None else low
        detail += f", {_words(together)} of {len(nights)} nights together"
    detail += f"; lower end above {least:g} asked"
    status = "pass" if low > least and tonight.high > least else "fail"
    return Result(name, "hold", status, low, least, detail)


def pool(nights: Sequence[Evidence], *, resamples: int, generator: np.random.Generator) -> Figure:
    """Return the mean gain of a user on a night, with its 95 % interval over clusters.

    Args:
        nights: one or more.
        resamples: of clusters, each with all its nights.
        generator: source of the draws.
    """
    total = np.sum([night.total for night in nights], axis=0)
    users = np.sum([night.users for night in nights], axis=0)
    some = np.flatnonzero(users)
    times = generator.multinomial(len(some), np.full(len(some), 1 / len(some)), size=resamples)
    means = (times @ total[some]) / (times @ users[some])
    low, high = np.percentile(means, [2.5, 97.5])
    n = int(users.sum())
    return Figure(DIFFERENCE, "", "all", float(total.sum() / n), n, float(low), float(high))


def gain_kept(
    tonight: Figure | None, earlier: Sequence[Earlier], source_value: float, *, config: Config
) -> list[Result]:
    """Judge whether tonight's gain over popularity is not shown to have fallen below that of the nights before.

    The range of one more night is that of a normal distribution whose mean and deviation are estimated from the nights
    that were released: it has the nights' own ups and downs, and the chance of few users. Nights that stay below it are
    held until fewer than `LEAST_NIGHTS` released ones are left among the last: then the world has changed.

    Args:
        tonight: the paired difference of tonight; None where it was not measured.
        earlier: nights before.
        source_value: the best source's `metric`.
        config: how much of it the gain may lose beside that.

    Returns:
        One result that holds; none of fewer than `LEAST_NIGHTS` released nights.
    """
    gains = [night.evidence.mean for night in earlier if night.released]
    if tonight is None or len(gains) < LEAST_NIGHTS:
        return []
    mean, n = fmean(gains), len(gains)
    spread = float(stdtrit(n - 1, 1 - FALSE_ALARMS)) * stdev(gains) * (1 + 1 / n) ** 0.5
    least = mean - spread - config.gain_lost * source_value
    detail = (
        f"{DIFFERENCE} of {config.metric}: {tonight.value:.5f}, {mean:.5f} on {n} released nights before, at least"
        f" {least:.5f} asked"
    )
    status = "pass" if tonight.value >= least else "fail"
    return [Result("gain_kept", "hold", status, tonight.value, least, detail)]


def _words(figure: Figure) -> str:
    return f"{figure.value:.5f} [{figure.low:.5f}, {figure.high:.5f}]"
