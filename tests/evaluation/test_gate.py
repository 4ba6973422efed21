"""Each sabotage of a table of lists is held by the gate that is about it, and by a clean one nothing."""

import datetime as dt
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from microrec.errors import GateHeld
from microrec.evaluation import gate
from microrec.evaluation.report import Figure
from microrec.evaluation.subjects import by_id, by_idx, fallback

DAY = dt.date(2026, 1, 10)
Row = dict[str, object]

NIGHT = {
    "users": pa.table({"user_idx": [0, 1, 2], "user_id": ["a", "b", "gone"]}),
    "video_nodes": pa.table(
        {
            "video_idx": [0, 1, 2, 3],
            "video_id": ["w", "x", "y", "z"],
            "eligible": [True, True, True, False],
        }
    ),
    "watch_edges": pa.table(
        {"user_idx": [0, 0, 0, 1], "video_idx": [0, 0, 3, 1], "split": ["train", "holdout"] * 2}
    ),
    "suppressed_users": pa.table({"user_id": ["gone", "never seen"]}),
    "unprofiled": pa.table({"user_id": pa.array([], pa.string())}),
    "blocked": pa.table({"user_id": ["a"], "video_id": ["w"]}),
}
CLEAN = [
    {"user_id": "a", "rank": 1, "video_id": "x", "score": 0.5, "source": "ease"},
    {"user_id": "a", "rank": 2, "video_id": "y", "score": -1.0, "source": "ease"},
    {"user_id": "b", "rank": 1, "video_id": "y", "score": 0.7, "source": "ease"},
    {"user_id": "b", "rank": 2, "video_id": "w", "score": 0.7, "source": "ease"},
]
SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("rank", pa.int32()),
        ("video_id", pa.string()),
        ("score", pa.float32()),
        ("source", pa.string()),
    ]
)


def judged(rows: list[Row], k: int = 2) -> list[gate.Result]:
    lists = pa.Table.from_pylist(rows, SCHEMA)
    return gate.check(by_id(lists, night=NIGHT, k=k), config=gate.Config())


def failed(rows: list[Row], k: int = 2) -> set[str]:
    """Failed gates that hold; `identical_top10` only warns and has a test of its own."""
    return {one.gate for one in judged(rows, k) if one.status == "fail" and one.severity == "hold"}


def test_gate_blocked_video_counts_as_seen() -> None:
    blocked = pa.table({"user_id": ["b", "a", "stranger"], "video_id": ["w", "w", "y"]})
    subject = by_id(pa.Table.from_pylist(CLEAN, SCHEMA), night={**NIGHT, "blocked": blocked}, k=2)
    by_name = {one.gate: one for one in gate.check(subject, config=gate.Config())}
    assert (by_name["seen"].status, by_name["seen"].observed) == ("fail", 1), "b has blocked w"


def test_gate_own_upload_counts_as_seen_where_authors_are_users() -> None:
    nodes = NIGHT["video_nodes"].append_column("author_id", pa.array(["b", "a", None, "z"]))
    lists = pa.Table.from_pylist(CLEAN, SCHEMA)
    status = {}
    for own in (False, True):
        subject = by_id(lists, night={**NIGHT, "video_nodes": nodes}, k=2, authors_are_users=own)
        judged_ = gate.check(subject, config=gate.Config())
        status[own] = {one.gate: (one.status, one.observed) for one in judged_}
    assert status[False]["seen"] == ("pass", 0)
    assert status[True]["seen"] == ("fail", 2), "a has uploaded x, b has uploaded w"


def test_gate_clean_lists_pass() -> None:
    assert failed(CLEAN) == set()
    assert failed(CLEAN, k=50) == set(), "fewer than K videos are left for each user"


def put(at: int, **values: object) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [row | values if i == at else row for i, row in enumerate(rows)]


