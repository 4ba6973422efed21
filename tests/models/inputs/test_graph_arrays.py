"""The graph holds what the tables say, in one order, and refuses what cannot be a graph."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microrec.errors import ContractViolation, RecipeError
from microrec.models.inputs import graph_arrays
from microrec.models.inputs.graph_arrays import Features, build_graph, pair_keys, unit_rows
from tests.worlds import logs

PARTS = {"trial": {"train", "validation"}, "final": {"train", "validation", "holdout"}}


def edge_rows(
    *rows: tuple[str, int, int, float, int, int, int], undone: tuple[int, ...] = ()
) -> pa.Table:
    """(split, user, video, weight, n_views, n_positive, last_at in us); the places of undone rows."""
    names = ("split", "user_idx", "video_idx", "weight", "n_views", "n_positive", "last_at")
    types = (pa.string(), pa.int32(), pa.int32(), pa.float64(), pa.int32(), pa.int32(), pa.int64())
    columns = zip(*rows, strict=True)
    table = pa.table(
        {name: pa.array(list(c), t) for name, c, t in zip(names, columns, types, strict=True)}
    )
    table = table.append_column("undone", [[place in undone for place in range(len(rows))]])
    return table.set_column(6, "last_at", table["last_at"].cast(pa.timestamp("us", "UTC")))


def a_world(edges: pa.Table, n_users: int = 3, n_videos: int = 4) -> dict[str, pa.Table]:
    world = logs.tables({"train": np.zeros((n_users, n_videos), dtype=bool)})
    return {**world, "watch_edges": edges}


EDGES = edge_rows(
    ("train", 0, 1, 0.5, 2, 0, 10),
    ("validation", 0, 1, 1.25, 3, 1, 20),
    ("holdout", 0, 1, 2.0, 1, 1, 30),
    ("train", 1, 2, 1.0, 1, 0, 10),
    ("validation", 1, 3, 1.0, 1, 1, 20),
    ("holdout", 2, 0, 1.0, 1, 1, 30),
    ("train", 2, 2, 1.0, 1, 1, 10),
    ("validation", 2, 3, 0.0, 1, 0, 15),
)


def test_parts_sum_to_the_whole() -> None:
    edges = build_graph(a_world(EDGES), fit="trial").edges
    assert list(zip(edges.user_idx.tolist(), edges.video_idx.tolist(), strict=True)) == [
        (0, 1),
        (1, 3),
        (2, 2),
    ]
    assert edges.weight.tolist() == [1.75, 1.0, 1.0]
    assert edges.n_views.tolist() == [5, 1, 1]
    assert edges.last_at.tolist() == [20, 20, 10]


def test_edges_undone_by_a_later_part_are_left_out() -> None:
    """(0, 1) is disliked on D, (1, 3) and (2, 2) in validation, which keeps what came after."""
    edges = edge_rows(
        ("train", 0, 1, 0.5, 2, 1, 10),
        ("validation", 0, 1, 1.25, 3, 1, 20),
        ("holdout", 0, 1, 2.0, 1, 0, 30),
        ("train", 1, 3, 1.0, 1, 1, 10),
        ("validation", 1, 3, 0.5, 1, 1, 20),
        ("train", 2, 2, 1.0, 1, 1, 10),
        ("validation", 2, 2, 0.0, 1, 0, 20),
        ("train", 2, 3, 1.0, 1, 1, 10),
        undone=(2, 4, 6),
    )

    def undone_edges(fit: str) -> list[tuple[float, ...]]:
        graph = build_graph(a_world(edges), fit=fit).edges
        columns = ("user_idx", "video_idx", "weight", "n_views", "n_positive")
        return list(zip(*(getattr(graph, name).tolist() for name in columns), strict=True))

    assert undone_edges("trial") == [(0, 1, 1.75, 5, 2), (1, 3, 0.5, 2, 1), (2, 3, 1.0, 1, 1)]
    assert undone_edges("final") == [(1, 3, 0.5, 2, 1), (2, 3, 1.0, 1, 1)]
    held = build_graph(a_world(edges), fit="trial").early_stopping
    assert held is not None
    assert len(held.edges) == 4, "validation undoes nothing in train"


def test_final_fit_includes_the_holdout() -> None:
    graph = build_graph(a_world(EDGES), fit="final")
    assert len(graph.edges) == 4
    assert graph.edges.weight[0] == 3.75
    assert graph.early_stopping is None


def test_validation_is_new_to_the_user_and_eligible() -> None:
    world = a_world(EDGES)
    held = build_graph(world, fit="trial").early_stopping
    assert held is not None
    assert held.edges.user_idx.tolist() == [2]
    assert held.seen.user_idx.tolist() == [0, 1, 2]
    # (0, 1) was watched before, if not liked; (2, 3) is not positive
    assert (held.truth.user_idx.tolist(), held.truth.video_idx.tolist()) == ([1], [3])
    nodes = (
        world["video_nodes"].drop(["eligible"]).append_column("eligible", [[True] * 3 + [False]])
    )
    held = build_graph({**world, "video_nodes": nodes}, fit="trial").early_stopping
    assert held is not None
    assert len(held.truth) == 0


def in_time(row: tuple[tuple[str, int, int], object]) -> int:
    return logs.PARTS.index(row[0][0])


@settings(max_examples=30)
@given(st.data(), st.sampled_from(["trial", "final"]))
def test_graph_equals_a_dictionary(data: st.DataObject, fit: str) -> None:
    key = st.tuples(st.sampled_from(logs.PARTS), st.integers(0, 2), st.integers(0, 3))
    value = st.tuples(st.integers(0, 8), st.integers(1, 5), st.integers(0, 2), st.integers(0, 99))
    rows = data.draw(st.dictionaries(key, st.tuples(value, st.booleans()), min_size=1))
    undone = [place for place, (_, undoes) in enumerate(rows.values()) if undoes]
    edges = edge_rows(
        *((*k, w / 4, n, p, at) for k, ((w, n, p, at), _) in rows.items()), undone=tuple(undone)
    )
    expected: dict[tuple[int, int], list[float]] = {}
    for (split, user, video), ((w, n, p, at), undoes) in sorted(rows.items(), key=in_time):
        if split in PARTS[fit]:
            one = expected.setdefault((user, video), [0, 0, 0, 0])
            kept = (0, 0) if undoes else (one[0], one[2])
            one[:] = [kept[0] + w / 4, one[1] + n, kept[1] + p, max(one[3], at)]
    expected = {pair: one for pair, one in sorted(expected.items()) if one[2] > 0}
    actual = build_graph(a_world(edges), fit=fit).edges
    assert (np.diff(pair_keys(actual, n_videos=4)) > 0).all()
    columns = (actual.user_idx, actual.video_idx, actual.weight, actual.n_views, actual.n_positive)
    assert [row[:2] for row in zip(*(c.tolist() for c in columns), strict=True)] == list(expected)
    assert actual.weight.tolist() == [one[0] for one in expected.values()]
    assert actual.n_positive.tolist() == [one[2] for one in expected.values()]
    assert actual.last_at.tolist() == [one[3] for one in expected.values()]


def test_vectors_lie_at_their_video() -> None:
    world = a_world(EDGES)
    rows = [("visual", "v0002", [3.0, 4.0]), ("visual", "v0000", [0.0, 0.0]), ("x", "other", [1.0])]
    modality, owner, vector = zip(*rows, strict=True)
    features = pa.table(
        {
            "modality": modality,
            "video_id": owner,
            "vector": pa.array(vector, pa.list_(pa.float32())),
        }
    )
    # `other` is no node, so its modality is empty; a zero vector is a missing one
    found = build_graph({**world, "video_features": features}, fit="trial").features
    assert list(found) == ["visual"]
    assert found["visual"].present.tolist() == [False, False, True, False]
    assert found["visual"].vector.tolist() == [
        [0, 0],
        [0, 0],
        [np.float32(0.6), np.float32(0.8)],
        [0, 0],
    ]


@pytest.mark.parametrize("component", [1e10, np.finfo(np.float32).max, 1e-30, np.inf, np.nan])
@pytest.mark.parametrize("centre", [False, True])
def test_graph_one_odd_vector_changes_no_other(component: float, centre: bool) -> None:
    """The others keep their directions; off the mean direction one video of 40 counts as one of 40."""
    vectors = np.random.default_rng(4).normal(size=(40, 5)).astype(np.float32) + 1
    odd = vectors.copy()
    odd[7] = [component, -component, 0, 0, 0]
    ids = [f"v{video:04d}" for video in range(40)]
    world = logs.tables({"train": np.zeros((2, 40), dtype=bool)})
    units = {}
    for name, matrix in {"even": vectors, "odd": odd}.items():
        rows = pa.table(
            {
                "modality": ["visual"] * 40,
                "video_id": ids,
                "vector": pa.array(matrix.tolist(), pa.list_(pa.float32())),
            }
        )
        features = build_graph({**world, "video_features": rows}, fit="final").features["visual"]
        units[name], present = unit_rows(features, centre=centre)
        assert present.sum() == 40 - (name == "odd" and not np.isfinite(component))
        assert np.isfinite(units[name]).all()
    others = np.arange(40) != 7
    if centre:
        assert (units["even"] * units["odd"]).sum(axis=1)[others].min() > 0.98
    else:
        assert np.array_equal(units["even"][others], units["odd"][others])


def test_authors_of_several_videos_have_numbers() -> None:
    names = ["b", "a", None, "b", "c", "", "a", ""]
    world = logs.tables({"train": np.zeros((2, 8), dtype=bool)})
    nodes = world["video_nodes"].drop_columns(["author_id", "duration_ms"])
    nodes = nodes.append_column("author_id", pa.array(names, pa.string()))
    nodes = nodes.append_column("duration_ms", pa.array([1, 2, None, 4, 5, 6, 7, 8], pa.int64()))
    graph = build_graph({**world, "video_nodes": nodes}, fit="final")
    assert graph.author.tolist() == [2, 1, 0, 2, 0, 0, 1, 0]
    assert graph.duration_ms.tolist() == [1, 2, 0, 4, 5, 6, 7, 8]


def test_authors_one_long_name_makes_no_other_wide() -> None:
    """As a fixed-width text each of the 20,000 would take 2 KB: 41 MB."""
    names = pa.array(["x" * 512, *(f"author {n // 2}" for n in range(20_000))])
    tracemalloc.start()
    number = graph_arrays._authors(pa.chunked_array([names]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (number[0], number.max()) == (0, 10_000)
    assert peak < 5e6


def test_graph_ragged_vectors_are_refused() -> None:
    features = logs.video_features({"visual": np.ones((1, 2), np.float32)}, ["v0000"])
    other = logs.video_features({"visual": np.ones((1, 3), np.float32)}, ["v0001"])
    world = {**a_world(EDGES), "video_features": pa.concat_tables([features, other])}
    with pytest.raises(ContractViolation, match=r"video_features\[visual\].*2 lengths.*2 rows"):
        build_graph(world, fit="trial")


def test_graph_indices_outside_the_nodes_are_refused() -> None:
    with pytest.raises(ContractViolation, match=r"watch_edges: user_idx .*, 3 rows"):
        build_graph(a_world(EDGES, n_users=2), fit="trial")
    gap = pa.table({"user_idx": pa.array([0, 2, 3], pa.int32())})
    with pytest.raises(ContractViolation, match=r"users: user_idx is not 0.*, 2 of 3 rows"):
        build_graph({**a_world(EDGES), "users": gap}, fit="trial")


def test_graph_unknown_fit_is_refused() -> None:
    with pytest.raises(RecipeError, match="rehearsal"):
        build_graph(a_world(EDGES), fit="rehearsal")


def test_unit_rows_are_centred_over_those_present() -> None:
    vector = np.array([[5.0, 1.0], [5.0, -1.0], [0.0, 0.0]], dtype=np.float32)
    features = Features(vector, np.array([True, True, False]))
    unit, present = unit_rows(features, centre=True)
    assert present.tolist() == [True, True, False]
    np.testing.assert_allclose(unit, [[0, 1], [0, -1], [0, 0]])
    alike = Features(np.full((2, 2), 3.0, np.float32), np.array([True, True]))
    assert not unit_rows(alike, centre=True)[1].any()
    assert unit_rows(alike, centre=False)[1].all()
