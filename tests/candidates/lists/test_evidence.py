"""What speaks for a row is what a loop over the user's history finds."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from microrec.candidates.lists import evidence
from microrec.core import knowledge as filters
from microrec.core.fits import horizon
from microrec.core.fitted import Embeddings, Fitted, NeighbourLists, Ranker, Trends
from tests.worlds.candidates import edges, videos

N_USERS, N_VIDEOS = 12, 15
LIKED = {0: [1, 2], 1: [2], 2: []}


def knowledge(liked: dict[int, list[int]], n_videos: int) -> filters.Knowledge:
    rows = [("train", user, video, 1) for user, some in liked.items() for video in some]
    found = {
        "n_users": len(liked),
        "fit": "final",
        "until": horizon(filters.dt.date(2026, 1, 10), "final"),
    }
    return filters.knowledge(edges(rows), videos([True] * n_videos), **found)


def rows(source: str, pairs: list[tuple[int, int]]) -> pa.Table:
    user, video = zip(*pairs, strict=True)
    columns = {"user_idx": user, "video_idx": video}
    typed = {name: pa.array(values, pa.int32()) for name, values in columns.items()}
    return pa.table({**typed, "source": [source] * len(pairs)})


def lists(axis: str, dense: list[list[float]]) -> NeighbourLists:
    """Nearest first, as models give them: the columns are not in order."""
    matrix = np.array(dense, dtype=np.float32)
    order = np.argsort(-matrix, axis=1, kind="stable")
    kept = [row[matrix[at, row] != 0] for at, row in enumerate(order)]
    indptr = np.cumsum([0, *map(len, kept)])
    neighbour = np.concatenate(kept).astype(np.int32)
    similarity = np.concatenate([matrix[at, row] for at, row in enumerate(kept)])
    return NeighbourLists(axis, indptr, neighbour, similarity)


def known_vectors(vectors: list[list[float]], known: list[bool] | None = None) -> Embeddings:
    video = np.array(vectors, dtype=np.float32)
    there = np.array(known or [True] * len(video))
    return Embeddings(video[: len(LIKED)], video, np.ones(len(LIKED), bool), there)


TREND_USERS = np.zeros((3, 2, 2), dtype=np.float32)
TREND_USERS[0] = [[1, 0], [0, 2]]
TREND_USERS[1] = [[1, 0], [0, 0]]
CASES: dict[str, tuple[Fitted, str, list[object]]] = {
    "videos of the history": (
        lists("video", [[0, 0, 0, 0], [0, 0, 0, 0.4], [0.5, 0, 0, 0.9], [0, 0, 0, 0]]),
        "video_idx",
        [2, 2, None],
    ),
    "equal videos, the first": (
        lists("video", [[0, 0, 0, 0], [0, 0, 0, 0.4], [0, 0, 0, 0.4], [0, 0, 0, 0]]),
        "video_idx",
        [1, 2, None],
    ),
    "a video that speaks against it": (
        lists("video", [[0, 0, 0, 0], [0, 0, 0, 0.1], [0, 0, 0, -0.9], [0, 0, 0, 0]]),
        "video_idx",
        [1, None, None],
    ),
    "vectors, by their direction": (
        known_vectors([[1, 0], [9, 9], [0.1, 0], [3, 0]]),
        "video_idx",
        [2, 2, None],
    ),
    "unknown vectors": (
        known_vectors([[1, 0], [9, 9], [0.1, 0], [3, 0]], [True, True, False, True]),
        "video_idx",
        [1, None, None],
    ),
    "neighbours": (
        lists("user", [[0, 0.3, 0.2], [0.5, 0, 0], [0.1, -0.2, 0]]),
        "viewers",
        [1, 1, 1],
    ),
    "everyone": (known_vectors([[4], [3], [2], [1]]), "viewers", [2, 2, 2]),
    "trends": (
        Trends(
            TREND_USERS,
            np.array([[1, 1], [1, 1], [-1, -1], [-1, 1]], dtype=np.float32),
            np.array([[True, True], [True, False], [False, False]]),
            np.ones(4, bool),
        ),
        "trend",
        [1, 0, None],
    ),
    "a ranking network": (Ranker(), "viewers", [None, None, None]),
}


@pytest.mark.parametrize("name", CASES)
def test_evidence_cases_equal_expected(name: str) -> None:
    """Of video 3, or where viewers are counted of video 2, to all three users."""
    fitted, kind, wanted = CASES[name]
    asked = rows("s", [(user, 2 if kind == "viewers" else 3) for user in LIKED])
    found = evidence.add(asked, [("s", fitted)], known=knowledge(LIKED, 4), alike={})
    assert found[f"evidence_{kind}"].to_pylist() == wanted
    others = [one for one in found.column_names if "evidence" in one and kind not in one]
    assert len(others) == 3
    assert all(found[one].null_count == 3 for one in others)


def test_evidence_belongs_to_its_source_only() -> None:
    fitted, _, _ = CASES["everyone"]
    asked = pa.concat_tables([rows("s", [(0, 3)]), rows("trend", [(0, 2)]), rows("s", [(1, 2)])])
    found = evidence.add(asked, [("s", fitted)], known=knowledge(LIKED, 4), alike={})
    assert found["evidence_viewers"].to_pylist() == [0, None, 2]


def test_evidence_modality_has_most_likeness_in_either_direction() -> None:
    near = pa.table(
        {
            "modality": ["visual", "acoustic", "visual", "textual", "acoustic"],
            "video_idx": pa.array([3, 2, 2, 2, 1], pa.int32()),
            "neighbour_idx": pa.array([2, 3, 3, 3, 3], pa.int32()),
            "similarity": pa.array([0.8, 0.8, 0.1, -0.2, 0.1], pa.float32()),
        }
    )
    alike = evidence.by_modality(near, n_videos=4)
    assert list(alike) == ["acoustic", "textual", "visual"]
    fitted, _, _ = CASES["videos of the history"]
    asked = rows("s", [(0, 3), (1, 3), (1, 0), (2, 3)])
    found = evidence.add(asked, [("s", fitted)], known=knowledge(LIKED, 4), alike=alike)
    assert found["evidence_video_idx"].to_pylist() == [2, 2, 2, None]
    assert found["evidence_modality"].to_pylist() == ["acoustic", "acoustic", None, None]


def test_evidence_long_histories_are_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    liked = {u: np.flatnonzero(rng.random(N_VIDEOS) < 0.2).tolist() for u in range(N_USERS)}
    dense = np.where(rng.random((N_VIDEOS, N_VIDEOS)) < 0.6, rng.integers(1, 5, (N_VIDEOS,) * 2), 0)
    pairs = [(int(u), int(v)) for u, v in rng.integers([N_USERS, N_VIDEOS], size=(80, 2))]
    best = {
        (u, v): max(
            (j for j in liked[u] if dense[j, v]), key=lambda j: (dense[j, v], -j), default=None
        )
        for u, v in pairs
    }
    assert None in best.values()
    known = knowledge(liked, N_VIDEOS)
    for at_once in (1, 7, 1_000):
        monkeypatch.setattr(evidence, "PAIRS", at_once)
        models = [("s", lists("video", dense.tolist()))]
        found = evidence.add(rows("s", pairs), models, known=known, alike={})
        assert found["evidence_video_idx"].to_pylist() == [best[pair] for pair in pairs]


def test_evidence_no_rows_gives_none() -> None:
    nothing = rows("s", [(0, 0)]).slice(0, 0)
    near = sparse.csr_matrix((4, 4))
    for fitted, _, _ in CASES.values():
        found = evidence.add(nothing, [("s", fitted)], known=knowledge(LIKED, 4), alike={"a": near})
        assert found.num_rows == 0
        assert len(found.column_names) == 7


def test_evidence_of_few_viewers_is_none() -> None:
    """Two people who like a video could be guessed; the floor is told where it is reached."""
    fitted, _, _ = CASES["everyone"]
    asked = rows("s", [(0, 2), (1, 2)])
    for least, told in ((2, [2, 2]), (3, [None, None])):
        found = evidence.add(
            asked, [("s", fitted)], known=knowledge(LIKED, 4), alike={}, least_viewers=least
        )
        assert found["evidence_viewers"].to_pylist() == told
