"""`similar_videos` equals brute force on random catalogues, and brute force sees every wrong row."""

import datetime as dt
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy import sparse

from microrec.candidates.lists import evidence, likeness, similar
from microrec.core.fitted import NeighbourLists
from microrec.core.knowledge import Knowledge
from microrec.evaluation import gate, subjects
from microrec.oracle import inputs as oracle_inputs
from microrec.oracle import lists as oracle_lists
from microrec.oracle import similar as oracle

N_USERS, N_VIDEOS = 40, 60
LEAST_PEOPLE = 3
COLD = 7
"""Nobody has watched it."""
BARE = 11
"""Nor has it a vector."""
COPY, COPIED = 21, 20
MIDNIGHT = dt.datetime(2026, 1, 7, tzinfo=dt.UTC)


class World:
    """A random catalogue, as lists are made of it and as the oracle reads it."""

    def __init__(self, seed: int, **changes: Any) -> None:
        rng = np.random.default_rng(seed)
        self.config = similar.Config(k=8, collapse=0.9, **changes)
        likes = rng.random((N_USERS, N_VIDEOS)) < rng.random(N_VIDEOS) * 0.4
        likes[:, [COLD, BARE]] = False
        self.eligible = rng.random(N_VIDEOS) > 0.15
        self.eligible[[COLD, BARE, COPY, COPIED]] = True
        self.author = rng.integers(0, 9, N_VIDEOS)
        self.author[3] = -1
        near = rng.random((N_VIDEOS, N_VIDEOS)).round(1) * (rng.random((N_VIDEOS, N_VIDEOS)) < 0.3)
        near[[COLD, BARE]] = 0
        np.fill_diagonal(near, 0.5)  # a model may list a video beside itself
        self.behaviour = sparse.csr_matrix(near.astype(np.float32))
        self.edges = edges(rng)
        self.features = features(rng)
        positives = sparse.csr_matrix(likes.astype(np.float32))
        self.known = Knowledge(positives, positives, self.eligible)

    def catalogue(self, **changes: Any) -> similar.Catalogue:
        near = {"behaviour": self.behaviour}
        for name in ("tags", "visual"):
            of_it = self.edges.filter(pc.equal(self.edges["modality"], name))
            at = (of_it["video_idx"].to_numpy(), of_it["neighbour_idx"].to_numpy())
            shape = (N_VIDEOS, N_VIDEOS)
            near[name] = sparse.csr_matrix((of_it["similarity"].to_numpy(), at), shape=shape)
        like = likeness.likeness(self.features, nodes(self.author), collapse=self.config.collapse)
        alike = evidence.by_modality(self.edges, n_videos=N_VIDEOS)
        whole = similar.Catalogue(near, alike, self.known, like.author, like.cluster)
        return replace(whole, **changes)

    def rows(self, **changes: Any) -> pa.Table:
        videos = np.flatnonzero(self.eligible)
        catalogue = self.catalogue(**changes)
        parts = [
            similar.similar(part, catalogue, config=self.config, least_people=LEAST_PEOPLE)
            for part in np.array_split(videos, 3)
        ]
        rows = pa.concat_tables(parts)
        names = pa.array([f"v{video:02d}" for video in range(N_VIDEOS)])
        for name in ("video", "similar_video"):
            at = rows.schema.get_field_index(f"{name}_idx")
            rows = rows.set_column(at, f"{name}_id", names.take(rows[f"{name}_idx"]))
        return rows

    def oracle(self) -> oracle.SimilarInputs:
        lists = self.behaviour
        model = NeighbourLists("video", lists.indptr, lists.indices, lists.data)
        positives = self.known.positives
        liked = oracle_inputs.Rows(positives.indptr, positives.indices)
        authors = [None if author < 0 else f"a{author}" for author in self.author.tolist()]
        night: Any = SimpleNamespace(
            video_id=[f"v{video:02d}" for video in range(N_VIDEOS)],
            author=authors,
            facts=SimpleNamespace(
                liked=liked, eligible=self.eligible, n_teachers=positives.shape[0]
            ),
            models={"video_neighbours": model},
            by_modality=oracle_inputs.alike_in_each(self.edges, N_VIDEOS),
            rules=SimpleNamespace(
                oracle=oracle_inputs.Config(tolerance=1e-6), least_people=LEAST_PEOPLE
            ),
        )
        vectors = oracle_inputs.vectors(self.features, nodes(self.author)["video_id"].to_pylist())
        return oracle.SimilarInputs(
            night,
            self.config,
            oracle.neighbours(self.edges, np.flatnonzero(self.eligible).tolist()),
            oracle_lists.clusters(vectors, self.config.collapse, self.edges),
        )

    def verdict(self, rows: pa.Table) -> gate.Result:
        videos = [f"v{video:02d}" for video in np.flatnonzero(self.eligible)]
        return oracle.check(self.oracle(), rows, videos)


