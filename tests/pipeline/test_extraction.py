"""Nights that follow one another: no vector is made twice, a new encoder makes all anew, delivered vectors stand."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from jobs import build_modality_graph, extract_features
from microrec.config.settings import settings
from microrec.features import sentences, words
from microrec.pipeline import absence, extraction_of_words
from microrec.pipeline.night import Night
from microrec.tables import arrow

DAY = dt.date(2026, 1, 5)
NEXT = DAY + dt.timedelta(days=1)
CAPTIONS = ("pasta with sauce", "sauce for pasta", "late goal", "goal of the keeper, late")
N_VIDEOS = 40


@pytest.fixture
def warehouse(place: Path) -> arrow.Warehouse:
    return arrow.Warehouse.open()


def lay(warehouse: arrow.Warehouse, day: dt.date, captions: list[str | None]) -> None:
    """The catalogue of a day, as validate_events leaves it: a video a caption, every fourth with a tag."""
    n = len(captions)
    columns = {
        "video_id": [f"v{i:03}" for i in range(n)],
        "author_id": pa.nulls(n, pa.string()),
        "published_at": pa.nulls(n, pa.timestamp("us", "UTC")),
        "duration_ms": pa.nulls(n, pa.int64()),
        "caption": pa.array(captions, pa.string()),
        "tags": pa.array([["food"] if i % 4 == 0 else [] for i in range(n)], pa.list_(pa.string())),
        "eligible": [True] * n,
    }
    warehouse.write("videos", pa.table(columns), day=day)


def captions(n: int = N_VIDEOS) -> list[str | None]:
    return [CAPTIONS[i % 4] for i in range(n)]


def deliver(warehouse: arrow.Warehouse, day: dt.date) -> None:
    columns = {"video_id": ["v000"], "encoder_version": ["theirs-1"]}
    vector = pa.array([[1.0, 2.0]], pa.list_(pa.float32()))
    rows = pa.table({**columns, "vector": vector})
    warehouse.write("video_features", rows, day=day, modality="textual")


def vectors(warehouse: arrow.Warehouse, day: dt.date) -> dict[str, list[float]]:
    rows = warehouse.read("video_features", day=day, modality="textual").to_pylist()
    return {row["video_id"]: row["vector"] for row in rows}


def version(warehouse: arrow.Warehouse, day: dt.date) -> str:
    rows = warehouse.read("video_features", day=day, modality="textual")
    (only,) = pc.unique(rows["encoder_version"]).to_pylist()
    return str(only)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[list[str | None]]:
    """The captions that each call of `encode` has made vectors of."""
    calls: list[list[str | None]] = []
    true_encode = words.Encoder.encode

    def counting(self: words.Encoder, texts: Any, tags: Any) -> Any:
        calls.append(list(texts))
        return true_encode(self, texts, tags)

    monkeypatch.setattr(words.Encoder, "encode", counting)
    return calls


def test_next_night_makes_only_what_changed(
    warehouse: arrow.Warehouse, encoded: list[list[str | None]]
) -> None:
    lay(warehouse, DAY, [*captions(), None])
    extract_features.main(day=DAY)
    lay(warehouse, NEXT, ["late pasta", *captions()[1:], None, "goal"])
    extract_features.main(day=NEXT)
    assert [len(call) for call in encoded] == [N_VIDEOS + 1, 2]
    assert encoded[1] == ["late pasta", "goal"]
    before, after = vectors(warehouse, DAY), vectors(warehouse, NEXT)
    assert version(warehouse, DAY) == version(warehouse, NEXT)
    assert {v: before[v] for v in before if v != "v000"} == {
        v: after[v] for v in before if v != "v000"
    }
    assert before["v000"] != after["v000"]
    assert warehouse.digest("text_encoders", day=NEXT)


class StandIn:
    """A network that knows a text's length and first letter."""

    def get_embedding_dimension(self) -> int:
        return 2

    def encode(self, texts: list[str], **options: Any) -> np.ndarray:
        vectors = np.array([[len(text), ord(text[0])] for text in texts], dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_trained_encoder_by_name_makes_words_once_and_anew_with_other_weights(
    warehouse: arrow.Warehouse,
    place: Path,
    use_recipe: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    true_encode = sentences.Encoder.encode

    def counting(self: sentences.Encoder, texts: Any, tags: Any) -> Any:
        calls.append(len(texts))
        return true_encode(self, texts, tags)

    monkeypatch.setattr(sentences.Encoder, "encode", counting)
    monkeypatch.setattr(sentences.Encoder, "_model", StandIn())
    use_recipe(f'[features.words]\nencoder = "folder"\nweights = "{place}"\n')
    for weights, days in ((b"first", (DAY, NEXT)), (b"second", (NEXT,))):
        (place / sentences.WEIGHTS).write_bytes(weights)
        for day in days:
            lay(warehouse, day, [*captions(), " 12 "])
            extract_features.main(day=day)
    # A text without a word is no word to any encoder; the last one has a tag.
    assert calls == [len(vectors(warehouse, NEXT)), calls[0]]
    assert version(warehouse, DAY) != version(warehouse, NEXT)
    assert version(warehouse, NEXT).startswith("sentences-1-folder-")
    assert vectors(warehouse, DAY) == vectors(warehouse, NEXT)
    assert warehouse.count("text_encoders", day=NEXT) == 0
    use_recipe("")
    extract_features.main(day=NEXT)
    assert version(warehouse, NEXT).startswith(words.PREFIX)


def test_rerun_of_a_night_gives_the_same_rows(warehouse: arrow.Warehouse) -> None:
    tables = ("video_features", "extractions", "text_encoders")
    lay(warehouse, DAY, captions())
    extract_features.main(day=DAY)
    first = [warehouse.digest(table, day=DAY) for table in tables]
    extract_features.main(day=DAY)
    assert [warehouse.digest(table, day=DAY) for table in tables] == first


def test_reason_stands_where_a_video_has_no_vector(warehouse: arrow.Warehouse) -> None:
    lay(warehouse, DAY, [*captions(), None, "unheard", " 12 "])
    extract_features.main(day=DAY)
    rows = warehouse.read("extractions", day=DAY, modality="textual").to_pylist()
    reasons = {row["video_id"]: row["reason"] for row in rows if row["reason"]}
    # v040 has a tag, which is a word.
    assert reasons == {"v041": words.NO_KNOWN_WORDS, "v042": words.NO_WORDS}
    assert len(rows) == N_VIDEOS + 3
    assert set(vectors(warehouse, DAY)) == {f"v{i:03}" for i in range(N_VIDEOS + 1)}


def test_grown_catalogue_gets_a_new_encoder_and_every_vector_anew(
    warehouse: arrow.Warehouse, encoded: list[list[str | None]]
) -> None:
    lay(warehouse, DAY, captions())
    extract_features.main(day=DAY)
    lay(warehouse, NEXT, [*captions(), *["sauce of the keeper"] * N_VIDEOS])
    extract_features.main(day=NEXT)
    assert [len(call) for call in encoded] == [N_VIDEOS, 2 * N_VIDEOS]
    assert version(warehouse, DAY) != version(warehouse, NEXT)
    rows = warehouse.read("text_encoders", day=NEXT).to_pylist()
    assert {row["fitted_on"] for row in rows} == {NEXT}


def test_setting_that_changes_the_encoder_makes_all_anew(
    warehouse: arrow.Warehouse, encoded: list[list[str | None]], use_recipe: Callable[[str], None]
) -> None:
    for day in (DAY, NEXT):
        lay(warehouse, day, captions())
    extract_features.main(day=DAY)
    use_recipe("[features.words]\ndim = 3\n")
    extract_features.main(day=NEXT)
    assert [len(call) for call in encoded] == [N_VIDEOS, N_VIDEOS]
    assert {len(vector) for vector in vectors(warehouse, NEXT).values()} == {3}


@pytest.fixture
def use_recipe(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def use(text: str) -> None:
        (place / "recipe.toml").write_text(text)
        monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
        settings.cache_clear()

    return use


def test_delivered_vectors_stand_and_nothing_is_made(warehouse: arrow.Warehouse) -> None:
    lay(warehouse, DAY, captions())
    deliver(warehouse, DAY)
    extract_features.main(day=DAY)
    assert vectors(warehouse, DAY) == {"v000": [1.0, 2.0]}
    assert warehouse.count("extractions", day=DAY) == 0
    assert warehouse.count("text_encoders", day=DAY) == 0


def test_catalogue_without_captions_has_no_vectors(warehouse: arrow.Warehouse) -> None:
    few: list[str | None] = [*captions(19), *[None] * 20, "  "]
    lay(warehouse, DAY, few)
    extract_features.main(day=DAY)
    assert not warehouse.exists("video_features", day=DAY, modality="textual")
    assert warehouse.count("extractions", day=DAY) == 0


def test_recipe_that_wants_no_vectors_takes_out_those_made_before(
    warehouse: arrow.Warehouse, use_recipe: Callable[[str], None]
) -> None:
    lay(warehouse, DAY, captions())
    extract_features.main(day=DAY)
    use_recipe("[features.words]\nmade = false\n")
    extract_features.main(day=DAY)
    assert not warehouse.exists("video_features", day=DAY, modality="textual")
    assert warehouse.count("extractions", day=DAY) == 0


def test_vectors_that_are_gone_are_made_again(
    warehouse: arrow.Warehouse, encoded: list[list[str | None]]
) -> None:
    for day in (DAY, NEXT):
        lay(warehouse, day, captions())
    extract_features.main(day=DAY)
    warehouse.remove("video_features", [{"day": DAY, "modality": "textual"}])
    extract_features.main(day=NEXT)
    assert [len(call) for call in encoded] == [N_VIDEOS, N_VIDEOS]
    assert len(vectors(warehouse, NEXT)) == N_VIDEOS


def test_catalogue_whose_videos_share_no_words_has_no_vectors(warehouse: arrow.Warehouse) -> None:
    night = Night.open(DAY)
    lay(warehouse, DAY, [f"{chr(0x4E00 + i)}" for i in range(N_VIDEOS)])
    videos = warehouse.read("videos", day=DAY)
    bare = videos.drop_columns(["day", "tags"]).append_column(
        "tags", pa.nulls(len(videos), pa.list_(pa.string()))
    )
    warehouse.write("videos", bare, day=DAY)
    assert extraction_of_words.make(night) is None


def test_models_of_vectors_are_not_absent_where_words_make_them(warehouse: arrow.Warehouse) -> None:
    night = Night.open(DAY, fit="trial")
    names = {"name": ["raw_video_features"], "metric": ["rows_in"], "slice": ["all"]}
    bounds = dict.fromkeys(("low", "high"), pa.nulls(1, pa.float64()))
    counted = pa.table({**names, **bounds, "value": [0.0], "n": pa.array([0], pa.int64())})
    warehouse.write("metrics", counted, day=DAY, stage="events")
    lay(warehouse, DAY, captions())
    assert "content" in absence.absent_models(night)
    extract_features.main(day=DAY)
    assert "content" not in absence.absent_models(night)


@pytest.mark.spark
def test_made_vectors_become_edges_of_their_modality(
    warehouse: arrow.Warehouse, spark: SparkSession
) -> None:
    lay(warehouse, DAY, captions())
    extract_features.main(day=DAY)
    columns = {
        "video_idx": pa.array(range(N_VIDEOS), pa.int32()),
        "video_id": [f"v{i:03}" for i in range(N_VIDEOS)],
        "author_id": pa.nulls(N_VIDEOS, pa.string()),
        "published_at": pa.nulls(N_VIDEOS, pa.timestamp("us", "UTC")),
        "duration_ms": pa.nulls(N_VIDEOS, pa.int64()),
        "eligible": [True] * N_VIDEOS,
        "degree": pa.array([1] * N_VIDEOS, pa.int32()),
        "first_seen": pa.nulls(N_VIDEOS, pa.timestamp("us", "UTC")),
        "clip_ends_ms": pa.array([[]] * N_VIDEOS, pa.list_(pa.int64())),
    }
    warehouse.write("video_nodes", pa.table(columns), day=DAY)
    build_modality_graph.main(day=DAY)
    edges = warehouse.read("modality_edges", day=DAY, modality="textual")
    near = edges.filter(pc.less_equal(edges["rank"], 5))
    theme = np.arange(N_VIDEOS) % 4 // 2
    source, target = near["video_idx"].to_numpy(), near["neighbour_idx"].to_numpy()
    assert len(near) == 5 * N_VIDEOS
    assert (theme[source] == theme[target]).mean() == 1.0
