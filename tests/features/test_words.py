"""Vectors of words: neighbours by theme, one space an encoder, the same for the same catalogue."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from microrec.config.settings import HOME
from microrec.features import words
from microrec.features.words import Config, Encoder
from microrec.tables import contract

DAY = dt.date(2026, 1, 5)
DEFAULTS = Config()
THEMES = {
    "cooking": (
        "pasta recipe",
        "boiled noodles with sauce",
        "recipe for noodles",
        "pasta and sauce",
    ),
    "football": (
        "late goal",
        "penalty of the keeper",
        "goal after penalty",
        "keeper stops it late",
    ),
    "cats": ("可爱的小猫", "小猫在睡觉", "猫咪睡觉 cute", "可爱 cute 猫咪"),
}


def catalogue(n: int = 120) -> tuple[pa.Table, np.ndarray]:
    """Captions of three themes, each from two of four wordings, and the theme of each."""
    rng = np.random.default_rng(4)
    names = list(THEMES)
    theme = rng.integers(0, len(names), size=n)
    captions = [" ".join(rng.choice(THEMES[names[t]], size=2, replace=False)) for t in theme]
    columns = {
        "video_id": [f"v{i:04}" for i in range(n)],
        "caption": pa.array(captions, pa.string()),
        "tags": pa.array([None] * n, pa.list_(pa.string())),
    }
    return pa.table(columns), theme


def fit(videos: pa.Table, config: Config = DEFAULTS) -> Encoder:
    rng = np.random.default_rng(0)
    encoder = words.fit(videos, day=DAY, n_videos=len(videos), config=config, rng=rng)
    assert encoder is not None
    return encoder


def encode(encoder: Encoder, videos: pa.Table) -> np.ndarray:
    return encoder.encode(videos["caption"].to_pylist(), videos["tags"].to_pylist())


def test_nearest_neighbours_are_of_the_same_theme() -> None:
    videos, theme = catalogue()
    vectors = encode(fit(videos), videos)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -2)
    nearest = np.argsort(-similarity, axis=1)[:, :10]
    assert (theme[nearest] == theme[:, None]).mean() > 0.99


def test_directions_equal_those_of_a_full_decomposition() -> None:
    videos, _ = catalogue(40)
    encoder = fit(videos, Config(dim=4))
    grams = [words.tokens.buckets(text, None) for text in videos["caption"].to_pylist()]
    kept = encoder.bucket.tolist()
    matrix = np.array([[1 + np.log(row[b]) if row[b] else 0.0 for b in kept] for row in grams])
    idf = np.log(41 / (1 + (matrix > 0).sum(axis=0))) + 1
    unit = matrix * idf / np.linalg.norm(matrix * idf, axis=1, keepdims=True)
    right = np.linalg.svd(unit)[2][:4]
    ours = encoder.direction.T / idf
    np.testing.assert_allclose(np.abs((ours * right).sum(axis=1)), 1.0, atol=1e-4)


def test_same_catalogue_in_another_order_gives_the_same_encoder() -> None:
    videos, _ = catalogue()
    shuffled = videos.take(np.random.default_rng(1).permutation(len(videos)))
    assert fit(shuffled).version == fit(videos).version


def test_version_names_settings_and_weights() -> None:
    videos, _ = catalogue()
    versions = {fit(videos).version, fit(videos, Config(dim=3)).version, fit(videos[:-1]).version}
    assert len(versions) == 3
    assert all(version.startswith(words.PREFIX) for version in versions)
    assert words.settings_digest(Config()) == words.settings_digest(
        Config(outgrown=9.0, made=False)
    )


def test_vectors_do_not_depend_on_other_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    videos, _ = catalogue()
    encoder = fit(videos)
    together = encode(encoder, videos)
    np.testing.assert_array_equal(encode(encoder, videos[5:6]), together[5:6])
    monkeypatch.setattr(words, "AT_ONCE", 7)
    np.testing.assert_array_equal(encode(encoder, videos), together)


def test_unknown_words_and_no_words_have_no_vector() -> None:
    encoder = fit(catalogue()[0])
    vectors = encoder.encode(["xyzzy", None, "pasta"], [None, [], None])
    assert np.isnan(vectors).all(axis=1).tolist() == [True, True, False]
    assert np.linalg.norm(vectors[2]) == pytest.approx(1.0, abs=1e-6)
    assert encoder.encode([], []).shape == (0, encoder.direction.shape[1])


def test_encoder_survives_its_table() -> None:
    encoder = fit(catalogue()[0])
    rows = encoder.to_table()
    promise = contract.load(HOME / "schemas", "text_encoders")
    promise.check_schema(rows.schema, without=frozenset({"day"}))
    read = Encoder.from_table(rows.take(pa.array(range(len(rows) - 1, -1, -1))))
    assert read is not None
    assert read.version == encoder.version
    assert (read.fitted_on, read.fitted_videos) == (DAY, 120)
    assert Encoder.from_table(rows[:0]) is None


@pytest.mark.parametrize(
    ("n_videos", "days", "config", "reason"),
    [
        (120, 1, Config(), None),
        (179, 89, Config(), None),
        (180, 1, Config(), "catalogue_has_grown"),
        (120, 90, Config(), "age"),
        (120, 1, Config(dim=5), "settings"),
    ],
)
def test_outgrown_says_when_a_new_encoder_is_due(
    n_videos: int, days: int, config: Config, reason: str | None
) -> None:
    encoder = fit(catalogue()[0])
    assert encoder.outgrown(n_videos, DAY + dt.timedelta(days=days), config) == reason


def test_fit_without_shared_grams_gives_no_encoder() -> None:
    rows = pa.table({"video_id": ["a", "b"], "caption": ["x", "y"], "tags": [["p"], ["q"]]})
    assert (
        words.fit(rows, day=DAY, n_videos=2, config=Config(), rng=np.random.default_rng()) is None
    )


def test_fit_draws_at_most_so_many_videos() -> None:
    videos, _ = catalogue()
    drawn = words.sample(videos, 30)
    assert len(drawn) == 30
    assert set(words.sample(videos[:60], 30)["video_id"].to_pylist()) & set(
        drawn["video_id"].to_pylist()
    )
    assert words.sample(videos, 500).num_rows == 120


def test_input_digest_differs_by_caption_and_tags() -> None:
    inputs = [(None, None), ("a", None), ("a", ["b"]), ("a", ["b", "c"]), ("ab", None)]
    assert len({words.input_digest(*each) for each in inputs}) == len(inputs)
