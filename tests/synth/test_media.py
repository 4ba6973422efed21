"""Films of a planted world: named by raw_media, real files, off the theme in the clip that viewers leave."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from microrec.cli import app
from microrec.synth import media
from microrec.synth.media import Film
from microrec.synth.world import Config, generate

CONFIG = Config(users=20, videos=40, days=3)


def test_world_with_media_names_a_film_for_each_video_and_delivers_no_vectors_of_it() -> None:
    plain = generate(CONFIG, np.random.default_rng(2))
    filmed = generate(CONFIG.model_copy(update={"media": True}), np.random.default_rng(2))
    days = sorted({part.day for part in plain.parts})
    named = {
        row["path"]: row["video_id"]
        for day in days
        for row in filmed.rows("raw_media", day).to_pylist()
    }
    assert named.keys() == filmed.films.keys()
    assert set(named.values()) == set(plain.truth.video_cluster)
    for path, film in filmed.films.items():
        assert film.theme == plain.truth.video_cluster[named[path]] % media.THEMES
        assert film.weak_clip == plain.truth.weak_clip[named[path]]
    tables = {part.table for part in filmed.parts}
    assert "raw_clip_features" not in tables
    modalities = {
        row["modality"]
        for day in days
        for row in filmed.rows("raw_video_features", day).to_pylist()
    }
    assert modalities == {"textual"}
    assert filmed.rows("raw_interactions", days[0]).equals(plain.rows("raw_interactions", days[0]))
    assert not plain.films


def test_pictures_are_off_the_theme_in_the_weak_quarter() -> None:
    film = Film(theme=0, weak_clip=1, seconds=8.0)
    pictures = np.stack([*media.pictures(film, np.random.default_rng(1))]).astype(float)
    assert pictures.shape == (32, media.HEIGHT, media.WIDTH, 3)
    colourful = (
        (pictures.max(axis=3) - pictures.min(axis=3)).mean(axis=(1, 2)).reshape(4, 8).mean(axis=1)
    )
    assert colourful.argmin() == 1
    assert colourful[1] < 0.3 * colourful[[0, 2, 3]].min()
    still = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))
    assert still[8:15].mean() < still[:7].mean()


def test_sound_hisses_in_the_weak_quarter_and_is_the_same_for_a_seed() -> None:
    film = Film(theme=3, weak_clip=2, seconds=4.0)
    samples = media.sound(film, np.random.default_rng(1))
    assert np.abs(samples).max() <= 1.0
    np.testing.assert_array_equal(samples, media.sound(film, np.random.default_rng(1)))
    change = np.abs(np.diff(samples, append=0.0)).reshape(4, -1).mean(axis=1)
    assert change.argmax() == 2


def test_rendered_film_has_pictures_and_sound() -> None:
    av = pytest.importorskip("av")
    from io import BytesIO

    content = media.render(Film(1, 0, 1.0), np.random.default_rng(1))
    with av.open(BytesIO(content)) as container:
        assert sum(1 for _ in container.decode(video=0)) == media.FRAMES_A_SECOND
    with av.open(BytesIO(content)) as container:
        n_samples = sum(frame.samples for frame in container.decode(audio=0))
        assert n_samples == pytest.approx(media.RATE, rel=0.1)


def test_command_writes_the_films_that_its_rows_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "render", lambda film, rng: b"film %d" % film.theme)
    command = [
        "world",
        "--landing",
        str(tmp_path),
        "--users",
        "20",
        "--videos",
        "40",
        "--days",
        "2",
        "--media",
    ]
    done = CliRunner().invoke(app.app, command)
    assert done.exit_code == 0, done.output
    rows = [
        json.loads(line)
        for path in (tmp_path / "raw_media").rglob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert len(rows) == 40
    assert all((tmp_path / row["path"]).read_bytes().startswith(b"film") for row in rows)
