"""Yesterday's release as a rival: its lists in tonight's numbers, and what of tonight's is new."""

import numpy as np
import pyarrow as pa
import pytest

from microrec.evaluation import champion, gate
from microrec.evaluation.report import BLEND, CHAMPION, OURS, Figure

USERS = pa.table({"user_idx": pa.array([0, 1, 2], pa.int32()), "user_id": ["a", "b", "new"]})
VIDEOS = pa.table({"video_idx": pa.array([0, 1, 2], pa.int32()), "video_id": ["x", "y", "z"]})


def lists(of: dict[int, list[int]]) -> pa.Table:
    rows = [(u, rank, v) for u, vs in of.items() for rank, v in enumerate(vs, start=1)]
    user, rank, video = map(np.array, zip(*rows, strict=True))
    return pa.table({"user_idx": user, "rank": rank, "video_idx": video})


def test_listed_ids_become_tonights_indices() -> None:
    released = pa.table(
        {
            "user_id": ["b", "b", "gone", "a", "a"],
            "rank": pa.array([2, 1, 1, 1, 2], pa.int32()),
            "video_id": ["x", "z", "x", "taken down", "y"],
        }
    )
    found = champion.listed(released, users=USERS, videos=VIDEOS).to_pydict()
    assert found == {"user_idx": [0, 1, 1], "rank": [2, 1, 2], "video_idx": [1, 2, 0]}


def test_churn_is_the_mean_share_of_new_videos_of_common_users() -> None:
    tonight = lists({0: [1, 2, 3, 9], 1: [4, 5], 7: [1]})
    before = lists({0: [3, 2, 8, 1], 1: [4, 5], 8: [1]})
    assert champion.churn(tonight, before, k=3) == pytest.approx((1 / 3 + 0) / 2)
    assert champion.churn(lists({0: [1]}), lists({1: [1]})) is None


def test_churn_repeated_is_bit_identical() -> None:
    """Enough users for several threads, of whose fractions no sum is exact."""
    rng, n = np.random.default_rng(0), 50_000
    user, rank = np.repeat(np.arange(n), 7), np.tile(np.arange(1, 8), n)
    some = [
        pa.table({"user_idx": user, "rank": rank, "video_idx": rng.integers(12, size=7 * n)})
        for _ in range(2)
    ]
    assert len({champion.churn(*some) for _ in range(8)}) == 1


def figure(value: float, low: float, high: float, part: str = "all") -> Figure:
    return Figure(f"{BLEND}-minus-{CHAMPION}", "ndcg@20", part, value, 100, low, high)


def test_champion_significantly_worse_night_is_held() -> None:
    config = gate.Config(worse_than_champion=0.0)
    told = [
        figure(-0.01, -0.02, -0.001),
        figure(-0.01, -0.02, -0.001, "history=0"),
        figure(-0.01, -0.02, 0.001, "history=1"),
    ]
    asked = {"source_value": 0.1, "window_days": 1000}
    whole, cold, light = gate.against_champion(told, **asked, config=config)
    assert [whole.gate, whole.severity, whole.status] == ["champion", "hold", "fail"]
    assert [cold.gate, cold.severity, cold.status] == ["champion_history=0", "warn", "fail"]
    assert light.status == "pass"
    assert gate.verdict([whole, cold, light]).detail.startswith(
        "HOLD: champion, champion_history=0"
    )
    lenient = gate.Config(worse_than_champion=0.002)
    assert gate.against_champion(told, **asked, config=lenient)[0].status == "pass"


@pytest.mark.parametrize(("window_days", "status"), [(5, "pass"), (14, "fail")])
def test_champion_may_be_ahead_by_the_day_that_only_it_has_seen(
    window_days: int, status: str
) -> None:
    """Of five days one is a fifth: a planted service lost .06 of .24 by it, with nothing wrong."""
    told = [figure(-0.062, -0.106, -0.023)]
    (found,) = gate.against_champion(told, 0.24, window_days=window_days, config=gate.Config())
    assert found.status == status


def test_champion_no_common_users_is_no_comparison() -> None:
    assert gate.against_champion([], 0.1, window_days=5, config=gate.Config()) == []


def measured(**values: tuple[float, float]) -> list[Figure]:
    """Tonight's and yesterday's value by metric."""
    return [
        Figure(name, f"{metric}@20", "all", value, 10)
        for metric, pair in values.items()
        for name, value in zip((BLEND, CHAMPION), pair, strict=True)
    ]


def test_guardrails_notice_what_accuracy_does_not() -> None:
    calm = measured(coverage=(0.3, 0.31), gini=(0.9, 0.9), popularity_lift=(2.0, 2.1))
    config = gate.Config()
    found = {one.gate: one for one in gate.guardrails(calm, churn=0.4, config=config)}
    assert set(found) == {"coverage_kept", "gini_rise", "popularity_lift", "churn"}
    assert {one.status for one in found.values()} == {"pass"}
    assert {one.severity for one in found.values()} == {"warn"}
    broken = measured(coverage=(0.01, 0.31), gini=(0.99, 0.8), popularity_lift=(9.0, 2.1))
    found = {one.gate: one for one in gate.guardrails(broken, churn=0.99, config=config)}
    assert {one.status for one in found.values()} == {"fail"}
    assert found["coverage_kept"].observed == pytest.approx(0.01 / 0.31)
    alone = [one for one in calm if one.name == BLEND]
    assert [one.gate for one in gate.guardrails(alone, churn=None, config=config)] == [
        "popularity_lift"
    ]


