"""Who goes on: decided by paired differences, whatever tells them."""

import datetime as dt
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest

from microrec.evaluation import contest, gate
from microrec.evaluation.report import BEST_SOURCE, BLEND, CHAMPION, CLOSED_FORM, LEARNED, Figure
from microrec.evaluation.truth import Truth

TRUTH = Truth(
    users=np.array([2, 5, 7]),
    row=np.array([0, 1, 2]),
    video=np.array([0, 1, 2]),
    history=np.array([0, 1, 9]),
    viewers=np.zeros(3, np.int64),
    eligible=np.ones(3, np.bool_),
)

YARDSTICK = contest.Yardstick(source_value=0.5, window_days=10**6)


def lists(video: int) -> pa.Table:
    return pa.table({"user_idx": [2, 5], "rank": [1, 1], "video_idx": [video, video]})


@pytest.mark.parametrize(("high", "stands"), [(-0.001, CLOSED_FORM), (0.001, LEARNED)])
def test_contest_learned_blend_stands_unless_significantly_worse(high: float, stands: str) -> None:
    asked = []

    def gain(pair: Mapping[str, pa.Table], truth: Truth) -> list[Figure]:
        asked.append((list(pair), truth.users.tolist()))
        if BEST_SOURCE in pair:
            return [Figure("blend-minus-best_source", "ndcg@20", "all", 0.1, 3, 0.0, 0.2)]
        return [Figure("-minus-".join(pair), "ndcg@20", "all", high - 1, 3, high - 2, high)]

    ours = {CLOSED_FORM: lists(0), LEARNED: lists(1), BEST_SOURCE: lists(3)}
    before = lists(2)
    config = gate.Config(worse_than_champion=0.0)
    found = contest.held(ours, before, TRUTH, gain=gain, yardstick=YARDSTICK, config=config)
    assert found.lists[BLEND] is ours[stands]
    assert found.lists[CHAMPION] is before
    assert asked == [
        ([LEARNED, CLOSED_FORM], [2, 5, 7]),
        ([BLEND, BEST_SOURCE], [2, 5, 7]),
        ([BLEND, CHAMPION], [2, 5]),
    ]
    status = "pass" if high > 0 else "fail"
    assert [(one.gate, one.severity, one.status) for one in found.judged] == [
        ("learned_not_worse", "warn", status),
        ("best_source", "warn", "pass"),
        ("champion", "hold", status),
    ]
    assert found.churn == 1.0


def test_contest_without_learned_blend_keeps_the_closed_form() -> None:
    ours = {CLOSED_FORM: lists(0), BEST_SOURCE: lists(1)}
    found = contest.held(
        ours, None, TRUTH, gain=against_source(0.1, 0.2), yardstick=YARDSTICK, config=gate.Config()
    )
    assert found.lists == {**ours, BLEND: ours[CLOSED_FORM]}
    assert ([one.gate for one in found.judged], found.churn) == (["best_source"], None)


def test_contest_learned_blend_below_the_best_source_is_not_trusted() -> None:
    def gain(pair: Mapping[str, pa.Table], _: Truth) -> list[Figure]:
        ends = (-0.3, -0.1) if BEST_SOURCE in pair else (0.1, 0.3)
        return [Figure("-minus-".join(pair), "ndcg@20", "all", sum(ends) / 2, 3, *ends)]

    ours = {CLOSED_FORM: lists(0), LEARNED: lists(1), BEST_SOURCE: lists(2)}
    found = contest.held(ours, None, TRUTH, gain=gain, yardstick=YARDSTICK, config=gate.Config())
    assert found.lists[BLEND] is ours[BEST_SOURCE]
    assert [result.status for result in found.judged] == ["pass", "fail"]
    assert not gate.trusts_learned(gate.table(found.judged))


def against_source(mean: float, high: float) -> contest.Gain:
    figure = Figure("blend-minus-best_source", "ndcg@20", "all", mean, 3, mean - 0.1, high)
    return lambda *_: [figure]


@pytest.mark.parametrize(
    ("mean", "high", "stands"),
    [
        (-0.02, 0.08, CLOSED_FORM),  # within 5 % of .5
        (-0.03, 0.07, BEST_SOURCE),  # the mean is further below
        (-0.01, -0.001, BEST_SOURCE),  # shown to be worse
    ],
)
def test_contest_blend_below_its_best_source_gives_way(
    mean: float, high: float, stands: str
) -> None:
    ours = {CLOSED_FORM: lists(0), BEST_SOURCE: lists(1)}
    found = contest.held(
        ours,
        None,
        TRUTH,
        gain=against_source(mean, high),
        yardstick=YARDSTICK,
        config=gate.Config(),
    )
    assert found.lists[BLEND] is ours[stands]
    judged = gate.table(found.judged)
    assert gate.falls_back(judged) == (stands == BEST_SOURCE)
    assert not gate.trusts_learned(judged)
    assert gate.require(judged, day=dt.date(2026, 1, 1), fit="trial") == [], "it holds no night"
