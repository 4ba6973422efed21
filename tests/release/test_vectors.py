"""Vectors of a release: by the producers' ids, with the space they belong to, without who has withdrawn."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from microrec.candidates.retrieval import exact
from microrec.core import fitted
from microrec.errors import MissingDay
from microrec.release import reader
from microrec.tables.arrow import Warehouse
from tests.worlds.releases import filled, publish
from tests.worlds.small_tables import complete

DAY = dt.date(2026, 1, 7)
USERS, VIDEOS = 4, 5
RNG = np.random.default_rng(1)
EMBEDDINGS = fitted.Embeddings(
    user=RNG.random((USERS, 3), np.float32),
    video=RNG.random((VIDEOS, 3), np.float32),
    user_known=np.array([True, True, False, True]),
    video_known=np.array([True, True, True, True, False]),
)
TRENDS = fitted.Trends(
    user=RNG.random((USERS, 2, 3), np.float32),
    video=RNG.random((VIDEOS, 3), np.float32),
    trend_known=np.array([[True, True], [True, False], [False, False], [True, True]]),
    video_known=np.ones(VIDEOS, np.bool_),
)
ONE = fitted.Embeddings(
    user=np.ones((USERS, 1), np.float32),
    video=np.ones((VIDEOS, 1), np.float32),
    user_known=np.ones(USERS, np.bool_),
    video_known=np.ones(VIDEOS, np.bool_),
)
LISTS = fitted.NeighbourLists(
    axis="video",
    indptr=np.zeros(VIDEOS + 1, np.int64),
    neighbour=np.zeros(0, np.int32),
    similarity=np.zeros(0, np.float32),
)
MODELS = {
    "content": EMBEDDINGS,
    "multi_trend": TRENDS,
    "popularity": ONE,
    "video_neighbours": LISTS,
}


@pytest.fixture
def release(place: Path) -> reader.Release:
    """A release whose night has four models; ids are in no order of the indices, one user was erased."""
    warehouse = Warehouse.open()
    dates = {"first_day": [DAY], "last_day": [DAY]}
    for model, arrays in MODELS.items():
        path, digest = warehouse.save_artefact(
            day=DAY,
            fit="final",
            model=model,
            save=lambda folder, arrays=arrays: fitted.save(
                fitted.Trained(arrays, {}), folder, config=exact.Config()
            ),
        )
        row = filled(warehouse, "models", 1, path=[path], digest=[digest], **dates)
        row = row.drop_columns(["fit", "model"])
        warehouse.write("models", row, day=DAY, fit="final", model=model)
    users = pa.table({"user_idx": [0, 1, 2], "user_id": ["zoe", "ann", "nobody"]})
    videos = pa.table(
        {"video_idx": range(VIDEOS), "video_id": [f"v{9 - n}" for n in range(VIDEOS)]}
    )
    videos = videos.append_column("eligible", pa.array([True] * VIDEOS))
    nodes = {"users": users, "video_nodes": with_instants(warehouse, videos)}
    for name, rows in nodes.items():
        warehouse.write(name, complete(name, rows, without={"day"}), day=DAY)
    suppress(warehouse)
    publish(warehouse, DAY, 2)
    return reader.of(DAY)


def with_instants(warehouse: Warehouse, videos: pa.Table) -> pa.Table:
    """The videos with an author and no date of publication."""
    n = videos.num_rows
    videos = videos.append_column("author_id", pa.array(["a"] * n))
    return videos.append_column("published_at", pa.array([None] * n, pa.timestamp("us", "UTC")))


def suppress(warehouse: Warehouse, *users: str) -> None:
    kinds = ["erase"] * len(users)
    rows = filled(warehouse, "suppressed_users", len(users), user_id=users, kind=kinds)
    warehouse.write("suppressed_users", rows, day=DAY)


def rows_of(release: reader.Release, model: str) -> dict[tuple[str, str, int], Any]:
    rows = release.vectors(model).to_pylist()
    return {(row["kind"], row["id"], row["part"]): row for row in rows}


def test_vectors_are_those_of_the_ids(release: reader.Release) -> None:
    rows = rows_of(release, "content")
    known = {("user", "zoe", 0): EMBEDDINGS.user[0], ("user", "ann", 0): EMBEDDINGS.user[1]}
    known |= {("video", f"v{9 - n}", 0): EMBEDDINGS.video[n] for n in range(4)}
    assert rows.keys() == known.keys(), "neither who is not known nor who was erased"
    for key, vector in known.items():
        assert rows[key]["vector"] == vector.tolist()
        assert rows[key]["norm"] == pytest.approx(np.linalg.norm(vector), rel=1e-6)
    assert {row["model"] for row in rows.values()} == {"content"}
    (space,) = {row["space"] for row in rows.values()}
    assert space.startswith("content@")
    assert space not in {row["space"] for row in rows_of(release, "multi_trend").values()}


def test_vectors_in_five_lines_of_numpy_and_polars(release: reader.Release) -> None:
    import polars as pl

    rows = release.vectors("content")
    matrix = np.stack(rows.to_pandas()["vector"])
    assert matrix.shape == (6, 3)
    frame = pl.DataFrame(rows)
    assert frame.filter(kind="video")["vector"].to_numpy().shape == (4, 3)


def test_trends_have_a_part_for_each_known_one(release: reader.Release) -> None:
    rows = rows_of(release, "multi_trend")
    users = {(name, part) for kind, name, part in rows if kind == "user"}
    assert users == {("zoe", 0), ("zoe", 1), ("ann", 0)}
    assert rows["user", "zoe", 1]["vector"] == TRENDS.user[0, 1].tolist()


def test_who_has_withdrawn_is_left_out(release: reader.Release) -> None:
    suppress(release.warehouse, "ann")
    assert ("user", "ann", 0) not in rows_of(release, "content")
    assert ("user", "zoe", 0) in rows_of(release, "content")


def test_who_wants_no_profiling_is_left_out(release: reader.Release) -> None:
    wish = filled(release.warehouse, "preferences", 1, user_id=["ann"], kind=["no_profiling"])
    release.warehouse.write("preferences", wish, day=DAY)
    assert ("user", "ann", 0) not in rows_of(release, "content")
    assert ("user", "zoe", 0) in rows_of(release, "content")


def test_models_without_vectors_are_refused_and_those_with_some_named(
    release: reader.Release,
) -> None:
    assert release.vector_models == ["content", "multi_trend"]
    for model in ("popularity", "video_neighbours"):
        with pytest.raises(
            MissingDay, match=rf"{model} has no vectors; \['content', 'multi_trend'\]"
        ):
            release.vectors(model)
    with pytest.raises(MissingDay, match="no lightgcn, there are"):
        release.vectors("lightgcn")


def test_vectors_of_a_later_run_or_gone_are_refused(release: reader.Release) -> None:
    made = {name: value for name, value in vars(release).items() if name != "inputs"}
    of_a_plan = reader.Release(**made, inputs="that of the release")
    night = filled(release.warehouse, "nights", 1, inputs=["of a later run"])
    release.warehouse.write("nights", night, day=DAY)
    with pytest.raises(MissingDay, match="later run"):
        of_a_plan.vectors("content")
    night = filled(release.warehouse, "nights", 1, inputs=["that of the release"])
    release.warehouse.write("nights", night, day=DAY)
    assert of_a_plan.vectors("content").num_rows == 6
    scopes = [{"day": DAY, "fit": "final", "model": model} for model in MODELS]
    release.warehouse.remove("models", scopes)
    with pytest.raises(MissingDay, match="no longer kept"):
        of_a_plan.vectors("content")
