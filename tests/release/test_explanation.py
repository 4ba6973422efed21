"""What a person is told of a row is what the release says of it."""

import datetime as dt
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from microrec.errors import MissingDay
from microrec.evaluation.truth import BUCKETS
from microrec.release import explanation, reader
from microrec.tables.arrow import Warehouse
from tests.worlds.releases import filled, publish

DAY = dt.date(2026, 1, 8)
ROWS: list[dict[str, Any]] = [
    {"source": "video_neighbours", "evidence_video_id": "v9", "evidence_modality": "visual"},
    {"source": "ease", "evidence_video_id": "v8"},
    {"source": "user_neighbours", "evidence_viewers": 12},
    {"source": "popularity", "evidence_viewers": 40},
    {"source": "multi_trend", "evidence_trend": 2},
    {"source": "exploration", "propensity": 0.125},
    {"source": "fresh"},
]
SAID = [
    "You liked v9, and the two are alike (visual).",
    "You liked v8, and the two are alike.",
    "12 people whose viewing resembles yours liked it.",
    "40 people liked it.",
    "It fits your trend 2.",
    "It was drawn among new videos, with a chance of 0.12.",
    None,
]


@pytest.fixture
def release(place: Path) -> reader.Release:
    """The release of a day: one list of seven rows, whose user liked two videos and took back a third."""
    warehouse = Warehouse.open()
    given: dict[str, list[Any]] = {
        "user_id": ["u"] * len(ROWS), "rank": list(range(1, len(ROWS) + 1)), "propensity": [1.0] * len(ROWS),
        "reason": ["fits your taste"] * len(ROWS), "video_id": [f"v{n}" for n in range(len(ROWS))],
    }  # fmt: skip
    for name in (
        "source",
        "evidence_video_id",
        "evidence_modality",
        "evidence_viewers",
        "evidence_trend",
    ):
        given[name] = [row.get(name) for row in ROWS]
    given["propensity"] = [row.get("propensity", 1.0) for row in ROWS]
    publish(warehouse, DAY, len(ROWS), **given)
    weights = filled(
        warehouse, "blend_weights", 5,
        fit=["final"] * 4 + ["trial"], bucket=["history=2"] * 3 + ["history=0", "history=2"],
        source=["ease", "popularity", "content", "popularity", "content"], weight=[0.2, 0.77, 0.03, 1.0, 1.0],
        method=["learned"] * 5,
    )  # fmt: skip
    pins(warehouse, "blend_weights", weights)
    warehouse.write("users", filled(warehouse, "users", 1, user_id=["u"], user_idx=[0]), day=DAY)
    # The third one was liked, and disliked later.
    edges = filled(
        warehouse, "watch_edges", 5,
        split=["train"] * 4 + ["holdout"], user_idx=[0] * 5, video_idx=[1, 2, 3, 4, 3], n_positive=[1, 1, 1, 0, 0],
        undone=[False] * 4 + [True],
    )  # fmt: skip
    splits = [{"split": split} for split in ("train", "holdout")]
    warehouse.write("watch_edges", edges, day=DAY, replace=splits)
    return reader.of(DAY)


def pins(warehouse: Warehouse, table: str, rows: pa.Table) -> None:
    """Write rows of a table and pin them in the release."""
    fits = [{"fit": fit} for fit in ("trial", "final")]
    warehouse.write(table, rows, day=DAY, replace=fits)
    released = warehouse.read("releases", day=DAY).to_pylist()
    (row,) = released
    pin = next(pin for pin in row["tables"] if pin["table"] == table)
    pin |= {"version": warehouse.version(table), "rows": rows.num_rows}
    pin["digest"] = warehouse.digest(table, day=DAY)
    schema = warehouse.table("releases").contract.schema
    warehouse.write("releases", pa.Table.from_pylist([row], schema=schema), replace=[{"day": DAY}])


@pytest.mark.parametrize("rank", range(1, len(ROWS) + 1))
def test_explain_says_what_the_row_says(release: reader.Release, rank: int) -> None:
    explained = explanation.explain(release, "u", rank)
    assert explained.video_id == f"v{rank - 1}"
    of_row = [SAID[rank - 1]] if SAID[rank - 1] else []
    order = "Of the order of your list decide: popularity 77%, ease 20%."
    assert explained.sentences == ["Fits your taste.", *of_row, order]
    assert list(explained.parameters) == ["popularity", "ease", "content"]


def test_explain_refuses_who_has_no_list_and_ranks_beyond_it(release: reader.Release) -> None:
    with pytest.raises(MissingDay, match="fallback_recommendations, the same for everybody"):
        explanation.explain(release, "stranger", 1)
    with pytest.raises(MissingDay, match=f"the list has {len(ROWS)} rows"):
        explanation.explain(release, "u", len(ROWS) + 1)


def test_explain_of_who_teaches_nobody_says_so_and_no_share_of_others(
    release: reader.Release,
) -> None:
    """The shares of sources are those of people whom the order was learned from."""
    warehouse = release.warehouse
    rows = filled(warehouse, "private_users", 1, user_id=["u"], user_idx=[1])
    warehouse.write("private_users", rows, day=DAY)
    explained = explanation.explain(release, "u", 1)
    assert explained.parameters == {}
    assert explained.sentences == ["Fits your taste.", SAID[0], explanation.TEACHES_NOBODY]


def test_explain_without_profiling_says_so_and_nothing_of_what_was_watched(
    release: reader.Release,
) -> None:
    """`u` has watched something; neither weights nor evidence are told, as they have no part in it."""
    rows = release.read("recommendations").to_pylist()
    row = {
        **rows[0],
        "source": "no_profiling",
        "evidence_video_id": None,
        "evidence_modality": None,
    }
    row["reason"] = "popular with everyone, the same for everybody who asked for no profiling"
    schema = release.warehouse.table("recommendations").contract.file_schema
    theirs = pa.Table.from_pylist([{name: row[name] for name in schema.names}], schema=schema)
    release.warehouse.write("recommendations", theirs, day=DAY)
    version = release.warehouse.version("recommendations")
    pin = replace(release.tables["recommendations"], version=version, rows=1)
    again = replace(release, tables={**release.tables, "recommendations": pin})
    explained = explanation.explain(again, "u", 1)
    assert explained.parameters == {}
    assert explained.sentences == [
        "Popular with everyone, the same for everybody who asked for no profiling.",
        explanation.UNPROFILED,
    ]


def test_bucket_of_every_history_is_a_bucket() -> None:
    names = [explanation.bucket_of(n) for n in range(30)]
    assert list(dict.fromkeys(names)) == [name for name, _, _ in BUCKETS]
    assert names[3:6] == ["history=3-5"] * 3


def test_explain_without_the_edges_of_the_day_tells_the_rest(release: reader.Release) -> None:
    """Maintenance takes edges out before the release goes."""
    table = release.warehouse.table("watch_edges").uri
    shutil.rmtree(table)
    explained = explanation.explain(release, "u", 1)
    assert explained.sentences == ["Fits your taste.", SAID[0]]
    assert explained.parameters == {}
