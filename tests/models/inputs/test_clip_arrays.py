"""Clips as arrays: numbers, vectors, what was counted before a day."""

import numpy as np
import pyarrow as pa
import pytest

from microrec.core.fits import splits_of
from microrec.errors import ContractViolation
from microrec.models.clip import clip_counts
from microrec.models.inputs import clip_arrays
from microrec.models.inputs.graph_arrays import build_graph
from tests.worlds import clips

WORLD = clips.world(2, n_users=15, n_videos=12, n_viewings=200, n_cold=2)


def built(fit: str = "final", **changed: pa.Table) -> clip_arrays.Clips:
    tables = {**WORLD.tables, **changed}
    return clip_arrays.build(tables, parts=splits_of(fit), holdout=fit == "trial")


def test_edges_are_where_the_table_has_them() -> None:
    for fit, last in (("final", clips.D), ("trial", clips.D - 1)):
        built_clips = built(fit)
        edges = built_clips.edges
        said = sorted(
            (row["watched_on"].toordinal() - 719163, row["user_idx"], row["video_idx"],
             row["clip_no"], row["sign"] > 0, row["weight"])
            for row in WORLD.tables["clip_edges"].to_pylist()
            if row["split"] in splits_of(fit)
        )  # fmt: skip
        columns = (
            edges.day,
            edges.user_idx,
            built_clips.video[edges.clip],
            built_clips.number[edges.clip],
        )
        got = zip(*(one.tolist() for one in (*columns, edges.through, edges.weight)), strict=True)
        assert list(got) == said
        assert edges.day.max() == last
        assert built_clips.today == last + 1
        assert built_clips.validated_on == (last if fit == "trial" else None)


def test_starts_and_clips_of_videos_equal_expected() -> None:
    clips = built()
    for video in range(12):
        span = slice(*clips.first[video : video + 2])
        n = clips.first[video + 1] - clips.first[video]
        assert clips.start_ms[span].tolist() == [5000 * one for one in range(n)]
        assert clips.number[span].tolist() == list(range(n))
        assert set(clips.video[span].tolist()) == {video}
    place, clip = clips.of(np.array([3, 0, 3]))
    expected = [
        (at, one) for at, v in enumerate((3, 0, 3)) for one in range(*clips.first[v : v + 2])
    ]
    assert list(zip(place.tolist(), clip.tolist(), strict=True)) == expected


def test_edges_of_vanished_clips_are_left_out() -> None:
    nodes = WORLD.tables["video_nodes"]
    ends = nodes["clip_ends_ms"].to_pylist()
    fewer = [one[:1] if video == 1 else [] if video == 2 else one for video, one in enumerate(ends)]
    at = nodes.schema.get_field_index("clip_ends_ms")
    changed = nodes.set_column(at, "clip_ends_ms", pa.array(fewer, pa.list_(pa.int64())))
    clips, whole = built(video_nodes=changed), built()
    kept = [(v, n) for v, n in _named(whole) if v != 2 and not (v == 1 and n)]
    assert _named(clips) == kept


def _named(clips: clip_arrays.Clips) -> list[tuple[int, int]]:
    clip = clips.edges.clip
    return list(zip(clips.video[clip].tolist(), clips.number[clip].tolist(), strict=True))


