"""Files that nobody vetted: each is read within bounds, or refused by a reason."""

from pathlib import Path

import numpy as np
import pytest

from microrec.features import films
from microrec.features.films import Limits, Refused
from microrec.synth import media
from microrec.synth.media import Film

av = pytest.importorskip("av")

LIMITS = Limits()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    (path).write_bytes(
        media.render(Film(theme=1, weak_clip=3, seconds=4.0), np.random.default_rng(1))
    )
    return path


def write_frames(path: Path, n: int, *, width: int = 64, codec: str = "mpeg4") -> Path:
    """A film of n frames, each brighter than the one before, two a second, without sound."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=2)
        stream.width, stream.height = width, 48
        stream.pix_fmt = {"png": "rgb24", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        for number in range(n):
            grey = np.full((48, width, 3), min(20 * number + 10, 250), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def brightness(frames: np.ndarray) -> list[float]:
    return [float(round(255 * frame.mean())) for frame in frames]


def test_frames_are_those_shown_at_each_place(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "ten.mp4", 10)
    taken = films.frames(path, [0, 400, 500, 501, 4_500, 60_000], LIMITS)
    assert taken.shape == (6, films.SIDE, films.SIDE, 3)
    np.testing.assert_allclose(brightness(taken), [10, 10, 30, 30, 190, 190], atol=4)


def test_film_of_one_frame_and_pictures_are_their_only_frame(tmp_path: Path) -> None:
    for path in (
        write_frames(tmp_path / "one.mp4", 1),
        write_frames(tmp_path / "one.png", 1, codec="png"),
        write_frames(tmp_path / "one.jpg", 1, codec="mjpeg"),
    ):
        np.testing.assert_allclose(
            brightness(films.frames(path, [0, 900], LIMITS)), [10, 10], atol=4
        )


def test_sound_is_resampled_and_bounded(film: Path) -> None:
    samples = films.sound(film, LIMITS)
    assert len(samples) == pytest.approx(4 * films.RATE, rel=0.03)
    assert 0.01 < np.abs(samples).max() <= 1.5
    assert len(films.sound(film, Limits(most_seconds=1.5))) == 1.5 * films.RATE


def test_film_that_breaks_off_gives_what_it_had(tmp_path: Path) -> None:
    whole = write_frames(tmp_path / "whole.mkv", 40)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    assert films.frames(cut, [0, 500], LIMITS).shape[0] == 2


def refusal(path: Path, limits: Limits = LIMITS) -> str:
    with pytest.raises(Refused) as refused:
        films.frames(path, [0], limits)
    return str(refused.value)


def test_film_too_large_by_bytes_or_pixels_is_refused(tmp_path: Path, film: Path) -> None:
    assert refusal(film, Limits(most_pixels=96 * 127)) == films.TOO_LARGE
    huge = tmp_path / "huge.mp4"
    with huge.open("wb") as file:
        file.truncate(2_000_000)
    assert refusal(huge, Limits(most_megabytes=1)) == films.TOO_LARGE


def test_film_longer_than_the_bounds_is_not_decoded_to_its_end(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "long.mp4", 12)
    by_seconds = films.frames(path, [9_000], Limits(most_seconds=1.0))
    by_frames = films.frames(path, [9_000], Limits(most_frames=4))
    np.testing.assert_allclose(brightness(by_seconds), [50], atol=4)
    np.testing.assert_allclose(brightness(by_frames), [70], atol=4)


@pytest.mark.parametrize("content", [b"", b"no film", b"\x00" * 5_000, bytes(range(256)) * 40])
def test_file_that_is_none_of_the_containers_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.mp4"
    path.write_bytes(content)
    assert refusal(path) == films.UNREADABLE


def test_playlist_that_leads_to_another_file_is_refused(tmp_path: Path, film: Path) -> None:
    playlist = tmp_path / "film.m3u8"
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:4", "#EXTINF:4,", str(film), "#EXT-X-ENDLIST", ""]
    playlist.write_text("\n".join(lines))
    assert refusal(playlist) == films.UNREADABLE
    script = film.with_name("script.mp4")
    script.write_text(f"ffconcat version 1.0\nfile {film.name}\n")
    assert refusal(script) == films.UNREADABLE


def test_file_without_pictures_or_without_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.ones((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert refusal(path) == films.NO_PICTURES
    with pytest.raises(Refused, match=films.NO_SOUND):
        films.sound(write_frames(tmp_path / "mute.mp4", 3), LIMITS)


def test_duration_is_what_the_file_says(film: Path) -> None:
    assert films.duration_ms(film, LIMITS) == pytest.approx(4_000, abs=150)
