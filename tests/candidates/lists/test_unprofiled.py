"""The list without profiling is that of everybody, less what a person has blocked."""

import numpy as np
import pyarrow as pa
import pytest

from microrec.candidates.lists import ladder, unprofiled
from microrec.config.settings import settings
from microrec.tables import contract

RUNGS = {
    name: np.array(videos, dtype=np.int64)
    for name, videos in {
        "trend": [4, 2],
        "fresh": [5],
        "popular": [0, 2],
        "catalogue": [0, 1, 2, 4, 5],
    }.items()
}
BARRED = pa.table({"user_idx": [2, 0, 2, 0], "video_idx": [2, 0, 4, 4]})
"""Of the first and the third person."""
PEOPLE = unprofiled.people(pa.array(["a", "b", "c"]), BARRED)


def listed(k: int, *chosen: int) -> dict[str, list[int]]:
    rows = unprofiled.select(np.array(chosen, dtype=np.int64), everyone=PEOPLE, rungs=RUNGS, k=k)
    videos: dict[str, list[int]] = {}
    for row in rows.to_pylist():
        videos.setdefault(row["user_id"], []).append(row["video_idx"])
        assert row["rank"] == len(videos[row["user_id"]]) == -row["score"]
        assert (row["source"], row["propensity"]) == ("no_profiling", 1.0)
    return videos


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_select_is_the_fallback_list_without_what_is_barred(k: int) -> None:
    rows = ladder.fallback(RUNGS, 9).to_pylist()
    everybodys = [row["video_idx"] for row in rows if row["segment"] == "__global__"]
    assert everybodys == [4, 2, 0, 5, 1]
    assert listed(k, 0, 1, 2) == {"a": [2, 5, 1][:k], "b": everybodys[:k], "c": [0, 5, 1][:k]}
    assert listed(k, 2) == {"c": [0, 5, 1][:k]}


def test_select_reason_names_the_rung_and_that_all_have_it() -> None:
    rows = unprofiled.select(np.array([1]), everyone=PEOPLE, rungs=RUNGS, k=3).to_pylist()
    said = ", the same for everybody who asked for no profiling"
    assert [row["reason"] for row in rows] == [
        f"{words}{said}"
        for words in ("trending right now", "trending right now", "popular with everyone")
    ]


def test_select_nobody_has_no_rows_and_the_same_columns() -> None:
    nobody = unprofiled.select(np.array([], np.int64), everyone=PEOPLE, rungs=RUNGS, k=3)
    somebody = unprofiled.select(np.array([0]), everyone=PEOPLE, rungs=RUNGS, k=3)
    assert nobody.schema == somebody.schema
    schema = contract.load(settings().schemas, "recommendations").schema
    for name in set(somebody.column_names) - {"video_idx"}:
        assert somebody.schema.field(name).type == schema.field(name).type
    assert nobody.num_rows == 0
