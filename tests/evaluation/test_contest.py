"""Who goes on: decided by paired differences, whatever tells them."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest

from microrec.evaluation import contest, gate
from microrec.evaluation.report import BLEND, CHAMPION, CLOSED_FORM, LEARNED, Figure
from microrec.evaluation.truth import Truth

TRUTH = Truth(
    users=np.array([2, 5, 7]),
    row=np.array([0, 1, 2]),
    video=np.array([0, 1, 2]),
    history=np.array([0, 1, 9]),
    viewers=np.zeros(3, np.int64),
    eligible=np.ones(3, np.bool_),
)


def lists(video: int) -> pa.Table:
    return pa.table({"user_idx": [2, 5], "rank": [1, 1], "video_idx": [video, video]})


@pytest.mark.parametrize(("high", "stands"), [(-0.001, CLOSED_FORM), (0.001, LEARNED)])
def test_contest_learned_blend_stands_unless_significantly_worse(high: float, stands: str) -> None:
    asked = []

    def gain(pair: Mapping[str, pa.Table], truth: Truth) -> list[Figure]:
        asked.append((list(pair), truth.users.tolist()))
        return [Figure("-minus-".join(pair), "ndcg@20", "all", high - 1, 3, high - 2, high)]

    ours = {CLOSED_FORM: lists(0), LEARNED: lists(1)}
    before = lists(2)
    config = gate.Config(worse_than_champion=0.0)
    found = contest.held(ours, before, TRUTH, gain=gain, config=config)
    assert found.lists[BLEND] is ours[stands]
    assert found.lists[CHAMPION] is before
    assert asked == [([LEARNED, CLOSED_FORM], [2, 5, 7]), ([BLEND, CHAMPION], [2, 5])]
    status = "pass" if high > 0 else "fail"
    assert [(one.gate, one.severity, one.status) for one in found.judged] == [
        ("learned_not_worse", "warn", status),
        ("champion", "hold", status),
    ]
    assert found.churn == 1.0


def test_contest_without_learned_blend_keeps_the_closed_form() -> None:
    ours = {CLOSED_FORM: lists(0)}
    found = contest.held(ours, None, TRUTH, gain=lambda *_: [], config=gate.Config())
    assert found.lists == {CLOSED_FORM: ours[CLOSED_FORM], BLEND: ours[CLOSED_FORM]}
    assert (found.judged, found.churn) == ([], None)