SABOTAGE = {
    "empty table": (lambda rows: [], {"rows", "users_covered", "k_filled"}),
    "missing user": (lambda rows: rows[:2], {"users_covered", "k_filled"}),
    "short list": (lambda rows: rows[:3], {"k_filled"}),
    "seen video": (put(0, video_id="w"), {"seen"}),
    "ineligible video": (put(2, video_id="z"), {"ineligible"}),
    "unknown video": (put(2, video_id="?"), {"ineligible"}),
    "null video": (put(2, video_id=None), {"ineligible"}),
    "suppressed user": (
        lambda rows: [*rows, {"user_id": "gone", "rank": 1, "video_id": "x", "score": 1.0}],
        {"suppressed"},
    ),
    "duplicate video": (put(1, video_id="x"), {"distinct"}),
    "duplicate rank": (put(1, rank=1, score=0.5), {"ranks_contiguous"}),
    "gap in ranks": (put(1, rank=3), {"ranks_contiguous"}),
    "ranks from 0": (put(0, rank=0), {"ranks_contiguous"}),
    "NaN score": (put(1, score=float("nan")), {"finite_scores", "scores_ordered"}),
    "infinite score": (put(0, score=float("inf")), {"finite_scores"}),
    "null score": (put(1, score=None), {"finite_scores"}),
    "shuffled scores": (
        lambda rows: [row | {"score": -float(str(row["score"]))} for row in rows],
        {"scores_ordered"},
    ),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_gate_each_sabotage_is_held(name: str) -> None:
    break_it, expected = SABOTAGE[name]
    rows = break_it(CLEAN)
    assert failed(rows) == expected
    with pytest.raises(GateHeld, match=min(expected)):
        gate.require(gate.table(judged(rows)), day=DAY, fit="final")


def test_require_message_names_every_failed_gate() -> None:
    with pytest.raises(GateHeld) as held:
        gate.require(gate.table(judged([])), day=DAY, fit="final")
    for name in ("2026-01-10", "fit=final", "3 failed", "rows", "users_covered", "k_filled"):
        assert name in str(held.value)


def test_require_reason_overrules_judgements_only() -> None:
    """Every gate that is no judgement still holds, alone or beside one; without a reason all do."""

    def held(*names: str) -> pa.Table:
        return gate.table([gate.Result(name, "hold", "fail", 0.0, 1.0, "") for name in names])

    told = {"day": DAY, "fit": "trial"}
    judgements = sorted(gate.JUDGEMENTS)
    assert gate.require(held(*judgements), promoted="a holiday", **told) == judgements
    assert gate.require(held(), promoted="a holiday", **told) == []
    for name in judgements:
        with pytest.raises(GateHeld, match=name):
            gate.require(held(name), **told)
    laws = {law.name for law in gate.LAWS}
    fallback_laws = {f"fallback_{law}" for law in laws}
    for name in (laws - set(judgements)) | fallback_laws | {"oracle", "recall_ease"}:
        with pytest.raises(GateHeld, match=rf"1 failed: {name}"):
            gate.require(held(name, *judgements), promoted="a holiday", **told)


def test_thresholds_can_be_relaxed_but_laws_cannot() -> None:
    relaxed = gate.Config(users_covered=0.5, k_filled=0.5)
    lists = pa.Table.from_pylist(CLEAN[:2], SCHEMA)
    found = gate.check(by_id(lists, night=NIGHT, k=2), config=relaxed)
    assert {one.status for one in found if one.severity == "hold"} == {"pass"}
    with pytest.raises(ValueError, match="seen"):
        gate.Config(seen=3)


WATCHED_ALL = {
    **NIGHT,
    "watch_edges": pa.concat_tables(
        [
            NIGHT["watch_edges"],
            pa.table({"user_idx": [1, 1], "video_idx": [0, 2], "split": ["train"] * 2}),
        ]
    ),
}
"""User b has watched w, x and y, every eligible video."""


def test_users_covered_a_user_with_nothing_left_needs_no_list() -> None:
    lists = pa.Table.from_pylist(CLEAN[:2], SCHEMA)
    subject = by_id(lists, night=WATCHED_ALL, k=2)
    status = {result.gate: result.status for result in gate.check(subject, config=gate.Config())}
    assert {gate for gate, word in status.items() if word == "fail"} == {"identical_top10"}
    assert gate.nothing_left(subject) == 1
    assert gate.nothing_left(by_id(lists, night=NIGHT, k=2)) == 0


def test_users_covered_a_missing_user_beside_one_with_nothing_left_is_held() -> None:
    """User a, for whom two videos are left, has no list: 0 of 1, not 0 of 2."""
    subject = by_id(pa.Table.from_pylist([], SCHEMA), night=WATCHED_ALL, k=2)
    results = {result.gate: result for result in gate.check(subject, config=gate.Config())}
    assert (results["users_covered"].status, results["users_covered"].observed) == ("fail", 0.0)
    assert (results["k_filled"].status, results["k_filled"].observed) == ("fail", 0.5)


def test_require_held_by_judgements_alone_says_how_to_overrule() -> None:
    def held(*names: str) -> pa.Table:
        return gate.table([gate.Result(name, "hold", "fail", 0.0, 1.0, "") for name in names])

    with pytest.raises(GateHeld, match="MICROREC_PROMOTE"):
        gate.require(held("users_covered"), day=DAY, fit="final")
    with pytest.raises(GateHeld) as error:
        gate.require(held("users_covered", "seen"), day=DAY, fit="final")
    assert "MICROREC_PROMOTE" not in str(error.value)


def test_verdict_of_missing_rows_is_hold_and_of_wrong_rows_reject() -> None:
    for name, word in {"users_covered": "HOLD", "k_filled": "HOLD", "seen": "REJECT"}.items():
        result = gate.verdict([gate.Result(name, "hold", "fail", 0.0, 1.0, "")])
        assert result.detail.startswith(word)


def test_gate_identical_lists_warn_without_holding() -> None:
    rows = [
        {"user_id": user, "rank": 1, "video_id": "y", "score": 1.0} for user in ("a", "b", "c", "d")
    ]
    found = {one.gate: one for one in judged(rows)}
    assert found["identical_top10"].status == "fail"
    assert found["identical_top10"].observed == 1.0
    assert found["identical_top10"].severity == "warn"
    gate.require(gate.table([found["identical_top10"]]), day=DAY, fit="final")


def test_subjects_by_idx_and_fallback_use_the_same_checks() -> None:
    lists = pa.table({"user_idx": [0, 4], "rank": [1, 1], "video_idx": [1, 0], "score": [1.0, 1.0]})
    barred = sparse.csr_matrix(([1], ([0], [0])), shape=(5, 2))
    known: Any = SimpleNamespace(barred=barred, eligible=np.array([True, True]))
    subject = by_idx(
        lists,
        users=np.array([0, 4]),
        known=known,
        k=1,
    )
    assert {one.status for one in gate.check(subject, config=gate.Config())} == {"pass"}
    rows = {
        "segment": ["__global__"] * 2,
        "rank": [1, 2],
        "video_id": ["w", "z"],
        "score": [-1.0, -2.0],
    }
    subject = fallback(pa.table(rows), videos=NIGHT["video_nodes"], k=2)
    found = gate.check(subject, config=gate.Config(), checks=gate.LAWS, prefix="fallback_")
    assert {one.gate for one in found if one.status == "fail"} == {"fallback_ineligible"}


LEARNED = gate.LEARNED_NOT_WORSE
OF_FEW = [
    Figure("learned-minus-closed_form", "ndcg@20", "history=0", 0, 9, *ends)
    for ends in ((-0.9, -0.8), (0.8, 0.9))
]
"""What is so for some users decides nothing."""


def gain(low: float | None, high: float | None) -> Figure:
    return Figure("learned-minus-closed_form", "ndcg@20", "all", -0.5, 9, low, high)


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [
        (0.1, 0.2, "pass"),
        (-0.2, 0.001, "pass"),
        (-0.2, 0.0, "pass"),
        (-0.2, -0.001, "fail"),
        (None, None, "fail"),
    ],
)
def test_learned_is_worse_where_the_interval_is_below_zero(
    low: float | None, high: float | None, status: str
) -> None:
    """A night goes on either way."""
    found = gate.learned_not_worse([gain(low, high), *OF_FEW])
    assert (found.gate, found.severity, found.status) == (LEARNED, "warn", status)
    assert (found.observed, found.threshold) == (high, 0)
    for words in ("learned-minus-closed_form of ndcg@20, all: -0.50000", "over 9 users"):
        assert words in found.detail
    assert ("no interval" in found.detail) == (high is None)
    gate.require(gate.table([found]), day=DAY, fit="trial")