def test_verdict_is_one_value_with_reasons() -> None:
    good = gate.Result("rows", "hold", "pass", 1.0, 1.0, "")
    warned = gate.Result("churn", "warn", "fail", 1.0, 0.9, "")
    weak = gate.Result("better_than_popularity", "hold", "fail", -0.1, 0.0, "")
    broken = gate.Result("seen", "hold", "fail", 3.0, 0.0, "")
    assert gate.verdict([good]).detail == "PROMOTE: every gate passed"
    assert gate.verdict([good, warned]).detail == "PROMOTE: churn (warns)"
    assert gate.verdict([good, weak]).detail == "HOLD: better_than_popularity"
    assert gate.verdict([weak, broken]).detail.startswith("REJECT: better_than_popularity, seen")
    assert [gate.verdict([one]).status for one in (good, weak)] == ["pass", "fail"]


def scored(of: dict[int, list[float]]) -> pa.Table:
    rows = [(user, score) for user, scores in of.items() for score in scores]
    user, score = map(np.array, zip(*rows, strict=True)) if rows else (np.empty(0), np.empty(0))
    return pa.table({"user_idx": user.astype(np.int32), "score": score.astype(np.float32)})


def test_source_without_candidates_is_noticed() -> None:
    good = {"content": scored({0: [3, 2], 1: [1, 1]}), "ease": scored({2: [0.2, 0.1]})}
    assert [result.status for result in gate.alive(good, absent={})] == ["pass"]
    for dead in (scored({}), scored({0: [5, 5, 5], 1: [2, 2]})):
        (found,) = gate.alive({**good, "popularity": dead}, absent={})
        assert (found.status, found.severity) == ("fail", "hold")
        assert found.detail.endswith(": popularity")


def test_source_whose_input_nobody_delivers_is_told_and_holds_nothing() -> None:
    candidates = {"content": scored({}), "ease": scored({2: [0.2, 0.1]}), "dead": scored({})}
    dead, absent = gate.alive(candidates, absent={"content": "video_features"})
    assert dead.detail.endswith(": dead")
    assert (absent.gate, absent.severity, absent.observed) == ("absent_models", "warn", 1.0)
    assert "content (needs video_features)" in absent.detail


def ndcg(**values: float) -> list[Figure]:
    return [
        Figure(name, "ndcg@20", "all", value, 99, value * 0.8, value * 1.2)
        for name, value in values.items()
    ]


def test_source_that_leaps_from_one_night_to_the_next_is_taken_for_a_leak() -> None:
    before = {"popularity": 0.04, "ease": 0.2, "blend": 0.25}
    config = gate.Config()
    good = ndcg(popularity=0.04, ease=0.3, blend=0.3)
    far, risen = gate.plausible(good, before, config=config)
    assert (far.status, risen.status) == ("pass", "pass")
    leaked = ndcg(popularity=0.04, ease=0.9, blend=0.3)
    far, risen = gate.plausible(leaked, before, config=config)
    assert (risen.gate, risen.status, risen.severity) == ("risen_sources", "fail", "hold")
    assert risen.detail.endswith(": ease")
    assert "risen_sources" in gate.JUDGEMENTS


def test_service_whose_neighbours_are_far_above_popularity_every_night_is_not_held() -> None:
    """The first night warns of it, as do the others; none is held."""
    figures = ndcg(popularity=0.01, video_neighbours=0.3)
    for before in ({}, {"popularity": 0.01, "video_neighbours": 0.28}):
        far, risen = gate.plausible(figures, before, config=gate.Config())
        assert (far.gate, far.status, far.severity) == ("too_good", "fail", "warn")
        assert risen.status == "pass"
    far, _ = gate.plausible(ndcg(ease=0.9), {}, config=gate.Config())
    assert far.status == "pass", "nothing to compare with"


def test_metric_of_which_one_user_is_enough_for_is_taken_for_no_leak() -> None:
    """One of few users has a hit where popularity has next to none: the interval begins at 0."""
    lucky = Figure("ease", "ndcg@20", "all", 0.1, 10, 0.0, 0.3)
    figures = [*ndcg(popularity=0.001), lucky]
    found = gate.plausible(figures, {"ease": 0.001}, config=gate.Config())
    assert {one.status for one in found} == {"pass"}


def test_source_that_collapses_holds_the_night() -> None:
    config, before = gate.Config(), {"ease": 0.05, "popularity": 0.04}
    assert gate.steady(ndcg(ease=0.03, popularity=0.04), before, config=config).status == "pass"
    shuffled = gate.steady(ndcg(ease=0.002, popularity=0.04), before, config=config)
    assert (shuffled.status, shuffled.severity) == ("fail", "hold")
    assert shuffled.detail.endswith(": ease")
    assert gate.steady(ndcg(ease=0.002), {}, config=config).status == "pass"
    ours = ndcg(**dict.fromkeys(OURS, 0.001))
    assert gate.steady(ours, dict.fromkeys(OURS, 0.05), config=config).status == "pass"