def test_clip_vector_is_the_one_that_holds_its_middle() -> None:
    """The producers cut video 0 in three and leave the middle out; video 1 has nothing."""
    ids = WORLD.tables["video_nodes"]["video_id"].to_pylist()
    length = 5000 * int(WORLD.first[1])
    edges = [0, length // 3, 2 * length // 3, length]
    rows = [
        {"video_id": ids[0], "clip_no": n, "start_ms": edges[n], "end_ms": edges[n + 1], "vector": [n, 1.0]}
        for n in (2, 0)
    ]  # fmt: skip
    rows.append({**rows[0], "video_id": "nobody", "vector": [9.0, 9.0]})
    features = pa.Table.from_pylist(rows, schema=clips.FEATURES)
    built_clips = built(clip_features=features)
    for clip in range(built_clips.n_clips):
        middle = 5000 * built_clips.number[clip] + 2500
        part = min(int(np.searchsorted(edges, middle, side="right")) - 1, 2)
        there = built_clips.video[clip] == 0 and part != 1
        assert built_clips.vector[clip].tolist() == ([part, 1.0] if there else [0.0, 0.0])
    assert built_clips.vector.any()


@pytest.mark.parametrize("component", [1e10, np.finfo(np.float32).max, np.nan])
def test_clip_giant_vector_is_shortened_and_changes_no_other(component: float) -> None:
    features = WORLD.tables["clip_features"]
    rows = features["vector"].to_pylist()
    odd = int(np.flatnonzero([row == built().vector[0].tolist() for row in rows])[0])
    rows[odd] = [component] * len(rows[odd])
    at = features.schema.get_field_index("vector")
    column = pa.array(rows, pa.list_(pa.float32()))
    found = built(clip_features=features.set_column(at, "vector", column)).vector
    assert np.array_equal(found[1:], built().vector[1:])
    lengths = np.linalg.norm(found, axis=1)
    expected = 10 * np.median(lengths[1:][lengths[1:] > 0]) if np.isfinite(component) else 0
    assert lengths[0] == pytest.approx(expected, rel=0.1)


def test_clip_arrays_mismatched_tables_are_refused() -> None:
    edges = WORLD.tables["clip_edges"]
    at = edges.schema.get_field_index("video_idx")
    outside = edges.set_column(at, "video_idx", pa.array([99] * edges.num_rows, pa.int32()))
    with pytest.raises(ContractViolation, match=f"12 nodes, {edges.num_rows} rows"):
        built(clip_edges=outside)
    features = WORLD.tables["clip_features"]
    at = features.schema.get_field_index("vector")
    ragged = [[1.0] * (1 + n % 2) for n in range(features.num_rows)]
    column = pa.array(ragged, pa.list_(pa.float32()))
    with pytest.raises(ContractViolation, match="vectors of 2 lengths"):
        built(clip_features=features.set_column(at, "vector", column))


def test_graph_has_clips_if_tables_are_given() -> None:
    assert build_graph(WORLD.tables, fit="trial").clips is not None
    fewer = {name: one for name, one in WORLD.tables.items() if name != "clip_features"}
    assert build_graph(fewer, fit="trial").clips is None


def test_ledger_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    account, day, amount = rng.integers(6, size=200), rng.integers(9, size=200), rng.random(200)
    ledger = clip_arrays.Ledger.of(account, day, amount, np.ones(200))
    asked, when = np.repeat(np.arange(8), 11), np.tile(np.arange(11), 8)
    sums = ledger.before(asked, when)
    place, entry = ledger.latest(asked, when, n=4)
    for at, (one, before) in enumerate(zip(asked.tolist(), when.tolist(), strict=True)):
        there = (account == one) & (day < before)
        assert sums[at] == pytest.approx([amount[there].sum(), there.sum()])
        actual = entry[place == at]
        assert len(np.unique(actual)) == len(actual) == min(4, there.sum())
        assert there[actual].all()
        if len(actual):
            assert sorted(day[actual]) == sorted(day[there])[-len(actual) :]


def test_clip_counts_equal_a_loop() -> None:
    built_clips = built()
    edges, counts = built_clips.edges, clip_counts.Counts(built_clips)
    place = built_clips.number[edges.clip]

    def hazard(number: int, before: int) -> float:
        there = edges.day < before
        anywhere = ((~edges.through[there]).sum() + 1) / (there.sum() + 2)
        here = there & (place == number)
        return float(((~edges.through[here]).sum() + 20 * anywhere) / (here.sum() + 20))

    expected = np.array([hazard(n, d) for n, d in zip(place, edges.day, strict=True)])
    rng = np.random.default_rng(0)
    days = rng.integers(clips.D - 7, clips.D + 2, size=30)
    clip, user = rng.integers(built_clips.n_clips, size=30), rng.integers(15, size=30)
    of_clips, of_users = counts.of_clips(clip, days), counts.of_users(user, days)
    for at, (c, u, d) in enumerate(zip(clip, user, days, strict=True)):
        of_video = (built_clips.video[edges.clip] == built_clips.video[c]) & (edges.day < d)
        of_clip, of_user = of_video & (edges.clip == c), (edges.user_idx == u) & (edges.day < d)
        ratio = ((~edges.through[of_video]).sum() + 5) / (expected[of_video].sum() + 5)
        own = (~edges.through[of_clip]).sum() + 10 * min(
            hazard(built_clips.number[c], d) * ratio, 0.99
        )
        own /= of_clip.sum() + 10
        assert of_clips[at, clip_counts.OWN] == pytest.approx(np.log((1 - own) / own), rel=1e-5)
        assert of_clips[at, 2] == pytest.approx(-np.log(ratio), rel=1e-5, abs=1e-6)
        assert of_clips[at, 3] == pytest.approx(np.log1p(of_clip.sum()) / 5, rel=1e-5)
        left = (~edges.through[of_user]).sum()
        mine = -np.log((left + 3) / (expected[of_user].sum() + 3))
        assert of_users[at, 0] == pytest.approx(mine, rel=1e-5, abs=1e-6)
        started = (of_user & (place == 0)).sum()
        assert of_users[at, 2] == pytest.approx(np.log1p(started) / 5, rel=1e-5)