def test_learned_is_trusted_only_where_judged_and_passed() -> None:
    passed, failed_ = (gate.learned_not_worse([gain(-0.2, high)]) for high in (0.1, -0.1))
    others = judged(CLEAN)
    assert {one.status for one in others if one.severity == "hold"} == {"pass"}
    assert gate.trusts_learned(gate.table([*others, passed]))
    assert not gate.trusts_learned(gate.table([*others, failed_]))
    assert not gate.trusts_learned(gate.table(others))
    assert not gate.trusts_learned(gate.table([]))


def test_gate_rows_have_the_types_of_the_contract() -> None:
    others = [
        gate.Result("not_measured", "hold", "fail", None, 0.0, ""),
        gate.learned_not_worse([gain(0, 1)]),
    ]
    table = gate.table([*judged(CLEAN), *others])
    kinds = [pa.string()] * 3 + [pa.float64()] * 2 + [pa.string()]
    assert table.schema.types == kinds
    assert len(set(table["gate"].to_pylist())) == table.num_rows


@pytest.mark.parametrize(
    ("high", "severity", "status"),
    [(-0.01, "warn", "fail"), (0.0, "hold", "pass"), (None, "warn", "fail")],
)
def test_cold_recall_fails_where_the_blend_is_shown_to_find_fewer(
    high: float | None, severity: str, status: str
) -> None:
    low = None if high is None else -0.05
    gain = Figure("blend-minus-content", "recall@20", "all", -0.03, 90, low, high)
    (found,) = gate.cold_recall([gain], config=gate.Config(cold_recall=severity))
    assert (found.gate, found.severity, found.status) == ("cold_recall", severity, status)
    assert "blend-minus-content of recall@20" in found.detail
    assert not gate.cold_recall([], config=gate.Config())


