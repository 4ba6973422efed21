"""Nights of a small service add up, users stay in their cluster, and what was held sets no standard."""

import numpy as np
import pyarrow as pa
import pytest

from microrec.evaluation import gate, pooled
from microrec.evaluation.bootstrap import interval
from microrec.evaluation.pooled import Earlier, Evidence
from microrec.evaluation.report import DIFFERENCE, Figure

METRIC = "ndcg@20"
CONFIG = gate.Config()


def users(n: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([f"u{each}" for each in range(n)])])


def shown(gains: list[float] | np.ndarray) -> Evidence:
    figures = pooled.figures(np.asarray(gains, float), users(len(gains)), metric=METRIC)
    evidence = pooled.evidence(figures)
    assert evidence is not None
    return evidence


def tonight(value: float, low: float | None, high: float | None) -> Figure:
    return Figure(DIFFERENCE, METRIC, "all", value, 90, low, high)


def width(figure: Figure) -> float:
    assert figure.low is not None
    assert figure.high is not None
    return figure.high - figure.low


def judged(night: Figure | None, nights: list[Evidence]) -> gate.Result:
    draws = np.random.default_rng(1)
    return pooled.better_than_popularity(
        night, nights, config=CONFIG, resamples=500, generator=draws
    )


def test_figures_of_clusters_sum_to_the_gains_of_the_users() -> None:
    gains = np.random.default_rng(1).normal(size=500)
    figures = pooled.figures(gains, users(500), metric=METRIC)
    assert sum(f.n for f in figures) == 500
    assert sum(f.n * f.value for f in figures) == pytest.approx(gains.sum())
    assert len({f.slice for f in figures}) == pooled.CLUSTERS
    assert shown(gains).mean == pytest.approx(gains.mean())
    assert pooled.evidence([]) is None


def test_figures_put_a_user_into_the_same_cluster_every_night() -> None:
    (alone,) = pooled.figures(np.ones(1), pa.chunked_array([["u7"]]), metric=METRIC)
    (other,) = pooled.figures(np.zeros(1), pa.chunked_array([["u7"]]), metric=METRIC)
    assert alone.slice == other.slice == "cluster=03"


def test_pool_interval_is_about_that_of_users_and_of_two_nights_narrower() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(0.1, 1, 4000), rng.normal(0.1, 1, 4000)
    (low,), (high,) = interval(first[:, None], resamples=1000, generator=rng)
    one = pooled.pool([shown(first)], resamples=1000, generator=rng)
    two = pooled.pool([shown(first), shown(second)], resamples=1000, generator=rng)
    assert one.value == pytest.approx(first.mean())
    assert width(one) == pytest.approx(high - low, rel=0.3)
    assert two.value == pytest.approx((first.mean() + second.mean()) / 2)
    assert two.n == 8000
    assert width(two) / width(one) == pytest.approx(0.5**0.5, rel=0.3)


def test_pool_of_users_who_differ_from_each_other_every_night_alike_is_no_narrower() -> None:
    """The same users again are hardly news: nights of them are not independent."""
    rng = np.random.default_rng(4)
    tastes = rng.normal(0, 1, 2000)
    one = pooled.pool([shown(tastes)], resamples=1000, generator=rng)
    many = pooled.pool([shown(tastes)] * 9, resamples=1000, generator=rng)
    assert width(many) == pytest.approx(width(one), rel=0.1)


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [(0.001, 0.2, "pass"), (0.0, 0.2, "fail"), (-0.001, 0.2, "fail"), (None, None, "fail")],
)
def test_better_than_popularity_of_the_first_night_needs_its_whole_interval(
    low: float | None, high: float | None, status: str
) -> None:
    result = judged(tonight(0.1, low, high), [shown([1.0, 2.0])])
    assert (result.status, result.severity, result.observed) == (status, "hold", low)


def test_better_than_popularity_that_was_not_measured_fails() -> None:
    result = judged(None, [])
    assert (result.status, result.observed) == ("fail", None)


def test_better_than_popularity_of_few_users_is_shown_by_several_nights() -> None:
    rng = np.random.default_rng(5)
    weak = tonight(0.1, -0.05, 0.25)
    good = [shown(rng.normal(0.1, 1, 300)) for _ in range(13)]
    assert judged(weak, good[:1]).status == "fail"
    result = judged(weak, good)
    assert result.status == "pass"
    assert "of 13 nights together; lower end above 0 asked" in result.detail
    useless = [shown(rng.normal(-0.02, 1, 300)) for _ in range(13)]
    assert judged(weak, useless).status == "fail"


def test_better_than_popularity_is_not_excused_by_earlier_nights() -> None:
    good = [shown(np.full(100, 0.1))] * 5
    assert judged(tonight(-0.2, -0.3, -0.1), good).status == "fail"


def nights(*means: float, released: bool = True) -> list[Earlier]:
    return [Earlier(shown(np.full(99, mean)), released) for mean in means]


def kept(value: float, earlier: list[Earlier]) -> list[gate.Result]:
    return pooled.gain_kept(tonight(value, None, None), earlier, 0.5, config=CONFIG)


def test_gain_kept_allows_for_the_ups_and_downs_of_the_nights_and_a_margin() -> None:
    """t(3; .995) = 5.8409, deviation .0115, so .0754 below the mean of .11, and .05 * .5 below that."""
    earlier = nights(0.10, 0.10, 0.12, 0.12)
    spread = 5.84091 * np.std([0.10, 0.10, 0.12, 0.12], ddof=1) * 1.25**0.5
    least = 0.11 - spread - 0.025
    (above,), (below,) = kept(least + 1e-4, earlier), kept(least - 1e-4, earlier)
    assert (above.status, below.status) == ("pass", "fail")
    assert below.threshold == pytest.approx(least, abs=1e-5)
    assert {below.gate, below.severity} == {"gain_kept", "hold"}
    assert "gain_kept" in gate.JUDGEMENTS
    assert below.detail.endswith(f"4 released nights before, at least {least:.5f} asked")


def test_gain_kept_asks_nothing_of_few_or_held_nights() -> None:
    assert kept(-9.0, nights(0.1, 0.1, 0.1)) == []
    assert kept(-9.0, nights(0.1, 0.1, 0.1) + nights(0.1, released=False)) == []
    held = nights(-5.0, -5.0, -5.0, released=False)
    (result,) = kept(-1.0, nights(0.1, 0.1, 0.1, 0.1) + held)
    assert result.status == "fail", "what was held sets no standard"
    assert pooled.gain_kept(None, nights(0.1, 0.1, 0.1, 0.1), 0.5, config=CONFIG) == []