def nodes(author: np.ndarray) -> pa.Table:
    names = [None if each < 0 else f"a{each}" for each in author.tolist()]
    return pa.table(
        {
            "video_idx": pa.array(range(N_VIDEOS), pa.int32()),
            "video_id": [f"v{video:02d}" for video in range(N_VIDEOS)],
            "author_id": pa.array(names, pa.string()),
        }
    )


def features(rng: np.random.Generator) -> pa.Table:
    """Vectors of one modality: two videos have the same, one has none."""
    vectors = rng.normal(size=(N_VIDEOS, 12))
    vectors[COPY] = vectors[COPIED]
    videos = [video for video in range(N_VIDEOS) if video != BARE]
    return pa.table(
        {
            "modality": ["visual"] * len(videos),
            "video_id": [f"v{video:02d}" for video in videos],
            "vector": [vectors[video] for video in videos],
        }
    )


def edges(rng: np.random.Generator) -> pa.Table:
    """Five neighbours in each of two modalities with many ties; two videos are near-duplicates, one has no vector."""
    rows = []
    for modality in ("visual", "tags"):
        for video in range(N_VIDEOS):
            others = rng.choice(N_VIDEOS, 5, replace=False).tolist()
            near = {other: round(float(rng.random()), 1) for other in others}
            near |= {COPIED: 1.0} if video == COPY else {COPY: 1.0} if video == COPIED else {}
            rows += [
                (modality, video, other, value)
                for other, value in near.items()
                if BARE not in (video, other) and video != other
            ]
    modality, video, other, value = zip(*rows, strict=True)
    return pa.table(
        {
            "modality": list(modality),
            "video_idx": pa.array(video, pa.int32()),
            "neighbour_idx": pa.array(other, pa.int32()),
            "similarity": pa.array(value, pa.float32()),
        }
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("changes", [{}, {"kappa": 0.0, "c": 1.0}])
def test_similar_videos_equal_brute_force(seed: int, changes: dict[str, float]) -> None:
    world = World(seed, **changes)
    verdict = world.verdict(world.rows())
    assert (verdict.status, verdict.observed) == ("pass", 1.0), verdict.detail


def test_fused_lists_are_whole_and_moderated() -> None:
    world = World(1)
    rows = world.rows().to_pandas()
    fused = rows[rows["kind"] == "fused"]
    assert (fused.groupby("video_id").size() == world.config.k).all()
    assert fused["video_id"].nunique() == world.eligible.sum()
    listed = rows["similar_video_id"].str[1:].astype(int)
    assert world.eligible[listed].all()
    pairs = set(zip(rows["video_id"], rows["similar_video_id"], strict=True))
    assert (f"v{COPY}", f"v{COPIED}") not in pairs
    together = rows[rows["similar_video_id"].isin([f"v{COPY}", f"v{COPIED}"])]
    assert not together.duplicated(["video_id", "kind"]).any(), "of two near-duplicates one stands"
    assert together["similar_video_id"].nunique() == 2


def test_a_cold_video_is_placed_by_content_and_a_bare_one_by_author_and_popularity() -> None:
    world = World(2)
    rows = world.rows().to_pandas()
    cold = rows[(rows["video_id"] == f"v{COLD:02d}") & (rows["kind"] == "fused")]
    assert set(cold["source"]) & {"visual", "tags"}
    assert not set(cold["source"]) & {"behaviour"}
    bare = rows[rows["video_id"] == f"v{BARE}"]
    assert set(bare["kind"]) == {"fused"}
    assert set(bare["source"]) == {"author", "popular"}
    assert (bare["similarity"] == 0).all()
    assert bare["source"].is_monotonic_increasing, "first of the author"


def test_common_viewers_below_the_least_are_not_told() -> None:
    world = World(3)
    viewers = world.rows()["evidence_viewers"].to_pandas()
    assert viewers.isna().any()
    assert (viewers.dropna() >= LEAST_PEOPLE).sum() > 0
    assert not viewers.dropna().between(1, LEAST_PEOPLE - 1).any()


@pytest.mark.parametrize(
    "column",
    ["rank", "similar_video_id", "similarity", "source", "evidence_viewers", "evidence_modality"],
)
def test_brute_force_sees_a_changed_row(column: str) -> None:
    world = World(0)
    rows = world.rows().to_pandas()
    at = rows.index[(rows["kind"] == "fused") & (rows["evidence_viewers"] > 0)][5]
    other = {
        "rank": 50,
        "similar_video_id": rows["video_id"][at],
        "similarity": rows["similarity"][at] + 0.01,
    }
    other |= {"source": "else", "evidence_viewers": 39, "evidence_modality": "smell"}
    rows.loc[at, column] = other[column]
    verdict = world.verdict(pa.Table.from_pandas(rows, preserve_index=False))
    assert verdict.status == "fail"
    assert verdict.severity == "hold"
    assert rows["video_id"][at] in verdict.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"cluster": np.arange(N_VIDEOS)},
        {"author": np.full(N_VIDEOS, -1)},
        {"near": {}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_brute_force_sees_lists_made_of_something_else(changes: dict[str, Any]) -> None:
    world = World(0)
    assert world.verdict(world.rows(**changes)).status == "fail"


def test_brute_force_sees_missing_rows() -> None:
    world = World(0)
    rows = world.rows()
    assert world.verdict(rows.slice(0, rows.num_rows - 1)).status == "fail"
    nothing = rows.slice(0, 0)
    assert world.verdict(nothing).observed == 0
    assert laws(world, nothing) == {"similar_users_covered", "similar_k_filled"}


def laws(world: World, rows: pa.Table) -> set[str]:
    """Names of the gates that fail."""
    videos = pa.table(
        {
            "video_id": [f"v{video:02d}" for video in range(N_VIDEOS)],
            "eligible": pa.array([True] * N_VIDEOS),
            "published_at": pa.array(
                [None if ok else MIDNIGHT for ok in world.eligible], pa.timestamp("us", "UTC")
            ),
        }
    )
    lists = subjects.beside_videos(rows, videos=videos, k=world.config.k, until=MIDNIGHT)
    results = gate.check(lists, config=gate.Config(), checks=gate.LAWS[1:], prefix="similar_")
    return {result.gate for result in results if result.status != "pass"}


def test_laws_hold_and_see_what_breaks_them() -> None:
    world = World(1)
    rows = world.rows()
    assert laws(world, rows) == set()
    frame = rows.to_pandas()
    hidden = f"v{np.flatnonzero(~world.eligible)[0]:02d}"
    for column, value, gates in (
        ("similar_video_id", hidden, {"similar_ineligible"}),
        ("similar_video_id", frame["video_id"][0], {"similar_seen"}),
        ("similar_video_id", frame["similar_video_id"][1], {"similar_distinct"}),
        ("rank", 30, {"similar_ranks_contiguous", "similar_scores_ordered"}),
        ("similarity", np.inf, {"similar_finite_scores"}),
    ):
        spoiled = frame.copy()
        spoiled.loc[0, column] = value
        assert laws(world, pa.Table.from_pandas(spoiled, preserve_index=False)) == gates
    of_one = frame[frame["video_id"] != f"v{COLD:02d}"]
    missing = {"similar_users_covered", "similar_k_filled"}
    assert laws(world, pa.Table.from_pandas(of_one, preserve_index=False)) == missing
