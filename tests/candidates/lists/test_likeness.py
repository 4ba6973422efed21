"""Similarity is that of all vectors, whatever is computed together; near-duplicates have no chains."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrec.candidates.lists import likeness
from microrec.errors import ContractViolation

Vectors = dict[int, list[float] | None]


def rows(**of_modality: Vectors) -> pa.Table:
    """`video_features` of vectors by video_idx and modality."""
    every = [
        (modality, f"v{video:03d}", vector)
        for modality, vectors in of_modality.items()
        for video, vector in vectors.items()
    ]
    modality, video_id, vector = zip(*every, strict=True) if every else ((), (), ())
    return pa.table(
        {
            "modality": pa.array(modality, pa.string()),
            "video_id": pa.array(video_id, pa.string()),
            "vector": pa.array(vector, pa.list_(pa.float32())),
        }
    )


def videos(authors: list[str | None]) -> pa.Table:
    """`video_nodes` as far as they matter here."""
    return pa.table(
        {
            "video_idx": pa.array(range(len(authors)), pa.int32()),
            "video_id": [f"v{video:03d}" for video in range(len(authors))],
            "author_id": pa.array(authors, pa.string()),
        }
    )


def chain(angles: list[float]) -> Vectors:
    """Unit vectors in a plane, by their angles in degrees."""
    turned = np.radians(angles)
    return {video: [float(np.cos(a)), float(np.sin(a))] for video, a in enumerate(turned)}


def dense(like: likeness.Likeness) -> np.ndarray:
    return like.within(np.arange(len(like.author))[None])[0]


@given(st.integers(0, 2**32 - 1))
def test_likeness_equals_cosines_whatever_is_computed_together(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n = int(generator.integers(1, 9))
    of_modality: dict[str, Vectors] = {
        name: {
            video: (generator.normal(size=n_dims) * 10.0 ** generator.integers(-9, 9)).tolist()
            for video in range(n)
            if generator.random() < 0.8
        }
        for name, n_dims in (("visual", 3), ("tags", 5), ("textual", 1))
    }
    right = np.zeros((n, n))
    of_modality = {name: vectors for name, vectors in of_modality.items() if vectors}
    for vectors in of_modality.values():
        for one, a in vectors.items():
            for other, b in vectors.items():
                right[one, other] += np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)
    right = np.maximum(right / max(len(of_modality), 1), 0)
    authors = [None if each == 2 else f"a{each}" for each in generator.integers(4, size=n)]
    features, nodes = rows(**of_modality), videos(authors)
    like = likeness.likeness(features, nodes)
    np.testing.assert_allclose(dense(like), right, atol=3e-6)
    one, other = (each.ravel() for each in np.indices((n, n)))
    assert like.of_pairs(one, other).tolist() == dense(like).ravel().tolist()
    for video in range(n):
        assert (like.author[video] == -1) == (authors[video] is None)
        same = [author == authors[video] for author in authors]
        assert (like.author == like.author[video]).tolist() == same
    again = likeness.likeness(
        features.take(generator.permutation(features.num_rows)),
        nodes.take(generator.permutation(n)),
    )
    assert dense(again).tolist() == dense(like).tolist()
    assert again.author.tolist() == like.author.tolist()


def test_similarity_of_copies_is_1_and_of_opposites_0() -> None:
    generator = np.random.default_rng(5)
    vector = generator.normal(size=512)
    like = likeness.likeness(
        rows(visual={0: vector.tolist(), 1: (vector * 3).tolist(), 2: (-vector).tolist()}),
        videos([None] * 3),
        collapse=1.0,
    )
    assert dense(like).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert like.cluster.tolist() == [0, 0, 2]


def test_modality_that_one_lacks_counts_as_unlike() -> None:
    like = likeness.likeness(
        rows(visual={0: [1.0, 0.0], 1: [2.0, 0.0]}, tags={0: [1.0]}), videos([None] * 2)
    )
    assert dense(like).tolist() == [[1.0, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize("broken", [[float("nan"), 1.0], [float("inf"), 1.0], [0.0, 0.0]])
def test_broken_vector_is_missing(broken: list[float]) -> None:
    like = likeness.likeness(
        rows(visual={0: broken, 1: [1.0, 0.0]}), videos([None] * 2), collapse=0.1
    )
    assert dense(like).tolist() == [[0, 0], [0, 1]]
    assert like.cluster.tolist() == [0, 1]


def test_vectors_of_two_lengths_are_refused() -> None:
    with pytest.raises(
        ContractViolation, match=r"video_features\[visual\]: vectors of 2 lengths, 2 rows"
    ):
        likeness.likeness(rows(visual={0: [1.0], 1: [1.0, 0.0]}), videos([None] * 2))


def test_centred_modality_loses_its_mean_direction() -> None:
    features = rows(visual={0: [10.0, 1.0], 1: [10.0, -1.0]})
    plain = likeness.likeness(features, videos([None] * 3))
    centred = likeness.likeness(features, videos([None] * 3), centred=["visual"])
    assert dense(plain)[0, 1] > 0.9
    assert dense(centred)[0, 1] == 0
    assert not centred.vectors[2].any()


def test_near_duplicates_in_a_chain_do_not_join_one_another() -> None:
    # Neighbours in the chain are 20 degrees apart: cosine .94; the next but one .77.
    like = likeness.likeness(
        rows(visual=chain([20 * at for at in range(7)])), videos([None] * 7), collapse=0.9
    )
    assert like.cluster.tolist() == [0, 0, 2, 2, 4, 4, 6]


def test_near_duplicate_joins_the_first_of_several() -> None:
    # 3 joins 0, so 5, near both 3 and 1, joins 1.
    angles = [0.0, 50.0, 120.0, 20.0, 180.0, 35.0]
    like = likeness.likeness(rows(visual=chain(angles)), videos([None] * 6), collapse=0.9)
    assert like.cluster.tolist() == [0, 1, 2, 0, 4, 1]
    assert likeness.likeness(
        rows(visual=chain(angles)), videos([None] * 6)
    ).cluster.tolist() == list(range(6))


def test_copies_are_all_of_one_cluster_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(7)
    vectors = generator.normal(size=(3, 6))[generator.integers(3, size=90)]
    features = rows(visual={video: vector.tolist() for video, vector in enumerate(vectors)})
    first = [int(np.flatnonzero((vectors == vector).all(axis=1))[0]) for vector in vectors]
    for block in (7, 1024):
        monkeypatch.setattr(likeness, "BLOCK", block)
        like = likeness.likeness(features, videos([None] * 90), collapse=0.98)
        assert like.cluster.tolist() == first


def test_of_a_large_catalogue_neighbours_alone_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(likeness, "EXACT_UP_TO", 3)
    features = rows(visual={video: [1.0, 0.0] for video in range(4)})
    edges = pa.table({"video_idx": [1, 0, 3, 2], "neighbour_idx": [0, 1, 1, 2]})
    like = likeness.likeness(features, videos([None] * 4), collapse=0.9, edges=edges)
    # 3 is linked to 1 alone, which has joined 0.
    assert like.cluster.tolist() == [0, 0, 2, 3]


def test_likeness_without_vectors_is_nothing() -> None:
    like = likeness.likeness(rows(), videos(["a", None]), collapse=0.5)
    assert like.cluster.tolist() == [0, 1]
    assert dense(like).tolist() == [[0, 0], [0, 0]]