@pytest.mark.parametrize(("share", "status"), [(0.1, "pass"), (0.0999, "fail")])
def test_new_listed_judges_the_longest_lists_of_the_blend(share: float, status: str) -> None:
    values = {("blend", 20): 0.0, ("blend", 50): share, ("content", 100): 1.0}
    figures = [Figure(name, f"new_listed@{k}", "all", one, 9) for (name, k), one in values.items()]
    (found,) = gate.new_listed(figures, config=gate.Config(new_listed=0.1))
    assert (found.gate, found.severity, found.status) == ("new_listed", "warn", status)
    assert "first 50: " in found.detail
    assert not gate.new_listed(figures[2:], config=gate.Config())


def test_hubs_the_most_crowded_modality_is_judged() -> None:
    (found,) = gate.hubs({"visual": 4.0, "tags": 10.5, "audio": 1.0}, config=gate.Config())
    assert (found.gate, found.severity, found.status, found.observed) == (
        "hubs", "warn", "fail", 10.5,
    )  # fmt: skip
    assert found.detail == (
        "lists that one video stands in, in times of the mean, modality tags: 10.5, at most 10 asked"
    )
    (found,) = gate.hubs({"tags": 10.5}, config=gate.Config(hubs=11.0))
    assert found.status == "pass"
    assert gate.hubs({}, config=gate.Config()) == []
