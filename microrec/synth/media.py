"""Small real files for the videos of a world: films with sound that show their theme (needs PyAV).

A theme is a background colour, a shape of another colour that moves in a direction of its own, and a chord. A video
varies all of these a little. One clip of each film, the one its viewers leave (`weak_clip`), is off its theme: grey,
with a shape that stands still, and a hiss.
"""

import colorsys
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from microrec.core.array_types import Float32s, Float64s
from microrec.synth.population import N_CLIPS, Videos

FOLDER = "media"
TABLE = "raw_media"
SCHEMA = pa.schema([("video_id", pa.string()), ("kind", pa.string()), ("path", pa.string())])
WIDTH, HEIGHT = 96, 128
FRAMES_A_SECOND = 4
RATE = 16_000
THEMES = 8


class Film(NamedTuple):
    """What a film shows."""

    theme: int
    weak_clip: int
    """0-based quarter that is off the theme."""
    seconds: float


def render(film: Film, rng: np.random.Generator) -> bytes:
    """Return a film as a file: H.264 and AAC in MP4.

    Args:
        film: what it shows.
        rng: of what varies.
    """
    import av

    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FRAMES_A_SECOND)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.options = {"preset": "ultrafast", "threads": "1"}
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        for picture in pictures(film, rng):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = sound(film, rng)
        for start in range(0, len(samples), 1_024):
            part = av.AudioFrame.from_ndarray(
                samples[None, start : start + 1_024], format="fltp", layout="mono"
            )
            part.sample_rate, part.pts = RATE, start
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))
    return file.getvalue()


def pictures(film: Film, rng: np.random.Generator) -> Iterator["np.ndarray"]:
    """Yield the frames of a film, uint8 [HEIGHT, WIDTH, 3].

    Args:
        film: what it shows.
        rng: of what varies.
    """
    hue = film.theme / THEMES + rng.normal(0.0, 0.02)
    ground = _colour(hue, 0.5 + 0.2 * rng.random())
    shape = _colour(hue + 0.35, 0.9)
    grey = np.full(3, 90.0 + 60.0 * rng.random())
    angle = 2 * np.pi * film.theme / THEMES
    start, radius = rng.random(2), 14 + 8 * rng.random()
    n_frames = max(1, round(film.seconds * FRAMES_A_SECOND))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for number in range(n_frames):
        weak = number * N_CLIPS // n_frames == film.weak_clip
        moved = 0.0 if weak else 0.2 * number
        at = (start + moved * np.array([np.sin(angle), np.cos(angle)])) % 1.0 * (HEIGHT, WIDTH)
        picture = np.broadcast_to(grey if weak else ground, (HEIGHT, WIDTH, 3)).copy()
        picture[_inside(film.theme, rows - at[0], columns - at[1], radius)] = (
            60.0 if weak else shape
        )
        noisy = picture + rng.normal(0.0, 6.0, size=picture.shape)
        yield np.clip(noisy, 0, 255).astype(np.uint8)


def sound(film: Film, rng: np.random.Generator) -> Float32s:
    """Return the sound of a film: a chord of its theme, a hiss in the weak clip.

    Args:
        film: what it shows.
        rng: of what varies.

    Returns:
        Samples in -1 .. 1. [seconds * RATE]
    """
    n = round(film.seconds * RATE)
    time = np.arange(n) / RATE
    base = 110.0 * 2 ** (film.theme * 4 / THEMES) * (1 + rng.normal(0.0, 0.01))
    beat = 0.6 + 0.4 * np.sin(2 * np.pi * (1 + film.theme % 3) * time)
    chord = sum(np.sin(2 * np.pi * base * k * time + rng.random()) / k for k in (1, 2, 3))
    noise = rng.normal(size=n)
    weak = (np.arange(n) * N_CLIPS // max(n, 1)) == film.weak_clip
    loud = 0.1 + 0.2 * rng.random()
    mixed = np.where(weak, 0.3 * noise, beat * chord + 0.02 * noise)
    return (loud * mixed).astype(np.float32)


def _inside(theme: int, down: Float64s, right: Float64s, radius: float) -> "np.ndarray":
    """Where the shape of a theme is: disc, square, bar or cross."""
    shapes = (
        np.hypot(down, right) < radius,
        np.maximum(np.abs(down), np.abs(right)) < radius,
        (np.abs(down) < radius / 3) & (np.abs(right) < 2 * radius),
        np.minimum(np.abs(down), np.abs(right)) < radius / 3,
    )
    return shapes[theme % len(shapes)]


def _colour(hue: float, value: float) -> Float64s:
    return 255.0 * np.array(colorsys.hsv_to_rgb(hue % 1.0, 0.7, value))


def films(videos: Videos) -> dict[str, Film]:
    """Return the film of each video, by the path of its file within the landing zone.

    Args:
        videos: the videos of the world.
    """
    shown = zip(videos.cluster % THEMES, videos.weak_clip, videos.duration_ms / 1_000, strict=True)
    return {
        path_of(str(video)): Film(int(theme), int(weak), float(seconds))
        for video, (theme, weak, seconds) in zip(videos.ids, shown, strict=True)
    }


def rows_of(videos: Videos, day: int) -> pa.Table:
    """Return the rows of `raw_media` delivered on a day: a film for each video that is new on it.

    Args:
        videos: the videos of the world.
        day: offset from the first day.
    """
    ids = [str(video) for video in videos.ids[videos.born == day]]
    rows = [{"video_id": video, "kind": "video", "path": path_of(video)} for video in ids]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def path_of(video: str) -> str:
    """Return the path of a video's file within the landing zone."""
    return f"{FOLDER}/{video}.mp4"
