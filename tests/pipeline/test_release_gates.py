"""The gates of a release see personal lists and lists without profiling apart."""

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from microrec.pipeline import release_gates
from microrec.pipeline.night import Night
from tests.worlds import small_tables

DAY = dt.date(2026, 1, 5)
RECIPE = "[night]\nk = 2\nauthors_are_users = true\n"
LISTS = [
    ("a", 1, "w", "ease"), ("a", 2, "y", "ease"),
    ("shy", 1, "w", "no_profiling"), ("shy", 2, "x", "no_profiling"),
    ("stranger", 1, "x", "no_profiling"), ("stranger", 2, "y", "no_profiling"),
]  # fmt: skip
"""`shy` has watched w, which may come again; `stranger` has uploaded w."""


def small(night: Night, table: str, /, **columns: list[Any]) -> None:
    partition = {"split": "train"} if table == "watch_edges" else {}
    rows = small_tables.complete(table, pa.table(columns), without={"day", *partition})
    night.write(table, rows, **partition)


@pytest.fixture
def night(place: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    (place / "recipe.toml").write_text(RECIPE)
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    night = Night.open(DAY)
    small(night, "users", user_idx=[0, 1], user_id=["a", "shy"])
    authors = {"author_id": ["stranger", None, "shy"], "eligible": [True] * 3}
    small(night, "video_nodes", video_idx=[0, 1, 2], video_id=["w", "x", "y"], **authors)
    small(night, "watch_edges", user_idx=[0, 1], video_idx=[1, 0])
    small(night, "suppressed_users", user_id=["gone"], kind=["opt_out"])
    for empty in ("similar_videos", "segment_recommendations"):
        night.write_empty(empty)
    wishes = [("shy", "no_profiling"), ("stranger", "no_profiling"), ("gone", "no_profiling")]
    user_id, kind = (list(values) for values in zip(*wishes, strict=True))
    small(night, "preferences", user_id=user_id, kind=kind, value=[""] * 3)
    return night


def failed(night: Night, *lists: tuple[str, int, str, str]) -> dict[str, float]:
    """Numbers of the failed gates that hold, by name; lists beside videos have tests of their own."""
    columns = zip(*lists, strict=True)
    names = ("user_id", "rank", "video_id", "source")
    rows = pa.table({name: list(values) for name, values in zip(names, columns, strict=True)})
    rows = rows.append_column("score", pa.array([-float(row[1]) for row in lists]))
    segment = rows.slice(0, 2).append_column("segment", pa.array(["__global__"] * 2))
    judged = release_gates.judge(night, rows, segment)
    figures = {figure.metric: figure.value for figure in judged.figures}
    assert figures["unprofiled"] == 2.0
    return {
        result.gate: result.observed or 0.0
        for result in judged.results
        if (result.status, result.severity) == ("fail", "hold")
        and not result.gate.startswith("similar_")
    }


def test_judge_passes_lists_of_both_kinds(night: Night) -> None:
    assert failed(night, *LISTS) == {}


def test_judge_holds_a_video_that_was_seen_before_the_window(night: Night) -> None:
    """`shy` wants no profiling: what they saw is not used for their list either."""
    days = [dt.date(2025, 12, 1)] * 2
    small(night, "remembered_videos", user_id=["a", "shy"], video_id=["y", "w"], last_on=days)
    assert failed(night, *LISTS) == {"seen": 1, "k_filled": 0}


def test_judge_holds_a_personal_list_of_who_wants_none(night: Night) -> None:
    personal = [(user, rank, video, "ease") for user, rank, video, _ in LISTS[2:4]]
    assert failed(night, *LISTS[:2], *personal, *LISTS[4:]) == {
        "seen": 1, "suppressed": 2, "unprofiled_users_covered": 0.5, "unprofiled_k_filled": 0.5,
    }  # fmt: skip


def test_judge_holds_a_list_without_profiling_of_who_has_not_asked(night: Night) -> None:
    others = [(user, rank, video, "no_profiling") for user, rank, video, _ in LISTS[:2]]
    assert failed(night, *others, *LISTS[2:]) == {
        "rows": 0, "users_covered": 0, "k_filled": 0, "unprofiled_suppressed": 2,
    }  # fmt: skip
    gone = ("gone", 1, "w", "no_profiling")
    assert failed(night, *LISTS, gone) == {"unprofiled_suppressed": 1}


def test_judge_holds_blocked_and_own_videos_of_a_list_without_profiling(night: Night) -> None:
    own = ("shy", 2, "y", "no_profiling")
    assert failed(night, *LISTS[:3], own, *LISTS[4:]) == {"unprofiled_seen": 1}
    kinds = ["no_profiling", "no_profiling", "block_video"]
    user_id = ["shy", "stranger", "stranger"]
    small(night, "preferences", user_id=user_id, kind=kinds, value=["", "", "x"])
    assert failed(night, *LISTS) == {"unprofiled_seen": 1, "unprofiled_k_filled": 0.5}
