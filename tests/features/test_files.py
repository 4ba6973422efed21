"""The files of one video into vectors: which file a modality is made of, where a film is cut and looked at."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microrec.features import files, films, networks
from microrec.features.files import Config, Cuts
from microrec.features.films import Limits
from microrec.synth import media
from microrec.synth.media import Film

pytest.importorskip("av")

N_CLIPS = 4


def job(paths: dict[str, Path], duration_ms: int | None = None, **cuts: int) -> files.Job:
    config = Config(cuts=Cuts(**cuts))
    named = {kind: str(path) for kind, path in paths.items()}
    modalities = [name for name in files.MODALITIES if {*files.KINDS[name]} & {*paths}]
    return files.job(config, paths=named, modalities=modalities, duration_ms=duration_ms)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Film], list[dict[str, Any]]]:
    """32 films of eight themes, and what is made of each."""
    folder, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(3)
    shown = [Film(n % 8, int(rng.integers(N_CLIPS)), 4.0) for n in range(32)]
    for number, film in enumerate(shown):
        (folder / f"{number}.mp4").write_bytes(media.render(film, rng))
    jobs = [job({"video": folder / f"{number}.mp4"}, clip_ms=1_000) for number in range(32)]
    return shown, [files.make(each) for each in jobs]


@pytest.mark.parametrize(("modality", "least"), [("visual", 0.8), ("acoustic", 0.9)])
def test_nearest_films_are_of_the_same_theme(
    planted: tuple[list[Film], list[dict[str, Any]]], modality: str, least: float
) -> None:
    theme = np.array([film.theme for film in planted[0]])
    vectors = np.array([made[modality] for made in planted[1]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -2)
    nearest = np.argsort(-similarity, axis=1)[:, :3]
    assert (theme[nearest] == theme[:, None]).mean() > least


def test_clip_off_its_theme_is_least_like_the_film(
    planted: tuple[list[Film], list[dict[str, Any]]],
) -> None:
    clips = np.array([[vector for *_, vector in made["clips"]] for made in planted[1]])
    clips /= np.linalg.norm(clips, axis=2, keepdims=True)
    odd = (clips * clips.mean(axis=1, keepdims=True)).sum(axis=2).argmin(axis=1)
    assert (odd == [film.weak_clip for film in planted[0]]).mean() > 0.9


@pytest.mark.parametrize(
    ("duration_ms", "ends"),
    [(1, [1]), (5_000, [5_000]), (5_001, [5_000, 5_001]), (17_000, [5_000, 10_000, 17_000])],
)
def test_ends_are_those_of_clip_edges(duration_ms: int, ends: list[int]) -> None:
    assert files.ends_ms(duration_ms, Cuts(most_clips=3)) == ends


def test_places_lie_evenly_within_each_clip() -> None:
    places = files.places_ms([3_000, 4_500], Cuts())
    assert places.tolist() == [500, 1_500, 2_500, 3_250, 3_750, 4_250]


def test_cover_stands_for_a_film_and_sound_of_its_own_for_that_of_the_film(tmp_path: Path) -> None:
    paths = {kind: tmp_path / f"{kind}.mp4" for kind in ("video", "cover", "sound")}
    for number, path in enumerate(paths.values()):
        (path).write_bytes(media.render(Film(number, 0, 1.0), np.random.default_rng(1)))
    of_all = files.make(job(paths))
    assert of_all["visual"] == files.make(job({"video": paths["video"]}))["visual"]
    assert of_all["acoustic"] == files.make(job({"sound": paths["sound"]}))["acoustic"]
    of_cover = files.make(job({"cover": paths["cover"]}))
    assert set(of_cover) == {"visual"}
    assert of_cover["visual"] != of_all["visual"]


def test_clips_beyond_what_is_looked_at_have_no_vector(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(media.render(Film(0, 0, 4.0), np.random.default_rng(1)))
    asked = job({"video": tmp_path / "a.mp4"}, duration_ms=4_000, clip_ms=1_000)
    asked["limits"] = Limits(most_seconds=2.0).model_dump()
    assert [clip[:2] for clip in files.make(asked)["clips"]] == [(0, 1_000), (1_000, 2_000)]


def test_reason_stands_for_each_modality_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    assert files.make(job({"video": broken})) == dict.fromkeys(files.MODALITIES, films.UNREADABLE)
    for error, reason in ((MemoryError(), files.OUT_OF_MEMORY), (OSError(), files.FAILED)):

        def fail(*_: Any, error: BaseException = error) -> Any:
            raise error

        monkeypatch.setattr(films, "sound", fail)
        assert files.make(job({"sound": broken})) == {"acoustic": reason}


def test_versions_change_with_what_is_looked_at() -> None:
    plain = files.versions(Config())
    assert plain == files.versions(Config(limits=Limits(most_megabytes=7), processes=5))
    other = files.versions(Config(cuts=Cuts(frames_a_clip=4)))
    assert (plain["visual"] == other["visual"], plain["acoustic"] == other["acoustic"]) == (
        False,
        True,
    )
    assert files.versions(Config(limits=Limits(most_seconds=9)))["acoustic"] != plain["acoustic"]


def test_network_takes_the_place_of_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(media.render(Film(0, 0, 2.0), np.random.default_rng(1)))
    asked: list[tuple[Any, ...]] = []

    def stand_in(frames: np.ndarray, *named: Any) -> np.ndarray:
        asked.append((frames.shape, *named))
        return np.ones(3, np.float32)

    monkeypatch.setattr(networks, "of_frames", stand_in)
    monkeypatch.setattr(networks, "version", lambda name, weights: f"network-1-{name}-{weights}")
    config = Config(looks="efficientnet_lite0", weights=tmp_path / "w")
    job = files.job(
        config, paths={"video": str(path)}, modalities=["visual", "clips"], duration_ms=None
    )
    made = files.make(job)
    assert (made["visual"], len(made["clips"])) == ([1.0, 1.0, 1.0], 1)
    assert asked == [((3, 224, 224, 3), "efficientnet_lite0", tmp_path / "w")] * 2
    assert files.versions(config)["clips"].startswith(
        f"network-1-efficientnet_lite0-{tmp_path / 'w'}"
    )
    assert files.versions(config)["acoustic"] == files.versions(Config())["acoustic"]
